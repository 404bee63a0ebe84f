package dispatcher

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestADroppedDeliveryGoesOutAgainAtOnce: a partner that ends a kept connection instead of answering sees the delivery a second time, as the
// same attempt. It sees a decision and a test once.
func TestADroppedDeliveryGoesOutAgainAtOnce(t *testing.T) {
	inBubble(t, func(h *house) {
		drop := func(context.Context) { panic(http.ErrAbortHandler) }
		cb := h.register("payment_proof", "")
		h.register(verify, "")
		h.partner.answers(func(r *http.Request, n int) reply {
			id := r.Header.Get("Webhook-Id")
			switch {
			case r.Header.Get("Ringback-Event-Id") == "warm":
				return reply{status: 204}
			case strings.HasPrefix(id, "dlv_") && n == 1:
				return reply{status: 204}
			}
			return reply{after: drop}
		})
		defer h.work()()
		warm := func() {
			h.t.Helper()
			h.await(h.send(proof("warm")).Deliveries[0].DeliveryID, ledger.Delivered, time.Minute)
		}
		warm()
		d := h.await(h.send(proof("p-1")).Deliveries[0].DeliveryID, ledger.Delivered, time.Minute)
		if a := d.Attempts; len(a) != 1 || !strings.HasSuffix(a[0].Detail, "delivered; the request went out twice, because a kept connection ended before an answer") {
			h.t.Errorf("attempts: %+v", a)
		}
		seen := func(id string) (n int) {
			for _, r := range h.partner.requests() {
				if r.id == id {
					n++
				}
			}
			return n
		}
		if n := seen(d.DeliveryID); n != 2 {
			h.t.Errorf("the partner saw the delivery %d times, want twice", n)
		}
		h.check()

		tested, err := h.client.Test(h.t.Context(), acme, cb.ID, "")
		if err != nil || tested.Reason != Reason(egress.ConnectionClosed) || seen(tested.DeliveryID) != 1 {
			h.t.Errorf("the test: %+v, %v; the partner saw it %d times", tested, err, seen(tested.DeliveryID))
		}
		h.await(h.send(proof("warm-2")).Deliveries[0].DeliveryID, ledger.Delivered, time.Minute) // a new connection, which serves
		_, err = h.client.Ask(h.t.Context(), question())
		if e, ok := errors.AsType[*NoDecisionError](err); !ok || e.Reason != Reason(egress.ConnectionClosed) || seen(e.DecisionID) != 1 {
			h.t.Errorf("the decision: %v; the partner saw it %d times", err, seen(e.DecisionID))
		}
	})
}
