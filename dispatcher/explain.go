package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// Explain answers what happened to an event, callback by callback. Matches were recorded when it was accepted; why a callback did not
// match is worked out now, against the callbacks as they are now. Errors: [ErrNotFound], [ErrBadCursor], [ErrUnavailable].
func (c *Client) Explain(ctx context.Context, company, eventID string, q ExplainQuery) (*Explanation, error) {
	after, err := q.after()
	if err != nil {
		return nil, err
	}
	e, err := c.readEvent(ctx, company, eventID)
	if err != nil {
		return nil, err
	}
	if !q.narrow(e) {
		return nil, ErrNotFound
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	f, err := v.fate(ctx, e, q)
	if err != nil {
		return nil, err
	}
	x := &Explanation{EventRecord: *f.event, Callbacks: []Decision{}}
	x.Summary = v.summarize(f) + c.goneType(ctx, e.Meta.Type)
	limit := min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit)
	shown, more := f.page(after, q.CallbackID, limit)
	if more {
		x.NextCursor = encodeCursor(strconv.FormatInt(shown[limit-1], 10))
	}
	for _, id := range shown {
		d, err := v.decide(ctx, f, id)
		if err != nil {
			return nil, err
		}
		x.Callbacks = append(x.Callbacks, d)
	}
	return x, nil
}

func (q *ExplainQuery) sees(callback int64) bool {
	return q.Within == nil || slices.Contains(q.Within, callback)
}

// narrow leaves of an event the deliveries that the reader sees. It reports whether the reader sees the event.
func (q *ExplainQuery) narrow(e *ledger.Event) bool {
	if q.Within == nil {
		return true
	}
	maps.DeleteFunc(e.Records, func(callback int64, _ ledger.Record) bool { return !q.sees(callback) })
	e.Later = slices.DeleteFunc(e.Later, func(callback int64) bool { return !q.sees(callback) })
	return len(e.Records)+len(e.Later) > 0
}

func (q *ExplainQuery) after() (int64, error) {
	if q.Cursor == "" {
		return 0, nil
	}
	text, err := decodeCursor(q.Cursor)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, ErrBadCursor
	}
	return id, nil
}

// A fate is what an explanation is taken from: an event as Redis has it, beside the company's callbacks of today. Of an event with
// many deliveries only those are looked at closely that are asked for.
type fate struct {
	*ledger.Event
	event     *EventRecord               // the same, without deliveries
	callbacks []*registry.Callback       // by id
	facts     func() (eventFacts, error) // the event's, to match by
}

func (v *view) fate(ctx context.Context, e *ledger.Event, q ExplainQuery) (*fate, error) {
	all, err := v.c.registry.All(ctx, v.company)
	if err != nil {
		return nil, unavailable(ctx, v.c, "listing the callbacks", err)
	}
	if q.Within != nil {
		all = slices.DeleteFunc(slices.Clone(all), func(cb *registry.Callback) bool { return !q.sees(cb.ID) })
	}
	f := &fate{Event: e, event: head(e), callbacks: all}
	f.facts = sync.OnceValues(func() (eventFacts, error) { return v.c.facts(ctx, v.company, f.event) })
	return f, v.lookUp(ctx, e.Written()...)
}

// page are the next callbacks after an id that there is something to say of: those of today, and those that were deleted since. only, if it is not 0, is
// the one that is asked for. more says whether others follow.
func (f *fate) page(after, only int64, limit int) (ids []int64, more bool) {
	if only > 0 {
		after = max(after, only-1)
	}
	next, _ := f.place(after + 1)
	for _, cb := range f.callbacks[next:min(len(f.callbacks), next+limit+1)] {
		ids = append(ids, cb.ID)
	}
	for _, id := range slices.Concat(f.Written(), f.Later) {
		if id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if only > 0 {
		ids = slices.DeleteFunc(ids, func(id int64) bool { return id != only })
	}
	return ids[:min(len(ids), limit)], len(ids) > limit
}

// place is where a callback of today stands among them, or would.
func (f *fate) place(id int64) (int, bool) {
	return slices.BinarySearchFunc(f.callbacks, id, func(cb *registry.Callback, id int64) int { return cmp.Compare(cb.ID, id) })
}

// callback is one of today's, or nil.
func (f *fate) callback(id int64) *registry.Callback {
	if i, ok := f.place(id); ok {
		return f.callbacks[i]
	}
	return nil
}

// summarize counts how the event's deliveries stand.
func (v *view) summarize(f *fate) string {
	states := make(map[State]int)
	for id, rec := range f.Records {
		states[rec.StateBehind(v.gates[id])]++
	}
	said := f.event.summary(states, len(f.Records), len(f.Later), len(f.callbacks))
	if f.event.BodyLeft {
		said += " Its body is no longer kept, so nothing of it can be replayed."
	}
	return said
}

// summary is the answer in short: how many deliveries are written and in which states, how many will be, and how many callbacks the company has.
func (e *EventRecord) summary(states map[ledger.State]int, written, later, callbacks int) string {
	accepted := fmt.Sprintf("%s (%s) was accepted at %s", e.EventID, e.EventType, e.AcceptedAt.Format(time.RFC3339))
	if written+later == 0 {
		if callbacks == 0 {
			return accepted + ". The company has no callbacks, so it goes nowhere."
		}
		return accepted + fmt.Sprintf(". It matched none of the company's %s, so it goes nowhere.", count(callbacks, "callback"))
	}
	var parts []string
	for _, s := range ledger.States {
		if n := states[s]; n == written && n > 1 && later == 0 {
			parts = append(parts, "all "+string(s))
		} else if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if later > 0 {
		parts = append(parts, fmt.Sprintf("%s still to be written", count(later, "delivery")))
	}
	return fmt.Sprintf("%s and went to %s: %s.", accepted, count(written+later, "callback"), strings.Join(parts, ", "))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	if stem, ok := strings.CutSuffix(noun, "y"); ok {
		noun = stem + "ie"
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// decide says whether the event went to a callback: a recorded match, or what can be said of a callback of today.
func (v *view) decide(ctx context.Context, f *fate, callback int64) (Decision, error) {
	d, cb := Decision{CallbackID: callback}, f.callback(callback)
	if cb != nil {
		d.CallbackType = cb.Type
	}
	record, written := f.Records[callback]
	if !written && !slices.Contains(f.Later, callback) {
		facts, err := f.facts()
		if err != nil {
			return Decision{}, err
		}
		d.Decision, d.Why = "not_matched", v.c.whyNot(cb, f.event, facts)
		return d, nil
	}
	d.Decision, d.Why = "matched", "It matched when the event was accepted"
	if cb == nil {
		d.Why += "; the callback was deleted since"
	}
	if !written {
		d.Why += ". It matched so many callbacks that their deliveries are written in pages; this one's follows."
		return d, nil
	}
	var err error
	if d.Delivery, err = v.delivery(ctx, f.event, callback, record); err != nil {
		return Decision{}, err
	}
	d.Why += ". " + d.Delivery.Summary
	return d, nil
}

func (c *Client) whyNot(cb *registry.Callback, e *EventRecord, facts eventFacts) string {
	if cb.CreatedAt.After(e.AcceptedAt) {
		return "The callback was registered at " + cb.CreatedAt.Format(time.RFC3339) + ", after the event was accepted."
	}
	unknown := e.BodyLeft && (len(cb.Match) > 0 || cb.Filter != nil)
	if unknown { // with what it asks for, it would match, or there is another reason
		open := *cb
		open.Filter = nil
		cb, facts.attrs = &open, cb.Match
	}
	matches, why, _ := c.registry.Decide(cb, e.EventType, facts.attrs, e.AcceptedAt, func() payloads.Document { return facts.payload })
	if matches && unknown {
		return "It did not match when the event was accepted. The event's body is no longer kept, so it cannot be compared with what the callback asks for."
	}
	if matches {
		return "The callback was changed at " + cb.UpdatedAt.Format(time.RFC3339) + ", after the event was accepted; as it is now, it would match."
	}
	if cb.UpdatedAt.After(e.AcceptedAt) {
		why += " (The callback was changed since, at " + cb.UpdatedAt.Format(time.RFC3339) + ".)"
	}
	return why
}

// eventFacts are what of an event decides which callbacks it matches: nothing, if its body is no longer kept.
type eventFacts struct {
	attrs   map[string]string
	payload payloads.Document
}

// facts reads them. They are taken from the payload as it is. The type may have another schema by now, which it does not fit: then there are no attributes to
// match by, but what filters look at is there all the same.
func (c *Client) facts(ctx context.Context, company string, e *EventRecord) (eventFacts, error) {
	body, err := c.ledger.Payload(ctx, company, e.EventID)
	if errors.Is(err, ErrBodyLeft) {
		return eventFacts{}, nil
	}
	if err != nil {
		return eventFacts{}, unavailable(ctx, c, "reading the payload", err)
	}
	typ, ok, err := c.registry.Types().Accepted(ctx, e.EventType)
	if err != nil {
		return eventFacts{}, unavailable(ctx, c, "reading the callback types", err)
	}
	if !ok { // the type is gone
		return eventFacts{payload: payloads.ReadDocument(body)}, nil
	}
	payload, attrs, _, _ := typ.ExamineAndRead(body)
	return eventFacts{attrs, payload}, nil
}
