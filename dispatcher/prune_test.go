package dispatcher

import (
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// age sets back by d when a dead delivery's event was accepted, and when it died.
func (h *house) antedate(r ledger.Ref, accepted, dead time.Duration) {
	h.t.Helper()
	ctx := h.t.Context()
	score, err := h.rdb.ZScore(ctx, ledger.Key(acme, "dead"), r.Member()).Result()
	h.must(err)
	h.must(h.rdb.ZIncrBy(ctx, ledger.Key(acme, "dead"), -float64(accepted.Milliseconds()), r.Member()).Err())
	text, err := h.rdb.HGet(ctx, ledger.EventKey(acme, r.Event), ledger.RecordField(r.Callback)).Result()
	h.must(err)
	rec, err := ledger.ParseRecord(text)
	h.must(err)
	fields := strings.SplitN(text, " ", 6)
	fields[4] = toText(rec.At - dead.Milliseconds())
	h.must(h.rdb.HSet(ctx, ledger.EventKey(acme, r.Event), ledger.RecordField(r.Callback), strings.Join(fields, " ")).Err())
	if score == 0 {
		h.t.Fatal("not in the book")
	}
}

func toText(ms int64) string { return strconv.FormatInt(ms, 10) }

// gaugesOf reads the values of the metrics by name and labels.
func gaugesOf(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int64)
	add := func(name string, points []metricdata.DataPoint[int64]) {
		for _, p := range points {
			key := name
			if p.Attributes.Len() > 0 {
				key += "{" + p.Attributes.Encoded(attribute.DefaultEncoder()) + "}"
			}
			values[key] = p.Value
		}
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				add(m.Name, data.DataPoints)
			case metricdata.Sum[int64]:
				add(m.Name, data.DataPoints)
			}
		}
	}
	return values
}

// TestPrune: the dead go when their time is over, announced for a tenth of it, and nothing else goes.
func TestPrune(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	var log lockedBuffer
	const keep, notice = 720 * time.Hour, 72 * time.Hour
	h := newHouse(t, func(c *Config) {
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.HoldMaxCount = 1
	})
	h.partner.answers(byPath(nil))
	dead, retrying, held := h.at("dead", `"retry": {"max_attempts": 1}`), h.at("later", `"retry": {"initial_interval": "1h"}`), h.at("held", "")
	_, err := h.registry.Pause(t.Context(), acme, held.ID)
	h.must(err)
	h.work()
	ids := []string{"long-ago", "soon", "lately", "fresh", "stuck"}
	for _, id := range ids {
		h.must(second(h.client.Send(t.Context(), telltale(id))))
		h.await(ledger.Ref{Company: acme, Event: id, Callback: dead.ID}.DeliveryID(), ledger.Dead, 5*time.Second)
		h.await(ledger.Ref{Company: acme, Event: id, Callback: retrying.ID}.DeliveryID(), ledger.Retrying, 5*time.Second)
	}
	h.antedate(ledger.Ref{Company: acme, Event: "long-ago", Callback: dead.ID}, keep+time.Hour, keep+time.Minute)
	h.antedate(ledger.Ref{Company: acme, Event: "soon", Callback: dead.ID}, keep+2*time.Hour, keep-notice+time.Minute)
	h.antedate(ledger.Ref{Company: acme, Event: "lately", Callback: dead.ID}, keep+3*time.Hour, time.Hour) // died late in a long schedule
	h.antedate(ledger.Ref{Company: acme, Event: "long-ago", Callback: held.ID}, keep+4*time.Hour, keep+time.Minute)

	want := func(letters, expiring, pruned int64, warnings int) {
		t.Helper()
		h.must(h.client.prune(t.Context(), acme))
		got := gaugesOf(t, reader)
		if got["ringback.dead_letters"] != letters || got["ringback.dead_letters.expiring"] != expiring || got["ringback.dead_letters.pruned"] != pruned {
			t.Errorf("%d letters, %d expiring, %d pruned: want %d, %d, %d", got["ringback.dead_letters"], got["ringback.dead_letters.expiring"],
				got["ringback.dead_letters.pruned"], letters, expiring, pruned)
		}
		if n, err := ExpiringLetters(t.Context(), h.rdb); err != nil || n != expiring {
			t.Errorf("%d expiring: %v", n, err)
		}
		if n := strings.Count(log.String(), "level=WARN msg=\"dead letters are soon pruned"); n != warnings {
			t.Errorf("%d warnings, want %d", n, warnings)
		}
	}
	prune := ledger.Key(acme, "prune")
	earlier := func(field string, d time.Duration) {
		t.Helper()
		h.must(h.rdb.HIncrBy(t.Context(), prune, field, -d.Milliseconds()).Err())
	}
	want(9, 3, 0, 1) // long overdue, but not announced yet
	want(9, 3, 0, 1)
	earlier("said", 24*time.Hour)
	want(9, 3, 0, 2) // once a day
	earlier("since", notice)
	earlier("said", 24*time.Hour)
	earlier("at", 11*time.Minute) // no worker ran, who would have told
	want(9, 3, 0, 3)
	earlier("since", notice)
	earlier("at", 9*time.Minute)
	want(7, 1, 2, 3)
	h.client.deadFor = keep / 2 // what is kept for less time than was announced is announced anew
	want(7, 1, 2, 3)
	h.client.deadFor = keep
	want(7, 1, 2, 3)

	gone := h.delivery(ledger.Ref{Company: acme, Event: "long-ago", Callback: dead.ID}.DeliveryID())
	if gone.State != ledger.Dead || !strings.Contains(gone.Summary, "no longer kept") || gone.Reason != "status_500" {
		t.Errorf("pruned: %+v", gone)
	}
	if buried := h.delivery(ledger.Ref{Company: acme, Event: "long-ago", Callback: held.ID}.DeliveryID()); buried.Reason != verdict.ReasonHoldFull || !strings.Contains(buried.Summary, "no longer kept") {
		t.Errorf("buried and pruned: %+v", buried)
	}
	if got := gaugesOf(t, reader); got["ringback.deliveries.buried{reason=hold_full}"] != 4 || got["ringback.deliveries.buried{reason=hold_expired}"] != 0 {
		t.Errorf("buried: %v", got)
	}
	book, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []ledger.State{ledger.Dead}, CallbackID: dead.ID})
	h.must(err)
	listed := make(map[string]bool)
	for _, d := range book {
		listed[d.EventID] = true
	}
	if diff := cmp.Diff([]string{"fresh", "lately", "soon", "stuck"}, slices.Sorted(maps.Keys(listed))); diff != "" {
		t.Error(diff)
	}
	health, err := h.client.Health(t.Context(), acme, dead.ID, retrying.ID, held.ID)
	h.must(err)
	if health[0].Dead != 4 || health[1].Pending != 5 || health[2].Held != 1 || health[2].Dead != 3 {
		t.Errorf("health: %+v", health)
	}
	r, err := h.client.ReplayCallback(t.Context(), acme, dead.ID, ReplayQuery{DryRun: true})
	h.must(err)
	if r.Matched != 4 {
		t.Errorf("%d would be replayed, where 4 are kept", r.Matched)
	}
	if ttl := h.rdb.TTL(t.Context(), ledger.EventKey(acme, "long-ago")).Val(); ttl != -1 {
		t.Errorf("the event ages (%s), though a delivery of it is unfinished", ttl)
	}

	// While its event is there, a pruned one can be sent again by itself; nothing is counted twice.
	h.partner.answers(answering(204))
	for _, cb := range []*registry.Callback{dead, retrying, held} {
		if cb == held {
			h.must(second(h.client.Resume(t.Context(), acme, held.ID, false)))
		}
		h.must(second(h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: "long-ago", Callback: cb.ID}.DeliveryID())))
		h.await(ledger.Ref{Company: acme, Event: "long-ago", Callback: cb.ID}.DeliveryID(), ledger.Delivered, 10*time.Second)
	}
	if ttl := h.rdb.TTL(t.Context(), ledger.EventKey(acme, "long-ago")).Val(); ttl <= 0 {
		t.Errorf("all of it is delivered, but it does not age: %s", ttl)
	}
	if counts := h.rdb.HMGet(t.Context(), ledger.EventKey(acme, "long-ago"), "n", "x").Val(); counts[0] != "0" || counts[1] != "0" {
		t.Errorf("unfinished and dead are counted as %v", counts)
	}
}

// TestRetentionIsForWhatIsOver: of what is held, retrying or dead nothing ages, however long that lasts, nor does its place in the lists.
func TestRetentionIsForWhatIsOver(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Retention = time.Second })
	h.work()
	slow, _ := h.everywhere("e-1")
	const over = "over" // of this one, nothing that is to be kept stays
	h.must(second(h.client.Send(t.Context(), telltale(over))))
	h.await(ledger.Ref{Company: acme, Event: over, Callback: 1}.DeliveryID(), ledger.Dead, 5*time.Second)
	h.await(ledger.Ref{Company: acme, Event: over, Callback: 3}.DeliveryID(), ledger.Active, 5*time.Second)
	h.await(ledger.Ref{Company: acme, Event: over, Callback: 4}.DeliveryID(), ledger.Delivered, 5*time.Second)
	for _, cb := range []int64{2, 3, 5} {
		h.must(second(h.client.Cancel(t.Context(), acme, ledger.Ref{Company: acme, Event: over, Callback: cb}.DeliveryID())))
	}
	close(slow)
	h.partner.answers(answering(204))
	h.must(second(h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: over, Callback: 1}.DeliveryID())))
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		return h.rdb.Exists(t.Context(), ledger.EventKey(acme, over)).Val() == 0
	}, func() string { return "a finished event does not age" })
	states := func() map[int64]ledger.State {
		list, _, err := h.client.Deliveries(t.Context(), acme, Query{})
		h.must(err)
		got := make(map[int64]ledger.State)
		for _, d := range list {
			got[d.CallbackID] = d.State
		}
		return got
	}
	want := map[int64]ledger.State{1: ledger.Dead, 2: ledger.Retrying, 3: ledger.Delivered, 4: ledger.Delivered, 5: ledger.Held}
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		h.must(h.client.prune(t.Context(), acme))
		return h.rdb.XLen(t.Context(), ledger.Key(acme, "log")).Val() == 1
	}, func() string { return "the log keeps the finished event" })
	if diff := cmp.Diff(want, states()); diff != "" {
		t.Error(diff)
	}
	if ttl := h.rdb.TTL(t.Context(), ledger.EventKey(acme, "e-1")).Val(); ttl != -1 {
		t.Errorf("it ages: %s", ttl)
	}
	for _, end := range []struct {
		cb    int64
		state ledger.State
	}{{2, ledger.Cancelled}, {5, ledger.Cancelled}} {
		h.must(second(h.client.Cancel(t.Context(), acme, ledger.Ref{Company: acme, Event: "e-1", Callback: end.cb}.DeliveryID())))
	}
	if ttl := h.rdb.TTL(t.Context(), ledger.EventKey(acme, "e-1")).Val(); ttl != -1 {
		t.Errorf("only the dead one is left of it, and it ages: %s", ttl)
	}
	h.must(second(h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: "e-1", Callback: 1}.DeliveryID())))
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		return h.rdb.XLen(t.Context(), ledger.Key(acme, "log")).Val() == 0
	}, func() string { return "nothing of it is left to wait for, and it stays" })
}

// TestReplaysSayThatTheyAreOne: after a replay every attempt has the header, before it none, retries and takeovers included.
func TestReplaysSayThatTheyAreOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", `"retry": {"initial_interval": "1s", "max_attempts": 2}`)
	h.partner.answers(answering(503, 503, 503, 204, 503, 204, 204))
	h.work()
	r := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}
	h.send(proof("p-1"))
	h.await(r.DeliveryID(), ledger.Dead, 10*time.Second)
	h.must(second(h.client.Replay(t.Context(), acme, r.DeliveryID())))
	h.await(r.DeliveryID(), ledger.Delivered, 10*time.Second)
	h.must(second(h.client.ReplayCallback(t.Context(), acme, cb.ID, ReplayQuery{States: []ledger.State{ledger.Delivered}})))
	h.eventually(15*time.Second, func() bool { return len(h.partner.requests()) == 6 }, func() string { return "it is not replayed" })
	h.await(r.DeliveryID(), ledger.Delivered, 5*time.Second)
	var got []string
	for _, q := range h.partner.requests() {
		got = append(got, q.header.Get("Ringback-Replay"))
	}
	if diff := cmp.Diff([]string{"", "", "1", "1", "1", "1"}, got); diff != "" {
		t.Error(diff)
	}
	h.send(proof("p-2")) // another event, as yet not replayed
	h.eventually(5*time.Second, func() bool { return len(h.partner.requests()) == 7 }, func() string { return "it does not arrive" })
	if q := h.partner.requests()[6]; q.header.Get("Ringback-Replay") != "" {
		t.Error("a fresh event is called a replay")
	}
}

// TestAFullRedisIsTrimmedSoon: while events are refused for want of memory, what has had its time does not wait for the next minute.
func TestAFullRedisIsTrimmedSoon(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	w := h.worker()
	trimmed := func() bool {
		ago := time.Now().Add(-2 * trimSoon)
		w.rounds.trimmed = ago
		w.turn(t.Context())
		return w.rounds.trimmed.After(ago)
	}
	if trimmed() {
		t.Error("it is trimmed at once though there is room")
	}
	used := h.rdb.InfoMap(t.Context(), "memory").Item("Memory", "used_memory")
	n, err := strconv.Atoi(used)
	h.must(err)
	h.must(h.rdb.ConfigSet(t.Context(), "maxmemory", strconv.Itoa(n*11/10)).Err())
	h.eventually(10*time.Second, trimmed, func() string { return "it is not trimmed though it is full" })
}
