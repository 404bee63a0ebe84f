package dispatcher

import (
	"context"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// waitEvery is how often a process looks whether there is something for those who wait to fetch it.
const waitEvery = 250 * time.Millisecond

// pollers are the polls that wait for something to fetch. A goroutine looks at all their callbacks in one round trip, as long as anybody waits: so a wait costs no
// connection, and a delivery that another process accepts is heard of as one of this process is.
type pollers struct {
	*guard
	given func(ctx context.Context, refs []ledger.Ref) ([]ledger.Cursor, error)

	mu    sync.Mutex
	all   map[*poller]bool
	stop  context.CancelFunc // ends the goroutine; nil: there is none
	ended bool
	done  sync.WaitGroup
}

// A poller is one poll's, for something behind a cursor.
type poller struct {
	callback ledger.Ref // without an event
	behind   ledger.Cursor
	over     chan struct{} // closed once there is something, or the process is about to end
}

// enter waits for something of a callback behind a cursor. The caller leaves.
func (w *pollers) enter(callback ledger.Ref, behind ledger.Cursor) *poller {
	w.mu.Lock()
	defer w.mu.Unlock()
	one := &poller{callback, behind, make(chan struct{})}
	if w.ended {
		close(one.over)
		return one
	}
	w.all[one] = true
	if w.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		w.stop = stop
		w.done.Go(func() { w.run(ctx) })
	}
	return one
}

// leave ends a wait.
func (w *pollers) leave(one *poller) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.all, one)
}

// run looks until nobody waits.
func (w *pollers) run(ctx context.Context) {
	for {
		timer := time.NewTimer(waitEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		refs := w.callbacks()
		if len(refs) == 0 {
			return
		}
		_ = w.contain(ctx, placePollers, func() error { return w.look(ctx, refs) }) // whoever polls hears of a Redis that fails when its time is up
	}
}

// callbacks are those that somebody waits for. If there are none, the goroutine is over.
func (w *pollers) callbacks() (refs []ledger.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known := make(map[ledger.Ref]bool, len(w.all))
	for one := range w.all {
		if !known[one.callback] {
			known[one.callback] = true
			refs = append(refs, one.callback)
		}
	}
	if len(refs) == 0 {
		w.stop()
		w.stop = nil
	}
	return refs
}

// look ends the waits for which there is something.
func (w *pollers) look(ctx context.Context, refs []ledger.Ref) error {
	given, err := w.given(ctx, refs)
	if err != nil {
		return err
	}
	last := make(map[ledger.Ref]ledger.Cursor, len(refs))
	for i, r := range refs {
		last[r] = given[i]
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if last[one.callback] > one.behind {
			close(one.over)
			delete(w.all, one)
		}
	}
	return nil
}

// end ends all waits, and lets nobody wait any more: the process is about to end.
func (w *pollers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	for one := range w.all {
		close(one.over)
	}
	clear(w.all)
	if w.stop != nil {
		w.stop()
	}
}

// isOver reports whether nobody waits any more.
func (w *pollers) isOver() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ended
}

// close is end, and waits for the goroutine.
func (w *pollers) close() {
	w.end()
	w.done.Wait()
}
