package httpapi

import (
	"strings"
	"testing"
)

// TestHalvesOfPairsAreRefused where a text of the API would be kept as another one, with U+FFFD in its place.
func TestHalvesOfPairsAreRefused(t *testing.T) {
	h := newHouse(t)
	for _, body := range []string{`{"description": "\ud800"}`, `{"match": {"shop": "/\udc00"}}`, `{"match": {"shop": "/s"}, "example": {"s": "\ud83d"}}`} {
		if p := h.call("operator", "PUT", "/callback-types/pairs", body).wantProblem(422); !strings.Contains(p.Errors[0].Message, "half of a surrogate pair") {
			t.Errorf("%s: %+v", body, p)
		}
	}
}
