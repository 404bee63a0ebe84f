package dispatcher

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

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
		return v.book(ctx, q, "asks", v.readDecisions)
	case len(q.States) == 1 && q.States[0] == Dead:
		return v.book(ctx, q, "dead", v.letters)
	}
	return v.walkLog(ctx, q)
}

func (q *Query) admits(d *Delivery) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, d.State)) &&
		(q.CallbackID == 0 || q.CallbackID == d.CallbackID) &&
		(q.EventType == "" || q.EventType == d.EventType)
}

// bounds are Since (inclusive) and Until (exclusive) in milliseconds, as Redis's ranges take them.
func (q *Query) bounds() (oldest, newest string) {
	oldest, newest = "-", "+"
	if !q.Since.IsZero() {
		oldest = strconv.FormatInt(ceilMS(q.Since), 10)
	}
	if !q.Until.IsZero() {
		newest = strconv.FormatInt(max(0, ceilMS(q.Until)-1), 10)
	}
	return oldest, newest
}

func ceilMS(t time.Time) int64 { return max(0, t.Add(time.Millisecond-1).UnixMilli()) }

// walkLog lists from the log of accepted events. The cursor is the last delivery given out: log id and callback.
func (v *view) walkLog(ctx context.Context, q Query) ([]*Delivery, string, error) {
	oldest, newest := q.bounds()
	var last logPosition
	if q.Cursor != "" {
		var err error
		if last, err = parseLogCursor(q.Cursor); err != nil {
			return nil, "", err
		}
		newest = last.logID
	}
	found := []*Delivery{}
	for range listPages {
		rows, more, err := v.page(ctx, newest, oldest, q.CallbackID)
		if err != nil {
			return nil, "", err
		}
		for _, row := range rows {
			for _, id := range row.callbacks {
				if row.logID == last.logID && id <= last.callback {
					continue
				}
				d, err := v.delivery(ctx, ref{v.company, row.event.EventID, id}, row.event, row.fields[recordField(id)])
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
				last = logPosition{row.logID, d.CallbackID}
			}
		}
		if !more {
			return found, "", nil
		}
		end := rows[len(rows)-1].logID
		newest = "(" + end
		if last.logID == "" || logIDLess(end, last.logID) {
			last = logPosition{end, 1<<63 - 1} // all of that event is behind us
		}
	}
	return found, last.cursor(), nil
}

// A logRow is an event in the log, with its deliveries' records.
type logRow struct {
	logID     string
	event     *EventRecord // without deliveries
	fields    map[string]string
	callbacks []int64 // those that it has deliveries for, by id
}

// page reads events from the log, with one callback's deliveries or (0) all, and says whether there are more.
func (v *view) page(ctx context.Context, newest, oldest string, callback int64) (rows []logRow, more bool, err error) {
	answer, err := v.c.run(ctx, pageScript, v.company, newest, oldest, listPage, callback).Slice()
	if err != nil {
		return nil, false, unavailable(ctx, v.c, "reading the log", err)
	}
	if len(answer) == 0 {
		return nil, false, fmt.Errorf("the log: %w", errBadRecord)
	}
	for _, item := range answer[1:] {
		r, err := v.row(ctx, ledger.Strings(item))
		if err != nil {
			return nil, false, err
		}
		rows = append(rows, r)
	}
	return rows, ledger.String(answer[0]) == "more", nil
}

// row reads an event in the log as page.lua answers it.
func (v *view) row(ctx context.Context, row []string) (logRow, error) {
	if len(row) < 4 {
		return logRow{}, fmt.Errorf("the log: %w", errBadRecord)
	}
	r := logRow{logID: row[0]}
	if row[2] == "" { // the event aged away before its log entry, or is being erased
		return r, nil
	}
	r.fields = map[string]string{"m": row[2], "a": row[0]}
	for i := 4; i+1 < len(row); i += 2 {
		r.fields[row[i]] = row[i+1]
	}
	var err error
	if row[3] != "" {
		switch r.fields, err = v.c.eventFields(ctx, v.company, row[1]); {
		case errors.Is(err, ErrNotFound):
			return r, nil
		case err != nil:
			return r, err
		}
	}
	if r.event, err = head(row[1], r.fields); err != nil {
		return r, err
	}
	r.callbacks = writtenTo(r.fields)
	return r, v.lookUp(ctx, r.callbacks...)
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
	logID, cb, _ := cutLast(text, '/')
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

func logIDLess(a, b string) bool {
	split := func(id string) (ms, seq uint64) {
		l, r, _ := strings.Cut(id, "-")
		ms, _ = strconv.ParseUint(l, 10, 64)
		seq, _ = strconv.ParseUint(r, 10, 64)
		return ms, seq
	}
	am, as := split(a)
	bm, bs := split(b)
	return cmp.Or(cmp.Compare(am, bm), cmp.Compare(as, bs)) < 0
}

func encodeCursor(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func decodeCursor(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) > 256 {
		return "", ErrBadCursor
	}
	return string(b), nil
}

// book lists from a zset of names by time: the dead-letter book, or that of decisions. read takes a page of it; what is nil in its answer
// is gone. The cursor is the last one given out: its time and name.
func (v *view) book(ctx context.Context, q Query, name string, read func(context.Context, []redis.Z) ([]*Delivery, error)) ([]*Delivery, string, error) {
	oldest, newest := q.bounds()
	if oldest == "-" {
		oldest = "-inf"
	}
	if newest == "+" {
		newest = "+inf"
	}
	var last redis.Z
	begun := q.Cursor != ""
	if begun {
		var err error
		if last, err = parseBookCursor(q.Cursor); err != nil {
			return nil, "", err
		}
		newest = strconv.FormatInt(int64(last.Score), 10)
	}
	found := []*Delivery{}
	var offset int64
	for range listPages {
		letters, err := v.c.rdb.ZRevRangeByScoreWithScores(ctx, keyOf(v.company, name),
			&redis.ZRangeBy{Min: oldest, Max: newest, Offset: offset, Count: listPage}).Result()
		if err != nil {
			return nil, "", unavailable(ctx, v.c, "reading the book", err)
		}
		offset += int64(len(letters))
		fresh := slices.DeleteFunc(slices.Clone(letters), func(z redis.Z) bool { return begun && !bookedAfter(z, last) })
		deliveries, err := read(ctx, fresh)
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
		if len(letters) < listPage {
			return found, "", nil
		}
		if len(fresh) > 0 {
			begun, last = true, fresh[len(fresh)-1]
		}
	}
	return found, bookCursor(last), nil
}

// bookedAfter reports whether z comes after last in the book's order: newest first, then by name backwards.
func bookedAfter(z, last redis.Z) bool {
	return cmp.Or(cmp.Compare(last.Score, z.Score), cmp.Compare(last.Member.(string), z.Member.(string))) > 0
}

// letters reads the deliveries the book's entries name; nil where one is gone.
func (v *view) letters(ctx context.Context, entries []redis.Z) ([]*Delivery, error) {
	refs := make([]ref, 0, len(entries))
	for _, z := range entries {
		r, ok := parseMember(v.company, z.Member.(string))
		if !ok {
			return nil, fmt.Errorf("the dead-letter book: %w", errBadRecord)
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
		out[i] = byID[r.deliveryID()]
	}
	return out, nil
}

func bookCursor(z redis.Z) string {
	return encodeCursor(strconv.FormatInt(int64(z.Score), 10) + "/" + z.Member.(string))
}

func parseBookCursor(cursor string) (redis.Z, error) {
	text, err := decodeCursor(cursor)
	if err != nil {
		return redis.Z{}, err
	}
	score, member, ok := strings.Cut(text, "/")
	ms, err := strconv.ParseInt(score, 10, 64)
	if err != nil || !ok {
		return redis.Z{}, ErrBadCursor
	}
	return redis.Z{Score: float64(ms), Member: member}, nil
}
