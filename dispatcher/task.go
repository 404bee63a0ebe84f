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

// laneOf is the lane of a callback that does well.
func laneOf(r ledger.Ref) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.Company))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(strconv.FormatInt(r.Callback, 10)))
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

func (h hint) ref() ledger.Ref {
	return ledger.Ref{Company: h.Company, Event: h.Event, Callback: h.Callback}
}

func taskID(r ledger.Ref, generation int64) string {
	return r.DeliveryID() + ":g" + strconv.FormatInt(generation, 10)
}

const (
	// maxRetry is asynq's own count, which must never decide: the callback's schedule does.
	maxRetry = 1_000_000
	// taskTimeout is asynq's limit on a handler: far above the longest attempt (60 s) and the recording of its outcome.
	taskTimeout = 3 * time.Minute
)

// enqueue puts a task for this generation into its lane. That asynq has it already is success: the id is derived, so it is the same task
// (asynq.ErrTaskIDConflict is also what a lost reply and a repeated command look like).
func (c *Client) enqueue(ctx context.Context, t ledger.Ticket, options ...asynq.Option) (known bool, err error) {
	payload, err := json.Marshal(hint{t.Ref.Company, t.Ref.Event, t.Ref.Callback, t.Generation})
	if err != nil {
		return false, err
	}
	options = append(options, asynq.TaskID(taskID(t.Ref, t.Generation)), asynq.Queue(queueOf(t)), asynq.MaxRetry(maxRetry), asynq.Timeout(taskTimeout))
	_, err = c.asynq.EnqueueContext(ctx, asynq.NewTask(taskType, payload), options...)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return true, nil
	}
	if err == nil {
		c.bell.Ring(ctx, queueOf(t))
	}
	return false, err
}

// inSlowLane reports whether asynq is known to have the task there. Task ids are a queue's own: in another lane it would be a second task.
func (c *Client) inSlowLane(ctx context.Context, t ledger.Ticket) bool {
	n, err := c.rdb.Exists(ctx, "asynq:{"+slowLane+"}:t:"+taskID(t.Ref, t.Generation)).Result()
	return err == nil && n > 0
}

// queueOf is the lane that a delivery's task goes to.
func queueOf(t ledger.Ticket) string {
	if t.Slow {
		return slowLane
	}
	return laneOf(t.Ref)
}

// enqueueAll enqueues deliveries that are pending in Redis: at once, or when it is their turn. It does not fail: the reconciler repeats what is missing.
// Nor does it stop with its caller, who may have gone.
func (c *Client) enqueueAll(ctx context.Context, tasks []ledger.Ticket) {
	c.letIn(ctx, tasks, func(ctx context.Context, t ledger.Ticket) {
		if _, err := c.enqueue(ctx, t); err != nil {
			c.log.WarnContext(ctx, "enqueue failed; the reconciler will repeat it",
				"company", t.Ref.Company, "delivery", t.Ref.DeliveryID(), "error", err)
		}
	})
}

// letIn brings tasks into the lanes: those that may come at once before it returns, the others by turns. Those that too many wait before are the
// reconciler's.
func (c *Client) letIn(ctx context.Context, tasks []ledger.Ticket, bring func(context.Context, ledger.Ticket)) {
	ctx = context.WithoutCancel(ctx)
	now := make([]ledger.Ticket, 0, len(tasks))
	for _, t := range tasks {
		if c.intake.Pass(ctx, queueOf(t), t.Ref.Company, t.Bytes) {
			now = append(now, t)
			continue
		}
		if !c.intake.Wait(lanes.Waiting{
			Lane: queueOf(t), Company: t.Ref.Company, Callback: t.Ref.Callback, Name: taskID(t.Ref, t.Generation), Bytes: t.Bytes,
			Enter: func(ctx context.Context) { bring(ctx, t) },
		}) {
			c.often.Do(func() {
				c.log.WarnContext(ctx, "more tasks wait for a lane than are remembered; the reconciler brings them", "lane", queueOf(t), "company", t.Ref.Company)
			})
		}
	}
	c.inParallel(ctx, now, func(t ledger.Ticket) { bring(ctx, t) })
}

// pendingIn is how many tasks a lane holds that no worker has taken.
func (c *Client) pendingIn(ctx context.Context, lane string) (int64, error) {
	return c.rdb.LLen(ctx, "asynq:{"+lane+"}:pending").Result()
}

// fanOut bounds how many tasks are handled at a time.
const fanOut = 16

// inParallel does it for each task. One that panics stays as it is, as if this process had been killed just then: the reconciler finds it.
func (c *Client) inParallel(ctx context.Context, tasks []ledger.Ticket, do func(ledger.Ticket)) {
	each := func(t ledger.Ticket) { _ = c.contain(ctx, placeEnqueue, func() error { do(t); return nil }) }
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
	Company    string       `json:"company"`
	CallbackID int64        `json:"callback_id"`
	EventType  string       `json:"event_type,omitempty"`
	EventID    string       `json:"event_id"`
	DeliveryID string       `json:"delivery_id"`
	State      ledger.State `json:"state,omitempty"`
	Attempt    int          `json:"attempt,omitempty"` // the last that began
	Generation int64        `json:"generation"`
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
		Company: h.Company, CallbackID: h.Callback, EventID: h.Event, DeliveryID: h.ref().DeliveryID(), Generation: h.Generation,
	}
	ctx, cancel := context.WithTimeout(context.Background(), formatWithin)
	defer cancel()
	if e, err := c.ledger.Deliveries(ctx, []ledger.Ref{h.ref()}); err == nil && e[0] != nil { // else the names have to do
		rec := e[0].Records[h.Callback]
		shown.EventType, shown.State, shown.Attempt = e[0].Meta.Type, ledger.StateOf[rec.State], rec.Number
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
