package dispatcher

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	warnings []string
	version  int64 // of the registry that matched is by
	matched  []*registry.Callback
	pending  []pendingTask // accepted, and still to be brought to the lanes
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
	if s.attrs, s.warnings, err = typ.Examine(s.event.Payload); err != nil {
		return err
	}
	if c.overloaded(ctx) {
		c.metrics.shed.Add(ctx, 1)
		return ErrOverloaded
	}
	return nil
}

// match finds the callbacks that the event goes to, and then names their company. If the company was erased after it was read, the accepting script
// reports a newer version, and the event is matched again. If it was erased before, the reading made Touch forget that it was named.
func (c *Client) match(ctx context.Context, s *sending) (err error) {
	s.version, s.matched, err = c.registry.Match(ctx, s.event.Company, s.event.Type, s.attrs, time.Now())
	if err != nil {
		return unavailable(ctx, c, "matching the callbacks", err)
	}
	if err := c.registry.Touch(ctx, s.event.Company); err != nil {
		return unavailable(ctx, c, "naming the company", err)
	}
	return nil
}

// accept runs the accepting script until it and the match speak of the same registry version: an event that is accepted after a
// registration returned cannot miss it.
func (c *Client) accept(ctx context.Context, s *sending) {
	for s.Err == nil {
		f := c.acceptCall(ctx, s)
		c.accepts.Do(ctx, f.call)
		c.follow(f) //nolint:contextcheck // an attempt outlives the request that brought it
		answer, err := f.call.Answer()
		switch {
		case errors.Is(err, errPanicked):
			s.Err = err
		case err != nil:
			s.Err = unavailable(ctx, c, "accepting the event", err)
		case c.understand(ctx, s, answer):
			return
		}
	}
}

// acceptAll accepts several together, and one by one those that they left open, or that a panic of one of them kept from it.
func (c *Client) acceptAll(ctx context.Context, page []*sending) {
	ready := slices.DeleteFunc(slices.Clone(page), func(s *sending) bool { return s.Err != nil })
	calls, follows := make([]*ledger.Call, len(ready)), make([]following, len(ready))
	asked := false
	defer func() {
		for _, f := range follows {
			if !asked { // it panics
				leave(f.starts)
			}
		}
	}()
	for i, s := range ready {
		follows[i] = c.acceptCall(ctx, s)
		calls[i] = follows[i].call
	}
	c.accepts.Do(ctx, calls...)
	asked = true
	for _, f := range follows {
		c.follow(f) //nolint:contextcheck // an attempt outlives the request that brought it
	}
	var failed error // once in the log is enough
	for i, s := range ready {
		answer, err := calls[i].Answer()
		switch {
		case errors.Is(err, errPanicked) || err == nil && !c.understand(ctx, s, answer):
			c.accept(ctx, s)
		case err != nil:
			if failed == nil {
				failed = unavailable(ctx, c, "accepting events", err)
			}
			s.Err = failed
		}
	}
}

// understand takes the script's answer. It returns false if the registry moved on: then the event is matched anew, to be tried again.
func (c *Client) understand(ctx context.Context, s *sending, answer []string) (done bool) {
	if answer, s.Err = readable(answer); s.Err != nil {
		s.Err = unavailable(ctx, c, "accepting the event", s.Err)
		return true
	}
	switch answer[0] {
	case "version":
		s.Err = c.matchAgain(ctx, s, answer[1])
		return false
	case "quota":
		s.Err = registry.ReadQuota(registry.QuotaWaitingBytes, s.event.Company, answer)
	case "exists":
		s.Receipt, s.pending, s.Err = c.duplicate(ctx, s.event, answer[1:])
	default:
		s.Receipt, s.pending = c.accepted(s.event, answer[1:], s.firstPage())
		s.Receipt.Expanding = len(s.matched) > fanOutPage
	}
	return true
}

// readable is accept.lua's answer, if there is enough of it.
func readable(answer []string) ([]string, error) {
	if _, err := atLeast(1, answer); err != nil {
		return nil, err
	}
	return atLeast(map[string]int{"version": 2, "exists": 5, "accepted": 5}[answer[0]], answer)
}

func (c *Client) matchAgain(ctx context.Context, s *sending, version string) error {
	if err := c.refresh(ctx, s.event.Company, version); err != nil {
		return err
	}
	return c.match(ctx, s)
}

// refresh reads the company's callbacks up to the version that a script found.
func (c *Client) refresh(ctx context.Context, company, version string) error {
	atLeast, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return unavailable(ctx, c, "reading the registry's version", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := c.registry.Refresh(ctx, company, atLeast); err != nil {
		return unavailable(ctx, c, "reading the callbacks", err)
	}
	if err := c.registry.Touch(ctx, company); err != nil { // it may have been erased since it was named
		return unavailable(ctx, c, "naming the company", err)
	}
	return nil
}

// acceptCall is the accepting step for an event, and what follows from it.
func (c *Client) acceptCall(ctx context.Context, s *sending) following {
	f := following{event: s.event, typ: s.typ, meta: newMeta(trace.ContextWithSpan(ctx, s.span), s.event, s.version), version: s.version}
	m, _ := json.Marshal(f.meta) // strings and numbers always encode
	c.lone.Note(s.event.Company)
	f.starts = c.starts(s) //nolint:contextcheck // an attempt outlives the request that brought it
	first := s.firstPage()
	args := make([]any, 0, 6+2*len(first))
	args = append(args, s.event.ID, s.version, m, []byte(s.event.Payload), len(s.matched), s.laterPages())
	for i, cb := range first {
		args = append(args, cb.ID, f.starts[i].argument(c))
	}
	f.call = &ledger.Call{Script: acceptScript, Key: keyOf(s.event.Company, "due"), Deliveries: len(first), Args: args}
	return f
}

// bringOut brings what was accepted to the lanes, and has the rest of large fan-outs written. Deliveries that are held wait in their rooms, and need
// nothing.
func (c *Client) bringOut(ctx context.Context, page ...*sending) {
	var pending []pendingTask
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
	c.enqueueAll(ctx, pending)
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
}

func newMeta(ctx context.Context, e payloads.Event, version int64) meta {
	m := meta{Type: e.Type, Content: contentHash(e), Version: version}
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

// accepted reads the script's answer: log id, and the callbacks, separated by commas, whose deliveries are held, whose go to the slow lane, and
// whose have begun.
func (c *Client) accepted(e payloads.Event, answer []string, matched []*registry.Callback) (Receipt, []pendingTask) {
	receipt, states := newReceipt(e, answer[0], false), firstStates(answer[1])
	slow, begun := strings.Split(answer[2], ","), strings.Split(answer[3], ",")
	var pending []pendingTask
	for _, cb := range matched {
		r := ref{e.Company, e.ID, cb.ID}
		state := states(cb.ID)
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.deliveryID(), cb.ID, state})
		if id := strconv.FormatInt(cb.ID, 10); state == Pending && !slices.Contains(begun, id) {
			pending = append(pending, pendingTask{ref: r, generation: 1, slow: slices.Contains(slow, id), bytes: len(e.Payload)})
		}
	}
	return receipt, pending
}

// duplicate gives the first answer again. Whatever of it is still pending is enqueued again, in case the first caller died before that.
func (c *Client) duplicate(ctx context.Context, e payloads.Event, answer []string) (Receipt, []pendingTask, error) {
	var m meta
	if err := json.Unmarshal([]byte(answer[0]), &m); err != nil {
		return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, errBadRecord)
	}
	if m.Content != contentHash(e) {
		return Receipt{}, nil, ErrEventConflict
	}
	receipt, states := newReceipt(e, answer[1], true), firstStates(answer[2])
	receipt.Expanding = answer[3] != ""
	var pending []pendingTask
	for i := 4; i+1 < len(answer); i += 2 {
		id, err := strconv.ParseInt(answer[i], 10, 64)
		if err != nil {
			return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, errBadRecord)
		}
		rec, err := parseRecord(answer[i+1])
		if err != nil {
			return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, err)
		}
		r := ref{e.Company, e.ID, id}
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.deliveryID(), id, states(id)})
		if rec.state == 'P' {
			if t := (pendingTask{ref: r, generation: rec.generation}); !c.inSlowLane(ctx, t) {
				pending = append(pending, t)
			}
		}
	}
	slices.SortFunc(receipt.Deliveries, func(a, b Accepted) int { return int(a.CallbackID - b.CallbackID) })
	return receipt, pending, nil
}

// firstStates says how deliveries stood when their event was accepted: held is the list of those that were.
func firstStates(held string) func(callback int64) State {
	ids := make(map[string]bool)
	for id := range strings.SplitSeq(held, ",") {
		ids[id] = true
	}
	return func(callback int64) State {
		if ids[strconv.FormatInt(callback, 10)] {
			return Held
		}
		return Pending
	}
}

func newReceipt(e payloads.Event, logID string, duplicate bool) Receipt {
	return Receipt{
		EventID: e.ID, EventType: e.Type, AcceptedAt: logTime(logID), Deliveries: []Accepted{}, Duplicate: duplicate,
	}
}

// logTime is when Redis put an entry into the log, in its own clock: the event's accepted_at.
func logTime(logID string) time.Time {
	ms, _, _ := strings.Cut(logID, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return fromMS(n)
}
