package dispatcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestSendAll accepts each event for itself: what is wrong with one, twice there or matched by an outdated registry harms no other.
func TestSendAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.send(proof("known"))
	// Another process registers a callback, which this one has not heard of; and Redis forgets its scripts.
	other, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	late, err := other.Create(t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+h.partner.url("2")+`"}}`))
	h.must(err)
	h.partner.knows(late)
	h.must(h.rdb.ScriptFlush(t.Context()).Err())

	events := []payloads.Event{proof("first"), proof("known"), proof("first")}
	changed := proof("known")
	changed.Payload = json.RawMessage(`{"requestId": "other", "status": "OK"}`)
	events = append(events, changed, payloads.Event{Company: acme, ID: "bad", Type: "payment_proof", Payload: json.RawMessage(`[]`)},
		payloads.Event{Company: acme, ID: "unknown", Type: "nothing", Payload: json.RawMessage(`{}`)})
	many := eventIDs("p-", sendPage+10)
	for _, id := range many {
		events = append(events, proof(id))
	}
	got := h.client.SendAll(t.Context(), events)
	if len(got) != len(events) {
		t.Fatalf("%d results of %d events", len(got), len(events))
	}
	for i, want := range []struct {
		duplicate bool
		callbacks int
	}{{false, 2}, {true, 1}, {true, 2}} {
		if r := got[i].Receipt; got[i].Err != nil || r.Duplicate != want.duplicate || len(r.Deliveries) != want.callbacks || r.EventID != events[i].ID {
			t.Errorf("event %d: %+v, %v", i, r, got[i].Err)
		}
	}
	if !errors.Is(got[3].Err, ErrEventConflict) {
		t.Errorf("other content under a known id: %v", got[3].Err)
	}
	for _, s := range got[4:6] {
		if _, ok := errors.AsType[*payloads.InvalidError](s.Err); !ok {
			t.Errorf("what does not fit: %v", s.Err)
		}
	}
	for i, s := range got[6:] {
		if s.Err != nil || s.Receipt.Duplicate || len(s.Receipt.Deliveries) != 2 {
			t.Errorf("%s: %+v, %v", many[i], s.Receipt, s.Err)
		}
		h.ack(proof(many[i]))
	}
	h.ack(proof("first"))
	h.work()
	h.awaitAll(20 * time.Second)
	h.check()
}

// TestSendAllFails: a page whose answers were lost is repeated by its caller, and accepted once.
func TestSendAllFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", "")
	events := []payloads.Event{proof("p-1"), proof("p-2"), proof("p-3")}
	h.must(h.rdb.ConfigSet(t.Context(), "appendfsync", "always").Err()) // everysec puts writes off while the disk is busy
	h.send(proof("warm"))                                               // the callbacks are known, and the script
	h.redis.Kill()
	for i, s := range h.client.SendAll(t.Context(), events) {
		if !errors.Is(s.Err, ErrUnavailable) || s.Receipt.EventID != "" {
			t.Errorf("event %d without Redis: %+v, %v", i, s.Receipt, s.Err)
		}
	}
	h.redis.Restart()
	h.eventually(10*time.Second, func() bool { return h.client.SendAll(t.Context(), events)[0].Err == nil }, func() string { return "Redis is back, and events are not taken" })
	for i, s := range h.client.SendAll(t.Context(), events) {
		if s.Err != nil || !s.Receipt.Duplicate {
			t.Errorf("event %d again: %+v, %v", i, s.Receipt, s.Err)
		}
		h.ack(events[i])
	}
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

// BenchmarkSend compares accepting events one by one with accepting them by the page, from as many callers, for one callback.
func BenchmarkSend(b *testing.B) {
	for _, page := range []int{1, sendPage} {
		b.Run(fmt.Sprintf("page=%d", page), func(b *testing.B) {
			c := benchmarkClient(b)
			b.ResetTimer()
			eachOf(b, 16, b.N/page+1, func(k int) {
				events := make([]payloads.Event, page)
				for i := range events {
					events[i] = payloads.Event{
						Company: acme, ID: fmt.Sprintf("e-%d-%d", k, i), Type: "payment_proof",
						Payload: fmt.Appendf(nil, `{"requestId": "r-%d", "status": "OK"}`, k),
					}
				}
				for _, s := range c.SendAll(b.Context(), events) {
					if s.Err != nil {
						b.Error(s.Err)
					}
				}
			})
			b.ReportMetric(float64((b.N/page+1)*page)/b.Elapsed().Seconds(), "accepted/s")
		})
	}
}

// TestWorkersJudgeByTheTypesRule, though another process took the event and this one has never heard of its type.
func TestWorkersJudgeByTheTypesRule(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(201))
	other, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	_, err = other.Types().Put(t.Context(), payloads.Type{Name: "order.placed", Success: payloads.Any2xx})
	h.must(err)
	cb, err := other.Create(t.Context(), acme, []byte(`{"callback_type": "order.placed", "destination": {"url": "`+h.partner.url("orders")+`"}}`))
	h.must(err)
	h.partner.knows(cb)
	sender, err := New(Config{Redis: h.rdb, Registry: other, Egress: h.egress, Logger: testLog(t)})
	h.must(err)
	t.Cleanup(func() { h.must(sender.Close()) })
	h.work()
	r, err := sender.Send(t.Context(), payloads.Event{Company: acme, ID: "o-1", Type: "order.placed", Payload: json.RawMessage(`{}`)})
	h.must(err)
	if d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second); len(d.Attempts) != 1 {
		t.Errorf("%+v", d.Attempts)
	}
}
