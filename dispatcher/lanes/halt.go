package lanes

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// Pause stops everything that goes out, and Resume lets it go on, whoever stopped it. If that changes any, line is written to the audit trail, in the same
// step. A halt is a key of its own, which every process looks at. asynq's keys of all lanes that there may be follow: its UI shows them, programs from
// before look at them, and a lane that comes to be during the halt has its own. A Redis Cluster has the keys in several slots: there the line comes first,
// the halt's key next, and the lanes one by one. What the halt's key says counts, also where lanes do not answer.
func (l *Lanes) Pause(ctx context.Context, line string) error { return l.halt(ctx, false, line) }

// Resume is described at Pause.
func (l *Lanes) Resume(ctx context.Context, line string) error { return l.halt(ctx, true, line) }

func (l *Lanes) halt(ctx context.Context, resume bool, line string) error {
	keys := []string{haltKey}
	for _, lane := range all {
		keys = append(keys, pausedKey(lane))
	}
	now, err := l.ledger.Now(ctx)
	if err != nil {
		return err
	}
	if _, ok := l.rdb.(*redis.ClusterClient); ok {
		err = l.haltCluster(ctx, resume, keys, now.Unix(), line)
	} else {
		err = l.ledger.Halt(ctx, keys, resume, now, line)
	}
	if err != nil {
		return err
	}
	for _, lane := range l.numbers.known().lanes() { // what is in them may be taken again
		l.bell.Ring(ctx, lane)
	}
	return nil
}

func (l *Lanes) haltCluster(ctx context.Context, resume bool, keys []string, now int64, line string) error {
	seen, err := l.stopped.readOf(ctx, nil) // a pause waits for no lane
	if err == nil && resume && seen.All.IsZero() {
		seen, err = l.Paused(ctx)
	}
	if err != nil {
		return err
	}
	if resume == !seen.None() {
		if err := registry.WriteAudit(ctx, l.rdb, registry.AuditKeyOfAll, line); err != nil {
			return err
		}
	}
	set := func(c redis.Cmdable, key string) error {
		if resume {
			return c.Del(ctx, key).Err()
		}
		return c.SetNX(ctx, key, now, 0).Err()
	}
	if err := set(l.rdb, keys[0]); err != nil {
		return err
	}
	_, err = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys[1:] {
			_ = set(p, key) // the pipeline's error tells
		}
		return nil
	})
	return err
}

// Paused asks Redis what is paused, and since when.
func (l *Lanes) Paused(ctx context.Context) (Pauses, error) { return l.stopped.read(ctx) }

// KnownToRun reports whether a lane is known to run, without a look.
func (l *Lanes) KnownToRun(lane string) bool {
	last := l.stopped.last.Load()
	return last != nil && !last.failed && time.Since(last.at) < HaltLook && !last.seen.Of(lane)
}

// Halted is what is paused. If nothing was, that holds for [HaltLook]. While Redis does not answer, it is as it was before.
func (l *Lanes) Halted(ctx context.Context) Pauses { return l.stopped.halted(ctx) }

// IsHalted reports whether a lane is paused.
func (l *Lanes) IsHalted(ctx context.Context, lane string) bool { return l.Halted(ctx).Of(lane) }

// Running reports whether it is known that nothing is paused. The knowledge is renewed before it is too old. If it is too old, the caller waits for a glance. ctx is
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
			_ = l.contain(ctx, func() error { l.stopped.look(ctx, false); return nil })
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
	return last != nil && age < HaltLook && !last.failed && last.seen.None()
}
