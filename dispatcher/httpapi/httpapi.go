// Package httpapi is Ringback's face to the network: callbacks, events and deliveries as JSON over HTTP, and the pages for
// operators (health, metrics, asynq's UI, the API's own description).
//
// Every request takes the same way. Before a byte of the body is read, the guard asks whose key it is and whether that
// key may do this. The body is read whole, within its limit. The operation decodes, calls the registry or the
// dispatcher, and encodes. Only a batch of events is answered bit by bit: a line for each, page by page.
//
// A failure on the way is an error value, and one place (problem.go) turns errors into answers:
// application/problem+json (RFC 9457). They name the field at fault and the remedy, and never repeat a secret.
//
// If a key may not see a thing, the answer is 404, as if the thing did not exist. If it may see a path but not use it, the
// answer is 403.
//
// Pages of this process call in the name of whoever they have let in ([registry.WithCaller]). No cookie is read here, but for asynq's UI. A caller may be
// bounded to some callbacks, or to looking (bounds.go).
//
// Nothing is logged for a request that went well: the dispatcher logs attempts, metrics count requests' effects. Answers
// of 500 and more are logged with their cause, which the caller does not get to see.
//
// The files form layers, and each file leans only on those below it. From the bottom to the top they are:
//
//   - the writing of answers, the reading of JSON, and the problems (answer.go, members.go, refusal.go, problem.go);
//   - the state that requests share, and its answers to errors (server.go, refuse.go);
//   - the steps before an operation (admission.go, guard.go, bounds.go, body.go, query.go);
//   - the registration of operations and their examples (register.go, exemplify.go);
//   - a file for each resource;
//   - the description as a whole (description.go), and this file, which puts all of them together.
package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/propagation"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/ringback/ringback/dispatcher"
)

// New makes the API's handler. It holds no goroutines and needs no closing. Serve it behind [Linger].
func New(cfg Config) (http.Handler, error) {
	s, err := build(cfg)
	if err != nil {
		return nil, err
	}
	return s.observed(), nil
}

// observed names and measures every request (http.server.request.duration, by OpenTelemetry's semantic conventions). It continues the caller's trace
// (W3C Trace Context), so that the trace leads from the producer to the attempt. The API's own work has no span, but accepting an event has.
func (s *server) observed() http.Handler {
	measured := otelhttp.NewHandler(s, "ringback", otelhttp.WithMeterProvider(s.MeterProvider),
		otelhttp.WithTracerProvider(tracenoop.NewTracerProvider()), otelhttp.WithPropagators(propagation.TraceContext{}),
		otelhttp.WithFilter(func(r *http.Request) bool { return !isStream(r) })) // how long one lasts says nothing of ours
	return Named(measured) // before it is measured by its route, which the mux notes in the very request
}

// build is New, for tests that want to look inside.
func build(cfg Config) (*server, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	s := &server{Config: cfg, overviews: dispatcher.NewOverviews(cfg.Client, cfg.Examine), mux: &recordingMux{ServeMux: http.NewServeMux()}, door: newDoorway(cfg.MaxInflight)}
	s.streams.says, s.polls.says = aboutStreams, aboutPolls
	s.api = newAPI(s.mux, cfg.Version)
	var err error
	if s.refused, err = newRefusedKeys(cfg.MeterProvider); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}

	s.callbacks()
	s.dryRuns()
	s.signingKeys()
	s.events()
	s.payloadBytes()
	s.fetches()
	s.batches()
	s.decisions()
	s.deliveries()
	s.now()
	s.stream()
	s.replays()
	s.bulkReplays()
	s.pulls()
	s.erasures()
	s.callbackTypes()
	s.egress()
	s.lanes()
	s.quotas()
	s.companyTLS()
	s.audit()
	s.portalLinks()
	s.apiKeys()
	s.whoami()
	s.ops()
	s.overview()
	s.companies()
	s.everywhere()
	s.find()
	if err := s.monitoring(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	s.docs()
	return s, nil
}

// ServeHTTP answers a request; see the package comment.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tw := &trackingWriter{ResponseWriter: w}
	defer s.survive(tw, r)
	secure(w.Header())
	if err := s.routed(r); err != nil {
		s.refuse(tw, r, err)
		return
	}
	s.mux.ServeHTTP(tw, r)
}

// routed returns the mux's own 404 or 405 as an error, and nil if the mux has a handler for the request. An unclean path is 404. The mux would
// redirect it to a clean path, and that is about something else than the caller meant: /companies/acme/events/.. is the company.
func (s *server) routed(r *http.Request) error {
	if !IsClean(r.URL) {
		return errNoSuchPath
	}
	h, pattern := s.mux.Handler(r)
	if pattern != "" {
		return nil
	}
	answer := &discard{header: http.Header{}}
	h.ServeHTTP(answer, r)
	if answer.status == http.StatusMethodNotAllowed {
		return methodNotAllowed(r.Method, answer.header.Get("Allow"))
	}
	return errNoSuchPath
}

// IsClean reports whether each segment of a path names something by itself. Only the last may be empty. None may be ".", be ".." or have a
// slash in it, percent-encoded or not.
func IsClean(u *url.URL) bool {
	rest, ok := strings.CutPrefix(u.EscapedPath(), "/")
	if !ok {
		return false
	}
	for rest != "" {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		name, err := url.PathUnescape(segment)
		if err != nil || name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return false
		}
	}
	return true
}
