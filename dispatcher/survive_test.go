package dispatcher

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// TestARoundWithoutTheTime: a user of Redis that may not ask for the time, or a proxy that holds back the answer, costs a round what depends on
// it, and not the process.
func TestARoundWithoutTheTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", "")
	h.send(proof("p-1"))
	for _, company := range eventIDs("company-", 6) { // a zero time, modulo seven, is a negative index
		h.must(h.registry.Touch(t.Context(), company))
	}
	h.must(h.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-time").Err())
	w := h.worker()
	for range 3 {
		if w.round(t.Context(), true) {
			t.Error("a round without Redis's time is said to have gone well")
		}
	}
	h.must(h.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "+time").Err())
	if !w.round(t.Context(), true) {
		t.Error("with it, the round does not go well")
	}
	h.work()
	h.awaitAll(10 * time.Second)
	h.check()
}

// TestARoomThatFailsKeepsNoOtherFromItsTurn: what is wrong with one callback's room, and stays so, is noted each round, and the others are pumped.
func TestARoomThatFailsKeepsNoOtherFromItsTurn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	_, err := h.registry.Pause(t.Context(), acme, cb.ID)
	h.must(err)
	h.send(proof("p-1"))
	room := ledger.Key(acme, fmt.Sprintf("room:%d", cb.ID))
	if n := h.rdb.ZCard(t.Context(), room).Val(); n != 1 {
		t.Fatalf("%d are held, want 1", n)
	}
	_, err = h.registry.Resume(t.Context(), acme, cb.ID) // whoever opened the gate died before it pumped
	h.must(err)
	h.must(h.rdb.ZAdd(t.Context(), registry.RoomsKey(acme), redis.Z{Score: -1, Member: "unreadable"}).Err())
	if err := h.worker().pumpRooms(t.Context(), acme, time.Now()); err == nil {
		t.Error("a room that failed is not told of")
	}
	if n := h.rdb.ZCard(t.Context(), room).Val(); n != 0 {
		t.Errorf("%d are held behind the room that failed", n)
	}
}

// TestAFailingTrimIsNotRepeatedEachRound: a company whose prune fails for good makes no more work than one minute's round.
func TestAFailingTrimIsNotRepeatedEachRound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.must(h.rdb.Set(t.Context(), ledger.Key(acme, "dead"), "no set", 0).Err())
	w := h.worker()
	w.turn(t.Context())
	if w.rounds.trimmed.IsZero() {
		t.Error("the next round trims all companies again")
	}
}

// panics are how many were counted at each place.
func panics(t *testing.T, reader *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	_ = reader.Collect(t.Context(), &all) // a callback that panicked makes an error of it
	counts := make(map[string]int64)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if data, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "ringback.panics" {
				for _, p := range data.DataPoints {
					if place, _ := p.Attributes.Value(attribute.Key("place")); p.Value > 0 {
						counts[place.AsString()] = p.Value
					}
				}
			}
		}
	}
	return counts
}

// watched is a house option that reads the client's metrics.
func watched(reader *sdkmetric.ManualReader) houseOption {
	return func(c *Config) { c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) }
}

// TestPanicsEndNothing: wherever an attempt panics, once, it is repaired as after a kill, and the next ones go on.
func TestPanicsEndNothing(t *testing.T) {
	for at, place := range map[string]string{
		"dequeued": placeTask, "begun": placeTask, "posted": placeAttempt, "finished": placeTask, "popped": placeTask,
	} {
		t.Run(at, func(t *testing.T) {
			reader := sdkmetric.NewManualReader()
			inBubble(t, func(h *house) {
				h.duplicates = 1
				var once atomic.Bool
				h.client.failpoint = func(name string) {
					if name == at && once.CompareAndSwap(false, true) {
						panic("for a test")
					}
				}
				h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "1s"}`)
				for _, id := range eventIDs("p-", 3) {
					h.send(proof(id))
				}
				stop := h.work()
				h.awaitAll(2 * time.Minute)
				h.check()
				stop()
				h.wantPanics(reader, place, 1)
			}, impatient, watched(reader), withWindow(1))
		})
	}
}

// TestAPanicWhileConnectingEndsNothing: net/http opens connections in goroutines of its own, where nobody else would catch it.
func TestAPanicWhileConnectingEndsNothing(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	inBubble(t, func(h *house) {
		var once atomic.Bool
		out, err := egress.New(egress.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if once.CompareAndSwap(false, true) {
				panic("for a test")
			}
			return h.out.Dial(ctx, network, addr)
		}})
		h.must(err)
		defer out.Close()
		h.must(h.client.Close())
		h.cfg.Egress = out
		h.client, err = New(h.cfg)
		h.must(err)
		h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
		h.send(proof("p-1"))
		stop := h.work()
		h.awaitAll(time.Minute)
		h.check()
		stop()
		h.wantPanics(reader, placeConnection, 1)
	}, watched(reader))
}

// TestWhatAlwaysPanicsEndsInTheBook: paced by the callback's schedule, and not in a loop.
func TestWhatAlwaysPanicsEndsInTheBook(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	inBubble(t, func(h *house) {
		h.duplicates = 2
		h.client.failpoint = func(name string) {
			if name == "posted" {
				panic("for a test")
			}
		}
		h.register("payment_proof", `"retry": {"initial_interval": "5s", "multiplier": 2, "max_attempts": 3}`)
		h.poll = time.Second
		stop := h.work()
		d := h.await(h.send(proof("p-1")).Deliveries[0].DeliveryID, ledger.Dead, time.Minute)
		h.wantGaps([2]time.Duration{4 * time.Second, 6 * time.Second}, [2]time.Duration{8 * time.Second, 12 * time.Second})
		if len(d.Attempts) != 3 || d.Attempts[2].Reason != verdict.ReasonUnknown {
			h.t.Errorf("%+v", d)
		}
		stop()
		h.wantPanics(reader, placeAttempt, 3)
	}, watched(reader))
}

// TestAPanicIsContainedWhereItIs: by the company in a round, by the round, by the task in a page, by the timer, and in what others call.
func TestAPanicIsContainedWhereItIs(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	inBubble(t, func(h *house) {
		ctx := h.t.Context()
		panicsAt := func(matches func(redis.Cmder) bool) {
			f := &fault{matches: matches, panics: true}
			f.left.Store(1)
			h.rdb.AddHook(f)
		}
		cb := h.register("payment_proof", "")
		h.register("*", "")
		for _, s := range []*redis.Script{acceptScript, overdueScript, pumpScript} {
			h.must(s.Load(ctx, h.rdb).Err())
		}
		h.send(proof("warm"))

		panicsAt(isEnqueue)
		h.send(proof("p-1")) // two tasks, of which one is not enqueued
		h.wantPanics(reader, placeEnqueue, 1)

		_, err := h.registry.Create(ctx, "another", []byte(`{"callback_type": "*", "destination": {"url": "https://partner.example/"}}`))
		h.must(err)
		h.overdue()
		h.must(h.rdb.ZAdd(ctx, ledger.Key("another", "due"), redis.Z{Score: 1, Member: "gone/1"}).Err())
		overdue := 0
		panicsAt(func(cmd redis.Cmder) bool {
			if !isScript(overdueScript)(cmd) {
				return false
			}
			overdue++
			return true
		})
		w := h.worker()
		if w.round(ctx, false) || overdue != 2 {
			h.t.Errorf("a round looked at %d companies of 2", overdue)
		}
		h.wantPanics(reader, placeReconciler, 1)

		panicsAt(isScript(pumpScript))
		h.client.pumps.after(ctx, callbackKey{acme, cb.ID}, time.Second)
		<-time.After(2 * time.Second)
		h.wantPanics(reader, placePacer, 1)

		panicsAt(func(cmd redis.Cmder) bool { return cmd.Name() == "hgetall" && cmd.Args()[1] == "ringback:buried" })
		h.wantPanics(reader, placeMetrics, 1)

		panicsAt(func(cmd redis.Cmder) bool { return cmd.Name() == "hincrby" && cmd.Args()[1] == beatsKey }) // outside of any company
		stop := h.work()
		h.awaitAll(time.Minute)
		h.check()
		stop()
		h.wantPanics(reader, placeReconciler, 2)
	}, impatient, watched(reader))
}

// wantPanics fails the test unless so many were counted at a place.
func (h *house) wantPanics(reader *sdkmetric.ManualReader, place string, n int64) {
	h.t.Helper()
	if got := panics(h.t, reader); got[place] != n {
		h.t.Errorf("counted %v, want %d in the %s", got, n, place)
	}
}
