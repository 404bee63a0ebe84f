package httpapi

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// Keys that are refused are counted by their reason, in headers and in login forms, also those of an address that is held back. Others are not.
func TestRefusedKeysAreCounted(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, func(c *Config) { c.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) })
	wantCounted := func(want string) {
		t.Helper()
		if got := fmt.Sprint(h.measured(reader, "ringback.keys.refused", "reason")); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	wantCounted("map[expired:0 held_back:0 unknown:0]")
	h.guesses()
	h.call("viewer", "GET", "/callback-types", "").want(http.StatusOK)
	h.call("partner", "GET", "/egress", "").want(http.StatusForbidden)
	h.call("", "GET", "/callback-types", "").want(http.StatusUnauthorized)
	h.call("", "POST", loginPath, "key=wrong", header{"Content-Type": "application/x-www-form-urlencoded"}).want(http.StatusUnauthorized)
	wantCounted("map[expired:0 held_back:0 unknown:1]")
	expired := actors["viewer"]
	expired.ID, expired.ExpiresAt = "rbk_old", time.Now().Add(-time.Hour)
	h.must(h.api.Keys.Put(t.Context(), "rbk_oldsecret", expired))
	h.call("rbk_oldsecret", "GET", "/callback-types", "").want(http.StatusUnauthorized)
	for i := range wrongKeys {
		h.call(fmt.Sprint("wrong", i), "GET", "/callback-types", "")
	}
	h.call("viewer", "GET", "/callback-types", "").want(http.StatusOK)
	h.call("wrong", "GET", "/callback-types", "").want(http.StatusTooManyRequests)
	wantCounted(fmt.Sprintf("map[expired:1 held_back:2 unknown:%d]", wrongKeys))
}
