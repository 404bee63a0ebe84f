package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
)

// An EventsQuery selects events. The zero value selects all.
type EventsQuery struct {
	Type  string // empty: all
	Since time.Time
	Until time.Time
	// EventID is an event's id. With a * at its end, it is what ids begin with. Empty: all.
	EventID string
	// WebhookID is the id of a delivery, which names its event. Empty: all.
	WebhookID string
	// Match are values of match attributes, by their names: an event is selected whose type has all of these attributes, and whose payload has these values there.
	Match map[string]string
	// Callbacks are those that the reader may know of: an event that has a delivery to none of them is not shown. Nil: all.
	Callbacks []int64
	Limit     int    // 0: 50; at most 500
	Cursor    string // next of the page before
}

// An EventItem is an event in a list.
type EventItem struct {
	Company    string    `json:"company,omitempty"` // whose it is, in lists over all companies
	EventID    string    `json:"event_id"`
	EventType  string    `json:"event_type"`
	AcceptedAt time.Time `json:"accepted_at"`
	OccurredAt time.Time `json:"occurred_at,omitzero"`
	// Deliveries are how many there are in each state.
	Deliveries map[State]int `json:"deliveries"`
	Expanding  bool          `json:"expanding,omitempty"` // deliveries to more callbacks are still being written
	BodyLeft   bool          `json:"body_left,omitempty"` // its payload is no longer kept

	place string // the cursor of what follows it
}

// Events finds events of a company, newest accepted first, and returns the cursor of the next page ("" at the end). A page is as long as its limit, or the
// last one; but for a search among very many that takes longer than a second: it says where it goes on, and [Reached] how far that is. An event whose payload
// is no longer kept is not found by attributes.
//
// Errors: [ErrBadCursor], [ErrUnavailable].
func (c *Client) Events(ctx context.Context, company string, q EventsQuery) ([]*EventItem, string, error) {
	return c.find(ctx, company, q, time.Now().Add(listFor))
}

// find is Events, and searches until then.
func (c *Client) find(ctx context.Context, company string, q EventsQuery, until time.Time) ([]*EventItem, string, error) {
	q.Limit = min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit)
	id, exact, some := q.id(company)
	if !some {
		return []*EventItem{}, "", nil
	}
	types, err := c.typesWith(ctx, q.Type, q.Match)
	if err != nil {
		return nil, "", err
	}
	if len(q.Match) > 0 && len(types) == 0 {
		return []*EventItem{}, "", nil
	}
	if exact {
		e, err := c.findOne(ctx, company, id, q, types)
		return e, "", err
	}
	f := ledger.Find{Span: ledger.Span{Since: q.Since, Until: q.Until}, Begins: id, Bodies: len(q.Match) > 0, Types: typeNames(types)}
	if q.Type != "" {
		f.Types = []string{q.Type}
	}
	if q.skips() {
		if err := c.summarize(ctx, company, listBlocks); err != nil {
			return nil, "", unavailable(ctx, c, "summing up the log", err)
		}
	}
	return c.findAll(ctx, company, q, f, types, until)
}

// skips reports whether blocks of the log may be left out.
func (q *EventsQuery) skips() bool { return q.Type != "" || len(q.Match) > 0 }

func (c *Client) findAll(ctx context.Context, company string, q EventsQuery, f ledger.Find, types map[string]*payloads.Type, until time.Time) ([]*EventItem, string, error) {
	var place ledger.LogPlace
	last := logPosition{}
	if q.Cursor != "" {
		var err error
		if last, err = parseLogCursor(q.Cursor); err != nil {
			return nil, "", err
		}
		place = ledger.After(last.logID)
	}
	items := []*EventItem{}
	for {
		found, next, err := c.ledger.Find(ctx, company, place, f, q.Limit+1-len(items))
		if err != nil {
			return nil, "", unavailable(ctx, c, "searching the log", err)
		}
		for _, e := range found {
			item := q.pick(e, types)
			if item == nil {
				continue
			}
			if len(items) == q.Limit {
				return items, items[len(items)-1].place, nil
			}
			items = append(items, item)
		}
		if next == "" {
			return items, "", nil
		}
		if place = next; time.Now().After(until) {
			return items, logPosition{next.Entry(), 1<<63 - 1}.cursor(), nil
		}
	}
}

// pick makes an item of an event, or nil if q does not select it.
func (q *EventsQuery) pick(e *ledger.Found, types map[string]*payloads.Type) *EventItem {
	if len(q.Match) > 0 && !q.matches(types[e.Meta.Type], e.Payload) {
		return nil
	}
	item := &EventItem{
		EventID: e.ID, EventType: e.Meta.Type, AcceptedAt: e.AcceptedAt(), OccurredAt: ledger.FromMS(e.Meta.Occurred), Deliveries: make(map[State]int),
		Expanding: e.Expanding, BodyLeft: e.BodyLeft, place: logPosition{e.LogID, 1<<63 - 1}.cursor(),
	}
	seen := false
	for cb, state := range e.States {
		if q.Callbacks == nil || slices.Contains(q.Callbacks, cb) {
			item.Deliveries[state]++
			seen = true
		}
	}
	if q.Callbacks != nil && !seen {
		return nil
	}
	return item
}

// matches reports whether a payload has the values that are asked for. One that does not fit its type as that is now has none.
func (q *EventsQuery) matches(typ *payloads.Type, payload []byte) bool {
	if typ == nil || payload == nil {
		return false
	}
	attrs, _, err := typ.Examine(json.RawMessage(payload))
	if err != nil {
		return false
	}
	for name, value := range q.Match {
		if got, ok := attrs[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// id is what is asked for of the events' ids: one, or what they begin with. some is false if no event can be meant.
func (q *EventsQuery) id(company string) (id string, exact, some bool) {
	id, prefix := strings.CutSuffix(q.EventID, "*")
	exact = id != "" && !prefix
	if exact && !payloads.ValidEventID(id) || strings.Contains(id, "*") {
		return "", false, false
	}
	if q.WebhookID == "" {
		return id, exact, true
	}
	r, ok := ledger.ParseDeliveryID(company, q.WebhookID)
	if !ok || exact && r.Event != id || !strings.HasPrefix(r.Event, id) || q.Callbacks != nil && !slices.Contains(q.Callbacks, r.Callback) {
		return "", false, false
	}
	return r.Event, true, true
}

func (c *Client) findOne(ctx context.Context, company, id string, q EventsQuery, types map[string]*payloads.Type) ([]*EventItem, error) {
	none := []*EventItem{}
	e, err := c.ledger.FindOne(ctx, company, id)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the event", err)
	}
	if e == nil || q.Type != "" && e.Meta.Type != q.Type || !(ledger.Span{Since: q.Since, Until: q.Until}).Has(e.AcceptedAt()) {
		return none, nil
	}
	if len(q.Match) > 0 && !e.BodyLeft {
		if e.Payload, err = c.ledger.Payload(ctx, company, id); err != nil && !errors.Is(err, ErrBodyLeft) {
			return nil, unavailable(ctx, c, "reading the payload", err)
		}
	}
	if item := q.pick(e, types); item != nil {
		return []*EventItem{item}, nil
	}
	return none, nil
}

// typesWith are the types that have all attributes of match, or of those the one that is asked for. Without a match it is none.
func (c *Client) typesWith(ctx context.Context, only string, match map[string]string) (map[string]*payloads.Type, error) {
	types := make(map[string]*payloads.Type)
	if len(match) == 0 {
		return types, nil
	}
	all, err := c.registry.Types().Fresh(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the callback types", err)
	}
	for _, typ := range all.Types() {
		has := only == "" || typ.Name == only
		for name := range match {
			has = has && typ.Match[name] != ""
		}
		if has {
			types[typ.Name] = typ
		}
	}
	return types, nil
}

func typeNames(types map[string]*payloads.Type) (names []string) {
	for name := range types {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
