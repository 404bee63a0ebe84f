package lanes

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

const (
	// DefaultCount is how many lanes there are where no operator has set another number.
	DefaultCount = 4
	// MostLanes is how many there may be.
	MostLanes = 64
	// Slow is one more, for deliveries that are let out while their callback's breaker is open: they fail for the most part, and their
	// retries come in crowds, once a second. Nobody who does well waits behind them. A task stays in its lane until it has served.
	Slow = "ringback-slow"

	// numberKey holds how many lanes there are, as fields count, high and epoch; absent: nobody has changed that. It shares its slot with haltKey.
	numberKey = "ringback:lanes"

	// fresh is how long a process goes by the number that it read last before it reads anew, and stale how long before its callers wait for that.
	fresh, stale = time.Second, 30 * time.Second
	// readWithin is how long they wait.
	readWithin = 500 * time.Millisecond
)

// all are the names of all lanes that there may be, as asynq and its UI know them; the slow one is last.
var all = names(MostLanes)

// names are those of the first so many lanes, and the slow one's.
func names(n int) []string {
	some := make([]string, n, n+1)
	for i := range some {
		some[i] = "ringback-" + strconv.Itoa(i)
	}
	return append(some, Slow)
}

// A number says how many lanes there are. It is the installation's, and another one after each change.
type number struct {
	count int   // deliveries are spread over so many, by callback
	high  int   // so many are looked into: those from count on may hold tasks yet
	epoch int64 // how often it was changed
}

// lanes are the names of those that are looked into.
func (n number) lanes() []string { return append(slices.Clone(all[:n.high]), Slow) }

// above reports whether a lane is looked into only until it is empty.
func (n number) above(lane string) bool { return slices.Contains(all[n.count:n.high], lane) }

// of is the lane of a callback that does well.
func (n number) of(company string, callback int64) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(company))
	_, _ = h.Write([]byte{'/'})
	_, _ = h.Write([]byte(strconv.FormatInt(callback, 10)))
	return all[int64(h.Sum32())%int64(n.count)]
}

// may are the lanes in which a callback's tasks may be: the one that it has, the slow one, and once the number has been another, any that is looked into.
func (n number) may(r ledger.Ref) []string {
	if n.epoch == 0 {
		return []string{Slow, n.of(r.Company, r.Callback)}
	}
	return n.lanes()
}

var errNumber = errors.New("the number of lanes in " + numberKey + " is none")

// readNumber asks for the number. The caller runs the pipeline before it calls the function returned.
func readNumber(ctx context.Context, p redis.Cmdable) func() (number, error) {
	cmd := p.HMGet(ctx, numberKey, "count", "high", "epoch")
	return func() (number, error) {
		fields, err := cmd.Result()
		if err != nil {
			return number{}, err
		}
		n := number{count: DefaultCount, high: DefaultCount}
		if slices.Equal(fields, []any{nil, nil, nil}) {
			return n, nil
		}
		if _, err := fmt.Sscan(fmt.Sprintln(fields...), &n.count, &n.high, &n.epoch); err != nil || n.count < 1 || n.high < n.count || n.high > MostLanes {
			return number{}, fmt.Errorf("%w: %.100v", errNumber, fields) // or nobody asked: the pipeline failed
		}
		return n, nil
	}
}

// numbers know how many lanes there are, as Redis said within the last seconds. Processes may differ in that for so long: a task that one brings to a lane
// that others do not look into any more is brought anew by the reconciler, and of two tasks of a delivery the ledger lets one begin.
type numbers struct {
	rdb     redis.UniversalClient
	contain func(ctx context.Context, do func() error) error
	moves   func(number) // is told of each that is another, before anybody goes by it

	last   atomic.Pointer[reading]
	asking atomic.Bool
	first  chan struct{} // holds an item while somebody reads it as nothing is known yet
	going  sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed by the next change; nil: nobody waits
}

// A reading is what somebody read.
type reading struct {
	number
	at time.Time // before which it was so
}

func newNumbers(rdb redis.UniversalClient, contain func(ctx context.Context, do func() error) error, moves func(number)) *numbers {
	return &numbers{rdb: rdb, contain: contain, moves: moves, first: make(chan struct{}, 1)}
}

// known is the number, without a look.
func (n *numbers) known() number {
	if n != nil {
		if last := n.last.Load(); last != nil {
			return last.number
		}
	}
	return number{count: DefaultCount, high: DefaultCount}
}

// learn takes note of a number that was read after a time.
func (n *numbers) learn(read number, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := n.last.Load(); last != nil && at.Before(last.at) {
		if read.epoch <= last.epoch {
			return
		}
		at = last.at
	}
	changes := read != n.known()
	if changes {
		n.moves(read)
	}
	n.last.Store(&reading{read, at})
	if changes && n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}

// next is closed once the number is another.
func (n *numbers) next() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// read reads the number.
func (n *numbers) read(ctx context.Context) error {
	at := time.Now()
	read, err := readNumber(ctx, n.rdb)()
	if err == nil {
		n.learn(read, at)
	}
	return err
}

// glimpse is read, for a moment at most.
func (n *numbers) glimpse(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	return n.read(ctx)
}

// renew reads the number if it is older than that, for a moment at most, and unless somebody else does. If it cannot be read, it is as it was.
func (n *numbers) renew(ctx context.Context, older time.Duration) {
	last := n.last.Load()
	if last == nil {
		n.first <- struct{}{}
		defer func() { <-n.first }()
		last = n.last.Load()
	}
	if last != nil && time.Since(last.at) < older || !n.asking.CompareAndSwap(false, true) {
		return
	}
	defer n.asking.Store(false)
	if err := n.glimpse(ctx); err != nil { // the next callers do not wait for it
		n.mu.Lock()
		defer n.mu.Unlock()
		n.last.Store(&reading{n.known(), time.Now().Add(-fresh)})
	}
}

// keep has the number read now and then by those who go by it. Nobody waits, unless it is stale.
func (n *numbers) keep(ctx context.Context) {
	last := n.last.Load()
	switch {
	case last == nil || time.Since(last.at) >= stale:
		n.renew(ctx, stale)
	case time.Since(last.at) >= fresh && !n.asking.Load():
		ctx = context.WithoutCancel(ctx)
		n.going.Go(func() { _ = n.contain(ctx, func() error { n.renew(ctx, fresh); return nil }) })
	}
}

// close waits for the last to be read.
func (n *numbers) close() { n.going.Wait() }
