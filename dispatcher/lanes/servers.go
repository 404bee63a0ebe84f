package lanes

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

const (
	// serversPerLane is how many asynq servers take from each lane but the slow one, which has one: each dequeues in one goroutine, and
	// one alone bounds what a single busy callback gets at one round trip to Redis a delivery. A worker that attempts few at a time, below
	// fewAttempts, has one: it would only ask Redis twice as often for nothing.
	serversPerLane = 2
	fewAttempts    = 100
	// shareOfSlow is the part of all attempts in a process that the slow lane has: a quarter, for many of its partners take all the time
	// that their timeout gives them, and who comes back waits behind them.
	shareOfSlow = 4
	// taskCheckInterval is how long an asynq server waits after a look that found nothing, before it waits for the bell.
	taskCheckInterval = 2 * time.Millisecond
	// delayedCheckInterval is how often each server looks for retries whose time has come; asynq keeps whole seconds. If idle lanes are looked at less
	// often, these are, too.
	delayedCheckInterval = 500 * time.Millisecond
	// troubleDelay is when asynq tries a task again whose handler failed otherwise than by a [Later].
	troubleDelay = 5 * time.Second
)

// A Later tells asynq to bring a task back, when, and for its UI why.
type Later struct {
	Wait    time.Duration
	Why     string
	Failure bool // it counts as a failed attempt in asynq's statistics
}

func (e *Later) Error() string { return e.Why }

// A Handler works on what comes out of a lane. kept: asynq has kept the delivery's retry, so its time has come by the clock that asynq keeps. It
// returns nil when the task has served, and a [Later] if asynq is to bring it back.
type Handler func(ctx context.Context, lane string, t ledger.Ticket, kept bool) error

// ServersConfig is what [Servers] need. All is required.
type ServersConfig struct {
	Concurrency int                    // tasks that may be worked on at a time, over all lanes
	Process     int                    // attempts that the process may make at a time, of lanes or not
	Look        time.Duration          // how often an idle lane is looked at
	Grace       time.Duration          // for tasks under way at the end
	Full        func() <-chan struct{} // nil, or closed once there is room for more
	Contain     Contain                // of the handlers, and of what asynq asks about their errors
	Handler     Handler
}

// Servers take from the lanes: asynq's servers.
type Servers struct {
	lanes   *Lanes
	cfg     ServersConfig
	servers []server
	places  map[string]int // by lane
	stopped chan struct{}  // closed when no task is taken any more
}

type server struct {
	*asynq.Server
	lane string
}

// NewServers makes Servers, for one Start.
func (l *Lanes) NewServers(cfg ServersConfig) *Servers {
	s := &Servers{lanes: l, cfg: cfg, places: make(map[string]int, len(names)), stopped: make(chan struct{})}
	rdb := l.bell.Client(cfg.Look, s.stopped, cfg.Full)
	logger := newLog(l.log)
	perLane := serversPerLane
	if cfg.Process < fewAttempts {
		perLane = 1
	}
	for _, lane := range append(slices.Repeat(names[:Count], perLane), Slow) {
		places := (cfg.Concurrency - cfg.Concurrency/shareOfSlow) / (Count * perLane)
		if lane == Slow {
			places = cfg.Concurrency / shareOfSlow
		}
		places = max(1, places)
		s.places[lane] += places
		s.servers = append(s.servers, server{asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Concurrency:              places,
			Queues:                   map[string]int{lane: 1},
			TaskCheckInterval:        taskCheckInterval,
			DelayedTaskCheckInterval: max(delayedCheckInterval, cfg.Look),
			ShutdownTimeout:          cfg.Grace,
			RetryDelayFunc:           s.retryDelay,
			IsFailure:                s.isFailure,
			Logger:                   logger,
			LogLevel:                 asynq.WarnLevel,
		}), lane})
	}
	return s
}

// Places are how many tasks of each lane may be worked on at a time.
func (s *Servers) Places() map[string]int { return s.places }

// Start begins to take from the lanes. It fails if Redis does not answer.
func (s *Servers) Start() error {
	for i, server := range s.servers {
		handler := func(ctx context.Context, task *asynq.Task) error { return s.Process(ctx, server.lane, task) }
		if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
			close(s.stopped)
			for _, started := range s.servers[:i] {
				started.Shutdown()
			}
			return fmt.Errorf("starting an asynq server: %w", err)
		}
	}
	return nil
}

// Stop takes no more tasks; all lanes stop before any is waited for.
func (s *Servers) Stop() {
	close(s.stopped)
	for _, server := range s.servers {
		server.Stop()
	}
}

// Shutdown waits for the tasks under way, at most for the grace.
func (s *Servers) Shutdown() {
	var wg sync.WaitGroup
	for _, server := range s.servers {
		wg.Go(server.Shutdown)
	}
	wg.Wait()
}

// Process is asynq's handler, for a task from a lane. It returns nil when the task has served: the record knows the rest. If it panics, asynq
// brings the task back as after any trouble, and what had begun counts as lost once its owner's time is over.
func (s *Servers) Process(ctx context.Context, lane string, task *asynq.Task) error {
	return s.cfg.Contain(ctx, func() error {
		t, ok := readTask(task.Type(), task.Payload())
		if !ok {
			s.lanes.log.ErrorContext(ctx, "task is not a delivery; dropped", "type", verdict.Clip(task.Type(), 100))
			return nil
		}
		retried, known := asynq.GetRetryCount(ctx)
		return s.cfg.Handler(ctx, lane, t, known && retried > 0)
	})
}

// retryDelay is asynq's to call, in a goroutine that nobody else guards.
func (s *Servers) retryDelay(_ int, failed error, _ *asynq.Task) time.Duration {
	delay := troubleDelay
	_ = s.cfg.Contain(context.Background(), func() error {
		if later, ok := errors.AsType[*Later](failed); ok {
			delay = later.Wait
		}
		return nil
	})
	return delay
}

// isFailure is asynq's to call, as retryDelay is.
func (s *Servers) isFailure(failed error) bool {
	failure := true
	_ = s.cfg.Contain(context.Background(), func() error {
		if later, ok := errors.AsType[*Later](failed); ok {
			failure = later.Failure
		}
		return nil
	})
	return failure
}
