package dispatcher

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// at registers a callback for payment proofs at one of the partner's paths.
func (h *house) at(path, more string) *registry.Callback {
	h.t.Helper()
	cb, err := h.registry.Create(h.t.Context(), acme, fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": %q}%s}`, h.partner.url(path), prefixed(more)))
	h.must(err)
	h.partner.knows(cb)
	return cb
}

// canary is in what must not be left.
const canary = "cAnArY"

func telltale(id string) payloads.Event {
	return payloads.Event{Company: acme, ID: id, Type: "payment_proof", Payload: json.RawMessage(`{"requestId": "` + canary + `", "status": "OK"}`)}
}

// byPath answers each of the partner's paths in its own way: /dead 500, /later 503, /slow once it may, all else 204.
func byPath(slow <-chan struct{}) func(*http.Request, int) reply {
	return func(r *http.Request, _ int) reply {
		switch r.URL.Path {
		case "/dead":
			return reply{status: 500, body: canary}
		case "/later":
			return reply{status: 503, body: canary}
		case "/slow":
			return reply{status: 204, after: func(ctx context.Context) {
				select {
				case <-slow:
				case <-ctx.Done():
				}
			}}
		}
		return reply{status: 204}
	}
}

// everywhere has callbacks whose deliveries end up in each state, and sends them events with the ids.
func (h *house) everywhere(ids ...string) (slow chan struct{}, states map[ledger.State]int64) {
	h.t.Helper()
	slow = make(chan struct{})
	h.partner.answers(byPath(slow))
	ends := map[int64]ledger.State{
		h.at("dead", `"retry": {"max_attempts": 1}`).ID: ledger.Dead, h.at("later", `"retry": {"initial_interval": "1h"}`).ID: ledger.Retrying,
		h.at("slow", `"timeout": "60s"`).ID: ledger.Active, h.at("fine", "").ID: ledger.Delivered, h.at("held", "").ID: ledger.Held,
	}
	_, err := h.registry.Pause(h.t.Context(), acme, 5)
	h.must(err)
	states = make(map[ledger.State]int64)
	for _, id := range ids {
		_, err := h.client.Send(h.t.Context(), telltale(id))
		h.must(err)
		for cb, state := range ends {
			h.await(ledger.Ref{Company: acme, Event: id, Callback: cb}.DeliveryID(), state, 10*time.Second)
			states[state]++
		}
	}
	return slow, states
}

// wantNothingOf waits until Redis holds none of the words.
func (h *house) wantNothingOf(words ...string) {
	h.t.Helper()
	left := ""
	h.eventually(30*time.Second, func() bool { // asynq forgets what its workers did within seconds
		left = ""
		for line := range strings.Lines(h.dump()) {
			for _, word := range words {
				if strings.Contains(line, word) {
					left += line
				}
			}
		}
		return left == ""
	}, func() string { return "Redis still holds:\n" + left })
}

func TestEraseEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.work()
	slow, _ := h.everywhere("e-stays", "e-goes")
	defer close(slow)
	before, err := h.client.Health(t.Context(), acme, 1, 2, 3, 4, 5)
	h.must(err)
	got, err := h.client.EraseEvent(t.Context(), acme, "e-goes", "rbk_me")
	h.must(err)
	if diff := cmp.Diff(&ErasedEvent{"e-goes", 5, 3, 1, 1}, got); diff != "" {
		t.Error(diff)
	}
	for _, err := range []error{
		second(h.client.EraseEvent(t.Context(), acme, "e-goes", "")), second(h.client.Event(t.Context(), acme, "e-goes")),
		second(h.client.Delivery(t.Context(), acme, ledger.Ref{Company: acme, Event: "e-goes", Callback: 1}.DeliveryID())), second(h.client.EraseEvent(t.Context(), "other", "e-stays", "")),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("not found, but: %v", err)
		}
	}
	after, err := h.client.Health(t.Context(), acme, 1, 2, 3, 4, 5)
	h.must(err)
	if before[0].Dead != 2 || after[0].Dead != 1 || before[1].Pending != 2 || after[1].Pending != 1 || after[2].Pending != 1 || before[4].Held != 2 || after[4].Held != 1 {
		t.Errorf("health before: %+v, after: %+v", before, after)
	}
	if after[0].LastFailure != nil || after[1].LastFailure != nil {
		t.Errorf("the last failure, which was the erased event's, is still told: %+v", after[:2])
	}
	if n := len(h.retries()); n != 1 {
		t.Errorf("asynq has %d retries", n)
	}
	list, _, err := h.client.Deliveries(t.Context(), acme, Query{})
	h.must(err)
	if len(list) != 5 {
		t.Errorf("%d deliveries are listed", len(list))
	}
	slow <- struct{}{}
	slow <- struct{}{} // the one and the other
	h.await(ledger.Ref{Company: acme, Event: "e-stays", Callback: 3}.DeliveryID(), ledger.Delivered, 5*time.Second)
	if lines := h.trail(acme); lines[len(lines)-1].Action != "event.erase" || lines[len(lines)-1].Object != "events/e-goes" {
		t.Errorf("the audit trail ends with %+v", lines[len(lines)-1])
	}
	h.must(h.rdb.Del(t.Context(), registry.AuditKey(acme)).Err()) // it names the event, and nothing else may
	h.eventually(10*time.Second, func() bool { return !strings.Contains(h.dump(), "e-goes") }, func() string { return "traces of the erased event: " + h.dump() })
	for _, cb := range []int64{1, 2, 5} { // what stays is whole: it can be sent again, and let out
		if cb == 5 {
			_, err = h.client.Resume(t.Context(), acme, cb, false)
		} else {
			h.partner.answers(answering(204))
			_, err = h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: "e-stays", Callback: cb}.DeliveryID())
		}
		h.must(err)
		h.await(ledger.Ref{Company: acme, Event: "e-stays", Callback: cb}.DeliveryID(), ledger.Delivered, 5*time.Second)
	}
}

func second[T any](_ T, err error) error { return err }

// TestAnErasedEventComesAnew: the same id may carry other content, and what is still under way of the old one counts for nothing.
func TestAnErasedEventComesAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.work()
	slow := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(slow) })
	defer letGo()
	h.partner.answers(byPath(slow))
	cb := h.at("slow", `"timeout": "60s"`)
	r := ledger.Ref{Company: acme, Event: "tale-1", Callback: cb.ID}
	_, err := h.client.Send(t.Context(), telltale("tale-1"))
	h.must(err)
	h.await(r.DeliveryID(), ledger.Active, 5*time.Second)
	_, err = h.client.EraseEvent(t.Context(), acme, "tale-1", "")
	h.must(err)
	_, err = h.registry.Pause(t.Context(), acme, cb.ID)
	h.must(err)
	receipt := h.send(proof("tale-1"))
	if receipt.Duplicate {
		t.Error("the erased event is still known")
	}
	letGo()
	h.awaitIdle(5 * time.Second)
	if d := h.delivery(r.DeliveryID()); d.State != ledger.Held || len(d.Attempts) != 0 {
		t.Errorf("the old attempt's outcome counts for the new event: %+v", d)
	}
	_, err = h.client.Resume(t.Context(), acme, cb.ID, false)
	h.must(err)
	h.await(r.DeliveryID(), ledger.Delivered, 5*time.Second)
	if got := h.partner.requests(); len(got) != 2 || got[1].body != string(proof("tale-1").Payload) {
		t.Errorf("the partner got %+v", got)
	}
}

// TestEraseCompany: nothing that tells of it stays in Redis, asynq's part of it included, and no number comes twice.
func TestEraseCompany(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) { c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) })
	buried := func() map[string]int64 {
		counts := make(map[string]int64)
		for name, n := range gaugesOf(t, reader) {
			if strings.HasPrefix(name, "ringback.deliveries.buried") {
				counts[name] = n
			}
		}
		return counts
	}
	var log lockedBuffer
	h.client.log = slog.New(slog.NewTextHandler(&log, nil))
	keys := registry.NewKeys(h.rdb)
	for _, k := range []registry.Key{{Role: registry.Partner, Company: acme}, {Role: registry.Operator, Company: acme}, {Role: registry.Partner, Company: "other"}, {Role: registry.Operator}} {
		_, _, err := keys.Create(t.Context(), k.Role, k.Company)
		h.must(err)
	}
	if _, err := h.client.EraseCompany(t.Context(), keys, "nobody", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("a company that never was: %v", err)
	}
	visits := h.openedLink(keys)                                                                          // before there is a worker: the test's does not say that it knows of links
	w, err := NewWorker(h.client, WorkerConfig{Concurrency: 64, Poll: h.poll, ReconcileEvery: time.Hour}) // a round would cancel what waits for deleted callbacks
	h.must(err)
	h.must(w.Start())
	t.Cleanup(w.Shutdown)
	began := time.Now()
	slow, states := h.everywhere("tale-1", "tale-2", "tale-3")
	h.must(second(h.registry.Create(t.Context(), acme, fmt.Appendf(nil, `{"callback_type": "entry_code.verify", "destination": {"url": %q}}`, h.partner.url("decide")))))
	h.must(second(h.client.Ask(t.Context(), question())))
	h.must(second(h.client.ReplayCallback(t.Context(), acme, 1, ReplayQuery{DryRun: true})))
	h.must(h.client.prune(t.Context(), acme))
	if c, err := h.client.Verify(t.Context(), acme, 1); err != nil || c.Verified || h.rdb.Exists(t.Context(), ledger.Key(acme, "challenges")).Val() != 1 {
		t.Errorf("a challenge in vain leaves no trace that could be erased: %+v, %v", c, err)
	}
	h.must(h.rdb.HSet(t.Context(), ledger.Key(acme, "buried"), "hold_full", 3, "hold_expired", 2).Err())
	h.must(h.rdb.HSet(t.Context(), ledger.Key("other", "buried"), "hold_full", 1).Err())
	other := telltale("theirs")
	other.Company, other.Payload = "other", proof("theirs").Payload
	h.must(second(h.registry.Create(t.Context(), "other", fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": %q}}`, h.partner.url("other")))))
	receipt, err := h.client.Send(t.Context(), other)
	h.must(err)

	// Another process, which has the callbacks in memory and named the company a moment ago.
	elsewhere := furnishAgain(h)
	h.must(second(elsewhere.Send(t.Context(), telltale("tale-4"))))
	h.await(ledger.Ref{Company: acme, Event: "tale-4", Callback: 3}.DeliveryID(), ledger.Active, 5*time.Second)
	h.await(ledger.Ref{Company: acme, Event: "tale-4", Callback: 1}.DeliveryID(), ledger.Dead, 5*time.Second)
	h.await(ledger.Ref{Company: acme, Event: "tale-4", Callback: 2}.DeliveryID(), ledger.Retrying, 5*time.Second)
	h.await(ledger.Ref{Company: acme, Event: "tale-4", Callback: 4}.DeliveryID(), ledger.Delivered, 5*time.Second)
	for state := range states {
		states[state]++
	}

	buriedBefore := buried()
	// It has seen that the callbacks are gone, and still goes on.
	meanwhile := sync.OnceFunc(func() { h.must(second(elsewhere.Send(t.Context(), telltale("tale-5")))) })
	h.client.failpoint = func(name string) {
		if name == "step" {
			meanwhile()
		}
	}
	got, err := h.client.EraseCompany(registry.WithActor(t.Context(), "rbk_me"), keys, acme, "rbk_me")
	h.must(err)
	if diff := cmp.Diff(buriedBefore, buried()); diff != "" {
		t.Errorf("the buried are a counter, and it changed with the erasure: %s", diff)
	}
	want := &ErasedCompany{
		Company: acme, Done: true, Callbacks: 6, Events: 5, Deliveries: 20, Unfinished: states[ledger.Retrying] + states[ledger.Active] + states[ledger.Held], Dead: states[ledger.Dead],
		InFlight: states[ledger.Active], Decisions: 1, Replays: 1, APIKeys: 2, Kept: kept,
	}
	if time.Since(began) > time.Minute { // on a machine that stands still, the slow ones' attempts end by their timeout
		want.InFlight, want.Unfinished = got.InFlight, got.Unfinished
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	close(slow)
	if err := visits(t.Context()); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("the session of a portal link outlives its company: %v", err)
	}
	h.wantNothingOf("tale-1", "tale-2", "tale-3", "tale-4", "tale-5", h.partner.host+"/dead")
	for line := range strings.Lines(h.dump()) {
		name, _, _ := strings.Cut(line, " ")
		if mine := strings.TrimPrefix(name, "{"+acme+"}:"); mine != name && !slices.Contains([]string{"ver", "cbver", "cbseq"}, mine) ||
			strings.HasPrefix(name, "ringback:") && strings.Contains(line, acme) || strings.Contains(line, canary) {
			t.Errorf("left: %s", line)
		}
	}
	if _, err := h.client.EraseCompany(t.Context(), keys, acme, ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("to erase it again: %v", err)
	}
	if said := log.String(); strings.Count(said, "company erased") != 1 || !strings.Contains(said, "by=rbk_me") {
		t.Errorf("the log: %s", said)
	}
	trail := h.trail(acme)
	if len(trail) != 1 || trail[0].Action != registry.ActionEraseCompany || trail[0].Actor != "rbk_me" {
		t.Fatalf("the audit trail has %+v", trail)
	}
	told := map[string]any{}
	for _, c := range trail[0].Changes {
		told[c.Field] = c.Old
	}
	for field, n := range map[string]int64{"callbacks": got.Callbacks, "events": got.Events, "deliveries": got.Deliveries, "dead": got.Dead, "api_keys": got.APIKeys} {
		if told[field] != float64(n) {
			t.Errorf("the audit trail tells of %v %s, not %d", told[field], field, n)
		}
	}
	if left, err := keys.List(t.Context()); err != nil || len(left) != 2 {
		t.Errorf("keys: %+v, %v", left, err)
	}
	if d, err := h.client.Delivery(t.Context(), "other", receipt.Deliveries[0].DeliveryID); err != nil || d.State != ledger.Delivered {
		t.Errorf("the other company's: %+v, %v", d, err)
	}

	// It is as if it had never been; a process that remembers it matches nothing, and names it again.
	if !h.worker().round(t.Context(), true) {
		t.Error("the round failed")
	}
	h.must(elsewhere.registry.Remember(t.Context(), nil))
	if known, err := h.registry.Known(t.Context(), acme); err != nil || known {
		t.Errorf("a reconciler named it again: %v", err)
	}
	again, err := elsewhere.Send(t.Context(), proof("tale-1"))
	h.must(err)
	if len(again.Deliveries) != 0 || again.Duplicate {
		t.Errorf("sent anew: %+v", again)
	}
	if known, err := h.registry.Known(t.Context(), acme); err != nil || !known {
		t.Errorf("used again, but not named: %v", err)
	}
	if cb := h.register("payment_proof", ""); cb.ID != 7 {
		t.Errorf("the next callback is number %d", cb.ID)
	}
	h.partner.answers(answering(204))
	h.send(proof("tale-9"))
	h.await(ledger.Ref{Company: acme, Event: "tale-9", Callback: 7}.DeliveryID(), ledger.Delivered, 5*time.Second)
	if bytes.Contains([]byte(log.String()), []byte("forgotten changes")) {
		t.Error("a process took the erasure for a Redis that lost its data")
	}
}

// furnishAgain is another process's client on the house's Redis.
func furnishAgain(h *house) *Client {
	h.t.Helper()
	reg, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: h.client.log})
	h.must(err)
	c, err := New(Config{Redis: h.rdb, Registry: reg, Egress: h.egress, Logger: h.client.log})
	h.must(err)
	h.t.Cleanup(func() { h.must(c.Close()) })
	return c
}

// openedLink opens a portal link of acme's, and leaves another unused. The session holds as long as the answer is nil.
func (h *house) openedLink(keys *registry.Keys) (holds func(context.Context) error) {
	h.t.Helper()
	sessions := registry.NewSessions(keys)
	_, _, err := h.registry.CreateLink(h.t.Context(), acme, registry.LinkTerms{})
	h.must(err)
	link, _, err := h.registry.CreateLink(h.t.Context(), acme, registry.LinkTerms{ReadOnly: true})
	h.must(err)
	token, s, err := sessions.Redeem(h.t.Context(), link)
	h.must(err)
	holds = sessions.Caller(s, token).Holds
	h.must(holds(h.t.Context()))
	return holds
}

// TestKillWhileErasingACompany: a repeat goes on wherever the first call was broken off.
func TestKillWhileErasingACompany(t *testing.T) {
	t.Parallel()
	for _, point := range []struct {
		name  string
		after int
	}{{"erased", 1}, {"step", 0}, {"step", 1}, {"step", 3}, {"step", 4}, {"step", 5}, {"forgotten", 0}} {
		t.Run(fmt.Sprintf("%s %d", point.name, point.after), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			keys := registry.NewKeys(h.rdb)
			h.must(keys.Put(t.Context(), "k", registry.Key{Role: registry.Operator, Company: acme}))
			h.at("fine", "")
			_, err := h.registry.Pause(t.Context(), acme, 1)
			h.must(err)
			var page []payloads.Event
			for _, id := range eventIDs("tale-", 410) {
				page = append(page, telltale(id))
			}
			for _, s := range h.client.SendAll(t.Context(), page) {
				h.must(s.Err)
			}
			h.start(childJob{Erase: true, KillAt: point.name, After: point.after}).dies()
			e, err := h.client.EraseCompany(t.Context(), keys, acme, "")
			h.must(err)
			if !e.Done || e.APIKeys != 1 {
				t.Errorf("the repeat: %+v", e)
			}
			if lines := h.trail(acme); len(lines) != 1 {
				t.Errorf("the audit trail has %+v", lines)
			}
			h.wantNothingOf("tale-1", canary, `"company":"acme"`)
			if known, err := h.registry.Known(t.Context(), acme); err != nil || known {
				t.Errorf("its name is left: %v", err)
			}
		})
	}
}

// TestBatchesLeaveNothing: whenever the attempt of a batch ends while its company is erased, it leaves nothing of it.
func TestBatchesLeaveNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx := t.Context()
	h.at("slow", `"batch": {"max_events": 1, "max_wait": "0s"}`)
	for _, id := range eventIDs("tale-", 12) {
		h.must(second(h.client.Send(ctx, telltale(id))))
	}
	var batches []string
	h.eventually(5*time.Second, func() bool {
		batches = h.rdb.ZRange(ctx, ledger.Key(acme, "due"), 0, -1).Val()
		tasks := 0
		for _, q := range h.client.Queues() {
			if info, err := h.inspector().GetQueueInfo(q); err == nil {
				tasks += info.Size
			}
		}
		return len(batches) == 12 && tasks == 12
	}, func() string { return fmt.Sprintf("the batches are %q", batches) })
	var ends []ledger.Finish
	for _, member := range batches {
		r, _ := ledger.ParseMember(acme, member)
		claim := ledger.Claim{Ref: r, Generation: 1, Token: r.Event, Lease: time.Minute}
		begun, err := h.client.ledger.Begin(ctx, claim)
		h.must(err)
		entry := ledger.Entry{Number: 1, Started: time.Now().UnixMilli(), Verdict: verdict.Retry, Reason: verdict.StatusReason(500), Status: 500, Body: canary}
		ends = append(ends, ledger.Finish{
			Ref: r, Token: claim.Token, Result: ledger.ResultRetry, Attempt: entry, Attempts: ledger.AppendEntry("", entry), Spent: 1, At: time.Now(), Delay: time.Minute,
			Health: "bad", Breaker: "bad", Run: ledger.RunCounts, Host: "host", HostMeans: "up", CallbackType: "payment_proof", LogID: begun.Grant.LogID, Version: begun.Grant.Version,
		})
	}
	steps := 0
	h.client.failpoint = func(name string) {
		if name == "step" && steps < len(ends) {
			h.must(second(h.client.ledger.Finish(ctx, ends[steps])))
			steps++
		}
	}
	e, err := h.client.EraseCompany(ctx, registry.NewKeys(h.rdb), acme, "")
	h.must(err)
	if !e.Done || e.Unfinished != 11 || steps < 7 {
		t.Errorf("erased: %+v, in %d steps", e, steps)
	}
	if left := h.rdb.Keys(ctx, ledger.Key(acme, "*")).Val(); len(left) != 3 { // ver, cbver, cbseq
		t.Errorf("left: %q", left)
	}
	h.wantNothingOf("tale-", canary, "~")
}

// TestEraseCompanyWhileEventsCome: whoever goes on sending does not keep it from its end, and after the end makes the company anew.
func TestEraseCompanyWhileEventsCome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.work()
	h.register("payment_proof", "")
	stop := make(chan struct{})
	done := sync.OnceFunc(func() { close(stop) })
	var wg sync.WaitGroup
	for sender := range 4 {
		wg.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if _, err := h.client.Send(context.WithoutCancel(t.Context()), proof(fmt.Sprintf("tale-%d-%d", sender, n))); err != nil {
					t.Errorf("sending: %v", err)
					return
				}
			}
		})
	}
	defer func() { done(); wg.Wait() }()
	h.eventually(15*time.Second, func() bool { return len(h.partner.requests()) > 50 }, func() string { return "nothing arrives" })
	e, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
	h.must(err)
	delivered := len(h.partner.requests())
	if !e.Done || e.Events == 0 {
		t.Errorf("%+v", e)
	}
	h.must(second(h.client.Send(t.Context(), proof("last"))))
	done()
	wg.Wait()
	h.awaitIdle(5 * time.Second)
	if n := len(h.partner.requests()); n > delivered+64 { // what was under way at the end
		t.Errorf("%d more were delivered after the callbacks were erased", n-delivered)
	}
	// Whatever there is now came after the end, and is whole and named.
	if known, err := h.registry.Known(t.Context(), acme); err != nil || !known {
		t.Errorf("used again, but not named: %v", err)
	}
	h.must(second(h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")))
	h.wantNothingOf("tale-1-", "last")
}

// TestEraseCompanyAmongOthers: what others have waiting in asynq is not read, and of the company's own nothing stays there, replayed or not.
func TestEraseCompanyAmongOthers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const others = 500
	for n := range others {
		_, err := h.client.lanes.Enqueue(t.Context(), ledger.Ticket{Ref: ledger.Ref{Company: "other", Event: fmt.Sprint("theirs-", n), Callback: int64(n)}, Generation: 1}, asynq.ProcessIn(time.Hour))
		h.must(err)
	}
	h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	h.partner.answers(answering(503))
	stop := h.work()
	for _, id := range []string{"tale-1", "tale-2"} {
		h.send(proof(id))
		h.await(ledger.Ref{Company: acme, Event: id, Callback: 1}.DeliveryID(), ledger.Retrying, 5*time.Second)
	}
	h.must(second(h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: "tale-2", Callback: 1}.DeliveryID())))
	h.eventually(5*time.Second, func() bool {
		return len(h.delivery(ledger.Ref{Company: acme, Event: "tale-2", Callback: 1}.DeliveryID()).Attempts) == 2
	}, func() string { return "not replayed" })
	h.await(ledger.Ref{Company: acme, Event: "tale-2", Callback: 1}.DeliveryID(), ledger.Retrying, 5*time.Second)
	stop()
	read := func() int64 {
		info, err := h.rdb.InfoMap(t.Context(), "stats").Result()
		h.must(err)
		n, err := strconv.ParseInt(info["Stats"]["total_net_output_bytes"], 10, 64)
		h.must(err)
		return n
	}
	before := read()
	e, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
	h.must(err)
	if n := read() - before; !e.Done || n > others*50 { // a task has more bytes than that
		t.Errorf("%+v, for which %d bytes were read", e, n)
	}
	h.wantNothingOf("tale-")
	if !strings.Contains(h.dump(), "theirs-0") {
		t.Error("what others have waiting is gone")
	}
}

// TestAnErasedCompanyIsNamedBeforeItsNextEvent: also by a process that named it a moment before the erasure, sends by the page, or reads it for
// the first time.
func TestAnErasedCompanyIsNamedBeforeItsNextEvent(t *testing.T) {
	t.Parallel()
	page := []payloads.Event{proof("new-1"), proof("new-2"), proof("new-3")}
	send := func(c *Client) []Sent {
		receipt, err := c.Send(t.Context(), page[0])
		return []Sent{{receipt, err}}
	}
	sendAll := func(c *Client) []Sent { return c.SendAll(t.Context(), page) }
	for name, way := range map[string]struct {
		first bool // the process has not read the company yet
		send  func(*Client) []Sent
	}{"one": {false, send}, "page": {false, sendAll}, "one, first read": {true, send}, "page, first read": {true, sendAll}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.register("payment_proof", "")
			h.must(second(h.registry.Pause(t.Context(), acme, 1)))
			elsewhere := furnishAgain(h)
			h.must(elsewhere.registry.Touch(t.Context(), acme))
			if !way.first {
				h.must(second(elsewhere.Send(t.Context(), proof("old"))))
			}
			e, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
			h.must(err)
			if !e.Done {
				t.Fatalf("%+v", e)
			}
			for _, s := range way.send(elsewhere) {
				h.must(s.Err)
				if len(s.Receipt.Deliveries) != 0 {
					t.Errorf("it goes to a callback that is gone: %+v", s.Receipt)
				}
			}
			if known, err := h.registry.Known(t.Context(), acme); err != nil || !known {
				t.Errorf("used again, but not named: %v", err)
			}
		})
	}
}

// TestAnErasureLeavesOneLine: however often it goes on, whatever comes meanwhile, and whoever else erases at the same time.
func TestAnErasureLeavesOneLine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	keys := registry.NewKeys(h.rdb)
	operator := registry.Key{Role: registry.Operator, Company: acme}
	h.must(keys.Put(t.Context(), "k", operator))
	h.register("payment_proof", "")
	h.must(second(h.registry.Pause(t.Context(), acme, 1)))
	send := func(id string) { h.must(second(h.client.Send(t.Context(), proof(id)))) }
	send("tale-1")
	// each call is broken off after its line is written, because something came and time is over; the last is only disturbed
	for call := range 3 {
		e := &erasure{Client: h.client, keys: keys, until: time.Now().Add(time.Minute), said: ErasedCompany{Company: acme}}
		h.client.failpoint = func(name string) {
			if name == "forgotten" {
				h.client.failpoint = nil
				h.register("payment_proof", "")
				send(fmt.Sprint("tale-more-", call))
				if call < 2 {
					e.until = time.Time{}
				}
			}
		}
		h.must(e.begin(t.Context()))
		done, err := e.all(t.Context())
		h.must(err)
		if done != (call == 2) {
			t.Fatalf("call %d: done is %v", call, done)
		}
		h.must(second(e.note(t.Context())))
	}
	want := func(calls, lines int, callbacks, events, keys float64) {
		t.Helper()
		trail := slices.DeleteFunc(h.trail(acme), func(e registry.AuditEntry) bool { return e.Action != registry.ActionEraseCompany })
		if len(trail) != lines {
			t.Fatalf("the audit trail has %+v", trail)
		}
		told := map[string]any{}
		for _, c := range trail[len(trail)-1].Changes {
			told[c.Field] = c.Old
		}
		if told["callbacks"] != callbacks || told["events"] != events || told["api_keys"] != keys {
			t.Errorf("after %d calls the audit trail tells of %v", calls, told)
		}
		if left := h.rdb.Exists(t.Context(), ledger.Key(acme, "erased")).Val(); left != 0 {
			t.Error("the erasure's own notes are left")
		}
	}
	want(3, 1, 4, 4, 1)

	// Used again, it is another company, whose erasure has a line of its own. One call comes to the end while another is at work.
	h.must(keys.Put(t.Context(), "k", operator))
	h.register("payment_proof", "")
	send("tale-2")
	h.client.failpoint = func(name string) {
		if name == "step" {
			h.client.failpoint = nil
			h.must(second(h.client.EraseCompany(t.Context(), keys, acme, "")))
			h.must(keys.Put(t.Context(), "k", operator)) // of whoever uses the name next
		}
	}
	e, err := h.client.EraseCompany(t.Context(), keys, acme, "")
	h.must(err)
	if left, err := keys.OfCompany(t.Context(), acme); err != nil || left != 1 || !e.Done {
		t.Errorf("%d keys are left, %v; %+v", left, err, e)
	}
	want(2, 2, 1, 1, 1)

	// Where Redis lost that there is an erasure, it is not taken for one that came to its end.
	h.register("payment_proof", "")
	send("tale-3")
	h.client.failpoint = func(name string) {
		if name == "step" {
			h.client.failpoint = nil
			h.must(h.rdb.Del(t.Context(), ledger.Key(acme, "erased")).Err())
		}
	}
	if e, err = h.client.EraseCompany(t.Context(), keys, acme, ""); err != nil || e.Done {
		t.Errorf("an erasure that Redis forgot: %+v, %v", e, err)
	}
	if e, err = h.client.EraseCompany(t.Context(), keys, acme, ""); err != nil || !e.Done {
		t.Errorf("called again: %+v, %v", e, err)
	}
}
