package dispatcher

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Health is how a callback does at the moment.
type Health struct {
	Pending int64 `json:"pending"` // deliveries in a lane, under way, or waiting for their next attempt
	Held    int64 `json:"held"`    // deliveries in its room; those that were cancelled in there may still count
	// OldestWaitingAt is when the event of the longest waiting of those was accepted. Zero if nothing waits. Of the deliveries in the lanes,
	// which come and go within seconds, only some are looked at.
	OldestWaitingAt time.Time `json:"oldest_waiting_at,omitzero"`
	Dead            int64     `json:"dead"`                     // its entries in the dead-letter book
	LastSuccessAt   time.Time `json:"last_success_at,omitzero"` // by Redis's clock
	LastFailure     *Failure  `json:"last_failure,omitempty"`
	// ConsecutiveFailures counts the failed attempts since the last success. Those that say nothing about the partner do not count: no access
	// token, an address that may not be called, a sender that stopped.
	ConsecutiveFailures int64 `json:"consecutive_failures"`
	// Breaker is open while a callback that failed ten times in a row is tried carefully: one at a time with pauses of 1 to 10 s while nobody
	// answers, eight at a time while the answers are bad. It is half_open once one was delivered, until as many are let out as ever.
	Breaker Breaker `json:"breaker"`
	// PausedUntil is when the next may be tried, where an open breaker waits for that.
	PausedUntil time.Time `json:"paused_until,omitzero"`
	// LastTokenFailure is the last attempt that got no access token (OAuth2), however long ago that was: LastFailure does not count those.
	LastTokenFailure *Failure `json:"last_token_failure,omitempty"`
}

// A Breaker is a callback's circuit breaker's state.
type Breaker string

// The states of a breaker.
const (
	BreakerClosed   Breaker = "closed"    // nothing is held back
	BreakerOpen     Breaker = "open"      // failing: deliveries are held, and tried a few at a time
	BreakerHalfOpen Breaker = "half_open" // delivering again, more with each success
)

// A Failure is the last attempt that did not deliver, whatever came after it.
type Failure struct {
	At         time.Time `json:"at"` // when it began
	DeliveryID string    `json:"delivery_id"`
	StatusCode int       `json:"status_code,omitempty"`
	Reason     Reason    `json:"reason"`
	Detail     string    `json:"detail"`
}

// healthPage is how many callbacks one script run looks at: a millisecond or two of Redis's time when all are busy.
const healthPage = 10

// Health tells how callbacks do, in the order of ids; one that does not exist does nothing. Errors: [ErrUnavailable].
func (c *Client) Health(ctx context.Context, company string, ids ...int64) ([]Health, error) {
	all := make([]Health, 0, len(ids))
	for page := range slices.Chunk(ids, healthPage) {
		args := make([]any, len(page))
		for i, id := range page {
			args[i] = id
		}
		rows, err := c.run(ctx, healthScript, company, args...).Slice()
		if err == nil && len(rows) != len(args) {
			err = errBadRecord
		}
		if err != nil {
			return nil, unavailable(ctx, c, "reading how callbacks do", err)
		}
		for _, v := range rows {
			row, err := atLeast(10, ledger.Strings(v))
			if err != nil {
				return nil, unavailable(ctx, c, "reading how callbacks do", err)
			}
			all = append(all, readHealth(ctx, company, row))
		}
	}
	return all, nil
}

// readHealth reads a row of health.lua's answer.
func readHealth(ctx context.Context, company string, row []string) Health {
	number := func(i int) int64 {
		n, _ := strconv.ParseInt(row[i], 10, 64)
		return n
	}
	h := Health{Pending: number(0), Held: number(1), OldestWaitingAt: fromMS(number(2)), Dead: number(3), LastSuccessAt: fromMS(number(4))}
	h.LastFailure, h.LastTokenFailure = readFailure(ctx, company, row[5]), readFailure(ctx, company, row[6])
	h.ConsecutiveFailures, h.Breaker, h.PausedUntil = number(7), Breaker(row[8]), fromMS(number(9))
	return h
}

// readFailure reads an attempt as finish.lua notes it, of a delivery, or answer.lua, of a decision: nil if there is none.
func readFailure(ctx context.Context, company, noted string) *Failure {
	name, line, ok := strings.Cut(noted, "\n")
	var e entry
	if !ok || json.Unmarshal([]byte(line), &e) != nil {
		return nil
	}
	e = e.forReader(ctx)
	f := &Failure{At: fromMS(e.Started), DeliveryID: name, StatusCode: e.Status, Reason: e.Reason}
	if r, isDelivery := parseMember(company, name); isDelivery {
		f.DeliveryID, f.Detail = r.deliveryID(), e.detail()
	} else {
		f.Detail = e.decisionDetail()
	}
	return f
}
