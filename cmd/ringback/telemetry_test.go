package main

import (
	"io"
	"net/http"
	"net/http/httptest"
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
