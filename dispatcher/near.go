package dispatcher

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// shareOfNear is the part of all attempts in a process that are made of what the process itself accepts: a quarter, so that whatever comes by the
// lanes keeps its own.
const shareOfNear = 4

// near is how a worker begins what its own process accepts. Where it has a place and the callback has a turn, the script that accepts a
// delivery begins its first attempt, too: there is no task, and no second step. What finds no place goes by the lanes, as everything does that
// another process accepts. What fails goes by the lanes from then on.
//
// A process that is killed before it sends leaves an attempt whose owner is gone.
type near struct {
	places chan struct{} // holds one for each delivery under way
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newNear(places int) *near {
	n := &near{places: make(chan struct{}, places)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// enter takes a place, if there is one.
func (n *near) enter() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	select {
	case n.places <- struct{}{}:
		n.wg.Add(1)
		return true
	default:
		return false
	}
}

func (n *near) leave() {
	<-n.places
	n.wg.Done()
}

// close takes no more, and waits for what is under way: at most for the grace, then it is cut off and written down.
func (n *near) close(grace time.Duration) {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	timer := time.AfterFunc(grace, n.cancel)
	defer timer.Stop()
	n.wg.Wait()
	n.cancel()
}

// A start is the place and the turn of a delivery that is to begin as it is accepted.
type start struct {
	worker   *Worker
	ref      ref
	callback *registry.Callback
	token    string
	leave    func()
}

// argument is what accept.lua is told of a delivery's start: token and lease (ms), or nothing.
func (s *start) argument(c *Client) string {
	if s == nil {
		return ""
	}
	return s.token + " " + strconv.FormatInt((s.callback.Timeout+c.ownerGrace).Milliseconds(), 10)
}

// starts are an event's, for each matched callback: nil for one that goes by the lanes.
func (c *Client) starts(ctx context.Context, s *sending) []*start {
	all := make([]*start, len(s.matched))
	w := c.worker.Load()
	if w == nil {
		return all
	}
	for i, cb := range s.matched {
		all[i] = w.reserve(ctx, ref{s.event.Company, s.event.ID, cb.ID}, cb)
	}
	return all
}

// reserve takes a place and a turn for a delivery, or returns nil.
func (w *Worker) reserve(ctx context.Context, r ref, cb *registry.Callback) *start {
	if w.client.namesRefused(cb) || !w.client.laneRuns(ctx, r.queue()) || !w.near.enter() {
		return nil
	}
	done, mine := w.turns.take(ctx, r, 0)
	if !mine {
		w.near.leave()
		return nil
	}
	return &start{w, r, cb, w.newToken(), func() { done(); w.near.leave() }}
}

// A following is what has to be known to go on with an event's deliveries once they have begun.
type following struct {
	event   payloads.Event
	typ     *payloads.Type
	meta    meta
	version int64
	starts  []*start
	call    *ledger.Call
}

// follow waits for the accepting step to end, whoever else waits for it, and attempts those deliveries that it began.
func (c *Client) follow(f following) {
	for _, s := range f.starts {
		if s == nil {
			continue
		}
		go func() {
			_ = c.contain(s.worker.near.ctx, placeTask, func() error {
				defer s.leave()
				s.run(f)
				return nil
			})
		}()
	}
}

func (s *start) run(f following) {
	logID, begun := f.began(s)
	if !begun {
		return
	}
	w := s.worker
	ctx, cancel := context.WithTimeout(w.near.ctx, taskTimeout)
	defer cancel()
	w.client.at("taken")
	at := logTime(logID)
	released := w.goOn(ctx, pendingTask{ref: s.ref, generation: 1}, &attempt{
		ref: s.ref, generation: 1, token: s.token, callback: s.callback, typ: f.typ, timeout: s.callback.Timeout,
		number: 1, meta: f.meta, body: f.event.Payload, logID: logID, accepted: at, begun: at, version: f.version,
	})
	w.chain(ctx, s.ref.queue(), s.ref.company, released)
}

// began reads from the accepting step's answer whether it began a delivery under this start's token, and the event's log id. A step that is
// repeated, since its answer was lost, finds the event there, and the delivery with that token.
func (f following) began(s *start) (logID string, begun bool) {
	answer, err := f.call.End()
	if err != nil {
		return "", false
	}
	if answer, err = readable(answer); err != nil {
		return "", false
	}
	id := strconv.FormatInt(s.callback.ID, 10)
	switch answer[0] {
	case "accepted":
		for cb := range strings.SplitSeq(answer[4], ",") {
			begun = begun || cb == id
		}
		return answer[1], begun
	case "exists":
		for i := 4; i+1 < len(answer); i += 2 {
			rec, err := parseRecord(answer[i+1])
			if err == nil && answer[i] == id && rec.state == 'A' && rec.token == s.token {
				return answer[2], true
			}
		}
	}
	return "", false
}
