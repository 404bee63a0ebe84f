package dispatcher

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
)

const (
	// shareOfLane is the part of a lane's attempts in a process that one callback may have under way: a quarter if all that is attempted went by four
	// lanes alike, a third since the slow lane has its own. One that hangs leaves the rest to its neighbours.
	shareOfLane = 4
	// turnover is how long a delivery that comes out of a lane waits for a turn. It holds one of the lane's places meanwhile, so the time is short:
	// it suits receivers that answer in milliseconds. For a share of its company's it waits as long once more.
	turnover = 50 * time.Millisecond
)

// A limiter bounds how many attempts to one callback a process makes at a time. Each has a turn.
type limiter struct {
	whole int          // attempts that the lanes have
	limit atomic.Int64 // for each callback
	mu    sync.Mutex
	by    map[callbackKey]*limited // those with attempts under way
}

type callbackKey struct {
	company  string
	callback int64
}

// limited is a callback with attempts under way.
type limited struct {
	places chan struct{} // holds an item for each attempt under way
	users  int           // attempts under way and waiting; guarded by limiter.mu
	last   time.Time     // when one ended; guarded by limiter.mu
}

func callbackOf(r ledger.Ref) callbackKey { return callbackKey{r.Company, r.Callback} }

// newLimiter makes one for so many attempts over so many lanes.
func newLimiter(whole, count int) *limiter {
	t := &limiter{whole: whole, by: make(map[callbackKey]*limited)}
	t.spread(count)
	return t
}

// spread has it bound callbacks by their part of so many lanes. With few lanes, that is no more than with lanes.DefaultCount. Attempts that are under way go
// on.
func (t *limiter) spread(count int) {
	t.limit.Store(int64(max(1, t.whole/(max(count, lanes.DefaultCount)*shareOfLane))))
}

// turns are how many attempts one callback may have under way.
func (t *limiter) turns() int { return int(t.limit.Load()) }

// take asks for a turn to attempt a delivery, and waits for it so long at most, if the callback has answered as lately. Without one (ok is false)
// the delivery has to wait elsewhere; with one, give it back with done.
func (t *limiter) take(ctx context.Context, r ledger.Ref, wait time.Duration) (done func(), ok bool) {
	key := callbackOf(r)
	t.mu.Lock()
	mine := t.by[key]
	if turns := t.turns(); mine == nil || cap(mine.places) != turns { // those of before are counted apart until they end
		mine = &limited{places: make(chan struct{}, turns)}
		t.by[key] = mine
	}
	mine.users++
	if time.Since(mine.last) >= wait {
		wait = 0
	}
	t.mu.Unlock()
	if !mine.enter(ctx, wait) {
		t.leave(key, mine)
		return nil, false
	}
	return func() {
		<-mine.places
		t.mu.Lock()
		mine.last = time.Now()
		t.mu.Unlock()
		t.leave(key, mine)
	}, true
}

func (m *limited) enter(ctx context.Context, wait time.Duration) bool {
	select {
	case m.places <- struct{}{}:
		return true
	default:
	}
	if wait <= 0 {
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case m.places <- struct{}{}:
		return true
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}

func (t *limiter) leave(key callbackKey, m *limited) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.users--; m.users == 0 && t.by[key] == m {
		delete(t.by, key)
	}
}
