package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher"
)

// exampleTicket is one of nobody.
const exampleTicket = "AWWC3QGA9rDJ42aAhvfd92YEYWNtZW9yZGVyLTQ3MTEq5pMqQ1v0sXZ2nT0l8eVh3k9m7bqf1wYc6uJx4dRzGA"

// Requests with tickets count as those of two keys, of which each may have as much under way as any key. Those from addresses that have asked for too many unknown
// tickets are strangeFetchers', and all others fetchers'.
const fetchers, strangeFetchers = "tickets", "tickets of strangers"

// strangeTickets is how many tickets of strangers are looked at in a second, whoever asks: each costs Redis a command. Good ones are among them where many partners
// come from the address of one proxy.
const strangeTickets = 200

// errFetches turns a request away where too many with tickets are under way.
var errFetches = &refusal{
	status: http.StatusTooManyRequests, shed: true,
	detail: fmt.Sprintf("%d payloads are being fetched, as many as may be at a time: fetch this one again in a moment", keyRequests),
	header: retryIn(retryAfter),
}

// fetches adds where partners fetch the payloads of thin bodies. Whoever has the address needs no key: it is the secret.
func (s *server) fetches() {
	s.document(page{mediaType: mediaJSON, schema: &huma.Schema{Description: "The payload."}, Operation: huma.Operation{
		OperationID: "fetch-payload", Method: http.MethodGet, Path: "/payloads/{ticket}", Tags: []string{"Events"}, Summary: "What a thin body leads to",
		Description: "A callback with `body: thin` is sent this address, with its host. It needs no key, and it is a secret. The answer is what the callback would have " +
			"been sent with `body: full`, as its `content_type` says, with the time of now where its type is stamped. The address is good for at least 3 days after the " +
			"attempt that had it, and in all attempts within 4 days of the event's acceptance the same. It ends with the callback, with the signing secret once that is " +
			"rotated and the overlap is over, and with the event. " +
			"404 says that there is no such address, or no longer; 410 that its time has ended, or that the event or its body is no longer kept.",
		Parameters: []*huma.Param{{Name: "ticket", In: "path", Required: true, Schema: plainText}},
		Errors:     []int{http.StatusNotFound, http.StatusGone, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}})
	strange := rate.NewLimiter(strangeTickets, strangeTickets)
	s.mux.HandleFunc("GET /payloads/{ticket}", func(w http.ResponseWriter, r *http.Request) { s.fetch(w, r, strange) })
}

func (s *server) fetch(w http.ResponseWriter, r *http.Request, strange *rate.Limiter) {
	fetched, err := s.fetchPlaced(r, strange)
	switch {
	case errors.Is(err, dispatcher.ErrNotFound):
		err = errNoTicket
		if wait := s.Guesses.Unknown(r); wait > 0 {
			err = tooManyTickets(wait)
		}
	case errors.Is(err, dispatcher.ErrFetchOver):
		err = errTicketOver
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	w.Header().Set("Content-Type", fetched.ContentType)
	_, _ = w.Write(fetched.Body) // secure has said that nobody is to keep or guess it
}

func tooManyTickets(wait time.Duration) error {
	return tooOften(wait, "too many unknown addresses are asked for from here")
}

// fetchPlaced fetches when there is a place.
func (s *server) fetchPlaced(r *http.Request, strange *rate.Limiter) (*dispatcher.Fetched, error) {
	whose := fetchers
	if wait := s.Guesses.wait(sourceOf(r)); wait > 0 {
		if !strange.Allow() {
			return nil, tooManyTickets(wait)
		}
		whose = strangeFetchers
	}
	v, err := s.door.enter(whose)
	if errors.Is(err, errKeyRequests) {
		return nil, errFetches
	}
	if err != nil {
		return nil, err
	}
	defer v.leave()
	release, err := v.place(r.Context(), 0)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.Client.Fetch(r.Context(), r.PathValue("ticket"))
}
