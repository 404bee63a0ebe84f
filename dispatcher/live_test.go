package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	metricnoop "go.opentelemetry.io/otel/metric/noop"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestALookThatFails: while Redis fails, whoever watches stays where it stands and hears what it missed. A record that cannot be read would fail each look: it is
// gone past, and that is a gap. Whoever has not begun yet is told.
func TestALookThatFails(t *testing.T) {
	t.Parallel()
	place := func(entry string) ledger.Place {
		p, ok := ledger.ParsePlace(strings.Repeat("A", 26) + "-1-" + entry)
		if !ok {
			t.Fatal("no place")
		}
		return p
	}
	failed := error(nil)
	dropped, _ := metricnoop.Meter{}.Int64Counter("dropped")
	l := &live{
		guard: &guard{log: slog.New(slog.DiscardHandler)}, dropped: dropped, watching: newWatching(), flooded: make(map[string]time.Time),
		read: func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
			if failed != nil {
				return nil, failed
			}
			return map[string]*Delivery{refs[0].DeliveryID(): {DeliveryID: refs[0].DeliveryID(), CallbackID: 1}}, nil
		},
	}
	watch := func(at ledger.Place) *Watch {
		w := &Watch{all: l.watching, query: WatchQuery{Company: acme}, changed: make(chan struct{}, 1), begun: make(chan struct{}), at: at}
		l.watches[w] = true
		return w
	}
	w := watch(place("1"))
	look := func() error {
		seen := ledger.Seen{Watched: true, Whole: true, At: place("2"), Changes: []ledger.Change{{Ref: ledger.Ref{Company: acme, Event: "e", Callback: 1}, State: Held, After: place("2")}}}
		_, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, 10)
		return err
	}
	stands := func(entry, told string, want int, gap bool) {
		t.Helper()
		if w.at != place(entry) || w.Place() != told {
			t.Errorf("it stands at %s, and tells %q; want entry %s and %q", w.at, w.Place(), entry, told)
		}
		news, err := w.Take()
		if err != nil || len(news) != want || want > 0 && (news[0].Delivery == nil) != gap {
			t.Errorf("%d news, %v", len(news), err)
		}
	}
	if failed = errors.New("no answer"); !errors.Is(look(), failed) {
		t.Error("it does not say that it failed")
	}
	stands("1", place("1").String(), 0, false)
	failed = nil
	if err := look(); err != nil {
		t.Error(err)
	}
	stands("2", "", 1, false)
	w.at = place("1")
	failed = ledger.ErrBadRecord
	if err := look(); err != nil {
		t.Error(err)
	}
	stands("2", "", 1, true)
	stands("2", place("2").String(), 0, false)

	fresh := watch(ledger.Place{})
	for _, w := range []*Watch{w, fresh} {
		w.fail(failed)
	}
	if fresh.err == nil || w.err != nil {
		t.Errorf("who begins hears %v, who has begun %v", fresh.err, w.err)
	}
	select {
	case <-fresh.begun:
	default:
		t.Error("who begins waits on")
	}
}

// TestWhoWatchesACompanyThatIsNot leaves nothing in Redis, and once nobody watches, nobody looks.
func TestWhoWatchesACompanyThatIsNot(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 2 { // again, after the looks have ended
		w, err := h.client.Watch(t.Context(), WatchQuery{Company: "nobody"})
		h.must(err)
		if keys := h.rdb.Keys(t.Context(), "{nobody}:*").Val(); len(keys) > 0 {
			t.Errorf("there is %v", keys)
		}
		if n := h.client.live.count(); n != 1 {
			t.Errorf("%d watch", n)
		}
		w.Close()
		ended := func() bool {
			h.client.live.mu.Lock()
			defer h.client.live.mu.Unlock()
			return h.client.live.stop == nil
		}
		for end := time.Now().Add(20 * time.Second); !ended(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("somebody looks for nobody")
			}
		}
	}
}

// TestAFloodIsLookedAtOnceASecond: whoever watches hears of the first changes, and that there were more, and stands behind all of them. Whoever comes anew begins
// at once, and other companies are looked at as ever.
func TestAFloodIsLookedAtOnceASecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dropped, _ := metricnoop.Meter{}.Int64Counter("dropped")
		l := &live{
			dropped: dropped, watching: newWatching(), flooded: make(map[string]time.Time),
			read: func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
				return map[string]*Delivery{refs[0].DeliveryID(): {DeliveryID: refs[0].DeliveryID(), CallbackID: 1}}, nil
			},
		}
		place := func(entry string) ledger.Place {
			p, _ := ledger.ParsePlace(strings.Repeat("A", 26) + "-1-" + entry)
			return p
		}
		watch := func(company string, at ledger.Place) *Watch {
			w := &Watch{all: l.watching, query: WatchQuery{Company: company}, changed: make(chan struct{}, 1), begun: make(chan struct{}), at: at}
			l.watches[w] = true
			return w
		}
		w := watch(acme, place("1"))
		change := func(event, after string) ledger.Change {
			return ledger.Change{Ref: ledger.Ref{Company: acme, Event: event, Callback: 1}, State: Held, After: place(after)}
		}
		seen := ledger.Seen{Watched: true, Whole: true, Flooded: true, Missed: true, At: place("9"), Changes: []ledger.Change{change("e", "2"), change("f", "3")}}
		if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, 1); err != nil {
			t.Fatal(err)
		}
		if news, err := w.Take(); err != nil || len(news) != 2 || news[0].Delivery == nil || news[1].Delivery != nil || w.at != place("9") {
			t.Errorf("%d news, %v, and it stands at %s", len(news), err, w.at)
		}
		looks := func() (all []string) {
			for _, p := range l.awake(l.gather()) {
				all = append(all, p.company+p.at.String())
			}
			slices.Sort(all)
			return all
		}
		watch(acme, ledger.Place{})
		watch("globex", place("1"))
		if got, want := looks(), []string{acme, "globex" + place("1").String()}; !slices.Equal(got, want) {
			t.Errorf("within the second it looks at %q, want %q", got, want)
		}
		time.Sleep(liveRest)
		if got := looks(); len(got) != 3 {
			t.Errorf("after it, it looks at %q", got)
		}
		if seen.Flooded = false; len(l.flooded) != 1 {
			t.Error("it forgot what the last look found")
		}
		if _, err := l.serve(t.Context(), gathering{company: acme, at: w.at}, []*Watch{w}, seen, 1); err != nil || len(l.flooded) != 0 {
			t.Errorf("once it is over: %v, %v", err, l.flooded)
		}
		l.flood(acme, true)
		time.Sleep(3 * liveRest)
		if looks(); len(l.flooded) > 0 {
			t.Error("it remembers what nobody watches any more")
		}
	})
}
