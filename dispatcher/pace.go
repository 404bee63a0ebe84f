package dispatcher

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
)

// maxPause bounds how long a partner's Retry-After may hold up its other deliveries, too. The delivery it was the answer to waits as long as
// was asked.
const maxPause = 30 * time.Second

// trouble is what a failed attempt means to its callback's breaker, as finish.lua takes it: "down" if nobody answered, "bad" if somebody did,
// "" if it says nothing about the partner; and for how long the partner asked to be spared.
func (a *attempt) trouble() (kind string, pause time.Duration) {
	switch {
	case a.verdict == VerdictDelivered, saysNothing(a.reason):
		return "", 0
	case a.response != nil, a.reason == Reason(egress.BadResponse):
		return "bad", min(a.retryAfter, maxPause)
	}
	return "down", 0
}

// visited is what an attempt says of the host it went to, as finish.lua takes it: "down" if nobody is there or nobody may come now, "up" if
// anything else was answered, "" if it says nothing. How a path answers says nothing about its neighbours.
func (a *attempt) visited() string {
	if a.verdict == VerdictDelivered {
		return "up"
	}
	kind, _ := a.trouble()
	if kind == "bad" && a.status() != http.StatusTooManyRequests && a.status() != http.StatusServiceUnavailable {
		return "up"
	}
	if kind != "" {
		return "down"
	}
	return ""
}

// status is the answer's; 0: there is none.
func (a *attempt) status() int {
	if a.response == nil {
		return 0
	}
	return a.response.Status
}

// A pacer pumps rooms as soon as time lets something out of them: a breaker's pause is over, or the rate limit has a token again. What it
// forgets, with its process, the reconciler's next rounds do.
type pacer struct {
	pump    func(ctx context.Context, company string, callback int64) (wait time.Duration, err error)
	contain func(ctx context.Context, place string, do func() error) error

	mu      sync.Mutex
	timers  map[turnKey]*pumpTimer // nil once closed
	running sync.WaitGroup
}

type pumpTimer struct {
	*time.Timer
	at time.Time
}

func newPacer(c *Client) *pacer {
	return &pacer{pump: c.pump, contain: c.contain, timers: make(map[turnKey]*pumpTimer)}
}

// after pumps a callback's room once wait is over, unless that happens earlier. 0: time is not what stands in the way. It outlives ctx.
func (p *pacer) after(ctx context.Context, key turnKey, wait time.Duration) {
	if wait <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timers == nil {
		return
	}
	at := time.Now().Add(wait)
	if t := p.timers[key]; t != nil {
		if !t.at.After(at) || !t.Stop() {
			return
		}
		p.running.Done()
	}
	p.running.Add(1)
	ctx = context.WithoutCancel(ctx)
	p.timers[key] = &pumpTimer{time.AfterFunc(wait, func() { _ = p.contain(ctx, placePacer, func() error { p.run(ctx, key); return nil }) }), at}
}

func (p *pacer) run(ctx context.Context, key turnKey) {
	defer p.running.Done()
	p.mu.Lock()
	delete(p.timers, key)
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, pumpWithin)
	defer cancel()
	if wait, err := p.pump(ctx, key.company, key.callback); err == nil { // else the reconciler's next round says so
		p.after(ctx, key, wait)
	}
}

// close ends it and waits for pumps under way.
func (p *pacer) close() {
	p.mu.Lock()
	for _, t := range p.timers {
		if t.Stop() {
			p.running.Done()
		}
	}
	p.timers = nil
	p.mu.Unlock()
	p.running.Wait()
}
