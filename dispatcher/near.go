package dispatcher

import (
	"context"
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
// delivery begins its first attempt, too: there is no task, and no second step. If it finds no place, it goes by the lanes, as everything does that
// another process accepts. If the attempt fails, the delivery goes by the lanes from then on.
//
// A process that is killed before it sends leaves an attempt whose owner is gone.
type near struct {
	ctx     context.Context //nolint:containedctx // its own: an attempt outlives the request that brought its event
	cancel  context.CancelFunc
	shares  *shares
	limiter *limiter
	token   func() string // for a new attempt
	// attempt goes on with a delivery once the step that accepts it has ended.
	attempt func(ctx context.Context, s *start, f following)
	contain func(ctx context.Context, place string, do func() error) error

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
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

// close takes no more, and waits for the attempts under way, for the grace at most. Then it cuts them off, and waits until they are recorded, for
// recording at most.
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
	near     *near
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

func leave(starts []*start) {
	for _, s := range starts {
		if s != nil {
			s.leave()
		}
	}
}

// reserve takes a place and a turn for a delivery, or returns nil.
func (n *near) reserve(r ledger.Ref, cb *registry.Callback) *start {
	if !n.enter(r.Company) {
		return nil
	}
	done, mine := n.limiter.take(n.ctx, r, 0)
	if !mine {
		n.leave(r.Company)
		return nil
	}
	return &start{n, r, cb, n.token(), time.Now(), sync.OnceFunc(func() { done(); n.leave(r.Company) })}
}

// A following is what has to be known to go on with an event's deliveries once they have begun.
type following struct {
	event  payloads.Event
	typ    *payloads.Type
	offer  *ledger.Offer
	starts []*start
	step   *ledger.Acceptance
}

// follow waits for the accepting step. It has the deliveries attempted that the step began.
func (f following) follow() {
	for _, s := range f.starts {
		if s == nil {
			continue
		}
		go func() {
			_ = s.near.contain(s.near.ctx, placeTask, func() error {
				defer s.leave()
				s.near.attempt(s.near.ctx, s, f)
				return nil
			})
		}()
	}
}
