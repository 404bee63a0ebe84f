package dispatcher

import (
	"context"
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

// A Breaker is a callback's circuit breaker's state; its values are package ledger's.
type Breaker = ledger.Breaker

// The states of a breaker; see package ledger.
const (
	BreakerClosed   = ledger.BreakerClosed
	BreakerOpen     = ledger.BreakerOpen
	BreakerHalfOpen = ledger.BreakerHalfOpen
)

// A Failure is the last attempt that did not deliver, whatever came after it.
type Failure struct {
	At         time.Time `json:"at"` // when it began
	DeliveryID string    `json:"delivery_id"`
	StatusCode int       `json:"status_code,omitempty"`
	Reason     Reason    `json:"reason"`
	Detail     string    `json:"detail"`
}

// Health tells how callbacks do, in the order of ids; one that does not exist does nothing. Errors: [ErrUnavailable].
func (c *Client) Health(ctx context.Context, company string, ids ...int64) ([]Health, error) {
	found, err := c.ledger.Health(ctx, company, ids...)
	if err != nil {
		return nil, unavailable(ctx, c, "reading how callbacks do", err)
	}
	all := make([]Health, len(found))
	for i, h := range found {
		all[i] = Health{
			Pending: h.Pending, Held: h.Held, OldestWaitingAt: h.OldestWaiting, Dead: h.Dead, LastSuccessAt: h.LastSuccess,
			LastFailure: shownFailure(ctx, h.LastFailure), ConsecutiveFailures: h.Failures, Breaker: h.Breaker, PausedUntil: h.PausedUntil,
			LastTokenFailure: shownFailure(ctx, h.TokenFailure),
		}
	}
	return all, nil
}

// shownFailure is a failure as the reader behind ctx may see it; nil if there is none.
func shownFailure(ctx context.Context, f *ledger.Failure) *Failure {
	if f == nil {
		return nil
	}
	e := forReader(ctx, f.Entry)
	shown := &Failure{At: ledger.FromMS(e.Started), DeliveryID: f.Decision, StatusCode: e.Status, Reason: e.Reason}
	if f.Decision == "" {
		shown.DeliveryID, shown.Detail = f.Ref.DeliveryID(), e.Detail()
	} else {
		shown.Detail = e.DecisionDetail()
	}
	return shown
}
