package dispatcher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestEveryOutcome sends to partners that answer, and fail to, in every way the contracts name: real requests, real errors.
func TestEveryOutcome(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(func(r *http.Request, _ int) reply {
		status, contentType, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ":")
		n, _ := strconv.Atoi(status)
		header := http.Header{"Content-Type": nil}
		if contentType != "" {
			header.Set("Content-Type", strings.ReplaceAll(contentType, "_", "/"))
		}
		if n == 301 {
			header.Set("Location", "/204")
		}
		return reply{status: n, header: header, body: strings.Repeat("x", min(n, 200)/200*20)}
	})
	raw := func(serve func(net.Conn)) string {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		h.must(err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				serve(c)
			}
		}()
		return l.Addr().String()
	}
	read := func(c net.Conn) { // all of it: closing on unread bytes is a reset
		if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
	}
	closed := raw(func(c net.Conn) { read(c); _ = c.Close() })
	reset := raw(func(c net.Conn) {
		_, _ = c.Read(make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	})
	silent := raw(func(c net.Conn) { t.Cleanup(func() { _ = c.Close() }) })
	nonsense := raw(func(c net.Conn) {
		read(c)
		_, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n"))
		_ = c.Close()
	})
	selfSigned := httptest.NewTLSServer(http.NotFoundHandler())
	selfSigned.Config.ErrorLog = nil
	t.Cleanup(selfSigned.Close)
	refused := func() string {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		h.must(err)
		defer func() { _ = l.Close() }()
		return l.Addr().String()
	}()

	type want struct {
		state  ledger.State
		reason Reason
		says   string
	}
	at := func(path string) string { return "http://" + h.partner.host + "/" + path }
	cases := map[string]want{
		at("204"):                                {ledger.Delivered, "", "delivered"},
		at("200:application_json"):               {ledger.Delivered, "", "delivered"},
		at("200:application_json;charset=utf-8"): {ledger.Delivered, "", "delivered"},
		at("200:text_html"):                      {ledger.Retrying, verdict.ReasonWrongContentType, "add Content-Type: application/json"},
		at("200"):                                {ledger.Retrying, verdict.ReasonWrongContentType, "without a Content-Type"},
		at("410"):                                {ledger.Dead, verdict.ReasonGone, "disabled"},
		"http://" + closed:                       {ledger.Retrying, "connection_closed", "closed"},
		"http://" + reset:                        {ledger.Retrying, "reset", "reset"},
		"http://" + silent:                       {ledger.Retrying, "timeout", "in time"},
		"http://" + nonsense:                     {ledger.Retrying, "bad_response", "HTTP"},
		"http://" + refused:                      {ledger.Retrying, "refused", "refused"},
		selfSigned.URL:                           {ledger.Retrying, "tls", "certificate"},
		"https://" + h.partner.host:              {ledger.Retrying, "tls", "TLS"},
		"http://no-such-host.invalid":            {ledger.Retrying, "dns", "host name"},
		"http://10.1.2.3":                        {ledger.Dead, verdict.ReasonBlockedAddress, "address"},
	}
	for _, status := range []int{201, 202, 301, 400, 401, 404, 409, 429, 500, 503} {
		cases[at(strconv.Itoa(status))] = want{ledger.Retrying, verdict.StatusReason(status), strconv.Itoa(status)}
	}
	urls := make(map[int64]string)
	for url := range cases {
		timeout := "60s" // a busy machine may take long over a handshake
		if url == "http://"+silent {
			timeout = "5s"
		}
		cb, err := h.registry.Create(t.Context(), acme, fmt.Appendf(nil,
			`{"callback_type": "payment_proof", "destination": {"url": %q}, "timeout": %q, "retry": {"initial_interval": "1h"}}`, url, timeout))
		h.must(err)
		h.partner.knows(cb)
		urls[cb.ID] = url
	}
	h.work()
	for _, d := range h.send(proof("p-1")).Deliveries {
		url := urls[d.CallbackID]
		want := cases[url]
		var got *Delivery
		h.eventually(30*time.Second, func() bool { got = h.delivery(d.DeliveryID); return got.State == want.state }, func() string {
			return fmt.Sprintf("%s: %s, want %s: %s", url, got.State, want.state, got.Summary)
		})
		a := got.Attempts[0]
		if a.Reason != want.reason || !strings.Contains(a.Detail, want.says) {
			t.Errorf("%s: %s %q, want %s and %q", url, a.Reason, a.Detail, want.reason, want.says)
		}
		if strings.Contains(a.Detail+got.Summary, "127.0.0.1") || strings.Contains(a.Detail, "10.1.2.3") {
			t.Errorf("%s: an address shows: %s", url, a.Detail)
		}
		t.Logf("%-20s %s", a.Reason, a.Detail)
	}
	tasks := h.retries()
	if !slices.ContainsFunc(tasks, func(i *asynq.TaskInfo) bool { return strings.Contains(i.LastErr, "wrong_content_type") }) {
		t.Error("asynq's retries do not show the reason")
	}
	for _, task := range tasks {
		if strings.Contains(task.LastErr, "127.0.0.1") || strings.Contains(task.LastErr, "http://") {
			t.Errorf("an address shows in asynq: %s", task.LastErr)
		}
	}
	for id := range urls {
		h.must(h.registry.Delete(t.Context(), acme, id)) // what retries is cancelled
	}
	h.eventually(10*time.Second, func() bool {
		n, err := h.rdb.ZCard(t.Context(), ledger.Key(acme, "due")).Result()
		return err == nil && n == 0
	}, func() string { return "retries of deleted callbacks still wait" })
}

// TestReplicasMustHoldAnEvent: with WaitReplicas, what no replica has is not accepted; and the repeat is, once one has.
func TestReplicasMustHoldAnEvent(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient, func(c *Config) { c.WaitReplicas = 1 })
	h.register("payment_proof", "")
	if _, err := h.client.Send(t.Context(), proof("p-1")); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("no replica, but: %v", err)
	}
	host, port, err := net.SplitHostPort(h.redis.Addr())
	h.must(err)
	replica := redistest.Start(t, "--replicaof", host, port)
	h.eventually(20*time.Second, func() bool {
		_, err := h.client.Send(t.Context(), proof("p-1"))
		return err == nil
	}, func() string { return "the replica does not help" })
	h.ack(proof("p-1"))

	// A repeat that only finds the event stored is vouched for too, also on a connection that wrote nothing.
	replica.Stop()
	if _, err := h.client.Send(t.Context(), proof("p-2")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the replica hangs, but: %v", err)
	}
	fresh, err := New(Config{
		Redis: h.redis.Client(), Registry: h.registry, Egress: h.egress, Logger: testLog(t), WaitReplicas: 1,
	})
	h.must(err)
	t.Cleanup(func() { h.must(fresh.Close()) })
	if _, err := fresh.Send(t.Context(), proof("p-2")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the replica hangs, but the repeat: %v", err)
	}
	replica.Cont()
	h.eventually(20*time.Second, func() bool {
		_, err := fresh.Send(t.Context(), proof("p-2"))
		return err == nil
	}, func() string { return "the replica does not come back" })
	h.ack(proof("p-2"))
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

// TestTelemetry follows one event from its acceptance to its second attempt: one trace, and the counters.
func TestTelemetry(t *testing.T) {
	t.Parallel()
	spans := tracetest.NewInMemoryExporter()
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) {
		c.TracerProvider = sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
		c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	})
	h.partner.answers(answering(503, 204))
	h.register("payment_proof", `"trace": true, "retry": {"initial_interval": "1s"}`)
	paused := h.register("payment_proof", "")
	_, err := h.registry.Pause(t.Context(), acme, paused.ID)
	h.must(err)
	h.work()
	r := h.send(proof("p-1"))
	h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second)
	e, err := h.client.Event(t.Context(), acme, "p-1")
	h.must(err)
	h.eventually(5*time.Second, func() bool { return len(spans.GetSpans()) == 4 }, func() string { return fmt.Sprintf("%d spans", len(spans.GetSpans())) })
	var accept tracetest.SpanStub
	for _, s := range spans.GetSpans() {
		if s.SpanContext.TraceID().String() != e.TraceID {
			t.Errorf("%s is in another trace", s.Name)
		}
		if strings.HasPrefix(s.Name, "accept") {
			accept = s
		}
	}
	phases := make(map[string]int)
	for _, s := range spans.GetSpans() {
		for _, e := range s.Events {
			phases[e.Name]++
		}
		if !strings.HasPrefix(s.Name, "accept") && s.Parent.SpanID() != accept.SpanContext.SpanID() {
			t.Errorf("%s hangs elsewhere", s.Name)
		}
	}
	if phases["first_byte"] != 2 || phases["connect.done"] != 1 || phases["dns.done"]+phases["tls.done"] != 0 {
		t.Errorf("two requests over one plain connection have the phases %v", phases)
	}
	for _, got := range h.partner.requests() {
		if !strings.Contains(got.header.Get("Traceparent"), e.TraceID) {
			t.Errorf("traceparent: %q", got.header.Get("Traceparent"))
		}
	}

	var all metricdata.ResourceMetrics
	h.must(reader.Collect(context.WithoutCancel(t.Context()), &all))
	got := make(map[string]float64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					got[m.Name+labels(p.Attributes)] += float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					got[m.Name] += float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					got[m.Name] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					got[m.Name] += float64(p.Count)
				}
			}
		}
	}
	for name, want := range map[string]float64{
		"ringback.events.accepted duplicate=false":          1,
		"ringback.attempts reason=status_503 verdict=retry": 1,
		"ringback.attempts reason= verdict=delivered":       1,
		"ringback.attempt.duration":                         2,
		"ringback.delivery.lag":                             1,
		"ringback.room.deliveries":                          1,
		"ringback.dead_letters":                             0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s: %v, %t; want %v", name, v, ok, want)
		}
	}
	for _, name := range []string{"ringback.lane.tasks", "ringback.oldest_due.age"} {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing: %v", name, got)
		}
	}
	_, err = h.client.Cancel(t.Context(), acme, r.Deliveries[1].DeliveryID)
	h.must(err)
	h.check()
}

func labels(set attribute.Set) string {
	var b strings.Builder
	for _, kv := range set.ToSlice() {
		fmt.Fprintf(&b, " %s=%s", kv.Key, kv.Value.String())
	}
	return b.String()
}

// TestReasonLabelsAreBounded: a stranger chooses the status.
func TestReasonLabelsAreBounded(t *testing.T) {
	seen := make(map[string]bool)
	for status := 100; status <= 999; status++ {
		seen[reasonLabel(verdict.StatusReason(status))] = true
	}
	if len(seen) > 70 || !seen["status_other"] || !seen["status_503"] {
		t.Errorf("%d labels", len(seen))
	}
}

// TestTestsShowWhoRewritesTheBody: a test's JSON is the example in a fragile writing, a form is the example's own, and a stamp stands in either. A refusal is told
// with what it likely was, and with the credentials that the callback has.
func TestTestsShowWhoRewritesTheBody(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(401))
	stamp := regexp.MustCompile(`"timeOfIssue"[ :]+"([^"]*)"`)
	for _, tt := range []struct{ typ, more, says string }{
		{"payment_proof", "", "wants credentials, and the callback has no auth"},
		{"payment_proof", `"auth": {"type": "bearer", "token": "secret-token"}`, "does not take the callback's auth (a bearer token)"},
		{"payment_proof", `"headers": {"X-Api-Key": "secret-key"}`, "does not take what the callback's headers hold"},
		{"entry_code.validation_failed", "", "`ringback verify` tells which"},
	} {
		cb := h.register(tt.typ, tt.more)
		got, err := h.client.Test(t.Context(), acme, cb.ID, "")
		h.must(err)
		if !strings.Contains(got.Detail, tt.says) || !strings.Contains(got.Detail, "a test's JSON is written so that it changes") {
			t.Errorf("%s, %s: %s", tt.typ, tt.more, got.Detail)
		}
		typ, _ := payloads.Builtin().Lookup(tt.typ)
		requests := h.partner.requests()
		sent, want := requests[len(requests)-1].body, string(typ.Fragile())
		if at := stamp.FindStringSubmatch(sent); at != nil {
			was := stamp.FindStringSubmatch(want)
			want = strings.Replace(want, was[0], strings.Replace(was[0], was[1], at[1], 1), 1)
			if at[1] == was[1] {
				t.Errorf("%s is not stamped: %s", tt.typ, sent)
			}
		}
		if sent != want {
			t.Errorf("%s got %s, want %s", tt.typ, sent, want)
		}
	}
	form, err := h.registry.Create(t.Context(), acme, fmt.Appendf(nil,
		`{"callback_type": "payment_proof", "destination": {"url": "http://%s/hook", "content_type": "application/x-www-form-urlencoded"}}`, h.partner.host))
	h.must(err)
	_, err = h.client.Test(t.Context(), acme, form.ID, "")
	h.must(err)
	typ, _ := payloads.Builtin().Lookup("payment_proof")
	want, err := payloads.Encode(payloads.ContentTypeForm, typ.Example)
	h.must(err)
	if requests := h.partner.requests(); requests[len(requests)-1].body != string(want) {
		t.Errorf("as a form: %s", requests[len(requests)-1].body)
	}
}

// TestTestDelivery: one attempt at once, also while paused, judged as a delivery's would be, and nothing is left of it.
func TestTestDelivery(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("*", `"retry": {"max_attempts": 1}`)
	_, err := h.registry.Pause(t.Context(), acme, cb.ID)
	h.must(err)
	before := h.keys()
	for _, tt := range []struct {
		status  int
		verdict Verdict
		reason  Reason
	}{{204, verdict.Delivered, ""}, {500, verdict.Retry, "status_500"}, {410, verdict.Gone, verdict.ReasonGone}} {
		h.partner.answers(answering(tt.status))
		got, err := h.client.Test(t.Context(), acme, cb.ID, "payment_proof")
		h.must(err)
		if got.Verdict != tt.verdict || got.Reason != tt.reason || got.StatusCode != tt.status || got.Number != 1 || got.EventType != "payment_proof" {
			t.Errorf("answering %d: %+v", tt.status, got)
		}
		requests := h.partner.requests()
		last := requests[len(requests)-1]
		if last.header.Get("Webhook-Id") != got.DeliveryID || !strings.HasPrefix(got.DeliveryID, "tst_") || last.header.Get("Ringback-Test") != "1" {
			t.Errorf("the partner got %v", last.header)
		}
		if err := h.partner.verify(last.path, last.header, []byte(last.body)); err != nil {
			t.Error(err)
		}
	}
	for name, tt := range map[string]struct {
		id        int64
		eventType string
		want      string
	}{
		"none named":  {cb.ID, "", "several types"},
		"glob":        {cb.ID, "payment*", "several types"},
		"unknown":     {cb.ID, "nothing", "names no such type; "},
		"not its own": {h.register("payment_proof", "").ID, "wallet_item_install", "payment_proof"},
	} {
		if _, err := h.client.Test(t.Context(), acme, tt.id, tt.eventType); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := h.client.Test(t.Context(), acme, 99, "payment_proof"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("no such callback: %v", err)
	}
	arrived, release := make(chan struct{}), make(chan struct{})
	h.partner.answers(func(*http.Request, int) reply {
		return reply{status: 204, after: func(context.Context) { close(arrived); <-release }}
	})
	first := make(chan error, 1)
	go func() {
		_, err := h.client.Test(t.Context(), acme, cb.ID, "payment_proof")
		first <- err
	}()
	<-arrived
	_, err = h.client.Test(t.Context(), acme, cb.ID, "payment_proof")
	close(release)
	if _, ok := errors.AsType[*StateError](err); !ok || <-first != nil {
		t.Errorf("two tests of a callback at once: %v", err)
	}
	h.must(h.registry.Delete(t.Context(), acme, 2))
	if got, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || got.Status != registry.Paused {
		t.Errorf("after the tests: %v, %v", got, err)
	}
	after := h.keys()
	for _, key := range after {
		if strings.Contains(key, ":ev:") || strings.Contains(key, "dead") || strings.Contains(key, "due") {
			t.Errorf("%d keys before, %d after, among them %s", len(before), len(after), key)
		}
		if strings.Contains(key, "health") { // it has the registry's note of the host, and nothing else
			if fields := h.rdb.HKeys(t.Context(), key).Val(); !slices.Equal(fields, []string{"hn"}) {
				t.Errorf("%s has %v", key, fields)
			}
		}
	}
}

// TestANearlyFullRedisTakesNoMore: events are refused before Redis refuses, what was accepted is still delivered, and once there is room
// events are taken again by themselves.
func TestANearlyFullRedisTakesNoMore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.send(proof("before"))
	for i := range 32 {
		h.must(h.rdb.HSet(t.Context(), "others", i, strings.Repeat("x", 1<<20)).Err())
	}
	h.eventually(5*time.Second, func() bool { // Redis's buffers come and go
		one, err := h.client.memory.read(t.Context())
		h.must(err)
		<-time.After(50 * time.Millisecond)
		other, err := h.client.memory.read(t.Context())
		h.must(err)
		return max(one.used, other.used)-min(one.used, other.used) < 1<<20
	}, func() string { return "Redis's memory does not settle" })
	m, err := h.client.memory.read(t.Context())
	h.must(err)
	h.must(h.rdb.ConfigSet(t.Context(), "maxmemory", strconv.FormatInt(m.used*100/75, 10)).Err())
	taken := func() error {
		_, err := h.client.Send(t.Context(), proof("again"))
		return err
	}
	h.eventually(5*time.Second, func() bool { return errors.Is(taken(), ErrOverloaded) }, func() string { return "events are taken though Redis is nearly full" })
	if m, err = h.client.memory.read(t.Context()); err != nil || m.share() < DefaultShedAt || m.share() > 90 {
		t.Errorf("refused at %d %% of maxmemory, %v", m.share(), err)
	}
	h.work()
	h.awaitAll(20 * time.Second)
	h.must(h.rdb.Del(t.Context(), "others").Err())
	h.eventually(5*time.Second, func() bool { return taken() == nil }, func() string { return "no event is taken though there is room" })
	h.ack(proof("again"))
	h.check()
}

// TestFormatTask: asynq's UI shows names and how the delivery stands, never content.
func TestFormatTask(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(503))
	h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	h.work()
	id := h.send(proof("p-1")).Deliveries[0].DeliveryID
	h.await(id, ledger.Retrying, 5*time.Second)
	task := taskOf(t, ledger.Ref{Company: acme, Event: "p-1", Callback: 1}, 1)
	shown := h.client.FormatTask(task.Type(), task.Payload())
	want := `{"company":"acme","callback_id":1,"event_type":"payment_proof","event_id":"p-1","delivery_id":"` + id + `","state":"retrying","attempt":1,"generation":1}`
	if shown != want {
		t.Errorf("shown: %s\nwant:  %s", shown, want)
	}
	gone := taskOf(t, ledger.Ref{Company: acme, Event: "none", Callback: 7}, 3)
	if shown := h.client.FormatTask(gone.Type(), gone.Payload()); !strings.Contains(shown, `"callback_id":7`) || strings.Contains(shown, "state") {
		t.Errorf("a task without record: %s", shown)
	}
	if shown := h.client.FormatTask("other", []byte("secret")); strings.Contains(shown, "secret") {
		t.Error(shown)
	}
	_, err := h.client.Cancel(t.Context(), acme, id)
	h.must(err)
	h.check()
}
