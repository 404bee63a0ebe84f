package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// WorkerConfig is what a [Worker] needs.
type WorkerConfig struct {
	// Concurrency is how many attempts may be under way at once. What is not for Accepts is spread over the lanes. A sixteenth of that may go to any
	// one callback.
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
	// delayedCheckInterval is how often each server looks for retries whose time has come; asynq keeps whole seconds. Who looks at idle lanes less
	// often looks for these less often, too.
	delayedCheckInterval = 500 * time.Millisecond
	// pumpWithin bounds the pumping of a room whose time has come; the reconciler's next round goes on.
	pumpWithin = 10 * time.Second
	// chainFor is how long a task may go on with others' deliveries.
	chainFor = 2 * time.Second
	// slackOfEnd is how much longer than the grace and the recording of an outcome the end of a worker waits for what it began without tasks.
	slackOfEnd = 2 * time.Second
	// troubleDelay is when asynq tries a task again that Redis trouble kept from beginning.
	troubleDelay = 5 * time.Second
	// crowdedDelay is when asynq brings a task again whose company is alone and has its share of the attempts under way.
	crowdedDelay = time.Second
	// haltedDelay is when asynq has a task ready again that came out of a lane as that was paused.
	haltedDelay = time.Second
)

// A Worker attempts deliveries: asynq servers for each lane, and the reconciler.
type Worker struct {
	client   *Client
	instance string        // names this worker in the tokens of its attempts
	every    time.Duration // between two rounds of the reconciler

	turns    *turns
	shares   map[string]*shares // by lane
	brake    *brake
	near     *near // nil: everything goes by the lanes
	grace    time.Duration
	pacer    *pacer
	stopping atomic.Bool
	servers  []laneServer
	stopped  chan struct{} // closed when no task is taken any more
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

// A laneServer takes from one lane.
type laneServer struct {
	*asynq.Server
	lane string
}

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
	w.pacer = newPacer(c)
	logger := newAsynqLog(c)
	concurrency, look := defaulted(cfg.Concurrency, DefaultConcurrency), defaulted(cfg.Poll, DefaultPoll)
	w.stopped = make(chan struct{})
	w.brake = newBrake(&c.lone)
	rdb := c.bell.Client(look, w.stopped, w.brake.full)
	w.grace = defaulted(cfg.ShutdownGrace, DefaultShutdownGrace)
	perLane := serversPerLane
	if concurrency < fewAttempts {
		perLane = 1
	}
	if cfg.Accepts {
		w.near = newNear(concurrency / shareOfNear)
		concurrency -= concurrency / shareOfNear
	}
	w.turns = newTurns(concurrency / (laneCount * shareOfLane))
	w.shares = make(map[string]*shares, len(queues))
	served := append(slices.Repeat(queues[:laneCount], perLane), slowLane)
	for _, lane := range served {
		places := (concurrency - concurrency/shareOfSlow) / (laneCount * perLane)
		if lane == slowLane {
			places = concurrency / shareOfSlow
		}
		if places = max(1, places); w.shares[lane] == nil {
			w.shares[lane] = newShares(0)
		}
		w.shares[lane].free += places
		w.servers = append(w.servers, laneServer{asynq.NewServerFromRedisClient(rdb, asynq.Config{
			Concurrency:              places,
			Queues:                   map[string]int{lane: 1},
			TaskCheckInterval:        taskCheckInterval,
			DelayedTaskCheckInterval: max(delayedCheckInterval, look),
			ShutdownTimeout:          w.grace,
			RetryDelayFunc:           w.retryDelay,
			IsFailure:                w.isFailure,
			Logger:                   logger,
			LogLevel:                 asynq.WarnLevel,
		}), lane})
	}
	return w, nil
}

// Start begins to take work and returns. It fails if Redis does not answer.
func (w *Worker) Start() error {
	ctx, stop := context.WithCancel(context.Background())
	if err := w.client.Ready(ctx); err != nil {
		stop()
		return err
	}
	for i, server := range w.servers {
		handler := func(ctx context.Context, task *asynq.Task) error { return w.process(ctx, server.lane, task) }
		if err := server.Start(asynq.HandlerFunc(handler)); err != nil {
			stop()
			close(w.stopped)
			for _, started := range w.servers[:i] {
				started.Shutdown()
			}
			return fmt.Errorf("starting an asynq server: %w", err)
		}
	}
	w.stop = stop
	if w.near != nil {
		w.client.worker.Store(w)
	}
	w.wg.Go(func() { w.client.bell.Listen(ctx) })
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
	w.client.worker.CompareAndSwap(w, nil)
	close(w.stopped)
	for _, server := range w.servers {
		server.Stop() // all lanes stop taking work before any is waited for
	}
	w.stop()
	var wg sync.WaitGroup
	for _, server := range w.servers {
		wg.Go(server.Shutdown)
	}
	if w.near != nil {
		w.near.close(w.grace, w.finishWithin()+slackOfEnd)
	}
	wg.Wait()
	w.wg.Wait()
	w.pacer.close()
	w.stop = nil
}

// A laterError tells asynq to bring the task back, when, and for its UI why.
type laterError struct {
	wait    time.Duration
	why     string
	failure bool // counts as a failed attempt in asynq's statistics
}

func (e *laterError) Error() string { return e.why }

// retryDelay is asynq's to call, in a goroutine that nobody else guards.
func (w *Worker) retryDelay(_ int, failed error, _ *asynq.Task) time.Duration {
	delay := troubleDelay
	_ = w.client.contain(context.Background(), placeTask, func() error {
		if later, ok := errors.AsType[*laterError](failed); ok {
			delay = later.wait
		}
		return nil
	})
	return delay
}

// isFailure is asynq's to call, as retryDelay is.
func (w *Worker) isFailure(failed error) bool {
	failure := true
	_ = w.client.contain(context.Background(), placeTask, func() error {
		if later, ok := errors.AsType[*laterError](failed); ok {
			failure = later.failure
		}
		return nil
	})
	return failure
}

// process is asynq's handler, for a task from a lane. It returns nil when the task has served: the record knows the rest. If it panics, asynq
// brings the task back as after any trouble, and what had begun counts as lost once its owner's time is over.
func (w *Worker) process(ctx context.Context, lane string, task *asynq.Task) error {
	return w.client.contain(ctx, placeTask, func() error { return w.serve(ctx, lane, task) })
}

func (w *Worker) serve(ctx context.Context, lane string, task *asynq.Task) error {
	var h hint
	if err := json.Unmarshal(task.Payload(), &h); err != nil || task.Type() != taskType {
		w.client.log.ErrorContext(ctx, "task is not a delivery; dropped", "type", verdict.Clip(task.Type(), 100))
		return nil
	}
	w.client.at("dequeued")
	done, mine := w.turns.take(ctx, h.ref(), turnover)
	if mine {
		defer done()
	}
	if mine {
		shares := w.shares[lane]
		switch mine = shares.await(ctx, h.Company, turnover); {
		case mine:
			defer shares.leave(h.Company)
		case w.client.lone.Is(): // else it goes to its room: what comes back from there comes by turns
			return &laterError{wait: crowdedDelay, why: "the company has its share of the attempts under way"}
		}
	}
	var took time.Duration
	left := func() {}
	if mine { // else it goes to its room
		ride := w.brake.enter(ctx, h.Company, true)
		left = sync.OnceFunc(func() { w.brake.leave(ride, took) })
	}
	defer func() { left() }()
	halted := &laterError{wait: haltedDelay, why: "egress is paused"}
	looked := time.Now()
	if w.client.laneHalted(ctx, lane) { // it was dequeued just before the pause
		return halted
	}
	a, err := w.begin(ctx, h, mine, earliness(ctx))
	if err != nil || a == nil {
		return err
	}
	if w.heldBack(ctx, lane, looked, a) {
		return halted
	}
	l := link{lane: lane, shares: w.shares[lane]}
	next, err := w.attempt(ctx, a, l)
	took = next.took
	left()
	w.chain(ctx, l, h.Company, next)
	return err
}

// A link ties what goes on without asynq to the lane that it came from, and to an end.
type link struct {
	lane   string
	until  time.Time // zero: not yet
	shares *shares   // of which one is its own
}

// holds reports whether a company's next delivery may begin: not where it is crowded, and others would wait for the place. halted says whether a lane
// is paused.
func (w *Worker) holds(l link, company string, halted func(lane string) bool) bool {
	return !w.stopping.Load() && (l.until.IsZero() || time.Now().Before(l.until)) && !halted(l.lane) &&
		(w.client.lone.Is() || !l.shares.crowded(company))
}

// A sequel is what may follow a delivery that ended well.
type sequel struct {
	released []ledger.Ticket // what was let out of the room for it
	first    *attempt        // the first of them, if it has begun
	looked   time.Time       // when its lane was known to run
	took     time.Duration   // to record what came before
}

// chain goes on with the delivery that a finished one let out of the room, in its place and without a detour over asynq: half the round trips
// to Redis while a callback has a backlog. It ends with the first that does not deliver, or soon, so that asynq's tasks stay short.
func (w *Worker) chain(ctx context.Context, l link, company string, next sequel) {
	c := w.client
	l.until = time.Now().Add(chainFor)
	for len(next.released) > 0 {
		t, a, looked := next.released[0], next.first, next.looked
		if a == nil {
			looked = time.Now()
			if !w.holds(l, company, func(lane string) bool { return c.laneHalted(ctx, lane) }) {
				c.enqueueAll(ctx, next.released)
				return
			}
		}
		c.enqueueAll(ctx, next.released[1:])
		if a == nil {
			if queueOf(t) != l.lane { // the partner came back, or fell ill
				c.enqueueAll(ctx, []ledger.Ticket{t})
				return
			}
			var err error
			if a, err = w.begin(ctx, hint{company, t.Event, t.Callback, t.Generation}, true, 0); err != nil {
				c.log.WarnContext(ctx, "delivery did not begin; it is tried again", "delivery", t.DeliveryID(), "error", err)
				c.enqueueAll(ctx, []ledger.Ticket{t})
			}
			if a == nil {
				return
			}
		}
		next = w.goOnBraked(ctx, t, a, l, looked)
	}
}

// goOnBraked is goOn, once the brake lets it and unless it is held back by then. looked is when its lane was known to run.
func (w *Worker) goOnBraked(ctx context.Context, t ledger.Ticket, a *attempt, l link, looked time.Time) (next sequel) {
	ride := w.brake.enter(ctx, a.ref.Company, false)
	defer func() { w.brake.leave(ride, next.took) }()
	if w.heldBack(ctx, l.lane, looked, a) {
		w.client.enqueueAll(ctx, []ledger.Ticket{t})
		return sequel{}
	}
	return w.goOn(ctx, t, a, l)
}

// heldBack takes back that an attempt has begun, if so much time has passed since a look found its lane running that the lane may be paused, and it
// is, or if so much of its lease is over that the rest may not do. If that fails the attempt has no owner.
func (w *Worker) heldBack(ctx context.Context, lane string, looked time.Time, a *attempt) bool {
	c := w.client
	if time.Since(looked) < haltLook {
		return false
	}
	if !c.laneHalted(ctx, lane) && time.Since(a.since) < c.ownerGrace-w.finishWithin() {
		return false
	}
	w.unbegin(ctx, a)
	return true
}

// unbegin takes back that an attempt has begun, of which nothing went out.
func (w *Worker) unbegin(ctx context.Context, a *attempt) {
	if err := w.client.ledger.Unbegin(context.WithoutCancel(ctx), a.ref, a.token); err != nil {
		w.client.log.WarnContext(ctx, "attempt is not taken back; it will count as lost", "delivery", a.ref.DeliveryID(), "error", err)
	}
}

// goOn attempts a delivery of which asynq has no task. One that fails has a task then: whoever takes that finds it early, and asynq shows it with
// what it failed by.
func (w *Worker) goOn(ctx context.Context, t ledger.Ticket, a *attempt, l link) sequel {
	next, err := w.attempt(ctx, a, l)
	if _, ok := errors.AsType[*laterError](err); ok {
		w.client.enqueueAll(ctx, []ledger.Ticket{t})
	} else if err != nil {
		w.client.log.WarnContext(ctx, "attempt is not recorded; it will be made again", "delivery", t.DeliveryID(), "error", err)
	}
	return next
}

// attempt makes one attempt and records what came of it before asynq hears of it. If it delivered, what was let out of the room for it is still to
// be enqueued, or to go on with.
func (w *Worker) attempt(ctx context.Context, a *attempt, l link) (next sequel, err error) {
	w.client.at("begun")
	ctx, span := w.client.tracer.Start(a.traced(ctx), "attempt "+a.meta.Type, a.spanOptions()...)
	defer span.End()
	err = w.client.contain(ctx, placeAttempt, func() error {
		a.send(ctx, w.client)
		w.client.at("posted")
		a.ownOutage = w.client.outage.note(ctx, a)
		a.settle()
		a.recorded = a.finish()
		return nil
	})
	if err != nil {
		a.broke()
	}
	state, next, err := w.finish(ctx, a, l)
	if err != nil {
		return sequel{}, err
	}
	if state != ledger.Delivered { // what comes next is asynq's to show
		w.client.enqueueAll(ctx, next.released)
		next = sequel{took: next.took}
	}
	w.client.at("finished")
	w.client.report(ctx, span, a, state)
	return next, a.after(state)
}

// skew is how long before its time a retry may begin that asynq brings: it keeps whole seconds by its worker's clock, and the record milliseconds
// by Redis's.
const skew = 2 * time.Second

// earliness is how long before its time a task's retry may begin: one that asynq has not kept yet was put into the lane at once, for asynq to
// show it as a retry.
func earliness(ctx context.Context) time.Duration {
	if retried, ok := asynq.GetRetryCount(ctx); ok && retried > 0 {
		return skew
	}
	return 0
}

// tooEarly sends a task back until its retry is due. attempts are the record's: the last is why. asynq does not know yet of the failure that a
// new task is for.
func tooEarly(r ledger.Ref, wait time.Duration, isNew bool, attempts string) *laterError {
	later := &laterError{wait: wait, why: "not due yet", failure: isNew}
	if entries := ledger.ParseEntries(attempts); len(entries) > 0 {
		later.why = entries[len(entries)-1].Failed(r)
	}
	return later
}

// newToken names an attempt's owner.
func (w *Worker) newToken() string { return w.instance + "." + rand.Text()[:8] }

// begin asks the record whether the attempt is due and this task's to make; without a turn, the delivery goes to its room. It returns nil
// if there is nothing to do.
func (w *Worker) begin(ctx context.Context, h hint, turn bool, early time.Duration) (*attempt, error) {
	return w.beginAs(ctx, w.newToken(), h, turn, early)
}

// beginAs is begin under a token that may have begun it already.
func (w *Worker) beginAs(ctx context.Context, token string, h hint, turn bool, early time.Duration) (*attempt, error) {
	c, r := w.client, h.ref()
	a := &attempt{ref: r, generation: h.Generation, token: token, since: time.Now()}
	cb, err := c.callback(ctx, r, 0)
	if err != nil {
		return nil, err
	}
	a.timeout = egress.DefaultMaxTimeout
	if cb != nil {
		a.timeout = cb.Timeout
	}
	barred, err := c.barred(ctx, turnOf(r), cb)
	if err != nil {
		return nil, err
	}
	claimed, err := c.ledger.Begin(ctx, ledger.Claim{
		Ref: r, Generation: h.Generation, Token: a.token, Lease: a.timeout + c.ownerGrace, NoTurn: !turn, Barred: barred, Early: early,
	})
	if err != nil {
		return nil, fmt.Errorf("beginning %s: %w", r.DeliveryID(), err)
	}
	switch claimed.Outcome {
	case ledger.Begun:
	case ledger.TooEarly:
		return nil, tooEarly(r, claimed.Wait, early == 0, claimed.Attempts)
	case ledger.WaitsInRoom:
		w.pacer.after(ctx, turnOf(r), claimed.Wait)
		return nil, nil // documented: nothing to do
	default: // this task has served
		return nil, nil // documented: nothing to do
	}
	if err := w.understand(ctx, a, claimed.Grant); err != nil {
		w.unbegin(ctx, a)
		return nil, err
	}
	return a, nil
}

// understand reads what an owner has to know of an attempt that has begun, and what else it takes to make it.
func (w *Worker) understand(ctx context.Context, a *attempt, g *ledger.Grant) (err error) {
	c, r := w.client, a.ref
	a.grant(g)
	c.at("granted")
	if len(a.body) == 0 { // no payload is: it is one of several long ones
		if a.body, err = c.ledger.Payload(ctx, r.Company, r.Event); err != nil {
			return fmt.Errorf("reading the payload of %s: %w", r.DeliveryID(), err)
		}
	}
	if a.callback, err = c.callback(ctx, r, a.version); err != nil {
		return err
	}
	if a.typ, _, err = c.registry.Types().Lookup(ctx, a.meta.Type); err != nil {
		return err // not sent, since nobody could judge the answer: whoever takes it over does
	}
	proven, err := c.recheck(ctx, a)
	if err != nil {
		return err
	}
	a.unproven = !proven
	if a.callback != nil { // it may have changed since: the lease that was taken still bounds the request
		a.timeout = min(a.timeout, a.callback.Timeout)
	}
	return nil
}

// finishWithin is how long the recording of an outcome is repeated while Redis fails: within the owner's grace.
func (w *Worker) finishWithin() time.Duration { return w.client.ownerGrace * 2 / 3 }

// finish records the outcome, again and again while Redis fails. If it cannot, the attempt counts as lost, and is made once more. The state is the
// delivery's, or empty if it is another owner's by now.
func (w *Worker) finish(ctx context.Context, a *attempt, l link) (state ledger.State, next sequel, err error) {
	c := w.client
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.finishWithin())
	defer cancel()
	f := a.recorded
	f.Turns = w.turns.limit
	if a.Verdict == verdict.Delivered && l.lane == laneOf(a.ref) && w.holds(l, a.ref.Company, func(lane string) bool { return !c.stopped.running(lane) }) {
		f.NextToken, f.NextLease = w.newToken(), a.callback.Timeout+c.ownerGrace
		next.looked = time.Now()
		next.first = &attempt{token: f.NextToken, timeout: a.callback.Timeout, since: next.looked}
	}
	began := time.Now()
	defer func() { next.took = time.Since(began) }()
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0))
	done, err := backoff.RetryWithData(func() (ledger.Finished, error) {
		done, err := c.ledger.Finish(ctx, f)
		f.NextLease = 0 // who repeats it asks for what has begun, and begins nothing more
		return done, err
	}, backoff.WithContext(policy, ctx))
	if err != nil {
		return "", sequel{}, fmt.Errorf("recording attempt %d of %s: %w", a.number, a.ref.DeliveryID(), err)
	}
	a.wait = done.Wait
	switch {
	case done.Outcome == ledger.RecordedLate:
		return done.State, sequel{}, nil
	case done.Outcome == ledger.NotOurs && done.State == ledger.Retrying && done.Generation == a.generation: // by an earlier run of the step
		return done.State, sequel{}, nil
	case done.Outcome == ledger.NotOurs:
		return "", sequel{}, nil
	}
	w.pacer.after(ctx, turnOf(a.ref), done.RoomWait)
	if done.Noticed {
		c.at("noted")
		c.tellNotices(ctx, a.ref.Company)
	}
	if len(done.Released) > 0 {
		c.at("popped")
	}
	return done.State, w.follows(ctx, next, done), nil
}

// follows is what goes on after an attempt. A delivery that has begun and cannot be made is pending again.
func (w *Worker) follows(ctx context.Context, next sequel, done ledger.Finished) sequel {
	first := next.first
	next.first, next.released = nil, done.Released
	if done.Next == nil {
		return next
	}
	first.ref, first.generation = done.Released[0].Ref, done.Released[0].Generation
	err := w.understand(ctx, first, done.Next)
	switch {
	case err != nil:
		w.client.log.WarnContext(ctx, "delivery did not begin; it is tried again", "delivery", first.ref.DeliveryID(), "error", err)
	case first.callback != nil && w.client.namesRefused(first.callback):
	default:
		next.first = first
		return next
	}
	w.unbegin(ctx, first)
	return next
}

// headers are what the partner receives beside the body.
func (a *attempt) headers(userAgent, signature string, at time.Time) http.Header {
	h := make(http.Header, 12)
	for name, value := range a.callback.Headers {
		h.Set(name, value)
	}
	h.Set("Content-Type", a.callback.Destination.ContentType)
	h.Set("User-Agent", userAgent)
	h.Set("Webhook-Id", a.id())
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Webhook-Signature", signature)
	if a.test {
		h.Set("Ringback-Test", "1")
	}
	if a.replay {
		h.Set("Ringback-Replay", "1")
	}
	h.Set("Ringback-Event-Id", a.ref.Event)
	h.Set("Ringback-Event-Type", a.meta.Type)
	h.Set("Ringback-Attempt", strconv.Itoa(a.number))
	return h
}
