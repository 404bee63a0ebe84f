package lanes

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
	// shareOfLeaving is the part of the others that all lanes above the number have together, as long as there are any. What is in them may wait there
	// for hours.
	shareOfLeaving = 4
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

// Servers take from the lanes: asynq's servers, for each lane that is looked into.
type Servers struct {
	lanes  *Lanes
	cfg    ServersConfig
	places map[string]*places // by lane, of all that there may be; the map itself stays
	log    log

	mu      sync.Mutex
	crews   map[string]*crew // by lane, while they take from it
	ended   bool             // nothing is taken any more
	leaving sync.WaitGroup   // crews whose lane is not looked into any more, and whose tasks have not ended
}

// A crew are the servers of a lane.
type crew struct {
	servers []*asynq.Server
	stopped chan struct{} // closed when they are to take no more
}

// NewServers makes Servers, for one Start.
func (l *Lanes) NewServers(cfg ServersConfig) *Servers {
	s := &Servers{lanes: l, cfg: cfg, places: make(map[string]*places, len(all)), log: newLog(l.log), crews: make(map[string]*crew)}
	total := &places{most: max(cfg.Concurrency, DefaultCount+1)} // also while tasks of lanes that had more places are under way
	for _, lane := range all {
		s.places[lane] = &places{within: total}
	}
	s.share()
	return s
}

// share gives each lane its places.
func (s *Servers) share() {
	for lane, most := range s.Places() {
		s.places[lane].resize(most)
	}
}

// most is how many tasks may be worked on at a time of all lanes but the slow one, and of that.
func (s *Servers) most() (others, slow int) {
	slow = s.cfg.Concurrency / shareOfSlow
	return s.cfg.Concurrency - slow, max(1, slow)
}

// Places are how many tasks of each lane may be worked on at a time, with the lanes that there are now.
func (s *Servers) Places() map[string]int {
	n, places := s.lanes.numbers.known(), make(map[string]int, len(all))
	others, slow := s.most()
	for _, lane := range all {
		places[lane] = 0
	}
	above := 0
	if n.high > n.count {
		above = others / shareOfLeaving
	}
	for i, lane := range all[:n.high] {
		if i < n.count {
			places[lane] = max(1, (others-above)/n.count)
		} else {
			places[lane] = max(1, above/(n.high-n.count))
		}
	}
	places[Slow] = slow
	return places
}

// Start begins to take from the lanes that there are. It fails if asynq does.
func (s *Servers) Start() error {
	err := s.Follow()
	if err != nil {
		s.Stop()
		s.Shutdown()
	}
	return err
}

// Follow takes from the lanes that there are by now, and from no others. What is under way from these goes on. If that fails, it is to be repeated.
func (s *Servers) Follow() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return nil
	}
	s.share()
	there := s.lanes.Names()
	for lane, c := range s.crews {
		if !slices.Contains(there, lane) {
			delete(s.crews, lane)
			s.leaving.Go(c.end)
		}
	}
	for _, lane := range there {
		if s.crews[lane] != nil {
			continue
		}
		c, err := s.start(lane)
		if err != nil {
			return fmt.Errorf("starting an asynq server: %w", err)
		}
		s.crews[lane] = c
	}
	return nil
}

// start starts the servers of a lane. They could work on as many tasks as the process may: the lane's places bound them.
func (s *Servers) start(lane string) (*crew, error) {
	c := &crew{stopped: make(chan struct{})}
	rdb := s.lanes.bell.Client(patience{
		look: s.cfg.Look, stop: c.stopped, full: s.cfg.Full, places: s.places[lane], halts: s.lanes.stopped.halts,
	})
	servers := serversPerLane
	if s.cfg.Process < fewAttempts || lane == Slow {
		servers = 1
	}
	others, slow := s.most()
	concurrency := max(1, others)
	if lane == Slow {
		concurrency = slow
	}
	for range servers {
		server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Concurrency:              concurrency,
			Queues:                   map[string]int{lane: 1},
			TaskCheckInterval:        taskCheckInterval,
			DelayedTaskCheckInterval: max(delayedCheckInterval, s.cfg.Look),
			ShutdownTimeout:          s.cfg.Grace,
			RetryDelayFunc:           s.retryDelay,
			IsFailure:                s.isFailure,
			Logger:                   s.log,
			LogLevel:                 asynq.WarnLevel,
		})
		handler := func(ctx context.Context, task *asynq.Task) error { return s.Process(ctx, lane, task) }
		if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
			c.end()
			return nil, err
		}
		c.servers = append(c.servers, server)
	}
	return c, nil
}

// rest has asynq ask for no more tasks. stopped is closed before.
func (c *crew) rest() {
	for _, server := range c.servers {
		server.Stop()
	}
}

// wait waits for the tasks under way, at most for the grace.
func (c *crew) wait() {
	var wg sync.WaitGroup
	for _, server := range c.servers {
		wg.Go(server.Shutdown)
	}
	wg.Wait()
}

// end takes no more tasks, and waits for those under way.
func (c *crew) end() {
	close(c.stopped)
	c.rest()
	c.wait()
}

// Stop takes no more tasks; all lanes stop before any is waited for.
func (s *Servers) Stop() {
	crews := s.last()
	for _, c := range crews {
		close(c.stopped)
	}
	for _, c := range crews {
		c.rest()
	}
}

// last are the crews that there are in the end: none comes after them.
func (s *Servers) last() []*crew {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return slices.Collect(maps.Values(s.crews))
}

// Shutdown waits for the tasks under way, at most for the grace. It comes after Stop.
func (s *Servers) Shutdown() {
	var wg sync.WaitGroup
	for _, c := range s.last() {
		wg.Go(c.wait)
	}
	wg.Wait()
	s.leaving.Wait()
}

// Process is asynq's handler, for a task from a lane. It returns nil when the task has served: the record knows the rest. If it panics, asynq
// brings the task back as after any trouble, and what had begun counts as lost once its owner's time is over.
func (s *Servers) Process(ctx context.Context, lane string, task *asynq.Task) error {
	s.places[lane].begin()
	defer s.places[lane].end()
	return s.cfg.Contain(ctx, func() error {
		t, ok := readTask(task.Type(), task.Payload())
		if !ok {
			s.lanes.log.ErrorContext(ctx, "task is not a delivery; dropped", "type", verdict.Clip(task.Type(), 100))
			return nil
		}
		retried, known := asynq.GetRetryCount(ctx)
		err := s.cfg.Handler(ctx, lane, t, known && retried > 0)
		if _, later := errors.AsType[*Later](err); later && s.lanes.numbers.known().above(lane) {
			s.lanes.Bring(ctx, t) // whoever takes it from its own lane finds that it is early
			return nil
		}
		return err
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
