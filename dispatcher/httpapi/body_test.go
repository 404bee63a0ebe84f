package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// clock keeps the deadlines that are set on a connection.
type clock struct {
	http.ResponseWriter
	read, write time.Time
}

func (c *clock) SetReadDeadline(t time.Time) error  { c.read = t; return nil }
func (c *clock) SetWriteDeadline(t time.Time) error { c.write = t; return nil }

// No deadline outlives its purpose: net/http would take one that passes while a request is at work for a caller that hung up.
func TestDeadlinesDoNotOutliveTheBody(t *testing.T) {
	h := newHouse(t)
	callback := h.register("acme")
	for path, body := range map[string]string{"/companies/acme/events": event("e"), batchPath: event("b"), callback + "/resume": ""} {
		r := httptest.NewRequestWithContext(t.Context(), "POST", path, strings.NewReader(body))
		r.Header.Set("Authorization", "Bearer "+h.keys["operator"])
		w := &clock{ResponseWriter: httptest.NewRecorder(), write: time.Time{}}
		h.api.ServeHTTP(w, r)
		if !w.read.IsZero() || !w.write.IsZero() {
			t.Errorf("%s: deadlines %v and %v are left", path, w.read, w.write)
		}
	}
}
