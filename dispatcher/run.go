package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
)

// serve works on a delivery whose task came out of a lane. kept: its retry's time has come by the clock that asynq keeps.
func (w *Worker) serve(ctx context.Context, lane string, t ledger.Ticket, kept bool) error {
	w.client.at("dequeued")
	done, mine := w.limiter.take(ctx, t.Ref, turnover)
	if mine {
		defer done()
	}
	if mine {
		shares := w.shares[lane]
		switch mine = shares.await(ctx, t.Company, turnover); {
		case mine:
			defer shares.leave(t.Company)
		case w.client.lanes.Lone().Is(): // else it goes to its room: what comes back from there comes by turns
			return &lanes.Later{Wait: crowdedDelay, Why: "the company has its share of the attempts under way"}
		}
	}
	var took time.Duration
	left := func() {}
	if mine { // else it goes to its room
		ride := w.brake.enter(ctx, t.Company, true)
		left = sync.OnceFunc(func() { w.brake.leave(ride, took) })
	}
	defer func() { left() }()
	halted := &lanes.Later{Wait: haltedDelay, Why: "egress is paused"}
	looked := time.Now()
	if w.client.lanes.IsHalted(ctx, lane) { // it was dequeued just before the pause
		return halted
	}
	early := time.Duration(0) // a retry that asynq has not kept yet was put into the lane at once, for asynq to show it as a retry
	if kept {
		early = skew
	}
	a, err := w.begin(ctx, t, mine, early)
	if err != nil || a == nil {
		return err
	}
	if w.heldBack(ctx, lane, looked, a) {
		return halted
	}
	l := link{lane: lane, shares: w.shares[lane]}
	next, err := w.attempt(ctx, a, l)
	took = next.took
	left()
	w.chain(ctx, l, t.Company, next)
	return err
}

// A link ties what goes on without asynq to the lane that it came from, and to an end.
type link struct {
	lane   string
	until  time.Time // zero: not yet
	shares *shares   // of which one is its own
}

// holds reports whether a company's next delivery may begin: if it is crowded, it may not, for others wait for the place. halted says whether a lane
// is paused.
func (w *Worker) holds(l link, company string, halted func(lane string) bool) bool {
	return !w.stopping.Load() && (l.until.IsZero() || time.Now().Before(l.until)) && !halted(l.lane) &&
		(w.client.lanes.Lone().Is() || !l.shares.crowded(company))
}

// A sequel is what may follow a delivery that ended well.
type sequel struct {
	released []ledger.Ticket // what was let out of the room for it
	first    *claim          // the first of them, if it has begun
	looked   time.Time       // when its lane was known to run
	took     time.Duration   // to record what came before
}

// chain goes on with the delivery that a finished one let out of the room, in its place and without a detour over asynq: half the round trips
// to Redis while a callback has a backlog. It ends with the first that does not deliver, or soon, so that asynq's tasks stay short.
func (w *Worker) chain(ctx context.Context, l link, company string, next sequel) {
	c := w.client
	l.until = time.Now().Add(chainFor)
	for len(next.released) > 0 {
		t, a, looked := next.released[0], next.first, next.looked
		if a == nil {
			looked = time.Now()
			if !w.holds(l, company, func(lane string) bool { return c.lanes.IsHalted(ctx, lane) }) {
				c.lanes.Bring(ctx, next.released...)
				return
			}
		}
		c.lanes.Bring(ctx, next.released[1:]...)
		if a == nil {
			if c.lanes.For(t) != l.lane { // the partner came back, or fell ill
				c.lanes.Bring(ctx, t)
				return
			}
			var err error
			if a, err = w.begin(ctx, t, true, 0); err != nil {
				c.log.WarnContext(ctx, "delivery did not begin; it is tried again", "delivery", t.DeliveryID(), "error", err)
				c.lanes.Bring(ctx, t)
			}
			if a == nil {
				return
			}
		}
		next = w.goOnBraked(ctx, t, a, l, looked)
	}
}

// goOnBraked is goOn, once the brake lets it and unless it is held back by then. looked is when its lane was known to run.
func (w *Worker) goOnBraked(ctx context.Context, t ledger.Ticket, a *claim, l link, looked time.Time) (next sequel) {
	ride := w.brake.enter(ctx, a.ref.Company, false)
	defer func() { w.brake.leave(ride, next.took) }()
	if w.heldBack(ctx, l.lane, looked, a) {
		w.client.lanes.Bring(ctx, t)
		return sequel{}
	}
	return w.goOn(ctx, t, a, l)
}

// heldBack takes back that an attempt has begun, if so much time has passed since a look found its lane running that the lane may be paused, and it
// is, or if so much of its lease is over that the rest may not do. If that fails the attempt has no owner.
func (w *Worker) heldBack(ctx context.Context, lane string, looked time.Time, a *claim) bool {
	c := w.client
	if time.Since(looked) < lanes.HaltLook {
		return false
	}
	if !c.lanes.IsHalted(ctx, lane) && time.Since(a.since) < c.ownerGrace-w.finishWithin() {
		return false
	}
	w.unbegin(ctx, a)
	return true
}

// unbegin takes back that an attempt has begun, of which nothing went out.
func (w *Worker) unbegin(ctx context.Context, a *claim) {
	if err := w.client.ledger.Unbegin(context.WithoutCancel(ctx), a.ref, a.token); err != nil {
		w.client.log.WarnContext(ctx, "attempt is not taken back; it will count as lost", "delivery", a.ref.DeliveryID(), "error", err)
	}
}

// goOn attempts a delivery of which asynq has no task. If it fails, it gets a task. The task's first taker finds it early. asynq then shows why
// it failed.
func (w *Worker) goOn(ctx context.Context, t ledger.Ticket, a *claim, l link) sequel {
	next, err := w.attempt(ctx, a, l)
	if _, ok := errors.AsType[*lanes.Later](err); ok {
		w.client.lanes.Bring(ctx, t)
	} else if err != nil {
		w.client.log.WarnContext(ctx, "attempt is not recorded; it will be made again", "delivery", t.DeliveryID(), "error", err)
	}
	return next
}

// attempt makes one attempt and records what came of it before asynq hears of it. If it delivered, what was let out of the room for it is still to
// be enqueued, or to go on with.
func (w *Worker) attempt(ctx context.Context, a *claim, l link) (next sequel, err error) {
	w.client.at("begun")
	ctx, span := w.client.tracer.Start(a.traced(ctx), "attempt "+a.meta.Type, a.spanOptions()...)
	defer span.End()
	d := w.make(ctx, a)
	if split, err := w.split(ctx, a, d); err != nil || split {
		if split {
			w.client.reporter.report(ctx, span, a, d, ledger.Pending)
		}
		return sequel{}, err
	}
	if ours, err := w.arrive(ctx, a, &d); err != nil || !ours {
		return sequel{}, err
	}
	state, next, err := w.finish(ctx, a, &d, l)
	if err != nil {
		return sequel{}, err
	}
	if state != ledger.Delivered { // what comes next is asynq's to show
		w.client.lanes.Bring(ctx, next.released...)
		next = sequel{took: next.took}
	}
	w.client.at("finished")
	w.client.reporter.report(ctx, span, a, d, state)
	return next, d.after(a.ref, state)
}

// splits reports whether a judgement is about a batch's size, or about a member that cannot be written, and there is something to split.
func (a *attempt) splits(j verdict.Judgement) bool {
	return a.batch != nil && len(a.batch.Members) > 1 && (j.Reason == verdict.ReasonEncodeFailed || j.Status == http.StatusRequestEntityTooLarge && j.Verdict == verdict.Retry)
}

// split has a batch go on in halves that is too large for its receiver, or that a member keeps from being written, and reports whether it does. Neither a breaker
// nor a run of failures hears of it, and nothing of the budget is spent: what is wrong is the size, or that member alone. It is recorded as an outcome is, or the
// attempt counts as lost.
func (w *Worker) split(ctx context.Context, a *claim, d settled) (bool, error) {
	if !a.splits(d.Judgement) {
		return false, nil
	}
	f := d.record
	if d.Reason == verdict.ReasonEncodeFailed { // nothing was sent
		f.Attempts = a.log
	}
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.finishWithin())
	defer cancel()
	halves, err := insist(within, func() ([]ledger.Ticket, error) { return w.client.ledger.Split(within, f) })
	if err != nil {
		return false, fmt.Errorf("recording that %s is split: %w", a.ref.DeliveryID(), err)
	}
	if len(halves) == 0 { // all members but one have left it meanwhile, which is attempted anew; or it is another owner's by now, as finish finds
		return false, nil
	}
	w.client.at("split")
	w.client.lanes.Bring(ctx, halves...)
	return true, nil
}

// make sends what is claimed, and settles what came of it. If that panics, the outcome is unknown.
func (w *Worker) make(ctx context.Context, a *claim) (d settled) {
	began := time.Now()
	if err := w.client.contain(ctx, placeAttempt, func() error {
		s := a.send(ctx, &w.client.sender)
		w.client.at("posted")
		a.hear(&s)
		r := a.rule(s.Judgement, false)
		if a.splits(s.Judgement) { // whatever is left of the budget
			s.Verdict, r = verdict.Retry, ruling{result: ledger.ResultRetry}
		}
		d = a.settle(s, r, runOf(s.Judgement, a.inOutage(ctx, s, &w.client.outage)))
		return nil
	}); err != nil {
		s := broken(began)
		d = a.settle(s, a.rule(s.Judgement, true), ledger.RunUntouched)
	}
	return d
}

// skew is how long before its time a retry may begin that asynq brings: it keeps whole seconds by its worker's clock, and the record milliseconds
// by Redis's.
const skew = 2 * time.Second

// tooEarly sends a task back until its retry is due. attempts are the record's: the last is why. asynq does not know yet of the failure that a
// new task is for.
func tooEarly(r ledger.Ref, wait time.Duration, isNew bool, attempts string) *lanes.Later {
	later := &lanes.Later{Wait: wait, Why: "not due yet", Failure: isNew}
	if entries := ledger.ParseEntries(attempts); len(entries) > 0 {
		later.Why = entries[len(entries)-1].Failed(r)
	}
	return later
}

// newToken names an attempt's owner.
func (w *Worker) newToken() string { return w.instance + "." + rand.Text()[:8] }

// begin asks the record whether the attempt is due and this task's to make; without a turn, the delivery goes to its room. It returns nil
// if there is nothing to do.
func (w *Worker) begin(ctx context.Context, t ledger.Ticket, turn bool, early time.Duration) (*claim, error) {
	return w.beginAs(ctx, w.newToken(), t, turn, early)
}

// beginAs is begin under a token that may have begun it already.
func (w *Worker) beginAs(ctx context.Context, token string, t ledger.Ticket, turn bool, early time.Duration) (*claim, error) {
	c, r := w.client, t.Ref
	a := &claim{attempt: attempt{ref: r}, generation: t.Generation, token: token, since: time.Now()}
	cb, err := c.callback(ctx, r, 0)
	if err != nil {
		return nil, err
	}
	a.timeout = egress.DefaultMaxTimeout
	if cb != nil {
		a.timeout = cb.Timeout
	}
	barred, err := c.barred(ctx, callbackOf(r), cb)
	if err != nil {
		return nil, err
	}
	claimed, err := c.ledger.Begin(ctx, ledger.Claim{
		Ref: r, Generation: t.Generation, Token: a.token, Lease: a.timeout + c.ownerGrace, NoTurn: !turn, Barred: barred, Early: early,
	})
	if err != nil {
		return nil, fmt.Errorf("beginning %s: %w", r.DeliveryID(), err)
	}
	switch claimed.Outcome {
	case ledger.Begun:
	case ledger.TooEarly:
		return nil, tooEarly(r, claimed.Wait, early == 0, claimed.Attempts)
	case ledger.WaitsInRoom:
		w.client.pumps.after(ctx, callbackOf(r), claimed.Wait)
		return nil, nil // documented: nothing to do
	default: // this task has served
		return nil, nil // documented: nothing to do
	}
	if b := claimed.Grant.Batch; b != nil {
		w.client.pumps.after(ctx, callbackOf(r), b.RoomWait)
	}
	if err := w.understand(ctx, a, claimed.Grant); err != nil {
		w.unbegin(ctx, a)
		return nil, err
	}
	return a, nil
}

// understand completes a claim: it takes the grant, and reads payload, callback and type.
func (w *Worker) understand(ctx context.Context, a *claim, g *ledger.Grant) (err error) {
	c, r := w.client, a.ref
	a.grant(g)
	c.at("granted")
	if len(a.body) == 0 && a.batch == nil { // no payload is: it is one of several long ones
		if a.body, err = c.ledger.Payload(ctx, r.Company, r.Event); err != nil {
			return fmt.Errorf("reading the payload of %s: %w", r.DeliveryID(), err)
		}
	}
	if a.callback, err = c.callback(ctx, r, a.version); err != nil {
		return err
	}
	if err := c.typed(ctx, a); err != nil {
		return err // nobody here could judge the answer; the next owner can
	}
	proven, err := c.recheck(ctx, a)
	if err != nil {
		return err
	}
	a.unproven = !proven
	if a.hears() {
		a.keepBody = answerOfResults
	}
	if a.callback != nil { // it may have changed since: the lease that was taken still bounds the request
		a.timeout = min(a.timeout, a.callback.Timeout)
	}
	return nil
}

// typed finds the type of what is claimed, or those of a batch's members.
func (c *Client) typed(ctx context.Context, a *claim) (err error) {
	if a.batch == nil {
		a.typ, _, err = c.registry.Types().Accepted(ctx, a.meta.Type)
		return err
	}
	a.types = make(map[string]*payloads.Type)
	for _, m := range a.batch.Members {
		if err := c.typedAs(ctx, &a.attempt, m.Meta.Type); err != nil {
			return err
		}
	}
	a.meta.Type, a.typ = typeOf(a.batch, a.types)
	return nil
}

// typedAs finds the type of a batch's member, once for all that have it.
func (c *Client) typedAs(ctx context.Context, a *attempt, name string) (err error) {
	if _, known := a.types[name]; !known {
		a.types[name], _, err = c.registry.Types().Accepted(ctx, name)
	}
	return err
}

// finish records the outcome, again and again while Redis fails. If it cannot, the attempt counts as lost, and is made once more. The state is the
// delivery's, or empty if it is another owner's by now.
func (w *Worker) finish(ctx context.Context, a *claim, d *settled, l link) (state ledger.State, next sequel, err error) {
	c := w.client
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.finishWithin())
	defer cancel()
	f := d.record
	f.Turns = w.limiter.turns()
	if d.Verdict == verdict.Delivered && l.lane == c.lanes.Of(a.ref) && w.holds(l, a.ref.Company, func(lane string) bool { return !c.lanes.KnownToRun(lane) }) {
		f.NextToken, f.NextLease = w.newToken(), a.callback.Timeout+c.ownerGrace
		next.looked = time.Now()
		next.first = &claim{attempt: attempt{timeout: a.callback.Timeout}, token: f.NextToken, since: next.looked}
	}
	began := time.Now()
	defer func() { next.took = time.Since(began) }()
	done, err := insist(ctx, func() (ledger.Finished, error) {
		done, err := c.ledger.Finish(ctx, f)
		f.NextLease = 0 // a repeat asks for what has begun, and begins nothing more
		return done, err
	})
	if err != nil {
		return "", sequel{}, fmt.Errorf("recording attempt %d of %s: %w", a.number, a.ref.DeliveryID(), err)
	}
	d.wait = done.Wait
	switch {
	case done.Outcome == ledger.RecordedLate:
		return done.State, sequel{}, nil
	case done.Outcome == ledger.NotOurs && done.State == ledger.Retrying && done.Generation == a.generation: // by an earlier run of the step
		return done.State, sequel{}, nil
	case done.Outcome == ledger.NotOurs:
		return "", sequel{}, nil
	}
	w.client.pumps.after(ctx, callbackOf(a.ref), done.RoomWait)
	if done.Noticed {
		c.at("noted")
		c.tellNotices(ctx, a.ref.Company)
	}
	if len(done.Released) > 0 {
		c.at("popped")
	}
	return done.State, w.follows(ctx, next, done), nil
}

// follows is what goes on after an attempt. A delivery that has begun and cannot be made is pending again.
func (w *Worker) follows(ctx context.Context, next sequel, done ledger.Finished) sequel {
	first := next.first
	next.first, next.released = nil, done.Released
	if done.Next == nil || first == nil {
		return next
	}
	first.ref, first.generation = done.Released[0].Ref, done.Released[0].Generation
	err := w.understand(ctx, first, done.Next)
	switch {
	case err != nil:
		w.client.log.WarnContext(ctx, "delivery did not begin; it is tried again", "delivery", first.ref.DeliveryID(), "error", err)
	case first.callback != nil && w.client.namesRefused(first.callback):
	default:
		next.first = first
		return next
	}
	w.unbegin(ctx, first)
	return next
}
