package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
)

const (
	// chainFor is how long a task may go on with others' deliveries.
	chainFor = 2 * time.Second
	// slackOfEnd is how much longer than the grace and the recording of an outcome the end of a worker waits for what it began without tasks.
	slackOfEnd = 2 * time.Second
	// crowdedDelay is when asynq brings a task again whose company is alone and has its share of the attempts under way.
	crowdedDelay = time.Second
	// haltedDelay is when asynq has a task ready again that came out of a lane as that was paused.
	haltedDelay = time.Second
)

// A Worker attempts deliveries: asynq servers for each lane that there is, and the reconciler.
type Worker struct {
	client   *Client
	instance string        // names this worker in the tokens of its attempts
	every    time.Duration // between two rounds of the reconciler

	limiter  *limiter
	shares   map[string]*shares // by lane, of all that there may be
	brake    *brake
	near     *near // nil: everything goes by the lanes
	grace    time.Duration
	rounds   *rounds // the reconciler's
	stopping atomic.Bool
	servers  *lanes.Servers
	stop     context.CancelFunc
	wg       sync.WaitGroup
}

// finishWithin is how long the recording of an outcome is repeated while Redis fails: within the owner's grace.
func (w *Worker) finishWithin() time.Duration { return w.client.ownerGrace * 2 / 3 }
