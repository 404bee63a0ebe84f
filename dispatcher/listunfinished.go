package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// errMany says that so much is in the lanes, or in batches, in no order, that it is found faster in the log.
var errMany = errors.New("too much stands in no order")

// manyInNoOrder is how much that is.
const manyInNoOrder = 10_000

// manyEntries is how many names a list looks at together at most.
const manyEntries = 2000

// unfinished reports whether only states are asked for of which the callbacks' own sets have all deliveries, or the dead-letter book, and not only that.
func (q *Query) unfinished() bool {
	return len(q.States) > 0 && !slices.ContainsFunc(q.States, func(s ledger.State) bool { return s.Final() && s != ledger.Dead })
}

// listUnfinished lists what waits or is under way, and the dead, without looking at what is finished. The order and the cursor are those of the log.
// errMany: that is no good way.
func (v *view) listUnfinished(ctx context.Context, q Query, until time.Time) ([]*Delivery, string, error) {
	last, _, err := q.logPlace()
	if err != nil {
		return nil, "", err
	}
	newest := int64(-1)
	if !q.Until.IsZero() {
		newest = max(0, q.Until.UnixMilli())
	}
	if at := ledger.LogTime(last.logID).UnixMilli(); last.logID != "" && (newest < 0 || at < newest) {
		newest = at
	}
	callbacks := []int64{q.CallbackID}
	if q.CallbackID == 0 && q.Within != nil {
		callbacks = q.Within
	} else if q.CallbackID == 0 {
		if callbacks, err = v.c.registry.IDs(ctx, v.company, true); err != nil {
			return nil, "", unavailable(ctx, v.c, "listing the callbacks", err)
		}
	}
	found := []*Delivery{}
	for most := q.Limit + 1; ; most = min(2*most, manyEntries) { // a rare type may be among very many
		entries, back, err := v.gather(ctx, q, callbacks, newest, most)
		if err != nil {
			return nil, "", err
		}
		events, err := v.readEntries(ctx, q, entries)
		if err != nil {
			return nil, "", err
		}
		var full bool
		if found, last, full, err = v.fill(ctx, q, found, events, last); err != nil {
			return nil, "", err
		}
		if full {
			return found, last.cursor(), nil
		}
		if back == 0 || !q.Since.IsZero() && back <= q.Since.UnixMilli() {
			return found, "", nil
		}
		last, newest = logPosition{logID: ledger.FirstLogID(back), callback: 1<<63 - 1}, back-1
		if time.Now().After(until) {
			return found, last.cursor(), nil
		}
	}
}

// gather names deliveries that q may select and that were accepted at newest (ms; negative: whenever) or before, all those that were accepted at back or
// later. back is 0 if these are all. They are a page, or many more where many were accepted in one moment.
func (v *view) gather(ctx context.Context, q Query, callbacks []int64, newest int64, most int) (entries []ledger.BookEntry, back int64, err error) {
	deadBefore, deadBack, err := v.gatherDead(ctx, q, newest, most)
	if err != nil {
		return nil, 0, err
	}
	entries, back, err = v.gatherWaiting(ctx, q, callbacks, newest, most)
	if err != nil {
		return nil, 0, err
	}
	// What left a callback's set for the book meanwhile is there by now. What left the book for a set was there before.
	dead, again, err := v.gatherDead(ctx, q, newest, most)
	if err != nil {
		return nil, 0, err
	}
	entries, back = slices.Concat(entries, deadBefore, dead), max(back, deadBack, again)
	entries = slices.DeleteFunc(entries, func(e ledger.BookEntry) bool { return e.At < back })
	slices.SortFunc(entries, func(a, b ledger.BookEntry) int { return cmp.Or(cmp.Compare(b.At, a.At), cmp.Compare(a.Name, b.Name)) })
	return slices.Compact(entries), back, nil
}

func (v *view) gatherWaiting(ctx context.Context, q Query, callbacks []int64, newest int64, most int) (entries []ledger.BookEntry, back int64, err error) {
	u := ledger.Unfinished{
		Retrying: q.wants(ledger.Retrying), Held: q.wants(ledger.Held), InLanes: q.wants(ledger.Pending) || q.wants(ledger.Active), Newest: newest,
	}
	heads, err := v.c.ledger.Heads(ctx, v.company, u, callbacks)
	if err != nil {
		return nil, 0, unavailable(ctx, v.c, "reading what waits", err)
	}
	heads, back, noOrder := newestHeads(heads, most)
	if noOrder > manyInNoOrder {
		return nil, 0, errMany
	}
	of := make(map[int64]ledger.Waiting, len(heads))
	for each := 4 + 2*most/max(1, len(heads)); len(heads) > 0; each *= 4 {
		found, err := v.c.ledger.Waiting(ctx, v.company, u, each, heads)
		if err != nil {
			return nil, 0, unavailable(ctx, v.c, "reading what waits", err)
		}
		for _, w := range found {
			of[w.Callback] = w
		}
		entries = entries[:0]
		for _, w := range of {
			entries = append(entries, w.Entries...)
		}
		back = max(back, enough(entries, most))
		heads = slices.DeleteFunc(heads, func(h ledger.Head) bool { return of[h.Callback].Since <= back })
	}
	return entries, back, nil
}

// newestHeads leaves of callbacks those that the newest so many deliveries are of, and those that have any in no order. back is how far back (ms)
// that is all; 0: it is.
func newestHeads(heads []ledger.Head, limit int) (left []ledger.Head, back, noOrder int64) {
	slices.SortFunc(heads, func(a, b ledger.Head) int { return cmp.Compare(b.Newest, a.Newest) })
	if len(heads) > limit {
		back = heads[limit-1].Newest
	}
	for _, h := range heads {
		noOrder += h.NoOrder
		if h.Newest >= back || h.NoOrder > 0 {
			left = append(left, h)
		}
	}
	return left, back, noOrder
}

// enough is when the last of the newest so many was accepted; 0 if there are fewer.
func enough(entries []ledger.BookEntry, limit int) int64 {
	if len(entries) <= limit {
		return 0
	}
	times := make([]int64, len(entries))
	for i, e := range entries {
		times[i] = e.At
	}
	slices.Sort(times)
	return times[len(times)-limit]
}

// gatherDead names the newest of the dead, if they are asked for, all those that were accepted at back or later.
func (v *view) gatherDead(ctx context.Context, q Query, newest int64, most int) (entries []ledger.BookEntry, back int64, err error) {
	if !q.wants(ledger.Dead) {
		return nil, 0, nil
	}
	count := int64(most)
	if q.CallbackID != 0 {
		count = manyEntries
	}
	for ; ; count *= 2 {
		if entries, err = v.c.ledger.Book(ctx, v.company, ledger.BookOfDead, newest, ledger.Span{}, count); err != nil {
			return nil, 0, unavailable(ctx, v.c, "reading the book", err)
		}
		if int64(len(entries)) < count {
			return entries, 0, nil
		}
		if at := entries[len(entries)-1].At; at < entries[0].At {
			return slices.DeleteFunc(entries, func(e ledger.BookEntry) bool { return e.At <= at }), at + 1, nil
		}
	}
}

// readEntries reads deliveries by name, and sorts them as lists have them.
func (v *view) readEntries(ctx context.Context, q Query, entries []ledger.BookEntry) (events []*ledger.Event, err error) {
	for page := range slices.Chunk(entries, listPage) {
		var refs []ledger.Ref
		for _, e := range page {
			if r, ok := ledger.ParseMember(v.company, e.Name); ok && q.sees(r.Callback) && (q.CallbackID == 0 || r.Callback == q.CallbackID) {
				refs = append(refs, r)
			}
		}
		read, err := v.c.ledger.Deliveries(ctx, refs)
		if err != nil {
			return nil, unavailable(ctx, v.c, "reading deliveries", err)
		}
		events = append(events, slices.DeleteFunc(read, func(e *ledger.Event) bool {
			return e == nil || q.EventType != "" && e.Meta.Type != q.EventType || !q.span().Has(e.AcceptedAt())
		})...)
	}
	slices.SortFunc(events, func(a, b *ledger.Event) int {
		switch {
		case a.LogID == b.LogID:
			return cmp.Compare(a.Written()[0], b.Written()[0])
		case ledger.LogIDLess(b.LogID, a.LogID):
			return -1
		}
		return 1
	})
	var callbacks []int64
	for _, e := range events {
		callbacks = append(callbacks, e.Written()...)
	}
	slices.Sort(callbacks)
	return events, v.lookUp(ctx, slices.Compact(callbacks)...)
}
