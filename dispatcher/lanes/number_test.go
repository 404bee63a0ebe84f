package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// open makes Lanes of a process.
func open(t *testing.T, rdb redis.UniversalClient) *Lanes {
	t.Helper()
	contain := func(_ context.Context, do func() error) error { return do() }
	log := slog.New(slog.DiscardHandler)
	book := ledger.New(ledger.Config{Redis: rdb, Logger: log, Contain: contain})
	l := New(Config{Redis: rdb, Ledger: book, Logger: log, Weight: func(context.Context, string) int { return 1 }, Contain: contain})
	t.Cleanup(book.Close)
	t.Cleanup(l.Close)
	return l
}

// mini is a Redis in a bubble.
func mini(t *testing.T) *redis.Client {
	t.Helper()
	m := miniredis.NewMiniRedis()
	rdb := redis.NewClient(&redis.Options{
		Protocol: 2, ContextTimeoutEnabled: true, Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(m.Close)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// set has there be so many lanes, and takes note of what stood in the audit trail.
func set(t *testing.T, l *Lanes, count int) {
	t.Helper()
	if err := l.Set(t.Context(), count, func(before int) string { return fmt.Sprintf(`{"do":"%d-%d"}`, before, count) }); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// job is a delivery's ticket, of so many callbacks of one company.
func job(i, callbacks int) ledger.Ticket {
	return ledger.Ticket{Ref: ledger.Ref{Company: "acme", Event: fmt.Sprint("e-", i), Callback: int64(i%callbacks) + 1}, Generation: 1}
}

// TestACallbackKeepsItsLane: programs of before have four lanes, and must find the same callbacks in them.
func TestACallbackKeepsItsLane(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		company        string
		callback       int64
		of4, of8, of64 int
	}{
		{"acme", 1, 3, 3, 35},
		{"acme", 2, 2, 6, 54},
		{"acme", 3, 1, 1, 9},
		{"other", 1, 1, 5, 13},
		{"Ünï", 12345, 2, 2, 50},
	} {
		for count, want := range map[int]int{4: tt.of4, 8: tt.of8, 64: tt.of64} {
			n := number{count: count, high: count}
			if got := n.of(tt.company, tt.callback); got != fmt.Sprint("ringback-", want) {
				t.Errorf("callback %d of %s is in %s of %d lanes, want %d", tt.callback, tt.company, got, count, want)
			}
		}
	}
	if got := new(Lanes).Of(ledger.Ref{Company: "acme", Callback: 1}); got != new(Lanes).Names()[3] {
		t.Errorf("where nobody knows a number, it is in %s", got)
	}
}

// TestTheNumberIsTheInstallations: what one process sets, the others learn at their next look, and those that listen at once. What cannot be read changes
// nothing, and what Redis has lost is lost.
func TestTheNumberIsTheInstallations(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	l, other := open(t, rdb), open(t, rdb)
	want := func(when string, l *Lanes, count, high int) {
		t.Helper()
		if n := l.numbers.known(); n.count != count || n.high != high || len(l.Names()) != high+1 {
			t.Errorf("%s: %+v, want %d lanes, and %d looked into", when, n, count, high)
		}
	}
	heard := func(changed <-chan struct{}) {
		t.Helper()
		select {
		case <-changed:
		case <-time.After(time.Minute):
			t.Error("nobody is told that the number is another")
		}
	}
	must(t, other.Register(ctx))
	want("before anything", other, 4, 4)
	changed := other.Changed()
	set(t, l, 8)
	want("set", l, 8, 8)
	other.numbers.last.Store(&reading{other.numbers.known(), time.Now().Add(time.Hour)}) // a busy machine may take long
	must(t, other.Register(ctx))
	want("just looked at", other, 4, 4)
	other.numbers.last.Store(&reading{other.numbers.known(), time.Now().Add(-fresh)})
	must(t, other.Register(ctx))
	heard(changed)
	want("looked at", other, 8, 8)
	listening, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() { defer close(done); other.Listen(listening) }()
	for other.bell.deaf.Load() {
		<-time.After(time.Millisecond)
	}
	changed = other.Changed()
	set(t, l, 2)
	heard(changed)
	want("heard", other, 2, 8)
	stop()
	<-done

	must(t, rdb.HSet(ctx, numberKey, "count", "many").Err())
	if err := other.numbers.read(ctx); !errors.Is(err, errNumber) {
		t.Errorf("many lanes: %v", err)
	}
	want("not readable", other, 2, 8)
	must(t, rdb.Del(ctx, numberKey).Err())
	must(t, other.numbers.read(ctx))
	want("lost", other, 4, 4)
	other.numbers.learn(number{16, 16, 9}, time.Now().Add(-time.Hour))
	want("a later change that was read before", other, 16, 16)
	other.numbers.learn(number{4, 4, 8}, time.Now().Add(-time.Hour))
	want("an earlier change that was read before", other, 16, 16)

	if n := rdb.XLen(ctx, registry.AuditKeyOfAll).Val(); n != 2 {
		t.Errorf("%d lines of the audit trail, want one for each change", n)
	}
	set(t, l, 4)
	if n := rdb.XLen(ctx, registry.AuditKeyOfAll).Val(); n != 2 {
		t.Errorf("a change that changes nothing leaves a line")
	}
}

// TestOfTwoChangesAtATimeNoneIsLost: the second one sees what the first one did.
func TestOfTwoChangesAtATimeNoneIsLost(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	l, other := open(t, rdb), open(t, rdb)
	first := true
	must(t, l.Set(t.Context(), 8, func(before int) string {
		if first {
			first = false
			set(t, other, 16)
		} else if before != 16 {
			t.Errorf("it was changed from %d", before)
		}
		return "{}"
	}))
	if n := l.numbers.known(); n.count != 8 || n.high != 16 || n.epoch != 2 {
		t.Errorf("%+v", n)
	}
}

// hung is a hook for which the number of lanes is not to be had.
type hung struct{ asked, hangs atomic.Int64 }

func (h *hung) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h *hung) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *hung) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() != "hmget" || h.hangs.Load() == 0 {
			return next(ctx, cmd)
		}
		h.asked.Add(1)
		<-ctx.Done()
		cmd.SetErr(ctx.Err())
		return ctx.Err()
	}
}

// TestWhoBringsATaskDoesNotWaitForTheNumber, but as it is not known yet, or was not asked for in a long time; and then once.
func TestWhoBringsATaskDoesNotWaitForTheNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := mini(t)
		h := &hung{}
		rdb.AddHook(h)
		l := open(t, rdb)
		took := func() time.Duration {
			from := time.Now()
			for i := range 5 {
				l.Bring(t.Context(), job(i, 1))
			}
			return time.Since(from)
		}
		h.hangs.Store(1)
		if d := took(); d != readWithin {
			t.Errorf("as nothing is known, five wait %s", d)
		}
		time.Sleep(2 * fresh)
		if d := took(); d != 0 {
			t.Errorf("as much is known, five wait %s", d)
		}
		time.Sleep(2 * stale)
		if d := took(); d != readWithin {
			t.Errorf("as what is known is old, five wait %s", d)
		}
		if n := h.asked.Load(); n > 6 {
			t.Errorf("Redis was asked %d times", n)
		}
		h.hangs.Store(0)
		must(t, rdb.HSet(t.Context(), numberKey, "count", 8, "high", 8, "epoch", 1).Err())
		time.Sleep(2 * fresh)
		took()
		l.numbers.close()
		if l.Count() != 8 {
			t.Errorf("%d lanes once Redis answers", l.Count())
		}
	})
}

// TestATaskIsFoundInItsOldLane: there it is asked for, run early, and forgotten, and not brought a second time.
func TestATaskIsFoundInItsOldLane(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	l := open(t, rdb)
	set(t, l, 8)
	moved := job(0, 1)
	for i := 0; l.Of(moved.Ref) == (number{count: 2}).of(moved.Company, moved.Callback); i++ {
		moved.Callback++
	}
	old := l.Of(moved.Ref)
	_, err := l.Enqueue(ctx, moved, asynq.ProcessIn(time.Hour))
	must(t, err)
	if l.Elsewhere(ctx, moved) {
		t.Error("it is in its lane")
	}
	set(t, l, 2)
	if !l.Elsewhere(ctx, moved) {
		t.Error("it is not seen in its old lane")
	}
	tasks := func() (in []string) {
		for _, lane := range l.Names() {
			if n := rdb.Exists(ctx, "asynq:{"+lane+"}:t:"+TaskID(moved.Ref, 1)).Val(); n > 0 {
				in = append(in, lane)
			}
		}
		return in
	}
	must(t, rdb.ZAdd(ctx, "asynq:{"+old+"}:scheduled", redis.Z{Score: float64(time.Now().Add(-time.Minute).Unix()), Member: TaskID(moved.Ref, 1)}).Err())
	if runs, err := l.Runs(ctx, moved); err != nil || !runs || !slices.Equal(tasks(), []string{old}) {
		t.Errorf("it runs %t, %v, and is in %v", runs, err, tasks())
	}
	l.Forget(ctx, moved.Ref, 1)
	if in := tasks(); len(in) > 0 {
		t.Errorf("forgotten, it is in %v", in)
	}
	if runs, err := l.Runs(ctx, moved); err != nil || !runs || !slices.Equal(tasks(), []string{l.Of(moved.Ref)}) {
		t.Errorf("brought anew, it runs %t, %v, and is in %v", runs, err, tasks())
	}
}

// TestAnOldLaneIsGivenUpOnceItIsEmpty, for minutes on end, and in all of asynq's states, and not while it is paused, and not by who does not know the number.
func TestAnOldLaneIsGivenUpOnceItIsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rdb := mini(t)
		ctx := t.Context()
		l, late := open(t, rdb), open(t, rdb)
		rounds := func(l *Lanes, d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(2 * time.Second) {
				must(t, l.Retire(ctx))
			}
		}
		set(t, l, 8)
		set(t, l, 2)
		must(t, late.numbers.read(ctx))
		for _, key := range []string{"pending", "active"} {
			must(t, rdb.LPush(ctx, "asynq:{ringback-5}:"+key, "x").Err())
			rounds(l, 2*emptyFor)
			if n := l.numbers.known(); n.count != 2 || n.high != 6 {
				t.Fatalf("with a task %s in lane 5: %+v", key, n)
			}
			must(t, rdb.Del(ctx, "asynq:{ringback-5}:"+key).Err())
		}
		for _, key := range []string{"scheduled", "retry"} {
			must(t, rdb.ZAdd(ctx, "asynq:{ringback-5}:"+key, redis.Z{Score: 1, Member: "x"}).Err())
			rounds(l, 2*emptyFor)
			if n := l.numbers.known(); n.high != 6 {
				t.Fatalf("with a task in %s of lane 5: %+v", key, n)
			}
			must(t, rdb.Del(ctx, "asynq:{ringback-5}:"+key).Err())
		}
		must(t, rdb.Set(ctx, pausedKey("ringback-4"), 1, 0).Err())
		rounds(l, 2*emptyFor)
		if n := l.numbers.known(); n.high != 5 {
			t.Fatalf("with lane 4 paused: %+v", n)
		}
		must(t, rdb.Del(ctx, pausedKey("ringback-4")).Err())
		rounds(l, emptyFor-lookAround)
		if n := l.numbers.known(); n.high != 5 {
			t.Fatalf("before its time: %+v", n)
		}
		rounds(l, 2*lookAround)
		if n := l.numbers.known(); n.count != 2 || n.high != 2 {
			t.Fatalf("after it: %+v", n)
		}
		if queues := rdb.SMembers(ctx, "asynq:queues").Val(); !slices.Equal(queues, []string{"ringback-0", "ringback-1", Slow}) {
			t.Errorf("asynq knows %v", queues)
		}
		set(t, l, 8)
		late.numbers.learn(number{2, 8, 2}, time.Now()) // as one that could not ask since
		rounds(late, 2*emptyFor)
		must(t, l.numbers.read(ctx))
		if n := l.numbers.known(); n.count != 8 || n.high != 8 {
			t.Errorf("who did not know gave lanes up: %+v", n)
		}
	})
}

// TestALostPlaceComesBackToWhoWaits: a task that asynq cannot read never comes to the handler, and its place is not kept for it.
func TestALostPlaceComesBackToWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &patient{patience: patience{places: &places{most: 1}, stop: t.Context().Done(), full: func() <-chan struct{} { return nil }}}
		if p.places.take() != nil {
			t.Fatal("there is no place")
		}
		began := time.Now()
		p.untilThereIsRoom()
		if !p.untilThereIsAPlace() || time.Since(began) > 2*lostAfter {
			t.Errorf("a place after %v", time.Since(began))
		}
	})
}
