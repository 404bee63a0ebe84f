package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// failing registers a callback whose deliveries get one attempt, answered 500, and one for what Ringback tells, answered 204.
func (h *house) failing() *registry.Callback {
	h.t.Helper()
	h.answersBadly(reply{status: 500})
	cb := h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	h.register("callback.*", "")
	return cb
}

// answersBadly answers all but operational events so.
func (h *house) answersBadly(bad reply) {
	h.partner.answers(func(r *http.Request, _ int) reply {
		if strings.HasPrefix(r.URL.Path, "/callback") {
			return reply{status: 204}
		}
		return bad
	})
}

// fail makes n attempts fail, one after the other. No worker may run: what it would do is done here.
func (h *house) fail(prefix string, n int) {
	h.t.Helper()
	for _, id := range eventIDs(prefix, n) {
		h.send(proof(id))
		h.drain()
	}
	h.awaitAll(10 * time.Second)
}

// run is what a callback's health knows of its run of failures.
func (h *house) run(cb int64) map[string]int64 {
	h.t.Helper()
	fields, err := h.rdb.HGetAll(h.t.Context(), ledger.Key(acme, fmt.Sprintf("health:%d", cb))).Result()
	h.must(err)
	run := make(map[string]int64)
	for _, name := range []string{"fs", "fl", "fo", "fn", "w"} {
		if text, ok := fields[name]; ok {
			run[name], err = strconv.ParseInt(text, 10, 64)
			h.must(err)
		}
	}
	return run
}

// age lets a run of failures have begun so long ago.
func (h *house) age(cb int64, ago time.Duration) {
	h.t.Helper()
	now, err := h.rdb.Time(h.t.Context()).Result()
	h.must(err)
	h.must(h.rdb.HSet(h.t.Context(), ledger.Key(acme, fmt.Sprintf("health:%d", cb)), "fs", now.Add(-ago).UnixMilli()).Err())
}

// told are the operational events that Ringback accepted from itself, by what they say: "failing 50", "disabled gone".
func (h *house) told() map[string]int {
	h.t.Helper()
	told := make(map[string]int)
	cursor := ""
	for {
		page, next, err := h.client.Deliveries(h.t.Context(), acme, Query{Cursor: cursor})
		h.must(err)
		for _, d := range page {
			if !strings.HasPrefix(d.EventType, "callback.") {
				continue
			}
			body, err := h.rdb.HGet(h.t.Context(), ledger.EventKey(acme, d.EventID), "b").Result()
			h.must(err)
			var p struct {
				Percent int
				Reason  string
			}
			h.must(json.Unmarshal([]byte(body), &p))
			told[strings.TrimPrefix(d.EventType, "callback.")+" "+strings.TrimPrefix(fmt.Sprint(p.Percent)+p.Reason, "0")]++
			h.ack(payloads.Event{ID: d.EventID})
		}
		if cursor = next; cursor == "" {
			return told
		}
	}
}

// notices are how many wait in the outbox.
func (h *house) notices() int64 {
	h.t.Helper()
	n, err := h.rdb.HLen(h.t.Context(), ledger.Key(acme, "notices")).Result()
	h.must(err)
	return n
}

// wantTold checks what was told of the attempts that have ended, each once.
func (h *house) wantTold(want ...string) {
	h.t.Helper()
	all := make(map[string]int)
	for _, text := range want {
		all[text] = 1
	}
	h.eventually(10*time.Second, func() bool { return h.notices() == 0 }, func() string { return "the outbox stays full" })
	if got := h.told(); fmt.Sprint(got) != fmt.Sprint(all) {
		h.t.Fatalf("told %v, want %v", got, all)
	}
}

func TestACallbackThatKeepsFailingIsDisabled(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	began := time.Now().Truncate(time.Second)
	cb := h.failing()
	h.fail("a-", 1)
	h.age(cb.ID, 119*time.Hour)
	h.fail("b-", 8)
	h.wantTold() // nine of twenty
	h.fail("c-", 1)
	h.wantTold("failing 50")
	h.fail("d-", 3)
	h.wantTold("failing 50")
	h.fail("e-", 1)
	h.wantTold("failing 50", "failing 70")
	h.fail("f-", 8) // beyond the twenty, but not the time
	h.wantTold("failing 50", "failing 70", "failing 90")
	if got, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || got.Status != registry.Enabled {
		t.Fatalf("before its time: %v, %v", got.Status, err)
	}
	h.age(cb.ID, 121*time.Hour)
	h.fail("g-", 1)
	h.wantTold("failing 50", "failing 70", "failing 90", "disabled failing")
	got, err := h.registry.Get(t.Context(), acme, cb.ID)
	if h.must(err); got.Status != registry.Disabled || got.DisabledReason != "failing" || got.StatusAt.Before(began) || got.StatusAt.After(time.Now()) {
		t.Errorf("%s (%s) at %s", got.Status, got.DisabledReason, got.StatusAt)
	}

	// What comes is held, until it is resumed; and the resumed one has a clean slate.
	h.partner.answers(answering(204))
	held := h.send(proof("held")).Deliveries[0]
	if d := h.delivery(held.DeliveryID); d.State != ledger.Held || d.HeldReason != "disabled" || !strings.Contains(d.Summary, "failing") {
		t.Errorf("%s (%s): %s", d.State, d.HeldReason, d.Summary)
	}
	if _, err := h.client.Resume(t.Context(), acme, cb.ID, false); err != nil {
		t.Fatal(err)
	}
	if run := h.run(cb.ID); len(run) > 0 {
		t.Errorf("resumed, it still has %v", run)
	}
	h.drain()
	h.await(held.DeliveryID, ledger.Delivered, 10*time.Second)
	h.check()

	for _, line := range []string{"callback fails and fails", "callback disabled"} {
		want := map[string]int{"callback fails and fails": 3, "callback disabled": 1}[line]
		if n := strings.Count(log.String(), "level=WARN msg=\""+line); n != want {
			t.Errorf("%q is logged %d times, want %d", line, n, want)
		}
	}
	for _, name := range []string{"ringback.callbacks.warnings 50", "ringback.callbacks.warnings 70", "ringback.callbacks.warnings 90", "ringback.callbacks.disabled failing"} {
		if n := counted(t, reader)[name]; n != 1 {
			t.Errorf("%s = %d, want 1", name, n)
		}
	}
	h.wantWords(cb.ID, began)
}

// wantWords checks what the partner heard since the test began.
func (h *house) wantWords(cb int64, began time.Time) {
	h.t.Helper()
	n := 0
	for _, r := range h.partner.requests() {
		switch r.header.Get("Ringback-Event-Type") {
		case typeFailing:
			var p failing
			h.must(json.Unmarshal([]byte(r.body), &p))
			if p.Company != acme || p.CallbackID != cb || p.CallbackType != "payment_proof" || p.DisablesAt.Sub(p.FailingSince) != DefaultDisableAfter ||
				p.Attempts < 10 || p.LastFailure.Reason != "status_500" || p.LastFailure.StatusCode != 500 || p.LastFailure.Detail == "" || p.LastFailure.At.IsZero() {
				h.t.Errorf("%s", r.body)
			}
			n++
		case typeDisabled:
			var p disabled
			h.must(json.Unmarshal([]byte(r.body), &p))
			if p.Company != acme || p.CallbackID != cb || p.CallbackType != "payment_proof" || p.Reason != "failing" || p.Attempts < 20 ||
				p.DisabledAt.Before(began) || p.DisabledAt.After(time.Now()) || time.Since(p.FailingSince) < 120*time.Hour || p.LastFailure.StatusCode != 500 {
				h.t.Errorf("%s", r.body)
			}
			n++
		}
	}
	if n != 4 {
		h.t.Errorf("the partner heard %d times", n)
	}
}

// counted are the counters' values, by name and the values of their labels.
func counted(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	values := make(map[string]int64)
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				var name strings.Builder
				name.WriteString(m.Name)
				for _, label := range p.Attributes.ToSlice() {
					name.WriteString(" " + label.Value.String())
				}
				values[name.String()] = p.Value
			}
		}
	}
	return values
}

// safeBuffer is a log that many write.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// TestEachWarningComesOnce lets two workers fail a crowd at a time.
func TestEachWarningComesOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.failing()
	h.fail("a-", 1)
	h.age(cb.ID, 119*time.Hour)
	h.work()
	h.work()
	for _, id := range eventIDs("b-", 60) {
		h.send(proof(id))
	}
	h.awaitAll(30 * time.Second)
	h.wantTold("failing 50", "failing 70", "failing 90")
	h.age(cb.ID, 130*time.Hour)
	h.answersBadly(reply{status: 500, after: meeting(2)})
	for _, id := range eventIDs("c-", 60) {
		h.send(proof(id))
	}
	h.awaitIdle(20 * time.Second)
	h.wantTold("failing 50", "failing 70", "failing 90", "disabled failing")
	if n := h.health(cb.ID).Held; n < 20 {
		t.Errorf("only %d deliveries are held", n)
	}
	h.partner.answers(answering(204))
	_, err := h.client.Resume(t.Context(), acme, cb.ID, false)
	h.must(err)
	h.awaitAll(10 * time.Second)
	h.check()
}

// meeting lets nobody go on before n have come.
func meeting(n int) func(context.Context) {
	var mu sync.Mutex
	all, come := make(chan struct{}), 0
	return func(ctx context.Context) {
		mu.Lock()
		if come++; come == n {
			close(all)
		}
		mu.Unlock()
		select {
		case <-all:
		case <-ctx.Done():
		}
	}
}

// TestWhatCounts: what says nothing about the callback is no failure of its.
func TestWhatCounts(t *testing.T) {
	t.Parallel()
	for reason, want := range map[Reason]ledger.Run{
		"status_500": ledger.RunCounts, "status_404": ledger.RunCounts, verdict.ReasonWrongContentType: ledger.RunCounts, verdict.ReasonBlockedAddress: "", verdict.ReasonNameNotAllowed: "", verdict.ReasonEgressProxy: "", "timeout": ledger.RunCounts, "dns": ledger.RunCounts,
		verdict.ReasonGone: ledger.RunCounts, "tls": ledger.RunCounts, verdict.ReasonUnknown: "", verdict.ReasonOAuthToken: "", verdict.ReasonEncodeFailed: "",
	} {
		if got := runOf(verdict.Judgement{Verdict: verdict.Retry, Reason: reason}, false); got != want {
			t.Errorf("%s: %q, want %q", reason, got, want)
		}
	}
	h := newHouse(t)
	cb, err := h.registry.Create(t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "http://10.0.0.1/"}}`))
	h.must(err)
	h.fail("a-", 2)
	if run := h.run(cb.ID); len(run) > 0 {
		t.Errorf("a blocked address: %v", run)
	}
}

// TestOurOwnFailuresAreNotTheCallbacks: what our own way out, or an operator's settings, kept from a partner is not shown as its last failure.
func TestOurOwnFailuresAreNotTheCallbacks(t *testing.T) {
	for reason, want := range map[Reason]string{
		verdict.ReasonUnknown: "", verdict.ReasonEgressProxy: "", verdict.ReasonNameNotAllowed: "", verdict.ReasonUnverified: "", verdict.ReasonOAuthToken: "token", verdict.ReasonBlockedAddress: "bad", "status_500": "bad", "timeout": "bad",
	} {
		a := &claim{}
		a.callback = &registry.Callback{Retry: registry.Retry{InitialInterval: time.Second, Multiplier: 1, MaxInterval: time.Second, MaxAttempts: 5}}
		s := sent{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: reason}}
		if got := a.settle(s, a.rule(s.Judgement, false), ledger.RunUntouched).record.Health; got != want {
			t.Errorf("%s is noted as %q, want %q", reason, got, want)
		}
	}
	h := newHouse(t)
	cb := h.register("entry_code.verify", "")
	for _, reason := range []Reason{verdict.ReasonEgressProxy, verdict.ReasonNameNotAllowed, "timeout"} {
		id := "dec_" + string(reason)
		h.must(h.rdb.HSet(t.Context(), ledger.Key(acme, "ask:"+id), "c", cb.ID).Err())
		r := &attempt{ref: ledger.Ref{Company: acme, Event: id, Callback: cb.ID}, ownID: id, callback: cb, number: 1, begun: time.Now()}
		s := sent{Judgement: verdict.Judgement{Verdict: verdict.Dead, Reason: reason}}
		h.client.recordAnswer(t.Context(), acme, id, s.Judgement, r.entry(s, DefaultKeepAnswerBytes), nil)
		health, err := h.client.Health(t.Context(), acme, cb.ID)
		if h.must(err); (health[0].LastFailure == nil) != (reason != "timeout") {
			t.Errorf("a decision that ended with %s: %+v", reason, health[0].LastFailure)
		}
	}
}

// TestKillBeforeTheNoticeIsSent, and before it is out of the outbox: the reconciler sends it, once.
func TestKillBeforeTheNoticeIsSent(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"noted", "told"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			cb := h.failing()
			h.fail("a-", 19)
			h.age(cb.ID, 121*time.Hour)
			h.send(proof("last"))
			h.start(childJob{Work: true, KillAt: at}).dies()
			if got, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || got.Status != registry.Disabled {
				t.Fatalf("%v, %v", got, err)
			}
			if n := h.notices(); n != 1 {
				t.Fatalf("%d notices", n)
			}
			told := h.told()
			if want := map[string]int{"noted": 0, "told": 1}[at]; told["disabled failing"] != want {
				t.Fatalf("told %v", told)
			}
			h.work()
			h.eventually(10*time.Second, func() bool { return h.notices() == 0 }, func() string { return "the outbox stays full" })
			if told := h.told(); told["disabled failing"] != 1 {
				t.Errorf("told %v", told)
			}
			h.awaitAll(patience + reconcileEvery + slack)
			h.check()
		})
	}
}

// TestNoticesOutlastAFullRedis: while no events are taken, they wait.
func TestNoticesOutlastAFullRedis(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.failing()
	h.answersBadly(reply{status: 410})
	h.send(proof("p-1"))
	h.client.memory.last.Store(&memory{used: 99, limit: 100, at: time.Now().Add(time.Hour)}) // for as long as it takes
	h.client.memory.asking.Store(true)
	h.work()
	h.awaitAll(10 * time.Second)
	if told := h.told(); len(told) != 0 {
		t.Fatalf("told %v", told)
	}
	h.client.memory.asking.Store(false)
	h.client.memory.last.Store(nil)
	h.wantTold("disabled gone")
	h.check()
}

// TestNoticesKeepNothingBack: a round is well with one that cannot be sent yet, and one that cannot be read is dropped.
func TestNoticesKeepNothingBack(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	h := newHouse(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	h.failing()
	h.answersBadly(reply{status: 410})
	h.send(proof("p-1"))
	h.client.memory.last.Store(&memory{used: 99, limit: 100, at: time.Now().Add(time.Hour)}) // for as long as it takes
	h.client.memory.asking.Store(true)
	stop := h.work()
	h.awaitAll(10 * time.Second)
	stop()
	h.must(h.rdb.HSet(t.Context(), ledger.Key(acme, "notices"), "callback.disabled:1", "{", "strange:1", `{"e":"{}"}`).Err())
	for range 2 {
		if !h.worker().round(t.Context(), true) {
			t.Error("the round is not well: the next will trim and prune again")
		}
	}
	if n := h.notices(); n != 1 {
		t.Errorf("%d notices wait, want the one that can be sent", n)
	}
	if n := strings.Count(log.String(), "level=ERROR msg=\"what is to be told"); n != 2 {
		t.Errorf("%d lines about two that cannot be read", n)
	}
	h.client.memory.asking.Store(false)
	h.client.memory.last.Store(nil)
	if !h.worker().round(t.Context(), false) {
		t.Error("the round is not well")
	}
	h.wantTold("disabled gone")
}

// TestAnErasedNoticeIsNotSent by who has read it before.
func TestAnErasedNoticeIsNotSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("callback.*", "")
	id := typeFailing + ":1:50:1"
	h.must(h.client.sendNotice(t.Context(), acme, id, `{"cb":1,"ct":"payment_proof","fs":1,"fn":10,"p":50,"d":2,"at":1,"e":"{\"n\":1}"}`))
	if _, err := h.client.Event(t.Context(), acme, id); !errors.Is(err, ErrNotFound) {
		t.Errorf("it came back: %v", err)
	}
}

func TestNobodyElseSendsOperationalTypes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(204))
	for _, name := range []string{typeFailing, typeDisabled} {
		typ, ok := payloads.Builtin().Lookup(name)
		if !ok || !typ.Operational {
			t.Fatalf("%s: %+v", name, typ)
		}
		e := payloads.Event{Company: acme, ID: "x", Type: name, Payload: typ.Example}
		for _, err := range []error{func() error { _, err := h.client.Send(t.Context(), e); return err }(), h.client.SendAll(t.Context(), []payloads.Event{e})[0].Err} {
			if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(invalid.Error(), "sent by Ringback itself") {
				t.Errorf("%s: %v", name, err)
			}
		}
		cb := h.register(name, "")
		result, err := h.client.Test(t.Context(), acme, cb.ID, "")
		if h.must(err); result.Verdict != verdict.Delivered {
			t.Errorf("%s: %+v", name, result)
		}
	}
}

// destinations are partners at ports of their own, which answer 204, or refuse connections once closed.
func destinations(t *testing.T, n int) []*httptest.Server {
	t.Helper()
	all := make([]*httptest.Server, n)
	for i := range all {
		all[i] = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
		t.Cleanup(all[i].Close)
	}
	return all
}

// TestOurOwnOutageDoesNotCount, and one partner's does.
func TestOurOwnOutageDoesNotCount(t *testing.T) {
	t.Parallel()
	var log safeBuffer
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	servers := destinations(t, 6)
	for _, s := range servers {
		_, err := h.registry.Create(t.Context(), acme, fmt.Appendf(nil, `{"callback_type": "payment_proof", "retry": {"max_attempts": 1}, "destination": {"url": %q}}`, s.URL))
		h.must(err)
	}
	dead := func() (ids []int64) {
		for id := int64(1); id <= 6; id++ {
			if h.run(id)["fn"] > 0 {
				ids = append(ids, id)
			}
		}
		return ids
	}
	shut := func(i int) { servers[i].Close() }
	h.fail("a-", 1)
	shut(0)
	h.fail("b-", 1) // one of six
	if got := dead(); !slices.Equal(got, []int64{1}) {
		t.Fatalf("one dead partner among healthy ones: %v count", got)
	}
	if counted(t, reader)["ringback.egress.outage"] != 0 {
		t.Error("that is no outage")
	}
	for i := 1; i < 6; i++ {
		shut(i)
	}
	h.fail("c-", 1) // all at once: the first few look like partners' failures
	before := h.run(1)
	h.fail("d-", 3)
	if counted(t, reader)["ringback.egress.outage"] != 1 {
		t.Error("there is no outage to see")
	}
	after := h.run(1)
	if after["fn"] > before["fn"] || after["fs"] != before["fs"] || after["fo"] <= before["fo"] {
		t.Errorf("in an outage a run went from %v to %v", before, after)
	}
	if n := len(dead()); n > 4 {
		t.Errorf("%d partners' failures count", n)
	}
	if n := strings.Count(log.String(), "level=ERROR msg=\"most destinations cannot be reached"); n != 1 {
		t.Errorf("%d lines about it", n)
	}
}

// TestOutage judges in time: a minute after nobody tries any more, nothing is known.
func TestOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log safeBuffer
		o := &outage{log: slog.New(slog.NewTextHandler(&log, nil))}
		attempted := func(host string, reason Reason) bool {
			a := &claim{attempt: attempt{callback: &registry.Callback{Destination: registry.Destination{URL: "https://" + host + "/hook?a=" + host}}}}
			s := sent{at: time.Now(), Judgement: verdict.JudgeError(&egress.Error{Reason: egress.Reason(reason), Phase: egress.PhaseConnect})}
			return a.inOutage(t.Context(), s, o)
		}
		for host := range strings.SplitSeq("stuvwxyz", "") { // never reached
			if attempted(host, "dns") || len(o.seen) > 0 {
				t.Errorf("%s was never there, and has a vote", host)
			}
		}
		for host := range strings.SplitSeq("abcdefghij", "") {
			attempted(host, "")
		}
		time.Sleep(2 * outageSight)
		for i, step := range []struct {
			host   string
			reason Reason
			ours   bool
		}{
			{"a", "dns", false},
			{"b", "refused", false},
			{"c", "unreachable", false},
			{"c", "unreachable", false}, // the same once more
			{"d", "status_500", true},   // four, three of which were not reached; but this one was
			{"a", "dns", true},
			{"e", "", false},
			{"f", "", false}, // three of six
			{"a", "network", false},
			{"g", "timeout", true}, // while connecting
			{"b", "", false},
			{"a", "dns", false},
			{"h", verdict.ReasonUnknown, false},
			{"h", verdict.ReasonBlockedAddress, false},
			{"h", verdict.ReasonNameNotAllowed, false},
		} {
			if step.host == "d" {
				step.ours = false
			}
			if got := attempted(step.host, step.reason); got != step.ours {
				t.Errorf("step %d (%s %s): %t", i, step.host, step.reason, got)
			}
			time.Sleep(time.Second)
		}
		attempted("i", "dns")
		attempted("j", "dns")
		if !o.under(t.Context()) {
			t.Error("five of nine are not reached")
		}
		time.Sleep(2 * outageSight)
		if o.under(t.Context()) || len(o.seen) != 0 || o.failing != 0 {
			t.Errorf("after two minutes: %v, %d", o.seen, o.failing)
		}
		for range 90 { // an outage may last, but what was dead for an hour before has no vote in one
			for _, host := range []string{"a", "b", "c", "d"} {
				attempted(host, "dns")
			}
			time.Sleep(outageSight - time.Second)
		}
		if !attempted("a", "dns") {
			t.Error("an outage is over after an hour")
		}
		time.Sleep(2 * outageSight)
		if o.under(t.Context()) {
			t.Error("nobody tries any more")
		}
		for _, host := range []string{"a", "b", "c", "d"} {
			if attempted(host, "dns") {
				t.Error("the dead have a vote")
			}
		}
		if begun, ended := strings.Count(log.String(), "level=ERROR"), strings.Count(log.String(), "level=INFO"); begun != 4 || ended != 4 {
			t.Errorf("%d begun, %d ended: %s", begun, ended, log.String())
		}
	})
}

// TestPausedEgress: with a backlog, chains and two workers, nothing goes out once the pause has begun, and everything once after it.
func TestPausedEgress(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withWindow(20))
	slow := func(*http.Request, int) reply {
		return reply{status: 204, after: func(ctx context.Context) {
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}}
	}
	h.partner.answers(slow)
	cb := h.register("payment_proof", "")
	question := h.register("entry_code.verify", "")
	for _, id := range eventIDs("a-", 400) {
		h.send(proof(id))
	}
	h.work()
	h.work()
	h.eventually(10*time.Second, func() bool { return len(h.partner.requests()) > 60 }, func() string { return "nothing goes out" })
	began := time.Now()
	e, err := h.client.PauseEgress(t.Context())
	h.must(err)
	paused := time.Now()
	if e.Status != EgressPaused || e.Since.Before(began.Truncate(time.Second)) || e.Since.After(paused) {
		t.Errorf("%+v", e)
	}
	if again, err := h.client.PauseEgress(t.Context()); err != nil || again != e {
		t.Errorf("again: %+v, %v", again, err)
	}
	last := h.send(proof("last")).Deliveries[0].DeliveryID
	if _, err := h.client.Ask(t.Context(), Question{Company: acme, Type: question.Type, Payload: json.RawMessage(`{"entryCode": "1"}`)}); !errors.Is(err, ErrEgressPaused) {
		t.Errorf("asked: %v", err)
	}
	if _, err := h.client.Test(t.Context(), acme, cb.ID, ""); err == nil || !strings.Contains(err.Error(), "paused") {
		t.Errorf("tested: %v", err)
	}
	// Its lane may have been paused a second later.
	if d := h.delivery(last); !strings.Contains(d.Summary, "is paused since "+e.Since.Format("2006-01-02T15:")) {
		t.Errorf("summary: %s", d.Summary)
	}
	h.must(h.client.Ready(t.Context()))
	w := h.worker() // its reconciler lets nothing out either
	for range 3 {
		looksAge()
		w.round(t.Context(), false)
	}
	// Chains would go on for two seconds: that nothing comes takes a while to see.
	h.eventually(5*time.Second, func() bool { return time.Since(paused) > time.Second }, func() string { return "the clock stands still" })
	h.eventually(5*time.Second, func() bool { return !strings.Contains(strings.Join(h.tasks(), ""), "active 1") }, func() string { return "attempts stay under way" })
	if n := len(h.partner.requests()); n >= 400 {
		t.Fatalf("all %d went out before the pause", n)
	}
	resumed := time.Now()
	e, err = h.client.ResumeEgress(t.Context())
	if h.must(err); e.Status != EgressRunning || !e.Since.IsZero() {
		t.Errorf("%+v", e)
	}
	if again, err := h.client.ResumeEgress(t.Context()); err != nil || again.Status != EgressRunning {
		t.Errorf("again: %+v, %v", again, err)
	}
	h.awaitAll(20 * time.Second)
	h.wantNoneBegun(paused, resumed)
	h.check()
}

// TestATaskFromBeforeThePauseWaits: it was out of its lane already, with no attempt begun.
func TestATaskFromBeforeThePauseWaits(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	d := h.send(proof("p-1")).Deliveries[0]
	w := h.worker()
	began := time.Now()
	_, err := h.client.PauseEgress(t.Context())
	h.must(err)
	if took := time.Since(began); took < 2*haltLook {
		t.Errorf("paused after %s, when others may not have looked", took)
	}
	err = w.servers.Process(t.Context(), queues[0], taskOf(t, ticket("p-1", cb.ID, 1).Ref, 1))
	if later, ok := errors.AsType[*lanes.Later](err); !ok || later.Failure || later.Wait > 2*time.Second {
		t.Errorf("it ended with %v", err)
	}
	if n := len(h.partner.requests()); n > 0 {
		t.Errorf("%d requests in a pause", n)
	}
	_, err = h.client.ResumeEgress(t.Context())
	h.must(err)
	h.work()
	h.await(d.DeliveryID, ledger.Delivered, 10*time.Second)
	h.check()
}

// TestEgressIsPausedLaneByLane in asynq's UI, too, or by a command that was killed: it is paused where any lane is, and resuming mends it.
func TestEgressIsPausedLaneByLane(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) { c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) })
	h.work()
	question := Question{Company: acme, Type: h.register("entry_code.verify", "").Type, Payload: json.RawMessage(`{"entryCode": "1"}`)}
	h.must(h.client.lanes.Register(t.Context()))
	for _, lane := range queues {
		began := time.Now()
		h.must(h.inspector().PauseQueue(lane))
		if e, err := h.client.Egress(t.Context()); err != nil || e.Status != EgressPaused || e.Since.Before(began.Truncate(time.Second)) || e.Since.After(time.Now()) {
			t.Errorf("%s: %+v, %v", lane, e, err)
		}
		if counted(t, reader)["ringback.egress.paused"] != 1 {
			t.Errorf("%s: the gauge tells nothing", lane)
		}
		h.eventually(5*time.Second, func() bool { return h.client.egressHalted(t.Context()) }, func() string { return "nobody sees it" })
		if _, err := h.client.Ask(t.Context(), question); !errors.Is(err, ErrEgressPaused) {
			t.Errorf("%s: asked: %v", lane, err)
		}
		if e, err := h.client.ResumeEgress(t.Context()); err != nil || e.Status != EgressRunning {
			t.Errorf("%s: %+v, %v", lane, e, err)
		}
	}
	h.must(h.rdb.Set(t.Context(), "asynq:{"+queues[2]+"}:paused", 1_000, 0).Err())
	if e, err := h.client.PauseEgress(t.Context()); err != nil || e.Status != EgressPaused || e.Since.Unix() != 1_000 {
		t.Errorf("%+v, %v", e, err)
	}
	h.must(h.inspector().UnpauseQueue(queues[1]))
	if e, err := h.client.ResumeEgress(t.Context()); err != nil || e.Status != EgressRunning {
		t.Errorf("%+v, %v", e, err)
	}
}

// onLook is a go-redis hook: it has a say whenever somebody looks which lanes are paused.
type onLook func(ctx context.Context) error

func (f onLook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (f onLook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f onLook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if strings.HasSuffix(fmt.Sprint(cmds[0].Args()...), ":halt") {
			if err := f(ctx); err != nil {
				return err
			}
		}
		return next(ctx, cmds)
	}
}

func (h *house) looks(f onLook) { h.rdb.AddHook(f) }

// TestAResumeThatFailedIsTold, and one that changed nothing is none.
func TestAResumeThatFailedIsTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if _, err := h.client.PauseEgress(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.breaks(func(cmd redis.Cmder) bool {
		return cmd.Name() == "del" && cmd.Args()[1] == "asynq:{"+queues[2]+"}:paused"
	}, false, 1)
	var looks atomic.Int64
	h.looks(func(context.Context) error {
		if looks.Add(1) == 1 {
			return errFault
		}
		return nil
	})
	if _, err := h.client.ResumeEgress(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a lane stays paused: %v", err)
	}
	for range 2 {
		if e, err := h.client.ResumeEgress(t.Context()); err != nil || e.Status != EgressRunning {
			t.Errorf("again: %+v, %v", e, err)
		}
	}
}

// TestNobodyWaitsForAnothersLook at a Redis that hangs; and one that failed is not repeated at once.
func TestNobodyWaitsForAnothersLook(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	hangs, over := make(chan struct{}, 9), make(chan struct{})
	var looks atomic.Int64
	h.looks(func(context.Context) error {
		if looks.Add(1) == 2 {
			hangs <- struct{}{}
			<-over
			return errFault
		}
		return nil
	})
	h.client.lanes.Halted(t.Context())
	h.must(h.inspector().PauseQueue(queues[1]))
	looksAge()
	var first, others sync.WaitGroup
	first.Go(func() { h.client.lanes.Halted(t.Context()) })
	<-hangs
	for range 5 {
		others.Go(func() { h.client.lanes.Halted(t.Context()) })
	}
	done := make(chan struct{})
	go func() { others.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("they wait for one another")
	}
	close(over)
	first.Wait()
	<-done
	if h.client.egressHalted(t.Context()); looks.Load() != 2 {
		t.Errorf("%d looks: a failed one counts", looks.Load())
	}
	h.eventually(5*time.Second, func() bool { return h.client.egressHalted(t.Context()) }, func() string { return "the pause is never seen" })
	if e, err := h.client.ResumeEgress(t.Context()); err != nil || e.Status != EgressRunning || h.client.egressHalted(t.Context()) {
		t.Errorf("a resume is not seen at once: %+v, %v", e, err)
	}
}
