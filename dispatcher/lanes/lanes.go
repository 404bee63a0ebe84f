package lanes

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Contain runs something, and makes an error of a panic of it.
type Contain func(ctx context.Context, do func() error) error

// Config is what [Lanes] need. All is required.
type Config struct {
	Redis  redis.UniversalClient // the caller closes it
	Ledger *ledger.Ledger        // knows how deliveries stand
	Logger *slog.Logger
	Weight func(ctx context.Context, company string) int // how many times as much as others a company may bring in
	// Contain runs what goes on in goroutines of the lanes' own.
	Contain Contain
}

// Lanes bring deliveries' tasks to asynq, look after those that are there, and know how many lanes there are and whether they are paused. They are safe for
// concurrent use.
type Lanes struct {
	rdb     redis.UniversalClient
	ledger  *ledger.Ledger
	log     *slog.Logger
	contain Contain

	asynq     *asynq.Client
	inspector *asynq.Inspector
	bell      *bell
	intake    *intake
	lone      Lone
	often     rate.Sometimes // it may be said that too many wait
	numbers   *numbers
	stopped   *stopped
	leaving   leaving
}

// New makes Lanes.
func New(cfg Config) *Lanes {
	l := &Lanes{
		rdb: cfg.Redis, ledger: cfg.Ledger, log: cfg.Logger, contain: cfg.Contain,
		asynq: asynq.NewClientFromRedisClient(cfg.Redis), inspector: asynq.NewInspectorFromRedisClient(cfg.Redis),
		often: rate.Sometimes{Interval: time.Second},
	}
	l.intake = newIntake(all, &l.lone, l.pending, cfg.Weight, l.contain)
	l.numbers = newNumbers(l.rdb, l.contain, func(n number) { l.intake.move(n.of) })
	l.stopped = &stopped{rdb: l.rdb, numbers: l.numbers}
	l.bell = newBell(l.rdb, all, l.log, l.contain)
	l.bell.moved = func(ctx context.Context) { _ = l.numbers.glimpse(ctx) }
	return l
}

// Close lets in what waits, for some seconds at most.
func (l *Lanes) Close() {
	l.intake.Close()
	l.bell.Close()
	l.numbers.close()
}

// Of is the lane of a callback that does well.
func (l *Lanes) Of(r ledger.Ref) string { return l.numbers.known().of(r.Company, r.Callback) }

// For is the lane that a delivery's task goes to.
func (l *Lanes) For(t ledger.Ticket) string {
	if t.Slow {
		return Slow
	}
	return l.Of(t.Ref)
}

// Names are those of the lanes that are looked into, as asynq and its UI know them; the slow one is last.
func (l *Lanes) Names() []string { return l.numbers.known().lanes() }

// Count is how many lanes deliveries are spread over, by callback.
func (l *Lanes) Count() int { return l.numbers.known().count }

// Changed is closed once there are more lanes, or fewer, or one is not looked into any more.
func (l *Lanes) Changed() <-chan struct{} { return l.numbers.next() }

// Lone tells whether one company has this process for itself.
func (l *Lanes) Lone() *Lone { return &l.lone }

// Listen hears of what other processes bring to the lanes, until ctx ends.
func (l *Lanes) Listen(ctx context.Context) { l.bell.Listen(ctx) }

// Register learns which lanes there are, and names them to asynq's UI and Inspector. asynq does so once per process, which a Redis that lost its data outlives.
func (l *Lanes) Register(ctx context.Context) error {
	l.numbers.renew(ctx, fresh)
	return l.name(ctx, l.Names())
}

func (l *Lanes) name(ctx context.Context, lanes []string) error {
	return l.rdb.SAdd(ctx, "asynq:queues", lanes).Err()
}

// taskType is the asynq type of the one kind of task there is.
const taskType = "ringback:deliver"

const (
	// maxRetry is asynq's own count, which must never decide: the callback's schedule does.
	maxRetry = 1_000_000
	// TaskTimeout is asynq's limit on a handler: far above the longest attempt (60 s) and the recording of its outcome.
	TaskTimeout = 3 * time.Minute
)

// A hint is a task's payload: it may be time to act on this generation of this delivery. It names the event and does not copy it:
// asynq rewrites the payloads of active tasks with every heartbeat.
type hint struct {
	Company    string `json:"company"`
	Event      string `json:"event"`
	Callback   int64  `json:"callback"`
	Generation int64  `json:"generation"`
}

// NewTask is the task of a delivery.
func NewTask(t ledger.Ticket) (*asynq.Task, error) {
	payload, err := json.Marshal(hint{t.Company, t.Event, t.Callback, t.Generation})
	if err != nil {
		return nil, err
	}
	return asynq.NewTask(taskType, payload), nil
}

// readTask is the inverse of NewTask.
func readTask(kind string, payload []byte) (ledger.Ticket, bool) {
	var h hint
	if err := json.Unmarshal(payload, &h); err != nil || kind != taskType {
		return ledger.Ticket{}, false
	}
	return ledger.Ticket{Ref: ledger.Ref{Company: h.Company, Event: h.Event, Callback: h.Callback}, Generation: h.Generation}, true
}

// TaskID is what asynq calls the task of a generation of a delivery.
func TaskID(r ledger.Ref, generation int64) string {
	return r.DeliveryID() + ":g" + strconv.FormatInt(generation, 10)
}

// Enqueue puts a delivery's task into its lane at once. If asynq has it already, that is success: the id is derived, so it is the same
// task (asynq.ErrTaskIDConflict is also what a lost reply and a repeated command look like).
func (l *Lanes) Enqueue(ctx context.Context, t ledger.Ticket, options ...asynq.Option) (known bool, err error) {
	task, err := NewTask(t)
	if err != nil {
		return false, err
	}
	l.numbers.keep(ctx)
	lane := l.For(t)
	options = append(options, asynq.TaskID(TaskID(t.Ref, t.Generation)), asynq.Queue(lane), asynq.MaxRetry(maxRetry), asynq.Timeout(TaskTimeout))
	_, err = l.asynq.EnqueueContext(ctx, task, options...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return true, nil
	}
	if err == nil {
		l.bell.Ring(ctx, lane)
	}
	return false, err
}

// Elsewhere reports whether asynq is known to have the task in another lane than Enqueue brings it to: the slow one, or one that it was for before there were
// more lanes, or fewer. Task ids are a queue's own: here it would be a second task.
func (l *Lanes) Elsewhere(ctx context.Context, t ledger.Ticket) bool {
	lane := l.For(t)
	return slices.ContainsFunc(l.find(ctx, t.Ref, t.Generation), func(in string) bool { return in != lane })
}

// find are the lanes in which asynq is known to have the task of a generation of a delivery: one, as a rule, or none. A lane that does not answer has none.
func (l *Lanes) find(ctx context.Context, r ledger.Ref, generation int64) (in []string) {
	ctx, cancel := context.WithTimeout(ctx, enqueueWithin)
	defer cancel()
	lanes := l.numbers.known().may(r)
	there := make([]*redis.IntCmd, len(lanes))
	_, _ = l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, lane := range lanes {
			there[i] = p.Exists(ctx, "asynq:{"+lane+"}:t:"+TaskID(r, generation))
		}
		return nil
	})
	for i, lane := range lanes {
		if there[i].Val() > 0 {
			in = append(in, lane)
		}
	}
	return in
}

// enqueueWithin is how long a caller waits for a lane that does not answer: on a Redis Cluster it may be on another node than all that the caller needs.
const enqueueWithin = 500 * time.Millisecond

// Bring brings deliveries that are pending in Redis to their lanes: at once, or when it is their turn, or when the lane answers again. It does not fail: the
// reconciler repeats what is missing. It goes on if its caller has gone.
func (l *Lanes) Bring(ctx context.Context, tickets ...ledger.Ticket) {
	bring := func(ctx context.Context, t ledger.Ticket) {
		if _, err := l.Enqueue(ctx, t); err != nil {
			l.log.WarnContext(ctx, "enqueue failed; the reconciler will repeat it", "company", t.Company, "delivery", t.DeliveryID(), "error", err)
		}
	}
	ctx = context.WithoutCancel(ctx)
	l.inParallel(ctx, l.letIn(ctx, tickets, bring), func(t ledger.Ticket) {
		bounded, cancel := context.WithTimeout(ctx, enqueueWithin)
		defer cancel()
		if _, err := l.Enqueue(bounded, t); err != nil {
			l.often.Do(func() {
				l.log.WarnContext(ctx, "a lane does not answer; what is for it waits", "lane", l.For(t), "company", t.Company, "delivery", t.DeliveryID(), "error", err)
			})
			l.await(ctx, t, bring)
		}
	})
}

// LetIn has deliveries brought to their lanes: those that may come at once before it returns, the others by turns. If too many wait already, the rest is
// the reconciler's.
func (l *Lanes) LetIn(ctx context.Context, tickets []ledger.Ticket, bring func(context.Context, ledger.Ticket)) {
	ctx = context.WithoutCancel(ctx)
	l.inParallel(ctx, l.letIn(ctx, tickets, bring), func(t ledger.Ticket) { bring(ctx, t) })
}

// letIn returns those that may come at once, and has the others wait.
func (l *Lanes) letIn(ctx context.Context, tickets []ledger.Ticket, bring func(context.Context, ledger.Ticket)) []ledger.Ticket {
	l.numbers.keep(ctx)
	now := make([]ledger.Ticket, 0, len(tickets))
	for _, t := range tickets {
		bounded, cancel := context.WithTimeout(ctx, enqueueWithin)
		if l.intake.Pass(bounded, l.For(t), t.Company, t.Bytes) {
			now = append(now, t)
		} else {
			l.await(ctx, t, bring)
		}
		cancel()
	}
	return now
}

// await has a delivery brought when it is its turn and its lane answers.
func (l *Lanes) await(ctx context.Context, t ledger.Ticket, bring func(context.Context, ledger.Ticket)) {
	if !l.intake.Wait(Waiting{
		Lane: l.For(t), Company: t.Company, Callback: t.Callback, Name: TaskID(t.Ref, t.Generation), Bytes: t.Bytes,
		Enter: func(ctx context.Context) { bring(ctx, t) },
	}) {
		l.often.Do(func() {
			l.log.WarnContext(ctx, "more tasks wait for a lane than are remembered; the reconciler brings them", "lane", l.For(t), "company", t.Company)
		})
	}
}

// pending is how many tasks a lane holds that no worker has taken.
func (l *Lanes) pending(ctx context.Context, lane string) (int64, error) {
	return l.rdb.LLen(ctx, "asynq:{"+lane+"}:pending").Result()
}

// fanOut bounds how many tasks are handled at a time.
const fanOut = 16

// inParallel does it for each delivery. One that panics stays as it is, as if this process had been killed just then: the reconciler finds it.
func (l *Lanes) inParallel(ctx context.Context, tickets []ledger.Ticket, do func(ledger.Ticket)) {
	each := func(t ledger.Ticket) { _ = l.contain(ctx, func() error { do(t); return nil }) }
	if len(tickets) == 1 {
		each(tickets[0])
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, fanOut)
	for _, t := range tickets {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			each(t)
		})
	}
	wg.Wait()
}

// Runs reports whether asynq has a delivery's task where it will run by itself, and brings it there if asynq does not have it: under its own task id,
// unless it is in another lane. A conflict proves that asynq has the task. It may have it where it will not run any more: handed to a worker that never
// began, archived, a name without content.
func (l *Lanes) Runs(ctx context.Context, t ledger.Ticket) (bool, error) {
	in := l.find(ctx, t.Ref, t.Generation)
	if len(in) == 0 {
		known, err := l.Enqueue(ctx, t)
		if err != nil || !known {
			return err == nil, err
		}
		in = []string{l.For(t)}
	}
	for _, lane := range in {
		if runs, err := l.runsIn(ctx, lane, t); runs || err != nil {
			return runs, err
		}
	}
	return false, nil
}

func (l *Lanes) runsIn(ctx context.Context, lane string, t ledger.Ticket) (bool, error) {
	info, err := l.inspector.GetTaskInfo(lane, TaskID(t.Ref, t.Generation))
	switch {
	case isGone(err): // finished this moment, or a name without content
	case err != nil:
		l.log.WarnContext(ctx, "asynq has a task it cannot show", "company", t.Company, "delivery", t.DeliveryID(), "error", err)
	case info.State == asynq.TaskStatePending:
		return true, nil
	case info.State == asynq.TaskStateScheduled, info.State == asynq.TaskStateRetry:
		if !info.NextProcessAt.After(time.Now()) {
			return true, nil
		}
		// It is overdue by the installation's time, and asynq keeps it by a machine's clock, which was set back.
		err := l.inspector.RunTask(info.Queue, info.ID)
		if err == nil {
			l.bell.Ring(ctx, info.Queue)
		}
		return err == nil, nil
	}
	return false, nil
}

func isGone(err error) bool {
	return errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound)
}

// oldTasks is how many generations of a delivery are looked for in asynq: a task of an older one ends by itself.
const oldTasks = 8

// ForgetAll removes the tasks of deliveries that are gone from asynq, those of the last few generations included: the same event may come again, and its
// tasks have the same ids. One that is under way ends by itself.
func (l *Lanes) ForgetAll(ctx context.Context, gone []ledger.Ticket) {
	var all []ledger.Ticket
	for _, t := range gone {
		for g := t.Generation; g > max(0, t.Generation-oldTasks); g-- {
			all = append(all, ledger.Ticket{Ref: t.Ref, Generation: g})
		}
	}
	l.inParallel(ctx, all, func(t ledger.Ticket) { l.Forget(ctx, t.Ref, t.Generation) })
}

// Forget removes the task of an old generation from asynq's retries, for tidiness: should it run, it ends without an attempt.
func (l *Lanes) Forget(ctx context.Context, r ledger.Ref, generation int64) {
	for _, lane := range l.find(ctx, r, generation) {
		if err := l.inspector.DeleteTask(lane, TaskID(r, generation)); err != nil && !isGone(err) {
			l.log.DebugContext(ctx, "old task stays", "delivery", r.DeliveryID(), "error", err)
		}
	}
}

// A Depth is how much there is in a lane.
type Depth struct {
	Lane    string
	Tasks   map[string]int // in asynq, by its state
	Waiting int            // in this process, to come into the lane
	Oldest  time.Duration  // how long what waits longest has waited, there or here
}

// Waiting is how many tasks of a company wait in this process to come into a lane.
func (l *Lanes) Waiting(company string) int { return l.intake.Of(company) }

// Depths reads them, of all lanes that are looked into.
func (l *Lanes) Depths() ([]Depth, error) {
	n := l.numbers.known()
	depths := make([]Depth, 0, n.high+1)
	for i, lane := range n.lanes() {
		info, err := l.inspector.GetQueueInfo(lane)
		if i >= n.count && i < n.high && isGone(err) { // it is not looked into any more
			continue
		}
		if err != nil {
			return nil, err
		}
		d := Depth{Lane: lane, Oldest: info.Latency, Tasks: map[string]int{
			"pending": info.Pending, "active": info.Active, "scheduled": info.Scheduled, "retry": info.Retry, "archived": info.Archived,
		}}
		var since time.Time
		if d.Waiting, since = l.intake.Waits(lane); d.Waiting > 0 {
			d.Oldest = max(d.Oldest, time.Since(since))
		}
		depths = append(depths, d)
	}
	return depths, nil
}
