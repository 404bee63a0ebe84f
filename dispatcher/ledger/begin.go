package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
)

var (
	beginScript   = lua.Script("begin")
	unbeginScript = lua.Script("unbegin")
)

// A Claim asks for the next attempt of a delivery.
type Claim struct {
	Ref
	Generation int64  // of the task that brought it
	Token      string // names the attempt's owner
	Lease      time.Duration
	NoTurn     bool          // the worker has no turn left for the callback
	Barred     bool          // the worker may not call the callback's host name
	Early      time.Duration // how long before its time a retry may begin
}

// A Grant is what the owner of an attempt that has begun is told.
type Grant struct {
	Number   int    // of the attempt
	Spent    int    // attempts before it that count against the callback's budget
	Attempts string // the record's lines
	Meta     Meta
	Payload  []byte    // empty: it is long, and is to be read by itself, with Payload
	LogID    string    // of the event
	Version  int64     // of the registry
	At       time.Time // by Redis's clock
	Replayed bool      // the delivery was replayed before
	Sequence int64     // its number among those of its callback and key; 0: it has no order
	Batch    *Batch    // of a batch, which has no Meta, Payload and Replayed of its own; nil: of a delivery
}

// A ClaimOutcome is how a [Claim] ended.
type ClaimOutcome int

const (
	// Begun means that the attempt is the claimant's to make.
	Begun ClaimOutcome = iota + 1
	// TooEarly means that its time has not come.
	TooEarly
	// WaitsInRoom means that it may not go now, and is in its callback's room.
	WaitsInRoom
	// NothingToDo means that it is gone, done, cancelled, somebody else's, or of another generation.
	NothingToDo
)

// A Claimed is the answer to a [Claim].
type Claimed struct {
	Outcome  ClaimOutcome
	Grant    *Grant        // Begun
	Wait     time.Duration // TooEarly: until its time; WaitsInRoom: until time lets something out of the room, 0 if only room can
	Attempts string        // TooEarly: the record's lines
}

// Begin begins an attempt, if it is due and the claimant's. A claim that is repeated with its token has the same answer.
func (l *Ledger) Begin(ctx context.Context, c Claim) (Claimed, error) {
	a, err := l.step(ctx, beginScript, c.Ref, c.Generation, c.Token, c.Lease.Milliseconds(), c.NoTurn, c.Barred, c.Early.Milliseconds())
	if err != nil {
		return Claimed{}, err
	}
	out := Claimed{Outcome: NothingToDo}
	switch a.text() {
	case "go":
		out.Outcome = Begun
		if out.Grant, err = a.grant(c.Ref); err != nil {
			l.unbeginUnread(ctx, c.Ref, c.Token)
			return Claimed{}, err
		}
	case "early":
		out = Claimed{Outcome: TooEarly, Wait: a.wait()}
		if a.more() {
			out.Attempts = a.text()
		}
	case "held":
		out = Claimed{Outcome: WaitsInRoom, Wait: a.wait()}
	}
	return out, a.err
}

// grant reads what begin.lua answers after 'go'.
func (a *answer) grant(r Ref) (*Grant, error) {
	if r.IsBatch() {
		return a.grantBatch(r)
	}
	g := &Grant{
		Number: int(a.number()), Spent: int(a.number()), Attempts: a.text(), Meta: a.meta(), Payload: []byte(a.text()), LogID: a.text(),
		Version: a.number(), At: a.at(), Replayed: a.yes(),
	}
	length := a.text()
	if a.err == nil && len(g.Payload) > 0 {
		g.Payload, a.err = unpack(g.Payload, length)
	}
	if a.more() {
		g.Sequence = a.number()
	}
	return g, a.err
}

// grantBatch reads what begin.lua answers after 'go' of a batch.
func (a *answer) grantBatch(r Ref) (*Grant, error) {
	g := &Grant{Number: int(a.number()), Spent: int(a.number()), Attempts: a.text()}
	b := &Batch{WebhookID: a.text(), Element: a.text()}
	g.LogID, g.Version, g.At, b.RoomWait = a.text(), a.number(), a.at(), a.wait()
	a.text()
	for a.more() {
		words := strings.Split(a.text(), " ")
		meta, body := a.text(), a.text()
		if len(words) != 3 {
			a.err = ErrBadRecord
			break
		}
		m := BatchMember{Ref: Ref{r.Company, words[0], r.Callback}, Accepted: LogTime(words[1])}
		if a.err == nil && json.Unmarshal([]byte(meta), &m.Meta) != nil {
			a.err = ErrBadRecord
		}
		if a.err == nil {
			m.Payload, a.err = unpack([]byte(body), words[2])
		}
		b.Members = append(b.Members, m)
	}
	if a.err == nil && (len(b.Members) == 0 || b.WebhookID == "") {
		a.err = ErrBadRecord
	}
	g.Batch = b
	return g, a.err
}

// Unbegin takes back that an attempt has begun, of which nothing went out. If it has another owner, nothing changes.
func (l *Ledger) Unbegin(ctx context.Context, r Ref, token string) error {
	return l.run(ctx, unbeginScript, r.Company, r.Member(), token).Err()
}

// unbeginUnread takes back an attempt whose grant cannot be read. If that fails, it counts as lost.
func (l *Ledger) unbeginUnread(ctx context.Context, r Ref, token string) {
	if err := l.Unbegin(context.WithoutCancel(ctx), r, token); err != nil {
		l.log.WarnContext(ctx, "attempt is not taken back; it will count as lost", "delivery", r.DeliveryID(), "error", err)
	}
}

// ErrBodyLeft says that an event is kept without its payload.
var ErrBodyLeft = errors.New("the event's body is no longer kept: bodies leave some time after the last delivery has ended (serve --body-retention says when); send it anew under another event_id if it has to go out again")

// Payload reads an event's by itself. Errors: [ErrBodyLeft], and redis.Nil if there is no such event.
func (l *Ledger) Payload(ctx context.Context, company, event string) ([]byte, error) {
	found, err := l.rdb.HMGet(ctx, EventKey(company, event), "b", "z", "m").Result()
	if err != nil {
		return nil, err
	}
	a := &answer{left: Strings(found)}
	body, length, meta := a.text(), a.text(), a.text()
	switch {
	case a.err != nil:
		return nil, a.err
	case body == "" && meta == "":
		return nil, redis.Nil
	case body == "":
		return nil, ErrBodyLeft
	}
	return unpack([]byte(body), length)
}
