package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// houseConfig is what a process of Ringback is made of. Redis and the listener stay the caller's until run takes the listener.
type houseConfig struct {
	Redis    redis.UniversalClient
	Keyset   *registry.Keyset
	Listener net.Listener
	Logger   *slog.Logger

	TLS  *certificates // nil: callers come in clear text
	Desk string        // the address that dev was told to listen on, whose name callers have to use; empty: any name will do

	API    bool // serve the HTTP API
	Worker bool // attempt deliveries

	VerifyDestinations bool   // callbacks are unverified until their endpoints have answered a challenge
	Origin             string // who asks in the handshake of CloudEvents; empty is the dispatcher's default

	Egress        egress.Config
	Retention     time.Duration // how long finished events are kept; 0 is the dispatcher's default
	HoldMaxAge    time.Duration // how long a delivery may be held; 0 is the dispatcher's default
	HoldMaxCount  int           // how many of a callback's deliveries may be held; 0 is the dispatcher's default
	DeadRetention time.Duration // how long dead deliveries are kept; 0 is the dispatcher's default
	DisableAfter  time.Duration // how long a callback may do nothing but fail; 0 is the dispatcher's default, negative never
	WaitReplicas  int           // replicas that must hold an event before it is accepted
	ShedAt        int           // percent of Redis's maxmemory from which on no events are taken; 0 is the dispatcher's default
	Concurrency   int           // attempts at the same time in this process
	Poll          time.Duration // how often idle lanes are looked at; 0 is the dispatcher's default
	Drain         time.Duration // how long /readyz says no before the listener closes
	ShutdownGrace time.Duration // how long attempts and requests under way may take at the end
	MaxBody       int64         // bytes of a request to the API; 0 is its default
	MaxInflight   int64         // bytes of all requests' bodies together; 0 is the API's default
}

// house is a process of Ringback: the API, a worker, or both, over one Redis.
type house struct {
	cfg       houseConfig
	log       *slog.Logger
	telemetry *telemetry
	egress    *egress.Client
	keys      *registry.Keys
	client    *dispatcher.Client
	worker    *dispatcher.Worker // nil without that role
	server    *http.Server
	leaving   atomic.Bool // set once the end has begun: /readyz says so, for load balancers to look elsewhere
}

// openHouse wires everything and starts nothing yet.
func openHouse(ctx context.Context, cfg houseConfig) (*house, error) {
	h := &house{cfg: cfg, log: cfg.Logger, keys: registry.NewKeys(cfg.Redis)}
	routeLogs(h.log)
	var err error
	if h.telemetry, err = openTelemetry(ctx, h.log); err != nil {
		return nil, err
	}
	if h.egress, err = egress.New(cfg.Egress); err != nil {
		return nil, misconfigured(err)
	}
	callbacks, err := registry.New(registry.Config{
		Redis: cfg.Redis, Catalogue: payloads.Builtin(), Keyset: cfg.Keyset, CheckURL: h.egress.CheckURL, Logger: h.log,
		VerifyDestinations: cfg.VerifyDestinations,
	})
	if err != nil {
		return nil, err
	}
	if err := callbacks.CheckKeyset(ctx); errors.Is(err, registry.ErrSealed) {
		return nil, misconfigured(err)
	} else if err != nil {
		return nil, err
	}
	h.client, err = dispatcher.New(dispatcher.Config{ //nolint:contextcheck // it begins its counters at zero, which waits for nothing
		Redis: cfg.Redis, Registry: callbacks, Egress: h.egress, UserAgent: "Ringback/" + programVersion(), Origin: cfg.Origin, Logger: h.log,
		TracerProvider: h.telemetry.tracers, MeterProvider: h.telemetry.meters,
		Retention: cfg.Retention, DeadRetention: cfg.DeadRetention, DisableAfter: cfg.DisableAfter,
		HoldMaxAge: cfg.HoldMaxAge, HoldMaxCount: cfg.HoldMaxCount, WaitReplicas: cfg.WaitReplicas, ShedAt: cfg.ShedAt,
	})
	if err != nil {
		return nil, err
	}
	if cfg.Worker {
		h.worker, err = dispatcher.NewWorker(h.client, dispatcher.WorkerConfig{
			Concurrency: cfg.Concurrency, Accepts: cfg.API, Poll: cfg.Poll, ShutdownGrace: cfg.ShutdownGrace,
		})
		if err != nil {
			return nil, err
		}
	}
	api, err := httpapi.New(httpapi.Config{ //nolint:contextcheck // each request has its own
		Client: h.client, Registry: callbacks, Keys: h.keys, Redis: cfg.Redis,
		Metrics: h.telemetry.metrics, MeterProvider: h.telemetry.meters, Logger: h.log, Version: programVersion(), MaxBody: cfg.MaxBody, MaxInflight: cfg.MaxInflight,
	})
	if err != nil {
		return nil, err
	}
	h.server = newServer(h.guarded(h.front(withPatience(api))), h.log)
	if cfg.TLS != nil {
		h.server.TLSConfig = cfg.TLS.config() //nolint:contextcheck // each handshake has its own
	}
	return h, nil
}

// guarded turns away who has no business with this process, whatever they ask.
func (h *house) guarded(next http.Handler) http.Handler {
	if h.cfg.TLS != nil && h.cfg.TLS.clientCA != "" {
		next = certified(next)
	}
	if h.cfg.Desk != "" {
		next = deskOnly(h.cfg.Desk, next)
	}
	return next
}

// front stands before the API: it answers /readyz with 503 once the end has begun, and a process that is only a worker shows no
// more than its health and its metrics.
func (h *house) front(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			if h.leaving.Load() {
				httpapi.Problem(w, http.StatusServiceUnavailable, "this process is shutting down")
				return
			}
		case "/healthz", "/metrics":
		default:
			if !h.cfg.API {
				httpapi.Problem(w, http.StatusNotFound, "this process is a worker: it does not serve the API")
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

// run serves and works until ctx ends, then leaves in order: /readyz says no, requests and attempts under way finish within the
// grace, and what they used is closed after them. An end that was asked for is no error.
func (h *house) run(ctx context.Context) error {
	self := registry.Self(programVersion(), h.roles())
	self.Keys = h.cfg.Keyset.KeyIDs()
	forget, err := registry.Announce(ctx, h.cfg.Redis, self, h.log)
	if err != nil {
		return errors.Join(err, h.cfg.Listener.Close())
	}
	defer func() { h.forget(ctx, forget) }()
	if h.worker != nil {
		if err := h.worker.Start(); err != nil { //nolint:contextcheck // the work goes on until Shutdown, not until ctx ends
			return fmt.Errorf("starting the worker: %w", err)
		}
	}
	served := make(chan error, 1)
	ln := limitConnections(h.server, h.cfg.Listener, maxConnections, maxIdle, h.log)
	go func() {
		last := errPanicked
		h.contain(ctx, func() { last = h.serve(ln) }) //nolint:contextcheck // what becomes of connections outlives ctx
		served <- last
	}()
	h.log.InfoContext(ctx, "ready", "address", h.cfg.Listener.Addr().String(), "tls", h.cfg.TLS != nil, "api", h.cfg.API, "worker", h.cfg.Worker, "version", programVersion())

	select {
	case <-ctx.Done():
		h.log.InfoContext(ctx, "shutting down; a second signal ends the process at once", "grace", h.cfg.ShutdownGrace)
		h.shutdown(ctx)
		if last := <-served; !errors.Is(last, http.ErrServerClosed) {
			err = last
		}
	case err = <-served:
		h.shutdown(ctx)
		err = fmt.Errorf("stopped serving: %w", err)
	}
	h.log.InfoContext(ctx, "stopped")
	return err
}

// serve answers requests until the server shuts down.
func (h *house) serve(ln net.Listener) error {
	ln = h.sturdy(ln)
	if h.cfg.TLS != nil {
		return h.server.ServeTLS(ln, "", "")
	}
	return h.server.Serve(ln)
}

// errPanicked is what became of something that panicked; log and metrics know more.
var errPanicked = errors.New("a fault in Ringback itself: its log says more")

// contain runs do and survives its panic, which log and metrics tell of.
func (h *house) contain(ctx context.Context, do func()) (well bool) {
	defer func() {
		if cause := recover(); cause != nil {
			h.client.Panicked(ctx, dispatcher.PlaceProcess, cause)
		}
	}()
	do()
	return true
}

// sturdy contains the panics of what net/http calls in this process. Those of a request it would survive by itself, but not count. Those of
// taking a connection, and of noting what becomes of it, would end the process.
func (h *house) sturdy(ln net.Listener) net.Listener {
	note, handler := h.server.ConnState, h.server.Handler
	h.server.ConnState = func(conn net.Conn, state http.ConnState) {
		h.contain(context.Background(), func() { note(conn, state) })
	}
	h.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // it is the request's
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				h.client.Panicked(r.Context(), dispatcher.PlaceHTTP, cause)
			}
			panic(http.ErrAbortHandler) // cuts the connection: half an answer must not look whole
		}()
		handler.ServeHTTP(w, r)
	})
	return &sturdyListener{ln, h}
}

// sturdyListener is a listener whose Accept may panic: net/http tries again then.
type sturdyListener struct {
	net.Listener
	house *house
}

// Accept returns the next connection.
func (l *sturdyListener) Accept() (conn net.Conn, err error) {
	if !l.house.contain(context.Background(), func() { conn, err = l.Listener.Accept() }) {
		return nil, temporaryError{errPanicked}
	}
	return conn, err
}

// temporaryError is a [net.Error] after which net/http goes on to accept connections.
type temporaryError struct{ error }

func (temporaryError) Timeout() bool   { return false }
func (temporaryError) Temporary() bool { return true }

// roles are what this process does, as --roles takes them.
func (h *house) roles() string {
	switch {
	case !h.cfg.Worker:
		return "api"
	case !h.cfg.API:
		return "worker"
	}
	return "api,worker"
}

// forget takes back the announcement of this process. If Redis does not answer, it is forgotten within seconds all the same.
func (h *house) forget(ctx context.Context, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		h.log.WarnContext(ctx, "closing", "error", oneLine(err.Error()))
	}
}

func (h *house) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.ShutdownGrace)
	defer cancel()
	h.leaving.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if !h.contain(ctx, func() { h.closeDoor(ctx) }) {
			_ = h.server.Close() // run waits for what serves to end
		}
	})
	if h.worker != nil {
		wg.Go(func() { h.contain(ctx, h.worker.Shutdown) })
	}
	wg.Wait()
	h.close(ctx)
}

// closeDoor takes no connections any more once load balancers have had time to look elsewhere, and waits for requests under way.
func (h *house) closeDoor(ctx context.Context) {
	select {
	case <-time.After(h.cfg.Drain):
	case <-ctx.Done():
	}
	if err := h.server.Shutdown(ctx); err != nil {
		h.log.WarnContext(ctx, "some requests did not finish within the grace", "error", err)
		_ = h.server.Close()
	}
}

func (h *house) close(ctx context.Context) {
	err := h.client.Close() //nolint:contextcheck // an end has its own time
	h.egress.Close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := errors.Join(err, h.telemetry.close(last)); err != nil {
		h.log.WarnContext(ctx, "closing", "error", oneLine(err.Error()))
	}
}
