package httpapi

import (
	"net/http"
	"testing"
)

// TestPayloadsWithinBounds: a bounded caller has the payloads of events that went to its callbacks, and of others hears what it hears of events that are not.
// Whoever may only look may ask for a header alone, too.
func TestPayloadsWithinBounds(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated)
	h.send("acme", "order")
	const order = "/companies/acme/events/order/payload"
	h.as(bounded(false, 1), "GET", order, "").want(http.StatusOK)
	h.as(bounded(true, 1), "HEAD", order, "").want(http.StatusOK)
	a := h.as(bounded(false, 2), "GET", order, "")
	if b := h.as(bounded(false, 2), "GET", "/companies/acme/events/nothing/payload", ""); a.status != http.StatusNotFound || string(a.body) != string(b.body) {
		t.Errorf("of another's event: %d %s\nof none: %s", a.status, a.body, b.body)
	}
}
