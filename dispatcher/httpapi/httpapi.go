// Package httpapi is Ringback's face to the network: callbacks, events and deliveries as JSON over HTTP, and what
// operators look at (health, metrics, asynq's UI, the API's own description).
//
// Every request takes the same way. The guard asks whose key it is and whether that key may do this, before a byte of
// the body is read; the body is read whole, within its limit; the operation decodes, calls the registry or the
// dispatcher, and encodes. Only a batch of events is answered bit by bit: a line for each, page by page.
//
// Whatever goes wrong on the way is an error value, and one place (problem.go) turns errors into answers:
// application/problem+json (RFC 9457), which name the field at fault and the remedy and never repeat a secret.
//
// What a key may not see answers 404, as if it did not exist; a path it may see but not use, 403.
//
// Nothing is logged for a request that went well: the dispatcher logs attempts, metrics count requests' effects. Answers
// of 500 and more are logged with their cause, which the caller does not get to see.
package httpapi

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// DefaultMaxBody is the limit on request bodies: 1 MiB, far above any payload a webhook should have.
const DefaultMaxBody = 1 << 20

// Config is what the API needs. It owns none of it: whoever made a part closes it, after the HTTP server has shut down.
type Config struct {
	Client   *dispatcher.Client // required
	Registry *registry.Registry // required; it knows the callback types, too
	Keys     *registry.Keys     // required

	// Redis is the connection asynq's UI reads through. Required.
	Redis redis.UniversalClient

	// Metrics answers GET /metrics. Nil: there is no such path.
	Metrics http.Handler

	// MeterProvider gets the measurements of requests. Default: OpenTelemetry's global one.
	MeterProvider metric.MeterProvider

	// Logger hears of answers of 500 and more. Default: slog.Default().
	Logger *slog.Logger

	// Version is the program's, as the API's description and /healthz tell it. Default: "dev".
	Version string

	// MaxBody is how long a request's body may be, in bytes; longer ones are answered 413. A batch may be 16 times as long, with no
	// line longer than this. Default: [DefaultMaxBody].
	MaxBody int64

	// MaxInflight is how many bytes the bodies of all requests together may take, and one key's half as many; a request for which there is no
	// room is answered 503, or 429. A body counts twice, for it is copied; its first 8 KiB do not count. Default: [DefaultMaxInflight], or what two batches of the
	// greatest length take where that is more; less than that is an error.
	MaxInflight int64
}

// New makes the API's handler. It holds no goroutines and needs no closing. Serve it behind [Linger].
func New(cfg Config) (http.Handler, error) {
	s, err := build(cfg)
	if err != nil {
		return nil, err
	}
	return s.observed(), nil
}

// observed measures every request (http.server.request.duration, by OpenTelemetry's semantic conventions) and continues the caller's trace
// (W3C Trace Context), so that it leads from the producer to the attempt. The API's own work has no span: accepting an event has.
func (s *server) observed() http.Handler {
	return otelhttp.NewHandler(s, "ringback", otelhttp.WithMeterProvider(s.MeterProvider),
		otelhttp.WithTracerProvider(tracenoop.NewTracerProvider()), otelhttp.WithPropagators(propagation.TraceContext{}))
}

// server is the handler New returns.
type server struct {
	Config
	mux     *recordingMux
	api     huma.API
	door    *doorway
	sheds   shedLog
	guesses guesses
}

// build is New, for tests that want to look inside.
func build(cfg Config) (*server, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	s := &server{Config: cfg, mux: &recordingMux{ServeMux: http.NewServeMux()}, door: newDoorway(cfg.MaxInflight)}
	s.api = newAPI(s.mux, cfg.Version)

	s.callbacks()
	s.events()
	s.batches()
	s.decisions()
	s.deliveries()
	s.replays()
	s.erasures()
	s.callbackTypes()
	s.egress()
	s.quotas()
	s.audit()
	s.ops()
	if err := s.monitoring(); err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	s.docs()
	return s, nil
}

func (cfg *Config) complete() error {
	switch {
	case cfg.Client == nil:
		return errors.New("Config.Client is missing")
	case cfg.Registry == nil:
		return errors.New("Config.Registry is missing")
	case cfg.Keys == nil:
		return errors.New("Config.Keys is missing")
	case cfg.Redis == nil:
		return errors.New("Config.Redis is missing")
	case cfg.MaxBody < 0:
		return errors.New("Config.MaxBody must not be negative")
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Version == "" {
		cfg.Version = "dev"
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = DefaultMaxBody
	}
	if cfg.MaxInflight == 0 {
		cfg.MaxInflight = max(DefaultMaxInflight, LeastInflight(cfg.MaxBody))
	}
	if least := LeastInflight(cfg.MaxBody); cfg.MaxInflight < least {
		return fmt.Errorf("Config.MaxInflight must be at least %d, or no batch of the greatest length could ever arrive", least)
	}
	return nil
}

// recordingMux is a ServeMux that remembers its patterns: the API's description is tested to name them all.
type recordingMux struct {
	*http.ServeMux
	patterns []string
}

func (m *recordingMux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, h)
}

func (m *recordingMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
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

// routed returns the mux's own 404 or 405 as an error, and nil if it has a handler for the request. The mux would answer an unclean path
// with a redirect to a clean one, which is about something else than its caller meant: /companies/acme/events/.. is the company.
func (s *server) routed(r *http.Request) error {
	if !isClean(r.URL) {
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

// isClean reports whether each segment of a path names something by itself: none is empty but the last, ".", ".." or has a slash in it,
// however they are written.
func isClean(u *url.URL) bool {
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
