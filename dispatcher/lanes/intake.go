package lanes

import (
	"cmp"
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// depth is how many tasks a lane should hold that no worker has taken: as many as workers take until the next look. A task that comes waits behind no
	// more than these. depthAlone is how many where one company has the process for itself.
	depth, depthAlone = 8, 64
	// topUp is how long after a look a lane is looked at again for which others wait, and longest how long where nobody takes from it.
	topUp, longest = 3 * time.Millisecond, 100 * time.Millisecond
	// mostWaiting is how many may wait for a lane. If a company has more waiting by then than it would have where
	// fewCrowds are alike, its further tasks are turned away.
	mostWaiting, fewCrowds = 20_000, 100
	// part is how many come in where others keep a lane full.
	part = 4
	// flushed is how many are let in at a time when an intake is closed, and flushWithin for how long.
	flushed, flushWithin = 16, 5 * time.Second
)

// An intake lets a process's tasks into the lanes. A lane is first come, first served, so it is to hold few; what is more than these waits here, and
// is let in by turns: the company that has used least of late, over all lanes and by its weight, comes first, and of a company callback after callback. So a
// customer with thousands of deliveries at once delays another by moments, many customers with some each delay one with few by no more, and one alone
// has all there is. Tasks count by number, and by the bytes of their payloads.
//
// Waiting tasks are lost with the process. The reconciler brings them again.
type intake struct {
	pending func(ctx context.Context, lane string) (int64, error) // how many tasks it holds that no worker has taken
	weight  func(ctx context.Context, company string) int         // how much more than others it may have; 1 as a rule
	contain func(ctx context.Context, do func() error) error

	ctx    context.Context //nolint:containedctx // its own: what waits has no caller any more
	cancel context.CancelFunc
	lone   *Lone
	wg     sync.WaitGroup

	mu    sync.Mutex
	gates map[string]*gate // by lane; the map itself stays
	used  usage
	came  uint64 // crowds so far
}

// A gate is one lane's.
type gate struct {
	lane   string
	room   int                // how much may come in before the lane is looked at
	last   time.Time          // when something of what waits was let in
	turns  turns              // the companies of which something waits
	crowds map[string]*crowd  // by company
	known  map[string]Waiting // what waits, by name
	runs   bool               // somebody lets in what waits
	closed bool
}

// newIntake makes an Intake for lanes. pending says how many tasks a lane holds that no worker has taken, weight how much more than others a company
// may have, and contain runs do and survives its panic. lone is the process's.
func newIntake(names []string, lone *Lone, pending func(context.Context, string) (int64, error), weight func(context.Context, string) int,
	contain func(ctx context.Context, do func() error) error,
) *intake {
	in := &intake{lone: lone, pending: pending, weight: weight, contain: contain, gates: make(map[string]*gate, len(names))}
	in.used = usage{since: time.Now(), of: make(map[string]float64)}
	in.ctx, in.cancel = context.WithCancel(context.Background())
	for _, name := range names {
		in.gates[name] = &gate{lane: name, crowds: make(map[string]*crowd), known: make(map[string]Waiting)}
	}
	return in
}

// Pass reports whether a company's task with so many bytes of payload may come into a lane at once: then it is for the caller to bring it. Else it has to
// Wait. Now and then it looks at the lane.
func (in *intake) Pass(ctx context.Context, lane, company string, bytes int) bool {
	in.lone.Note(company)
	g := in.gates[lane]
	if in.out(g) {
		n, err := in.pending(ctx, lane)
		if err != nil {
			n = 0 // some callers learn what is wrong with Redis before it is asked again
		}
		in.found(g, in.lacks(n))
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if g.closed {
		return true
	}
	if len(g.turns) > 0 || g.room <= 0 {
		return false
	}
	g.room -= Waiting{Bytes: bytes}.cost()
	return true
}

// out reports whether it is time to look at the lane for who comes: nobody waits, and as much has come in as was free.
func (in *intake) out(g *gate) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !g.closed && len(g.turns) == 0 && g.room <= 0
}

func (in *intake) found(g *gate, room int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(g.turns) == 0 {
		g.room = room
	}
}

// lacks is how many a lane should hold beside those that it does.
func (in *intake) lacks(pending int64) int {
	if in.lone.Is() {
		return max(0, depthAlone-int(pending))
	}
	return max(0, depth-int(pending))
}

// Wait has a task come in when its turn is. It returns false if so many wait for the lane already that it is turned away.
func (in *intake) Wait(w Waiting) bool {
	g := in.gates[w.Lane]
	in.mu.Lock()
	defer in.mu.Unlock()
	if _, ok := g.known[w.Name]; ok {
		return true
	}
	c := g.crowds[w.Company]
	if much := c != nil && c.size >= mostWaiting/fewCrowds; g.closed || len(g.known) >= 2*mostWaiting || much && len(g.known) >= mostWaiting {
		return false
	}
	w.since = time.Now()
	in.add(g, w)
	return true
}

// add has one wait for a lane.
func (in *intake) add(g *gate, w Waiting) {
	g.known[w.Name] = w
	c := g.crowds[w.Company]
	if c == nil {
		in.came++
		c = &crowd{company: w.Company, number: in.came, used: in.used.of[w.Company], tasks: make(map[int64][]Waiting)}
		g.crowds[w.Company] = c
		heap.Push(&g.turns, c)
	}
	if len(c.tasks[w.Callback]) == 0 {
		c.turns = append(c.turns, w.Callback)
	}
	c.tasks[w.Callback] = append(c.tasks[w.Callback], w)
	c.size++
	if !g.runs {
		g.runs, g.last = true, time.Now()
		in.wg.Go(func() { in.run(g) }) // what it calls is contained
	}
}

// move has each callback's tasks wait for the lane that is its own by now, in their order. Those for the slow lane stay.
func (in *intake) move(of func(company string, callback int64) string) {
	in.mu.Lock()
	defer in.mu.Unlock()
	var crowds []*crowd
	for _, g := range in.gates {
		if g.closed || g.lane == Slow || len(g.known) == 0 {
			continue
		}
		crowds = append(crowds, g.turns...)
		g.turns, g.crowds, g.known = nil, make(map[string]*crowd), make(map[string]Waiting)
	}
	slices.SortFunc(crowds, func(a, b *crowd) int { return cmp.Compare(a.number, b.number) })
	for _, c := range crowds {
		for _, callback := range c.turns {
			for _, w := range c.tasks[callback] {
				w.Lane = of(w.Company, w.Callback)
				in.add(in.gates[w.Lane], w)
			}
		}
	}
}

// Waits says how many tasks of this process wait to come into a lane, and since when the first of them does.
func (in *intake) Waits(lane string) (n int, since time.Time) {
	g := in.gates[lane]
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, w := range g.known {
		if since.IsZero() || w.since.Before(since) {
			since = w.since
		}
	}
	return len(g.known), since
}

// Of is how many tasks of a company wait, over all lanes.
func (in *intake) Of(company string) (n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, g := range in.gates {
		if c := g.crowds[company]; c != nil {
			n += c.size
		}
	}
	return n
}

// run lets in what waits for a lane, as long as anything does.
func (in *intake) run(g *gate) {
	for pause := topUp; ; {
		came := in.letIn(g)
		if pause = min(2*pause, longest); came > 0 {
			pause = topUp
		}
		if !in.goesOn(g, pause) {
			return
		}
	}
}

// letIn looks at the lane and lets in as many as it lacks. It returns how many.
func (in *intake) letIn(g *gate) (came int) {
	_ = in.contain(in.ctx, func() error {
		in.weigh(g)
		n, err := in.pending(in.ctx, g.lane)
		if err != nil {
			return err // it is tried again
		}
		lacks := in.lacks(n)
		if lacks == 0 && in.stuck(g) { // others fill it: who waits has a part of it
			lacks = part
		}
		let := in.take(g, lacks)
		came = len(let)
		in.enter(in.ctx, let, 1)
		return nil
	})
	return came
}

// stuck reports whether nothing of what waits was let in for long.
func (in *intake) stuck(g *gate) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return time.Since(g.last) > longest
}

// weigh learns the weights of those that came since the last look.
func (in *intake) weigh(g *gate) {
	in.mu.Lock()
	var unknown []*crowd
	for _, c := range g.turns {
		if c.weight == 0 {
			unknown = append(unknown, c)
		}
	}
	in.mu.Unlock()
	for _, c := range unknown {
		weight := max(1, in.weight(in.ctx, c.company))
		in.mu.Lock()
		c.weight = weight
		in.mu.Unlock()
	}
}

// take takes out what may come in by turns, so much of it together.
func (in *intake) take(g *gate, free int) (let []Waiting) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := time.Now()
	in.rebase(now)
	for free > 0 && len(g.turns) > 0 {
		c := g.turns[0]
		if used := in.used.of[c.company]; used != c.used { // it has used other lanes since
			c.used = used
			heap.Fix(&g.turns, 0)
			continue
		}
		w := c.pop()
		delete(g.known, w.Name)
		let = append(let, w)
		free -= w.cost()
		in.used.add(c.company, float64(w.cost())/float64(max(1, c.weight)), now)
		if c.size == 0 {
			heap.Pop(&g.turns)
			delete(g.crowds, c.company)
		}
	}
	g.room = free
	if len(let) > 0 {
		g.last = now
	}
	return let
}

// rebase keeps the figures of use small, and forgets those of companies that are gone.
func (in *intake) rebase(now time.Time) {
	if !in.used.large(now) {
		return
	}
	counted := in.used.counts(now)
	there := make(map[string]bool)
	for _, g := range in.gates {
		for company, c := range g.crowds {
			there[company] = true
			c.used /= counted
		}
	}
	in.used.rebase(now, there)
}

// enter brings tasks in, some at a time.
func (in *intake) enter(ctx context.Context, let []Waiting, atOnce int) {
	var wg sync.WaitGroup
	for part := range slices.Chunk(let, max(1, (len(let)+atOnce-1)/atOnce)) {
		bring := func() {
			for _, w := range part {
				_ = in.contain(ctx, func() error { w.Enter(ctx); return nil })
			}
		}
		if atOnce == 1 {
			bring()
			continue
		}
		wg.Go(func() { bring() }) // each task is contained
	}
	wg.Wait()
}

// goesOn waits until it is time to look again, if anything waits.
func (in *intake) goesOn(g *gate, pause time.Duration) bool {
	in.mu.Lock()
	if g.closed || len(g.turns) == 0 {
		g.runs = false
		in.mu.Unlock()
		return false
	}
	in.mu.Unlock()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-in.ctx.Done():
	}
	return true
}

// Close lets in all that waits, as far as it can be in a few seconds, and whatever comes from then on.
func (in *intake) Close() {
	var left []Waiting
	in.mu.Lock()
	for _, g := range in.gates {
		g.closed = true
		for _, w := range g.known {
			left = append(left, w)
		}
		g.known, g.crowds, g.turns = nil, nil, nil
	}
	in.mu.Unlock()
	hung := time.AfterFunc(flushWithin, in.cancel)
	in.wg.Wait()
	hung.Stop()
	in.cancel()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(in.ctx), flushWithin)
	defer cancel()
	in.enter(ctx, left, flushed)
}
