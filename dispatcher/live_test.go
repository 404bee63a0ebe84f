package dispatcher

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
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
		guard: &guard{log: slog.New(slog.DiscardHandler)}, dropped: dropped, watches: make(map[*Watch]bool),
		read: func(_ context.Context, _ string, refs []ledger.Ref) (map[string]*Delivery, error) {
			if failed != nil {
				return nil, failed
			}
			return map[string]*Delivery{refs[0].DeliveryID(): {DeliveryID: refs[0].DeliveryID(), CallbackID: 1}}, nil
		},
	}
	watch := func(at ledger.Place) *Watch {
		w := &Watch{live: l, query: WatchQuery{Company: acme}, changed: make(chan struct{}, 1), begun: make(chan struct{}), at: at}
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
