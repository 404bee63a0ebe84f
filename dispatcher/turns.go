package dispatcher

import (
	"context"
	"sync"
	"time"

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

// turns bounds how many attempts to one callback a process makes at a time.
type turns struct {
	limit int
	mu    sync.Mutex
	by    map[turnKey]*turn // those with attempts under way
}

type turnKey struct {
	company  string
	callback int64
}

type turn struct {
	places chan struct{} // holds an item for each attempt under way
	users  int           // attempts under way and waiting; guarded by turns.mu
	last   time.Time     // when one ended; guarded by turns.mu
}

func turnOf(r ledger.Ref) turnKey { return turnKey{r.Company, r.Callback} }

func newTurns(limit int) *turns { return &turns{limit: max(1, limit), by: make(map[turnKey]*turn)} }

// take asks for a turn to attempt a delivery, and waits for it so long at most, if the callback has answered as lately. Without one (ok is false)
// the delivery has to wait elsewhere; with one, give it back with done.
func (t *turns) take(ctx context.Context, r ledger.Ref, wait time.Duration) (done func(), ok bool) {
	key := turnOf(r)
	t.mu.Lock()
	mine := t.by[key]
	if mine == nil {
		mine = &turn{places: make(chan struct{}, t.limit)}
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

func (m *turn) enter(ctx context.Context, wait time.Duration) bool {
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

func (t *turns) leave(key turnKey, m *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.users--; m.users == 0 {
		delete(t.by, key)
	}
}
