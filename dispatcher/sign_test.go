package dispatcher

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
)

// TestWhoVerifiesByKeysAloneGetsIt: where the company publishes a key already, that of a new callback signs from the sixth minute on, and the secret meanwhile.
// An endpoint that takes keys alone refuses what comes before, is told so by the attempts, and gets it by those after it.
func TestWhoVerifiesByKeysAloneGetsIt(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("wallet_item_install", `"wallet_item_install": {"campaign_token": "x"}, "signature": {"ed25519": true}`)
		cb := h.register("payment_proof", `"signature": {"hmac": false, "ed25519": true}, "auth": {"type": "bearer", "token": "t"}`)
		key := cb.Signature.Keys[0]
		h.partner.answers(func(r *http.Request, _ int) reply {
			body, err := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			if err != nil || payloads.VerifyEd25519(r.Header, body, time.Now(), key.Key.Public()) != nil {
				return reply{status: http.StatusUnauthorized}
			}
			return reply{status: http.StatusNoContent}
		})
		defer h.work()()
		d := h.await(h.send(proof("p")).Deliveries[0].DeliveryID, ledger.Delivered, time.Hour)
		if n := len(d.Attempts); n < 2 || n > 8 {
			t.Errorf("it took %d attempts", n)
		}
		for i, a := range d.Attempts {
			last := i == len(d.Attempts)-1
			if early := a.StartedAt.Before(key.SignsFrom); early == last {
				t.Errorf("attempt %d began at %s, and the key signs from %s on: %s", a.Number, a.StartedAt, key.SignsFrom, a.Detail)
			}
			if said := strings.Contains(a.Detail, "signed with the callback's secret: its key is published, and signs from the sixth minute on"); said == last {
				t.Errorf("attempt %d: %s", a.Number, a.Detail)
			}
		}
		for i, r := range h.partner.requests() {
			if by := r.header.Get(payloads.HeaderSignature); strings.HasPrefix(by, "v1,") == (i == len(d.Attempts)-1) {
				t.Errorf("request %d is signed by %s", i, by)
			}
		}

		// Once it signs, a refusal has other causes.
		h.partner.answers(answering(http.StatusUnauthorized, http.StatusNoContent))
		d = h.await(h.send(proof("q")).Deliveries[0].DeliveryID, ledger.Retrying, time.Minute)
		if said := d.Attempts[0].Detail; !strings.Contains(said, "a bearer token") || strings.Contains(said, "its key") {
			t.Errorf("later it says %s", said)
		}
	})
}
