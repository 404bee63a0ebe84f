package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

func TestErrorsHaveTheirStatus(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
	}{
		{&payloads.InvalidError{Fields: []payloads.FieldError{{Location: "body.x", Message: "m"}}}, 422},
		{dispatcher.ErrBadCursor, 422},
		{registry.ErrBadJSON, 400},
		{registry.ErrNotFound, 404},
		{dispatcher.ErrNotFound, 404},
		{dispatcher.ErrEventConflict, 409},
		{dispatcher.ErrBodyLeft, 410},
		{&dispatcher.StateError{Message: "its body has left", Err: dispatcher.ErrBodyLeft}, 409},
		{registry.ErrBusy, 409},
		{&dispatcher.StateError{Message: "it is delivered"}, 409},
		{&registry.OldProcessError{What: "a quota", Needs: 2, Old: []registry.Process{{Host: "inside", Level: 1}}}, 409},
		{dispatcher.ErrUnavailable, 503},
		{redis.ErrClosed, 503},
		{redis.ErrPoolTimeout, 503},
		{redis.Nil, 503},
		{io.EOF, 503},
		{context.DeadlineExceeded, 503},
		{&net.OpError{Op: "dial", Err: errors.New("connection refused")}, 503},
		{errors.New("a surprise"), 500},
		{errNoKey, 401},
		{errBadKey, 401},
		{errHidden, 404},
		{errNoSuchPath, 404},
	} {
		wrapped := fmt.Errorf("doing this: %w", c.err)
		p, header := explain(wrapped)
		if p.Status != c.status || p.Title != http.StatusText(c.status) || p.Detail == "" {
			t.Errorf("%v: %+v, want status %d", c.err, p, c.status)
		}
		if (c.status == 503) != (header.Get("Retry-After") != "") {
			t.Errorf("%v: Retry-After = %q", c.err, header.Get("Retry-After"))
		}
		if c.status >= 500 && strings.Contains(p.Detail, c.err.Error()) {
			t.Errorf("%v: the caller is told what went wrong inside: %s", c.err, p.Detail)
		}
	}
}

// TestOnlyOperatorsLearnOfProcesses: which machine holds a new feature back is nothing for a partner to know.
func TestOnlyOperatorsLearnOfProcesses(t *testing.T) {
	s := &server{Config: Config{Logger: slog.New(slog.DiscardHandler)}}
	err := fmt.Errorf("create: %w", &registry.OldProcessError{What: "a quota", Needs: 2, Old: []registry.Process{{Host: "inside", PID: 7, Level: 1}}})
	for _, key := range []registry.Key{
		{Role: registry.Operator, Company: "*"},
		{Role: registry.Operator, Company: "acme"},
		{Role: registry.Partner, Company: "acme"},
		{Role: registry.Producer, Company: "*"},
		{},
	} {
		sees := key.Role == registry.Operator && key.Company == "*"
		p, _ := s.answer(registry.WithCaller(t.Context(), registry.Caller{Key: key}), "test", err)
		if p.Status != http.StatusConflict || !strings.HasPrefix(p.Detail, "a quota has to wait") || strings.Contains(p.Detail, "host inside, pid 7") != sees {
			t.Errorf("%+v: %d %q, want 409, and the process named: %t", key, p.Status, p.Detail, sees)
		}
	}
}

func TestEchoKeepsSecretsAndNovelsToItself(t *testing.T) {
	for _, c := range []struct {
		location string
		value    any
		want     any
	}{
		{"body.retry.max_attempts", 1000, 1000},
		{"query.state", "asleep", "asleep"},
		{"path.company", "a b", "a b"},
		{"body.description", strings.Repeat("x", 1000), nil},
		{"body.description", func() {}, nil},
		{"body.auth.token", "s3cret", nil},
		{"body.auth.password", "s3cret", nil},
		{"body.headers.X-Api-Key", "s3cret", nil},
		{"body.destination.url", "https://h/?key=s3cret", nil},
		{"body.secret", "s3cret", nil},
		{"body.payload.customer.name", "Jane", nil},
		{"body.x", nil, nil},
	} {
		if got := echo(c.location, c.value); !cmp.Equal(got, c.want) {
			t.Errorf("echo(%q, %v) = %v, want %v", c.location, c.value, got, c.want)
		}
	}
}

func TestRegistrationsAreRefusedByField(t *testing.T) {
	h := newHouse(t)
	const dest = `"destination":{"url":"http://127.0.0.1:9/x"}`
	for _, c := range []struct{ body, location string }{
		{`{}`, "body.callback_type"},
		{`{}`, "body.destination"},
		{`[]`, "body"},
		{`{"callback_type":"nope",` + dest + `}`, "body.callback_type"},
		{`{"callback_type":"payment_proof","event_type":"wallet_item_install",` + dest + `}`, "body.event_type"},
		{`{"callback_type":"payment_proof","destination":{"url":"http://10.0.0.1/x"}}`, "body.destination.url"},
		{`{"callback_type":"payment_proof","destination":{"url":"https://u:p@example.com/x"}}`, "body.destination.url"},
		{`{"callback_type":"payment_proof","timeout":"90s",` + dest + `}`, "body.timeout"},
		{`{"callback_type":"payment_proof","retry":{"max_attempts":0},` + dest + `}`, "body.retry.max_attempts"},
		{`{"callback_type":"payment_proof","rate_limit":{"per_second":0},` + dest + `}`, "body.rate_limit.per_second"},
		{`{"callback_type":"payment_proof","rate_limit":{"per_second":1,"burst":0.5},` + dest + `}`, "body.rate_limit.burst"},
		{`{"callback_type":"payment_proof","colour":"red",` + dest + `}`, "body.colour"},
	} {
		h.call("partner", "POST", "/companies/acme/config/callbacks", c.body).wantFault(c.location)
	}
	callback := h.register("acme")
	h.call("partner", "PATCH", callback, `{"timeout":"x"}`).wantFault("body.timeout")
	h.call("partner", "PATCH", callback, `{"callback_id":7}`).wantFault("body.callback_id")
	h.call("partner", "POST", callback+"/resume", `{"skip_held":"yes"}`).wantFault("body.skip_held")
	h.call("partner", "POST", callback+"/resume", `{"skipheld":true}`).wantFault("body.skipheld")
}

func TestEventsAreRefusedByField(t *testing.T) {
	h := newHouse(t)
	for _, c := range []struct{ body, location string }{
		{`{}`, "body.event_type"},
		{`{"event_type":"wallet_item_install"}`, "body.payload"},
		{`[1]`, "body"},
		{`"x"`, "body"},
		{`null`, "body"},
		{`7`, "body"},
		{`{"event_type":7,"payload":{}}`, "body.event_type"},
		{`{"event_type":"nope","payload":{}}`, "body.event_type"},
		{`{"event_type":"wallet_item_install","payload":null}`, "body.payload"},
		{`{"event_type":"wallet_item_install","payload":{}}`, "body.payload.wallet_campaign"},
		{`{"event_type":"wallet_item_install","event_id":"","payload":` + payload + `}`, "body.event_id"},
		{`{"event_type":"wallet_item_install","event_id":"a b","payload":` + payload + `}`, "body.event_id"},
		{`{"event_type":"wallet_item_install","event_id":7,"payload":` + payload + `}`, "body.event_id"},
		{`{"event_type":"wallet_item_install","occurred_at":"yesterday","payload":` + payload + `}`, "body.occurred_at"},
		{`{"event_type":"wallet_item_install","company":"other","payload":` + payload + `}`, "body.company"},
		{`{"event_type":"wallet_item_install","Payload":` + payload + `}`, "body.Payload"},
		{`{"event_type":"wallet_item_install","payload":{},"payload":` + payload + `}`, "body.payload"},
	} {
		h.call("producer", "POST", "/companies/acme/events", c.body).wantFault(c.location)
	}
	if got := h.call("operator", "GET", "/companies/acme/deliveries", "").want(200); !strings.Contains(string(got.body), `"deliveries":[]`) {
		t.Errorf("something was accepted: %s", got.body)
	}
}

func TestQueriesAreRefusedByParameter(t *testing.T) {
	h := newHouse(t)
	const moment = "must be a time as RFC 3339 writes it, such as 2026-01-02T15:04:05Z"
	for _, c := range []struct{ query, location, message string }{
		{"/deliveries?state=asleep", "query.state", "is no state of a delivery: they are "},
		{"/deliveries?state=dead,asleep", "query.state", "is no state"},
		{"/deliveries?state=dead&state=asleep", "query.state", "is no state"},
		{"/deliveries?limit=0", "query.limit", "must be 1 to 500"},
		{"/deliveries?limit=501", "query.limit", "must be 1 to 500"},
		{"/deliveries?limit=x", "query.limit", "must be 1 to 500"},
		{"/deliveries?limit=1&limit=2", "query.limit", "is given twice"},
		{"/deliveries?since=yesterday", "query.since", moment},
		{"/deliveries?since=2026-01-31T23:59:59+02:00", "query.since", "a + is written %2B"},
		{"/deliveries?until=1700000000", "query.until", moment},
		{"/deliveries?callback_id=x", "query.callback_id", "must be a whole number, 1 or more"},
		{"/deliveries?callback_id=0", "query.callback_id", "must be a whole number, 1 or more"},
		{"/deliveries?cursor=made-up", "query.cursor", "is not one that this list gave out"},
		{"/deliveries?kind=letter", "query.kind", "must be one of delivery, decision"},
		{"/deliveries/dlv_AYIrM62HwWUx?include=nonsense", "query.include", "must be one of request"},
		{"/deliveries/dlv_AYIrM62HwWUx?include=request&include=request,x", "query.include", "must be one of request"},
		{"/deliveries?stat=dead", "query.stat", "is not known here: there are limit, cursor, kind, state, callback_id, event_type, since, until"},
		{"/config/callbacks?status=asleep", "query.status", "must be one of enabled, paused, disabled"},
		{"/config/callbacks?cursor=made-up", "query.cursor", "must be the next_cursor"},
		{"/config/callbacks?limit=501", "query.limit", "must be 1 to 500"},
		{"/config/callbacks/1?verbose=1", "query.verbose", "is not known here: this path takes no parameters"},
	} {
		a := h.call("operator", "GET", "/companies/acme"+c.query, "")
		a.wantFault(c.location)
		p := a.wantProblem(http.StatusUnprocessableEntity)
		if !strings.HasPrefix(p.Errors[0].Message, c.message) && !strings.Contains(p.Errors[0].Message, "("+c.message) || !strings.Contains(p.Detail, c.location) {
			t.Errorf("%s: %q, want %q: %s", c.query, p.Errors[0].Message, c.message, p.Detail)
		}
		if strings.Contains(string(a.body), time.RFC3339Nano) {
			t.Errorf("%s: speaks of Go's layouts: %s", c.query, a.body)
		}
	}
	h.call("operator", "GET", "/companies/acme/deliveries?limit=%zz", "").wantProblem(http.StatusBadRequest)
	for _, query := range []string{
		"/deliveries?state=dead,held&state=retrying", "/deliveries?state=", "/deliveries?limit=&since=", "/deliveries?limit=500", "/deliveries?since=2026-01-31T23:59:59Z&until=2026-02-01T00:00:00.5%2B02:00",
		"/config/callbacks?status=paused&callback_type=*&limit=1",
	} {
		h.call("operator", "GET", "/companies/acme"+query, "").want(http.StatusOK)
	}
	h.send("acme", "e")
	h.call("operator", "GET", "/companies/acme/events/e?cursor=made-up", "").wantFault("query.cursor")
}

func TestBodies(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.MaxBody = 2000 })
	callback := h.register("acme")
	fill := func(n int) string { return event("fill") + strings.Repeat(" ", n-len(event("fill"))) }
	const events = "/companies/acme/events"
	for _, c := range []struct {
		name, method, path, body string
		header                   header
		status                   int
	}{
		{"at the limit", "POST", events, fill(2000), nil, 202},
		{"over the limit", "POST", events, fill(2001), nil, 413},
		{"far over the limit", "PATCH", callback, strings.Repeat("x", 1<<20), nil, 413},
		{"empty", "POST", events, "", nil, 400},
		{"empty patch", "PATCH", callback, "", nil, 400},
		{"not JSON", "POST", events, `{"event_type":`, nil, 400},
		{"trailing comma", "POST", events, `{"event_type":"x",}`, nil, 400},
		{"two objects", "POST", events, `{} {}`, nil, 400},
		{"smart quotes", "POST", events, `{“event_type”:"x"}`, nil, 400},
		{"not UTF-8", "POST", events, "{\"event_type\":\"\xff\"}", nil, 400},
		{"a mark of order", "POST", events, "\ufeff{}", nil, 400},
		{"too deep", "POST", events, `{"payload":` + strings.Repeat("[", 900) + strings.Repeat("]", 900) + `,"event_type":"wallet_item_install"}`, nil, 422},
		{"registration not JSON", "POST", "/companies/acme/config/callbacks", `{`, nil, 400},
		{"patch not JSON", "PATCH", callback, `nope`, nil, 400},
		{"resume not JSON", "POST", callback + "/resume", `nope`, nil, 400},
		{"form", "POST", events, event("f"), header{"Content-Type": "application/x-www-form-urlencoded"}, 415},
		{"text", "POST", events, event("f"), header{"Content-Type": "text/plain"}, 415},
		{"nonsense", "POST", events, event("f"), header{"Content-Type": ";;"}, 415},
		{"merge patch to POST", "POST", events, event("f"), header{"Content-Type": "application/merge-patch+json"}, 415},
		{"gzip", "POST", events, event("f"), header{"Content-Encoding": "gzip"}, 415},
		{"charset", "POST", events, event("f1"), header{"Content-Type": "Application/JSON; charset=utf-8"}, 202},
		{"no type", "POST", events, event("f2"), header{"Content-Type": ""}, 202},
		{"merge patch", "PATCH", callback, `{}`, header{"Content-Type": "application/merge-patch+json"}, 200},
		{"patch as JSON", "PATCH", callback, `{}`, nil, 200},
		{"resume without body", "POST", callback + "/resume", "", nil, 200},
		{"resume", "POST", callback + "/resume", `{"skip_held":true}`, nil, 200},
		{"resume with {}", "POST", callback + "/resume", `{}`, nil, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			a := h.call("operator", c.method, c.path, c.body, c.header)
			if c.status >= 400 {
				a.wantProblem(c.status)
			} else {
				a.want(c.status)
			}
		})
	}
}

// All bodies are read alike: no name twice, UTF-8, and a fault in the JSON is named by its place in the whole body.
func TestBodiesAreReadStrictly(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	for _, c := range []struct{ method, path, broken, twice, location string }{
		{"POST", "/companies/acme/config/callbacks", `{"callback_type":"*","destination":{"url":]}}`, `{"trace":true,"trace":true}`, "body.trace"},
		{"PATCH", callback, `{"description":"é","destination":{"url":]}}`, `{"retry":{"multiplier":2,"multiplier":3}}`, "body.retry.multiplier"},
		{"POST", callback + "/secret", `{"overlap":]}`, `{"overlap":"1h","overlap":"1h"}`, "body.overlap"},
		{"POST", callback + "/resume", `{"skip_held":]}`, `{"skip_held":true,"skip_held":true}`, "body.skip_held"},
		{"POST", "/companies/acme/events", `{"event_type":"wallet_item_install","payload":{"a":[1,2,{"b":]}}`, `{"event_id":"a","event_id":"a"}`, "body.event_id"},
	} {
		place := fmt.Sprintf("at byte %d:", strings.Index(c.broken, "]")+1)
		if p := h.call("operator", c.method, c.path, c.broken).wantProblem(http.StatusBadRequest); !strings.Contains(p.Detail, place) {
			t.Errorf("%s %s: %q, want %s", c.method, c.path, p.Detail, place)
		}
		a := h.call("operator", c.method, c.path, c.twice)
		a.wantFault(c.location)
		if !strings.Contains(string(a.body), "is given twice: which one is meant?") {
			t.Errorf("%s %s: %s", c.method, c.path, a.body)
		}
		h.call("operator", c.method, c.path, "{\"description\":\"\xff\"}").wantProblem(http.StatusBadRequest)
	}
}

func TestBodiesOfUnknownLength(t *testing.T) {
	h := newHouse(t, func(c *Config) { c.MaxBody = 2000 })
	send := func(body io.Reader) answer {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/companies/acme/events", body)
		r.ContentLength = -1
		r.Header.Set("Authorization", "Bearer "+h.keys["operator"])
		return h.do(r)
	}
	send(strings.NewReader(event("x"))).want(http.StatusAccepted)
	send(strings.NewReader(strings.Repeat(" ", 2001))).wantProblem(http.StatusRequestEntityTooLarge)
	send(io.MultiReader(strings.NewReader(`{"event_`), broken{})).wantProblem(http.StatusBadRequest)
	send(io.MultiReader(strings.NewReader(`{"event_`), slow{})).wantProblem(http.StatusRequestTimeout)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

type slow struct{}

func (slow) Read([]byte) (int, error) {
	return 0, &net.OpError{Op: "read", Err: context.DeadlineExceeded}
}

func TestWrongMethods(t *testing.T) {
	h := newHouse(t)
	for path, allow := range map[string]string{
		"/companies/acme/events":             "GET, HEAD, POST",
		"/companies/acme/events/e":           "DELETE, GET, HEAD",
		"/companies/acme/config/callbacks/1": "DELETE, GET, HEAD, PATCH",
		"/callback-types":                    "GET, HEAD",
		"/monitoring/":                       "GET, HEAD",
	} {
		a := h.call("operator", "PUT", path, `{}`)
		p := a.wantProblem(http.StatusMethodNotAllowed)
		if got := a.header.Get("Allow"); got != allow || !strings.Contains(p.Detail, allow) {
			t.Errorf("%s: Allow = %q, want %q: %s", path, got, allow, p.Detail)
		}
	}
}

func TestRedisIsGone(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	h.call("operator", "GET", callback, "").want(http.StatusOK) // the key is known from here on
	h.redis.Kill()
	for _, r := range []struct{ method, path, body string }{
		{"POST", "/companies/acme/events", event("e")},
		{"POST", "/companies/acme/config/callbacks", hook},
		{"GET", "/companies/acme/config/callbacks", ""},
		{"GET", callback, ""},
		{"PATCH", callback, `{"description":"x"}`},
		{"POST", callback + "/pause", ""},
		{"POST", callback + "/resume", ""},
		{"POST", callback + "/secret", ""},
		{"DELETE", callback, ""},
		{"GET", "/companies/acme/deliveries", ""},
		{"GET", "/companies/acme/events/e", ""},
		{"GET", "/callback-types", ""},
		{"GET", "/readyz", ""},
	} {
		a := h.call("operator", r.method, r.path, r.body)
		p := a.wantProblem(http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", r)
		}
		if strings.Contains(p.Detail, h.redis.Addr()) || strings.Contains(p.Detail, "redis.sock") {
			t.Errorf("%s: tells where Redis is: %s", r, p.Detail)
		}
	}
	h.call("unknown-key", "GET", "/callback-types", "").wantProblem(http.StatusServiceUnavailable)
	h.call("", "GET", "/healthz", "").want(http.StatusOK)
	if !strings.Contains(h.log.String(), "POST /companies/{company}/events") {
		t.Error("the log does not say which request failed")
	}
	h.redis.Restart()
	for end := time.Now().Add(time.Minute); h.call("", "GET", "/readyz", "").status != http.StatusOK; <-time.After(20 * time.Millisecond) {
		if time.Now().After(end) { // go-redis looks once a second, if so many could not connect as it has places: they are few on a machine of one core
			t.Fatal("Redis is back, and this is not ready")
		}
	}
	h.send("acme", "e")
}

func TestPanics(t *testing.T) {
	h := newHouse(t)
	h.api.mux.HandleFunc("GET /before", func(http.ResponseWriter, *http.Request) { panic("ouch") })
	h.api.mux.HandleFunc("GET /after", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "half an ans")
		panic("ouch")
	})
	h.api.mux.HandleFunc("GET /abort", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })

	h.call("", "GET", "/before", "").wantProblem(http.StatusInternalServerError)
	if log := h.log.String(); !strings.Contains(log, "ouch") || !strings.Contains(log, "/before") || !strings.Contains(log, "problem_test.go") {
		t.Errorf("the log does not tell what happened: %s", log)
	}
	for _, path := range []string{"/after", "/abort"} {
		func() {
			defer func() {
				if got := recover(); got != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
					t.Errorf("%s: panicked with %v, want http.ErrAbortHandler", path, got)
				}
			}()
			h.call("", "GET", path, "")
		}()
	}
}

func TestNothingIsLoggedForWhatGoesWell(t *testing.T) {
	h := newHouse(t)
	before := h.log.String()
	h.call("operator", "GET", "/companies/acme/deliveries", "").want(http.StatusOK)
	h.call("", "GET", "/companies/acme/deliveries", "").want(http.StatusUnauthorized)
	h.call("operator", "POST", "/companies/acme/events", "{}").want(http.StatusUnprocessableEntity)
	if got := h.log.String(); got != before {
		t.Errorf("logged: %s", got[len(before):])
	}
}
