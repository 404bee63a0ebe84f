package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func TestListsFindEverythingOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(400))
	first := h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	second := h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	paused := h.register("payment_proof", "")
	_, err := h.registry.Pause(t.Context(), acme, paused.ID)
	h.must(err)
	h.work()
	var ids []string
	for _, id := range eventIDs("p-", 15) {
		for _, d := range h.send(proof(id)).Deliveries {
			ids = append(ids, d.DeliveryID)
		}
	}
	h.eventually(10*time.Second, func() bool {
		open, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []ledger.State{ledger.Pending, ledger.Active, ledger.Held}, Limit: 500})
		return err == nil && len(open) == 15 && !slices.ContainsFunc(open, func(d *Delivery) bool { return d.CallbackID != paused.ID })
	}, func() string { return "attempts are still to come" })

	for name, tc := range map[string]struct {
		q    Query
		want int
	}{
		"all":           {Query{}, 45},
		"one callback":  {Query{CallbackID: second.ID}, 15},
		"dead":          {Query{States: []ledger.State{ledger.Dead}}, 15},
		"retrying":      {Query{States: []ledger.State{ledger.Retrying}}, 15},
		"held":          {Query{States: []ledger.State{ledger.Held}}, 15},
		"two states":    {Query{States: []ledger.State{ledger.Held, ledger.Dead}}, 30},
		"dead of first": {Query{States: []ledger.State{ledger.Dead}, CallbackID: first.ID}, 15},
		"dead of other": {Query{States: []ledger.State{ledger.Dead}, CallbackID: second.ID}, 0},
		"other type":    {Query{EventType: "wallet_item_install"}, 0},
		"since now":     {Query{Since: time.Now().Add(time.Minute)}, 0},
		"until now":     {Query{Until: time.Now().Add(time.Minute)}, 45},
		"dead till now": {Query{States: []ledger.State{ledger.Dead}, Until: time.Now().Add(time.Minute)}, 15},
	} {
		for _, limit := range []int{1, 7, 500} {
			q := tc.q
			q.Limit = limit
			var got []*Delivery
			for {
				page, next, err := h.client.Deliveries(t.Context(), acme, q)
				h.must(err)
				got = append(got, page...)
				if len(page) > limit {
					t.Errorf("%s: a page of %d", name, len(page))
				}
				if q.Cursor = next; next == "" {
					break
				}
			}
			if !slices.IsSortedFunc(got, func(a, b *Delivery) int { return b.AcceptedAt.Compare(a.AcceptedAt) }) {
				t.Errorf("%s, %d a page: not newest first", name, limit)
			}
			seen := make(map[string]bool)
			for _, d := range got {
				seen[d.DeliveryID] = true
			}
			if len(got) != tc.want || len(seen) != tc.want {
				t.Errorf("%s, %d a page: %d deliveries, %d different; want %d", name, limit, len(got), len(seen), tc.want)
			}
		}
	}
	for _, cursor := range []string{"x", "!!", encodeCursor("a/b"), encodeCursor("1-/2"), encodeCursor("18446744073709551615-0/1"), encodeCursor("1-18446744073709551615/1")} {
		for _, states := range [][]ledger.State{nil, {ledger.Dead}} {
			if _, _, err := h.client.Deliveries(t.Context(), acme, Query{Cursor: cursor, States: states}); !errors.Is(err, ErrBadCursor) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
		}
	}
	for _, id := range ids { // leave nothing unfinished
		if d := h.delivery(id); !d.State.Final() {
			_, err := h.client.Cancel(t.Context(), acme, id)
			h.must(err)
		}
	}
	h.check()
	h.awaitIdle(5 * time.Second)
}

func TestTheWindowBoundsTheLanes(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		states := make(map[ledger.State]int)
		for _, id := range eventIDs("p-", 50) {
			states[h.send(proof(id)).Deliveries[0].State]++
		}
		if states[ledger.Pending] != 2 || states[ledger.Held] != 48 {
			h.t.Errorf("states: %v", states)
		}
		e, err := h.client.Event(h.t.Context(), acme, "p-49")
		h.must(err)
		if d := e.Deliveries[0]; d.HeldReason != "window" || !strings.Contains(d.Summary, "turn") {
			h.t.Errorf("held: %+v", d)
		}
		began := time.Now()
		stop := h.work()
		h.awaitAll(12 * time.Second)
		if took := time.Since(began); took > 24*reconcileEvery*3/4 { // each that finishes lets one out; the reconciler alone would take 48 s
			h.t.Errorf("it took %s", took)
		}
		h.check()
		h.awaitIdle(5 * time.Second)
		stop()
	}, withWindow(2))
}

// TestABacklogIsWorkedOffInChains: what a delivery lets out of the room follows in its place; what then fails is asynq's again.
func TestABacklogIsWorkedOffInChains(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.Header.Get("Ringback-Event-Id") == "p-3" && n == 0 {
				return reply{status: 503}
			}
			return reply{status: 204}
		})
		h.register("payment_proof", `"retry": {"initial_interval": "8s"}`)
		for _, id := range eventIDs("p-", 6) {
			h.send(proof(id))
		}
		stop := h.work()
		failed := ledger.Ref{Company: acme, Event: "p-3", Callback: 1}
		h.await(failed.DeliveryID(), ledger.Retrying, 5*time.Second)
		h.eventually(2*time.Second, func() bool {
			info, err := h.inspector().GetTaskInfo(laneOf(failed), taskID(failed, 1))
			return err == nil && info.State == asynq.TaskStateRetry && strings.HasPrefix(info.LastErr, "status_503: attempt 1 ")
		}, func() string { return "asynq does not have the failed one" })
		h.awaitAll(10 * time.Second)
		requests := h.partner.requests()
		if d := requests[len(requests)-1]; d.header.Get("Ringback-Event-Id") != "p-3" || len(requests) != 7 {
			h.t.Errorf("%d requests, the last for %s", len(requests), d.header.Get("Ringback-Event-Id"))
		}
		h.check()
		h.awaitIdle(5 * time.Second)
		stop()
	}, withWindow(1))
}

// TestOneStepEndsAndBegins: in a chain, the step that writes down how a delivery ended begins the next.
func TestOneStepEndsAndBegins(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		for _, id := range eventIDs("p-", 6) {
			h.send(proof(id))
		}
		var begins atomic.Int64
		h.rdb.AddHook(&fault{matches: func(cmd redis.Cmder) bool {
			if isScript(beginScript)(cmd) {
				begins.Add(1)
			}
			return false
		}})
		stop := h.work()
		h.awaitAll(10 * time.Second)
		if n := begins.Load(); n > 2 { // the script's loading counts
			h.t.Errorf("%d steps begin one of six in a chain", n)
		}
		h.check()
		h.awaitIdle(5 * time.Second)
		stop()
	}, withWindow(1))
}

// TestTheAnswerThatBeganTheNextIsLost: the step is repeated, and finds what it has begun. Nobody's attempt has to be given up first.
func TestTheAnswerThatBeganTheNextIsLost(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", `"timeout": "1s"`)
		for _, id := range eventIDs("p-", 3) {
			h.send(proof(id))
		}
		h.breaks(isScript(finishScript), true, 1)
		stop := h.work()
		h.awaitAll(time.Second + ownerGrace + reconcileEvery + slack)
		for _, id := range eventIDs("p-", 3) {
			if d := h.delivery(ledger.Ref{Company: acme, Event: id, Callback: 1}.DeliveryID()); len(d.Attempts) != 1 {
				h.t.Errorf("%s: %s after %d attempts", id, d.Summary, len(d.Attempts))
			}
		}
		h.check()
		h.awaitIdle(5 * time.Second)
		stop()
	}, impatient, withWindow(1))
}

// TestChainsEnd: a backlog must not keep a worker from stopping, nor be lost to it, nor make one task of asynq's last as long as it does.
func TestChainsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withWindow(1)) // one chain at a time
	var n atomic.Int64
	stopped := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(stopped) })
	t.Cleanup(letGo)
	h.partner.answers(func(*http.Request, int) reply {
		if n.Add(1) == 4 { // until nothing is taken from the lanes any more
			return reply{status: 204, after: func(context.Context) { <-stopped }}
		}
		return reply{status: 204, after: func(context.Context) { <-time.After(20 * time.Millisecond) }}
	})
	cb := h.register("payment_proof", `"timeout": "60s"`)
	h.sendAll(eventIDs("p-", 150))
	w := h.worker()
	h.must(w.Start())
	h.eventually(5*time.Second, func() bool { return n.Load() > 3 }, func() string { return "nothing arrives" })
	before, end := n.Load(), w.stop
	w.stop = func() { letGo(); end() }
	w.Shutdown()
	if after := n.Load() - before; after > 3 { // a chain would go on for some forty
		t.Errorf("%d requests were sent while the worker stopped", after)
	}
	processed := func() int {
		info, err := h.inspector().GetQueueInfo(laneOf(ledger.Ref{Company: acme, Event: "", Callback: cb.ID}))
		h.must(err)
		return info.Processed
	}
	first := processed()
	h.work()
	h.awaitAll(90 * time.Second)
	h.check()
	h.awaitIdle(5 * time.Second)
	if tasks := processed() - first; tasks < 2 { // one for each chainFor of some four seconds
		t.Errorf("asynq saw %d tasks", tasks)
	}
}

func TestCancelAndReplay(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(503, 503, 204))
	h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	h.work()
	id := h.send(proof("p-1")).Deliveries[0].DeliveryID
	h.await(id, ledger.Retrying, 5*time.Second)
	h.eventually(5*time.Second, func() bool { return len(h.retries()) == 1 }, func() string { return "no retry stands in asynq" })
	if task := h.retries()[0]; !strings.Contains(task.LastErr, "status_503") || task.ID != taskID(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}, 1) {
		t.Errorf("asynq shows %s: %s", task.ID, task.LastErr)
	}
	if _, err := h.client.Replay(t.Context(), acme, id); err != nil { // now instead of in an hour
		t.Fatal(err)
	}
	h.eventually(5*time.Second, func() bool { return len(h.delivery(id).Attempts) == 2 }, func() string { return "no second attempt" })
	d := h.await(id, ledger.Retrying, 5*time.Second)
	if !strings.Contains(d.Summary, "next attempt is at") {
		t.Errorf("summary: %s", d.Summary)
	}
	h.eventually(5*time.Second, func() bool { return len(h.retries()) == 1 }, func() string { return "no retry stands in asynq" })
	d, err := h.client.Cancel(t.Context(), acme, id)
	h.must(err)
	if d.State != ledger.Cancelled {
		t.Errorf("cancelled, but %s", d.State)
	}
	h.awaitIdle(5 * time.Second)
	_, err = h.client.Cancel(t.Context(), acme, id)
	if _, ok := errors.AsType[*StateError](err); !ok {
		t.Errorf("a second cancel: %v", err)
	}
	_, err = h.client.Replay(t.Context(), acme, id)
	h.must(err)
	h.await(id, ledger.Delivered, 5*time.Second)
	for _, bad := range []string{"dlv_x", "", "dlv_" + strings.Repeat("A", 400), ledger.Ref{Company: "other", Event: "p-1", Callback: 1}.DeliveryID(), ledger.Ref{Company: acme, Event: "none", Callback: 1}.DeliveryID()} {
		for name, act := range map[string]func() (*Delivery, error){
			"read":   func() (*Delivery, error) { return h.client.Delivery(t.Context(), acme, bad) },
			"replay": func() (*Delivery, error) { return h.client.Replay(t.Context(), acme, bad) },
			"cancel": func() (*Delivery, error) { return h.client.Cancel(t.Context(), acme, bad) },
		} {
			if _, err := act(); !errors.Is(err, ErrNotFound) {
				t.Errorf("%s of %q: %v", name, bad, err)
			}
		}
	}
	h.check()
}

// TestCancelUnderWay: an attempt under way finishes, and counts if it delivers.
func TestCancelUnderWay(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]ledger.State{204: ledger.Delivered, 503: ledger.Cancelled} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			arrived, answer := make(chan struct{}), make(chan struct{})
			h.partner.answers(answering(status))
			inner := h.partner.answer
			h.partner.answers(func(r *http.Request, n int) reply { close(arrived); <-answer; return inner(r, n) })
			h.register("payment_proof", "")
			h.work()
			id := h.send(proof("p-1")).Deliveries[0].DeliveryID
			<-arrived
			_, err := h.client.Cancel(t.Context(), acme, id)
			h.must(err)
			close(answer)
			h.eventually(5*time.Second, func() bool { return len(h.delivery(id).Attempts) == 1 }, func() string { return "the attempt is not recorded" })
			if s := h.delivery(id).State; s != want {
				t.Errorf("state %s, want %s", s, want)
			}
			h.check()
			h.awaitIdle(5 * time.Second)
		})
	}
}

func TestExplanations(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	install, _ := payloads.Builtin().Lookup("wallet_item_install")
	match := h.register("wallet_item_install", `"wallet_item_install": {"campaign_token": "r3zhm8"}`)
	other := h.register("wallet_item_install", `"wallet_item_install": {"campaign_token": "other"}`)
	proofs := h.register("payment_proof", "")
	e := payloads.Event{Company: acme, ID: "w-1", Type: install.Name, Payload: install.Example}
	h.send(e)
	late := h.register("wallet_item_install", "")
	x, err := h.client.Explain(t.Context(), acme, "w-1", ExplainQuery{})
	h.must(err)
	if len(x.Callbacks) != 4 || x.Callbacks[0].CallbackID != match.ID || x.Callbacks[0].Decision != "matched" || x.Callbacks[0].Delivery == nil {
		t.Fatalf("explanation: %+v", x)
	}
	for i, want := range []struct {
		id   int64
		word string
	}{{other.ID, "campaign_token"}, {proofs.ID, "payment_proof"}, {late.ID, "after the event was accepted"}} {
		d := x.Callbacks[i+1]
		if d.CallbackID != want.id || d.Decision != "not_matched" || !strings.Contains(d.Why, want.word) {
			t.Errorf("decision: %+v, want %q", d, want.word)
		}
	}
	var paged []int64
	for cursor, n := "", 0; n < 10; n++ {
		page, err := h.client.Explain(t.Context(), acme, "w-1", ExplainQuery{Limit: 1, Cursor: cursor})
		h.must(err)
		paged = append(paged, page.Callbacks[0].CallbackID)
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if fmt.Sprint(paged) != fmt.Sprint([]int64{match.ID, other.ID, proofs.ID, late.ID}) {
		t.Errorf("paged: %v", paged)
	}
	h.work()
	h.awaitAll(5 * time.Second)
	h.check()
}

// TestTheLogOutlivesRetention: what is unfinished or dead is listed for as long as it is kept, and what is gone leaves no entry.
func TestTheLogOutlivesRetention(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Retention = time.Second })
	cb := h.register("payment_proof", "")
	h.work()
	for _, id := range eventIDs("old-", 5) {
		h.send(proof(id))
	}
	h.eventually(5*time.Second, func() bool { return len(h.partner.requests()) == 5 }, func() string { return "not all arrived" })
	clear(h.acked) // they age away
	_, err := h.registry.Pause(t.Context(), acme, cb.ID)
	h.must(err)
	for _, id := range eventIDs("held-", 7) {
		h.send(proof(id))
	}
	log := ledger.Key(acme, "log")
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		n, err := h.rdb.XLen(t.Context(), log).Result()
		return err == nil && n == 7
	}, func() string { return "the log keeps entries of events that are gone" })
	held, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []ledger.State{ledger.Held}})
	h.must(err)
	if len(held) != 7 {
		t.Errorf("%d held deliveries are listed", len(held))
	}
	_, err = h.client.Resume(t.Context(), acme, cb.ID, true)
	h.must(err)
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		n, err := h.rdb.XLen(t.Context(), log).Result()
		return err == nil && n == 0
	}, func() string { return "the log keeps cancelled ones" })
}

// TestALongerTimeoutDoesNotOutliveItsLease: the lease is taken by the timeout known when the attempt begins; a longer one that comes to be
// known only then must not let the request outlive it, or the attempt would be taken for lost and made twice.
func TestALongerTimeoutDoesNotOutliveItsLease(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(func(_ *http.Request, n int) reply {
		if n > 0 {
			return reply{status: 204}
		}
		return reply{status: 204, after: func(ctx context.Context) { <-ctx.Done() }}
	})
	cb := h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "1s"}`)
	r := h.send(proof("p-1")) // now the callback is in memory
	other, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	_, err = other.Patch(t.Context(), acme, cb.ID, []byte(`{"timeout": "60s"}`))
	h.must(err)
	h.work()
	d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 70*time.Second)
	if a := d.Attempts[0]; len(d.Attempts) != 2 || a.Reason != "timeout" || a.Duration > 10*time.Second {
		t.Errorf("attempts: %+v", d.Attempts)
	}
}

// TestACompanyRedisForgotIsNamedAgain: the reconciler serves whom the set names, so every process names whom it knows.
func TestACompanyRedisForgotIsNamedAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	idle := proof("for-nobody")
	idle.Company = "idle" // without work, so in no index
	h.must(second(h.client.Send(t.Context(), idle)))
	h.must(h.rdb.Del(t.Context(), "ringback:companies").Err())
	if !h.worker().round(t.Context(), false) {
		t.Error("the round failed")
	}
	names, err := h.registry.Companies(t.Context())
	h.must(err)
	if !slices.Equal(names, []string{acme, "idle"}) {
		t.Errorf("companies: %v", names)
	}
}

// TestOneThatHangsHurtsNobody: a callback in the same lane is served at once while another hangs on to all it may.
func TestOneThatHangsHurtsNobody(t *testing.T) {
	inBubble(t, func(h *house) {
		release := make(chan struct{})
		letGo := sync.OnceFunc(func() { close(release) })
		h.t.Cleanup(letGo)
		hanging := h.register("payment_proof", `"timeout": "60s"`)
		install, _ := payloads.Builtin().Lookup("wallet_item_install")
		h.partner.answers(func(r *http.Request, _ int) reply {
			if r.URL.Path == "/payment_proof" {
				return reply{status: 204, after: func(context.Context) { <-release }}
			}
			return reply{status: 204}
		})
		lane := laneOf(ledger.Ref{Company: acme, Event: "", Callback: hanging.ID})
		for served := map[string]bool{}; len(served) < laneCount; { // callbacks in every lane, this one too
			served[laneOf(ledger.Ref{Company: acme, Event: "", Callback: h.register(install.Name, "").ID})] = true
		}
		stop := h.work()
		began := time.Now()
		h.sendAll(eventIDs("hang-", 100))
		h.eventually(10*time.Second, func() bool {
			held, err := h.rdb.ZCard(h.t.Context(), ledger.Key(acme, "room:"+strconv.FormatInt(hanging.ID, 10))).Result()
			return err == nil && held > 80
		}, func() string { return "the hanging callback's deliveries stay in the lane" })
		for _, id := range eventIDs("w-", 10) {
			start := time.Now()
			r := h.send(payloads.Event{Company: acme, ID: id, Type: install.Name, Payload: install.Example})
			for _, d := range r.Deliveries {
				if laneOf(ledger.Ref{Company: acme, Event: id, Callback: d.CallbackID}) == lane {
					h.await(d.DeliveryID, ledger.Delivered, 15*time.Second)
				}
			}
			if took := time.Since(start); took > 30*time.Second { // half of what the hanging ones take, and far more than it should be
				h.t.Errorf("neighbours served in %s", took)
			}
		}
		<-time.After(2*reconcileEvery + time.Second/2) // what waits is tried once in five seconds at most, not round after round
		most := 2 + int64(time.Since(began)/(5*time.Second))
		for id := range h.acked {
			text, err := h.rdb.HGet(h.t.Context(), ledger.EventKey(acme, id), ledger.RecordField(hanging.ID)).Result()
			if err != nil {
				continue // a neighbour's
			}
			if rec, err := ledger.ParseRecord(text); err != nil || rec.Generation > most {
				h.t.Errorf("%s is at generation %d, want %d at most: %v", id, rec.Generation, most, err)
			}
		}
		letGo()
		h.awaitAll(30 * time.Second)
		h.check()
		h.awaitIdle(10 * time.Second)
		stop()
	})
}
