package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// taskType is the asynq type of the one kind of task there is.
const taskType = "ringback:deliver"

const (
	// laneCount is how many asynq queues deliveries are spread over, by callback. Every process must agree on it.
	laneCount = 4
	// slowLane is one more, for deliveries that are let out while their callback's breaker is open: they fail for the most part, and their
	// retries come in crowds, once a second. Nobody who does well waits behind them. A task stays in its lane until it has served.
	slowLane = "ringback-slow"
)

// Queues names the lanes, as asynq and its UI know them; the slow one is last.
func Queues() []string {
	names := make([]string, laneCount, laneCount+1)
	for i := range names {
		names[i] = "ringback-" + strconv.Itoa(i)
	}
	return append(names, slowLane)
}

var queues = Queues()

// queue is the lane of a callback that does well.
func (r ref) queue() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.company))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(strconv.FormatInt(r.callback, 10)))
	return queues[h.Sum32()%laneCount]
}

// A hint is a task's payload: it may be time to act on this generation of this delivery. It names the event and does not copy it:
// asynq rewrites the payloads of active tasks with every heartbeat.
type hint struct {
	Company    string `json:"company"`
	Event      string `json:"event"`
	Callback   int64  `json:"callback"`
	Generation int64  `json:"generation"`
}

func (h hint) ref() ref { return ref{h.Company, h.Event, h.Callback} }

func taskID(r ref, generation int64) string {
	return r.deliveryID() + ":g" + strconv.FormatInt(generation, 10)
}

const (
	// maxRetry is asynq's own count, which must never decide: the callback's schedule does.
	maxRetry = 1_000_000
	// taskTimeout is asynq's limit on a handler: far above the longest attempt (60 s) and the recording of its outcome.
	taskTimeout = 3 * time.Minute
)

// enqueue puts a task for this generation into its lane. That asynq has it already is success: the id is derived, so it is the same task
// (asynq.ErrTaskIDConflict is also what a lost reply and a repeated command look like).
func (c *Client) enqueue(ctx context.Context, t pendingTask, options ...asynq.Option) (known bool, err error) {
	payload, err := json.Marshal(hint{t.ref.company, t.ref.event, t.ref.callback, t.generation})
	if err != nil {
		return false, err
	}
	options = append(options, asynq.TaskID(taskID(t.ref, t.generation)), asynq.Queue(t.queue()), asynq.MaxRetry(maxRetry), asynq.Timeout(taskTimeout))
	_, err = c.asynq.EnqueueContext(ctx, asynq.NewTask(taskType, payload), options...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return true, nil
	}
	if err == nil {
		c.bell.Ring(ctx, t.queue())
	}
	return false, err
}

// inSlowLane reports whether asynq is known to have the task there. Task ids are a queue's own: in another lane it would be a second task.
func (c *Client) inSlowLane(ctx context.Context, t pendingTask) bool {
	n, err := c.rdb.Exists(ctx, "asynq:{"+slowLane+"}:t:"+taskID(t.ref, t.generation)).Result()
	return err == nil && n > 0
}

// A pendingTask is a delivery that may go and whose task is to be enqueued.
type pendingTask struct {
	ref        ref
	generation int64
	slow       bool // it goes to the slow lane
	bytes      int  // of its payload; 0 where that is not known
}

func (t pendingTask) queue() string {
	if t.slow {
		return slowLane
	}
	return t.ref.queue()
}

// readTask reads a delivery's name and ticket as scripts give them: its generation, and s if it goes to the slow lane.
func readTask(company, member, ticket string) (pendingTask, error) {
	r, ok := parseMember(company, member)
	generation, slow := strings.CutSuffix(ticket, "s")
	g, err := strconv.ParseInt(generation, 10, 64)
	if !ok || err != nil {
		return pendingTask{}, fmt.Errorf("delivery %q of %s: %w", member, company, errBadRecord)
	}
	return pendingTask{ref: r, generation: g, slow: slow}, nil
}

// enqueueAll enqueues deliveries that are pending in Redis: at once, or when it is their turn. It does not fail: the reconciler repeats what is missing.
// Nor does it stop with its caller, who may have gone.
func (c *Client) enqueueAll(ctx context.Context, tasks []pendingTask) {
	c.letIn(ctx, tasks, func(ctx context.Context, t pendingTask) {
		if _, err := c.enqueue(ctx, t); err != nil {
			c.log.WarnContext(ctx, "enqueue failed; the reconciler will repeat it",
				"company", t.ref.company, "delivery", t.ref.deliveryID(), "error", err)
		}
	})
}

// letIn brings tasks into the lanes: those that may come at once before it returns, the others by turns. Those that too many wait before are the
// reconciler's.
func (c *Client) letIn(ctx context.Context, tasks []pendingTask, bring func(context.Context, pendingTask)) {
	ctx = context.WithoutCancel(ctx)
	now := make([]pendingTask, 0, len(tasks))
	for _, t := range tasks {
		if c.intake.Pass(ctx, t.queue(), t.ref.company, t.bytes) {
			now = append(now, t)
			continue
		}
		if !c.intake.Wait(lanes.Waiting{
			Lane: t.queue(), Company: t.ref.company, Callback: t.ref.callback, Name: taskID(t.ref, t.generation), Bytes: t.bytes,
			Enter: func(ctx context.Context) { bring(ctx, t) },
		}) {
			c.often.Do(func() {
				c.log.WarnContext(ctx, "more tasks wait for a lane than are remembered; the reconciler brings them", "lane", t.queue(), "company", t.ref.company)
			})
		}
	}
	c.inParallel(ctx, now, func(t pendingTask) { bring(ctx, t) })
}

// pendingIn is how many tasks a lane holds that no worker has taken.
func (c *Client) pendingIn(ctx context.Context, lane string) (int64, error) {
	return c.rdb.LLen(ctx, "asynq:{"+lane+"}:pending").Result()
}

// enqueueReleased enqueues what a script let out of a room: member, ticket, member, ticket, …
func (c *Client) enqueueReleased(ctx context.Context, company string, released []string) {
	tasks := make([]pendingTask, 0, len(released)/2)
	for i := 0; i+1 < len(released); i += 2 {
		t, err := readTask(company, released[i], released[i+1])
		if err != nil {
			c.log.ErrorContext(ctx, "released delivery has no readable name", "error", err)
			continue
		}
		tasks = append(tasks, t)
	}
	c.enqueueAll(ctx, tasks)
}

// fanOut bounds how many tasks are handled at a time.
const fanOut = 16

// inParallel does it for each task. One that panics stays as it is, as if this process had been killed just then: the reconciler finds it.
func (c *Client) inParallel(ctx context.Context, tasks []pendingTask, do func(pendingTask)) {
	each := func(t pendingTask) { _ = c.contain(ctx, placeEnqueue, func() error { do(t); return nil }) }
	if len(tasks) == 1 {
		each(tasks[0])
		return
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, fanOut)
	for _, t := range tasks {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			each(t)
		})
	}
	wg.Wait()
}

// shownTask is what asynq's UI shows as a task's payload.
type shownTask struct {
	Company    string `json:"company"`
	CallbackID int64  `json:"callback_id"`
	EventType  string `json:"event_type,omitempty"`
	EventID    string `json:"event_id"`
	DeliveryID string `json:"delivery_id"`
	State      State  `json:"state,omitempty"`
	Attempt    int    `json:"attempt,omitempty"` // the last that began
	Generation int64  `json:"generation"`
}

// formatWithin is how long the UI waits for what a task's record says.
const formatWithin = 300 * time.Millisecond

// FormatTask is what asynq's UI shows as a task's payload: names and numbers, and how the delivery stands now; never the event's content.
func (c *Client) FormatTask(kind string, payload []byte) string {
	var h hint
	if kind != taskType || json.Unmarshal(payload, &h) != nil {
		return "(not a delivery)"
	}
	shown := shownTask{
		Company: h.Company, CallbackID: h.Callback, EventID: h.Event, DeliveryID: h.ref().deliveryID(), Generation: h.Generation,
	}
	ctx, cancel := context.WithTimeout(context.Background(), formatWithin)
	defer cancel()
	values, err := c.rdb.HMGet(ctx, eventKey(h.Company, h.Event), "m", recordField(h.Callback)).Result()
	if err == nil && len(values) == 2 { // else the names have to do
		var m meta
		_ = json.Unmarshal([]byte(ledger.String(values[0])), &m)
		shown.EventType = m.Type
		if rec, err := parseRecord(ledger.String(values[1])); err == nil {
			shown.State, shown.Attempt = stateOf[rec.state], rec.number
		}
	}
	text, _ := json.Marshal(shown) // strings and numbers always encode
	return string(text)
}

// asynqLog hands asynq's messages to slog: one a second at most, for asynq repeats itself quickly while Redis is away.
type asynqLog struct {
	c     *Client
	often *rate.Sometimes
}

func newAsynqLog(c *Client) asynqLog {
	return asynqLog{c, &rate.Sometimes{First: 10, Interval: time.Second}}
}

func (l asynqLog) Debug(...any)      {}
func (l asynqLog) Info(...any)       {}
func (l asynqLog) Warn(args ...any)  { l.say(slog.LevelWarn, args) }
func (l asynqLog) Error(args ...any) { l.say(slog.LevelError, args) }

// Fatal is called where asynq would end the process; that is not a library's to decide.
func (l asynqLog) Fatal(args ...any) { l.say(slog.LevelError, args) }

func (l asynqLog) say(level slog.Level, args []any) {
	l.often.Do(func() {
		l.c.log.Log(context.Background(), level, "asynq: "+verdict.Clip(verdict.Printable(strings.TrimSpace(fmt.Sprint(args...))), 500))
	})
}
