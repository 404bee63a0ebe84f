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
	"time"

	"github.com/hibiken/asynq"
)

// taskType is the asynq type of the one kind of task there is.
const taskType = "ringback:deliver"

// lanes is how many asynq queues deliveries are spread over, by callback. Every process must agree on it.
const lanes = 4

// Queues names the lanes, as asynq and its UI know them.
func Queues() []string {
	names := make([]string, lanes)
	for i := range names {
		names[i] = "ringback-" + strconv.Itoa(i)
	}
	return names
}

var queues = Queues()

func (r ref) queue() string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(r.company))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(strconv.FormatInt(r.callback, 10)))
	return queues[h.Sum32()%lanes]
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
func (c *Client) enqueue(ctx context.Context, r ref, generation int64) (known bool, err error) {
	payload, err := json.Marshal(hint{r.company, r.event, r.callback, generation})
	if err != nil {
		return false, err
	}
	_, err = c.asynq.EnqueueContext(ctx, asynq.NewTask(taskType, payload),
		asynq.TaskID(taskID(r, generation)), asynq.Queue(r.queue()), asynq.MaxRetry(maxRetry), asynq.Timeout(taskTimeout))
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return true, nil
	}
	return false, err
}

// enqueueReleased enqueues what a script let out of a room: member, generation, member, generation, …
// A failure is only logged: the records are pending and due, so the reconciler brings them.
func (c *Client) enqueueReleased(ctx context.Context, company string, released []string) {
	for i := 0; i+1 < len(released); i += 2 {
		r, ok := parseMember(company, released[i])
		generation, err := strconv.ParseInt(released[i+1], 10, 64)
		if !ok || err != nil {
			c.log.ErrorContext(ctx, "released delivery has no readable name", "company", company, "member", released[i])
			continue
		}
		if _, err := c.enqueue(ctx, r, generation); err != nil {
			c.log.WarnContext(ctx, "enqueue failed; the reconciler will repeat it", "company", company, "delivery", r.deliveryID(), "error", err)
		}
	}
}

// FormatTask is what asynq's UI shows as a task's payload: names and numbers, never the event's content.
func FormatTask(kind string, payload []byte) string {
	var h hint
	if kind != taskType || json.Unmarshal(payload, &h) != nil {
		return "(not a delivery)"
	}
	return fmt.Sprintf(`{"company": %q, "event_id": %q, "callback_id": %d, "delivery_id": %q, "generation": %d}`,
		h.Company, h.Event, h.Callback, h.ref().deliveryID(), h.Generation)
}

// asynqLog hands asynq's messages to slog.
type asynqLog struct{ c *Client }

func (l asynqLog) Debug(...any)      {}
func (l asynqLog) Info(...any)       {}
func (l asynqLog) Warn(args ...any)  { l.say(slog.LevelWarn, args) }
func (l asynqLog) Error(args ...any) { l.say(slog.LevelError, args) }

// Fatal is called where asynq would end the process; that is not a library's to decide.
func (l asynqLog) Fatal(args ...any) { l.say(slog.LevelError, args) }

func (l asynqLog) say(level slog.Level, args []any) {
	l.c.log.Log(context.Background(), level, "asynq: "+clip(strings.TrimSpace(fmt.Sprint(args...)), 500))
}
