package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/registry"
)

// Explain answers what happened to an event, callback by callback. Matches were recorded when it was accepted; why a callback did not
// match is worked out now, against the callbacks as they are now. Errors: [ErrNotFound], [ErrBadCursor], [ErrUnavailable].
func (c *Client) Explain(ctx context.Context, company, eventID string, q ExplainQuery) (*Explanation, error) {
	e, err := c.Event(ctx, company, eventID)
	if err != nil {
		return nil, err
	}
	var after int64
	if q.Cursor != "" {
		text, err := decodeCursor(q.Cursor)
		if err != nil {
			return nil, err
		}
		if after, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, ErrBadCursor
		}
	}
	decisions, err := c.decisions(ctx, company, e)
	if err != nil {
		return nil, err
	}
	x := &Explanation{EventRecord: *e, Summary: e.summary(len(decisions)), Callbacks: []Decision{}}
	limit := min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit)
	for _, d := range decisions {
		if d.CallbackID <= after || q.CallbackID != 0 && q.CallbackID != d.CallbackID {
			continue
		}
		if len(x.Callbacks) == limit {
			x.NextCursor = encodeCursor(strconv.FormatInt(x.Callbacks[limit-1].CallbackID, 10))
			break
		}
		x.Callbacks = append(x.Callbacks, d)
	}
	return x, nil
}

// summary is the answer in short, for a company with so many callbacks.
func (e *EventRecord) summary(callbacks int) string {
	accepted := fmt.Sprintf("%s (%s) was accepted at %s", e.EventID, e.EventType, e.AcceptedAt.Format(time.RFC3339))
	if len(e.Deliveries) == 0 {
		if callbacks == 0 {
			return accepted + ". The company has no callbacks, so it goes nowhere."
		}
		return accepted + fmt.Sprintf(". It matched none of the company's %s, so it goes nowhere.", count(callbacks, "callback"))
	}
	states := make(map[State]int)
	for _, d := range e.Deliveries {
		states[d.State]++
	}
	var parts []string
	for _, s := range States {
		if n := states[s]; n == len(e.Deliveries) && n > 1 {
			parts = append(parts, "all "+string(s))
		} else if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return fmt.Sprintf("%s and went to %s: %s.", accepted, count(len(e.Deliveries), "callback"), strings.Join(parts, ", "))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// decisions are the event's, by callback id: recorded matches, and the other callbacks of today.
func (c *Client) decisions(ctx context.Context, company string, e *EventRecord) ([]Decision, error) {
	callbacks, err := c.allCallbacks(ctx, company)
	if err != nil {
		return nil, err
	}
	attrs, err := c.attributes(ctx, company, e)
	if err != nil {
		return nil, err
	}
	var decisions []Decision
	matched := make(map[int64]*Delivery, len(e.Deliveries))
	for _, d := range e.Deliveries {
		matched[d.CallbackID] = d
	}
	for _, cb := range callbacks {
		if d, ok := matched[cb.ID]; ok {
			decisions = append(decisions, Decision{cb.ID, cb.Type, "matched", "It matched when the event was accepted. " + d.Summary, d})
			delete(matched, cb.ID)
			continue
		}
		decisions = append(decisions, Decision{cb.ID, cb.Type, "not_matched", c.whyNot(cb, e, attrs), nil})
	}
	for id, d := range matched {
		decisions = append(decisions, Decision{id, "", "matched", "It matched when the event was accepted; the callback was deleted since. " + d.Summary, d})
	}
	slices.SortFunc(decisions, func(a, b Decision) int { return int(a.CallbackID - b.CallbackID) })
	return decisions, nil
}

func (c *Client) whyNot(cb *registry.Callback, e *EventRecord, attrs map[string]string) string {
	if cb.CreatedAt.After(e.AcceptedAt) {
		return "The callback was registered at " + cb.CreatedAt.Format(time.RFC3339) + ", after the event was accepted."
	}
	matches, why := c.registry.Decide(cb, e.EventType, attrs, e.AcceptedAt)
	if matches {
		return "The callback was changed at " + cb.UpdatedAt.Format(time.RFC3339) + ", after the event was accepted; as it is now, it would match."
	}
	if cb.UpdatedAt.After(e.AcceptedAt) {
		why += " (The callback was changed since, at " + cb.UpdatedAt.Format(time.RFC3339) + ".)"
	}
	return why
}

func (c *Client) attributes(ctx context.Context, company string, e *EventRecord) (map[string]string, error) {
	body, err := c.rdb.HGet(ctx, eventKey(company, e.EventID), "b").Bytes()
	if err != nil {
		return nil, unavailable(ctx, c, "reading the payload", err)
	}
	typ, err := c.lookupType(ctx, e.EventType)
	if errors.Is(err, ErrUnavailable) {
		return nil, err
	}
	if err != nil {
		return nil, nil // the type is gone: nothing to match by
	}
	attrs, _, err := typ.Examine(json.RawMessage(body))
	if err != nil {
		return nil, nil // the type's schema changed since: nothing to match by
	}
	return attrs, nil
}

func (c *Client) allCallbacks(ctx context.Context, company string) ([]*registry.Callback, error) {
	var all []*registry.Callback
	cursor := ""
	for {
		page, next, err := c.registry.List(ctx, company, registry.Filter{Limit: MaxLimit, Cursor: cursor})
		if err != nil {
			return nil, unavailable(ctx, c, "listing the callbacks", err)
		}
		all = append(all, page...)
		if cursor = next; cursor == "" {
			return all, nil
		}
	}
}
