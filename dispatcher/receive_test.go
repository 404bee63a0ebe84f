package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/payloads/receive"
	"github.com/ringback/ringback/registry"
)

// A recipient is a partner that receives with the package for partners. It counts what is handed over by what the payload says, whatever it came in.
type recipient struct {
	mu    sync.Mutex
	fails map[string]int // how often the function fails yet
	calls map[string]int
	types map[string]string // that the functions were registered for
}

// receives has the partner be a recipient of a callback's deliveries.
func (h *house) receives(cb *registry.Callback, config receive.Config, fails map[string]int) *recipient {
	h.t.Helper()
	r := &recipient{fails: map[string]int{}, calls: map[string]int{}, types: map[string]string{}}
	maps.Copy(r.fails, fails)
	config.Log = testLog(h.t)
	for _, s := range cb.LiveSecrets(time.Now()) {
		config.Secrets = append(config.Secrets, s.Reveal())
	}
	hook, err := receive.New(config)
	h.must(err)
	for _, of := range []string{"payment_proof", "customer.updated", "*"} {
		receive.On(hook, of, func(_ context.Context, d receive.Delivery, payload json.RawMessage) error {
			if of == d.EventType || of == "*" && d.EventType == "" {
				return r.take(of, payload)
			}
			return fmt.Errorf("%s was handed to the function for %s", d.EventType, of)
		})
	}
	h.partner.answers(func(req *http.Request, _ int) reply {
		w := httptest.NewRecorder()
		hook.ServeHTTP(w, req)
		return reply{status: w.Code, header: w.Header(), body: w.Body.String()}
	})
	return r
}

// take is what the functions do with a payload, or a CloudEvent about it.
func (r *recipient) take(of string, payload json.RawMessage) error {
	var what struct {
		RequestID string
		Data      struct{ RequestID, CustomerID string }
	}
	if err := json.Unmarshal(payload, &what); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := what.RequestID + what.Data.RequestID + what.Data.CustomerID
	r.calls[id]++
	r.types[id] = of
	if r.fails[id]--; r.fails[id] >= 0 {
		return errors.New("not now")
	}
	return nil
}

// want verifies that each event was handed over once, and beyond that as often as its function failed.
func (r *recipient) want(t *testing.T, events []string, fails map[string]int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range events {
		if r.calls[id] != 1+fails[id] {
			t.Errorf("%s was handed over %d times, want %d", id, r.calls[id], 1+fails[id])
		}
	}
	if len(r.calls) != len(events) {
		t.Errorf("handed over: %v", r.calls)
	}
}

// TestAReceiverTakesBatches with package receive: every element is handed over, and none twice but those whose function failed. Where the answer may speak of each, only those
// come again.
func TestAReceiverTakesBatches(t *testing.T) {
	one := map[string]int{"p-1": 1}
	for name, tt := range map[string]struct {
		callback string
		config   receive.Config
		fails    map[string]int
		sizes    string
		attempts int // at the others
	}{
		"envelopes":                   {`"batch": {"max_events": 4, "element": "envelope"}`, receive.Config{}, nil, "4", 1},
		"envelopes, heard":            {`"batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{}, one, "4 1", 1},
		"envelopes, two heard":        {`"batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{}, map[string]int{"p-0": 1, "p-3": 2}, "4 2 1", 1},
		"envelopes, all fail":         {`"batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{}, map[string]int{"p-0": 1, "p-1": 1, "p-2": 1, "p-3": 1}, "4 4", 2},
		"envelopes, one answer":       {`"batch": {"max_events": 4, "element": "envelope"}`, receive.Config{}, one, "4 4", 2},
		"envelopes, too many":         {`"batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{MaxBody: 500}, nil, "4 2 2", 2},
		"payloads":                    {`"batch": {"max_events": 4}`, receive.Config{}, one, "4 4", 2},
		"payloads, heard":             {`"batch": {"max_events": 4, "results": true}`, receive.Config{}, one, "4 4", 2},
		"CloudEvents":                 {`"envelope": "cloudevents-structured", "batch": {"max_events": 4}`, receive.Config{}, one, "4 4", 2},
		"CloudEvents, heard":          {`"envelope": "cloudevents-structured", "batch": {"max_events": 4, "results": true}`, receive.Config{}, one, "4 1", 1},
		"CloudEvents, in envelopes":   {`"envelope": "cloudevents-structured", "batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{}, one, "4 1", 1},
		"envelopes, signed by a key":  {`"signature": {"hmac": false, "ed25519": true}, "batch": {"max_events": 4, "element": "envelope", "results": true}`, receive.Config{}, one, "4 1", 1},
		"payloads, any 2xx is enough": {`"success": "any_2xx", "batch": {"max_events": 4}`, receive.Config{}, one, "4 4", 2},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				cb := h.register("payment_proof", tt.callback)
				if keys := cb.PublishedKeys(time.Now()); len(keys) > 0 {
					tt.config.Keys = func(context.Context, bool) ([]payloads.PublicKey, error) {
						return []payloads.PublicKey{keys[0].Key.Public()}, nil
					}
				}
				r := h.receives(cb, tt.config, tt.fails)
				defer h.work()()
				ids := h.sendMany("p-", 4)
				h.drained(cb.ID, 5*time.Minute)
				h.checkBatches(tt.sizes, ids)
				r.want(t, eventIDs("p-", 4), tt.fails)
				for i, id := range ids {
					if d := h.delivery(id); len(d.Attempts) != tt.attempts && tt.fails[fmt.Sprint("p-", i)] == 0 {
						t.Errorf("%s took %d attempts, want %d", id, len(d.Attempts), tt.attempts)
					}
				}
			})
		})
	}
}

// TestAReceiverTellsTypesApart: a batch of a callback for several types has them mixed.
func TestAReceiverTellsTypesApart(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("*", `"batch": {"max_events": 4, "element": "envelope"}`)
		r := h.receives(cb, receive.Config{}, nil)
		defer h.work()()
		ids := h.sendMany("p-", 2)
		for _, id := range []string{"c-0", "c-1"} {
			e := payloads.Event{Company: acme, ID: id, Type: "customer.updated", Payload: json.RawMessage(`{"type": "customer.updated", "data": {"customerId": "` + id + `"}}`)}
			ids = append(ids, h.send(e).Deliveries[0].DeliveryID)
		}
		h.drained(cb.ID, time.Minute)
		h.checkBatches("4", ids)
		r.want(t, []string{"p-0", "p-1", "c-0", "c-1"}, nil)
		if r.types["p-0"] != "payment_proof" || r.types["c-1"] != "customer.updated" {
			t.Errorf("handed over as %v", r.types)
		}
		h.check()
	})
}

// TestAReplayComesInAnotherBatch: a receiver knows a delivery again by its envelope alone.
func TestAReplayComesInAnotherBatch(t *testing.T) {
	for element, again := range map[registry.BatchElement]int{registry.ElementEnvelope: 0, registry.ElementPayload: 1} {
		t.Run(string(element), func(t *testing.T) {
			inBubble(t, func(h *house) {
				cb := h.register("payment_proof", fmt.Sprintf(`"batch": {"max_events": 4, "element": %q}`, element))
				r := h.receives(cb, receive.Config{}, nil)
				defer h.work()()
				ids := h.sendMany("p-", 4)
				h.drained(cb.ID, time.Minute)
				for _, id := range ids[:2] {
					h.must(second(h.client.Replay(h.t.Context(), acme, id)))
				}
				h.drained(cb.ID, time.Minute)
				h.checkBatches("4 2", ids)
				r.want(t, eventIDs("p-", 4), map[string]int{"p-0": again, "p-1": again})
			})
		})
	}
}

// TestATestIsNotHandedOver, and is delivered, as a batch of one.
func TestATestIsNotHandedOver(t *testing.T) {
	for _, batch := range []string{`{}`, `{"element": "envelope", "results": true}`} {
		h := newHouse(t)
		cb := h.register("payment_proof", `"batch": `+batch)
		r := h.receives(cb, receive.Config{}, nil)
		got, err := h.client.Test(t.Context(), acme, cb.ID, "")
		if err != nil || got.Verdict != verdict.Delivered {
			t.Errorf("%s: %v, %+v", batch, err, got)
		}
		r.want(t, nil, nil)
	}
}
