package dispatcher

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const verify = "entry_code.verify"

// question asks about an entry code.
func question() Question {
	return Question{Company: acme, Type: verify, Payload: json.RawMessage(`{"entryCode": "4711",  "customer": {"externalId": "c-17"}}`)}
}

// deciding answers every request alike.
func deciding(status int, contentType, body string) func(*http.Request, int) reply {
	return func(*http.Request, int) reply {
		return reply{status: status, header: http.Header{"Content-Type": {contentType}}, body: body}
	}
}

// wantNoDecision asks, and wants to be told why no decision came.
func (h *house) wantNoDecision(q Question, status int, reason Reason, words string) *NoDecisionError {
	h.t.Helper()
	answer, err := h.client.Ask(h.t.Context(), q)
	e, ok := errors.AsType[*NoDecisionError](err)
	if !ok || answer != nil {
		h.t.Fatalf("answered %+v, error %v; want no decision", answer, err)
	}
	if e.StatusCode != status || e.Reason != reason || !strings.Contains(e.Detail, words) {
		h.t.Errorf("got %d %s %q\nwant %d %s %q", e.StatusCode, e.Reason, e.Detail, status, reason, words)
	}
	return e
}

func TestAsk(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register(verify, `"auth": {"type": "bearer", "token": "t0ken"}, "headers": {"X-Mine": "1"}`)
	for _, tt := range []struct {
		what        string
		status      int
		contentType string
		body, want  string
	}{
		{"accepted", 200, "application/json", `{"accepted": true, "customerId": "c-17"}`, `{"accepted": true, "customerId": "c-17"}`},
		{"rejected", 200, "application/json; charset=utf-8", `{"accepted":false,"n":1.0}`, `{"accepted":false,"n":1.0}`},
		{"no content", 204, "", "", "null"},
		{"a large answer", 200, "application/json", `{"a":"` + strings.Repeat("x", 60<<10) + `"}`, `{"a":"` + strings.Repeat("x", 60<<10) + `"}`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			h.partner.answers(deciding(tt.status, tt.contentType, tt.body))
			got, err := h.client.Ask(t.Context(), question())
			if err != nil {
				t.Fatal(err)
			}
			if got.CallbackID != cb.ID || got.StatusCode != tt.status || string(got.Body) != tt.want || got.DurationMS < 0 {
				t.Errorf("got %+v", got)
			}
			d := h.delivery(got.DecisionID)
			if d.State != ledger.Delivered || d.DecisionID != got.DecisionID || d.EventType != verify || d.CallbackID != cb.ID || len(d.Attempts) != 1 ||
				d.Attempts[0].StatusCode != tt.status || !strings.HasPrefix(d.Attempts[0].ResponseBody, tt.body[:min(len(tt.body), 500)]) {
				t.Errorf("recorded as %+v", d)
			}
			requests := h.partner.requests()
			r := requests[len(requests)-1]
			if r.id != got.DecisionID || r.body != string(question().Payload) || r.header.Get("Authorization") != "Bearer t0ken" || r.header.Get("X-Mine") != "1" ||
				r.header.Get("Ringback-Event-Type") != verify || r.header.Get("Ringback-Event-Id") != got.DecisionID || r.header.Get("Ringback-Test") != "" {
				t.Errorf("the partner got %+v", r)
			}
		})
	}
	if health, err := h.client.Health(t.Context(), acme, cb.ID); err != nil || health[0].LastSuccessAt.IsZero() || health[0].LastFailure != nil {
		t.Errorf("health %+v, %v", health, err)
	}
	h.check()
}

func TestAskWithoutDecision(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register(verify, "")
	for _, tt := range []struct {
		what        string
		status      int
		contentType string
		body        string
		wantStatus  int
		reason      Reason
		words       string
	}{
		{"not found, and why", 404, "application/json", `{"reason": "Customer id c-17 not found"}`, 404, "status_404", "answered 404 Not Found: Customer id c-17 not found"},
		{"not found, as text", 404, "text/plain", "Customer id c-17 not found\n", 404, "status_404", "answered 404 Not Found: Customer id c-17 not found"},
		{"not found, without a word", 404, "text/html", "<html>", 404, "status_404", "nothing answers at this path"},
		{"failed", 500, "text/plain", "", 500, "status_500", "the endpoint failed"},
		{"gone", 410, "", "", 410, "status_410", "410 Gone"},
		{"a redirect", 302, "", "", 302, "status_302", "redirects are not followed"},
		{"created", 201, "application/json", "{}", 201, "status_201", "only 204, or 200"},
		{"a login page", 200, "text/html", "<html>", 200, verdict.ReasonWrongContentType, "login page"},
		{"malformed", 200, "application/json", `{"accepted": tru`, 200, verdict.ReasonMalformedAnswer, "a body that is no JSON"},
		{"nothing where JSON is promised", 200, "application/json", "", 200, verdict.ReasonMalformedAnswer, "a body that is no JSON"},
		{"no UTF-8", 200, "application/json", "\"\xff\"", 200, verdict.ReasonMalformedAnswer, "a body that is no JSON"},
		{"too large", 200, "application/json", `"` + strings.Repeat("x", 65<<10) + `"`, 200, verdict.ReasonMalformedAnswer, "larger than 64 KiB"},
	} {
		h.partner.answers(deciding(tt.status, tt.contentType, tt.body))
		e := h.wantNoDecision(question(), tt.wantStatus, tt.reason, tt.words)
		if e.Late || e.CallbackID != cb.ID || e.Body != strings.ToValidUTF8(tt.body[:min(len(tt.body), len(e.Body))], "\uFFFD") && tt.what != "no UTF-8" {
			t.Errorf("%s: %+v", tt.what, e)
		}
		d := h.delivery(e.DecisionID)
		if d.State != ledger.Dead || d.Attempts[0].Reason != tt.reason || d.Attempts[0].Detail != e.Detail || !strings.Contains(d.Summary, "asked for once") {
			t.Errorf("%s: recorded as %+v", tt.what, d)
		}
	}
	if status, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || status.Status != registry.Enabled {
		t.Errorf("a 410 disabled the callback: %+v, %v", status, err)
	}
	health, err := h.client.Health(t.Context(), acme, cb.ID)
	if err != nil || health[0].LastFailure == nil || !strings.HasPrefix(health[0].LastFailure.DeliveryID, "dec_") || health[0].LastFailure.Reason != verdict.ReasonMalformedAnswer ||
		!strings.Contains(health[0].LastFailure.Detail, "64 KiB") || health[0].Dead != 0 {
		t.Errorf("health %+v, %v", health, err)
	}
	h.check()
}

func TestAskInTime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register(verify, `"timeout": "4s"`)
	patient := question()
	patient.Timeout = time.Minute // what is not about time has enough of it
	if _, err := h.client.Ask(t.Context(), patient); err != nil {
		t.Fatal(err) // now there is a connection
	}
	h.partner.answers(func(*http.Request, int) reply {
		return reply{status: 204, after: func(ctx context.Context) { <-ctx.Done() }}
	})
	q := question()
	q.Timeout = 2 * time.Second
	for _, timeout := range []time.Duration{q.Timeout, 0} { // its own, and the callback's
		q.Timeout = timeout
		start := time.Now()
		e := h.wantNoDecision(q, 0, "timeout", "no answer in time; ask with a longer timeout")
		if want := cmp.Or(timeout, cb.Timeout); !e.Late || time.Since(start) < want {
			t.Errorf("after %s: %+v", time.Since(start), e)
		}
	}
	// A body that drips does not last for ever either.
	h.partner.answers(func(r *http.Request, _ int) reply {
		return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {"100"}}, body: `{"accepted":`}
	})
	if e := h.wantNoDecision(patient, 200, verdict.ReasonMalformedAnswer, "breaks off"); e.Late {
		t.Error("an answer that breaks off counts as late")
	}
	h.partner.server.Close()
	if e := h.wantNoDecision(patient, 0, "refused", "the connection was refused"); e.Late {
		t.Error("a refused connection counts as late")
	}
	// The caller may hang up: that is nobody's failure.
	before, err := h.client.Health(t.Context(), acme, cb.ID)
	h.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	h.client.failpoint = func(name string) {
		if name == "asking" {
			cancel()
		}
	}
	_, err = h.client.Ask(ctx, patient)
	if e, ok := errors.AsType[*NoDecisionError](err); !ok || e.Reason != verdict.ReasonUnknown {
		t.Errorf("hung up: %v", err)
	} else if d := h.delivery(e.DecisionID); d.State != ledger.Dead || len(d.Attempts) != 1 {
		t.Errorf("hung up, and recorded as %+v", d)
	}
	after, err := h.client.Health(t.Context(), acme, cb.ID)
	h.must(err)
	if after[0].LastFailure.DeliveryID != before[0].LastFailure.DeliveryID {
		t.Errorf("the caller's hanging up is held against the callback: %+v", after[0].LastFailure)
	}
}

// Who is asked: the one enabled callback, those for the type before those for a glob.
func TestAskElectsOne(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(deciding(200, "application/json", "true"))
	asks := func(cb *registry.Callback) {
		t.Helper()
		if got, err := h.client.Ask(t.Context(), question()); err != nil || got.CallbackID != cb.ID {
			t.Errorf("asked %+v, %v, want callback %d", got, err, cb.ID)
		}
	}
	refuses := func(words string, callbacks ...*registry.Callback) {
		t.Helper()
		var ids []int64
		for _, cb := range callbacks {
			ids = append(ids, cb.ID)
		}
		_, err := h.client.Ask(t.Context(), question())
		e, ok := errors.AsType[*ElectionError](err)
		if !ok || !slices.Equal(e.Callbacks, ids) || !strings.Contains(e.Message, words) {
			t.Errorf("%v, want %q and %v", err, words, ids)
		}
	}
	steer := func(what func(context.Context, string, int64) (*registry.Callback, error), cb *registry.Callback) {
		t.Helper()
		_, err := what(t.Context(), acme, cb.ID)
		h.must(err)
	}

	if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrNotAsked) {
		t.Errorf("nobody is registered: %v", err)
	}
	glob := h.register("*", "")
	asks(glob)
	first := h.register(verify, "")
	asks(first)
	second := h.register(verify, "")
	refuses("more than one callback is enabled for entry_code.verify", first, second)
	steer(h.registry.Pause, first)
	asks(second)
	steer(h.registry.Pause, second)
	refuses("none is enabled: 2 (paused), 3 (paused); resume one", first, second)
	steer(h.registry.Resume, first)
	asks(first)
	h.must(h.registry.Delete(t.Context(), acme, first.ID))
	h.must(h.registry.Delete(t.Context(), acme, second.ID))
	asks(glob)
	h.check()
}

// A callback that another process registered is asked at once, and one that it deleted is not.
func TestAskKnowsWhatOthersRegister(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(deciding(204, "", ""))
	other, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(t)})
	h.must(err)
	if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrNotAsked) {
		t.Fatal(err)
	}
	for range 20 {
		cb, err := other.Create(t.Context(), acme, fmt.Appendf(nil, `{"callback_type": %q, "destination": {"url": %q}}`, verify, h.partner.url("x")))
		h.must(err)
		h.partner.knows(cb)
		if got, err := h.client.Ask(t.Context(), question()); err != nil || got.CallbackID != cb.ID {
			t.Fatalf("%+v, %v", got, err)
		}
		h.must(other.Delete(t.Context(), acme, cb.ID))
		if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrNotAsked) {
			t.Fatal(err)
		}
	}
	h.check()
}

func TestAskRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, tt := range []struct {
		what     func(*Question)
		location string
		words    string
	}{
		{func(q *Question) { q.Type = "payment_proof" }, "body.event_type", "is sent, not asked"},
		{func(q *Question) { q.Type = "nope" }, "body.event_type", "names no such type; "},
		{func(q *Question) { q.Payload = json.RawMessage(`{}`) }, "body.payload.entryCode", "is missing"},
		{func(q *Question) { q.Payload = nil }, "body.payload", "is missing"},
		{func(q *Question) { q.Timeout = 99 * time.Millisecond }, "body.timeout", "from 100ms to 1m"},
		{func(q *Question) { q.Timeout = time.Minute + 1 }, "body.timeout", "from 100ms to 1m"},
		{func(q *Question) { q.Timeout = -1 }, "body.timeout", "from 100ms to 1m"},
		{func(q *Question) { q.Company = "a/b" }, "path.company", "must be"},
	} {
		q := question()
		tt.what(&q)
		_, err := h.client.Ask(t.Context(), q)
		e, ok := errors.AsType[*payloads.InvalidError](err)
		if !ok || e.Fields[0].Location != tt.location || !strings.Contains(e.Fields[0].Message, tt.words) {
			t.Errorf("%v, want %s %q", err, tt.location, tt.words)
		}
	}
	_, err := h.client.Send(t.Context(), payloads.Event{Company: acme, Type: verify, Payload: question().Payload})
	if e, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(e.Error(), "body.event_type is asked, not sent") {
		t.Errorf("sent as an event: %v", err)
	}
	h.redis.Kill()
	if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without Redis: %v", err)
	}
}

// Decisions are listed by themselves, newest first, and are neither replayed nor cancelled.
func TestDecisionsAreListed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register(verify, "")
	h.register("payment_proof", "")
	h.work()
	h.send(proof("e1"))
	var asked []string
	for i := range 5 {
		h.partner.answers(deciding(map[bool]int{true: 204, false: 500}[i%2 == 0], "", ""))
		got, err := h.client.Ask(t.Context(), question())
		if e, ok := errors.AsType[*NoDecisionError](err); ok {
			asked = append(asked, e.DecisionID)
		} else {
			asked = append(asked, got.DecisionID)
		}
	}
	slices.Reverse(asked)
	list := func(q Query) (ids []string) {
		t.Helper()
		q.Limit = 2
		for {
			page, next, err := h.client.Deliveries(t.Context(), acme, q)
			h.must(err)
			for _, d := range page {
				ids = append(ids, d.DeliveryID)
			}
			if q.Cursor = next; next == "" {
				return ids
			}
		}
	}
	if got := list(Query{Decisions: true}); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(asked))) {
		t.Errorf("listed %v, want %v", got, asked)
	}
	if got := list(Query{Decisions: true, States: []ledger.State{ledger.Dead}}); len(got) != 2 {
		t.Errorf("dead: %v", got)
	}
	if got := list(Query{Decisions: true, EventType: "payment_proof"}); len(got) != 0 {
		t.Errorf("of another type: %v", got)
	}
	h.awaitAll(30 * time.Second)
	for _, q := range []Query{{}, {States: []ledger.State{ledger.Dead}}} {
		for _, id := range list(q) {
			if strings.HasPrefix(id, "dec_") {
				t.Errorf("%+v lists decision %s", q, id)
			}
		}
	}
	for _, steer := range []func(context.Context, string, string) (*Delivery, error){h.client.Replay, h.client.Cancel} {
		if _, err := steer(t.Context(), acme, asked[0]); err == nil || !strings.Contains(err.Error(), "asked for once") {
			t.Errorf("%v", err)
		}
		if _, err := steer(t.Context(), acme, "dec_nope"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	if _, err := h.client.Delivery(t.Context(), "other", asked[0]); !errors.Is(err, ErrNotFound) {
		t.Errorf("another company sees it: %v", err)
	}
	h.check()
}

// A kill while the partner is asked leaves a record that says so; records age with retention, and the book with them.
func TestDecisionsAreKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Retention = 6 * time.Second })
	h.register(verify, "")
	h.partner.answers(deciding(204, "", ""))
	var id string
	h.client.failpoint = func(name string) {
		if name != "asking" {
			return
		}
		keys, err := h.rdb.Keys(t.Context(), ledger.Key(acme, "ask:*")).Result()
		h.must(err)
		id = strings.TrimPrefix(keys[0], ledger.Key(acme, "ask:"))
		if d := h.delivery(id); d.State != ledger.Active || len(d.Attempts) != 0 {
			t.Errorf("while it is asked: %+v", d)
		}
		panic("killed")
	}
	func() {
		defer func() { _ = recover() }()
		_, _ = h.client.Ask(t.Context(), question())
	}()
	h.client.failpoint = nil
	h.must(h.rdb.HSet(t.Context(), ledger.Key(acme, "ask:"+id), "u", 1).Err()) // its time is up
	if d := h.delivery(id); d.State != ledger.Dead || d.Attempts[0].Reason != verdict.ReasonUnknown || !strings.Contains(d.Summary, "not known") {
		t.Errorf("after a kill: %+v", d)
	}
	h.check()
	for i := range 12 {
		if i == 11 {
			h.swept("ask:" + id)
			h.must(h.rdb.ZAdd(t.Context(), ledger.Key(acme, "asks"), redis.Z{Score: 1, Member: "dec_old"}).Err())
		}
		_, err := h.client.Ask(t.Context(), question())
		h.must(err)
	}
	left, err := h.rdb.ZRange(t.Context(), ledger.Key(acme, "asks"), 0, -1).Result()
	h.must(err)
	if slices.Contains(left, "dec_old") || slices.Contains(left, id) {
		t.Errorf("the book still names %v", left)
	}
	h.swept("asks")
}

// swept waits until the company's sweep has taken a key.
func (h *house) swept(name string) {
	h.t.Helper()
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(h.t.Context(), acme))
		n, err := h.rdb.Exists(h.t.Context(), ledger.Key(acme, name)).Result()
		h.must(err)
		return n == 0
	}, func() string { return name + " stays" })
}

// The callback's success rule says which statuses count, among those that can carry a decision.
func TestAskBySuccessRule(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, rule := range []string{"any_2xx", "any_response"} {
		cb := h.register(verify, fmt.Sprintf(`"success": %q`, rule))
		for body, want := range map[string]string{"": "null", `{"accepted":true}`: `{"accepted":true}`} {
			h.partner.answers(deciding(202, "text/plain", body))
			if got, err := h.client.Ask(t.Context(), question()); err != nil || string(got.Body) != want || got.StatusCode != 202 {
				t.Errorf("%s, %q: %+v, %v", rule, body, got, err)
			}
		}
		h.partner.answers(deciding(404, "application/json", "{}"))
		_ = h.wantNoDecision(question(), 404, "status_404", "nothing answers at this path")
		h.must(h.registry.Delete(t.Context(), acme, cb.ID))
	}
	h.check()
}

// The caller's trace leads through the asking to the partner, and to the record.
func TestAskIsTraced(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	reader := sdkmetric.NewManualReader()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	h := newHouse(t, func(c *Config) {
		c.TracerProvider = provider
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	h.register(verify, `"trace": true`)
	h.work() // without its lanes there are no metrics
	ctx, caller := provider.Tracer("caller").Start(t.Context(), "door")
	h.partner.answers(deciding(204, "", ""))
	got, err := h.client.Ask(ctx, question())
	h.must(err)
	h.partner.answers(deciding(500, "", ""))
	_, err = h.client.Ask(ctx, question())
	if err == nil {
		t.Fatal("500 is a decision")
	}
	caller.End()
	trace := caller.SpanContext().TraceID().String()
	names := map[string]int{}
	for _, s := range spans.GetSpans() {
		names[s.Name]++
		if s.SpanContext.TraceID().String() != trace {
			t.Errorf("%s is in another trace", s.Name)
		}
	}
	if names["ask "+verify] != 2 || names["attempt "+verify] != 2 {
		t.Errorf("spans %v", names)
	}
	for _, r := range h.partner.requests() {
		if !strings.Contains(r.header.Get("Traceparent"), trace) {
			t.Errorf("traceparent %q", r.header.Get("Traceparent"))
		}
	}
	if d := h.delivery(got.DecisionID); d.TraceID != trace {
		t.Errorf("recorded with trace %q, want %q", d.TraceID, trace)
	}
	var all metricdata.ResourceMetrics
	h.must(reader.Collect(context.WithoutCancel(t.Context()), &all))
	counted := map[string]uint64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "ringback.decision.duration" {
				for _, p := range data.DataPoints {
					counted[labels(p.Attributes)] += p.Count
				}
			}
		}
	}
	if counted[" reason= verdict=delivered"] != 1 || counted[" reason=status_500 verdict=dead"] != 1 {
		t.Errorf("counted %v", counted)
	}
	h.check()
}

// A decision that got no access token is retried by nobody, and not held against the partner.
func TestAskWithoutToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register(verify, `"auth": {"type": "oauth2", "token_url": "http://127.0.0.1:1/token", "client_id": "me", "client_secret": "s3cr3t"}`)
	e := h.wantNoDecision(question(), 0, verdict.ReasonOAuthToken, "the connection was refused")
	health, err := h.client.Health(t.Context(), acme, cb.ID)
	h.must(err)
	if f := health[0].LastTokenFailure; health[0].LastFailure != nil || f == nil || f.DeliveryID != e.DecisionID {
		t.Errorf("health %+v, %+v", health[0], f)
	}
	h.check()
}

// Some partners say why in the status line.
func TestAskReadsTheStatusLine(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 404 Customer id c-17 not found <t0ken>\r\nContent-Length: 0\r\n\r\n")
		_ = conn.Close()
	}))
	t.Cleanup(server.Close)
	_, err := h.registry.Create(t.Context(), acme, fmt.Appendf(nil, `{"callback_type": %q, "destination": {"url": %q}, "auth": {"type": "bearer", "token": "t0ken"}}`, verify, server.URL))
	h.must(err)
	e := h.wantNoDecision(question(), 404, "status_404", "answered 404 Not Found: Customer id c-17 not found ***")
	if d := h.delivery(e.DecisionID); d.Attempts[0].Detail != e.Detail {
		t.Errorf("recorded as %q", d.Attempts[0].Detail)
	}
}

// What a partner says to people stands in the answer and the record, without our secrets, and in no log or trace.
func TestPartnersWordsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	spans := tracetest.NewInMemoryExporter()
	h := newHouse(t, func(c *Config) {
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
		c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	})
	h.register(verify, `"auth": {"type": "bearer", "token": "c2Vj/cmV0+dG9r/ZW4="}`)
	h.partner.answers(deciding(403, "application/json", `{"message":"bad token c2Vj\/cmV0+dG9r\/ZW4= for Jane \u202eDoe"}`))
	e := h.wantNoDecision(question(), 403, "status_403", "answered 403 Forbidden: bad token *** for Jane Doe")
	d := h.delivery(e.DecisionID)
	for _, said := range []string{d.Attempts[0].Detail, e.Body, d.Attempts[0].ResponseBody} {
		if !strings.Contains(said, "bad token ***") {
			t.Errorf("kept as %s", said)
		}
	}
	told := log.String() + fmt.Sprint(spans.GetSpans())
	if !strings.Contains(told, "status_403") || strings.Contains(told, "Jane") || strings.Contains(told, "cmV0") {
		t.Errorf("told: %s", told)
	}
	h.check()
}

// Whoever waits with a shorter time than the partner has is not the partner's failure.
func TestAskersDeadlineIsTheirOwn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register(verify, "")
	h.partner.answers(func(*http.Request, int) reply {
		return reply{status: 204, after: func(ctx context.Context) { <-ctx.Done() }}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := h.client.Ask(ctx, question())
	if e, ok := errors.AsType[*NoDecisionError](err); !ok || e.Reason != verdict.ReasonUnknown || e.Late {
		t.Errorf("%v", err)
	}
	if health, err := h.client.Health(t.Context(), acme, cb.ID); err != nil || health[0].LastFailure != nil {
		t.Errorf("health %+v, %v", health, err)
	}
	h.check()
}

// A partner that hangs holds so many askers and no more; a full Redis takes no more records.
func TestAskIsBounded(t *testing.T) {
	t.Parallel()
	var u underWay
	var last func()
	for range maxAsked {
		done, ok := u.take("acme/a")
		if !ok {
			t.Fatal("refused")
		}
		last = done
	}
	if _, ok := u.take("acme/a"); ok {
		t.Error("one too many")
	}
	if _, ok := u.take("acme/b"); !ok {
		t.Error("another type is refused, too")
	}
	last()
	if _, ok := u.take("acme/a"); !ok {
		t.Error("what is done counts still")
	}

	h := newHouse(t)
	h.client.asked.n = map[string]int{acme + "/" + verify: maxAsked}
	if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrTooManyAsked) {
		t.Errorf("%v", err)
	}
	h.client.asked.n = nil
	h.must(h.rdb.ConfigSet(t.Context(), "maxmemory", "1mb").Err())
	if _, err := h.client.Ask(t.Context(), question()); !errors.Is(err, ErrOverloaded) {
		t.Errorf("%v", err)
	}
	if len(h.client.asked.n) != 0 {
		t.Errorf("still under way: %v", h.client.asked.n)
	}
}

// A partner that refuses a token that was good gets the question once more with a new one; who asks does not notice. A token endpoint that is
// silent for as long as the asker waits is no answer in time.
func TestAskWithARevokedToken(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	endpoint := &issuer{}
	h.register(verify, h.withTokens(endpoint))
	for range 2 {
		if got, err := h.client.Ask(t.Context(), question()); err != nil || got.StatusCode != 204 {
			t.Fatalf("%+v, %v", got, err)
		}
		endpoint.revoke()
	}
	if _, issued := endpoint.counts(); issued != 2 || len(h.partner.requests()) != 3 || h.refused() != 1 {
		t.Errorf("%d tokens, %d requests", issued, len(h.partner.requests()))
	}
	h.check()
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	endpoint.fails(func(http.ResponseWriter, *http.Request) bool { <-over; return true })
	h.register("entry_code.*", "") // not asked: there is one for the type
	q := question()
	q.Timeout = 1200 * time.Millisecond // the last token was refused, so that the next has to prove itself for a second
	var e *NoDecisionError
	for e == nil || e.Reason != verdict.ReasonOAuthToken {
		_, err := h.client.Ask(t.Context(), q)
		e, _ = errors.AsType[*NoDecisionError](err)
	}
	if !e.Late || e.StatusCode != 0 {
		t.Errorf("%+v", e)
	}
}

func TestElectionErrorsStayShort(t *testing.T) {
	e, ok := errors.AsType[*ElectionError](electionError(verify, ledger.Election{Several: slices.Repeat([]int64{7}, 1000)}))
	if !ok || len(e.Callbacks) != maxNamed || !strings.Contains(e.Message, "7, …; pause") {
		t.Errorf("%d callbacks, %v", len(e.Callbacks), e)
	}
}
