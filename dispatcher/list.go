package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/dispatcher/ledger"
)

const (
	// listPage is how many events a list reads at a time.
	listPage = 200
	// listPages bounds how many such pages one call reads, so that a rare filter answers in time: with a cursor to go on from.
	listPages = 50
)

// Deliveries lists deliveries, newest accepted first, and the cursor of the next page ("" at the end). A page may be shorter than its limit,
// even empty, and still have a next: the search for rare ones is cut off after 10,000 events.
//
// Events are listed as long as they are kept. The dead, which are kept for longer, are all found if only they are asked for; those that were
// pruned are not.
// Errors: [ErrBadCursor], [ErrUnavailable].
func (c *Client) Deliveries(ctx context.Context, company string, q Query) ([]*Delivery, string, error) {
	q.Limit = min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit)
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, "", err
	}
	switch {
	case q.Decisions:
		return v.book(ctx, q, ledger.BookOfDecisions, v.readDecisions)
	case len(q.States) == 1 && q.States[0] == ledger.Dead:
		return v.book(ctx, q, ledger.BookOfDead, v.letters)
	}
	return v.walkLog(ctx, q)
}

func (q *Query) admits(d *Delivery) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, d.State)) &&
		(q.CallbackID == 0 || q.CallbackID == d.CallbackID) &&
		(q.EventType == "" || q.EventType == d.EventType)
}

func (q *Query) span() ledger.Span { return ledger.Span{Since: q.Since, Until: q.Until} }

// walkLog lists from the log of accepted events. The cursor is the last delivery given out: log id and callback.
func (v *view) walkLog(ctx context.Context, q Query) ([]*Delivery, string, error) {
	var last logPosition
	var from ledger.LogPlace
	if q.Cursor != "" {
		var err error
		if last, err = parseLogCursor(q.Cursor); err != nil {
			return nil, "", err
		}
		from = ledger.From(last.logID)
	}
	found := []*Delivery{}
	for range listPages {
		page, more, err := v.c.ledger.Log(ctx, v.company, from, q.span(), q.CallbackID)
		if err != nil {
			return nil, "", unavailable(ctx, v.c, "reading the log", err)
		}
		for _, event := range page {
			e, ids := head(event), event.Written()
			if err := v.lookUp(ctx, ids...); err != nil {
				return nil, "", err
			}
			for _, id := range ids {
				if q.CallbackID != 0 && id != q.CallbackID || event.LogID == last.logID && id <= last.callback {
					continue
				}
				d, err := v.delivery(ctx, e, id, event.Records[id])
				if err != nil {
					return nil, "", err
				}
				if !q.admits(d) {
					continue
				}
				if len(found) == q.Limit {
					return found, last.cursor(), nil
				}
				found = append(found, d)
				last = logPosition{event.LogID, d.CallbackID}
			}
		}
		if !more {
			return found, "", nil
		}
		end := page[len(page)-1].LogID
		from = ledger.After(end)
		if last.logID == "" || ledger.LogIDLess(end, last.logID) {
			last = logPosition{end, 1<<63 - 1} // all of that event is behind us
		}
	}
	return found, last.cursor(), nil
}

// A logPosition is a delivery's place in the order of lists.
type logPosition struct {
	logID    string
	callback int64
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

func digits(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil
}

// book lists from a book of names by time. read takes a page of it; what is nil in its answer is gone. The cursor is the last one given out: its
// time and name.
func (v *view) book(ctx context.Context, q Query, name string, read func(context.Context, []string) ([]*Delivery, error)) ([]*Delivery, string, error) {
	last := ledger.BookEntry{At: -1}
	if q.Cursor != "" {
		var err error
		if last, err = parseBookCursor(q.Cursor); err != nil {
			return nil, "", err
		}
	}
	from, begun := last.At, q.Cursor != ""
	found := []*Delivery{}
	var offset int64
	for range listPages {
		entries, err := v.c.ledger.Book(ctx, v.company, name, from, q.span(), offset, listPage)
		if err != nil {
			return nil, "", unavailable(ctx, v.c, "reading the book", err)
		}
		offset += int64(len(entries))
		fresh := slices.DeleteFunc(slices.Clone(entries), func(e ledger.BookEntry) bool { return begun && !last.Less(e) })
		names := make([]string, len(fresh))
		for i, e := range fresh {
			names[i] = e.Name
		}
		deliveries, err := read(ctx, names)
		if err != nil {
			return nil, "", err
		}
		for i, d := range deliveries {
			if d == nil || !q.admits(d) {
				continue
			}
			if len(found) == q.Limit {
				return found, bookCursor(last), nil
			}
			found = append(found, d)
			last = fresh[i]
		}
		if len(entries) < listPage {
			return found, "", nil
		}
		if len(fresh) > 0 {
			begun, last = true, fresh[len(fresh)-1]
		}
	}
	return found, bookCursor(last), nil
}

// letters reads the deliveries that the dead-letter book names; nil where one is gone.
func (v *view) letters(ctx context.Context, names []string) ([]*Delivery, error) {
	refs := make([]ledger.Ref, 0, len(names))
	for _, name := range names {
		r, ok := ledger.ParseMember(v.company, name)
		if !ok {
			return nil, fmt.Errorf("the dead-letter book: %w", ledger.ErrBadRecord)
		}
		refs = append(refs, r)
	}
	found, err := v.deliveries(ctx, refs)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*Delivery, len(found))
	for _, d := range found {
		byID[d.DeliveryID] = d
	}
	out := make([]*Delivery, len(refs))
	for i, r := range refs {
		out[i] = byID[r.DeliveryID()]
	}
	return out, nil
}

func bookCursor(e ledger.BookEntry) string {
	return encodeCursor(strconv.FormatInt(e.At, 10) + "/" + e.Name)
}

func parseBookCursor(cursor string) (ledger.BookEntry, error) {
	text, err := decodeCursor(cursor)
	if err != nil {
		return ledger.BookEntry{}, err
	}
	at, name, ok := strings.Cut(text, "/")
	ms, err := strconv.ParseInt(at, 10, 64)
	if err != nil || !ok || ms < 0 {
		return ledger.BookEntry{}, ErrBadCursor
	}
	return ledger.BookEntry{Name: name, At: ms}, nil
}
