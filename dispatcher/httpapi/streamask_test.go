package httpapi

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestWhatAStreamIsAskedFor: its type narrows it; the header says where it goes on, whatever the address says, and a gap where to go on from. The server hears
// of each stream that it serves, and not of whoever asks for the header alone.
func TestWhatAStreamIsAskedFor(t *testing.T) {
	h := newHouse(t)
	pause := func(path string) { h.call("operator", "POST", path+"/pause", "").want(http.StatusOK) }
	pause(h.register("acme"))
	pause(h.call("operator", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated).header.Get("Location"))
	server := h.streamer(nil)
	proofs := h.open(server, "operator", "?event_type=payment_proof")
	h.send("acme", "one")
	h.proves("acme", "proof")
	proofs.want("proof held")
	both := h.open(server, "operator", "?last_event_id=nonsense", header{"Last-Event-ID": proofs.id})

	lost := h.open(server, "operator", "", header{"Last-Event-ID": "nonsense"})
	if m := lost.next(); m.event != "gap" || lost.id == "" {
		t.Fatalf("%+v, at %q", m, lost.id)
	}
	h.send("acme", "two")
	both.want("two held") // and no gap before
	h.open(server, "operator", "", header{"Last-Event-ID": lost.id}).want("two held")

	for method, want := range map[string]bool{http.MethodGet: true, http.MethodHead: false} {
		told := false
		r := httptest.NewRequestWithContext(OnStream(t.Context(), func() { told = true }), method, deliveriesStream, nil)
		r.Header.Set("Authorization", "Bearer "+h.keys["partner"])
		if h.do(r).want(http.StatusOK); told != want {
			t.Errorf("%s: the server hears of a stream: %v", method, told)
		}
	}
}
