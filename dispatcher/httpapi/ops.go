package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// readyTimeout is how long /readyz waits for Redis: less than the patience of what usually asks.
const readyTimeout = 2 * time.Second

// ops adds what tells how the process does.
func (s *server) ops() {
	tags := []string{"Operations"}
	s.document(huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: "/healthz", Tags: tags, Summary: "Is the process alive?",
	}, mediaJSON, false)
	s.mux.HandleFunc("GET /healthz", s.healthz)

	s.document(huma.Operation{
		OperationID: "readiness", Method: http.MethodGet, Path: "/readyz", Tags: tags, Summary: "Can it work?",
		Description: "200 if Redis answers and knows the queues, else 503.",
	}, mediaJSON, false)
	s.mux.HandleFunc("GET /readyz", s.readyz)

	if s.Metrics == nil {
		return
	}
	s.document(huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: tags, Summary: "Metrics for Prometheus",
	}, "text/plain", true)
	s.mux.Handle("GET /metrics", s.guarded(watch, s.Metrics))
}

type health struct {
	Status  string `json:"status"`
	Version string `json:"version"`
}

func (s *server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, mediaJSON, health{"ok", s.Version})
}

func (s *server) readyz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
	defer cancel()
	if err := s.Client.Ready(ctx); err != nil {
		s.refuse(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, mediaJSON, health{"ready", s.Version})
}
