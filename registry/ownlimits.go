package registry

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxOwnLimits bounds the memory of [ownLimits]. If more keys are in use, all are counted anew.
const maxOwnLimits = 4096

// Burst is how many changes may come at once with a limit a second: those of a second.
func Burst(limit float64) int { return max(1, int(math.Ceil(limit))) }

// ownLimits count the changes of keys in this process, while Redis does not.
type ownLimits struct {
	mu sync.Mutex
	by map[string]*ownLimit // by the key's id
}

// An ownLimit is one key's.
type ownLimit struct {
	*rate.Limiter
	until time.Time // Redis is left alone
}

// of returns a key's; nil if Redis counts it.
func (o *ownLimits) of(id string) *ownLimit {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.by[id]
}

// begin counts a key here for a moment, and goes on with what was counted before.
func (o *ownLimits) begin(id string, limit float64) *ownLimit {
	o.mu.Lock()
	defer o.mu.Unlock()
	l := &ownLimit{until: time.Now().Add(probeEvery)}
	if before := o.by[id]; before != nil {
		l.Limiter = before.Limiter
	} else {
		l.Limiter = rate.NewLimiter(rate.Limit(limit), Burst(limit))
	}
	if len(o.by) >= maxOwnLimits || o.by == nil {
		o.by = map[string]*ownLimit{}
	}
	o.by[id] = l
	return l
}

func (o *ownLimits) forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.by, id)
}

// take is [Keys.Take] or [Keys.Charge] by this process's own count.
func (l *ownLimit) take(n int, anyway bool) time.Duration {
	r := l.ReserveN(time.Now(), min(n, l.Burst()))
	wait := r.Delay()
	switch {
	case anyway:
		return 0
	case wait > 0:
		r.Cancel()
	}
	return wait
}
