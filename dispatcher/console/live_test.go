package console

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestHeadOfLive: whoever asks for the header of what has no end has it, and no more.
func TestHeadOfLive(t *testing.T) {
	h := newHouse(t)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodHead, "/console/companies/acme/live", nil)
	r.Header.Set("Authorization", "Bearer "+h.has["viewer"])
	w := httptest.NewRecorder()
	h.pages.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); w.Code != http.StatusOK || got != "text/event-stream" || w.Body.Len() > 0 {
		t.Errorf("%d %s %q", w.Code, got, w.Body)
	}
}
