package dispatcher

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// book lists from a book of names by time. read takes a page of it; what is nil in its answer is gone. The cursor is the last one given out, or how far
// the search came: its time and name.
func (v *view) book(ctx context.Context, q Query, name string, read func(context.Context, []string) ([]*Delivery, error), until time.Time) ([]*Delivery, string, error) {
	last, begun := ledger.BookEntry{At: -1}, q.Cursor != ""
	if begun {
		var err error
		if last, err = parseBookCursor(q.Cursor); err != nil {
			return nil, "", err
		}
	}
	found := []*Delivery{}
	for count := int64(listPage); ; {
		entries, err := v.c.ledger.Book(ctx, v.company, name, last.At, q.span(), count)
		if err != nil {
			return nil, "", unavailable(ctx, v.c, "reading the book", err)
		}
		fresh := slices.DeleteFunc(slices.Clone(entries), func(e ledger.BookEntry) bool { return begun && !last.Less(e) })
		if len(fresh) == 0 && int64(len(entries)) == count { // all of them are of one moment
			count *= 2
			continue
		}
		deliveries, err := v.readBook(ctx, q, fresh, read)
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
			d.place = bookCursor(last)
		}
		if int64(len(entries)) < count {
			return found, "", nil
		}
		begun, last = true, fresh[len(fresh)-1]
		if time.Now().After(until) {
			return found, bookCursor(last), nil
		}
	}
}

// readBook reads what entries of a book name; nil where it is gone, or of another callback than q asks for.
func (v *view) readBook(ctx context.Context, q Query, entries []ledger.BookEntry, read func(context.Context, []string) ([]*Delivery, error)) ([]*Delivery, error) {
	var names []string
	var places []int
	of := "/" + strconv.FormatInt(q.CallbackID, 10)
	for i, e := range entries {
		if q.CallbackID == 0 || q.Decisions || strings.HasSuffix(e.Name, of) {
			names, places = append(names, e.Name), append(places, i)
		}
	}
	deliveries, err := read(ctx, names)
	if err != nil {
		return nil, err
	}
	all := make([]*Delivery, len(entries))
	for i, d := range deliveries {
		all[places[i]] = d
	}
	return all, nil
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
