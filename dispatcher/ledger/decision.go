package ledger

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var askScript, answerScript = lua.Acting("ask", `reply[1] == 'go'`), lua.Acting("answer", `true`)

// A Question asks for a decision of one of a company's callbacks.
type Question struct {
	ID          string // of the decision
	Type        string
	Version     int64   // of the registry that the callbacks were matched by
	Callbacks   []int64 // that match
	Lease       time.Duration
	TraceParent string
}

// An Election is how the choice of the callback to ask ended. Only one of its fields is set, or none: then nobody may be asked.
type Election struct {
	Outdated bool                     // the registry is at another version than the question
	Version  int64                    // Outdated: that
	Several  []int64                  // more than one callback that may be asked
	Closed   []int64                  // callbacks none of which may be asked, as Gates say
	Gates    map[int64]*registry.Gate // of those
	Chosen   int64                    // the callback: the decision's record is open
	At       time.Time                // when that was, by Redis's clock
}

// Elect opens the record of a decision, if exactly one of the callbacks may be asked.
func (l *Ledger) Elect(ctx context.Context, company string, q Question) (Election, error) {
	args := []any{q.Version, q.ID, q.Type, q.Lease.Milliseconds(), q.TraceParent}
	for _, cb := range q.Callbacks {
		args = append(args, cb)
	}
	a, err := l.ask(ctx, askScript, company, args...)
	if err != nil {
		return Election{}, err
	}
	var e Election
	switch a.text() {
	case "version":
		e.Outdated, e.Version = true, a.number()
	case "go":
		e.Chosen, e.At = a.number(), a.at()
	case "several":
		for a.more() {
			e.Several = append(e.Several, a.number())
		}
	case "closed":
		e.Gates = make(map[int64]*registry.Gate)
		for a.more() {
			id := a.number()
			gate, _ := registry.ParseGate(a.text()) // one that cannot be read is closed as well
			e.Closed, e.Gates[id] = append(e.Closed, id), &gate
		}
	case "none":
	default:
		a.err = ErrBadRecord
	}
	return e, a.err
}

// RecordDecision writes down what came of a decision, and what is kept of the exchange beside that, if anything is. health is the field of the callback's
// health that notes it: ok, bad, token, or none.
func (l *Ledger) RecordDecision(ctx context.Context, company, id string, e Entry, sent *Sent, health string) error {
	var kept []byte
	if sent != nil {
		kept = sent.Text()
	}
	return l.run(ctx, answerScript, company, id, e.Line(), health, kept).Err()
}

// A Decision is one as it is recorded.
type Decision struct {
	ID          string
	Type        string
	Callback    int64
	Asked       time.Time
	Lease       time.Time // until when whoever asked may still be waiting
	TraceParent string
	Attempt     *Entry // nil: nothing is written down yet
	Sent        *Sent  // nil: nothing is kept of it
}

// Decisions reads several; nil where one is gone.
func (l *Ledger) Decisions(ctx context.Context, company string, ids []string) ([]*Decision, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	pipe := l.rdb.Pipeline()
	reads := make([]*redis.MapStringStringCmd, len(ids))
	for i, id := range ids {
		reads[i] = pipe.HGetAll(ctx, Key(company, "ask:"+id))
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	found := make([]*Decision, len(ids))
	for i, id := range ids {
		fields := reads[i].Val()
		if len(fields) == 0 {
			continue
		}
		ms := func(name string) int64 {
			n, _ := strconv.ParseInt(fields[name], 10, 64)
			return n
		}
		d := &Decision{ID: id, Type: fields["t"], Callback: ms("c"), Asked: FromMS(ms("a")), Lease: FromMS(ms("u")), TraceParent: fields["p"]}
		var e Entry
		if json.Unmarshal([]byte(fields["e"]), &e) == nil {
			d.Attempt = &e
		}
		d.Sent = parseSent(fields["q"])
		found[i] = d
	}
	return found, nil
}
