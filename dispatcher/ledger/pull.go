package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// Of what is acknowledged page by page the last page is noted.
var pollScript, ackScript = lua.Script("poll"), lua.Acting("ack", `reply[1] == 'ok' and reply[4] == ''`)

const (
	// ackPage is how many deliveries one script run acknowledges, or jumps over: a few milliseconds of Redis's time.
	ackPage = 100
	// fetchBytes bounds the payloads of one answer, but for the first.
	fetchBytes = 1 << 20
	// fetchesTogether is how many callbacks are looked at in one round trip.
	fetchesTogether = 500
)

// A Cursor is a place in the order in which a callback's deliveries were written, for a partner who fetches. It grows with each that is written, however late
// its event's page or its replay comes: who has read up to a cursor has read all that will ever be below it. Zero is before all of them.
//
// It is made of the time: so after Redis lost what it wrote last, what is written then is above each cursor that anybody was given.
type Cursor int64

// CursorAt is the place before all that is written from a time on.
func CursorAt(at time.Time) Cursor { return max(0, Cursor(at.UnixMilli())*lua.OrderScale-1) }

// LastCursor is behind all.
const LastCursor Cursor = 1<<53 - 1 // which Lua's numbers hold

// String is the cursor as a text: milliseconds, and which of that millisecond.
func (c Cursor) String() string {
	return strconv.FormatInt(int64(c/lua.OrderScale), 10) + "-" + strconv.FormatInt(int64(c%lua.OrderScale), 10)
}

// ParseCursor is the inverse of [Cursor.String].
func ParseCursor(text string) (Cursor, bool) {
	l, r, ok := strings.Cut(text, "-")
	ms, err := strconv.ParseUint(l, 10, 41) // with the sequence, 53 bits
	seq, errSeq := strconv.ParseUint(r, 10, 12)
	if !ok || err != nil || errSeq != nil {
		return 0, false
	}
	c := Cursor(ms*lua.OrderScale + seq)
	return c, c.String() == text
}

// A Fetch asks for what waits to be fetched.
type Fetch struct {
	Company  string
	Callback int64
	After    Cursor
	Behind   bool // begin behind what was acknowledged, and not After
	Limit    int
}

// Fetched is the answer to a [Fetch].
type Fetched struct {
	// Closed is why there is no answer: the callback is paused or deleted, or its partner is called and does not fetch (Enabled). Empty: there is one.
	Closed       registry.Status
	Acknowledged Cursor // up to which deliveries were acknowledged
	Given        Cursor // the last that was given
	Next         Cursor // behind which to go on
	More         bool   // there is more by now
	Deliveries   []Fetchable
}

// A Fetchable is a delivery that is to be fetched, or is fetched again.
type Fetchable struct {
	Ref
	Record
	Cursor   Cursor
	Meta     Meta
	LogID    string
	Replayed bool
	Payload  []byte // nil: it has left
}

// Fetch reads what there is to fetch, oldest first: so many, and no more than a megabyte of payload but for the first. Nothing changes by it, but that it can be acknowledged.
func (l *Ledger) Fetch(ctx context.Context, f Fetch) (Fetched, error) {
	after := ""
	if !f.Behind {
		after = strconv.FormatInt(int64(f.After), 10)
	}
	v, err := l.run(ctx, pollScript, f.Company, f.Callback, after, f.Limit, fetchBytes).Result()
	if err != nil {
		return Fetched{}, err
	}
	a := &answer{left: Strings(v)}
	if word := a.text(); word != "open" {
		return Fetched{Closed: registry.Status(a.text())}, a.err
	}
	out := Fetched{Acknowledged: Cursor(a.number()), Given: Cursor(a.number()), Next: Cursor(a.number()), More: a.yes()}
	for a.more() {
		out.Deliveries = append(out.Deliveries, a.fetchable(f.Company))
	}
	if a.err != nil {
		return Fetched{}, fmt.Errorf("what waits for callback %d of company %s: %w", f.Callback, f.Company, a.err)
	}
	return out, nil
}

// fetchable reads a delivery as poll.lua has it.
func (a *answer) fetchable(company string) Fetchable {
	w := Fetchable{Cursor: Cursor(a.number())}
	r, ok := ParseMember(company, a.text())
	if !ok {
		a.err = ErrBadRecord
	}
	w.Ref, w.Record, w.Meta, w.LogID, w.Replayed = r, a.record(), a.meta(), a.text(), a.yes()
	length, body := a.text(), a.text()
	if a.err != nil || body == "" {
		return w
	}
	var err error
	if w.Payload, err = unpack([]byte(body), length); err != nil {
		a.err = err
	}
	return w
}

// A Moved is how far a page of an acknowledgement, or of a seek, came.
type Moved struct {
	Closed       registry.Status // as [Fetched].Closed, but that a paused callback is none
	Ahead        bool            // nobody was ever given that cursor; nothing changed
	Acknowledged Cursor          // as it is now; with Ahead, the last that was given
	Deliveries   int             // that were delivered, or cancelled, by this page
	More         bool            // there is more to do
}

// Acknowledge says that the partner has what it fetched, up to a cursor: a page of that is delivered, the oldest first. It goes no further than any poll came. What
// was acknowledged stays so: there is nothing to do up to an earlier cursor. A kill between two pages leaves what came so far.
func (l *Ledger) Acknowledge(ctx context.Context, company string, callback int64, through Cursor) (Moved, error) {
	line := Entry{Verdict: verdict.Delivered, Reason: verdict.ReasonAcknowledged}.Line()
	line = strings.Replace(line, `"n":0`, `"n":%n`, 1)
	line = strings.Replace(line, `"t":0`, `"t":%t`, 1)
	return l.move(ctx, company, callback, "ack", through, line, "")
}

// Seek goes to a cursor: back, to where what was acknowledged is fetched again, as long as it is kept, and stays delivered; or on, where a page of what waits
// before it is cancelled. line is written to the audit trail, if it is not empty: it belongs to the first page.
func (l *Ledger) Seek(ctx context.Context, company string, callback int64, to Cursor, line string) (Moved, error) {
	return l.move(ctx, company, callback, "seek", to, "", line)
}

func (l *Ledger) move(ctx context.Context, company string, callback int64, how string, to Cursor, attempt, line string) (Moved, error) {
	a, err := l.ask(ctx, ackScript, company, callback, how, int64(to), ackPage, attempt, line)
	if err != nil {
		return Moved{}, err
	}
	switch a.text() {
	case "closed":
		return Moved{Closed: registry.Status(a.text())}, a.err
	case "ahead":
		return Moved{Ahead: true, Acknowledged: Cursor(a.number())}, a.err
	}
	return Moved{Acknowledged: Cursor(a.number()), Deliveries: int(a.number()), More: a.yes()}, a.err
}

// Given are the last cursors that were given of callbacks, in their order; zero of one of which none was.
func (l *Ledger) Given(ctx context.Context, refs []Ref) ([]Cursor, error) {
	all := make([]Cursor, 0, len(refs))
	for len(all) < len(refs) {
		page := refs[len(all):min(len(refs), len(all)+fetchesTogether)]
		p := l.rdb.Pipeline()
		reads := make([]*redis.StringCmd, len(page))
		for i, r := range page {
			reads[i] = p.HGet(ctx, Key(r.Company, "pull:"+strconv.FormatInt(r.Callback, 10)), "at")
		}
		if err := execute(ctx, p); err != nil {
			return nil, err
		}
		for _, read := range reads {
			at, _ := strconv.ParseInt(read.Val(), 10, 64) // none: zero
			all = append(all, Cursor(at))
		}
	}
	return all, nil
}
