package httpapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// TestStreamsThatEndedTakeNothing: keys and companies whose streams ended take no memory. Whoever is refused hears when to come back, and the log counts it.
func TestStreamsThatEndedTakeNothing(t *testing.T) {
	s := &streams{}
	var leaves []func()
	for _, key := range []registry.Key{{ID: "a", Company: "acme"}, {ID: "a", Company: "acme"}, {ID: "b", Company: "acme"}, {ID: "all", Company: registry.AllCompanies}} {
		leave, err := s.enter(key)
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, leave)
	}
	if s.all != 4 || s.keys["a"] != 2 || s.companies["acme"] != 3 || len(s.companies) != 1 {
		t.Errorf("%+v", s)
	}
	for _, leave := range leaves {
		leave()
	}
	if s.all != 0 || len(s.keys) != 0 || len(s.companies) != 0 {
		t.Errorf("%d, %v and %v are left", s.all, s.keys, s.companies)
	}

	h := newHouse(t)
	for range keyStreams {
		if _, err := h.api.streams.enter(registry.Key{ID: h.keys["partner"][:12], Company: "acme"}); err != nil {
			t.Fatal(err)
		}
	}
	if a := h.call("partner", "GET", deliveriesStream, ""); a.status != http.StatusTooManyRequests || a.header.Get("Retry-After") != "2" {
		t.Errorf("%d, Retry-After: %q", a.status, a.header.Get("Retry-After"))
	}
	if log := h.log.String(); !strings.Contains(log, "level=WARN") {
		t.Errorf("the log does not say that somebody was turned away: %s", log)
	}
}
