package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/registry"
)

// ErrEgressPaused says that nothing goes out at the moment.
var ErrEgressPaused = errors.New("an operator has paused everything that goes out, decisions too: nobody was asked; try again when one has resumed it (`ringback egress resume`)")

// The states of everything that goes out.
const (
	EgressRunning = "running"
	EgressPaused  = "paused"
)

// Egress is whether anything goes out.
type Egress struct {
	Status string    `json:"status"`         // EgressRunning or EgressPaused
	Since  time.Time `json:"since,omitzero"` // when the first of the lanes that are paused was
}

// PauseEgress stops all that goes out of the installation, deliveries, decisions and tests alike; asynq's queues are paused, too. Events are
// accepted as ever. Once it returns, no process begins an attempt; those under way finish. Pausing twice changes nothing. It lasts until
// [Client.ResumeEgress], or until Redis loses its data. Error: [ErrUnavailable].
func (c *Client) PauseEgress(ctx context.Context) (Egress, error) {
	if err := c.lanes.Pause(ctx, registry.AuditLine(ctx, "", "egress.pause", "egress")); err != nil {
		return Egress{}, unavailable(ctx, c, "pausing the lanes", err)
	}
	c.log.WarnContext(ctx, "egress paused: nothing goes out until it is resumed")
	timer := time.NewTimer(2 * lanes.HaltLook) // until every process has looked, and what it let go before has begun
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return c.Egress(ctx)
}

// ResumeEgress lets everything out that PauseEgress, or asynq's UI, stopped. Error: [ErrUnavailable].
func (c *Client) ResumeEgress(ctx context.Context) (Egress, error) {
	if err := c.lanes.Resume(ctx, registry.AuditLine(ctx, "", "egress.resume", "egress")); err != nil {
		return Egress{}, unavailable(ctx, c, "resuming the lanes", err)
	}
	c.log.InfoContext(ctx, "egress resumed")
	return c.Egress(ctx)
}

// Egress tells whether everything goes out: paused if any lane is, be it in asynq's UI, or because PauseEgress or ResumeEgress was cut off. Resuming mends it.
// Error: [ErrUnavailable].
func (c *Client) Egress(ctx context.Context) (Egress, error) {
	seen, err := c.lanes.Paused(ctx)
	if err != nil {
		return Egress{}, unavailable(ctx, c, "reading whether the lanes are paused", err)
	}
	return egressOf(seen), nil
}

func egressOf(seen lanes.Pauses) Egress {
	if seen.None() {
		return Egress{Status: EgressRunning}
	}
	return Egress{EgressPaused, seen.Since()}
}
