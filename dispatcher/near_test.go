package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// nearly is a worker that begins at once what its process accepts: those of most tests are too small for that.
func (h *house) nearly(grace time.Duration) *Worker {
	h.t.Helper()
	cfg := workerConfig(h.cfg.Patience, h.poll)
	cfg.Concurrency, cfg.Accepts, cfg.ShutdownGrace = 2*fewAttempts, true, grace
	w, err := NewWorker(h.client, cfg)
	h.must(err)
	h.must(w.Start())
	h.t.Cleanup(w.Shutdown)
	return w
}

func (n *near) takenBy(company string) int {
	n.shares.mu.Lock()
	defer n.shares.mu.Unlock()
	return n.shares.taken[company]
}

// enqueues counts the tasks that the house's processes enqueue from now on.
func (h *house) enqueues() *atomic.Int64 { return h.enqueuesOf("") }

// enqueuesOf counts a company's.
func (h *house) enqueuesOf(company string) *atomic.Int64 {
	var n atomic.Int64
	f := &fault{matches: func(cmd redis.Cmder) bool {
		if isEnqueue(cmd) && strings.Contains(fmt.Sprintf("%s", cmd.Args()), `"company":"`+company) {
			n.Add(1)
		}
		return false
	}}
	h.rdb.AddHook(f)
	return &n
}

// TestWhatIsAcceptedHereBeginsHere: no task is made for what the process that accepts can begin at once; one that fails has one for its retry.
func TestWhatIsAcceptedHereBeginsHere(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
		stop := h.nearly(0).Shutdown
		tasks := h.enqueues()
		for _, id := range eventIDs("p-", 20) {
			r := h.send(proof(id))
			h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second)
		}
		if n := tasks.Load(); n != 0 {
			h.t.Errorf("%d tasks were made for what went well", n)
		}
		h.partner.answers(answering(503, 204))
		id := h.send(proof("fails")).Deliveries[0].DeliveryID
		h.eventually(10*time.Second, func() bool { return len(h.retries()) == 1 }, func() string { return "asynq shows no retry" })
		if task := h.retries()[0]; !strings.HasPrefix(task.LastErr, "status_503: attempt 1 to callback 1 of acme: ") || task.Retried != 1 {
			h.t.Errorf("asynq shows, at its retry %d: %s", task.Retried, task.LastErr)
		}
		if n := len(h.delivery(id).Attempts); n != 1 {
			h.t.Errorf("%d attempts, an hour before the second is due", n)
		}
		if n := tasks.Load(); n != 1 {
			h.t.Errorf("%d tasks were made for one retry", n)
		}
		_, err := h.client.Replay(h.t.Context(), acme, id)
		h.must(err)
		h.awaitAll(20 * time.Second)
		h.check()
		h.awaitIdle(5 * time.Second)
		stop()
	})
}

// TestWhatFindsNoPlaceGoesByTheLanes: a callback that hangs has no more than its turns here, and what waits behind it hurts nobody.
func TestWhatFindsNoPlaceGoesByTheLanes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	release := make(chan struct{})
	var under, most atomic.Int64
	h.partner.answers(func(r *http.Request, _ int) reply {
		if r.URL.Path != "/payment_proof" {
			return reply{status: 204}
		}
		return reply{status: 204, after: func(context.Context) {
			now := under.Add(1)
			for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
			}
			<-release
			under.Add(-1)
		}}
	})
	h.register("payment_proof", `"timeout": "60s"`)
	w := h.nearly(0)
	var wg sync.WaitGroup
	for _, id := range eventIDs("p-", 60) {
		wg.Go(func() {
			if _, err := h.client.Send(t.Context(), proof(id)); err != nil {
				t.Error(err)
			}
			h.ack(proof(id))
		})
	}
	wg.Wait()
	h.eventually(10*time.Second, func() bool { return under.Load() == int64(w.limiter.turns()) }, func() string { return strconv.FormatInt(under.Load(), 10) + " are under way" })
	if taken := w.near.takenBy(acme); taken > w.limiter.turns() {
		t.Errorf("%d places are taken by one callback, which has %d turns", taken, w.limiter.turns())
	}
	close(release)
	h.awaitAll(60 * time.Second)
	if n := most.Load(); n > int64(w.limiter.turns()) {
		t.Errorf("%d attempts were under way at once, %d turns", n, w.limiter.turns())
	}
	h.check()
	h.awaitIdle(10 * time.Second)
}

// TestShutdownWaitsForWhatItBegan, as for tasks: what is under way is finished and recorded.
func TestShutdownWaitsForWhatItBegan(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	called, release := make(chan struct{}), make(chan struct{})
	h.partner.answers(func(*http.Request, int) reply {
		return reply{status: 204, after: func(context.Context) {
			close(called)
			<-release
		}}
	})
	h.register("payment_proof", "")
	w := h.nearly(time.Hour)
	r := h.send(proof("p-1"))
	<-called
	ended := make(chan struct{})
	go func() {
		w.Shutdown()
		close(ended)
	}()
	h.eventually(10*time.Second, func() bool { return h.client.near.Load() == nil }, func() string { return "the client's worker still takes" })
	h.send(proof("p-2")) // for others
	close(release)
	<-ended
	if d := h.delivery(r.Deliveries[0].DeliveryID); d.State != ledger.Delivered || len(d.Attempts) != 1 {
		t.Errorf("after the end: %s", d.Summary)
	}
	h.partner.answers(answering(204))
	h.work()
	h.awaitAll(10 * time.Second)
	h.check()
}

// TestGraceCutsOffWhatItBegan: once the grace is over, the attempt counts as unknown, and another worker sends it again.
func TestGraceCutsOffWhatItBegan(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	called := make(chan struct{}, 9)
	h.partner.answers(func(r *http.Request, n int) reply {
		if n > 0 {
			return reply{status: 204}
		}
		return reply{status: 204, after: func(ctx context.Context) {
			called <- struct{}{}
			<-ctx.Done()
		}}
	})
	h.duplicates = 1
	h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
	tasks := h.enqueues()
	w := h.nearly(100 * time.Millisecond)
	r := h.send(proof("p-1"))
	<-called
	byLane := tasks.Load() > 0
	w.Shutdown()
	cutOff := func() bool {
		d := h.delivery(r.Deliveries[0].DeliveryID)
		return d.State == ledger.Retrying && d.Attempts[0].Reason == "unknown"
	}
	said := func() string { return "after the grace: " + h.delivery(r.Deliveries[0].DeliveryID).Summary }
	if !byLane && !cutOff() { // of a task from a lane, asynq does not wait for the recording
		t.Error(said())
	}
	h.eventually(10*time.Second, cutOff, said)
	h.work()
	h.awaitAll(20 * time.Second)
	h.check()
}

// TestNothingBeginsHereWhileEgressIsPaused: what is accepted meanwhile waits in the lanes.
func TestNothingBeginsHereWhileEgressIsPaused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.announce()
	h.register("payment_proof", "")
	h.nearly(0)
	_, err := h.client.PauseEgress(t.Context())
	h.must(err)
	for _, id := range eventIDs("p-", 10) {
		h.send(proof(id))
	}
	<-time.After(time.Second) // in which anything that began would have arrived
	if n := len(h.partner.requests()); n != 0 {
		t.Errorf("%d requests went out of a paused installation", n)
	}
	_, err = h.client.ResumeEgress(t.Context())
	h.must(err)
	h.awaitAll(20 * time.Second)
	h.check()
}

// TestKillOfWhatWasTaken: the process that accepted is killed before it begins, while its attempt is under way, or before that is recorded.
func TestKillOfWhatWasTaken(t *testing.T) {
	t.Parallel()
	for point, duplicates := range map[string]int{"taken": 0, "begun": 0, "posted": 1, "finished": 0} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			h.register("payment_proof", `"timeout": "1s"`)
			ids := eventIDs("p-", 50)
			h.start(childJob{Send: ids, Again: true, Near: true, KillAt: point}).dies()
			for _, id := range ids {
				if _, err := h.client.Event(t.Context(), acme, id); !errors.Is(err, ErrNotFound) {
					h.must(err)
					h.ack(proof(id))
				}
			}
			h.duplicates = duplicates + len(h.acked) - 1
			h.work()
			h.awaitAll(patience + time.Second + ownerGrace + reconcileEvery + slack)
			h.check()
			h.awaitIdle(10 * time.Second)
		})
	}
}

func TestPlacesAreShared(t *testing.T) {
	n := &near{shares: newShares(8)}
	n.ctx, n.cancel = context.WithCancel(t.Context())
	fill := func(company string) (got int) {
		for n.enter(company) {
			got++
		}
		return got
	}
	if a, b, c := fill("a"), fill("b"), fill("c"); a != 6 || b != 2 || c != 0 {
		t.Errorf("of 8 places, one who is alone has %d, the second %d, the third %d", a, b, c)
	}
	for range 4 {
		n.leave("a")
	}
	if a, c := fill("a"), fill("c"); a == 0 || c == 0 || a+c != 4 {
		t.Errorf("of 4 that came free, who had 2 has %d more, and a newcomer %d", a, c)
	}
	for company, taken := range n.shares.taken {
		for range taken {
			n.leave(company)
		}
	}
	if n.shares.free != 8 || len(n.shares.taken) != 0 {
		t.Errorf("once all have left, %d places are free and %v remembered", n.shares.free, n.shares.taken)
	}
	n.close(0, 0)
	if n.enter("a") {
		t.Error("after the end there is a place")
	}
}

// TestOneCompanyKeepsNobodyFromBeginning: one that has events for many callbacks that hang leaves places for others, which need no lane.
func TestOneCompanyKeepsNobodyFromBeginning(t *testing.T) {
	inBubble(t, func(h *house) {
		release := make(chan struct{})
		h.partner.answers(func(r *http.Request, _ int) reply {
			if r.URL.Path == "/other" {
				return reply{status: 204}
			}
			return reply{status: 204, after: func(context.Context) { <-release }}
		})
		for range 20 {
			h.register("payment_proof", `"timeout": "60s"`)
		}
		h.must(second(h.registry.Create(h.t.Context(), "other", []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+h.partner.url("other")+`"}}`))))
		w := h.nearly(0)
		for _, id := range eventIDs("p-", 20) { // 400 deliveries
			h.send(proof(id))
		}
		if taken := w.near.takenBy(acme); taken == 0 || taken == 2*fewAttempts/shareOfNear {
			h.t.Errorf("one company has %d places", taken)
		}
		tasks := h.enqueuesOf("other")
		for _, id := range eventIDs("o-", 20) {
			e := proof(id)
			e.Company = "other"
			r, err := h.client.Send(h.t.Context(), e)
			h.must(err)
			h.eventually(time.Second, func() bool {
				d, err := h.client.Delivery(h.t.Context(), "other", r.Deliveries[0].DeliveryID)
				return err == nil && d.State == ledger.Delivered
			}, func() string { return id + " waits behind the other company" })
		}
		if n := tasks.Load(); n > 3 { // one goes by the lanes where the look at what is paused comes too late
			t.Errorf("%d of another company's deliveries went by the lanes", n)
		}
		close(release)
		h.awaitAll(5 * time.Minute)
		h.partner.strike("/other") // the books are one company's
		h.check()
		w.Shutdown()
	})
}

// TestAnAcceptanceWhoseAnswerIsLostIsAttempted: who accepted cannot know what the step began, and asks. Nobody's attempt has to be given up first.
func TestAnAcceptanceWhoseAnswerIsLostIsAttempted(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		w := h.nearly(0)
		h.breaks(isScript(acceptScript), true, 1)
		if _, err := h.client.Send(h.t.Context(), proof("p-1")); !errors.Is(err, ErrUnavailable) {
			h.t.Errorf("the answer was lost: %v", err)
		}
		h.ack(proof("p-1"))
		h.awaitAll(10 * time.Second)
		if d := h.delivery(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID()); len(d.Attempts) != 1 {
			h.t.Errorf("%d attempts: %s", len(d.Attempts), d.Summary)
		}
		if r := h.send(proof("p-1")); !r.Duplicate {
			h.t.Error("the repeat is taken for another event")
		}
		h.check()
		w.Shutdown()
	})
}

// TestAStepThatBeganBeforeAPauseIsTakenBack: accepting takes so long that egress is paused meanwhile. Nothing goes out, and what began is pending again.
func TestAStepThatBeganBeforeAPauseIsTakenBack(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		w := h.nearly(0)
		h.strikes(acceptScript, &fault{slow: 2 * time.Second})
		var wg sync.WaitGroup
		wg.Go(func() { h.send(proof("p-1")) })
		time.Sleep(time.Second)
		_, err := h.client.PauseEgress(h.t.Context())
		h.must(err)
		wg.Wait()
		time.Sleep(10 * time.Second)
		d := h.delivery(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID())
		if n := len(h.partner.requests()); n != 0 || d.State != ledger.Pending || len(d.Attempts) != 0 {
			h.t.Errorf("paused, and %d requests went out: %s with %d attempts", n, d.State, len(d.Attempts))
		}
		_, err = h.client.ResumeEgress(h.t.Context())
		h.must(err)
		h.awaitAll(time.Minute)
		if d := h.delivery(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID()); len(d.Attempts) != 1 || d.Attempts[0].Number != 1 {
			h.t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		w.Shutdown()
	})
}

// TestWhatWasReservedIsGivenBack: whatever becomes of an event, its places and turns are free again.
func TestWhatWasReservedIsGivenBack(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		w := h.nearly(0)
		for _, f := range []*fault{{panics: true}, {}, {stored: true}} {
			h.strikes(acceptScript, f)
			if _, err := h.client.Send(h.t.Context(), proof("p-1")); err == nil {
				h.t.Error("the fault does nothing")
			}
		}
		h.send(proof("p-1"))
		h.awaitAll(2 * time.Minute)
		time.Sleep(10 * time.Second)
		h.wantAllFree(w)
		h.check()
		w.Shutdown()
	})
}

// TestAPageThatPanicsGivesItsPlacesBack: of its second event, the second callback cannot be looked at.
func TestAPageThatPanicsGivesItsPlacesBack(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		w := h.nearly(0)
		page := []*sending{h.client.newSending(h.t.Context(), proof("p-1"), false), h.client.newSending(h.t.Context(), proof("p-2"), false)}
		page[1].matched = append(page[1].matched, nil)
		if err := h.client.contain(h.t.Context(), placeEnqueue, func() error { h.client.acceptAll(h.t.Context(), page); return nil }); err == nil {
			h.t.Error("it does not panic")
		}
		h.wantAllFree(w)
		h.check()
		w.Shutdown()
	})
}

// wantAllFree fails the test unless all places and turns of acme's are free.
func (h *house) wantAllFree(w *Worker) {
	h.t.Helper()
	synctest.Wait()
	if taken := w.near.takenBy(acme); taken != 0 {
		h.t.Errorf("%d places are taken", taken)
	}
	w.limiter.mu.Lock()
	defer w.limiter.mu.Unlock()
	if n := len(w.limiter.by); n != 0 {
		h.t.Errorf("%d callbacks have turns taken", n)
	}
}

// strikes has the fault strike a script's next call.
func (h *house) strikes(script *redis.Script, f *fault) {
	h.t.Helper()
	h.must(script.Load(h.t.Context(), h.rdb).Err()) // else the call is made twice
	f.matches = isScript(script)
	f.left.Store(1)
	h.rdb.AddHook(f)
}

// TestALostAcceptanceDoesNotPassAGate: the callback is paused, or moved to a URL that is not verified, before the answer that was lost is searched for.
func TestALostAcceptanceDoesNotPassAGate(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		w := h.nearly(0)
		h.strikes(acceptScript, &fault{stored: true})
		h.strikes(beginScript, &fault{slow: time.Second})
		if _, err := h.client.Send(h.t.Context(), proof("p-1")); err == nil {
			h.t.Error("the answer is not lost")
		}
		h.ack(proof("p-1"))
		h.must(second(h.registry.Pause(h.t.Context(), acme, cb.ID)))
		id := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}.DeliveryID()
		h.await(id, ledger.Held, 10*time.Second)
		if n := len(h.partner.requests()); n != 0 {
			h.t.Errorf("%d requests went to a paused callback", n)
		}
		h.must(second(h.registry.Resume(h.t.Context(), acme, cb.ID)))
		h.awaitAll(time.Minute)
		if d := h.delivery(id); len(d.Attempts) != 1 || d.Attempts[0].Number != 1 {
			h.t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		w.Shutdown()
	})
}

// TestWhatTookMostOfItsLeaseIsTakenBack: else its attempt would outlive the lease, and another's would begin beside it.
func TestWhatTookMostOfItsLeaseIsTakenBack(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		w := h.nearly(0)
		h.strikes(acceptScript, &fault{slow: ownerGrace})
		tasks := h.enqueues()
		h.send(proof("p-1"))
		h.awaitAll(time.Minute)
		if tasks.Load() != 1 {
			h.t.Error("it was attempted though its lease was nearly over")
		}
		if d := h.delivery(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID()); len(d.Attempts) != 1 {
			h.t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		w.Shutdown()
	})
}

// TestUnbegin: what is given back is as it was, and what was cancelled meanwhile is nobody's.
func TestUnbegin(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503, 204))
		cb := h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
		stop := h.work()
		id := h.send(proof("p-1")).Deliveries[0].DeliveryID
		h.await(id, ledger.Retrying, time.Minute)
		stop()
		time.Sleep(2 * time.Hour)
		w := h.worker() // never started: it begins, and ends nothing
		r := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}
		begin := func() *claim {
			a, err := w.begin(h.t.Context(), ticket(r.Event, r.Callback, 1), true, 0)
			h.must(err)
			if a == nil || a.number != 2 {
				h.t.Fatalf("it does not begin its second attempt: %+v", a)
			}
			return a
		}
		w.unbegin(h.t.Context(), &claim{attempt: attempt{ref: r}, token: "strangers"})
		w.unbegin(h.t.Context(), begin())
		if d := h.delivery(id); d.State != ledger.Pending || len(d.Attempts) != 1 {
			h.t.Errorf("given back: %s", d.Summary)
		}
		a := begin()
		h.must(second(h.client.Cancel(h.t.Context(), acme, id)))
		w.unbegin(h.t.Context(), a)
		h.must(second(h.client.Replay(h.t.Context(), acme, id))) // nobody's attempt is waited for
		stop = h.work()
		h.awaitAll(time.Minute)
		h.check()
		stop()
	})
}

// TestWhoBeginsAtOnceIsNotAlone: a company whose deliveries all begin as they are accepted is seen by what others are held back for.
func TestWhoBeginsAtOnceIsNotAlone(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		event := h.other()
		w := h.nearly(0)
		tasks := h.enqueues()
		h.send(proof("p-1"))
		time.Sleep(2 * time.Second) // of the bubble
		if !h.client.lanes.Lone().Is() {
			h.t.Error("one company is not alone")
		}
		h.must(second(h.client.Send(h.t.Context(), event("o-1"))))
		if h.client.lanes.Lone().Is() || tasks.Load() > 0 {
			h.t.Errorf("two companies are one, or %d of two deliveries went by the lanes", tasks.Load())
		}
		h.awaitAll(10 * time.Second)
		time.Sleep(time.Second) // of the bubble: awaitAll knows nothing of the other company's
		h.partner.strike("/other")
		h.check()
		w.Shutdown()
	})
}
