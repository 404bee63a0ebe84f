package dispatcher

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
)

const (
	// fewAtOnce is how many attempts of a company are made at a time however slow all is.
	fewAtOnce = 4
	// leastAtOnce is how many of all companies are, and lag how much longer than at rest recording an outcome may take before fewer are.
	leastAtOnce, lag = 16, 5 * time.Millisecond
	// rest is how long it is remembered how quickly that goes at rest.
	rest = 10 * time.Second
	// countsFor is how long an attempt counts: one that takes longer waits for its partner, and no processor.
	countsFor = 250 * time.Millisecond
	// mostBraked is how long one that has begun waits at most: its lease goes on meanwhile.
	mostBraked = time.Second
	// mostBrakedAtOnce is how many wait before no more are taken out of the lanes.
	mostBrakedAtOnce = 8
)

// A brake bounds how many attempts a process makes at a time, as long as it is short of processors: then more of them are not faster, only wait
// for each other, and a company with few of them waits for one with many. It is known by how long it takes to record an outcome: much longer than at
// rest, and there is to be one less; else one more. Where receivers are slow and processors idle, any number is made.
//
// A company that has few under way never waits, and one that is alone neither.
type brake struct {
	mu     sync.Mutex
	limit  int // 0: none, since all went quickly so far
	spare  int // attempts that went quickly since the limit was raised
	under  int
	recent []*ride // that may count, the oldest first
	by     map[string]*braked
	queue  []*braked     // those of which something waits, the next one first
	tasks  int           // of those that wait: from the lanes
	moved  chan struct{} // closed when fewer of them wait
	alarm  *time.Timer   // for what stops to count while others wait; nil: not set

	least [2]time.Duration // that recording took since began, and in the time before
	began time.Time
	lone  *lanes.Lone
}

// braked is a company with attempts that count or wait.
type braked struct {
	name    string
	under   int
	waiting []*ride
}

// A ride is an attempt on its way through the brake.
type ride struct {
	company *braked
	task    bool // it is from a lane, and not going on in a chain
	at      time.Time
	counts  bool
	turn    chan struct{}
}

func newBrake(lone *lanes.Lone) *brake {
	return &brake{lone: lone, by: make(map[string]*braked), moved: make(chan struct{})}
}

// enter waits until the company may make an attempt: a task from a lane, as long as it takes, or one that goes on in a chain. The ride is to leave.
func (b *brake) enter(ctx context.Context, company string, task bool) *ride {
	b.lone.Note(company)
	b.mu.Lock()
	b.age()
	mine := b.braked(company)
	r := &ride{company: mine, task: task}
	if len(mine.waiting) == 0 && b.lets(mine) {
		b.start(r)
		b.mu.Unlock()
		return r
	}
	r.turn = make(chan struct{})
	if len(mine.waiting) == 0 {
		b.queue = append(b.queue, mine)
	}
	mine.line(r)
	within := mostBraked
	if task {
		b.tasks++
		within = lanes.TaskTimeout
	}
	if b.alarm == nil {
		b.alarm = time.AfterFunc(countsFor, b.ring)
	}
	b.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-r.turn:
	case <-timer.C:
		b.push(r)
	case <-ctx.Done():
		b.push(r)
	}
	return r
}

func (b *brake) braked(company string) *braked {
	c := b.by[company]
	if c == nil {
		c = &braked{name: company}
		b.by[company] = c
	}
	return c
}

// line puts one in: tasks from the lanes come before what goes on in chains, for others wait behind them.
func (c *braked) line(r *ride) {
	at := len(c.waiting)
	if r.task {
		if at = slices.IndexFunc(c.waiting, func(r *ride) bool { return !r.task }); at < 0 {
			at = len(c.waiting)
		}
	}
	c.waiting = slices.Insert(c.waiting, at, r)
}

// push starts one that has waited long enough.
func (b *brake) push(r *ride) {
	b.mu.Lock()
	defer b.mu.Unlock()
	mine := r.company
	i := slices.Index(mine.waiting, r)
	if i < 0 { // it has its turn
		return
	}
	mine.waiting = slices.Delete(mine.waiting, i, i+1)
	if len(mine.waiting) == 0 {
		b.queue = slices.DeleteFunc(b.queue, func(other *braked) bool { return other == mine })
	}
	b.fewer(r)
	b.start(r)
}

func (b *brake) start(r *ride) {
	r.at, r.counts = time.Now(), true
	b.recent = append(b.recent, r)
	b.under++
	r.company.under++
}

// stop makes a ride count no more.
func (b *brake) stop(r *ride) {
	if !r.counts {
		return
	}
	r.counts = false
	b.under--
	if r.company.under--; r.company.under == 0 && len(r.company.waiting) == 0 {
		delete(b.by, r.company.name)
	}
}

// age stops what has countsFor long enough.
func (b *brake) age() {
	n := 0
	for ; n < len(b.recent) && (!b.recent[n].counts || time.Since(b.recent[n].at) > countsFor); n++ {
		b.stop(b.recent[n])
	}
	b.recent = b.recent[n:]
}

func (b *brake) fewer(r *ride) {
	if !r.task {
		return
	}
	if b.tasks--; b.tasks == mostBrakedAtOnce-1 {
		close(b.moved)
		b.moved = make(chan struct{})
	}
}

// lets reports whether a company may make one more.
func (b *brake) lets(c *braked) bool {
	return b.limit == 0 || b.under < b.limit || c.under < fewAtOnce || b.lone.Is()
}

// leave ends one, and says how long it took to record its outcome; 0: nothing was recorded.
func (b *brake) leave(r *ride, took time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if took > 0 {
		b.learn(took)
	}
	b.stop(r)
	b.goOn()
}

// goOn starts of what waits what may go, the companies by turns.
func (b *brake) goOn() {
	b.age()
	for refused := 0; refused < len(b.queue); {
		c := b.queue[0]
		b.queue = b.queue[1:]
		if !b.lets(c) {
			b.queue = append(b.queue, c)
			refused++
			continue
		}
		refused = 0
		r := c.waiting[0]
		if c.waiting = c.waiting[1:]; len(c.waiting) > 0 {
			b.queue = append(b.queue, c)
		}
		b.fewer(r)
		b.start(r)
		close(r.turn)
	}
}

// ring goes on with what waits for attempts that hang.
func (b *brake) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.alarm = nil
	b.goOn()
	if len(b.queue) > 0 {
		b.alarm = time.AfterFunc(countsFor, b.ring)
	}
}

func (b *brake) learn(took time.Duration) {
	if now := time.Now(); now.Sub(b.began) > rest {
		b.began, b.least = now, [2]time.Duration{took, b.least[0]}
	}
	b.least[0] = min(b.least[0], took)
	atRest := b.least[0]
	if b.least[1] > 0 {
		atRest = min(atRest, b.least[1])
	}
	switch {
	case took > 2*atRest+lag:
		if b.limit == 0 || b.limit > b.under {
			b.limit = b.under
		}
		b.limit, b.spare = max(leastAtOnce, b.limit-1), 0
	case b.limit > 0 && b.under >= b.limit: // else it is not what bounds them
		if b.spare++; b.spare >= 2 {
			b.limit, b.spare = b.limit+1, 0
		}
	}
}

// full returns what is closed once tasks may be taken out of the lanes again, or nil if they may be now.
func (b *brake) full() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tasks < mostBrakedAtOnce {
		return nil
	}
	return b.moved
}
