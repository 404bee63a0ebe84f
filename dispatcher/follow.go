package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
)

// follow goes on with a delivery that may have begun as it was accepted.
func (w *Worker) follow(ctx context.Context, s *start, f following) {
	ctx, cancel := context.WithTimeout(ctx, lanes.TaskTimeout)
	defer cancel()
	a := w.begun(ctx, s, f)
	if a == nil {
		return
	}
	w.client.at("taken")
	t := ledger.Ticket{Ref: s.ref, Generation: 1}
	lane := w.client.lanes.Of(s.ref)
	if w.heldBack(ctx, lane, s.looked, a) {
		w.client.lanes.Bring(ctx, t)
		return
	}
	l := link{lane: lane, shares: w.near.shares}
	w.chain(ctx, l, s.ref.Company, w.goOn(ctx, t, a, l))
}

// begun is the attempt that the accepting step began under a start's token, or nil. A step that is repeated, since its answer was lost, finds the
// event there, and the delivery with that token.
func (w *Worker) begun(ctx context.Context, s *start, f following) *claim {
	accepted, sent, err := f.step.End()
	if !sent {
		return nil
	}
	if err != nil {
		return w.search(ctx, s)
	}
	if accepted.Outcome == ledger.Known && s.callback.Ordering != nil { // that answer does not have its number
		return w.search(ctx, s)
	}
	logID := accepted.BegunUnder(s.callback.ID, s.token)
	if logID == "" {
		return nil
	}
	at := ledger.LogTime(logID)
	return &claim{
		attempt: attempt{
			ref: s.ref, callback: s.callback, typ: f.typ, timeout: s.callback.Timeout, number: 1, meta: f.offer.Meta, body: f.event.Payload,
			accepted: at, begun: at, sequence: accepted.Numbers[s.callback.ID],
		},
		generation: 1, token: s.token, since: s.looked, logID: logID, version: f.offer.Version,
	}
}

// searches is how long after one another an answer that was lost is searched for. A Redis that hangs may still carry out what it was sent.
var searches = []time.Duration{0, time.Second, 2 * time.Second}

// search looks whether an accepting step whose answer was lost has begun the delivery. Else it would be nobody's until its lease ends.
func (w *Worker) search(ctx context.Context, s *start) *claim {
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
		var a *claim
		if a, failed = w.beginAs(ctx, s.token, ledger.Ticket{Ref: s.ref, Generation: 1}, true, 0); a != nil {
			return a
		}
	}
	if failed != nil { // it may be pending
		w.client.lanes.Bring(ctx, ledger.Ticket{Ref: s.ref, Generation: 1})
	}
	return nil
}

func newNear(places int, w *Worker) *near {
	n := &near{shares: newShares(places), limiter: w.limiter, token: w.newToken, attempt: w.follow, contain: w.client.contain}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	return n
}
