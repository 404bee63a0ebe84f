package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// newsAt is the place behind an entry of acme's news.
func newsAt(t *testing.T, entry int) ledger.Place {
	t.Helper()
	p, ok := ledger.ParsePlace(fmt.Sprintf("%s-1-%d", strings.Repeat("A", 26), entry))
	if !ok {
		t.Fatal("no place")
	}
	return p
}

// lostNews counts what watchers do not hear of.
type lostNews struct {
	metricnoop.Int64Counter
	n atomic.Int64
}

func (c *lostNews) Add(_ context.Context, n int64, _ ...metric.AddOption) { c.n.Add(n) }

// hall is a live without a goroutine: whoever watches is looked for by the test.
func hall(log *slog.Logger) (l *live, dropped *lostNews) {
	dropped = &lostNews{}
	return &live{
		guard: &guard{log: log}, dropped: dropped, watching: newWatching(), look: make(chan struct{}, 1), stop: func() {},
	}, dropped
}

// stand adds a watch of acme's that stands at a place.
func (l *live) stand(at ledger.Place, q WatchQuery) *Watch {
	q.Company = acme
	w := &Watch{all: l.watching, query: q, changed: make(chan struct{}, 1), begun: make(chan struct{}), at: at}
	l.watches[w] = true
	return w
}

// told is what a watch takes: events, in order, and a gap's place.
func (w *Watch) told(t *testing.T) []string {
	t.Helper()
	news, err := w.Take()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, n := range news {
		if n.Delivery == nil {
			all = append(all, "gap at "+n.Place)
		} else {
			all = append(all, n.Delivery.EventID)
		}
	}
	return all
}

// TestWhoHearsWhat: of what changed at one place each hears what it asks for, in order, and reads are of what somebody hears of, each once. What is gone since
// is no news.
func TestWhoHearsWhat(t *testing.T) {
	t.Parallel()
	l, _ := hall(slog.New(slog.DiscardHandler))
	state := map[string]State{"held": Held, "deleted": Cancelled, "done": Delivered, "other": Held}
	changes := []ledger.Change{
		{Ref: ledger.Ref{Company: acme, Event: "held", Callback: 1}, State: Held},
		{Ref: ledger.Ref{Company: acme, Event: "deleted", Callback: 2}, State: Retrying}, // its callback is gone
		{Ref: ledger.Ref{Company: acme, Event: "gone", Callback: 1}, State: Held},
		{Ref: ledger.Ref{Company: acme, Event: "held", Callback: 1}, State: Held},
		{Ref: ledger.Ref{Company: acme, Event: "done", Callback: 1}, State: Delivered},
		{Ref: ledger.Ref{Company: acme, Event: "other", Callback: 3}, State: Held},
		{Ref: ledger.Ref{Company: acme, Event: "left", Callback: 4}, State: Active},
	}
	for i := range changes {
		changes[i].After = newsAt(t, i+2)
	}
	var read []string
	l.read = func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
		found := make(map[string]*Delivery)
		for _, r := range refs {
			read = append(read, r.Event)
			if s := state[r.Event]; s != "" {
				found[r.DeliveryID()] = &Delivery{DeliveryID: r.DeliveryID(), EventID: r.Event, CallbackID: r.Callback, State: s, EventType: "type." + r.Event}
			}
		}
		return found, nil
	}
	for _, tt := range []struct {
		query       WatchQuery
		want, reads []string
	}{
		{WatchQuery{CallbackID: 1}, []string{"held", "held", "done"}, []string{"held", "gone", "done"}},
		{WatchQuery{CallbackID: 1, Callbacks: []int64{2, 3}}, nil, nil},
		{WatchQuery{Callbacks: []int64{2, 3}}, []string{"deleted", "other"}, []string{"deleted", "other"}},
		{WatchQuery{Callbacks: []int64{}}, nil, nil},
		{WatchQuery{States: []State{Held}}, []string{"held", "held", "other"}, []string{"held", "gone", "other"}},
		{WatchQuery{States: []State{Cancelled}}, []string{"deleted"}, []string{"held", "deleted", "gone", "other", "left"}},
		{WatchQuery{States: []State{Delivered, Dead}}, []string{"done"}, []string{"done"}},
		{WatchQuery{EventType: "type.other", States: []State{Held}}, []string{"other"}, []string{"held", "gone", "other"}},
		{WatchQuery{EventType: "type.done", Callbacks: []int64{1}, CallbackID: 1}, []string{"done"}, []string{"held", "gone", "done"}},
	} {
		t.Run(fmt.Sprintf("%+v", tt.query), func(t *testing.T) {
			w := l.stand(newsAt(t, 1), tt.query)
			read = nil
			seen := ledger.Seen{Watched: true, Whole: true, Changes: changes, At: newsAt(t, 9)}
			if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, 10); err != nil {
				t.Fatal(err)
			}
			select {
			case <-w.changed:
			default:
				if len(tt.want) > 0 {
					t.Error("it does not hear that there is something")
				}
			}
			if diff := cmp.Diff(tt.want, w.told(t)); diff != "" || w.Place() != newsAt(t, 9).String() {
				t.Errorf("it stands at %s\n%s", w.Place(), diff)
			}
			if diff := cmp.Diff(tt.reads, read); diff != "" {
				t.Errorf("it reads\n%s", diff)
			}
		})
	}
}

// TestWhoIsSlowHasAGap: what waits for a watcher has a bound, and what is dropped is counted. The gap comes after what waited, once, and what follows is told.
func TestWhoIsSlowHasAGap(t *testing.T) {
	t.Parallel()
	l, dropped := hall(slog.New(slog.DiscardHandler))
	l.read = func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
		return map[string]*Delivery{refs[0].DeliveryID(): {DeliveryID: refs[0].DeliveryID(), EventID: refs[0].Event, CallbackID: 1, State: Held}}, nil
	}
	slow, quick := l.stand(newsAt(t, 0), WatchQuery{}), l.stand(newsAt(t, 0), WatchQuery{})
	entry := 0
	change := func() {
		t.Helper()
		entry++
		c := ledger.Change{Ref: ledger.Ref{Company: acme, Event: fmt.Sprint("e", entry), Callback: 1}, State: Held, After: newsAt(t, entry)}
		if _, err := l.serve(t.Context(), gathering{company: acme, at: slow.at}, []*Watch{slow, quick}, ledger.Seen{Watched: true, Whole: true, At: c.After, Changes: []ledger.Change{c}}, 10); err != nil {
			t.Fatal(err)
		}
		if got := quick.told(t); len(got) != 1 || got[0] != fmt.Sprint("e", entry) {
			t.Fatalf("whoever is quick hears %q", got)
		}
	}
	for range liveQueue + 3 {
		change()
	}
	if dropped.n.Load() != 3 || slow.Place() != "" {
		t.Errorf("%d are counted as dropped; it tells %q as its place", dropped.n.Load(), slow.Place())
	}
	got := slow.told(t)
	if want := "gap at " + newsAt(t, entry).String(); len(got) != liveQueue+1 || got[liveQueue-1] != fmt.Sprint("e", liveQueue) || got[liveQueue] != want {
		t.Errorf("%d news, the last %q, want %q", len(got), got[len(got)-1], want)
	}
	if got := slow.told(t); len(got) != 0 || slow.Place() != newsAt(t, entry).String() {
		t.Errorf("it hears %q again, at %q", got, slow.Place())
	}
	change()
	if got := slow.told(t); len(got) != 1 {
		t.Errorf("after the gap it hears %q", got)
	}
}

// TestWhereNewsBegin: whoever begins to watch has missed nothing, unless there was nothing of the company, which has news now, or what it missed is not known
// any more.
func TestWhereNewsBegin(t *testing.T) {
	t.Parallel()
	l, _ := hall(slog.New(slog.DiscardHandler))
	serve := func(w *Watch, seen ledger.Seen) {
		t.Helper()
		if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, 10); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.begun:
		default:
			t.Error("it does not hear that it has begun")
		}
	}
	nothing, begins := ledger.Seen{}, ledger.Seen{Watched: true, At: newsAt(t, 1)}
	gap := []string{"gap at " + newsAt(t, 1).String()}

	w := l.stand(ledger.Place{}, WatchQuery{})
	serve(w, begins)
	if got := w.told(t); got != nil || w.Place() != newsAt(t, 1).String() {
		t.Errorf("whoever begins hears %q, at %s", got, w.Place())
	}
	w = l.stand(ledger.Place{}, WatchQuery{})
	serve(w, nothing)
	if got := w.told(t); got != nil || w.Place() != "" {
		t.Errorf("of a company that is not, it hears %q, at %s", got, w.Place())
	}
	serve(w, begins)
	if got := w.told(t); !slices.Equal(got, gap) {
		t.Errorf("of a company that is new, it hears %q", got)
	}
	serve(w, begins)
	if got := w.told(t); !slices.Equal(got, gap) {
		t.Errorf("what it missed is not known, and it hears %q", got)
	}
	w = l.stand(newsAt(t, 0), WatchQuery{})
	serve(w, nothing)
	serve(w, begins)
	if got := w.told(t); !slices.Equal(got, gap) {
		t.Errorf("of a company that was erased and is used again, it hears %q", got)
	}
}

// TestNewsAfterAGap: what comes before a gap was taken is in the gap, and where more changed than is read in a look, nobody goes further than it was told.
func TestNewsAfterAGap(t *testing.T) {
	t.Parallel()
	l, _ := hall(slog.New(slog.DiscardHandler))
	l.read = func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
		found := make(map[string]*Delivery)
		for _, r := range refs {
			found[r.DeliveryID()] = &Delivery{DeliveryID: r.DeliveryID(), EventID: r.Event, CallbackID: 1, State: Held}
		}
		return found, nil
	}
	serve := func(w *Watch, most int, entries ...int) {
		t.Helper()
		seen := ledger.Seen{Watched: true, Whole: true}
		for _, entry := range entries {
			seen.At = newsAt(t, entry)
			seen.Changes = append(seen.Changes, ledger.Change{Ref: ledger.Ref{Company: acme, Event: fmt.Sprint("e", entry), Callback: 1}, State: Held, After: seen.At})
		}
		if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, most); err != nil {
			t.Fatal(err)
		}
	}
	w := l.stand(newsAt(t, 0), WatchQuery{})
	if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, ledger.Seen{Watched: true, At: newsAt(t, 1)}, 10); err != nil {
		t.Fatal(err)
	}
	serve(w, 10, 2)
	if got := w.told(t); !slices.Equal(got, []string{"gap at " + newsAt(t, 2).String()}) {
		t.Errorf("it hears %q", got)
	}
	serve(w, 1, 3, 4, 5)
	if got := w.told(t); !slices.Equal(got, []string{"e3"}) || w.at != newsAt(t, 3) {
		t.Errorf("it hears %q, and stands at %s", got, w.at)
	}
	serve(w, 10, 4, 5)
	if got := w.told(t); !slices.Equal(got, []string{"e4", "e5"}) || w.at != newsAt(t, 5) {
		t.Errorf("it hears %q, and stands at %s", got, w.at)
	}
}

// TestNobodyWatchesWhatIsErasedMeanwhile: if a company is erased while a watch begins, nothing of it is written. A watch hears if it cannot begin.
func TestNobodyWatchesWhatIsErasedMeanwhile(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	l, _ := hall(slog.New(slog.DiscardHandler))
	l.ledger = h.client.live.ledger
	watched := func(known func(context.Context, string) (bool, error)) (w *Watch, keys int64) {
		t.Helper()
		l.known = known
		w = l.stand(ledger.Place{}, WatchQuery{})
		h.must(l.lookAround(t.Context()))
		w.Close()
		keys = h.rdb.Exists(t.Context(), "{acme}:watched", "{acme}:live").Val()
		h.must(h.rdb.Del(t.Context(), "{acme}:watched", "{acme}:live").Err())
		return w, keys
	}
	if _, keys := watched(func(ctx context.Context, company string) (bool, error) {
		return true, h.rdb.Incr(ctx, registry.VersionKey(company)).Err() // as an erasure does
	}); keys != 0 {
		t.Errorf("%d keys of a company that was erased", keys)
	}
	refused := errors.New("refused")
	if w, keys := watched(func(context.Context, string) (bool, error) { return false, refused }); keys != 0 || !errors.Is(w.err, refused) {
		t.Errorf("%d keys, and the watch hears %v", keys, w.err)
	}
	if w, keys := watched(func(context.Context, string) (bool, error) { return true, nil }); keys == 0 || w.err != nil {
		t.Errorf("a company that is there: %d keys, %v", keys, w.err)
	}
}

// TestAWatchThatDoesNotBegin, since nobody looks, is given up after a while, or when its caller has gone, and is not looked for any more.
func TestAWatchThatDoesNotBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := hall(slog.New(slog.DiscardHandler))
		began := time.Now()
		if _, err := l.watch(t.Context(), WatchQuery{Company: acme}); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != liveBegin || l.count() != 0 {
			t.Errorf("after %s: %v; %d watch", time.Since(began), err, l.count())
		}
		ctx, cancel := context.WithTimeout(t.Context(), liveBegin/3)
		defer cancel()
		began = time.Now()
		if _, err := l.watch(ctx, WatchQuery{Company: acme}); !errors.Is(err, ctx.Err()) || time.Since(began) != liveBegin/3 || l.count() != 0 {
			t.Errorf("after %s: %v; %d watch", time.Since(began), err, l.count())
		}
		w := l.stand(ledger.Place{}, WatchQuery{})
		l.end()
		if _, err := w.Take(); len(w.changed) != 1 || !errors.Is(err, ErrEnding) {
			t.Errorf("at the process's end whoever watches hears %v", err)
		}
		if _, err := l.watch(t.Context(), WatchQuery{Company: acme}); !errors.Is(err, ErrEnding) {
			t.Errorf("whoever comes then hears %v", err)
		}
	})
}

// TestTextOfNewsIsWrittenOnce, however many watch.
func TestTextOfNewsIsWrittenOnce(t *testing.T) {
	t.Parallel()
	n, times := &News{Delivery: &Delivery{EventID: "e"}}, 0
	for range 3 {
		if text := n.Text(func(d *Delivery) []byte { times++; return []byte(d.EventID) }); string(text) != "e" {
			t.Errorf("%s", text)
		}
	}
	if times != 1 {
		t.Errorf("it is written %d times", times)
	}
}

// TestLooksThatFailAreLoggedOnce: one line when they begin to fail, and one when they succeed again.
func TestLooksThatFailAreLoggedOnce(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	l, _ := hall(slog.New(slog.NewTextHandler(&log, nil)))
	ended, end := context.WithCancel(t.Context())
	end()
	for _, err := range []error{nil, errors.New("refused"), errors.New("refused"), nil, nil} {
		l.note(t.Context(), err)
		l.note(ended, errors.New("the process ends"))
	}
	if got := strings.Split(strings.TrimSpace(log.String()), "\n"); len(got) != 2 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "refused") || !strings.Contains(got[1], "level=INFO") {
		t.Errorf("the log has %q", got)
	}
}

// longest is a hook that knows the longest pipeline.
type longest struct{ n int }

func (*longest) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*longest) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (l *longest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		l.n = max(l.n, len(cmds))
		return next(ctx, cmds)
	}
}

// TestALookGoesToSoManyPlaces: where more stand than a look goes to, they have turns.
func TestALookGoesToSoManyPlaces(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	asked := &longest{}
	h.rdb.AddHook(asked)
	l, _ := hall(slog.New(slog.DiscardHandler))
	l.ledger, l.known = h.client.live.ledger, h.client.live.known
	var all []*Watch
	for i := range livePlaces + 20 {
		all = append(all, l.stand(newsAt(t, i), WatchQuery{}))
	}
	begun := func() (n int) {
		for _, w := range all {
			select {
			case <-w.begun:
				n++
			default:
			}
		}
		return n
	}
	h.must(l.lookAround(t.Context()))
	if n := begun(); n != livePlaces || asked.n > livePlaces {
		t.Errorf("%d of %d were looked for, with up to %d commands", n, len(all), asked.n)
	}
	for range 5 { // those of the first look stand at one place
		h.must(l.lookAround(t.Context()))
	}
	if n := begun(); n != len(all) {
		t.Errorf("%d of %d had their turn", n, len(all))
	}
}
