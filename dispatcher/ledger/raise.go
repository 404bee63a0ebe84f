package ledger

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

const (
	// raiseEvery is how often a process looks whether the number may be raised and, once it is, whether it still stands.
	raiseEvery = 5 * time.Second
	// checkEvery is how often it looks, once the model is in force, whether an older process is back that stood still for long.
	checkEvery = time.Minute
	// roundWithin is how long the look of a worker's round may take: nobody waits for it.
	roundWithin = 5 * time.Second
	// unseenFor is how long after the number was raised a process may be starting that has read the one before, and has not announced itself.
	unseenFor = 30 * time.Second
)

// raiseWithin is how long a look may take: the caller who looks waits for it. Tests have more time.
var raiseWithin = 250 * time.Millisecond

// A raising is what a process knows of the data model's number in Redis.
type raising struct {
	rdb   redis.UniversalClient
	log   *slog.Logger
	clock *steady.Clock // may be nil

	done   atomic.Bool
	asking atomic.Bool
	next   atomic.Int64 // when to look again, in ns
	// These belong to who asks.
	stands  time.Time // since when the number is known to be Model
	checked time.Time // when the processes were looked at last
}

// ask reports whether the model is in force. Some caller looks every few seconds, and waits for that; the others go on with what is known.
func (r *raising) ask(ctx context.Context, within time.Duration) bool {
	if time.Now().UnixNano() >= r.next.Load() && r.asking.CompareAndSwap(false, true) {
		defer r.asking.Store(false)
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		_ = r.look(ctx) // it is repeated, and who needs Redis for more says what is wrong
		r.next.Store(time.Now().Add(raiseEvery).UnixNano())
	}
	return r.done.Load()
}

// look raises the number if all processes know the model. A number that was lost with Redis's last second is raised again.
func (r *raising) look(ctx context.Context) error {
	number, err := Written(ctx, r.rdb)
	if err != nil {
		return err
	}
	if number < Model {
		if !r.done.Load() {
			seen, err := registry.LookBy(ctx, r.rdb, r.clock)
			if err != nil || len(seen.Older(registry.ModelLevel)) > 0 {
				return err
			}
		}
		if err := raise.Run(ctx, r.rdb, []string{ModelKey}, number, Model).Err(); err != nil {
			return err
		}
	}
	if r.done.Load() && time.Since(r.checked) < checkEvery {
		return nil
	}
	if r.stands.IsZero() {
		r.stands = time.Now()
	}
	// A program that read the number before it was raised is connected by now, so it is seen.
	seen, err := registry.LookBy(ctx, r.rdb, r.clock)
	if err != nil {
		return err
	}
	r.checked = time.Now()
	older := seen.Older(registry.ModelLevel)
	if len(older) > 0 || !r.done.Load() && seen.Unseen != nil && time.Since(r.stands) < unseenFor {
		if r.done.CompareAndSwap(true, false) {
			r.log.ErrorContext(ctx, "a process of an older version is back, and misreads what this one has written: end it", "model", Model, "process", older[0].String())
		}
		return nil
	}
	if r.done.Swap(true) {
		return nil
	}
	r.log.InfoContext(ctx, "every process knows the data model, which is in force from now on: programs that do not know it do not start any more", "model", Model)
	return nil
}
