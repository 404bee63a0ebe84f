package dispatcher

import (
	"context"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// other registers a callback of another company's and returns an event for it.
func (h *house) other() func(id string) payloads.Event {
	h.t.Helper()
	h.must(second(h.registry.Create(h.t.Context(), "other", []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+h.partner.url("other")+`"}}`))))
	return func(id string) payloads.Event {
		e := proof(id)
		e.Company = "other"
		return e
	}
}

// TestACompanyThatHangsLeavesPlaces: of a worker that takes from the lanes, one company with many callbacks that hang has no more than its share, so
// that another's deliveries go out at once.
func TestACompanyThatHangsLeavesPlaces(t *testing.T) {
	inBubble(t, func(h *house) {
		release := make(chan struct{})
		var under atomic.Int64
		h.partner.answers(func(r *http.Request, _ int) reply {
			if r.URL.Path == "/other" {
				return reply{status: 204}
			}
			return reply{status: 204, after: func(context.Context) {
				under.Add(1)
				<-release
			}}
		})
		for range 40 {
			h.register("payment_proof", `"timeout": "60s"`)
		}
		event := h.other()
		cfg := workerConfig(h.cfg.Patience, h.poll)
		cfg.Concurrency = 2 * fewAttempts
		w, err := NewWorker(h.client, cfg)
		h.must(err)
		h.must(w.Start())
		for _, id := range eventIDs("p-", 20) { // 800 deliveries
			h.send(proof(id))
		}
		h.eventually(10*time.Second, func() bool { return under.Load() > fewAttempts/2 }, func() string { return "few are under way" })
		time.Sleep(time.Second) // of the bubble
		began := time.Now()
		for _, id := range eventIDs("o-", 20) {
			r, err := h.client.Send(h.t.Context(), event(id))
			h.must(err)
			h.eventually(5*time.Second, func() bool {
				d, err := h.client.Delivery(h.t.Context(), "other", r.Deliveries[0].DeliveryID)
				return err == nil && d.State == ledger.Delivered
			}, func() string {
				return id + " waits behind the other company, which has " + strconv.FormatInt(under.Load(), 10) + " under way"
			})
		}
		t.Logf("20 of another company took %s, one after another", time.Since(began))
		close(release)
		h.awaitAll(10 * time.Minute)
		h.partner.strike("/other") // the books are one company's
		h.check()
		w.Shutdown()
	})
}

// TestSharesAreResized: who has a place keeps it, and it is not given out again while there are fewer.
func TestSharesAreResized(t *testing.T) {
	t.Parallel()
	s := newShares(4)
	for range 3 {
		s.enter("one")
	}
	s.resize(2)
	if s.enter("another") || !s.crowded("one") {
		t.Error("a place that there is no more is given out")
	}
	s.leave("one")
	if s.enter("another") {
		t.Error("a place that there is no more is given out as another ends")
	}
	s.resize(4)
	if !s.enter("another") || s.free != 1 {
		t.Errorf("with as many as before, %d are free", s.free)
	}
}

// TestACrowdWaitsForItsTurns: the lanes hold few of one company's, and another's come in all the same.
func TestACrowdWaitsForItsTurns(t *testing.T) {
	inBubble(t, func(h *house) { // in which sending takes no time
		cb := h.register("payment_proof", "")
		event := h.other()
		h.must(second(h.client.Send(h.t.Context(), event("o-0"))))
		for _, id := range eventIDs("p-", 100) {
			h.send(proof(id))
		}
		lane := laneOf(ledger.Ref{Company: acme, Event: "", Callback: cb.ID})
		time.Sleep(time.Millisecond) // of the bubble
		if d := h.depth(lane); d.Oldest == 0 || d.Waiting < 80 || d.Tasks["pending"]+d.Waiting < 100 {
			h.t.Errorf("the lane holds %v, and %d wait", d.Tasks, d.Waiting)
		}
		h.must(second(h.client.Send(h.t.Context(), event("o-1"))))
		stop := h.work()
		h.awaitAll(time.Minute)
		for _, id := range []string{"o-0", "o-1"} {
			h.eventually(10*time.Second, func() bool {
				e, err := h.client.Event(h.t.Context(), "other", id)
				return err == nil && e.Deliveries[0].State == ledger.Delivered
			}, func() string { return id + " of the other company is not delivered" })
		}
		h.partner.strike("/other")
		h.check()
		stop()
	})
}

// TestTheEndLetsAllIn: what waits to come into the lanes when a client is closed is brought there.
func TestTheEndLetsAllIn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	event := h.other()
	_, err := h.client.Send(t.Context(), event("o-0"))
	h.must(err)
	for _, id := range eventIDs("p-", 60) {
		h.send(proof(id))
	}
	h.client.lanes.Close()
	var n int
	for _, lane := range queues {
		n += h.depth(lane).Tasks["pending"]
	}
	if n != 61 {
		t.Errorf("the lanes hold %d tasks, want 61", n)
	}
	h.work()
	h.awaitAll(20 * time.Second)
	h.eventually(10*time.Second, func() bool { return len(h.tasks()) == 0 }, func() string { return "tasks are left" })
	h.partner.strike("/other")
	h.check()
}

// TestWeight: a company that an operator gave a weight has it when its tasks wait, and any other one.
func TestWeight(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	weight := int64(3)
	h.must(second(h.client.SetQuotas(t.Context(), acme, map[string]*int64{registry.QuotaWeight: &weight})))
	if a, b := h.client.weight(t.Context(), acme), h.client.weight(t.Context(), "other"); a != 3 || b != 1 {
		t.Errorf("weights %d and %d, want 3 and 1", a, b)
	}
	h.redis.Kill()
	if got := h.client.weight(t.Context(), acme); got != 1 {
		t.Errorf("without Redis it has %d", got)
	}
}
