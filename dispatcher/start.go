package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
)

// NewWorker makes a Worker that shares c's Redis. Start it once.
func NewWorker(c *Client, cfg WorkerConfig) (*Worker, error) {
	switch {
	case c == nil:
		return nil, errors.New("dispatcher: a Worker needs a Client")
	case cfg.Concurrency < 0:
		return nil, errors.New("dispatcher: WorkerConfig.Concurrency must not be negative")
	case cfg.ReconcileEvery < 0:
		return nil, errors.New("dispatcher: WorkerConfig.ReconcileEvery must not be negative")
	}
	w := &Worker{client: c, instance: rand.Text()[:10], every: defaulted(cfg.ReconcileEvery, DefaultReconcileEvery)}
	w.rounds = newRounds(newPeers(c.rdb, w.instance, w.every))
	w.brake = newBrake(c.lanes.Lone())
	w.grace = defaulted(cfg.ShutdownGrace, DefaultShutdownGrace)
	whole := defaulted(cfg.Concurrency, DefaultConcurrency)
	concurrency := whole
	forNear := 0
	if cfg.Accepts {
		forNear = concurrency / shareOfNear
	}
	concurrency -= forNear
	w.limiter = newLimiter(concurrency, c.lanes.Count())
	if cfg.Accepts {
		w.near = newNear(forNear, w)
	}
	w.servers = c.lanes.NewServers(lanes.ServersConfig{
		Concurrency: concurrency, Process: whole, Look: defaulted(cfg.Poll, DefaultPoll), Grace: w.grace, Full: w.brake.full, Handler: w.serve,
		Contain: func(ctx context.Context, do func() error) error { return c.contain(ctx, placeTask, do) },
	})
	w.shares = make(map[string]*shares)
	for lane, places := range w.servers.Places() {
		w.shares[lane] = newShares(places)
	}
	return w, nil
}

// followLanes takes from the lanes that there are by now, and shares them out anew.
func (w *Worker) followLanes() error {
	w.resize()
	return w.servers.Follow()
}

// resize shares the worker's places out among the lanes that there are by now.
func (w *Worker) resize() {
	for lane, places := range w.servers.Places() {
		w.shares[lane].resize(places)
	}
	w.limiter.spread(w.client.lanes.Count())
}

// followAgain is when a worker tries again that could not take from the lanes.
const followAgain = time.Second

// keepUp has the worker take from the lanes that there are, until ctx ends.
func (w *Worker) keepUp(ctx context.Context) {
	for ctx.Err() == nil {
		changed := w.client.lanes.Changed()
		var again <-chan time.Time
		if err := w.client.contain(ctx, placeEnqueue, w.followLanes); err != nil {
			w.client.log.WarnContext(ctx, "not all lanes are worked on; it is tried again", "error", err)
			again = time.After(followAgain)
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
		}
	}
}

// Start begins to take work and returns. It fails if Redis does not answer.
func (w *Worker) Start() error {
	ctx, stop := context.WithCancel(context.Background())
	if err := w.client.Ready(ctx); err != nil {
		stop()
		return err
	}
	w.resize() // to the lanes that Redis knows of
	if err := w.servers.Start(); err != nil {
		stop()
		return err
	}
	w.stop = stop
	if w.near != nil {
		w.client.near.Store(w.near)
	}
	w.wg.Go(func() { w.client.lanes.Listen(ctx) })
	w.wg.Go(func() { w.keepUp(ctx) })
	w.wg.Go(func() { w.reconcile(ctx) })
	return nil
}

// Shutdown stops taking work, waits for attempts under way to finish and be recorded (at most the grace), and returns. Attempts that the
// grace cuts off are sent again by another worker. Calling it without Start does nothing.
func (w *Worker) Shutdown() {
	if w.stop == nil {
		return
	}
	w.stopping.Store(true)
	w.client.near.CompareAndSwap(w.near, nil)
	w.servers.Stop()
	w.stop()
	var wg sync.WaitGroup
	wg.Go(w.servers.Shutdown)
	if w.near != nil {
		w.near.close(w.grace, w.finishWithin()+slackOfEnd)
	}
	wg.Wait()
	w.wg.Wait()
	w.stop = nil
}

// WorkerConfig is what a [Worker] needs.
type WorkerConfig struct {
	// Concurrency is how many attempts may be under way at once. Those that are not for Accepts are spread over the lanes. A sixteenth of these may go to any
	// one callback, or less where there are more lanes than usual.
	// Default [DefaultConcurrency].
	Concurrency int
	// Accepts is that the client accepts events, too: then a quarter of Concurrency is for what it accepts, which begins in the accepting step.
	Accepts bool
	// ShutdownGrace is how long [Worker.Shutdown] waits for attempts under way. Default 65 s: the longest timeout and the recording.
	ShutdownGrace time.Duration

	// Poll is how often an idle lane is looked at although nobody told of work in it: processes tell each other what they enqueue, and this is
	// for what comes from elsewhere, or is not heard. Default [DefaultPoll].
	Poll time.Duration

	// ReconcileEvery is how often rooms are pumped and overdue deliveries looked for. Default [DefaultReconcileEvery]. Tests make it short.
	ReconcileEvery time.Duration
}

// Defaults of a Worker.
const (
	DefaultConcurrency   = 800
	DefaultShutdownGrace = 65 * time.Second
	DefaultPoll          = lanes.DefaultLook
	// DefaultReconcileEvery: with [DefaultOwnerGrace], an attempt that a crash cut off at a 15 s timeout begins anew within 32 s of its beginning.
	DefaultReconcileEvery = 2 * time.Second
)
