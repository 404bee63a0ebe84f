package dispatcher

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// haltLook is for how long a process goes on once it has seen that no lane is paused: what does not come out of a lane asks.
const haltLook = 250 * time.Millisecond

// ErrEgressPaused says that nothing goes out at the moment.
var ErrEgressPaused = errors.New("an operator has paused everything that goes out, decisions too: nobody was asked; try again after `ringback egress resume`")

// The states of everything that goes out.
const (
	EgressRunning = "running"
	EgressPaused  = "paused"
)

// Egress is whether anything goes out.
type Egress struct {
	Status string    `json:"status"` // EgressRunning or EgressPaused
	Since  time.Time `json:"since,omitzero"`
}

// PauseEgress stops all that goes out of the installation, deliveries, decisions and tests alike, by pausing asynq's queues; events are
// accepted as ever. Once it returns, no process begins an attempt; those under way finish. Pausing twice changes nothing. It lasts until
// [Client.ResumeEgress], or until Redis loses its data. Error: [ErrUnavailable].
func (c *Client) PauseEgress(ctx context.Context) (Egress, error) {
	for _, lane := range queues {
		if err := c.inspector.PauseQueue(lane); err != nil && !c.pausedNow(ctx, lane) {
			return Egress{}, unavailable(ctx, c, "pausing the lanes", err)
		}
	}
	c.log.WarnContext(ctx, "egress paused: nothing goes out until it is resumed")
	timer := time.NewTimer(haltLook) // until every process has looked
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return c.Egress(ctx)
}

// ResumeEgress lets everything out that PauseEgress, or asynq's UI, stopped. Error: [ErrUnavailable].
func (c *Client) ResumeEgress(ctx context.Context) (Egress, error) {
	for _, lane := range queues {
		if err := c.inspector.UnpauseQueue(lane); err != nil && c.pausedNow(ctx, lane) {
			return Egress{}, unavailable(ctx, c, "resuming the lanes", err)
		}
	}
	c.log.InfoContext(ctx, "egress resumed")
	return c.Egress(ctx)
}

// Egress tells whether anything goes out: paused if all lanes are. Error: [ErrUnavailable].
func (c *Client) Egress(ctx context.Context) (Egress, error) {
	since, err := c.pausedSince(ctx)
	if err != nil {
		return Egress{}, unavailable(ctx, c, "reading whether the lanes are paused", err)
	}
	return egressOf(since), nil
}

func egressOf(since map[string]time.Time) Egress {
	e := Egress{Status: EgressPaused}
	for _, lane := range queues {
		at := since[lane]
		if at.IsZero() {
			return Egress{Status: EgressRunning}
		}
		if at.After(e.Since) {
			e.Since = at
		}
	}
	return e
}

func (c *Client) pausedNow(ctx context.Context, lane string) bool {
	since, err := c.pausedSince(ctx)
	return err == nil && !since[lane].IsZero()
}

// pausedSince says which lanes are paused. asynq keeps that in a key of each queue, whose value is the time in seconds.
func (c *Client) pausedSince(ctx context.Context) (map[string]time.Time, error) {
	reads := make([]*redis.StringCmd, len(queues))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range queues {
			reads[i] = p.Get(ctx, "asynq:{"+lane+"}:paused")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	since := make(map[string]time.Time)
	for i, lane := range queues {
		text, err := reads[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
			since[lane] = time.Unix(seconds, 0).UTC()
		}
	}
	return since, nil
}

// stopped is what a process knows of the lanes that are paused.
type stopped struct {
	mu    sync.Mutex
	at    time.Time
	since map[string]time.Time // by lane
}

// stoppedLanes are the paused lanes. That there is none may be known for a quarter of a second; while Redis does not answer, they are as they
// were before.
func (c *Client) stoppedLanes(ctx context.Context) map[string]time.Time {
	s := &c.stopped
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.at) >= haltLook || len(s.since) > 0 {
		if since, err := c.pausedSince(ctx); err == nil {
			s.at, s.since = now, since
		}
	}
	return s.since
}

// halted reports whether the lane of a delivery, given by its member, is paused.
func (c *Client) halted(ctx context.Context, company, member string) bool {
	r, ok := parseMember(company, member)
	return ok && !c.stoppedLanes(ctx)[r.queue()].IsZero()
}

// egressHalted reports whether everything is.
func (c *Client) egressHalted(ctx context.Context) bool {
	return egressOf(c.stoppedLanes(ctx)).Status == EgressPaused
}
