package dispatcher

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// haltLook is for how long a process goes on once it has seen that no lane is paused. Before each attempt begins it asks itself, for asynq may have
// given it the task just before the pause, and what goes on in a chain, begins as it is accepted, or is asked or tested, comes out of no lane. If
// the beginning took longer than this, it asks again, and takes back what has begun.
const haltLook = 250 * time.Millisecond

// glance is how long an event that is being accepted waits for such a look, where nobody has looked lately. Without one, its deliveries go by the lanes.
const glance = 100 * time.Millisecond

// ErrEgressPaused says that nothing goes out at the moment.
var ErrEgressPaused = errors.New("an operator has paused everything that goes out, decisions too: nobody was asked; try again after `ringback egress resume`")

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

// PauseEgress stops all that goes out of the installation, deliveries, decisions and tests alike, by pausing asynq's queues; events are
// accepted as ever. Once it returns, no process begins an attempt; those under way finish. Pausing twice changes nothing. It lasts until
// [Client.ResumeEgress], or until Redis loses its data. Error: [ErrUnavailable].
func (c *Client) PauseEgress(ctx context.Context) (Egress, error) {
	if err := c.halt(ctx, "pause", "egress.pause"); err != nil {
		return Egress{}, unavailable(ctx, c, "pausing the lanes", err)
	}
	c.log.WarnContext(ctx, "egress paused: nothing goes out until it is resumed")
	timer := time.NewTimer(2 * haltLook) // until every process has looked, and what it let go before has begun
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return c.Egress(ctx)
}

// ResumeEgress lets everything out that PauseEgress, or asynq's UI, stopped. Error: [ErrUnavailable].
func (c *Client) ResumeEgress(ctx context.Context) (Egress, error) {
	if err := c.halt(ctx, "resume", "egress.resume"); err != nil {
		return Egress{}, unavailable(ctx, c, "resuming the lanes", err)
	}
	c.log.InfoContext(ctx, "egress resumed")
	return c.Egress(ctx)
}

// Egress tells whether everything goes out: paused if any lane is, be it in asynq's UI, or because PauseEgress was cut off. Resuming mends it.
// Error: [ErrUnavailable].
func (c *Client) Egress(ctx context.Context) (Egress, error) {
	since, err := c.pausedSince(ctx)
	if err != nil {
		return Egress{}, unavailable(ctx, c, "reading whether the lanes are paused", err)
	}
	return egressOf(since), nil
}

func egressOf(since map[string]time.Time) Egress {
	e := Egress{Status: EgressRunning}
	for _, at := range since {
		if e.Since.IsZero() || at.Before(e.Since) {
			e = Egress{EgressPaused, at}
		}
	}
	return e
}

// halt pauses or resumes all lanes and, if that changes any, writes a line of the audit trail, in one script. The keys are asynq's own. A
// Redis Cluster has them in several slots: there the lanes follow one by one, and the line comes first.
func (c *Client) halt(ctx context.Context, what, action string) error {
	keys := make([]string, len(queues))
	for i, lane := range queues {
		keys[i] = pausedKey(lane)
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	line := registry.AuditLine(ctx, "", action, "egress")
	if _, ok := c.rdb.(*redis.ClusterClient); ok {
		return c.haltCluster(ctx, what, keys, now.Unix(), line)
	}
	if err := c.ledger.Halt(ctx, keys, what == "resume", now, line); err != nil {
		return err
	}
	for _, lane := range queues { // what is in them may be taken again
		c.bell.Ring(ctx, lane)
	}
	return nil
}

func (c *Client) haltCluster(ctx context.Context, what string, keys []string, now int64, line string) error {
	since, err := c.pausedSince(ctx)
	if err != nil {
		return err
	}
	if what == "resume" && len(since) > 0 || what == "pause" && len(since) < len(keys) {
		if err := registry.WriteAudit(ctx, c.rdb, registry.AuditKeyOfAll, line); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if what == "resume" {
			err = c.rdb.Del(ctx, key).Err()
		} else {
			err = c.rdb.SetNX(ctx, key, now, 0).Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pausedKey(lane string) string { return "asynq:{" + lane + "}:paused" }

// pausedSince are the lanes that are paused. asynq keeps that in a key of each queue, whose value is the time in seconds.
func (c *Client) pausedSince(ctx context.Context) (map[string]time.Time, error) {
	reads := make([]*redis.StringCmd, len(queues))
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range queues {
			reads[i] = p.Get(ctx, pausedKey(lane))
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

// stopped is what a process knows of the lanes that are paused. One caller looks, the others go on with what was seen last.
type stopped struct {
	last   atomic.Pointer[look]
	asking atomic.Bool
}

// A look is what somebody saw.
type look struct {
	at     time.Time            // before which it was so; of one that failed, when it did
	since  map[string]time.Time // by lane; of one that failed, as the look before
	failed bool
}

// holds reports whether nobody has to look anew: that a lane is paused is asked each time, so that a resume is seen at once.
func (l *look) holds() bool {
	return l != nil && time.Since(l.at) < haltLook && (l.failed || len(l.since) == 0)
}

// running reports whether a lane is known to run, without a look.
func (s *stopped) running(lane string) bool {
	last := s.last.Load()
	return last != nil && !last.failed && time.Since(last.at) < haltLook && last.since[lane].IsZero()
}

// stoppedLanes are the paused lanes. That there is none may be known for a quarter of a second; while Redis does not answer, they are as they
// were before.
func (c *Client) stoppedLanes(ctx context.Context) map[string]time.Time {
	if last := c.stopped.last.Load(); last.holds() {
		return last.since
	}
	return c.look(ctx)
}

// look asks which lanes are paused, unless somebody else just does.
func (c *Client) look(ctx context.Context) map[string]time.Time {
	s := &c.stopped
	last := s.last.Load()
	if last != nil { // of those who know nothing yet, each looks
		if !s.asking.CompareAndSwap(false, true) {
			return last.since
		}
		defer s.asking.Store(false)
	}
	next := &look{at: time.Now()}
	var err error
	if next.since, err = c.pausedSince(context.WithoutCancel(ctx)); err != nil {
		*next = look{at: time.Now(), failed: true}
		if last != nil {
			next.since = last.since
		}
	}
	s.last.Store(next)
	return next.since
}

// laneHalted reports whether a lane is paused.
func (c *Client) laneHalted(ctx context.Context, lane string) bool {
	return !c.stoppedLanes(ctx)[lane].IsZero()
}

// egressHalted reports whether any lane is.
func (c *Client) egressHalted(ctx context.Context) bool {
	return egressOf(c.stoppedLanes(ctx)).Status == EgressPaused
}
