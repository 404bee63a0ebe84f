package dispatcher

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// listPage is how many entries of a book a list reads at a time.
const listPage = 200

func (q *Query) admits(d *Delivery) bool {
	return q.wants(d.State) && q.sees(d.CallbackID) && (q.CallbackID == 0 || q.CallbackID == d.CallbackID) && (q.EventType == "" || q.EventType == d.EventType)
}

func (q *Query) wants(s ledger.State) bool { return len(q.States) == 0 || slices.Contains(q.States, s) }

func (q *Query) sees(callback int64) bool {
	return q.Within == nil || slices.Contains(q.Within, callback)
}

func (q *Query) span() ledger.Span { return ledger.Span{Since: q.Since, Until: q.Until} }

// logPlace is where a list begins: behind a delivery, at its event.
func (q *Query) logPlace() (last logPosition, from ledger.LogPlace, err error) {
	if q.Cursor == "" {
		return last, "", nil
	}
	last, err = parseLogCursor(q.Cursor)
	return last, ledger.From(last.logID), err
}

// pick makes deliveries of those records of an event that q selects and that come after last, by callback.
func (v *view) pick(ctx context.Context, q Query, event *ledger.Event, last logPosition) (found []*Delivery, err error) {
	e, ids := head(event), event.Written()
	if err := v.lookUp(ctx, ids...); err != nil {
		return nil, err
	}
	for _, id := range ids {
		if !last.before(logPosition{event.LogID, id}) || !q.sees(id) || !q.wants(event.Records[id].StateBehind(v.gates[id])) {
			continue
		}
		d, err := v.delivery(ctx, e, id, event.Records[id])
		if err != nil {
			return nil, err
		}
		if q.admits(d) {
			found = append(found, d)
		}
		if len(found) > q.Limit {
			break
		}
	}
	return found, nil
}

// fill adds to a page what q selects of events, behind last. full says that there is more than the page holds.
func (v *view) fill(ctx context.Context, q Query, page []*Delivery, events []*ledger.Event, last logPosition) (_ []*Delivery, _ logPosition, full bool, err error) {
	for _, event := range events {
		more, err := v.pick(ctx, q, event, last)
		if err != nil {
			return nil, last, false, err
		}
		for _, d := range more {
			if len(page) == q.Limit {
				return page, last, true, nil
			}
			page = append(page, d)
			last = logPosition{event.LogID, d.CallbackID}
			d.place = last.cursor()
		}
	}
	return page, last, false, nil
}

// A logPosition is a delivery's place in the order of lists.
type logPosition struct {
	logID    string
	callback int64
}

// before reports whether p comes before another in lists. Nowhere comes before all.
func (p logPosition) before(o logPosition) bool {
	switch {
	case p.logID == "" || ledger.LogIDLess(o.logID, p.logID):
		return true
	case p.logID == o.logID:
		return p.callback < o.callback
	}
	return false
}

// further is p, or where a search goes on, if that comes later.
func (p logPosition) further(next ledger.LogPlace) logPosition {
	reached := logPosition{next.Entry(), 0}
	if ledger.After(reached.logID) == next {
		reached.callback = 1<<63 - 1 // all of that event is behind us
	}
	if p.before(reached) {
		return reached
	}
	return p
}

func (p logPosition) cursor() string {
	return encodeCursor(p.logID + "/" + strconv.FormatInt(p.callback, 10))
}

func parseLogCursor(cursor string) (logPosition, error) {
	text, err := decodeCursor(cursor)
	if err != nil {
		return logPosition{}, err
	}
	logID, cb, _ := ledger.CutLast(text, '/')
	id, err := strconv.ParseInt(cb, 10, 64)
	ms, seq, ok := strings.Cut(logID, "-")
	if err != nil || !ok || !digits(ms) || !digits(seq) {
		return logPosition{}, ErrBadCursor
	}
	return logPosition{logID, id}, nil
}

// idBits bounds the numbers of a log id: Lua's hold no more, and no log comes near it.
const idBits = 53

func digits(s string) bool {
	_, err := strconv.ParseUint(s, 10, idBits)
	return err == nil
}
