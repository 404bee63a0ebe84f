package main

import (
	"cmp"
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
	"github.com/ringback/ringback/dispatcher/console"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// appConfig is what an app is made of. Redis and the listener stay the caller's until run takes the listener.
type appConfig struct {
	Redis    redis.UniversalClient
	Keyset   *registry.Keyset
	Listener net.Listener
	Logger   *slog.Logger

	TLS  *certificates // nil: callers come in clear text
	Desk string        // the address that dev was told to listen on, whose name callers have to use; empty: any name will do

	PublicURL string // that people reach the pages at; empty: nobody said
	Embedded  bool   // Redis is in this process's memory

	Portal console.PortalLook // how the partners' pages look, and where

	API    bool // serve the HTTP API
	Worker bool // attempt deliveries

	VerifyDestinations bool   // callbacks are unverified until their endpoints have answered a challenge
	Origin             string // the asker's name in the handshake of CloudEvents; empty is the dispatcher's default

	Egress        egress.Config
	Retention     time.Duration // how long finished events are kept; 0 is the dispatcher's default
	BodyRetention time.Duration // how long their bodies are; 0 is as long as the events
	HoldMaxAge    time.Duration // how long a delivery may be held; 0 is the dispatcher's default
	HoldMaxCount  int           // how many of a callback's deliveries may be held; 0 is the dispatcher's default
	DeadRetention time.Duration // how long dead deliveries are kept; 0 is the dispatcher's default
	DisableAfter  time.Duration // how long a callback may do nothing but fail; 0 is the dispatcher's default, negative never
	Keep          keeping       // what is kept of exchanges with partners
	WaitReplicas  int           // replicas that must hold an event before it is accepted
	ShedAt        int           // percent of Redis's maxmemory from which on no events are taken; 0 is the dispatcher's default
	Concurrency   int           // attempts at the same time in this process
	Poll          time.Duration // how often idle lanes are looked at; 0 is the dispatcher's default
	Drain         time.Duration // how long /readyz says no before the listener closes
	ShutdownGrace time.Duration // how long attempts and requests under way may take at the end
	MaxBody       int64         // bytes of a request to the API; 0 is its default
	MaxInflight   int64         // bytes of all requests' bodies together; 0 is the API's default
}

// An app is a process of Ringback: the API, a worker, or both, over one Redis.
type app struct {
	cfg       appConfig
	log       *slog.Logger
	telemetry *telemetry
	egress    *egress.Client
	clock     *steady.Clock
	keys      *registry.Keys
	client    *dispatcher.Client
	worker    *dispatcher.Worker // nil without that role
	server    *http.Server
	leaving   atomic.Bool // set once the end has begun: /readyz says so, for load balancers to look elsewhere
}

// openApp wires everything and starts nothing yet. Whoever does not run the app closes it. If openApp fails, it has closed what it opened.
func openApp(ctx context.Context, cfg appConfig) (*app, error) {
	a := &app{cfg: cfg, log: cfg.Logger, clock: steady.New(cfg.Redis, cfg.Logger)}
	a.keys = registry.NewKeys(cfg.Redis).Follow(a.clock)
	routeLogs(a.log)
	if err := a.open(ctx); err != nil {
		a.close(ctx)
		return nil, err
	}
	return a, nil
}

// open opens one part after the other, of which close closes those there are.
func (a *app) open(ctx context.Context) (err error) {
	cfg := a.cfg
	if a.telemetry, err = openTelemetry(ctx, a.log); err != nil {
		return err
	}
	if err := a.keys.Measure(a.telemetry.meters); err != nil { //nolint:contextcheck // it begins its counter at zero, which waits for nothing
		return err
	}
	if a.egress, err = egress.New(cfg.Egress); err != nil {
		return misconfigured(err)
	}
	callbacks, err := registry.New(registry.Config{
		Redis: cfg.Redis, Catalogue: payloads.Builtin(), Keyset: cfg.Keyset, CheckURL: a.egress.CheckURL, Logger: a.log,
		VerifyDestinations: cfg.VerifyDestinations, PublicURL: cfg.PublicURL, Clock: a.clock,
	})
	if err != nil {
		return err
	}
	if err := callbacks.CheckKeyset(ctx); errors.Is(err, registry.ErrSealed) {
		return misconfigured(err)
	} else if err != nil {
		return err
	}
	a.warm(ctx, callbacks)
	client, err := dispatcher.New(dispatcher.Config{ //nolint:contextcheck // it begins its counters at zero, which waits for nothing
		Redis: cfg.Redis, Registry: callbacks, Egress: a.egress, UserAgent: "Ringback/" + programVersion(), Origin: cfg.Origin, Logger: a.log, Clock: a.clock,
		TracerProvider: a.telemetry.tracers, MeterProvider: a.telemetry.meters,
		Retention: cfg.Retention, BodyRetention: cfg.BodyRetention, DeadRetention: cfg.DeadRetention, DisableAfter: cfg.DisableAfter,
		HoldMaxAge: cfg.HoldMaxAge, HoldMaxCount: cfg.HoldMaxCount, WaitReplicas: cfg.WaitReplicas, ShedAt: cfg.ShedAt,
		KeepRequests: cfg.Keep.requests, KeepAnswers: cfg.Keep.answers, KeepAnswerBytes: cfg.Keep.answerBytes,
	})
	if err != nil {
		return err
	}
	a.client = client
	if cfg.Worker {
		a.worker, err = dispatcher.NewWorker(a.client, dispatcher.WorkerConfig{
			Concurrency: cfg.Concurrency, Accepts: cfg.API, Poll: cfg.Poll, ShutdownGrace: cfg.ShutdownGrace,
		})
		if err != nil {
			return err
		}
	}
	return a.openServer(callbacks) //nolint:contextcheck // each request and each handshake has its own
}

// openServer opens what answers requests: the API and the pages before it.
func (a *app) openServer(callbacks *registry.Registry) error {
	cfg := a.cfg
	guesses := &httpapi.Guesses{}
	api, err := httpapi.New(httpapi.Config{
		Client: a.client, Registry: callbacks, Keys: a.keys, Redis: cfg.Redis, PublicURL: cfg.PublicURL, Guesses: guesses, Examine: cfg.examine(),
		Metrics: a.telemetry.metrics, MeterProvider: a.telemetry.meters, Logger: a.log, Version: programVersion(), MaxBody: cfg.MaxBody, MaxInflight: cfg.MaxInflight,
	})
	if err != nil {
		return err
	}
	pages, err := withPages(api, a.keys, guesses, cfg.Portal, a.log)
	if err != nil {
		return err
	}
	a.server = newServer(httpapi.Named(a.guarded(a.front(withPatience(pages)))), a.log)
	if cfg.TLS != nil {
		a.server.TLSConfig = cfg.TLS.config()
	}
	return nil
}

// examine is who says how Redis does: nobody, of one that is in this process's memory.
func (cfg *appConfig) examine() func(context.Context) dispatcher.Posture {
	if cfg.Embedded {
		return nil
	}
	return posture(cfg.Redis, promises{cfg.WaitReplicas, cmp.Or(cfg.ShedAt, dispatcher.DefaultShedAt)})
}

// guarded turns callers away that have no business with this process, whatever they ask.
func (a *app) guarded(next http.Handler) http.Handler {
	if a.cfg.TLS != nil && a.cfg.TLS.clientCA != "" {
		next = certified(next)
	}
	if a.cfg.Desk != "" {
		next = deskOnly(a.cfg.Desk, next)
	}
	return next
}

// warmFor is how long a start may wait for the largest companies' callbacks to be read: else the first event of each would.
const warmFor = 2 * time.Second

// warm reads the largest companies' callbacks.
func (a *app) warm(ctx context.Context, callbacks *registry.Registry) {
	ctx, cancel := context.WithTimeout(ctx, warmFor)
	defer cancel()
	if err := callbacks.Warm(ctx, registry.ManyCallbacks); err != nil {
		a.log.InfoContext(ctx, "not all large companies were read before the start; their first events read them", "error", err)
	}
}

// front stands before the API. Once the end has begun, it answers /readyz with 503. If this process is only a worker, front shows no more than
// its health and its metrics.
func (a *app) front(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/readyz":
			if a.leaving.Load() {
				httpapi.Problem(w, http.StatusServiceUnavailable, "this process is shutting down")
				return
			}
		case "/healthz", "/metrics":
		default:
			if !a.cfg.API {
				httpapi.Problem(w, http.StatusNotFound, "this process is a worker: it does not serve the API")
				return
			}
		}
		api.ServeHTTP(w, r)
	})
}

// run serves and works until ctx ends, then leaves in order: /readyz says no, requests and attempts under way finish within the
// grace, and what they used is closed after them. An end that was asked for is no error.
func (a *app) run(ctx context.Context) error {
	self := registry.Self(programVersion(), a.roles())
	self.Keys = a.cfg.Keyset.KeyIDs()
	forget, err := registry.Announce(ctx, a.cfg.Redis, a.clock, self, a.log)
	if err != nil {
		return errors.Join(err, a.abandon(ctx))
	}
	defer func() { a.forget(ctx, forget) }()
	if a.worker != nil {
		if err := a.worker.Start(); err != nil { //nolint:contextcheck // the work goes on until Shutdown, not until ctx ends
			return errors.Join(fmt.Errorf("starting the worker: %w", err), a.abandon(ctx))
		}
	}
	served := make(chan error, 1)
	ln := limitConnections(a.server, a.cfg.Listener, maxConnections, maxIdle, a.log)
	go func() {
		last := errPanicked
		a.contain(ctx, func() { last = a.serve(ln) }) //nolint:contextcheck // what becomes of connections outlives ctx
		served <- last
	}()
	a.log.InfoContext(ctx, "ready", "address", a.cfg.Listener.Addr().String(), "tls", a.cfg.TLS != nil, "api", a.cfg.API, "worker", a.cfg.Worker, "version", programVersion())

	select {
	case <-ctx.Done():
		a.log.InfoContext(ctx, "shutting down; a second signal ends the process at once", "grace", a.cfg.ShutdownGrace)
		a.shutdown(ctx)
		if last := <-served; !errors.Is(last, http.ErrServerClosed) {
			err = last
		}
	case err = <-served:
		a.shutdown(ctx)
		err = fmt.Errorf("stopped serving: %w", err)
	}
	a.log.InfoContext(ctx, "stopped")
	return err
}

// serve answers requests until the server shuts down.
func (a *app) serve(ln net.Listener) error {
	ln = a.sturdy(ln)
	if a.cfg.TLS != nil {
		return a.server.ServeTLS(ln, "", "")
	}
	return a.server.Serve(ln)
}

// errPanicked is the error of something that panicked; log and metrics know more.
var errPanicked = errors.New("a fault in Ringback itself: its log says more")

// contain runs do and survives its panic, which log and metrics tell of.
func (a *app) contain(ctx context.Context, do func()) (well bool) {
	defer func() {
		if cause := recover(); cause != nil {
			a.client.Panicked(ctx, dispatcher.PlaceProcess, cause)
		}
	}()
	do()
	return true
}

// sturdy contains the panics of what net/http calls in this process. By itself, net/http would survive those of a request, but not count them. Those
// of taking a connection, and of noting what becomes of it, would end the process.
func (a *app) sturdy(ln net.Listener) net.Listener {
	note, handler := a.server.ConnState, a.server.Handler
	a.server.ConnState = func(conn net.Conn, state http.ConnState) {
		a.contain(context.Background(), func() { note(conn, state) })
	}
	a.server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { //nolint:contextcheck // it is the request's
			cause := recover()
			if cause == nil {
				return
			}
			if cause != http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
				a.client.Panicked(r.Context(), dispatcher.PlaceHTTP, cause)
			}
			panic(http.ErrAbortHandler) // cuts the connection: half an answer must not look whole
		}()
		handler.ServeHTTP(w, r)
	})
	return &sturdyListener{ln, a}
}

// sturdyListener is a listener whose Accept may panic: net/http tries again then.
type sturdyListener struct {
	net.Listener
	app *app
}

// Accept returns the next connection.
func (l *sturdyListener) Accept() (conn net.Conn, err error) {
	if !l.app.contain(context.Background(), func() { conn, err = l.Listener.Accept() }) {
		return nil, temporaryError{errPanicked}
	}
	return conn, err
}

// temporaryError is a [net.Error] after which net/http goes on to accept connections.
type temporaryError struct{ error }

func (temporaryError) Timeout() bool   { return false }
func (temporaryError) Temporary() bool { return true }

// roles are what this process does, as --roles takes them.
func (a *app) roles() string {
	switch {
	case !a.cfg.Worker:
		return "api"
	case !a.cfg.API:
		return "worker"
	}
	return "api,worker"
}

// forget takes back the announcement of this process. If Redis does not answer, it is forgotten within seconds all the same.
func (a *app) forget(ctx context.Context, stop func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := stop(ctx); err != nil {
		a.log.WarnContext(ctx, "closing", "error", oneLine(err.Error()))
	}
}

func (a *app) shutdown(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownGrace)
	defer cancel()
	a.leaving.Store(true)
	a.client.EndWatches() // whoever watches comes back to another process; nothing waits for them
	var wg sync.WaitGroup
	wg.Go(func() {
		if !a.contain(ctx, func() { a.closeDoor(ctx) }) {
			_ = a.server.Close() // run waits for what serves to end
		}
	})
	if a.worker != nil {
		wg.Go(func() { a.contain(ctx, a.worker.Shutdown) })
	}
	wg.Wait()
	a.close(ctx)
}

// closeDoor takes no connections any more once load balancers have had time to look elsewhere, and waits for requests under way.
func (a *app) closeDoor(ctx context.Context) {
	select {
	case <-time.After(a.cfg.Drain):
	case <-ctx.Done():
	}
	if err := a.server.Shutdown(ctx); err != nil {
		a.log.WarnContext(ctx, "some requests did not finish within the grace", "error", err)
		_ = a.server.Close()
	}
}

// abandon ends an app that does not come to serve.
func (a *app) abandon(ctx context.Context) error {
	err := a.cfg.Listener.Close()
	a.close(ctx)
	return err
}

// close closes what openApp opened, the last part first. Parts that it did not come to are nil.
func (a *app) close(ctx context.Context) {
	var errs []error
	if a.client != nil {
		errs = append(errs, a.client.Close()) //nolint:contextcheck // an end has its own time
	}
	a.clock.Close()
	if a.egress != nil {
		a.egress.Close()
	}
	if a.telemetry != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		errs = append(errs, a.telemetry.close(last))
	}
	if err := errors.Join(errs...); err != nil {
		a.log.WarnContext(ctx, "closing", "error", oneLine(err.Error()))
	}
}

// poolSize is how many connections to Redis a process may hold. An attempt talks to Redis only before and after its request, so half as many
// connections as attempts will do. The rest is for the API, which works on so many requests at a time, the pumps and the reconciler.
func poolSize(concurrency int) int { return concurrency/2 + httpapi.Places }
