package ledger

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
)

var healthScript, challengeScript = lua.Script("health"), lua.Script("challenge")

// healthPage is how many callbacks one script run looks at: a millisecond or two of Redis's time when all are busy.
const healthPage = 10

// A Health is how a callback does, as Redis has it.
type Health struct {
	Pending       int64 // deliveries in a lane, under way, or waiting for their next attempt
	Held          int64
	OldestWaiting time.Time // when the event of the longest waiting was accepted
	Dead          int64
	LastSuccess   time.Time
	LastFailure   *Failure
	TokenFailure  *Failure // the last attempt that got no access token
	Failures      int64    // in a row
	Breaker       Breaker
	PausedUntil   time.Time
}

// A Breaker is a callback's circuit breaker's state.
type Breaker string

// The states of a breaker.
const (
	BreakerClosed   Breaker = "closed"    // nothing is held back
	BreakerOpen     Breaker = "open"      // failing: deliveries are held, and tried a few at a time
	BreakerHalfOpen Breaker = "half_open" // delivering again, more with each success
)

// breakerOf is a breaker's state, by whether it bounds what goes out, and by the failures in a row.
func breakerOf(bounds bool, failures int64) Breaker {
	switch {
	case !bounds:
		return BreakerClosed
	case failures > 0:
		return BreakerOpen
	}
	return BreakerHalfOpen
}

// A Failure is an attempt that did not deliver, of a delivery or of a decision.
type Failure struct {
	Ref      Ref    // zero: of a decision
	Decision string // its id
	Entry
}

// Health tells how callbacks do, in the order of ids.
func (l *Ledger) Health(ctx context.Context, company string, ids ...int64) ([]Health, error) {
	all := make([]Health, 0, len(ids))
	for page := range slices.Chunk(ids, healthPage) {
		args := make([]any, len(page))
		for i, id := range page {
			args[i] = id
		}
		rows, err := l.run(ctx, healthScript, company, args...).Slice()
		if err == nil && len(rows) != len(page) {
			err = ErrBadRecord
		}
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			a := &answer{left: Strings(row)}
			h := Health{
				Pending: a.number(), Held: a.number(), OldestWaiting: a.at(), Dead: a.number(), LastSuccess: a.at(),
				LastFailure: a.failure(company), TokenFailure: a.failure(company), Failures: a.number(),
			}
			h.Breaker, h.PausedUntil = breakerOf(a.yes(), h.Failures), a.at()
			all = append(all, h)
			if a.err != nil {
				return nil, a.err
			}
		}
	}
	return all, nil
}

// failure reads an attempt as finish.lua notes it, of a delivery, or answer.lua, of a decision: nil if there is none.
func (a *answer) failure(company string) *Failure {
	name, line, ok := strings.Cut(a.text(), "\n")
	f := &Failure{Decision: name}
	if !ok || json.Unmarshal([]byte(line), &f.Entry) != nil {
		return nil
	}
	if r, isDelivery := ParseMember(company, name); isDelivery {
		f.Ref, f.Decision = r, ""
	}
	return f
}

// ReserveChallenge counts a challenge to hosts as failed until it succeeds, or says for how long there must be none, since too many failed.
func (l *Ledger) ReserveChallenge(ctx context.Context, company string, hosts ...string) (wait time.Duration, err error) {
	args := make([]any, len(hosts))
	for i, host := range hosts {
		args[i] = host
	}
	ms, err := l.run(ctx, challengeScript, company, args...).Int64()
	return time.Duration(ms) * time.Millisecond, err
}

// ForgetChallenges forgets that challenges to hosts failed.
func (l *Ledger) ForgetChallenges(ctx context.Context, company string, hosts ...string) error {
	return l.rdb.HDel(ctx, Key(company, "challenges"), hosts...).Err()
}
