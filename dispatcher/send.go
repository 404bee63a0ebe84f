package dispatcher

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A Sent is what became of one of several events: its receipt, or an error as [Client.Send] gives it.
type Sent struct {
	Receipt Receipt
	Err     error
}

// A sending is an event on its way into Redis.
type sending struct {
	event    payloads.Event
	typ      *payloads.Type
	own      bool // Ringback's, about its own work
	span     trace.Span
	attrs    map[string]string
	payload  payloads.Document // as it was read, until it is matched
	warnings []string
	version  int64 // of the registry that matched is by
	matched  []*registry.Callback
	keys     map[int64]string // of the lines that its deliveries come into, by callback; nil: none has an order
	pending  []ledger.Ticket  // accepted, and still to be brought to the lanes
	Sent
}

// Send accepts an event. When it returns without error, Redis holds the event and a delivery for each callback that matches, and
// nothing but the partner's answer or the schedule's end will finish them. Without an event id it makes one up.
//
// Errors: *payloads.InvalidError if the event or its payload does not fit its type, [ErrEventConflict], [ErrOverloaded] if Redis is nearly full
// (a repeat of an event that was accepted is refused then as well), a *registry.QuotaError if more of the company's payload waits than its quota
// allows, and [ErrUnavailable] if Redis did not answer, whereupon the event may or
// may not be accepted: repeat it with the same id, and it is accepted once.
func (c *Client) Send(ctx context.Context, e payloads.Event) (Receipt, error) {
	return c.send(ctx, e, false)
}

// send is Send, and takes operational types where they are our own.
func (c *Client) send(ctx context.Context, e payloads.Event, own bool) (Receipt, error) {
	s := c.newSending(ctx, e, own)
	c.accept(ctx, s)
	c.at("accepted")
	c.bringOut(ctx, s)
	c.at("enqueued")
	c.finished(ctx, s)
	return s.Receipt, s.Err
}

// sendPage is how many events go to Redis in one round trip: a millisecond of its time or two, in which nobody else has an answer.
const sendPage = 16

// SendAll accepts several events as [Client.Send] does, each for itself, in fewer round trips. The results are in the order of the events.
func (c *Client) SendAll(ctx context.Context, events []payloads.Event) []Sent {
	all := make([]Sent, 0, len(events))
	for chunk := range slices.Chunk(events, sendPage) {
		page := make([]*sending, len(chunk))
		for i, e := range chunk {
			page[i] = c.newSending(ctx, e, false)
		}
		c.acceptAll(ctx, page)
		c.at("accepted")
		c.bringOut(ctx, page...)
		c.at("enqueued")
		for _, s := range page {
			c.finished(ctx, s)
			all = append(all, s.Sent)
		}
	}
	return all
}

// newSending opens an event's span, checks the event, and matches it.
func (c *Client) newSending(ctx context.Context, e payloads.Event, own bool) *sending {
	if e.ID == "" {
		e.ID = payloads.NewEventID(time.Now())
	}
	ctx, span := c.tracer.Start(ctx, "accept "+e.Type, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("ringback.company", e.Company), attribute.String("ringback.event.id", e.ID), attribute.String("ringback.event.type", e.Type)))
	s := &sending{event: e, span: span, own: own}
	if s.Err = c.examine(ctx, s); s.Err == nil {
		s.Err = c.match(ctx, s)
	}
	return s
}

// examine checks the event, and whether events are taken at all.
func (c *Client) examine(ctx context.Context, s *sending) error {
	if err := s.event.Validate(); err != nil {
		return err
	}
	typ, err := c.lookupType(ctx, s.event.Type)
	if err != nil {
		return err
	}
	s.typ = typ
	if typ.Synchronous {
		return misfit("body.event_type", "is asked, not sent: the partner decides while the caller waits, with POST …/decisions")
	}
	if typ.Operational && !s.own {
		return misfit("body.event_type", "is sent by Ringback itself, about its own work: choose a type of your own")
	}
	if s.payload, s.attrs, s.warnings, err = typ.ExamineAndRead(s.event.Payload); err != nil {
		return err
	}
	if c.memory.overloaded(ctx) {
		c.metrics.shed.Add(ctx, 1)
		return ErrOverloaded
	}
	return nil
}

// match finds the callbacks that the event goes to, and then names their company. If the company was erased after it was read, the accepting script
// reports a newer version, and the event is matched again. If it was erased before, the reading made Touch forget that it was named.
func (c *Client) match(ctx context.Context, s *sending) (err error) {
	s.version, s.matched, err = c.registry.Match(ctx, s.event.Company, s.event.Type, s.attrs, time.Now(), s.document)
	if err == nil {
		s.keys = lineUp(s.matched, s.document, fanOutPage)
	}
	s.payload = payloads.Document{} // it is many times as large as its text
	if err != nil {
		return unavailable(ctx, c, "matching the callbacks", err)
	}
	if err := c.registry.Touch(ctx, s.event.Company); err != nil {
		return unavailable(ctx, c, "naming the company", err)
	}
	return nil
}

// document is the payload for filters and keys: as it was read when it was examined, or read anew, if the event has to be matched again.
func (s *sending) document() payloads.Document {
	if !s.payload.Readable() {
		s.payload = payloads.ReadDocument(s.event.Payload)
	}
	return s.payload
}

// accept offers the event until the ledger and the match speak of the same registry version: an event that is accepted after a
// registration returned cannot miss it.
func (c *Client) accept(ctx context.Context, s *sending) {
	for s.Err == nil {
		f := c.offer(ctx, s)
		f.step = c.ledger.Accept(ctx, f.offer)[0]
		f.follow()
		accepted, err := f.step.Answer()
		switch {
		case errors.Is(err, errPanicked):
			s.Err = err
		case err != nil:
			s.Err = unavailable(ctx, c, "accepting the event", err)
		case c.understand(ctx, s, accepted):
			return
		}
	}
}

// acceptAll accepts several together, and one by one those that they left open, or that a panic of one of them kept from it.
func (c *Client) acceptAll(ctx context.Context, page []*sending) {
	ready := slices.DeleteFunc(slices.Clone(page), func(s *sending) bool { return s.Err != nil })
	offers, follows := make([]*ledger.Offer, len(ready)), make([]following, len(ready))
	asked := false
	defer func() {
		for _, f := range follows {
			if !asked { // it panics
				leave(f.starts)
			}
		}
	}()
	for i, s := range ready {
		follows[i] = c.offer(ctx, s)
		offers[i] = follows[i].offer
	}
	steps := c.ledger.Accept(ctx, offers...)
	asked = true
	for i, f := range follows {
		f.step = steps[i]
		f.follow()
	}
	var failed error // once in the log is enough
	for i, s := range ready {
		accepted, err := steps[i].Answer()
		switch {
		case errors.Is(err, errPanicked) || err == nil && !c.understand(ctx, s, accepted):
			c.accept(ctx, s)
		case err != nil:
			if failed == nil {
				failed = unavailable(ctx, c, "accepting events", err)
			}
			s.Err = failed
		}
	}
}

// understand takes the ledger's answer. It returns false if the registry moved on: then the event is matched anew, to be tried again.
func (c *Client) understand(ctx context.Context, s *sending, accepted ledger.Accepted) (done bool) {
	switch accepted.Outcome {
	case ledger.Outdated:
		s.Err = c.matchAgain(ctx, s, accepted.Version)
		return false
	case ledger.OverQuota:
		s.Err = accepted.Refused
	case ledger.Known:
		s.Receipt, s.pending, s.Err = c.duplicate(ctx, s.event, accepted)
	default:
		s.Receipt, s.pending = newlyAccepted(s.event, accepted, s.firstPage())
		s.Receipt.Expanding = len(s.matched) > fanOutPage
		for _, p := range accepted.Pumps {
			c.pumps.after(ctx, callbackKey{s.event.Company, p.Callback}, max(p.Wait, time.Millisecond))
		}
	}
	return true
}

func (c *Client) matchAgain(ctx context.Context, s *sending, version int64) error {
	if err := c.refresh(ctx, s.event.Company, version); err != nil {
		return err
	}
	return c.match(ctx, s)
}

// refresh reads the company's callbacks up to the version that a script found.
func (c *Client) refresh(ctx context.Context, company string, version int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := c.registry.Refresh(ctx, company, version); err != nil {
		return unavailable(ctx, c, "reading the callbacks", err)
	}
	if err := c.registry.Touch(ctx, company); err != nil { // it may have been erased since it was named
		return unavailable(ctx, c, "naming the company", err)
	}
	return nil
}

// offer is what the ledger is asked to accept of an event, and what follows from it.
func (c *Client) offer(ctx context.Context, s *sending) following {
	c.lanes.Lone().Note(s.event.Company)
	f := following{event: s.event, typ: s.typ}
	first := s.firstPage()
	f.offer = &ledger.Offer{
		Company: s.event.Company, ID: s.event.ID, Version: s.version, Meta: newMeta(trace.ContextWithSpan(ctx, s.span), s.event),
		Payload: s.event.Payload, First: make([]ledger.First, len(first)), Later: s.laterPages(),
	}
	f.starts = c.starts(s) // last: places are taken
	for i, cb := range first {
		f.offer.First[i] = f.starts[i].first(cb.ID, c.ownerGrace)
		if s.keys != nil {
			f.offer.First[i].Key = s.keys[cb.ID]
		}
	}
	return f
}

// bringOut brings what was accepted to the lanes, and has the rest of large fan-outs written. Deliveries that are held wait in their rooms, and need
// nothing.
func (c *Client) bringOut(ctx context.Context, page ...*sending) {
	var pending []ledger.Ticket
	for _, s := range page {
		if s.Err != nil {
			continue
		}
		pending = append(pending, s.pending...)
		if s.Receipt.Expanding {
			c.expander.add(s.event.Company, s.event.ID)
		}
		_, span := c.tracer.Start(trace.ContextWithSpan(ctx, s.span), "expand "+s.event.Type, trace.WithAttributes(
			attribute.String("ringback.event.id", s.event.ID),
			attribute.Int("ringback.deliveries", len(s.Receipt.Deliveries)), attribute.Int("ringback.deliveries.pending", len(s.pending))))
		defer span.End()
	}
	c.lanes.Bring(ctx, pending...)
}

// finished closes the event's span and counts it.
func (c *Client) finished(ctx context.Context, s *sending) {
	defer s.span.End()
	if s.Err != nil {
		s.Receipt = Receipt{}
		s.span.RecordError(s.Err)
		return
	}
	s.Receipt.Warnings = s.warnings
	c.metrics.acceptedEvent(ctx, s.Receipt)
	if !s.Receipt.Duplicate {
		c.minutes.accepted()
	}
}

func newMeta(ctx context.Context, e payloads.Event) ledger.Meta {
	m := ledger.Meta{Type: e.Type, Content: contentHash(e)}
	if !e.OccurredAt.IsZero() {
		m.Occurred = e.OccurredAt.UnixMilli()
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	m.TraceParent = carrier["traceparent"]
	return m
}

// contentHash tells whether two events are the same: type and payload bytes.
func contentHash(e payloads.Event) string {
	h := sha256.New()
	h.Write([]byte(e.Type))
	h.Write([]byte{0})
	h.Write(e.Payload)
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil)[:16])
}

// newlyAccepted is the receipt of an event, and what of it is to be brought to the lanes.
func newlyAccepted(e payloads.Event, a ledger.Accepted, matched []*registry.Callback) (Receipt, []ledger.Ticket) {
	receipt := newReceipt(e, a.LogID, false)
	var pending []ledger.Ticket
	for _, cb := range matched {
		r := ledger.Ref{Company: e.Company, Event: e.ID, Callback: cb.ID}
		state := firstState(a, cb.ID)
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.DeliveryID(), cb.ID, state})
		if state == Pending && !slices.Contains(a.Begun, cb.ID) {
			pending = append(pending, ledger.Ticket{Ref: r, Generation: 1, Slow: slices.Contains(a.Slow, cb.ID), Bytes: len(e.Payload)})
		}
	}
	return receipt, pending
}

// duplicate gives the first answer again. Whatever of it is still pending is enqueued again, in case the first caller died before that.
func (c *Client) duplicate(ctx context.Context, e payloads.Event, a ledger.Accepted) (Receipt, []ledger.Ticket, error) {
	if a.Meta.Content != contentHash(e) {
		return Receipt{}, nil, ErrEventConflict
	}
	receipt := newReceipt(e, a.LogID, true)
	receipt.Expanding = a.Expanding
	var pending []ledger.Ticket
	for _, d := range a.Written {
		r := ledger.Ref{Company: e.Company, Event: e.ID, Callback: d.Callback}
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.DeliveryID(), d.Callback, firstState(a, d.Callback)})
		if d.State == 'P' {
			if t := (ledger.Ticket{Ref: r, Generation: d.Generation}); !c.lanes.Elsewhere(ctx, t) {
				pending = append(pending, t)
			}
		}
	}
	slices.SortFunc(receipt.Deliveries, func(a, b Accepted) int { return int(a.CallbackID - b.CallbackID) })
	return receipt, pending, nil
}

// firstState says how a delivery stood when its event was accepted.
func firstState(a ledger.Accepted, callback int64) State {
	if slices.Contains(a.Held, callback) {
		return Held
	}
	return Pending
}

func newReceipt(e payloads.Event, logID string, duplicate bool) Receipt {
	return Receipt{
		EventID: e.ID, EventType: e.Type, AcceptedAt: ledger.LogTime(logID), Deliveries: []Accepted{}, Duplicate: duplicate,
	}
}

// An event that matches more callbacks than fanOutPage has the deliveries of so many when it is accepted. For the rest it has their callbacks, in
// pages, and is expanding until the last page is written: so no customer's fan-out keeps Redis from everybody else for long.
const fanOutPage = 100

// Deliveries with an order are written as their event is accepted, for that is what they are in the order of: so all that a company may have fit into a page.
const _ = uint(fanOutPage - registry.MaxOrdered)

// firstPage are the callbacks whose deliveries are written as the event is accepted.
func (s *sending) firstPage() []*registry.Callback {
	return s.matched[:min(len(s.matched), fanOutPage)]
}

// laterPages are the ids of the others.
func (s *sending) laterPages() (pages [][]int64) {
	for page := range slices.Chunk(s.matched[len(s.firstPage()):], fanOutPage) {
		ids := make([]int64, len(page))
		for i, cb := range page {
			ids[i] = cb.ID
		}
		pages = append(pages, ids)
	}
	return pages
}

// starts are an event's, for each callback of its first page: nil for one that goes by the lanes.
func (c *Client) starts(s *sending) []*start {
	callbacks := s.firstPage()
	all := make([]*start, len(callbacks))
	near := c.near.Load()
	if near == nil || len(all) == 0 || !c.lanes.Running(near.ctx) {
		return all
	}
	whole := false
	defer func() {
		if !whole { // it panics
			leave(all)
		}
	}()
	for i, cb := range callbacks {
		if !cb.Destination.Pull && cb.Batch == nil && !c.namesRefused(cb) {
			all[i] = near.reserve(ledger.Ref{Company: s.event.Company, Event: s.event.ID, Callback: cb.ID}, cb)
		}
	}
	whole = true
	return all
}
