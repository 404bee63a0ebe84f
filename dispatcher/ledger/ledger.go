package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
	"github.com/ringback/ringback/registry/steady"
)

// Config is what a [Ledger] needs.
type Config struct {
	Redis  redis.UniversalClient // required; the caller closes it
	Logger *slog.Logger          // required
	Rules  Rules
	Clock  *steady.Clock // nil: Redis's clock is what counts, however it steps

	// WaitReplicas is how many replicas must hold an event before it counts as accepted (Redis WAIT, 1 s at most).
	WaitReplicas int
	// Contain runs what the ledger does in goroutines of its own, and makes an error of a panic. Required.
	Contain func(ctx context.Context, do func() error) error
	// Passing is told where, between two steps, a kill would leave something: tests stop there. Nil: nobody is.
	Passing func(step string)
}

// Rules are the installation's numbers that the scripts keep to. All processes on a Redis should have the same.
type Rules struct {
	Window       int           // how many of a callback's deliveries may be in the lanes
	Retention    time.Duration // of finished events; whole seconds count
	HoldMaxCount int           // how many a callback may have held
	HoldMaxAge   time.Duration // for how long one may be held; whole seconds count
	DisableAfter time.Duration // for how long a callback may do nothing but fail; whole seconds count; 0: for ever
	Patience     time.Duration // how long a delivery is left to its task

	BodyRetention time.Duration // of a finished event's body; whole seconds count; 0: as long as the event
}

// String is the rules as lua/record.lua takes them.
func (r Rules) String() string {
	return fmt.Sprintf("%d %d %d %d %d %d %d", r.Window, r.Retention/time.Second, r.HoldMaxCount, r.HoldMaxAge/time.Second, r.DisableAfter/time.Second,
		r.Patience.Milliseconds(), r.BodyRetention/time.Second)
}

// A Ledger knows what Redis holds about deliveries. It is safe for concurrent use.
//
// Its methods return ctx's error, what Redis said, [ErrBadRecord] or [ErrBadAnswer], Contain's error, and what else they name.
type Ledger struct {
	rdb     redis.UniversalClient
	log     *slog.Logger
	rules   string
	bodies  time.Duration // Rules.BodyRetention
	clock   *steady.Clock
	passing func(step string)
	raising raising
	accepts *Committer // of events
	steps   *Committer // of attempts
}

// New makes a Ledger.
func New(cfg Config) *Ledger {
	l := &Ledger{rdb: cfg.Redis, log: cfg.Logger, rules: cfg.Rules.String(), bodies: cfg.Rules.BodyRetention, clock: cfg.Clock, passing: cfg.Passing}
	l.raising.rdb, l.raising.log, l.raising.clock = cfg.Redis, cfg.Logger, cfg.Clock
	l.accepts = NewCommitter(l.rdb, l.settings, cfg.WaitReplicas, cfg.Contain)
	l.steps = NewCommitter(l.rdb, l.settings, 0, cfg.Contain)
	l.accepts.wake, l.steps.wake = l.wake, l.wake
	return l
}

// Close waits for the steps under way.
func (l *Ledger) Close() {
	l.accepts.Close()
	l.steps.Close()
}

// Raised reports whether what came with data model [Model] may be written: the number stands in Redis, so no program starts that does not know the model,
// and none is alive. Until then a program of the model before may run beside this one, and after it. Should one be back that stood still, nothing more is
// written.
//
// Some caller looks every few seconds, and waits for a quarter of a second at most. The look that finds all processes at [registry.ModelLevel] raises the
// number. A process that writes nothing of the model has to ask all the same now and then: workers [Ledger.Raise] it in their rounds.
func (l *Ledger) Raised(ctx context.Context) bool { return l.raising.ask(ctx, raiseWithin) }

// Raise is Raised for who has time.
func (l *Ledger) Raise(ctx context.Context) { _ = l.raising.ask(ctx, roundWithin) }

// settings are what scripts take before their own arguments: the rules, and what time it is.
func (l *Ledger) settings(ctx context.Context, key string) string {
	return l.rules + l.clock.Tell(ctx, key)
}

// Now is the installation's time.
func (l *Ledger) Now(ctx context.Context) (time.Time, error) {
	if l.clock == nil {
		return l.rdb.Time(ctx).Result()
	}
	return l.clock.Now(ctx)
}

// run runs a script on a company's keys. Each takes the rules before its own arguments.
func (l *Ledger) run(ctx context.Context, script once.Runner, company string, args ...any) *redis.Cmd {
	key := Key(company, "due")
	return script.Run(ctx, l.rdb, declared(l.rdb, key), append([]any{l.settings(ctx, key)}, args...)...)
}

// ask runs a script whose answer is a flat list. If the script finds the company asleep, ask wakes it.
func (l *Ledger) ask(ctx context.Context, script once.Runner, company string, args ...any) (*answer, error) {
	key, may := Key(company, "due"), ""
	for range registry.WakeTries {
		v, err := script.Run(ctx, l.rdb, declared(l.rdb, key), append([]any{leave(l.settings(ctx, key), may)}, args...)...).Result()
		if err != nil {
			return nil, err
		}
		texts := Strings(v)
		nap, asleep := registry.ReadNap(texts)
		if !asleep {
			return &answer{left: texts}, nil
		}
		if may, err = l.wake(ctx, company, nap); err != nil {
			return nil, err
		}
	}
	return nil, registry.ErrRestless
}

// wake puts a company into the index, for a script that found it asleep, and returns its leave to wake it.
func (l *Ledger) wake(ctx context.Context, company string, nap registry.Nap) (may string, err error) {
	if may, err = registry.Wake(ctx, l.rdb, company, nap); err == nil && l.passing != nil {
		l.passing("listed")
	}
	return may, err
}

// step runs a script that takes calls together, for one delivery, which it takes before its own arguments. A batch has a run of its own.
func (l *Ledger) step(ctx context.Context, script *redis.Script, r Ref, args ...any) (*answer, error) {
	call := &Call{Script: script, Key: Key(r.Company, "due"), Deliveries: 1, Args: append([]any{r.Member()}, args...)}
	if r.IsBatch() {
		call.Deliveries = mostDeliveries
	}
	l.steps.Do(ctx, call)
	texts, err := call.Answer()
	if err != nil {
		return nil, err
	}
	return &answer{left: texts}, nil
}

// execute sends a pipeline. Its error is the first command's that has one; that something is not there is none.
func execute(ctx context.Context, p redis.Pipeliner) error {
	cmds, err := p.Exec(ctx)
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
