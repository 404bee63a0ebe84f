package httpapi

import (
	"context"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// readyTimeout is how long /readyz waits for Redis: less than a load balancer or an orchestrator usually waits for the answer.
const readyTimeout = 2 * time.Second

// ops adds the paths that tell how the process does.
func (s *server) ops() {
	chapter := []string{"Operations"}
	state := s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[health](), true, "")
	s.document(page{mediaType: mediaJSON, schema: state, Operation: huma.Operation{
		OperationID: "health", Method: http.MethodGet, Path: "/healthz", Tags: chapter, Summary: "Is the process alive?",
		Description: "200 as long as it answers at all. It does not ask Redis.",
	}})
	s.mux.HandleFunc("GET /healthz", s.healthz)

	s.document(page{mediaType: mediaJSON, schema: state, Operation: huma.Operation{
		OperationID: "readiness", Method: http.MethodGet, Path: "/readyz", Tags: chapter, Summary: "Can it work?",
		Description: "200 if Redis answers and knows the queues, else 503. Of a Redis Cluster, the master answers that has the queues' list.", Errors: []int{http.StatusServiceUnavailable},
	}})
	s.mux.HandleFunc("GET /readyz", s.readyz)

	if s.Metrics == nil {
		return
	}
	s.document(page{mediaType: "text/plain", schema: plainText, need: &watch, Operation: huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: chapter, Summary: "Metrics for Prometheus",
		Description: "For an operator's or viewer's key of all companies.",
	}})
	s.mux.Handle("GET /metrics", s.guarded(watch, s.Metrics))
}

type health struct {
	Status  string `json:"status" enum:"ok,ready"`
	Version string `json:"version" doc:"The program's."`
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
