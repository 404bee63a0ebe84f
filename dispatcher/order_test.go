package dispatcher

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// byCustomer is an ordering by what ofCustomer has.
const byCustomer = `"ordering": {"key": "/customerId"}`

// ofCustomer is a payment proof with a customer, or without one.
func ofCustomer(id, customer string) payloads.Event {
	e := proof(id)
	if customer != "" {
		e.Payload = json.RawMessage(strings.Replace(string(e.Payload), `{`, `{"customerId": "`+customer+`", `, 1))
	}
	return e
}

// TestOrderOnTheWire: each key's come one after the other, with their number in a header, the others do not wait, and what waits says whom it waits for.
func TestOrderOnTheWire(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.Header.Get("Ringback-Event-Id") == "a-2" && n < 3 {
				return reply{status: 503}
			}
			return reply{status: 204}
		})
		cb := h.register("payment_proof", byCustomer+`, "retry": {"initial_interval": "1m", "multiplier": 1}`)
		defer h.work()()
		var last []Receipt
		for i := 1; i <= 4; i++ {
			for _, customer := range []string{"a", "b", ""} {
				last = append(last, h.send(ofCustomer(fmt.Sprintf("%s-%d", defaulted(customer, "none"), i), customer)))
			}
		}
		time.Sleep(20 * time.Second)
		if got := h.orders(); got["a"] != "1 2" || got["b"] != "1 2 3 4" || got[""] != "0 0 0 0" {
			t.Errorf("the partner got %v", got)
		}
		waits := h.delivery(last[9].Deliveries[0].DeliveryID) // a-4
		head := ledger.Ref{Company: acme, Event: "a-2", Callback: cb.ID}.DeliveryID()
		if waits.HeldReason != "ordering" || waits.Sequence != 4 || !strings.HasPrefix(waits.Summary, "It waits for delivery "+head+" of the same key, attempt 2 at ") {
			t.Errorf("a-4 (%s) is number %d: %s", waits.HeldReason, waits.Sequence, waits.Summary)
		}
		e, err := h.client.Explain(h.t.Context(), acme, "a-3", ExplainQuery{})
		h.must(err)
		if d := e.Callbacks[0].Delivery; d.Sequence != 3 || d.HeldReason != "ordering" || !strings.Contains(d.Summary, head) {
			t.Errorf("a-3 is explained as number %d: %s", d.Sequence, d.Summary)
		}
		list, _, err := h.client.Deliveries(h.t.Context(), acme, Query{States: []ledger.State{ledger.Held}})
		h.must(err)
		if len(list) != 2 || list[0].HeldReason != "ordering" {
			t.Errorf("%d are listed as held: %+v", len(list), list)
		}
		h.awaitAll(10 * time.Minute)
		if got := h.orders(); got["a"] != "1 2 2 2 2 3 4" {
			t.Errorf("the partner got %v", got)
		}
		_, err = h.client.Replay(h.t.Context(), acme, last[3].Deliveries[0].DeliveryID) // a-2
		h.must(err)
		h.awaitAll(time.Minute)
		h.duplicates = 1 // which was asked for
		if got := h.orders(); got["a"] != "1 2 2 2 2 3 4 2" {
			t.Errorf("after a replay the partner got %v", got)
		}
		h.check()
	})
}

// orders are the numbers that the partner got, by customer, in the order in which they came; 0: none.
func (h *house) orders() map[string]string {
	h.t.Helper()
	got := make(map[string]string)
	for _, r := range h.partner.requests() {
		var p struct {
			Customer string `json:"customerId"`
		}
		h.must(json.Unmarshal([]byte(r.body), &p))
		got[p.Customer] = strings.TrimSpace(got[p.Customer] + " " + defaulted(r.header.Get("Ringback-Sequence"), "0"))
	}
	return got
}

// TestKillsKeepTheOrder: whoever dies between any two steps, the next of a key comes once the one before has ended, and each comes.
func TestKillsKeepTheOrder(t *testing.T) {
	t.Parallel()
	for point, duplicates := range map[string]int{"accepted": 0, "dequeued": 0, "begun": 0, "posted": 1, "finished": 0, "popped": 0} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			h.duplicates = duplicates
			h.register("payment_proof", `"timeout": "1s", "ordering": {"key": "/voucherEffect"}`) // which all have
			ids := eventIDs("p-", 4)
			job := childJob{Work: true, KillAt: point, After: 1}
			if point == "accepted" {
				job = childJob{Send: ids, KillAt: point, After: 1}
			} else {
				for _, id := range ids {
					h.send(proof(id))
				}
			}
			if point == "dequeued" || point == "popped" {
				job.After = 0
			}
			h.start(job).dies()
			h.work()
			for _, id := range ids {
				if point == "accepted" {
					h.send(proof(id))
				}
			}
			h.awaitAll(time.Second + ownerGrace + patience + reconcileEvery + slack)
			first, seen := "", map[string]bool{}
			for _, r := range h.partner.requests() {
				if n := r.header.Get("Ringback-Sequence"); !seen[n] {
					seen[n] = true
					first += n
				}
			}
			if first != "1234" {
				t.Errorf("they came first in the order %s", first)
			}
			h.check()
		})
	}
}

// TestALargeFanOutHasLines: a callback with an ordering that is not among the first has its deliveries in order all the same.
func TestALargeFanOutHasLines(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range fanOutPage {
		h.register("payment_proof", "")
	}
	last := h.register("payment_proof", byCustomer)
	for i := 1; i <= 2; i++ {
		id := fmt.Sprint("a-", i)
		h.send(ofCustomer(id, "a"))
		if d := h.delivery(ledger.Ref{Company: acme, Event: id, Callback: last.ID}.DeliveryID()); d.Sequence != int64(i) || (d.HeldReason == "ordering") != (i == 2) {
			t.Errorf("%s is number %d, and %s (%s)", id, d.Sequence, d.State, d.HeldReason)
		}
	}
}

// TestLargeFanOutsBeginWithLines: those with an order are in the first page, whatever their ids, and payloads are read once for all of them, if anybody asks.
func TestLargeFanOutsBeginWithLines(t *testing.T) {
	key, err := payloads.ParseKey("/customerId", "key")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	document := func() payloads.Document {
		read++
		return payloads.ReadDocument(json.RawMessage(`{"customerId": 1}`))
	}
	matched := func(n int, ordered ...int) (all []*registry.Callback) {
		for i := range n {
			all = append(all, &registry.Callback{ID: int64(i + 1)})
		}
		for _, i := range ordered {
			all[i-1].Ordering = &registry.Ordering{Key: key}
		}
		return all
	}
	for _, tt := range []struct {
		all  []*registry.Callback
		keys int
		want string
	}{
		{matched(5), 0, "1 2 3 4 5"},
		{matched(3, 2, 3), 2, "1 2 3"},
		{matched(9, 4, 9), 2, "1 2 4 9 3 5 6 7 8"},
		{matched(6, 3, 4, 5, 6), 4, "3 4 5 6 1 2"},
	} {
		keys := lineUp(tt.all, document, 4)
		got := strings.Builder{}
		for _, cb := range tt.all {
			fmt.Fprintf(&got, " %d", cb.ID)
		}
		if got.String() != " "+tt.want || len(keys) != tt.keys {
			t.Errorf("%d have an order, and they come as%s; want %d, %s", len(keys), got.String(), tt.keys, tt.want)
		}
	}
	if read != 8 {
		t.Errorf("asked %d times for the payload, want once for each that has an ordering", read)
	}
}
