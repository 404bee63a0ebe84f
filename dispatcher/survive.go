package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// A panic is a fault of ours. It ends what it happened in, and never the process: every goroutine that this package starts or is called on has
// a last line of defence, which tells log and metrics and lets the next round, timer or task go on. The work that was under way is repaired as after
// a kill (see the crash story).

// Where panics are caught: the metric's places.
const (
	placeReconciler = "reconciler"
	placePacer      = "pacer"
	placeExpander   = "expander"
	placeTask       = "task"    // asynq's handler and what it asks about a task's end
	placeAttempt    = "attempt" // from encoding to judging
	placeEnqueue    = "enqueue"
	placeCommit     = "commit" // of what goes to Redis together
	placeMetrics    = "metrics"
	placeLive       = "live"       // who watches deliveries hears of them
	placePollers    = "pollers"    // who waits for something to fetch hears of it
	placeToken      = "token"      // the fetch of an access token
	placeConnection = "connection" // while it is opened
	// PlaceHTTP is for handlers of HTTP requests, which catch their own.
	PlaceHTTP = "http"
	// PlaceProcess is for what a process does besides: taking connections, and ending.
	PlaceProcess = "process"
)

var places = []string{placeReconciler, placePacer, placeExpander, placeTask, placeAttempt, placeEnqueue, placeCommit, placeMetrics, placeLive, placePollers, placeToken, placeConnection, PlaceHTTP, PlaceProcess}

// errPanicked is what became of something that panicked; log and metrics know more.
var errPanicked = errors.New("a fault in Ringback itself: its log says more")

// A guard is that line of defence.
type guard struct {
	log    *slog.Logger
	panics metric.Int64Counter // by place
}

// Panicked tells log and metrics of a panic that was caught at a place, one of the few that the metric is by. Call it in the deferred function
// that recovered: the stack that is logged is the caller's.
func (g *guard) Panicked(ctx context.Context, place string, cause any) {
	g.panics.Add(ctx, 1, metric.WithAttributes(attribute.String("place", place)))
	g.log.LogAttrs(ctx, slog.LevelError, "panicked; what it was doing is given up, and the process goes on",
		slog.String("place", place), slog.String("panic", Telling(fmt.Sprint(cause))), slog.String("stack", string(debug.Stack())))
}

// contain runs do, and turns its panic into an error.
func (g *guard) contain(ctx context.Context, place string, do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			g.Panicked(ctx, place, cause)
			err = errPanicked
		}
	}()
	return do()
}
