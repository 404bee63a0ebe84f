package dispatcher

import (
	"context"
	"sync"
	"time"
)

// An expander writes pages of the events that this process accepted, or that the reconciler found to be left by another: one page after another, and
// the companies by turns, so that one with much to write keeps no other waiting for more than a page.
type expander struct {
	page   func(ctx context.Context, company, event string) (left int, err error)
	full   func(company string) bool // so much of the company waits already that more of it would only keep Redis from others
	failed func(ctx context.Context, company, event string, err error)
	ctx    context.Context //nolint:containedctx // its own: an event expands beyond the request that brought it
	cancel context.CancelFunc

	mu     sync.Mutex
	turns  []string             // the companies that have something to write, in their order
	events map[string][]string  // theirs
	known  map[[2]string]bool   // company and event
	last   map[string]time.Time // when a page of a company was written
	runs   bool                 // somebody writes
	closed bool
	wg     sync.WaitGroup
}

func newExpander(page func(ctx context.Context, company, event string) (int, error), full func(company string) bool, failed func(ctx context.Context, company, event string, err error)) *expander {
	x := &expander{
		page: page, full: full, failed: failed, events: make(map[string][]string), known: make(map[[2]string]bool), last: make(map[string]time.Time),
	}
	x.ctx, x.cancel = context.WithCancel(context.Background())
	return x
}

// add has an event's pages written, unless it is known already.
func (x *expander) add(company, event string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	name := [2]string{company, event}
	if x.closed || x.known[name] {
		return
	}
	x.known[name] = true
	if len(x.events[company]) == 0 {
		x.turns = append(x.turns, company)
	}
	x.events[company] = append(x.events[company], event)
	if !x.runs {
		x.runs = true
		x.wg.Go(x.run)
	}
}

// run writes pages as long as there are any.
func (x *expander) run() {
	for {
		company, event, ok := x.next()
		if !ok {
			return
		}
		if company == "" {
			x.pause()
			continue
		}
		left, err := x.page(x.ctx, company, event)
		if err != nil {
			x.failed(x.ctx, company, event, err)
		}
		x.wrote(company, left > 0 && err == nil)
	}
}

// pace is how long the expander waits if all companies are full, and mostPaced how long at most between two pages of one.
const pace, mostPaced = 2 * time.Millisecond, 200 * time.Millisecond

// next is the event whose turn it is. It keeps its place until wrote. If every company is full, company is empty.
func (x *expander) next() (company, event string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.turns) == 0 || x.closed {
		x.runs = false
		return "", "", false
	}
	for range x.turns {
		company = x.turns[0]
		if !x.full(company) || time.Since(x.last[company]) > mostPaced {
			return company, x.events[company][0], true
		}
		x.turns = append(x.turns[1:], company)
	}
	return "", "", true
}

func (x *expander) pause() {
	timer := time.NewTimer(pace)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-x.ctx.Done():
	}
}

// wrote gives the next company its turn. An event of which nothing is left, or which failed, is forgotten.
func (x *expander) wrote(company string, more bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turns = x.turns[1:]
	if events := x.events[company]; !more {
		delete(x.known, [2]string{company, events[0]})
		x.events[company] = events[1:]
	}
	if len(x.events[company]) > 0 {
		x.turns = append(x.turns, company)
		x.last[company] = time.Now()
	} else {
		delete(x.events, company)
		delete(x.last, company)
	}
}

// close ends it. The reconciler, in whichever process, has the rest written.
func (x *expander) close() {
	x.mu.Lock()
	x.closed = true
	x.mu.Unlock()
	x.cancel()
	x.wg.Wait()
}
