package dispatcher

import (
	"context"
	"sync"
	"time"
)

// pumpWithin bounds the pumping of a room whose time has come; the reconciler's next round goes on.
const pumpWithin = 10 * time.Second

// pumpTimers pump rooms as soon as time lets something out of them: a breaker's pause is over, or the rate limit has a token again. If their
// process dies, the reconciler's next rounds pump instead.
type pumpTimers struct {
	pump    func(ctx context.Context, company string, callback int64) (wait time.Duration, err error)
	contain func(ctx context.Context, place string, do func() error) error

	mu      sync.Mutex
	timers  map[callbackKey]*pumpTimer // nil once closed
	running sync.WaitGroup
}

type pumpTimer struct {
	*time.Timer
	at time.Time
}

func newPumpTimers(pump func(ctx context.Context, company string, callback int64) (time.Duration, error), contain func(context.Context, string, func() error) error) *pumpTimers {
	return &pumpTimers{pump: pump, contain: contain, timers: make(map[callbackKey]*pumpTimer)}
}

// after pumps a callback's room once wait is over, unless that happens earlier. 0: time is not what stands in the way. It outlives ctx.
func (p *pumpTimers) after(ctx context.Context, key callbackKey, wait time.Duration) {
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

func (p *pumpTimers) run(ctx context.Context, key callbackKey) {
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
func (p *pumpTimers) close() {
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
