package dispatcher

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestReplayCallback sends again what is selected, oldest first, once, and nothing else.
func TestReplayCallback(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(400, 204))
	h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	other := h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	h.work()
	ids := eventIDs("p-", 6)
	var accepted []time.Time
	for _, id := range ids {
		accepted = append(accepted, h.send(proof(id)).AcceptedAt)
		h.awaitAll(10 * time.Second)
	}

	count := func(q ReplayQuery) int64 {
		t.Helper()
		q.DryRun = true
		r, err := h.client.ReplayCallback(t.Context(), acme, 1, q)
		h.must(err)
		if again, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID); err != nil || again.State != ReplayDryRun || again.Matched != r.Matched || again.Replayed != 0 {
			t.Errorf("a dry run is kept as %+v, %v", again, err)
		}
		return r.Matched
	}
	for name, tt := range map[string]struct {
		q    ReplayQuery
		want int64
	}{
		"all":       {ReplayQuery{}, 6},
		"since":     {ReplayQuery{Since: accepted[2]}, 4},
		"until":     {ReplayQuery{Until: accepted[2]}, 2},
		"window":    {ReplayQuery{Since: accepted[1], Until: accepted[3]}, 2},
		"reason":    {ReplayQuery{Reason: "status_400"}, 6},
		"no reason": {ReplayQuery{Reason: "status_500"}, 0},
		"type":      {ReplayQuery{EventType: "payment_proof"}, 6},
		"no type":   {ReplayQuery{EventType: "wallet_item_install"}, 0},
		"delivered": {ReplayQuery{States: []ledger.State{ledger.Delivered}}, 0},
		"both":      {ReplayQuery{States: []ledger.State{ledger.Delivered, ledger.Dead, ledger.Dead}}, 6},
	} {
		if got := count(tt.q); got != tt.want {
			t.Errorf("%s: %d match, want %d", name, got, tt.want)
		}
	}
	if n := len(h.partner.requests()); n != 12 {
		t.Errorf("after dry runs the partner has %d requests, want 12", n)
	}

	r, err := h.client.ReplayCallback(t.Context(), acme, 1, ReplayQuery{Since: accepted[1], Until: accepted[5]})
	h.must(err)
	h.eventually(10*time.Second, func() bool {
		p, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID)
		return err == nil && p.State == ReplayDone && p.Replayed == 4 && p.Matched == 4 && !p.FinishedAt.IsZero()
	}, func() string { return "the replay does not end" })
	h.awaitAll(10 * time.Second)
	for i, id := range ids {
		want := ledger.Dead
		if i >= 1 && i <= 4 {
			want = ledger.Delivered
		}
		if d := h.delivery(ledger.Ref{Company: acme, Event: id, Callback: 1}.DeliveryID()); d.State != want {
			t.Errorf("%s is %s, want %s", id, d.State, want)
		}
		if d := h.delivery(ledger.Ref{Company: acme, Event: id, Callback: other.ID}.DeliveryID()); d.State != ledger.Dead {
			t.Errorf("%s of the other callback is %s", id, d.State)
		}
	}
	if got := count(ReplayQuery{States: []ledger.State{ledger.Delivered}}); got != 4 {
		t.Errorf("%d delivered match, want 4", got)
	}
	all, err := h.client.Replays(t.Context(), acme)
	h.must(err)
	if len(all) != 12 || !slices.IsSortedFunc(all, func(a, b *Replay) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
		t.Errorf("%d replays are listed", len(all))
	}
	h.check()
}

func TestReplayCallbackRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	if _, err := h.client.ReplayCallback(t.Context(), acme, 99, ReplayQuery{}); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no such callback: %v", err)
	}
	if _, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{States: []ledger.State{ledger.Dead, ledger.Held}}); err == nil {
		t.Error("held ones are replayed")
	} else if bad, ok := errors.AsType[*payloads.InvalidError](err); !ok || bad.Fields[0].Location != "body.states[1]" {
		t.Errorf("held ones: %v", err)
	}
	for location, q := range map[string]ReplayQuery{"body.reason": {Reason: "Status 503"}, "body.event_type": {EventType: "a b"}} {
		_, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, q)
		if bad, ok := errors.AsType[*payloads.InvalidError](err); !ok || bad.Fields[0].Location != location {
			t.Errorf("%s: %v", location, err)
		}
	}
	h.send(proof("replayed"))
	for range registry.DefaultReplays {
		_, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{})
		h.must(err)
	}
	if _, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{}); err == nil {
		t.Error("one replay too many is taken")
	} else if e, ok := errors.AsType[*registry.QuotaError](err); !ok || e.Quota != registry.QuotaReplays || e.Limit != registry.DefaultReplays {
		t.Errorf("one replay too many: %v", err)
	}
	// It is refused before anything is counted, which takes long: here the log cannot even be read.
	h.must(h.rdb.Rename(t.Context(), ledger.Key(acme, "log"), ledger.Key(acme, "log-away")).Err())
	h.must(h.rdb.Set(t.Context(), ledger.Key(acme, "log"), "no log", 0).Err())
	if _, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{}); err == nil {
		t.Error("one replay too many is taken")
	} else if _, ok := errors.AsType[*registry.QuotaError](err); !ok {
		t.Errorf("one replay too many is counted: %v", err)
	}
	h.must(h.rdb.Rename(t.Context(), ledger.Key(acme, "log-away"), ledger.Key(acme, "log")).Err())
	if _, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{DryRun: true}); err != nil {
		t.Errorf("to count is free: %v", err)
	}
	if _, err := h.client.ReplayProgress(t.Context(), acme, "rpl_x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such replay: %v", err)
	}
	if err := h.client.CancelReplay(t.Context(), acme, "rpl_x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such replay: %v", err)
	}
}

// TestCancelReplay stops one that no worker has taken up, and one whose callback is deleted ends by itself.
func TestCancelReplay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(400))
	cb := h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	stop := h.work()
	h.send(proof("p-1"))
	h.awaitAll(10 * time.Second)
	stop()
	start := func() *Replay {
		t.Helper()
		r, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{})
		h.must(err)
		return r
	}
	byHand := start()
	h.must(h.client.CancelReplay(t.Context(), acme, byHand.ReplayID))
	if n, _ := h.rdb.SCard(t.Context(), ledger.Key(acme, "replaying")).Result(); n != 0 {
		t.Error("a cancelled replay takes the place of another until a worker comes by")
	}
	h.must(h.client.CancelReplay(t.Context(), acme, byHand.ReplayID)) // to cancel twice is to cancel
	orphaned := start()
	h.must(h.registry.Delete(t.Context(), acme, cb.ID))
	h.must(h.client.sweep(t.Context(), acme, time.Now().Add(leastWait)))
	if d := h.delivery(ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}.DeliveryID()); !strings.Contains(d.Summary, "the callback was deleted since, so it cannot be replayed") {
		t.Errorf("its dead delivery says: %s", d.Summary)
	}
	for _, r := range []*Replay{byHand, orphaned} {
		got, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID)
		h.must(err)
		if got.State != ReplayCancelled || got.Replayed != 0 || got.FinishedAt.IsZero() || got.Matched != 1 {
			t.Errorf("%+v", got)
		}
	}
	if n, _ := h.rdb.SCard(t.Context(), ledger.Key(acme, "replaying")).Result(); n != 0 {
		t.Errorf("%d replays still stand up for the workers", n)
	}
	h.check()
}

// TestHealth tells apart what is held, waits for its next attempt, and is dead; and what went wrong last.
func TestHealth(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(503, 204))
	h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	paused := h.register("payment_proof", "")
	_, err := h.registry.Pause(t.Context(), acme, paused.ID)
	h.must(err)
	h.work()
	first := h.send(proof("p-1"))
	h.send(proof("p-2"))
	for _, id := range []string{"p-1", "p-2"} {
		h.await(ledger.Ref{Company: acme, Event: id, Callback: 1}.DeliveryID(), ledger.Retrying, 5*time.Second)
	}
	got, err := h.client.Health(t.Context(), acme, paused.ID, 1, 77)
	h.must(err)
	if got[0].Held != 2 || got[0].Pending != 0 || !got[0].OldestWaitingAt.Equal(first.AcceptedAt) || got[0].LastFailure != nil {
		t.Errorf("the paused one: %+v", got[0])
	}
	if got[1].Pending != 2 || got[1].Held != 0 || !got[1].OldestWaitingAt.Equal(first.AcceptedAt) {
		t.Errorf("the failing one: %+v", got[1])
	}
	if f := got[1].LastFailure; f == nil || f.Reason != "status_503" || f.StatusCode != 503 || f.Detail == "" || h.delivery(f.DeliveryID).State != ledger.Retrying {
		t.Errorf("its last failure: %+v", f)
	}
	if got[2] != (Health{Breaker: BreakerClosed}) {
		t.Errorf("none: %+v", got[2])
	}
	for _, id := range []string{"p-1", "p-2"} {
		_, err := h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: id, Callback: 1}.DeliveryID())
		h.must(err)
	}
	_, err = h.client.Resume(t.Context(), acme, paused.ID, false)
	h.must(err)
	h.awaitAll(10 * time.Second)
	h.check()
}
