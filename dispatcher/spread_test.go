package dispatcher

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestNothingIsLostAsLanesChange, and nothing is delivered twice: while two processes work, one of them is killed, events are sent, and retries wait in lanes
// that are no more.
func TestNothingIsLostAsLanesChange(t *testing.T) {
	t.Parallel()
	for _, kill := range []string{"", "begun"} {
		t.Run(cmp.Or(kill, "none is killed"), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			for range 12 {
				h.register("payment_proof", `"retry": {"initial_interval": "1s", "multiplier": 1, "max_attempts": 50}`)
			}
			h.partner.answers(func(r *http.Request, n int) reply {
				if n == 0 && strings.HasSuffix(r.Header.Get("Ringback-Event-Id"), "5") { // few: a breaker takes its time
					return reply{status: http.StatusServiceUnavailable}
				}
				return reply{status: http.StatusNoContent}
			})
			h.work()
			other := h.start(childJob{Work: true, KillAt: kill, After: 20})
			spread := func(count int) {
				h.must(h.client.lanes.Set(t.Context(), count, func(before int) string {
					return registry.AuditLine(t.Context(), "", "lanes.update", "lanes", registry.AuditChange{Field: "count", Old: before, New: count})
				}))
			}
			for step, count := range []int{4, 8, 2, 4} {
				spread(count)
				h.sendAll(eventIDs(fmt.Sprint("s", step, "-"), 8))
			}
			if kill != "" {
				other.dies()
				h.duplicates = workerConfig(h.cfg.Patience, 0).Concurrency // what it had under way at that instant
			}
			h.awaitAll(30 * time.Second)
			h.check()
		})
	}
}

// TestNothingGoesOutInAHaltWhileLanesChange: no process begins an attempt, whichever lanes it takes from, and what waited comes after it.
func TestNothingGoesOutInAHaltWhileLanesChange(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 8 {
		h.register("payment_proof", "")
	}
	h.work()
	h.start(childJob{Work: true})
	h.sendAll(eventIDs("before-", 8))
	_, err := h.client.PauseEgress(t.Context())
	h.must(err)
	paused := time.Now()
	h.sendAll(eventIDs("paused-", 2))
	for _, count := range []int{8, 2, 6} {
		h.must(h.client.lanes.Set(t.Context(), count, func(int) string { return "{}" }))
		h.sendAll(eventIDs(fmt.Sprint("of-", count, "-"), 4))
		if count == 6 { // as asynq's own tool, or a program of before, has them go on
			for _, lane := range h.client.Queues() {
				h.must(h.rdb.Del(t.Context(), "asynq:{"+lane+"}:paused").Err())
			}
		}
		<-time.After(2 * haltLook)
	}
	resumed := time.Now()
	e, err := h.client.ResumeEgress(t.Context())
	if err != nil || e.Status != EgressRunning {
		t.Errorf("%+v, %v", e, err)
	}
	h.awaitAll(30 * time.Second)
	h.wantNoneBegun(paused, resumed)
	h.check()
}

// TestWhatIsInALaneThatNobodyKnowsIsBrought: a process that could not read the number for long put it there.
func TestWhatIsInALaneThatNobodyKnowsIsBrought(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	cb := h.register("payment_proof", "")
	d := h.send(proof("p-1")).Deliveries[0]
	ref := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}
	h.must(h.inspector().DeleteTask(laneOf(ref), taskID(ref, 1)))
	_, err := asynq.NewClientFromRedisClient(h.rdb).Enqueue(taskOf(t, ref, 1), asynq.TaskID(taskID(ref, 1)), asynq.Queue("ringback-60"))
	h.must(err)
	h.work()
	h.await(d.DeliveryID, ledger.Delivered, 10*time.Second)
	h.check()
}

// TestAWorkerHasPlacesInEveryLane that there is, and gives those up that are empty in its rounds.
func TestAWorkerHasPlacesInEveryLane(t *testing.T) {
	inBubble(t, func(h *house) {
		w := h.worker()
		places := func(lanes ...string) (n []int) {
			for _, lane := range lanes {
				w.shares[lane].mu.Lock()
				n = append(n, w.shares[lane].free)
				w.shares[lane].mu.Unlock()
			}
			return n
		}
		want := func(when string, places []int, turns int, want ...int) {
			h.t.Helper()
			if !slices.Equal(places, want) || w.limiter.turns() != turns {
				h.t.Errorf("%s: places %v, want %v; %d turns, want %d", when, places, want, w.limiter.turns(), turns)
			}
		}
		want("four lanes", places("ringback-0", "ringback-3", "ringback-7", slowLane), 4, 12, 12, 0, 16)
		h.must(w.client.lanes.Set(h.t.Context(), 8, func(int) string { return "{}" }))
		h.must(w.Start())
		want("eight", places("ringback-0", "ringback-3", "ringback-7", slowLane), 2, 6, 6, 6, 16)
		h.must(w.client.lanes.Set(h.t.Context(), 2, func(int) string { return "{}" }))
		time.Sleep(2 * reconcileEvery) // what is told may come before the worker listens
		want("two, and what is in the others", places("ringback-0", "ringback-3", "ringback-7", slowLane), 4, 18, 2, 2, 16)
		w.Shutdown()
		for range 20 { // minutes of servers would take long
			w.round(h.t.Context(), false)
			time.Sleep(10 * time.Second)
		}
		if high := h.rdb.HGet(h.t.Context(), "ringback:lanes", "high").Val(); high != "2" {
			h.t.Errorf("%s lanes are looked into", high)
		}
	})
}

// TestSetLanes: it is refused while somebody is alive who believes in four, told of by name; and then the number is everybody's, with one line in the trail,
// and programs of before do not start any more.
func TestSetLanes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, count := range []int{-1, 0, MostLanes + 1} {
		_, err := h.client.SetLanes(t.Context(), count)
		if invalid, ok := errors.AsType[*payloads.InvalidError](err); !ok || invalid.Fields[0].Location != "body.count" {
			t.Errorf("%d lanes: %v", count, err)
		}
	}
	forget, err := registry.Announce(t.Context(), h.rdb, nil, registry.Process{ID: "old", Level: registry.ModelLevel - 1, Host: "elder", PID: 7}, testLog(t))
	h.must(err)
	_, err = h.client.SetLanes(t.Context(), 8)
	if old, ok := errors.AsType[*registry.OldProcessError](err); !ok || old.Old[0].Host != "elder" || !strings.Contains(err.Error(), "elder") {
		t.Errorf("beside an older one: %v", err)
	}
	if same, err := h.client.SetLanes(t.Context(), 4); err != nil || same.Count != 4 || len(same.Lanes) != 5 {
		t.Errorf("beside an older one, as many as it knows: %+v, %v", same, err)
	}
	if n := h.rdb.Exists(t.Context(), "ringback:lanes").Val(); n != 0 {
		t.Error("a number is written beside an older one")
	}
	h.must(forget(t.Context()))
	var set *Lanes
	h.eventually(30*time.Second, func() bool { set, err = h.client.SetLanes(t.Context(), 8); return err == nil }, func() string { return err.Error() })
	if set.Count != 8 || len(set.Draining) > 0 || len(set.Lanes) != 9 || set.Lanes[8].Lane != slowLane {
		t.Errorf("%+v", set)
	}
	if n, err := ledger.Written(t.Context(), h.rdb); err != nil || n < 2 {
		t.Errorf("the data model is %d, %v: a program of before starts", n, err)
	}
	set, err = h.client.SetLanes(t.Context(), 6)
	h.must(err)
	if set.Count != 6 || !slices.Equal(set.Draining, []string{"ringback-6", "ringback-7"}) || len(set.Lanes) != 9 {
		t.Errorf("%+v", set)
	}
	lines, _, err := h.registry.Audit(t.Context(), registry.AuditQuery{})
	h.must(err)
	if len(lines) != 2 || lines[0].Action != "lanes.update" || fmt.Sprint(lines[0].Changes) != "[{count 8 6}]" {
		t.Errorf("%+v", lines)
	}
	h.redis.Kill()
	if _, err := h.client.SetLanes(t.Context(), 4); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
}
