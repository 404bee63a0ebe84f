package registry_test

import (
	"testing"
	"time"
)

// TestLargeCompaniesAreReadBeforeTheyAreNeeded: those with so many callbacks, and no others.
func TestLargeCompaniesAreReadBeforeTheyAreNeeded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	callbacks := map[string]int{"small": 1, "large": 3, "larger": 4}
	for company, n := range callbacks {
		for range n {
			h.create(company, `{"callback_type": "payment_proof", "destination": {"url": "https://example.com/"}}`)
		}
	}
	started := h.neighbour()
	if err := started.Warm(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	h.server.Kill()
	for company, n := range callbacks {
		_, matched, err := started.Match(t.Context(), company, "payment_proof", nil, time.Now(), nil)
		if n < 3 && err == nil {
			t.Errorf("%s was read", company)
		}
		if n >= 3 && (err != nil || len(matched) != n) {
			t.Errorf("%s: %d callbacks match, want %d: %v", company, len(matched), n, err)
		}
	}
}
