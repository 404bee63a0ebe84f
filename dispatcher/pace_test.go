package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// health reads how a callback does.
func (h *house) health(id int64) Health {
	h.t.Helper()
	list, err := h.client.Health(h.t.Context(), acme, id)
	h.must(err)
	return list[0]
}

// ails sets fields of a callback's health, as if it had come that far: f failures in a row, l how many may be out, b since when.
func (h *house) ails(cb *registry.Callback, fields ...any) {
	h.t.Helper()
	h.must(h.rdb.HSet(h.t.Context(), ledger.Key(acme, "health:"+strconv.FormatInt(cb.ID, 10)), fields...).Err())
}

// limit gives a callback a rate limit.
func (h *house) limit(cb *registry.Callback, perSecond float64, burst int) {
	h.t.Helper()
	_, err := h.registry.Patch(h.t.Context(), acme, cb.ID, fmt.Appendf(nil, `{"rate_limit": {"per_second": %g, "burst": %d}}`, perSecond, burst))
	h.must(err)
}

// sendMany sends n proofs and returns their deliveries' ids.
func (h *house) sendMany(prefix string, n int) []string {
	h.t.Helper()
	ids := make([]string, 0, n)
	for _, id := range eventIDs(prefix, n) {
		ids = append(ids, h.send(proof(id)).Deliveries[0].DeliveryID)
	}
	return ids
}

// drained waits until nothing of a callback is unfinished. It asks for one figure a second: time is free in a bubble, reading is not.
func (h *house) drained(callback int64, within time.Duration) {
	h.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(time.Second) {
		health := h.health(callback)
		if health.Pending+health.Held == 0 {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("after %s: %+v", within, health)
		}
	}
}

// TestTheBreakerSparesASilentPartner: after ten attempts without an answer the rest is held and tried one at a time; once one is delivered, all
// goes out.
func TestTheBreakerSparesASilentPartner(t *testing.T) {
	inBubble(t, func(h *house) {
		var back atomic.Bool
		h.partner.answers(func(*http.Request, int) reply {
			if back.Load() {
				return reply{status: 204}
			}
			return reply{status: 503, after: func(ctx context.Context) { <-ctx.Done() }}
		})
		cb := h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "5s", "multiplier": 1, "max_attempts": 100}`)
		defer h.work()()
		defer h.work()() // two processes, one breaker
		ids := h.sendMany("p-", 40)
		time.Sleep(20 * time.Second)
		opened := len(h.partner.requests())
		if health := h.health(cb.ID); health.Breaker != BreakerOpen || health.ConsecutiveFailures < 10 || health.Held < 30 {
			t.Errorf("after twenty seconds: %+v", health)
		}
		d := h.delivery(ids[39])
		if d.State != ledger.Held || d.HeldReason != "breaker" || !strings.Contains(d.Summary, "tried carefully") {
			t.Errorf("the last is %s (%s): %s", d.State, d.HeldReason, d.Summary)
		}
		time.Sleep(90 * time.Second)
		if n := len(h.partner.requests()) - opened; n < 5 || n > 15 {
			t.Errorf("%d requests in 90 s, want one in 10 to 15 s", n)
		}
		if n := attemptsUnderWay(h, cb.ID); n > 1 {
			t.Errorf("%d are in the lanes", n)
		}
		if d, err := h.client.ledger.Depths(h.t.Context(), []string{acme}); err != nil || d[0].Open != 1 || d[0].Held < 30 || time.Since(d[0].Oldest) < 110*time.Second {
			t.Errorf("%+v, %v", d, err)
		}
		back.Store(true)
		h.drained(cb.ID, 40*time.Second)
		if health := h.health(cb.ID); health.Breaker == BreakerOpen || health.ConsecutiveFailures != 0 {
			t.Errorf("afterwards: %+v", health)
		}
		h.check()
	})
}

func attemptsUnderWay(h *house, callback int64) int64 {
	h.t.Helper()
	n, err := h.rdb.SCard(h.t.Context(), ledger.Key(acme, "ready:"+strconv.FormatInt(callback, 10))).Result()
	h.must(err)
	return n
}

// TestTheRateLimitPacesEverything: first attempts and retries, from two processes, never more than burst and rate allow.
func TestTheRateLimitPacesEverything(t *testing.T) {
	inBubble(t, func(h *house) {
		const perSecond, burst, n = 5, 3, 25
		h.partner.answers(answering(500, 204)) // each comes twice
		cb := h.register("payment_proof", `"retry": {"initial_interval": "2s", "multiplier": 1}`)
		h.limit(cb, perSecond, burst)
		defer h.work()()
		defer h.work()()
		began := time.Now()
		ids := h.sendMany("p-", n)
		time.Sleep(time.Second)
		if d := h.delivery(ids[n-1]); d.State != ledger.Held || d.HeldReason != "rate_limit" && d.HeldReason != "breaker" {
			t.Errorf("the last is %s (%s): %s", d.State, d.HeldReason, d.Summary)
		}
		h.drained(cb.ID, 2*time.Minute)
		if took := time.Since(began); took < (2*n-burst)/perSecond*time.Second {
			t.Errorf("all came within %s", took)
		}
		h.keepsRate(perSecond, burst)
		h.check()
	})
}

// keepsRate verifies that the partner got no more than rate and burst allow in any span of time that begins with a request. A delivery has its
// token when it enters the lane, so some may catch up with others there.
func (h *house) keepsRate(perSecond, burst float64) {
	h.t.Helper()
	requests := h.partner.requests()
	for i, first := range requests {
		for j := i; j < len(requests); j++ {
			allowed := burst + perSecond*(requests[j].at.Sub(first.at)+2*h.poll).Seconds()
			if float64(j-i+1) > allowed+1 {
				h.t.Fatalf("%d requests within %s", j-i+1, requests[j].at.Sub(first.at))
			}
		}
	}
}

// TestARateLimitThatNobodyRemembers: what was accepted while no worker ran goes out at the same pace.
func TestARateLimitThatNobodyRemembers(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		h.limit(cb, 2, 1)
		h.sendMany("p-", 20)
		began := time.Now()
		defer h.work()()
		h.drained(cb.ID, time.Minute)
		if took := time.Since(began); took < 8*time.Second || took > 20*time.Second {
			t.Errorf("20 at 2/s took %s", took)
		}
		h.keepsRate(2, 1)
		h.check()
	})
}

// TestWhatIsHeldHasBounds: the oldest of too many, and what was held for too long, go to the dead-letter book, say so, and can be replayed.
func TestWhatIsHeldHasBounds(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		defer h.work()()
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		ids := h.sendMany("p-", 8)
		for i, id := range ids {
			d := h.delivery(id)
			switch {
			case i >= 3 && d.State != ledger.Held:
				t.Errorf("%d is %s", i, d.State)
			case i < 3 && (d.State != ledger.Dead || d.Reason != verdict.ReasonHoldFull || !strings.Contains(d.Summary, "needed its place")):
				t.Errorf("%d is %s (%s): %s", i, d.State, d.Reason, d.Summary)
			}
		}
		time.Sleep(time.Minute + 2*time.Minute) // as long as they may, and a look
		for _, id := range ids[3:] {
			if d := h.delivery(id); d.State != ledger.Dead || d.Reason != verdict.ReasonHoldExpired || !strings.Contains(d.Summary, "held for longer") {
				t.Errorf("%s is %s (%s): %s", id, d.State, d.Reason, d.Summary)
			}
		}
		found, _, err := h.client.Deliveries(h.t.Context(), acme, Query{States: []ledger.State{ledger.Dead}})
		h.must(err)
		if health := h.health(cb.ID); len(found) != 8 || health.Dead != 8 || health.Held != 0 {
			t.Errorf("%d are in the book, %+v", len(found), health)
		}
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, false)
		h.must(err)
		for reason, n := range map[Reason]int64{verdict.ReasonHoldFull: 3, verdict.ReasonHoldExpired: 5} {
			r, err := h.client.ReplayCallback(h.t.Context(), acme, cb.ID, ReplayQuery{Reason: reason})
			h.must(err)
			if r.Matched != n {
				t.Errorf("%d of %s", r.Matched, reason)
			}
		}
		for _, id := range ids {
			h.await(id, ledger.Delivered, time.Minute)
		}
		h.check()
	}, func(c *Config) { c.HoldMaxCount, c.HoldMaxAge = 5, time.Minute })
}

// TestNothingOvertakesInTheLane: what one process has no turn for stays in the room, so that a backlog goes out in its order.
func TestNothingOvertakesInTheLane(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(*http.Request, int) reply {
			return reply{status: 204, after: func(context.Context) { time.Sleep(5 * time.Millisecond) }}
		})
		cb := h.register("payment_proof", "")
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		ids := h.sendMany("p-", 200)
		defer h.work()()
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, false)
		h.must(err)
		h.drained(cb.ID, time.Minute)
		furthest, bounced := 0, 0
		for i, r := range h.partner.requests() {
			furthest = max(furthest, i-slices.Index(ids, r.id), slices.Index(ids, r.id)-i)
		}
		for _, id := range ids {
			r, ok := ledger.ParseDeliveryID(acme, id)
			if !ok {
				t.Fatalf("%q is no delivery", id)
			}
			text, err := h.rdb.HGet(h.t.Context(), ledger.EventKey(acme, r.Event), ledger.RecordField(r.Callback)).Result()
			h.must(err)
			rec, err := ledger.ParseRecord(text)
			h.must(err)
			if rec.Generation > 1 {
				bounced++
			}
		}
		t.Logf("the order is off by %d at most; %d came back from the lane", furthest, bounced)
		if furthest > 40 || bounced > 40 {
			t.Errorf("the order is off by %d, and %d of %d came back from the lane", furthest, bounced, len(ids))
		}
		h.check()
	})
}

// TestAResumeIsEased: what was held goes out oldest first, a few at a time to begin with.
func TestAResumeIsEased(t *testing.T) {
	inBubble(t, func(h *house) {
		var under, most atomic.Int64
		h.partner.answers(func(*http.Request, int) reply {
			return reply{status: 204, after: func(context.Context) {
				n := under.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				time.Sleep(100 * time.Millisecond)
				under.Add(-1)
			}}
		})
		cb := h.register("payment_proof", "")
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		ids := h.sendMany("p-", 120)
		defer h.work()()
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, false)
		h.must(err)
		if n := attemptsUnderWay(h, cb.ID); n != 8 {
			t.Errorf("%d were let out at first", n)
		}
		h.drained(cb.ID, time.Minute)
		furthest := 0
		for i, r := range h.partner.requests() {
			furthest = max(furthest, i-slices.Index(ids, r.id), slices.Index(ids, r.id)-i)
		}
		t.Logf("%d at a time at most; the order is off by %d at most", most.Load(), furthest)
		if furthest > 60 {
			t.Errorf("delivery out of order by %d", furthest)
		}
		if b := h.health(cb.ID).Breaker; b == BreakerOpen {
			t.Errorf("afterwards: %s", b)
		}
		h.check()
	})
}

// TestTheFailingHaveALaneOfTheirOwn: what is let out under an open breaker goes to the slow lane and stays there, retries and all, and once
// the partner is back, all goes through the ordinary lane again.
func TestTheFailingHaveALaneOfTheirOwn(t *testing.T) {
	inBubble(t, func(h *house) {
		var back atomic.Bool
		h.partner.answers(func(*http.Request, int) reply {
			if back.Load() {
				return reply{status: 204}
			}
			return reply{status: 500}
		})
		cb := h.register("payment_proof", `"retry": {"initial_interval": "10s", "multiplier": 1, "max_attempts": 100}`)
		defer h.work()()
		h.sendMany("p-", 10) // as many failures as open a breaker
		h.eventually(time.Minute, func() bool { return h.health(cb.ID).Breaker == BreakerOpen }, func() string { return "ten failures did not open the breaker" })
		h.sendMany("q-", 30) // the first few pass by an empty room, the others come out of it
		// Each is followed by its name until it was tried again: how many are in a lane at once says little, for those that are due are on
		// their way.
		slow := make(map[string]bool)
		var retrying *asynq.TaskInfo
		h.eventually(time.Minute, func() bool {
			retrying = nil
			for _, task := range h.retries() {
				event := h.taskEvent(task)
				if !strings.HasPrefix(event, "q-") {
					continue
				}
				if task.Queue != slowLane {
					h.t.Fatalf("%s, let out under an open breaker, is in %s", event, task.Queue)
				}
				slow[event], retrying = true, task
			}
			tries, again := make(map[string]int), 0
			for _, r := range h.partner.requests() {
				if tries[r.id]++; tries[r.id] == 2 {
					again++
				}
			}
			return len(slow) == 30 && again == 40 && retrying != nil
		}, func() string { return fmt.Sprintf("%d of 30 were seen in the slow lane", len(slow)) })
		again := h.send(proof("again")).Deliveries[0]
		if r, err := h.client.Send(h.t.Context(), proof("again")); err != nil || !r.Duplicate || r.Deliveries[0] != again {
			t.Errorf("sent again: %+v, %v", r, err)
		}
		for _, lane := range queues[:laneCount] {
			if tasks, err := h.inspector().ListPendingTasks(lane); err == nil && slices.ContainsFunc(tasks, func(task *asynq.TaskInfo) bool {
				return strings.HasPrefix(task.ID, again.DeliveryID)
			}) {
				t.Errorf("%s has a second task of %s", lane, again.DeliveryID)
			}
		}
		_, err := h.client.Replay(h.t.Context(), acme, ticket(h.taskEvent(retrying), cb.ID, 1).DeliveryID())
		h.must(err)
		if slices.ContainsFunc(h.retries(), func(task *asynq.TaskInfo) bool { return task.ID == retrying.ID }) {
			t.Errorf("%s is replayed, and its old task still there", retrying.ID)
		}
		back.Store(true)
		h.drained(cb.ID, time.Minute)
		before, err := h.inspector().GetQueueInfo(slowLane)
		h.must(err)
		h.ails(cb, "l", 252)    // as after as many
		for round := range 10 { // until the breaker is closed, and some more
			h.sendMany(fmt.Sprintf("r%d-", round), 1)
			h.drained(cb.ID, time.Minute)
		}
		after, err := h.inspector().GetQueueInfo(slowLane)
		h.must(err)
		if n := after.ProcessedTotal - before.ProcessedTotal; n > 0 || h.health(cb.ID).Breaker != BreakerClosed {
			t.Errorf("%d of 10 went through the slow lane after recovery; breaker %s", n, h.health(cb.ID).Breaker)
		}
		h.check()
	})
}

// TestEverythingOfAFailingCallbackGoesToTheSlowLane: what is accepted, replayed one by one or in bulk, or given a new task while its callback's
// breaker is open and failing, and what a chain has in its hand as that changes.
func TestEverythingOfAFailingCallbackGoesToTheSlowLane(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		ids := h.sendMany("p-", 4)
		wantLane := func(how, lane, id string, generation int64) {
			h.t.Helper()
			r, _ := ledger.ParseDeliveryID(acme, id)
			if _, err := h.inspector().GetTaskInfo(lane, taskID(r, generation)); err != nil {
				t.Errorf("%s: %s has no task %s: %v", how, lane, taskID(r, generation), err)
			}
		}
		ordinary := laneOf(ledger.Ref{Company: acme, Event: "p-0", Callback: cb.ID})
		wantLane("accepted", ordinary, ids[0], 1)
		for _, id := range ids[:2] {
			_, err := h.client.Cancel(h.t.Context(), acme, id)
			h.must(err)
		}
		h.ails(cb, "f", 10, "l", 8)
		wantLane("accepted, failing", slowLane, h.sendMany("q-", 1)[0], 1)
		_, err := h.client.Replay(h.t.Context(), acme, ids[0])
		h.must(err)
		wantLane("replayed", slowLane, ids[0], 2)
		r, err := h.client.ReplayCallback(h.t.Context(), acme, cb.ID, ReplayQuery{States: []ledger.State{ledger.Cancelled}})
		h.must(err)
		h.must(h.client.sweepOne(h.t.Context(), acme, r.stored(), time.Now().Add(time.Second)))
		wantLane("replayed in bulk", slowLane, ids[1], 2)
		third, _ := ledger.ParseDeliveryID(acme, ids[2])
		h.must(h.client.revive(h.t.Context(), third, 1))
		wantLane("revived", slowLane, ids[2], 2)
		w := h.worker() // never started
		fourth, _ := ledger.ParseDeliveryID(acme, ids[3])
		soon := time.Now().Add(time.Hour)
		w.chain(h.t.Context(), link{ordinary, soon, w.shares[ordinary]}, acme, sequel{released: []ledger.Ticket{{Ref: fourth, Generation: 1, Slow: true}}})
		wantLane("let out, failing", slowLane, ids[3], 1)
		h.ails(cb, "f", 0)
		h.must(h.client.revive(h.t.Context(), third, 2))
		wantLane("revived, well", ordinary, ids[2], 3)
		w.chain(h.t.Context(), link{slowLane, soon, w.shares[slowLane]}, acme, sequel{released: []ledger.Ticket{{Ref: third, Generation: 3}}})
		if n := len(h.partner.requests()); n > 0 {
			t.Errorf("%d were sent from a lane that is not theirs", n)
		}
		defer h.work()()
		h.drained(cb.ID, time.Minute)
		h.check()
	})
}

// TestWhatWaitsInALaneIsLeftAlone: the reconciler finds what waits for long, be it in the slow lane or another, and does nothing.
func TestWhatWaitsInALaneIsLeftAlone(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		h.ails(cb, "f", 10, "l", 1)
		well := h.register("wallet_item_install", "")
		install, _ := payloads.Builtin().Lookup(well.Type)
		for _, lane := range queues {
			h.must(h.inspector().PauseQueue(lane))
		}
		defer h.work()()
		ids := append(h.sendMany("p-", 3), h.send(payloads.Event{Company: acme, ID: "i-1", Type: install.Name, Payload: install.Example}).Deliveries[0].DeliveryID)
		time.Sleep(2 * time.Minute)
		var waiting []string
		for _, lane := range queues {
			tasks, err := h.inspector().ListPendingTasks(lane)
			if err == nil { // else nothing was ever enqueued there
				for _, task := range tasks {
					waiting = append(waiting, lane+" "+task.ID)
				}
			}
		}
		want := []string{laneOf(ledger.Ref{Company: acme, Event: "i-1", Callback: well.ID}) + " " + ids[3] + ":g1", slowLane + " " + ids[0] + ":g1"}
		if !slices.Equal(waiting, want) {
			t.Errorf("in the lanes: %q, want %q", waiting, want)
		}
		_, err := h.client.ResumeEgress(h.t.Context())
		h.must(err)
		for _, id := range ids {
			h.await(id, ledger.Delivered, time.Minute)
		}
		h.check()
	})
}

// TestWhatComesBackIsLetOutAgain: what was let out before the breaker narrowed goes back to its room, and where nothing else is under way that
// would let it out, the pump does.
func TestWhatComesBackIsLetOutAgain(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		r, _ := ledger.ParseDeliveryID(acme, h.sendMany("p-", 1)[0])
		time.Sleep(time.Second)
		h.ails(cb, "f", 10, "l", 1, "b", time.Now().UnixMilli())
		w := h.worker() // never started: no reconciler
		a, err := w.begin(h.t.Context(), ticket(r.Event, r.Callback, 1), true, 0)
		h.must(err)
		if health := h.health(cb.ID); a != nil || health.Held != 1 {
			t.Fatalf("it is not held: %+v", health)
		}
		h.eventually(time.Second, func() bool { return attemptsUnderWay(h, cb.ID) == 1 }, func() string { return fmt.Sprintf("%+v", h.health(cb.ID)) })
		defer h.work()()
		h.drained(cb.ID, time.Minute)
		h.check()
	})
}
