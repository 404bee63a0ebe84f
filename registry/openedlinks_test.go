package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ringback/ringback/registry"
)

// Whoever is on call sees by a counter that links are opened, and that somebody guesses.
func TestOpenedLinksAreCounted(t *testing.T) {
	h := newHouse(t)
	reader := sdkmetric.NewManualReader()
	keys := registry.NewKeys(h.redis)
	if err := keys.Measure(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))); err != nil {
		t.Fatal(err)
	}
	counted := func() string {
		t.Helper()
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		counts := map[string]int64{}
		for _, point := range data.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
			outcome, _ := point.Attributes.Value("outcome")
			counts[outcome.AsString()] = point.Value
		}
		return fmt.Sprint(data.ScopeMetrics[0].Metrics[0].Name, " ", counts)
	}
	wantCounted := func(want string) {
		t.Helper()
		if got := counted(); got != "ringback.portal_links.opened "+want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	wantCounted("map[expired:0 opened:0 unknown:0 used:0]")
	sessions := registry.NewSessions(keys)
	token, l := h.link("acme", registry.LinkTerms{})
	late, old := h.link("acme", registry.LinkTerms{})
	revoked, gone := h.link("acme", registry.LinkTerms{})
	if err := h.RevokeLink(t.Context(), "acme", gone.ID); err != nil {
		t.Fatal(err)
	}
	text := h.redis.HGet(t.Context(), "{acme}:links", old.ID).Val()
	ends := fmt.Sprintf(`"ends":%d`, old.ExpiresAt.UnixMilli())
	h.redis.HSet(t.Context(), "{acme}:links", old.ID, replaced(t, text, ends, fmt.Sprintf(`"ends":%d`, time.Now().Add(-time.Second).UnixMilli())))
	for _, presented := range []string{token, token, late, revoked, "rbl_nonsense", ""} {
		_, _, _ = sessions.Redeem(t.Context(), presented)
	}
	wantCounted("map[expired:1 opened:1 unknown:3 used:1]")
	if links, _, err := h.Links(t.Context(), "acme"); err != nil || len(links) != 2 || l.ID == old.ID {
		t.Error(links, err)
	}
}

// replaced is text with another part.
func replaced(t *testing.T, text, from, to string) string {
	t.Helper()
	if !strings.Contains(text, from) {
		t.Fatalf("%s has no %s", text, from)
	}
	return strings.Replace(text, from, to, 1)
}
