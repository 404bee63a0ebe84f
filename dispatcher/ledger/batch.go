package ledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
)

var arriveScript, splitScript = lua.Script("arrive"), lua.Script("split")

// batchMark begins the name that a batch has where a delivery has its event's id. No event's id has it.
const batchMark = "~"

// IsBatch reports whether it names a batch: deliveries to one callback that travel in one request. To a lane, and to the steps of an attempt, a batch is a
// delivery like any other.
func (r Ref) IsBatch() bool { return strings.HasPrefix(r.Event, batchMark) }

// A Batch is what the owner of an attempt of one is told beside what all owners are.
type Batch struct {
	// WebhookID is what the receiver knows it by. It is the same for each attempt with the same members, and for no others.
	WebhookID string
	// Element says how its elements are written, as the callback had it when its members were chosen.
	Element string
	Members []BatchMember
	// RoomWait is in how long the room that they came from is to be pumped; 0: that is not known, or nothing waits there.
	RoomWait time.Duration
}

// A BatchMember is a delivery that travels in a batch.
type BatchMember struct {
	Ref
	Meta     Meta
	Payload  []byte
	Replayed bool // it was replayed before
}

// A Pump says in how long a callback's room is to be pumped.
type Pump struct {
	Callback int64
	Wait     time.Duration
}

// pumps reads what accept.lua says of rooms, as callback:ms, separated by commas.
func (a *answer) pumps() (all []Pump) {
	text := a.text()
	if text == "" {
		return nil
	}
	for word := range strings.SplitSeq(text, ",") {
		id, ms, _ := strings.Cut(word, ":")
		callback, err := strconv.ParseInt(id, 10, 64)
		wait, err2 := strconv.ParseInt(ms, 10, 64)
		if err != nil || err2 != nil {
			a.err = ErrBadRecord
			return nil
		}
		all = append(all, Pump{callback, time.Duration(wait) * time.Millisecond})
	}
	return all
}

// grantBatch reads what begin.lua answers after 'go' of a batch.
func (a *answer) grantBatch(r Ref) (*Grant, error) {
	g := &Grant{Number: int(a.number()), Spent: int(a.number()), Attempts: a.text()}
	b := &Batch{WebhookID: a.text(), Element: a.text()}
	g.LogID, g.Version, g.At, b.RoomWait = a.text(), a.number(), a.at(), a.wait()
	a.text()
	for a.more() {
		m := BatchMember{Ref: Ref{r.Company, a.text(), r.Callback}}
		meta, body, length := a.text(), a.text(), a.text()
		m.Replayed = a.yes()
		if a.err == nil && json.Unmarshal([]byte(meta), &m.Meta) != nil {
			a.err = ErrBadRecord
		}
		if a.err == nil {
			m.Payload, a.err = unpack([]byte(body), length)
		}
		b.Members = append(b.Members, m)
	}
	if a.err == nil && (len(b.Members) == 0 || b.WebhookID == "") {
		a.err = ErrBadRecord
	}
	g.Batch = b
	return g, a.err
}

// Batched is the name of the batch that a delivery with this record travels in; ok is false if it travels by itself.
func (r Record) Batched() (name string, ok bool) {
	name, ok = strings.CutPrefix(r.Token, batchMark)
	return name, ok && r.State == 'A'
}

// Arrive records which members of a batch an attempt delivered, where the answer spoke of each. f is what is recorded of the attempt, before it is finished for
// the others: attempts, what is spent, its owner. left is how many those are. ok is false if the attempt has another owner by now.
func (l *Ledger) Arrive(ctx context.Context, f Finish, events []string) (left int, ok bool, err error) {
	args := []any{f.Member(), f.Token, f.Attempts, f.Spent}
	for _, event := range events {
		args = append(args, event)
	}
	a, err := l.ask(ctx, arriveScript, f.Company, args...)
	if err != nil || a.text() != "ok" {
		return 0, false, err
	}
	left = int(a.number())
	return left, a.err == nil, a.err
}

// Split has the second half of a batch travel by itself, for its receiver takes no request as large. f is what is recorded of the attempt. Both halves may go at
// once. If the batch has a single member, or the attempt has another owner by now, there are none.
func (l *Ledger) Split(ctx context.Context, f Finish) (halves []Ticket, err error) {
	a, err := l.ask(ctx, splitScript, f.Company, f.Member(), f.Token, f.Attempts, f.Spent, rand.Text())
	if err != nil || a.text() != "ok" {
		return nil, err
	}
	return l.tickets(ctx, f.Company, a), a.err
}
