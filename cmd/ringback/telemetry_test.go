package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/ringback/ringback/registry/redistest"
)

// A collector takes what OpenTelemetry sends (OTLP over HTTP, in protobuf) and keeps it.
type collector struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	arrived  chan struct{} // closed and replaced whenever something arrives
	spans    []span
	metrics  []string // names
	requests []*http.Request
	raw      strings.Builder // every request's body
}

// A span, and the attributes of the resource it came from.
type span struct {
	*tracepb.Span
	resource map[string]string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{t: t, arrived: make(chan struct{})}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("the collector got %s %s, %v", r.Method, r.Header.Get("Content-Type"), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	c.raw.Write(body)
	if strings.Contains(r.URL.Path, "metrics") {
		var got collectormetrics.ExportMetricsServiceRequest
		if err := proto.Unmarshal(body, &got); err != nil {
			c.t.Error(err)
		}
		for _, resource := range got.GetResourceMetrics() {
			for _, scope := range resource.GetScopeMetrics() {
				for _, m := range scope.GetMetrics() {
					c.metrics = append(c.metrics, m.GetName())
				}
			}
		}
	} else {
		var got collectortrace.ExportTraceServiceRequest
		if err := proto.Unmarshal(body, &got); err != nil {
			c.t.Error(err)
		}
		for _, resource := range got.GetResourceSpans() {
			for _, scope := range resource.GetScopeSpans() {
				for _, s := range scope.GetSpans() {
					c.spans = append(c.spans, span{s, texts(resource.GetResource().GetAttributes())})
				}
			}
		}
	}
	close(c.arrived)
	c.arrived = make(chan struct{})
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// await waits for a span of this name.
func (c *collector) await(name string) span {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		c.mu.Lock()
		i, next := slices.IndexFunc(c.spans, func(s span) bool { return s.GetName() == name }), c.arrived
		if i >= 0 {
			defer c.mu.Unlock()
			return c.spans[i]
		}
		c.mu.Unlock()
		select {
		case <-next:
		case <-timeout:
			c.t.Fatalf("no span %q came, but %d others", name, len(c.spans))
		}
	}
}

// texts are attributes as text: strings, whole numbers, and the rest as protobuf writes it.
func texts(attributes []*commonpb.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range attributes {
		out[a.GetKey()] = a.GetValue().GetStringValue()
		if out[a.GetKey()] == "" {
			_, out[a.GetKey()], _ = strings.Cut(a.GetValue().String(), ":")
		}
	}
	return out
}

// TestTelemetryGoesWhereItIsAskedFor: metrics to whoever scrapes with a key, traces and metrics to the OTLP endpoint that the environment
// names, the last ones at the process's end.
func TestTelemetryGoesWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	collector := newCollector(t)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(partner.Close)

	dev := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL}, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL)
	ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", sample("payment_proof"))
	dev.await(`verdict=delivered`)

	_, metrics := get(t, server+"/metrics", "dev")
	for _, name := range []string{"ringback_", "go_goroutines", "process_open_fds"} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("/metrics has no %s", name)
		}
	}

	if code := dev.end(syscall.SIGTERM); code != exitOK { // which sends what waits
		t.Errorf("exit %d:\n%s", code, dev.said)
	}
	if got := collector.await("attempt payment_proof"); got.resource["service.name"] != "ringback" || got.resource["service.instance.id"] == "" {
		t.Errorf("the attempt came from %v", got.resource)
	}
	for _, name := range []string{"ringback.events.accepted", "ringback.attempts", "ringback.attempt.duration", "ringback.delivery.lag"} {
		if !slices.Contains(collector.metrics, name) {
			t.Errorf("%s was not pushed, only %v", name, collector.metrics)
		}
	}
	if strings.Contains(collector.raw.String(), partner.URL) {
		t.Error("a partner's URL is in a trace")
	}
}

// TestOneTraceFromTheProducerToThePartner: a producer's own span is the parent of ours, in two processes over a real Redis, and its trace id is
// what logs, metrics and the API name too.
func TestOneTraceFromTheProducerToThePartner(t *testing.T) {
	t.Parallel()
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	collector := newCollector(t)
	partner, roots := partnerAtLocalhost(t)
	env := []string{
		"RINGBACK_REDIS=" + redistest.Start(t).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json"),
		"RINGBACK_EGRESS_ALLOW=127.0.0.0/8,::1/128", "RINGBACK_LISTEN=127.0.0.1:0", "SSL_CERT_FILE=" + roots,
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL, "OTEL_BSP_SCHEDULE_DELAY=50", "OTEL_METRICS_EXPORTER=none",
	}
	api := start(t, append(env, "OTEL_SERVICE_NAME=ringback-api"), "serve", "--roles", "api")
	server := "http://" + address(api)
	worker := start(t, append(env, "OTEL_SERVICE_NAME=ringback-worker"), "serve", "--roles", "worker")
	workerURL := "http://" + address(worker)
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	ringback(t, []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=" + key, "RINGBACK_COMPANY=acme"}, "callbacks", "create", "--type", "payment_proof", "--url", partner)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/companies/acme/events",
		strings.NewReader(`{"event_type": "payment_proof", "event_id": "e-1", "payload": {"requestId": "r-1", "status": "OK"}}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Traceparent", "00-"+trace+"-"+parent+"-01")
	status, _, receipt := send(t, req)
	var accepted struct {
		Deliveries []struct {
			DeliveryID string `json:"delivery_id"`
		}
	}
	if err := json.Unmarshal([]byte(receipt), &accepted); err != nil || status != http.StatusAccepted || len(accepted.Deliveries) != 1 {
		t.Fatalf("sending: %d %s", status, receipt)
	}

	accept, expand, attempt := collector.await("accept payment_proof"), collector.await("expand payment_proof"), collector.await("attempt payment_proof")
	for _, tt := range []struct {
		span
		parent, service string
		kind            tracepb.Span_SpanKind
	}{
		{accept, parent, "ringback-api", tracepb.Span_SPAN_KIND_PRODUCER},
		{expand, hex.EncodeToString(accept.SpanId), "ringback-api", tracepb.Span_SPAN_KIND_INTERNAL},
		{attempt, hex.EncodeToString(accept.SpanId), "ringback-worker", tracepb.Span_SPAN_KIND_CLIENT},
	} {
		if hex.EncodeToString(tt.TraceId) != trace || hex.EncodeToString(tt.ParentSpanId) != tt.parent || tt.resource["service.name"] != tt.service || tt.Kind != tt.kind {
			t.Errorf("%s: trace %x, parent %x, want %s, of %v, %v", tt.Name, tt.TraceId, tt.ParentSpanId, tt.parent, tt.resource, tt.Kind)
		}
	}
	attributes := texts(attempt.Attributes)
	for name, want := range map[string]string{
		"http.response.status_code": "204", "ringback.verdict": "delivered", "ringback.event.id": "e-1", "ringback.delivery.id": accepted.Deliveries[0].DeliveryID,
	} {
		if attributes[name] != want {
			t.Errorf("attempt: %s is %q, want %q", name, attributes[name], want)
		}
	}
	var phases []string
	last := attempt.StartTimeUnixNano
	for _, event := range attempt.Events {
		phases = append(phases, event.Name)
		if event.TimeUnixNano < last || event.TimeUnixNano > attempt.EndTimeUnixNano || len(event.Attributes) != 1 ||
			event.Attributes[0].GetKey() != "ringback.duration_ms" || event.Attributes[0].GetValue().GetDoubleValue() <= 0 {
			t.Errorf("%v lies wrong in the attempt, from %d to %d", event, attempt.StartTimeUnixNano, attempt.EndTimeUnixNano)
		}
		last = event.TimeUnixNano
	}
	if diff := gocmp.Diff([]string{"dns.done", "connect.done", "tls.done", "first_byte"}, phases); diff != "" {
		t.Errorf("the attempt's events (-want +got):\n%s", diff)
	}

	worker.await(`"event":"e-1".*"verdict":"delivered".*"trace_id":"` + trace + `"`)
	for _, path := range []string{"/companies/acme/events/e-1", "/companies/acme/deliveries/" + accepted.Deliveries[0].DeliveryID} {
		if _, body := get(t, server+path, key); !strings.Contains(body, `"trace_id":"`+trace+`"`) {
			t.Errorf("%s does not name the trace: %s", path, body)
		}
	}
	for metric, url := range map[string]string{"ringback_events_accepted_total": server, "ringback_attempt_duration_seconds_bucket": workerURL} {
		wantExemplar(t, url, key, metric, trace)
	}
}

// wantExemplar: a scraper that speaks OpenMetrics, as Prometheus does, gets a trace id with the metric.
func wantExemplar(t *testing.T, url, key, metric, trace string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.3")
	_, contentType, text := send(t, req)
	if !strings.HasPrefix(contentType, "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("%s/metrics is %s", url, contentType)
	}
	if !regexp.MustCompile(`(?m)^` + metric + `\{.* # \{.*trace_id="` + trace + `"`).MatchString(text) {
		t.Errorf("no exemplar of %s names the trace:\n%s", metric, regexp.MustCompile(`(?m)^`+metric+`.*$`).FindAllString(text, -1))
	}
}

// partnerAtLocalhost answers 204 at an https URL with a name, and with a certificate for it that the file is the root of.
func partnerAtLocalhost(t *testing.T) (url, rootsFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/hook",
		writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// TestTelemetryObeysTheStandardVariables of OpenTelemetry. COLLECTOR in a value is the collector's URL.
func TestTelemetryObeysTheStandardVariables(t *testing.T) {
	for _, tt := range []struct {
		name     string
		env      map[string]string
		traces   string            // the path they come to; "" for none
		metrics  string            // likewise
		resource map[string]string // of the spans
		header   string            // api-key
	}{
		{name: "nothing", env: nil},
		{
			name: "one endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR/otlp"}, traces: "/otlp/v1/traces", metrics: "/otlp/v1/metrics",
			resource: map[string]string{"service.name": "ringback", "service.version": programVersion(), "telemetry.sdk.language": "go"},
		},
		{name: "traces' own endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "COLLECTOR/there"}, traces: "/there"},
		{name: "metrics' own endpoint", env: map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "COLLECTOR/metrics-there"}, metrics: "/metrics-there"},
		{
			name: "headers", env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "COLLECTOR", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=canary"},
			traces: "/", header: "canary",
		},
		{
			name: "service name", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_SERVICE_NAME": "mine"},
			traces: "/v1/traces", metrics: "/v1/metrics", resource: map[string]string{"service.name": "mine", "service.version": programVersion()},
		},
		{
			name: "resource", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=prod,service.version=9"},
			traces: "/v1/traces", metrics: "/v1/metrics", resource: map[string]string{"deployment.environment": "prod", "service.version": "9", "service.name": "ringback"},
		},
		{
			name: "broken resource", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_RESOURCE_ATTRIBUTES": "what is this"},
			traces: "/v1/traces", metrics: "/v1/metrics", resource: map[string]string{"service.name": "ringback"},
		},
		{name: "disabled", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_SDK_DISABLED": "true"}},
		{name: "no sampling", env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_TRACES_SAMPLER": "always_off"}, metrics: "/v1/metrics"},
		{
			name: "sampling none of the traces", metrics: "/v1/metrics",
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"},
		},
		{
			name: "sampling all of the traces", traces: "/v1/traces", metrics: "/v1/metrics",
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"},
		},
		{
			name: "the protocol it speaks", traces: "/v1/traces", metrics: "/v1/metrics",
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
		},
		{
			name: "no traces", metrics: "/v1/metrics",
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "otlp,prometheus"},
		},
		{
			name: "metrics for Prometheus only", traces: "/v1/traces",
			env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", "OTEL_TRACES_EXPORTER": "otlp", "OTEL_METRICS_EXPORTER": "prometheus"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			collector := newCollector(t)
			setOTel(t, tt.env, collector.URL)
			tel, err := openTelemetry(t.Context(), slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			_, s := tel.tracers.Tracer("test").Start(t.Context(), "a span")
			if !s.SpanContext().HasTraceID() {
				t.Error("no trace id")
			}
			s.End()
			counter, err := tel.meters.Meter("test").Int64Counter("a.counter")
			if err != nil {
				t.Fatal(err)
			}
			counter.Add(t.Context(), 1)
			if err := tel.close(t.Context()); err != nil {
				t.Error(err)
			}
			var want, got []string
			for _, path := range []string{tt.metrics, tt.traces} {
				if path != "" {
					want = append(want, path)
				}
			}
			for _, r := range collector.requests {
				got = append(got, r.URL.Path)
				if r.Header.Get("Api-Key") != tt.header {
					t.Errorf("%s: api-key %q, want %q", r.URL.Path, r.Header.Get("Api-Key"), tt.header)
				}
			}
			if diff := gocmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Fatalf("sent to (-want +got):\n%s", diff)
			}
			if tt.metrics != "" && !slices.Contains(collector.metrics, "a.counter") {
				t.Errorf("metrics: %v", collector.metrics)
			}
			if tt.traces != "" {
				resource := collector.await("a span").resource
				for name, want := range tt.resource {
					if resource[name] != want {
						t.Errorf("%s is %q, want %q", name, resource[name], want)
					}
				}
			}
		})
	}
}

// TestTelemetryRefusesWhatItCannotDo, in words that name the variable and not its value.
func TestTelemetryRefusesWhatItCannotDo(t *testing.T) {
	for variable, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_PROTOCOL":         "grpc",
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL":  "http/json",
		"OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "grpc",
		"OTEL_TRACES_EXPORTER":                "zipkin",
		"OTEL_METRICS_EXPORTER":               "console",
		"OTEL_EXPORTER_OTLP_ENDPOINT":         "me:canary@collector:4318",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT":  "canary",
	} {
		t.Run(variable, func(t *testing.T) {
			setOTel(t, map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "COLLECTOR", variable: value}, "http://127.0.0.1:1")
			_, err := openTelemetry(t.Context(), slog.New(slog.DiscardHandler))
			if _, ok := errors.AsType[*usageError](err); !ok || !strings.Contains(err.Error(), variable) || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s=%s: %v", variable, value, err)
			}
		})
	}
	_, stderr, code := try(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}, "dev", "--listen", "127.0.0.1:0")
	if code != exitConfig || !strings.Contains(stderr, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("dev: exit %d: %s", code, stderr)
	}
}

// setOTel sets OpenTelemetry's variables, and no others than these.
func setOTel(t *testing.T, env map[string]string, collector string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_SDK_DISABLED",
		"OTEL_EXPORTER_OTLP_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG",
		"OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER",
	} {
		t.Setenv(name, strings.Replace(env[name], "COLLECTOR", collector, 1))
	}
}

// TestTraceReachesThePartner, though nobody collects traces: from the producer where it has one, else from here.
func TestTraceReachesThePartner(t *testing.T) {
	t.Parallel()
	got := make(chan string, 10)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got <- r.URL.Path + " " + r.Header.Get("Traceparent")
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	dev := startPlain(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="}, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	for company, trace := range map[string]string{"traced": "true", "untraced": "false"} {
		ringback(t, []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=" + company}, "callbacks", "create", "--file",
			writeFile(t, `{"callback_type": "payment_proof", "trace": `+trace+`, "destination": {"url": "`+partner.URL+"/"+company+`"}}`))
	}
	const producer = "0af7651916cd43dd8448eb211c80319c"
	for _, tt := range []struct{ company, traceParent, want string }{
		{"traced", "00-" + producer + "-b7ad6b7169203331-01", `^/traced 00-` + producer + `-[0-9a-f]{16}-01$`},
		{"traced", "00-" + producer + "-b7ad6b7169203331-00", `^/traced 00-` + producer + `-[0-9a-f]{16}-00$`},
		{"traced", "", `^/traced 00-[0-9a-f]{32}-[0-9a-f]{16}-00$`},
		{"untraced", "00-" + producer + "-b7ad6b7169203331-01", `^/untraced $`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server+"/companies/"+tt.company+"/events",
			strings.NewReader(`{"event_type": "payment_proof", "payload": {"requestId": "r-1", "status": "OK"}}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer dev")
		req.Header.Set("Content-Type", "application/json")
		if tt.traceParent != "" {
			req.Header.Set("Traceparent", tt.traceParent)
		}
		if status, _, body := send(t, req); status != http.StatusAccepted {
			t.Fatalf("sending: %d %s", status, body)
		}
		if traceParent := <-got; !regexp.MustCompile(tt.want).MatchString(traceParent) || strings.Contains(traceParent, "b7ad6b7169203331") {
			t.Errorf("with %q the partner got %q, want a span of our own in %s", tt.traceParent, traceParent, tt.want)
		}
	}
}
