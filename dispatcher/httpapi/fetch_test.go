package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/ringback/ringback/registry"
)

// TestStrangersDoNotKeepPartnersFromFetching: an address from which many unknown tickets come has Redis asked for few of them, and takes no place from those who
// fetch from elsewhere. A good ticket passes from there, too.
func TestStrangersDoNotKeepPartnersFromFetching(t *testing.T) {
	h := newHouse(t)
	request := func(address, ticket string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/payloads/"+ticket, nil)
		r.RemoteAddr = address + ":1"
		return r
	}
	from := func(address, ticket string) answer { return h.do(request(address, ticket)) }
	h.registered("http://127.0.0.1:1/", `"body":"thin","callback_type":"payment_proof"`)
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"e-1","payload":{"requestId":"r","status":"OK"}}`).want(http.StatusAccepted)
	cb, err := h.api.Registry.Get(t.Context(), "acme", 1)
	h.must(err)
	e, err := h.client.Event(t.Context(), "acme", "e-1")
	h.must(err)
	good := cb.Ticket(registry.Ticket{Event: "e-1", Accepted: e.AcceptedAt, Expires: time.Now().Add(time.Hour)})
	wrong := good[:len(good)-4] + "AAAA"
	const partner, stranger = "192.0.2.1", "198.51.100.1"
	h.api.Guesses.note(sourceOf(request(stranger, wrong)))
	h.api.Guesses.met[sourceOf(request(stranger, wrong))] = rate.NewLimiter(0, 0) // it has asked for too many, and the test takes as long as it takes
	from(stranger, good).want(http.StatusOK)

	full := func(whose string) (leave func()) {
		visits := make([]*visit, keyRequests)
		for i := range visits {
			visits[i], err = h.api.door.enter(whose)
			h.must(err)
		}
		return func() {
			for _, v := range visits {
				v.leave()
			}
		}
	}
	leave := full(strangeFetchers)
	from(partner, good).want(http.StatusOK)
	leave()
	leave = full(fetchers)
	from(stranger, good).want(http.StatusOK)
	if p := from(partner, good).wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "payloads are being fetched") {
		t.Errorf("%+v", p)
	}
	leave()

	began, before := time.Now(), h.commands()
	for range 5 * strangeTickets {
		from(stranger, wrong).want(http.StatusTooManyRequests)
	}
	most := strangeTickets * (1 + time.Since(began).Seconds())
	if n := h.commands() - before; float64(n) > 6*most {
		t.Errorf("%d unknown tickets asked %d things of Redis", 5*strangeTickets, n)
	}
	from(partner, good).want(http.StatusOK)
}
