package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
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
	ctx    context.Context
	cancel context.CancelFunc
	shares *shares

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

func newNear(places int) *near {
	n := &near{shares: newShares(places)}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}

// enter takes a place, if there is one for the company.
func (n *near) enter(company string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed || !n.shares.enter(company) {
		return false
	}
	n.wg.Add(1)
	return true
}

func (n *near) leave(company string) {
	n.shares.leave(company)
	n.wg.Done()
}

// close takes no more, and waits for what is under way: at most for the grace, then it is cut off, and has so long to be written down.
func (n *near) close(grace, recording time.Duration) {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	defer n.cancel()
	ended := make(chan struct{})
	go func() {
		n.wg.Wait()
		close(ended)
	}()
	for _, wait := range []time.Duration{grace, recording} {
		timer := time.NewTimer(wait)
		select {
		case <-ended:
			timer.Stop()
			return
		case <-timer.C:
			n.cancel()
		}
	}
}

// A start is the place and the turn of a delivery that is to begin as it is accepted.
type start struct {
	worker   *Worker
	ref      ledger.Ref
	callback *registry.Callback
	token    string
	looked   time.Time // when its lane was known to run
	leave    func()
}

// first is what the accepting step is told of a delivery: with its start, or without if s is nil.
func (s *start) first(callback int64, grace time.Duration) ledger.First {
	if s == nil {
		return ledger.First{Callback: callback}
	}
	return ledger.First{Callback: callback, Token: s.token, Lease: s.callback.Timeout + grace}
}

// starts are an event's, for each callback of its first page: nil for one that goes by the lanes.
func (c *Client) starts(s *sending) []*start {
	callbacks := s.firstPage()
	all := make([]*start, len(callbacks))
	w := c.worker.Load()
	if w == nil || len(all) == 0 || !c.lanes.Running(w.near.ctx) {
		return all
	}
	whole := false
	defer func() {
		if !whole { // it panics
			leave(all)
		}
	}()
	for i, cb := range callbacks {
		all[i] = w.reserve(ledger.Ref{Company: s.event.Company, Event: s.event.ID, Callback: cb.ID}, cb)
	}
	whole = true
	return all
}

func leave(starts []*start) {
	for _, s := range starts {
		if s != nil {
			s.leave()
		}
	}
}

// reserve takes a place and a turn for a delivery, or returns nil.
func (w *Worker) reserve(r ledger.Ref, cb *registry.Callback) *start {
	if w.client.namesRefused(cb) || !w.near.enter(r.Company) {
		return nil
	}
	done, mine := w.turns.take(w.near.ctx, r, 0)
	if !mine {
		w.near.leave(r.Company)
		return nil
	}
	return &start{w, r, cb, w.newToken(), time.Now(), sync.OnceFunc(func() { done(); w.near.leave(r.Company) })}
}

// A following is what has to be known to go on with an event's deliveries once they have begun.
type following struct {
	event  payloads.Event
	typ    *payloads.Type
	offer  *ledger.Offer
	starts []*start
	step   *ledger.Acceptance
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
	w := s.worker
	ctx, cancel := context.WithTimeout(w.near.ctx, lanes.TaskTimeout)
	defer cancel()
	a := s.begun(ctx, f)
	if a == nil {
		return
	}
	w.client.at("taken")
	t := ledger.Ticket{Ref: s.ref, Generation: 1}
	if w.heldBack(ctx, lanes.Of(s.ref), s.looked, a) {
		w.client.lanes.Bring(ctx, t)
		return
	}
	l := link{lane: lanes.Of(s.ref), shares: w.near.shares}
	w.chain(ctx, l, s.ref.Company, w.goOn(ctx, t, a, l))
}

// begun is the attempt that the accepting step began under this start's token, or nil. A step that is repeated, since its answer was lost, finds the
// event there, and the delivery with that token.
func (s *start) begun(ctx context.Context, f following) *attempt {
	accepted, sent, err := f.step.End()
	if !sent {
		return nil
	}
	if err != nil {
		return s.search(ctx)
	}
	logID := accepted.BegunUnder(s.callback.ID, s.token)
	if logID == "" {
		return nil
	}
	at := ledger.LogTime(logID)
	return &attempt{
		ref: s.ref, generation: 1, token: s.token, callback: s.callback, typ: f.typ, timeout: s.callback.Timeout,
		since: s.looked, number: 1, meta: f.offer.Meta, body: f.event.Payload, logID: logID, accepted: at, begun: at, version: f.offer.Version,
	}
}

// searches is how long after one another an answer that was lost is searched for. A Redis that hangs may still carry out what it was sent.
var searches = []time.Duration{0, time.Second, 2 * time.Second}

// search looks whether an accepting step whose answer was lost has begun the delivery. Else it would be nobody's until its lease ends.
func (s *start) search(ctx context.Context) *attempt {
	w := s.worker
	var failed error
	for _, wait := range searches {
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
		s.looked = time.Time{} // long ago
		var a *attempt
		if a, failed = w.beginAs(ctx, s.token, ledger.Ticket{Ref: s.ref, Generation: 1}, true, 0); a != nil {
			return a
		}
	}
	if failed != nil { // it may be pending
		w.client.lanes.Bring(ctx, ledger.Ticket{Ref: s.ref, Generation: 1})
	}
	return nil
}
