package dispatcher

import (
	"context"
	"encoding/json"
	"time"

	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// How tests name what package lanes has.
const (
	slowLane  = lanes.Slow
	laneCount = lanes.DefaultCount
	haltLook  = lanes.HaltLook

	// fewAttempts are so many that a worker has one server a lane for fewer.
	fewAttempts = 100
)

// queues are the lanes that there are where nobody has set another number.
var queues = new(lanes.Lanes).Names()

func laneOf(r ledger.Ref) string { return new(lanes.Lanes).Of(r) }

func taskID(r ledger.Ref, generation int64) string { return lanes.TaskID(r, generation) }

// ticket is of a delivery of acme's.
func ticket(event string, callback, generation int64) ledger.Ticket {
	return ledger.Ticket{Ref: ledger.Ref{Company: acme, Event: event, Callback: callback}, Generation: generation}
}

// taskEvent is the event that a task's payload names.
func (h *house) taskEvent(task *asynq.TaskInfo) string {
	h.t.Helper()
	var named struct{ Event string }
	h.must(json.Unmarshal(task.Payload, &named))
	return named.Event
}

// inspector looks into asynq's queues.
func (h *house) inspector() *asynq.Inspector { return asynq.NewInspectorFromRedisClient(h.rdb) }

// depth is how much there is in a lane.
func (h *house) depth(lane string) lanes.Depth {
	h.t.Helper()
	h.must(h.client.lanes.Register(h.t.Context()))
	all, err := h.client.lanes.Depths()
	h.must(err)
	for _, d := range all {
		if d.Lane == lane {
			return d
		}
	}
	h.t.Fatal("there is no lane " + lane)
	return lanes.Depth{}
}

// halt pauses or resumes the lanes, without waiting until all processes have seen it.
func halt(ctx context.Context, c *Client, action string) error {
	line := registry.AuditLine(ctx, "", action, "egress")
	if action == "egress.pause" {
		return c.lanes.Pause(ctx, line)
	}
	return c.lanes.Resume(ctx, line)
}

// looksAge waits until what is known of paused lanes is to be looked at again.
func looksAge() { <-time.After(haltLook + time.Millisecond) }
