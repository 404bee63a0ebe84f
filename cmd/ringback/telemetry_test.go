package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// TestTelemetryGoesWhereItIsAskedFor: metrics to whoever scrapes with a key, traces to the OTLP endpoint that the environment names.
func TestTelemetryGoesWhereItIsAskedFor(t *testing.T) {
	t.Parallel()
	spans := make(chan string, 100)
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		spans <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(collector.Close)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(partner.Close)

	dev := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + collector.URL}, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	env := []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=acme"}
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", partner.URL)
	ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", "testdata/events/payment_proof.json")
	dev.await(`verdict=delivered`)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer dev")
	_, _, metrics := send(t, req)
	for _, name := range []string{"ringback_", "go_goroutines", "process_open_fds"} {
		if !strings.Contains(metrics, "\n"+name) {
			t.Errorf("/metrics has no %s", name)
		}
	}

	if code := dev.end(syscall.SIGTERM); code != exitOK { // which sends the spans that wait
		t.Errorf("exit %d:\n%s", code, dev.said)
	}
	close(spans)
	var got strings.Builder
	for s := range spans {
		got.WriteString(s)
	}
	if !strings.Contains(got.String(), "/v1/traces") || !strings.Contains(got.String(), "ringback") {
		t.Errorf("the collector got %d bytes and no trace of ringback", got.Len())
	}
	if strings.Contains(got.String(), partner.URL) {
		t.Error("a partner's URL is in a trace")
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
	dev := start(t, []string{"OTEL_EXPORTER_OTLP_ENDPOINT=", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="}, "dev", "--listen", "127.0.0.1:0")
	server := dev.await(`API +(http://\S+)`)[1]
	dev.await(`msg=ready`)
	for company, trace := range map[string]string{"traced": "true", "untraced": "false"} {
		ringback(t, []string{"RINGBACK_SERVER=" + server, "RINGBACK_KEY=dev", "RINGBACK_COMPANY=" + company}, "callbacks", "create", "--file",
			writeFile(t, `{"callback_type": "payment_proof", "trace": `+trace+`, "destination": {"url": "`+partner.URL+"/"+company+`"}}`))
	}
	const producer = "0af7651916cd43dd8448eb211c80319c"
	for _, tt := range []struct{ company, traceParent, want string }{
		{"traced", "00-" + producer + "-b7ad6b7169203331-01", `^/traced 00-` + producer + `-[0-9a-f]{16}-0[01]$`},
		{"traced", "", `^/traced 00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$`},
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
