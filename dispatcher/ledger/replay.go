package ledger

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

var (
	sweepScript       = lua.Script("sweep")
	startReplayScript = lua.Acting("replay_start", `reply[1] == 'ok'`)
	stopReplayScript  = lua.Script("replay_stop")
)

const (
	// replayKept is how long a replay is shown after its end.
	replayKept = 7 * 24 * time.Hour
	// countKept is how long a replay is shown that only counted.
	countKept = time.Hour
	// sweepPage is how many of the log's entries one script run looks at: a few milliseconds of Redis's time if all of them match.
	sweepPage = 100
	// sweepsTogether is how many are read in one round trip.
	sweepsTogether = 500
)

// A Sweep is a replay of many of a callback's deliveries, as it is stored.
type Sweep struct {
	ID        string
	Callback  int64
	State     string // running, done, cancelled, dry_run
	Matched   int64  // counted before it began
	Bodiless  int64  // the same: those that would match, if their events still had bodies
	Replayed  int64  // so far
	States    []State
	Span      Span
	EventType string // empty: any
	Reason    verdict.Reason
	Pace      int64  // so many a second; 0: as fast as the room takes them
	Bulk      string // the bulk replay that it is a part of; empty: none
	Created   time.Time
	Finished  time.Time // zero: it runs
}

func replayKey(company, id string) string { return Key(company, "replay:"+id) }

// replayable are the states that a replay may start from, as records have them. Retrying ones go at once, and keep their budget; by a program of before,
// which is not asked for them, they would get a new one.
var replayable = map[State]string{Dead: "X", Delivered: "D", Cancelled: "C", Retrying: "R"}

// Replayable reports whether a delivery in a state may be replayed by a [Sweep].
func (s State) Replayable() bool { return replayable[s] != "" }

func (s *Sweep) letters() string { return replayLetters(s.States) }

// replayLetters are the states of a replay as it is stored.
func replayLetters(states []State) string {
	var b strings.Builder
	for _, state := range states {
		b.WriteString(replayable[state])
	}
	return b.String()
}

// replayStates is the inverse of replayLetters.
func replayStates(letters string) (states []State) {
	for _, state := range States {
		if letter := replayable[state]; letter != "" && strings.Contains(letters, letter) {
			states = append(states, state)
		}
	}
	return states
}

// CountSweep counts a page of what a sweep would replay, and of what it would if that still had bodies, from a place in the log on (empty to begin). It
// returns the next place (empty at the end).
func (l *Ledger) CountSweep(ctx context.Context, company string, s *Sweep, from string) (matched, bodiless int64, next string, err error) {
	oldest, newest := s.Span.bounds()
	if from == "" {
		from = oldest
	}
	a, err := l.ask(ctx, sweepScript, company, "count", s.Callback, s.letters(), s.EventType, string(s.Reason), newest, 2*sweepPage, from)
	if err != nil {
		return 0, 0, "", err
	}
	next, matched, bodiless = a.text(), a.number(), a.number()
	return matched, bodiless, next, a.err
}

// StoreSweep writes a new sweep down, and line to the audit trail; if it runs, the workers go on with it. Errors: a *registry.QuotaError if as many
// run as may.
func (l *Ledger) StoreSweep(ctx context.Context, company string, s *Sweep, line string) error {
	from, _ := s.Span.bounds()
	args := []any{
		s.ID, replayKept.Milliseconds(), countKept.Milliseconds(), registry.DefaultReplays, line, "cb", s.Callback, "state", s.State, "matched", s.Matched, "bodiless", s.Bodiless, "replayed", 0, "states", s.letters(),
		"since", toMS(s.Span.Since), "until", toMS(s.Span.Until), "type", s.EventType, "reason", string(s.Reason),
		"created", toMS(s.Created), "finished", toMS(s.Finished), "from", from,
	}
	if s.Pace > 0 {
		args = append(args, "pace", s.Pace)
	}
	if s.Bulk != "" {
		args = append(args, "bulk", s.Bulk)
	}
	a, err := l.ask(ctx, startReplayScript, company, args...)
	if err != nil {
		return err
	}
	if len(a.left) > 0 && a.left[0] == "quota" {
		return registry.ReadQuota(registry.QuotaReplays, company, a.left)
	}
	return nil
}

// Sweep reads one, nil if there is none.
func (l *Ledger) Sweep(ctx context.Context, company, id string) (*Sweep, error) {
	fields, err := l.rdb.HGetAll(ctx, replayKey(company, id)).Result()
	if err != nil || len(fields) == 0 {
		return nil, err
	}
	return readSweep(id, fields), nil
}

// SweepsOf reads several, nil for each that there is none of.
func (l *Ledger) SweepsOf(ctx context.Context, company string, ids []string) ([]*Sweep, error) {
	all := make([]*Sweep, 0, len(ids))
	for page := range slices.Chunk(ids, sweepsTogether) {
		reads := make([]*redis.MapStringStringCmd, len(page))
		p := l.rdb.Pipeline()
		for i, id := range page {
			reads[i] = p.HGetAll(ctx, replayKey(company, id))
		}
		if err := execute(ctx, p); err != nil {
			return nil, err
		}
		for i, read := range reads {
			var s *Sweep
			if fields := read.Val(); len(fields) > 0 {
				s = readSweep(page[i], fields)
			}
			all = append(all, s)
		}
	}
	return all, nil
}

func readSweep(id string, fields map[string]string) *Sweep {
	number := func(name string) int64 {
		n, _ := strconv.ParseInt(fields[name], 10, 64)
		return n
	}
	s := &Sweep{
		ID: id, Callback: number("cb"), State: fields["state"], Matched: number("matched"), Bodiless: number("bodiless"), Replayed: number("replayed"),
		Span: Span{FromMS(number("since")), FromMS(number("until"))}, EventType: fields["type"], Reason: verdict.Reason(fields["reason"]),
		Pace: number("pace"), Bulk: fields["bulk"], Created: FromMS(number("created")), Finished: FromMS(number("finished")),
	}
	s.States = replayStates(fields["states"])
	return s
}

// Sweeps are the ids of a company's, newest first, so many at most.
func (l *Ledger) Sweeps(ctx context.Context, company string, limit int64) ([]string, error) {
	return l.rdb.ZRevRange(ctx, Key(company, "replays"), 0, limit-1).Result()
}

// ForgetSweep takes one out of that list whose days are over.
func (l *Ledger) ForgetSweep(ctx context.Context, company, id string) error {
	return l.rdb.ZRem(ctx, Key(company, "replays"), id).Err()
}

// RunningSweeps is how many run.
func (l *Ledger) RunningSweeps(ctx context.Context, company string) (int64, error) {
	return l.rdb.SCard(ctx, Key(company, "replaying")).Result()
}

// AnySweeps are some of those that run, in no order.
func (l *Ledger) AnySweeps(ctx context.Context, company string, limit int64) ([]string, error) {
	return l.rdb.SRandMemberN(ctx, Key(company, "replaying"), limit).Result()
}

// EndSweep takes one that is gone out of those that run.
func (l *Ledger) EndSweep(ctx context.Context, company, id string) error {
	return l.rdb.SRem(ctx, Key(company, "replaying"), id).Err()
}

// CancelSweep ends one, if it runs, and writes line to the audit trail. ok is false if there is none.
func (l *Ledger) CancelSweep(ctx context.Context, company, id, line string) (ok bool, err error) {
	n, err := l.run(ctx, stopReplayScript, company, id, replayKept.Milliseconds(), line).Int()
	return n > 0, err
}

// A Swept is a page that a sweep replayed.
type Swept struct {
	Wait     bool     // the room is full enough: nothing was replayed
	Done     bool     // it was the last page
	Released []Ticket // what may go
}

// GoOnSweeping replays the next page.
func (l *Ledger) GoOnSweeping(ctx context.Context, company string, s *Sweep) (Swept, error) {
	_, newest := s.Span.bounds()
	a, err := l.ask(ctx, sweepScript, company, "replay", s.Callback, s.letters(), s.EventType, string(s.Reason), newest, sweepPage, s.ID, replayKept.Milliseconds())
	if err != nil {
		return Swept{}, err
	}
	next := a.text()
	if next == "wait" {
		return Swept{Wait: true}, nil
	}
	a.number() // matched
	a.number() // without a body
	out := Swept{Done: next == "", Released: l.tickets(ctx, company, a)}
	return out, a.err
}
