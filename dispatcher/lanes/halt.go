package lanes

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// glance is how long Running waits for a look, where nobody has looked lately.
const glance = 100 * time.Millisecond

// Pause stops all lanes, and Resume lets them go on, whoever paused them. If that changes any, line is written to the audit trail, in the same step. A
// Redis Cluster has asynq's keys in several slots: there the lanes follow one by one, and the line comes first.
func (l *Lanes) Pause(ctx context.Context, line string) error { return l.halt(ctx, false, line) }

// Resume is described at Pause.
func (l *Lanes) Resume(ctx context.Context, line string) error { return l.halt(ctx, true, line) }

func (l *Lanes) halt(ctx context.Context, resume bool, line string) error {
	keys := make([]string, len(names))
	for i, lane := range names {
		keys[i] = pausedKey(lane)
	}
	now, err := l.ledger.Now(ctx)
	if err != nil {
		return err
	}
	if _, ok := l.rdb.(*redis.ClusterClient); ok {
		return l.haltCluster(ctx, resume, keys, now.Unix(), line)
	}
	if err := l.ledger.Halt(ctx, keys, resume, now, line); err != nil {
		return err
	}
	for _, lane := range names { // what is in them may be taken again
		l.bell.Ring(ctx, lane)
	}
	return nil
}

func (l *Lanes) haltCluster(ctx context.Context, resume bool, keys []string, now int64, line string) error {
	since, err := l.Paused(ctx)
	if err != nil {
		return err
	}
	if resume && len(since) > 0 || !resume && len(since) < len(keys) {
		if err := registry.WriteAudit(ctx, l.rdb, registry.AuditKeyOfAll, line); err != nil {
			return err
		}
	}
	for _, key := range keys {
		if resume {
			err = l.rdb.Del(ctx, key).Err()
		} else {
			err = l.rdb.SetNX(ctx, key, now, 0).Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func pausedKey(lane string) string { return "asynq:{" + lane + "}:paused" }

// Paused asks Redis which lanes are paused, and since when. asynq keeps that in a key of each queue, whose value is the time in seconds.
func (l *Lanes) Paused(ctx context.Context) (map[string]time.Time, error) {
	reads := make([]*redis.StringCmd, len(names))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range names {
			reads[i] = p.Get(ctx, pausedKey(lane))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, err
	}
	since := make(map[string]time.Time)
	for i, lane := range names {
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

// KnownToRun reports whether a lane is known to run, without a look.
func (l *Lanes) KnownToRun(lane string) bool {
	last := l.stopped.last.Load()
	return last != nil && !last.failed && time.Since(last.at) < HaltLook && last.since[lane].IsZero()
}

// Halted are the paused lanes, and since when. If there was none, that holds for [HaltLook]. While Redis does not answer, they are as they were
// before.
func (l *Lanes) Halted(ctx context.Context) map[string]time.Time {
	if last := l.stopped.last.Load(); last.holds() {
		return last.since
	}
	return l.look(ctx)
}

// IsHalted reports whether a lane is paused.
func (l *Lanes) IsHalted(ctx context.Context, lane string) bool { return !l.Halted(ctx)[lane].IsZero() }

// look asks which lanes are paused, unless somebody else just does.
func (l *Lanes) look(ctx context.Context) map[string]time.Time {
	s := &l.stopped
	last := s.last.Load()
	if last != nil { // of those who know nothing yet, each looks
		if !s.asking.CompareAndSwap(false, true) {
			return last.since
		}
		defer s.asking.Store(false)
	}
	next := &look{at: time.Now()}
	var err error
	if next.since, err = l.Paused(context.WithoutCancel(ctx)); err != nil {
		*next = look{at: time.Now(), failed: true}
		if last != nil {
			next.since = last.since
		}
	}
	s.last.Store(next)
	return next.since
}

// Running reports whether it is known that no lane is paused. The knowledge is renewed before it is too old. If it is too old, the caller waits for a glance. ctx is
// the look's.
func (l *Lanes) Running(ctx context.Context) bool {
	known := func() (last *look, age time.Duration) {
		if last = l.stopped.last.Load(); last == nil {
			return nil, HaltLook
		}
		return last, time.Since(last.at)
	}
	last, age := known()
	if age > HaltLook/2 {
		looked := make(chan struct{})
		go func() {
			defer close(looked)
			_ = l.contain(ctx, func() error { l.look(ctx); return nil })
		}()
		if age >= HaltLook {
			timer := time.NewTimer(glance)
			defer timer.Stop()
			select {
			case <-looked:
			case <-timer.C:
			}
			last, age = known()
		}
	}
	return last != nil && age < HaltLook && !last.failed && len(last.since) == 0
}
