package registry

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

const (
	// goodFor is how old what a process knows may become while Redis does not answer.
	// A Redis Cluster puts a replica in a failed master's place within that time. Till
	// then no company depends on any node but its own.
	goodFor = time.Minute

	// renewWithin is how long a caller waits for Redis where there is something to go
	// on with, and answerWithin how long Redis may take for its answer to count. Both
	// are less than the patience of whoever called the API, who needs Redis for more.
	renewWithin, answerWithin = 250 * time.Millisecond, time.Second

	// probeEvery is how often a Redis that did not answer is asked again.
	probeEvery = 200 * time.Millisecond
)

// A renewal asks Redis anew for what this process knows, and tells when to go on
// without an answer. Once Redis did not answer, it is asked by one caller at a time,
// and the others go on at once. The zero value is ready. What it asks lies on one node
// of a Redis Cluster.
type renewal struct {
	mu     sync.Mutex
	away   bool      // Redis did not answer last
	asking int       // that wait for an answer
	asked  time.Time // when somebody asked last
}

// do asks, and reports whether the answer came in time. ask's error says that there was
// none. What ask finds may be used only then: it may go on for a moment after do has
// returned.
func (r *renewal) do(ctx context.Context, ask func(context.Context) error) (answered bool) {
	if !r.begin() {
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
	came := make(chan bool, 1)
	go func() {
		defer cancel()
		err := r.contain(ctx, ask)
		r.end(err)
		came <- err == nil
	}()
	timer := time.NewTimer(renewWithin)
	defer timer.Stop()
	select {
	case answered = <-came:
		return answered
	case <-timer.C:
		r.late()
		return false
	}
}

// contain makes an error of a panic.
func (r *renewal) contain(ctx context.Context, ask func(context.Context) error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("registry: panicked: %v\n%s", cause, debug.Stack())
		}
	}()
	return ask(ctx)
}

// begin reports whether the caller may ask.
func (r *renewal) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away && (r.asking > 0 || time.Since(r.asked) < probeEvery) {
		return false
	}
	r.asking++
	r.asked = time.Now()
	return true
}

func (r *renewal) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking--
	r.away = err != nil
}

func (r *renewal) late() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = r.asking > 0 // else the answer came just now
}
