package dispatcher

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// trail is the audit trail about a company ("": all), oldest first.
func (h *house) trail(company string) []registry.AuditEntry {
	h.t.Helper()
	lines, next, err := h.registry.Audit(h.t.Context(), registry.AuditQuery{Company: company, Limit: registry.MaxLimit})
	h.must(err)
	if next != "" {
		h.t.Fatal("the trail is longer than this test reads")
	}
	slices.Reverse(lines)
	return lines
}

// since are the actions of the trail's lines after the first n.
func (h *house) since(n int) []string {
	h.t.Helper()
	actions := []string{}
	for _, e := range h.trail("")[n:] {
		actions = append(actions, e.Action)
	}
	return actions
}

// Every change by hand leaves one line, whichever answer is lost on the way and asked for again by go-redis. To do it again, where that changes
// nothing, leaves none.
func TestLostAnswersLeaveOneLine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := registry.WithActor(t.Context(), "rbk_me")
	left := &atomic.Int64{}
	rdb := h.redis.LossyClient(left)
	reg, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	c, err := New(Config{Redis: rdb, Registry: reg, Egress: h.egress, Logger: testLog(t)})
	h.must(err)
	t.Cleanup(func() { h.must(c.Close()) })
	cb := h.register("payment_proof", "")
	h.must(second(h.registry.Pause(t.Context(), acme, cb.ID)))

	var id, replay string
	n := 0
	event := func() {
		n++
		id = fmt.Sprintf("e-%d", n)
		h.must(second(h.client.Send(t.Context(), sized(id, 100))))
	}
	delivery := func() string { return ledger.Ref{Company: acme, Event: id, Callback: cb.ID}.DeliveryID() }
	none := func() {}
	for _, op := range []struct {
		action string
		before func()
		do     func() error
	}{
		{"delivery.cancel", event, func() error { return second(c.Cancel(ctx, acme, delivery())) }},
		{"delivery.replay", func() { event(); h.must(second(h.client.Cancel(t.Context(), acme, delivery()))) }, func() error {
			return second(c.Replay(ctx, acme, delivery()))
		}},
		{"event.erase", event, func() error { return second(c.EraseEvent(ctx, acme, id, "")) }},
		{"callback.skip_held", event, func() error {
			return c.purge(ctx, acme, cb.ID, registry.UniqueAuditLine(ctx, acme, "callback.skip_held", "callbacks/1"))
		}},
		{"replay.start", func() { h.quota(registry.QuotaReplays, int64(900+n)); n++ }, func() error {
			return second(c.ReplayCallback(ctx, acme, cb.ID, ReplayQuery{}))
		}},
		{"replay.cancel", func() {
			r, err := h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{})
			h.must(err)
			replay = r.ReplayID
		}, func() error { return c.CancelReplay(ctx, acme, replay) }},
		{"egress.pause", func() { h.must(halt(t.Context(), h.client, "egress.resume")) }, func() error { return halt(ctx, c, "egress.pause") }},
		{"egress.resume", func() { h.must(halt(t.Context(), h.client, "egress.pause")) }, func() error { return halt(ctx, c, "egress.resume") }},
		{"", none, func() error { return halt(ctx, c, "egress.resume") }}, // it goes out already
		{"", func() { event(); h.must(second(h.client.EraseEvent(t.Context(), acme, id, ""))) }, func() error { return second(c.EraseEvent(ctx, acme, id, "")) }},
		{"", none, func() error { return c.CancelReplay(ctx, acme, replay) }},
		{"", none, func() error { return second(c.ReplayCallback(ctx, acme, cb.ID, ReplayQuery{DryRun: true})) }},
	} {
		for step := int64(1); ; step++ {
			op.before()
			before := len(h.trail(""))
			_ = rdb.Ping(t.Context()) // a connection that has said hello
			left.Store(step)
			_ = op.do() // the change may be there, and its repeat refused
			got := h.since(before)
			if op.action == "" && len(got) != 0 || op.action != "" && !slices.Equal(got, []string{op.action}) {
				t.Errorf("%q, answer %d lost: the trail got %v", op.action, step, got)
			}
			if left.Swap(0) > 0 {
				break
			}
		}
	}
	for range 3 { // a room of several pages, whose first page is asked for twice
		event()
	}
	before, line := len(h.trail("")), registry.UniqueAuditLine(ctx, acme, "callback.skip_held", "callbacks/1")
	for range 2 {
		h.must(h.script(ctx, purgeScript, acme, cb.ID, "0", 1, line).Err())
	}
	if got := h.since(before); !slices.Equal(got, []string{"callback.skip_held"}) {
		t.Errorf("a page asked for twice: the trail got %v", got)
	}
	for _, e := range h.trail(acme) {
		if strings.HasPrefix(e.Action, "delivery.") && e.Actor == "rbk_me" && !strings.HasPrefix(e.Object, "deliveries/dlv_") {
			t.Errorf("%+v", e)
		}
	}
}

// That a callback is disabled by Ringback itself is in the trail, with the step that disables it.
func TestTheEngineLeavesALine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.answersBadly(reply{status: 410})
	cb := h.register("payment_proof", "")
	h.work()
	h.send(proof("p-1"))
	h.awaitAll(10 * time.Second)
	lines := h.trail(acme)
	last := lines[len(lines)-1]
	if last.Action != "callback.disable" || last.Actor != registry.ActorEngine || last.Object != registry.CallbackObject(cb.ID) || last.Company != acme ||
		!slices.Equal(last.Changes, []registry.AuditChange{{Field: "status", Old: "enabled", New: "disabled"}, {Field: "disabled_reason", New: "gone"}}) {
		t.Errorf("%+v", last)
	}
	h.must(second(h.client.Resume(registry.WithActor(t.Context(), "rbk_me"), acme, cb.ID, false)))
	lines = h.trail(acme)
	if last = lines[len(lines)-1]; last.Action != "callback.resume" || last.Actor != "rbk_me" || last.Changes[0].Old != "disabled" {
		t.Errorf("%+v", last)
	}
}
