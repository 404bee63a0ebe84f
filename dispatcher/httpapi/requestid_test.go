package httpapi

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// TestRequestsHaveNames: every answer names its request, by the name that it came with if it is one.
func TestRequestsHaveNames(t *testing.T) {
	h := newHouse(t)
	name := func(path string, given ...header) string {
		t.Helper()
		return h.call("partner", "GET", path, "", given...).header.Get("X-Request-Id")
	}
	made := map[string]bool{}
	for _, path := range []string{"/companies/acme/config/callbacks", "/nothing", "/companies/acme/../x", "/healthz", "/openapi.json", "/companies/acme/.well-known/jwks.json"} {
		id := name(path)
		if len(id) < 20 || made[id] {
			t.Errorf("%s is called %q", path, id)
		}
		made[id] = true
		if got := name(path, header{"X-Request-Id": "7b0e4c1a/edge:1"}); got != "7b0e4c1a/edge:1" {
			t.Errorf("%s with a name is called %q", path, got)
		}
	}
	for _, odd := range []string{"two words", "ü", strings.Repeat("x", 129), "tab\tbed"} {
		if got := name("/healthz", header{"X-Request-Id": odd}); len(got) < 20 || got == odd || len(got) > 128 {
			t.Errorf("%q became %q", odd, got)
		}
	}
	if got := name("/healthz", header{"X-Request-Id": strings.Repeat("x", 128)}); len(got) != 128 {
		t.Errorf("the longest became %q", got)
	}
}

// TestRequestsAreMeasuredByRoute: by the pattern that they matched, and those that matched none by none.
func TestRequestsAreMeasuredByRoute(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) { c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) })
	h.call("partner", "GET", "/companies/acme/config/callbacks", "").want(http.StatusOK)
	h.call("partner", "GET", "/nothing", "").want(http.StatusNotFound)
	routes := h.measured(reader, "http.server.request.duration", "http.route")
	if got := fmt.Sprintf("%q", slices.Sorted(maps.Keys(routes))); got != `["" "/companies/{company}/config/callbacks"]` {
		t.Errorf("measured by %s", got)
	}
}
