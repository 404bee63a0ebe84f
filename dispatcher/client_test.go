package dispatcher

import (
	"errors"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
)

func TestAnEventIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", `"headers": {"X-Origin": "ringback"}, "auth": {"type": "bearer", "token": "canary-token"}`)
	h.work()
	r := h.send(proof("p-1"))
	if len(r.Deliveries) != 1 || r.Deliveries[0].CallbackID != cb.ID || r.Deliveries[0].State != ledger.Pending || r.Duplicate {
		t.Fatalf("receipt: %+v", r)
	}
	d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 5*time.Second)
	if len(d.Attempts) != 1 || d.Attempts[0].StatusCode != 204 || d.Attempts[0].Number != 1 {
		t.Errorf("attempts: %+v", d.Attempts)
	}
	got := h.partner.requests()[0]
	for name, want := range map[string]string{
		"Webhook-Id": d.DeliveryID, "Ringback-Event-Id": "p-1", "Ringback-Event-Type": "payment_proof", "Ringback-Attempt": "1",
		"Authorization": "Bearer canary-token", "X-Origin": "ringback", "Content-Type": "application/json", "User-Agent": "Ringback/test",
	} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	if got.body != string(proof("p-1").Payload) {
		t.Errorf("body changed on the way: %s", got.body)
	}
	h.awaitIdle(5 * time.Second)
	h.check()
}

func TestSendingAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	first := h.send(proof("p-1"))
	again := h.send(proof("p-1"))
	if !again.Duplicate || again.AcceptedAt != first.AcceptedAt || len(again.Deliveries) != 1 || again.Deliveries[0] != first.Deliveries[0] {
		t.Errorf("again: %+v, first: %+v", again, first)
	}
	other := proof("p-1")
	other.Payload = []byte(`{"requestId": "other", "status": "OK"}`)
	if _, err := h.client.Send(t.Context(), other); !errors.Is(err, ErrEventConflict) {
		t.Errorf("other content: %v", err)
	}
	h.work()
	h.awaitAll(5 * time.Second)
	h.check()
}

func TestBadEventsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for name, e := range map[string]payloads.Event{
		"unknown type": {Company: acme, ID: "e", Type: "no_such", Payload: []byte(`{}`)},
		"bad payload":  {Company: acme, ID: "e", Type: "payment_proof", Payload: []byte(`{"status": 1}`)},
		"no JSON":      {Company: acme, ID: "e", Type: "payment_proof", Payload: []byte(`{`)},
		"bad id":       {Company: acme, ID: "e e", Type: "payment_proof", Payload: proof("e").Payload},
		"bad company":  {Company: "a/b", ID: "e", Type: "payment_proof", Payload: proof("e").Payload},
	} {
		_, err := h.client.Send(t.Context(), e)
		if _, ok := errors.AsType[*payloads.InvalidError](err); !ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.client.Event(t.Context(), acme, "e"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a refused event was stored: %v", err)
	}
}
