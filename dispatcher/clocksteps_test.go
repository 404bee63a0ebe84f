package dispatcher

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/steady"
)

// A moved clock is one the clock of a bubble's Redis.
type moved struct {
	h     *house
	mu    sync.Mutex
	ahead time.Duration
}

func newMoved(h *house) *moved {
	s := &moved{h: h}
	h.rdb.AddHook(s)
	return s
}

func (s *moved) by(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = d
}

func (s *moved) show() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.h.mini.SetTime(time.Now().Add(s.ahead))
}

func (s *moved) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *moved) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.show()
		return next(ctx, cmd)
	}
}

func (s *moved) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.show()
		return next(ctx, cmds)
	}
}

// arrivals are the times at which what was sent to a path arrived.
func (h *house) arrivals(path string) (all []time.Time) {
	for _, r := range h.partner.requests() {
		if r.path == path {
			all = append(all, r.at)
		}
	}
	return all
}

// TestDeliveriesGoOnWhereRedisClockSteps: whatever waits for its time waits for that time, and nothing ages by the step. killed: the processes
// end before the step, and others start after it.
func TestDeliveriesGoOnWhereRedisClockSteps(t *testing.T) {
	for _, by := range []time.Duration{120 * time.Second, -120 * time.Second, time.Hour, -time.Hour} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/killed=%t", by, killed), func(t *testing.T) {
				clockSteps(t, by, killed)
			})
		}
	}
}

func clockSteps(t *testing.T, by time.Duration, killed bool) {
	t.Helper()
	const delay = time.Minute  // about, since retries are spread
	unseen := killed && by > 0 // nobody can tell that from a time without processes, so what is due by then is due
	short := func(c *Config) {
		if unseen {
			return
		}
		c.HoldMaxAge, c.Retention, c.DisableAfter, c.DeadRetention = 30*time.Minute, 30*time.Minute, 30*time.Minute, 30*time.Minute
	}
	inBubble(t, func(h *house) {
		t := h.t
		redisClock := newMoved(h)
		h.partner.answers(func(r *http.Request, n int) reply {
			switch {
			case r.URL.Path == "/dead", r.URL.Path == "/later" && n == 0:
				return reply{status: 500}
			}
			return reply{status: 204}
		})
		later := h.at("later", `"retry": {"initial_interval": "60s", "multiplier": 1}`)
		held, dead, fine := h.at("held", ""), h.at("dead", `"retry": {"max_attempts": 1}`), h.at("fine", "")
		h.at("slow", `"rate_limit": {"per_second": 0.1, "burst": 1}`)
		_, err := h.registry.Pause(t.Context(), acme, held.ID)
		h.must(err)
		stop := h.work()
		for i := range 8 {
			h.send(proof(fmt.Sprintf("p-%d", i)))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(20 * time.Second)
		ref := func(id int64) string { return ledger.Ref{Company: acme, Event: "p-0", Callback: id}.DeliveryID() }
		h.await(ref(later.ID), ledger.Retrying, time.Second)
		h.await(ref(dead.ID), ledger.Dead, time.Second)
		due := map[string]time.Time{}
		for i := range 8 {
			id := ledger.Ref{Company: acme, Event: fmt.Sprintf("p-%d", i), Callback: later.ID}.DeliveryID()
			due[id] = h.delivery(id).NextAttemptAt
		}
		slept := time.Duration(0)
		if killed {
			stop()
			h.must(h.client.Close())
		}
		redisClock.by(by)
		if killed {
			time.Sleep(time.Second)
			slept = time.Second + 5*time.Second // the time is written down now and then
			h.client, err = New(h.cfg)
			h.must(err)
			stop = h.work()
		}
		time.Sleep(5 * time.Second)
		h.await(ref(held.ID), ledger.Held, time.Second) // nothing aged
		h.await(ref(dead.ID), ledger.Dead, time.Second)
		if d := h.delivery(ref(fine.ID)); d.State != ledger.Delivered {
			t.Errorf("what was delivered is %s", d.State)
		}
		_, err = h.client.Resume(t.Context(), acme, held.ID, false)
		h.must(err)
		h.send(proof("p-9"))
		time.Sleep(10 * time.Second)
		if got := len(h.arrivals("/held")); got != 9 {
			t.Errorf("%d of 9 came out of the room at once", got)
		}
		time.Sleep(2 * delay)
		for _, r := range h.partner.requests() {
			at, ok := due[r.id]
			if !ok || r.status != 204 {
				continue
			}
			delete(due, r.id)
			if late := r.at.Sub(at); late > 10*time.Second+slept || late < -time.Second && !unseen {
				t.Errorf("a retry is made %v after its time", late)
			}
		}
		if len(due) > 0 {
			t.Errorf("%d of 8 retries are not made", len(due))
		}
		if got := h.arrivals("/slow"); len(got) < 9 {
			t.Errorf("%d of 9 came through the rate limit", len(got))
		}
		for i, order := 1, h.partner.requests(); i < len(order); i++ {
			if a, b := order[i-1], order[i]; a.path == "/held" && b.path == "/held" && a.body > b.body && b.at.Sub(a.at) > time.Second { // they are sent several at a time
				t.Errorf("out of order: %s before %s", a.body, b.body)
			}
		}
		listed, _, err := h.client.Deliveries(t.Context(), acme, Query{Limit: MaxLimit})
		h.must(err)
		if len(listed) != 9*5 || listed[0].EventID != "p-9" {
			t.Errorf("%d of 45 are listed, %s first", len(listed), listed[0].EventID)
		}
		for i := 1; i < len(listed); i++ {
			if listed[i].AcceptedAt.After(listed[i-1].AcceptedAt) {
				t.Errorf("%s is listed after an older one", listed[i].EventID)
			}
		}
		if health := h.health(later.ID); health.Breaker != BreakerClosed {
			t.Errorf("the breaker is %s", health.Breaker)
		}
		cb, err := h.registry.Get(t.Context(), acme, dead.ID)
		h.must(err)
		if cb.Status != "enabled" {
			t.Errorf("the failing one is %s", cb.Status)
		}
		h.awaitAll(10 * time.Minute)
		stop()
		h.check()
		if fields := h.rdb.HGetAll(t.Context(), steady.Key).Val(); len(fields) == 0 {
			t.Error("the time is nowhere written down")
		}
	}, short)
}

// TestARetryThatAsynqKeepsTooLongIsRun: asynq keeps it by the clock of a machine, which somebody set back.
func TestARetryThatAsynqKeepsTooLongIsRun(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(500, 204))
		cb := h.register("payment_proof", `"retry": {"initial_interval": "10s"}`)
		stop := h.work()
		h.send(proof("p-1"))
		ref := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}
		due := h.await(ref.DeliveryID(), ledger.Retrying, time.Second).NextAttemptAt
		h.eventually(time.Second*5, func() bool { return len(h.retries()) == 1 }, func() string { return "asynq does not keep it" })
		key := "asynq:{" + laneOf(ref) + "}:retry"
		h.must(h.rdb.ZAddXX(h.t.Context(), key, redis.Z{Score: float64(due.Add(time.Hour).Unix()), Member: taskID(ref, 1)}).Err())
		h.await(ref.DeliveryID(), ledger.Delivered, 2*time.Minute)
		h.wantTook(due, patience)
		h.check()
		stop()
	})
}
