package lanes

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/redistest"
)

// testLook is how often the tests' servers look at an idle lane.
const testLook = 50 * time.Millisecond

// serve has a process take from the lanes, in so many places, and follow their number, until stop. A task comes, is worked on, and has served.
func (l *Lanes) serve(t *testing.T, concurrency int, work func(ctx context.Context, lane string, t ledger.Ticket) error) (came chan ledger.Ticket, stop func()) {
	t.Helper()
	came = make(chan ledger.Ticket, 10_000)
	s := l.NewServers(ServersConfig{
		Concurrency: concurrency, Process: concurrency, Look: testLook, Grace: 5 * time.Second, Full: func() <-chan struct{} { return nil },
		Contain: func(_ context.Context, do func() error) error { return do() },
		Handler: func(ctx context.Context, lane string, t ledger.Ticket, _ bool) error {
			came <- t
			if work == nil {
				return nil
			}
			return work(ctx, lane, t)
		},
	})
	must(t, s.Start())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { l.Listen(ctx) })
	wg.Go(func() {
		for ctx.Err() == nil {
			changed := l.Changed()
			if err := s.Follow(); err != nil {
				t.Error(err)
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	})
	return came, sync.OnceFunc(func() {
		s.Stop()
		cancel()
		s.Shutdown()
		wg.Wait()
	})
}

// await receives so many different tickets.
func await(t *testing.T, came <-chan ledger.Ticket, n int) {
	t.Helper()
	got := make(map[ledger.Ticket]bool)
	for deadline := time.After(time.Minute); len(got) < n; {
		select {
		case ticket := <-came:
			got[ticket] = true
		case <-deadline:
			t.Fatalf("%d of %d tasks came", len(got), n)
		}
	}
}

// TestTasksComeThroughWhateverTheNumberIs: two processes work while a third one brings, and the number changes; those that are to come back do, from
// whatever lane they were in.
func TestTasksComeThroughWhateverTheNumberIs(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	var seen sync.Map
	again := func(_ context.Context, _ string, ticket ledger.Ticket) error {
		if _, before := seen.LoadOrStore(ticket, true); !before && ticket.Callback%3 == 0 {
			return &Later{Wait: time.Second, Why: "not yet"}
		}
		return nil
	}
	one, two, third := open(t, rdb), open(t, rdb), open(t, rdb)
	must(t, one.Register(ctx))
	must(t, two.Register(ctx))
	first, stopFirst := one.serve(t, 16, again)
	defer stopFirst()
	second, stopSecond := two.serve(t, 16, again)
	defer stopSecond()
	came := make(chan ledger.Ticket, 20_000)
	go func() {
		for {
			select {
			case ticket := <-first:
				came <- ticket
			case ticket := <-second:
				came <- ticket
			case <-ctx.Done():
				return
			}
		}
	}()
	const each = 100
	for step, count := range []int{4, 8, 2, 4} {
		set(t, []*Lanes{one, two, third, one}[step], count)
		for i := range each {
			ticket := job(step*each+i, 40)
			if i%2 == 0 {
				ticket.Slow = i%10 == 0
			}
			third.Bring(ctx, ticket)
		}
	}
	await(t, came, 4*each)
	for _, lane := range third.Names() {
		for deadline := time.Now().Add(time.Minute); ; <-time.After(10 * time.Millisecond) {
			empty, err := third.empty(ctx, []string{lane})
			if must(t, err); empty[0] {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s is never empty", lane)
			}
		}
	}
}

// TestATaskComesBackToItsOwnLane, if that is another by then: the old one is not kept for hours. What is for the slow lane stays there.
func TestATaskComesBackToItsOwnLane(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	l := open(t, rdb)
	set(t, l, 8)
	ticket, slow := job(0, 1), job(1, 1)
	slow.Slow = true
	for ticket.Callback = 1; slices.Contains([]string{"ringback-0", "ringback-1"}, l.Of(ticket.Ref)); ticket.Callback++ {
	}
	taken := make(chan string, 10)
	fewer := func() { set(t, l, 2) }
	_, stop := l.serve(t, 16, func(_ context.Context, lane string, _ ledger.Ticket) error {
		if l.Count() == 8 {
			fewer()
		}
		taken <- lane
		return &Later{Wait: time.Hour, Why: "not yet"}
	})
	defer stop()
	l.Bring(t.Context(), ticket)
	for want := range 2 {
		select {
		case lane := <-taken:
			if (lane == l.Of(ticket.Ref)) != (want == 1) {
				t.Errorf("it was taken out of %s", lane)
			}
		case <-time.After(time.Minute):
			t.Fatal("it does not come back")
		}
	}
	l.Bring(t.Context(), slow)
	if lane := <-taken; lane != Slow {
		t.Errorf("what is slow was taken out of %s", lane)
	}
	for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
		in := append(l.find(t.Context(), ticket.Ref, 1), l.find(t.Context(), slow.Ref, 1)...)
		retry := rdb.ZCard(t.Context(), "asynq:{"+Slow+"}:retry").Val()
		if slices.Equal(in, []string{l.Of(ticket.Ref), Slow}) && retry == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("they are in %v", in)
		}
	}
}

// TestNoMoreThanItsPlaces: a process works on as many tasks at a time as it may, however the lanes change under it, and of each lane on its part.
func TestNoMoreThanItsPlaces(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	l := open(t, rdb)
	must(t, l.Register(ctx))
	const most = 32
	var mu sync.Mutex
	under, high, byLane, tooMany := 0, 0, map[string]int{}, ""
	goOn := make(chan struct{})
	came, stop := l.serve(t, most, func(_ context.Context, lane string, _ ledger.Ticket) error {
		count := func(n int) {
			mu.Lock()
			defer mu.Unlock()
			under, byLane[lane] = under+n, byLane[lane]+n
			if high = max(high, under); under > most {
				tooMany = fmt.Sprint(byLane)
			}
		}
		count(1)
		<-goOn
		count(-1)
		return nil
	})
	defer stop()
	const tasks = 300
	bring := func(from int) {
		for i := range tasks {
			_, err := l.Enqueue(ctx, job(from+i, 60))
			must(t, err)
		}
	}
	settled := func(want int) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; <-time.After(5 * time.Millisecond) {
			mu.Lock()
			n := under
			mu.Unlock()
			if n == want {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d are worked on, want %d", n, want)
			}
		}
	}
	bring(0)
	settled(most - most/shareOfSlow)
	mu.Lock()
	for lane, n := range byLane {
		if n != (most-most/shareOfSlow)/4 {
			t.Errorf("%s has %d", lane, n)
		}
	}
	mu.Unlock()
	set(t, l, 8)
	bring(tasks)
	settled(most) // four lanes have what they had, and the new ones what is left of the whole
	set(t, l, 2)
	bring(2 * tasks)
	close(goOn)
	await(t, came, 3*tasks)
	settled(0)
	mu.Lock()
	defer mu.Unlock()
	if tooMany != "" || high != most {
		t.Errorf("%d at a time, want %d: %s", high, most, tooMany)
	}
}

// TestManyChangesLeaveNothing: no goroutine and no connection.
func TestManyChangesLeaveNothing(t *testing.T) {
	server := redistest.Start(t)
	rdb, eye := server.Client(), server.Client()
	ctx := t.Context()
	l := open(t, rdb)
	must(t, l.Register(ctx))
	s := l.NewServers(ServersConfig{
		Concurrency: 16, Process: 2 * fewAttempts, Look: time.Second, Grace: 5 * time.Second, Full: func() <-chan struct{} { return nil },
		Contain: func(_ context.Context, do func() error) error { return do() }, Handler: func(context.Context, string, ledger.Ticket, bool) error { return nil },
	})
	must(t, s.Start())
	end := sync.OnceFunc(func() { s.Stop(); s.Shutdown() })
	defer end()
	subscribed := func() int { return strings.Count(eye.ClientList(ctx).Val(), " sub=1 ") }
	level := func(what string, now func() int, want func(n int) bool) int {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; <-time.After(20 * time.Millisecond) {
			n := now()
			if want(n) {
				return n
			}
			if time.Now().After(deadline) {
				t.Fatalf("%d %s", n, what)
			}
		}
	}
	one := level("subscriptions", subscribed, func(n int) bool { return n == 9 }) // two servers a lane, and the slow one's
	goroutines := 0
	counts := []int{8, 2, 16, 1, 5, 4}
	for i, count := range slices.Concat(counts, counts, counts) {
		must(t, rdb.HSet(ctx, numberKey, "count", count, "high", count, "epoch", 1).Err()) // at once, as if they had been empty for long
		must(t, l.numbers.read(ctx))
		must(t, s.Follow())
		level("subscriptions", subscribed, func(n int) bool { return n == 2*count+1 })
		if i == len(counts)-1 {
			goroutines = runtime.NumGoroutine()
		}
	}
	level("goroutines", runtime.NumGoroutine, func(n int) bool { return n <= goroutines+10 }) // two rounds of changes would leave 30 and more
	end()
	if n := level("subscriptions", subscribed, func(n int) bool { return n == 0 }); one != 9 {
		t.Error(n)
	}
}

// TestPlaces: none is given twice, each comes back, and one of a task that got lost on its way does after a while.
func TestPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		whole := &places{most: 3}
		p, q := &places{within: whole, most: 2}, &places{within: whole, most: 2}
		for range 2 {
			if p.take() != nil {
				t.Error("two are there")
			}
		}
		if p.take() == nil || q.take() != nil {
			t.Error("two are there, and one more in all")
		}
		none := q.take()
		if none == nil {
			t.Error("more than the whole has")
		}
		p.begin()
		p.end()
		<-none // and another may be there
		if q.take() != nil || q.take() == nil {
			t.Error("it did not come back")
		}
		p.giveBack()
		p.resize(0)
		if p.take() == nil {
			t.Error("none is left")
		}
		q.begin()
		q.begin()
		q.resize(1)
		q.end()
		if q.take() == nil {
			t.Error("one is taken yet of one")
		}
		q.end()
		if q.take() != nil {
			t.Error("none is taken")
		}
		time.Sleep(lostAfter)
		if q.take() != nil {
			t.Error("a place is lost for ever")
		}
		q.begin()
		q.begin() // the other one comes after all
		q.end()
		q.end()
		if whole.taken != 0 || whole.worked != 0 || q.taken != 0 {
			t.Errorf("%+v, %+v", whole, q)
		}
		var taken atomic.Int64
		p.resize(2)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range 50 {
					for freed := p.take(); freed != nil; freed = p.take() {
						<-freed
					}
					if taken.Add(1) > 2 {
						t.Error("more than there are")
					}
					p.begin()
					taken.Add(-1)
					p.end()
				}
			})
		}
		wg.Wait()
	})
}
