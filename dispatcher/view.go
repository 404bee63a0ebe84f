package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// Limits of the lists, by the HTTP API.
const (
	DefaultLimit = 50
	MaxLimit     = 500
)

// readEvent reads an event. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) readEvent(ctx context.Context, company, eventID string) (*ledger.Event, error) {
	e, err := c.ledger.Event(ctx, company, eventID)
	switch {
	case errors.Is(err, ledger.ErrBadRecord):
		return nil, err
	case err != nil:
		return nil, unavailable(ctx, c, "reading the event", err)
	case e == nil:
		return nil, ErrNotFound
	}
	return e, nil
}

// A view turns records into deliveries: it knows which of the company's gates are closed, looking each up once.
type view struct {
	c       *Client
	company string
	now     time.Time
	gates   map[int64]*registry.Gate
	paces   map[int64]ledger.Pace
	bars    map[int64]bool
	lines   map[lineKey]string  // by what heads them
	stopped func() lanes.Pauses // what is paused
}

// pace is what holds back a callback's deliveries where its gate is open, looking each up once.
func (v *view) pace(ctx context.Context, callback int64) (ledger.Pace, error) {
	if p, ok := v.paces[callback]; ok {
		return p, nil
	}
	p, err := v.c.ledger.Pace(ctx, v.company, callback, v.now)
	if err != nil {
		return p, unavailable(ctx, v.c, "reading the callback's pace", err)
	}
	v.paces[callback] = p
	return p, nil
}

// barred reports whether the callback's host name is not allowed, looking each callback up once.
func (v *view) barred(ctx context.Context, callback int64) (bool, error) {
	if is, ok := v.bars[callback]; ok {
		return is, nil
	}
	cb, err := v.c.registry.Get(ctx, v.company, callback)
	if err != nil && !errors.Is(err, registry.ErrNotFound) {
		return false, unavailable(ctx, v.c, "reading the callback", err)
	}
	v.bars[callback] = err == nil && v.c.namesRefused(cb)
	return v.bars[callback], nil
}

func (c *Client) newView(ctx context.Context, company string) (*view, error) {
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	return &view{
		c: c, company: company, now: now, gates: make(map[int64]*registry.Gate), paces: make(map[int64]ledger.Pace), bars: make(map[int64]bool), lines: make(map[lineKey]string),
		stopped: sync.OnceValue(func() lanes.Pauses { return c.lanes.Halted(ctx) }),
	}, nil
}

// gate is the callback's closed gate, or nil if it is open.
func (v *view) gate(ctx context.Context, callback int64) (*registry.Gate, error) {
	if err := v.lookUp(ctx, callback); err != nil {
		return nil, err
	}
	return v.gates[callback], nil
}

// lookUp reads the gates of callbacks that are not known yet.
func (v *view) lookUp(ctx context.Context, callbacks ...int64) error {
	callbacks = slices.DeleteFunc(slices.Clone(callbacks), func(id int64) bool { _, known := v.gates[id]; return known })
	gates, err := v.c.ledger.Gates(ctx, v.company, callbacks)
	if err != nil {
		return unavailable(ctx, v.c, "reading the callbacks' gates", err)
	}
	maps.Copy(v.gates, gates)
	return nil
}

// head is an event without its deliveries.
func head(e *ledger.Event) *EventRecord {
	return &EventRecord{
		EventID: e.ID, EventType: e.Meta.Type, AcceptedAt: e.AcceptedAt(), OccurredAt: ledger.FromMS(e.Meta.Occurred), TraceID: traceID(e.Meta.TraceParent),
		Expanding: e.Expanding, BodyLeft: e.BodyLeft, Deliveries: []*Delivery{},
	}
}

func (v *view) event(ctx context.Context, from *ledger.Event) (*EventRecord, error) {
	e, ids := head(from), from.Written()
	if err := v.lookUp(ctx, ids...); err != nil {
		return nil, err
	}
	for _, id := range ids {
		d, err := v.delivery(ctx, e, id, from.Records[id])
		if err != nil {
			return nil, err
		}
		e.Deliveries = append(e.Deliveries, d)
	}
	return e, nil
}

func (v *view) delivery(ctx context.Context, e *EventRecord, callback int64, rec ledger.Record) (*Delivery, error) {
	r := ledger.Ref{Company: v.company, Event: e.EventID, Callback: callback}
	d := &Delivery{
		DeliveryID: r.DeliveryID(), EventID: e.EventID, EventType: e.EventType, CallbackID: r.Callback,
		AcceptedAt: e.AcceptedAt, Attempts: []Attempt{}, TraceID: e.TraceID, Sequence: rec.Order.Number,
	}
	for _, entry := range ledger.ParseEntries(rec.Attempts) {
		d.Attempts = append(d.Attempts, shownAttempt(forReader(ctx, entry)))
	}
	gate, err := v.gate(ctx, r.Callback)
	if err != nil {
		return nil, err
	}
	d.State = rec.StateBehind(gate)
	switch d.State {
	case ledger.Retrying:
		d.NextAttemptAt = ledger.FromMS(rec.At)
	case ledger.Held:
		p, err := v.pace(ctx, r.Callback)
		if err != nil {
			return nil, err
		}
		barred, err := v.barred(ctx, r.Callback)
		if err != nil {
			return nil, err
		}
		if p.Batch.Full && p.Limited || v.now.Sub(ledger.FromMS(rec.At)) > p.Batch.Wait+forAnyBatch(p) {
			p.Batch = ledger.BatchPace{} // it is not that which it waits for
		}
		d.HeldReason, d.held = v.held(gate, p, barred)
		if gate == nil && !barred && rec.Token == ledger.InLine {
			d.HeldReason = "ordering"
			if d.held, err = v.inLine(ctx, r, rec); err != nil {
				return nil, err
			}
		}
		if barred && unmasked(ctx) {
			d.held += " --egress-allow-name allows it, and --egress-allow its address."
		}
	case ledger.Dead:
		d.Reason = deadReason(rec, d.Attempts)
	}
	d.Summary = v.summary(d, rec, gate, e.BodyLeft)
	if at := v.stopped().Since(); !at.IsZero() && !d.State.Final() && d.State != ledger.Active {
		d.Summary += " Everything that goes out is paused since " + at.Format(time.RFC3339) + ": it waits until an operator resumes that (`ringback egress resume`)."
	}
	return d, nil
}

// inLine says whom a delivery waits for that is held in its line, looking each line up once.
func (v *view) inLine(ctx context.Context, r ledger.Ref, rec ledger.Record) (string, error) {
	key := lineKey{r.Callback, rec.Order.Key}
	if key.key == "" {
		return waitsInLine, nil
	}
	if said, known := v.lines[key]; known {
		return said, nil
	}
	head, first, ok, err := v.c.ledger.Head(ctx, v.company, r.Callback, key.key)
	if err != nil {
		return "", unavailable(ctx, v.c, "reading what is ahead of a delivery", err)
	}
	v.lines[key] = waitsInLine
	if ok && first.Token != ledger.InLine {
		v.lines[key] = behindHead(head, first, v.now)
	}
	return v.lines[key], nil
}

// deadReason is why a dead delivery is dead: what buried it, or its last attempt.
func deadReason(r ledger.Record, attempts []Attempt) Reason {
	if buried, _ := r.Pruned(); buried == verdict.ReasonHoldExpired || buried == verdict.ReasonHoldFull {
		return buried
	}
	if n := len(attempts); n > 0 {
		return attempts[n-1].Reason
	}
	return ""
}

// summary is the sentence for a delivery: what happened last, what comes next and when. bodyLeft: its event is kept without its body.
func (v *view) summary(d *Delivery, rec ledger.Record, gate *registry.Gate, bodyLeft bool) string {
	last := ""
	if n := len(d.Attempts); n > 0 {
		last = fmt.Sprintf("Attempt %d: %s. ", d.Attempts[n-1].Number, d.Attempts[n-1].Detail)
	}
	switch d.State {
	case ledger.Pending:
		return last + "The next attempt is due now."
	case ledger.Active:
		return last + fmt.Sprintf("Attempt %d is under way since %s.", rec.Number, clock(rec.At))
	case ledger.Retrying:
		if wait := ledger.FromMS(rec.At).Sub(v.now); wait > 0 {
			return last + fmt.Sprintf("The next attempt is at %s, in %s.", clock(rec.At), verdict.InWords(wait.Round(time.Second)))
		}
		return last + "The next attempt is due now."
	case ledger.Held:
		return last + d.held
	case ledger.Delivered:
		by := rec.Number
		for _, a := range d.Attempts {
			if a.Verdict == verdict.Delivered { // not always the last one begun
				by = a.Number
			}
		}
		return fmt.Sprintf("Delivered by attempt %d at %s.", by, clock(rec.At))
	case ledger.Dead:
		if gate != nil && gate.Status == registry.Deleted {
			return last + fmt.Sprintf("Given up at %s; the callback was deleted since, so it cannot be replayed.", clock(rec.At))
		}
		if _, gone := rec.Pruned(); gone {
			return last + fmt.Sprintf("%s at %s; it is no longer kept, and goes with its event.", givenUp(d.Reason), clock(rec.At))
		}
		return last + fmt.Sprintf("%s at %s; it is kept, and can be replayed.", givenUp(d.Reason), clock(rec.At))
	default:
		if gate != nil && gate.Status == registry.Deleted {
			return last + "Cancelled: the callback was deleted."
		}
		if bodyLeft {
			return last + fmt.Sprintf("Cancelled at %s; its event's body is no longer kept, so it cannot be replayed.", clock(rec.At))
		}
		return last + fmt.Sprintf("Cancelled at %s; it can be replayed.", clock(rec.At))
	}
}

// held says in one word and in one sentence why a delivery waits in its room. barred: the callback's host name is not allowed.
func (v *view) held(gate *registry.Gate, p ledger.Pace, barred bool) (reason, sentence string) {
	switch {
	case gate != nil && gate.Status == registry.Pulled:
		return string(registry.Pulled), "It waits to be fetched: the partner polls the callback, and acknowledges what it has."
	case gate != nil && gate.Status == registry.Paused:
		return "paused", "It is held: the callback is paused since " + gate.At.Format(time.RFC3339) + ". Resume it to send what waits."
	case gate != nil && gate.Status == registry.Unverified:
		last := ""
		if gate.Reason != "" {
			last = " (the last challenge ended with " + gate.Reason + ")"
		}
		return string(verdict.ReasonUnverified), "It is held: the callback's endpoint has not proved since " + gate.At.Format(time.RFC3339) + " that it wants to be called" + last + ". Verify the callback to send what waits."
	case gate != nil:
		return string(gate.Status), fmt.Sprintf("It is held: the callback is disabled (%s) since %s. Resume it to send what waits.", gate.Reason, gate.At.Format(time.RFC3339))
	case barred:
		return string(verdict.ReasonNameNotAllowed), "It is held: the callback's URL, or its token_url, has the host name of an internal network. It goes out once an operator allows that name, or the URL has another."
	case p.Host.Narrowed:
		sentence = "It is held: the last attempts to this callback's host, by all callbacks that go there, found nobody or were told to come later. " +
			"So one of them at a time is tried until one is answered"
		if wait := p.Host.Before.Sub(v.now); wait > 0 {
			sentence += ", next in " + verdict.InWords(max(time.Second, wait.Round(time.Second))) + " at the latest"
		}
		return "host", sentence + "."
	case p.Breaker == ledger.BreakerOpen:
		sentence = fmt.Sprintf("It is held: the last %d attempts to this callback failed, so it is tried carefully until one is delivered", p.Failures)
		if wait := p.Before.Sub(v.now); wait > 0 {
			sentence += ", next in " + verdict.InWords(max(time.Second, wait.Round(time.Second)))
		}
		return "breaker", sentence + "."
	case p.Breaker == ledger.BreakerHalfOpen:
		return "breaker", "It waits for its turn: the callback delivers again, and what was held for it goes out, oldest first, more at a time with each success."
	case p.Batch.Events > 0:
		return "batch", fmt.Sprintf("It waits for its batch, which goes once %d events wait for this callback, or the first of them has waited for %s.", p.Batch.Events, verdict.InWords(p.Batch.Wait))
	case p.Limited:
		return "rate_limit", "It waits for its turn: other deliveries are ahead of it, and the callback's rate limit paces them."
	default:
		return "window", "It waits for its turn: other deliveries to this callback are ahead of it."
	}
}

// forAnyBatch is how long after its time a batch may go until something else holds it back. If the callback has a rate limit, that does, from then on.
func forAnyBatch(p ledger.Pace) time.Duration {
	if p.Limited {
		return 0
	}
	return 5 * time.Second
}

// givenUp begins the sentence about a dead delivery.
func givenUp(r Reason) string {
	switch r {
	case verdict.ReasonHoldExpired:
		return "Given up, since it was held for longer than deliveries may be,"
	case verdict.ReasonHoldFull:
		return "Given up, since newer deliveries needed its place among those held for this callback,"
	default:
		return "Given up"
	}
}

func clock(ms int64) string { return ledger.FromMS(ms).Format(time.RFC3339) }

// deliveries reads several in one round trip, leaving out those that aged away.
func (v *view) deliveries(ctx context.Context, refs []ledger.Ref) ([]*Delivery, error) {
	events, err := v.c.ledger.Deliveries(ctx, refs)
	if err != nil {
		return nil, unavailable(ctx, v.c, "reading deliveries", err)
	}
	var found []*Delivery
	for _, event := range events {
		if event == nil {
			continue
		}
		e, err := v.event(ctx, event)
		if err != nil {
			return nil, err
		}
		found = append(found, e.Deliveries...)
	}
	return found, nil
}

// traceID is the trace's part of a traceparent (W3C Trace Context), "" where there is none.
func traceID(parent string) string {
	if parts := strings.Split(parent, "-"); len(parts) == 4 {
		return parts[1]
	}
	return ""
}
