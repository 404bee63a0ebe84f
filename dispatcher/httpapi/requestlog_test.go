package httpapi

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
)

// wantNamed checks that a request's answer has a name, and that each of its log's lines with one of these texts has it, once.
func (h *house) wantNamed(log string, a answer, says ...string) {
	h.t.Helper()
	id := a.header.Get("X-Request-Id")
	for _, text := range says {
		found := false
		for line := range strings.Lines(log) {
			if !strings.Contains(line, text) {
				continue
			}
			found = true
			if strings.Count(line, "request_id=") != 1 || !strings.Contains(line, "request_id="+id+"\n") || id == "" {
				h.t.Errorf("request %s is not named by %s", id, line)
			}
		}
		if !found {
			h.t.Errorf("nothing says %q: %s", text, log)
		}
	}
}

// Whatever is logged of a request names it as its answer does: what the API says, and what says who does the work.
func TestTheLogNamesRequests(t *testing.T) {
	h := newHouse(t)
	const path = "/companies/acme/config/callbacks"
	wants := func(a answer, says ...string) {
		t.Helper()
		h.wantNamed(h.log.String(), a, says...)
		h.log.empty()
	}
	wants(h.call("partner", "POST", path, hook).want(http.StatusCreated), "callback created")

	h.api.mux.HandleFunc("GET /ouch", func(http.ResponseWriter, *http.Request) { panic("ouch") })
	wants(h.call("", "GET", "/ouch", ""), "request panicked", "panic=ouch")

	answered := loses()
	h.rdb.AddHook(answered)
	answered.on.Store(true)
	wants(h.call("partner", "POST", path, hook, header{"Idempotency-Key": "k"}).want(http.StatusCreated), "is not kept", "redis failed")

	key, err := h.api.Keys.Authenticate(t.Context(), h.keys["partner"])
	h.must(err)
	h.wantProof()
	for range registry.MaxTests {
		_, _, err := h.api.Keys.BeginTest(t.Context(), key, time.Minute)
		h.must(err)
	}
	wants(h.call("partner", "POST", path, hook).want(http.StatusCreated), "callback not challenged")

	for range keyRequests {
		_, err := h.api.door.enter(key.ID)
		h.must(err)
	}
	wants(h.call("partner", "GET", path, ""), "requests are turned away")

	h.redis.Kill()
	wants(h.call("viewer", "GET", path, ""), "request failed")
}

// The API names requests in a log that does not do so by itself, too.
func TestTheAPIsOwnLinesNameRequests(t *testing.T) {
	own := &logBook{}
	h := newHouse(t, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(own, nil)) })
	h.redis.Kill()
	a := h.call("viewer", "GET", "/companies/acme/config/callbacks", "")
	h.wantNamed(own.String(), a, "request failed")
}

// Who stands before the API names requests as it does, and what the API is asked meanwhile has the same name.
func TestRequestsAreNamedOnce(t *testing.T) {
	h := newHouse(t)
	inner := ""
	h.api.mux.HandleFunc("GET /inner", func(w http.ResponseWriter, _ *http.Request) { inner = w.Header().Get("X-Request-Id") })
	page := Named(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "/inner", nil)
		h.must(err)
		h.api.observed().ServeHTTP(&discard{header: http.Header{}}, asked)
		_, _ = io.WriteString(w, "a page")
	}))
	for _, given := range []string{"", "the-proxys"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/page", nil)
		r.Header.Set("X-Request-Id", given)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		if id := w.Header().Get("X-Request-Id"); id == "" || id != inner || given != "" && id != given {
			t.Errorf("the page is called %q, given %q, and what it asked %q", id, given, inner)
		}
	}
}
