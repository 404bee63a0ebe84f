package main

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// panickyListener panics once, when it is to accept a connection.
type panickyListener struct {
	net.Listener
	panicked atomic.Bool
}

func (l *panickyListener) Accept() (net.Conn, error) {
	if l.panicked.CompareAndSwap(false, true) {
		panic("for a test: accept")
	}
	return l.Listener.Accept()
}

// TestPanicsAtTheDoorEndNothing: neither where a connection is taken, nor where it is noted that it is new or closed, nor before the API.
func TestPanicsAtTheDoorEndNothing(t *testing.T) {
	t.Parallel()
	log := newTranscript()
	a := &app{log: slog.New(slog.NewTextHandler(log, nil))}
	reader := sdkmetric.NewManualReader()
	a.client = idleClient(t, a.log, reader)
	a.server = newServer(a.guarded(a.front(withPatience(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Panic") != "" {
			panic("for a test: handler")
		}
	})))), a.log)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	limited := limitConnections(a.server, &panickyListener{Listener: ln}, 10, 10, a.log)
	var fresh, closed atomic.Bool
	note := a.server.ConnState
	a.server.ConnState = func(conn net.Conn, state http.ConnState) {
		note(conn, state)
		if state == http.StateNew && fresh.CompareAndSwap(false, true) || state == http.StateClosed && closed.CompareAndSwap(false, true) {
			panic("for a test: " + state.String())
		}
	}
	served := make(chan error, 1)
	go func() { served <- a.serve(limited) }()
	ask := func(header string) error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+ln.Addr().String()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Panic", header)
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	}
	if err := ask(""); err != nil {
		t.Errorf("after a panic in Accept: %v", err)
	}
	if err := ask("yes"); err == nil {
		t.Error("a request whose handler panicked has an answer")
	}
	if err := ask(""); err != nil {
		t.Errorf("after a panic in a handler: %v", err)
	}
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
	log.await(t.Context(), regexp.MustCompile(`panic="for a test: closed`), nil) // net/http forgets a connection, and says so then
	var all metricdata.ResourceMetrics
	_ = reader.Collect(t.Context(), &all) // there is no Redis to ask for the rest
	got := map[string]int64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if data, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "ringback.panics" {
				for _, p := range data.DataPoints {
					place, _ := p.Attributes.Value(attribute.Key("place"))
					got[place.AsString()] = p.Value
				}
			}
		}
	}
	if got[dispatcher.PlaceProcess] != 3 || got[dispatcher.PlaceHTTP] != 1 {
		t.Errorf("counted %v, want three of the process and one of a request", got)
	}
	for _, what := range []string{"accept", "new", "closed", "handler"} {
		if n := strings.Count(log.String(), `panic="for a test: `+what); n != 1 {
			t.Errorf("the log tells of %s %d times: %s", what, n, log.String())
		}
	}
}

// startConfig is an app's with everything it needs.
func startConfig(t *testing.T, server *redistest.Server) appConfig {
	t.Helper()
	keyset, err := registry.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	rdb := server.Client()
	rdb.FlushAll(t.Context()) // which knows another keyset
	return appConfig{
		Redis: rdb, Keyset: keyset, Listener: ln, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), API: true, Worker: true,
		Concurrency: 16, ShutdownGrace: time.Second,
	}
}

// wantNothingOpen fails if what began since, but for connections to the collector, goes on.
func wantNothingOpen(t *testing.T, collector *collector, since goleak.Option) {
	t.Helper()
	collector.CloseClientConnections()
	if err := goleak.Find(since); err != nil {
		t.Error(err)
	}
}

// TestAFailedOpeningLeavesNothingOpen: whichever step fails, those before it are undone, and telemetry is sent.
func TestAFailedOpeningLeavesNothingOpen(t *testing.T) {
	server := redistest.Start(t)
	for name, c := range map[string]struct {
		spoil func(*testing.T, *appConfig)
		says  string
	}{
		"telemetry":    {func(t *testing.T, _ *appConfig) { t.Setenv("OTEL_TRACES_EXPORTER", "zipkin") }, "OTEL_TRACES_EXPORTER"},
		"egress":       {func(_ *testing.T, cfg *appConfig) { cfg.Egress.MaxTimeout = -1 }, "MaxTimeout"},
		"registry":     {func(_ *testing.T, cfg *appConfig) { cfg.Keyset = nil }, "Config.Keyset"},
		"keyset check": {func(_ *testing.T, cfg *appConfig) { _ = cfg.Redis.Close() }, "closed"},
		"dispatcher":   {func(_ *testing.T, cfg *appConfig) { cfg.Retention = -1 }, "Config.Retention"},
		"worker":       {func(_ *testing.T, cfg *appConfig) { cfg.Concurrency = -1 }, "WorkerConfig.Concurrency"},
		"API":          {func(_ *testing.T, cfg *appConfig) { cfg.MaxInflight = 1 }, "Config.MaxInflight"},
	} {
		t.Run(name, func(t *testing.T) {
			collector := newCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			cfg := startConfig(t, server)
			c.spoil(t, &cfg)
			since := goleak.IgnoreCurrent()
			if a, err := openApp(t.Context(), cfg); a != nil || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("opened: %v; want an error about %s", err, c.says)
			}
			wantNothingOpen(t, collector, since)
			if name == "API" && !slices.Contains(collector.metrics, "ringback.panics") {
				t.Errorf("the last metrics were not sent, only %v", collector.metrics)
			}
		})
	}
}

// TestAFailedRunLeavesNothingOpen: the app is closed, its telemetry sent, and nobody is left waiting at its listener.
func TestAFailedRunLeavesNothingOpen(t *testing.T) {
	server := redistest.Start(t)
	for name, spoil := range map[string]func(redis.UniversalClient){
		"announcement": func(rdb redis.UniversalClient) { _ = rdb.Close() },
		"worker":       func(rdb redis.UniversalClient) { rdb.AddHook(refusing("sadd")) },
	} {
		t.Run(name, func(t *testing.T) {
			collector := newCollector(t)
			t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
			cfg := startConfig(t, server)
			since := goleak.IgnoreCurrent()
			a, err := openApp(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			spoil(cfg.Redis)
			if err := a.run(t.Context()); err == nil {
				t.Error("it ran")
			}
			if err := cfg.Listener.(*net.TCPListener).SetDeadline(time.Now()); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the listener is open: %v", err)
			}
			wantNothingOpen(t, collector, since)
			if !slices.Contains(collector.metrics, "ringback.panics") {
				t.Errorf("the last metrics were not sent, only %v", collector.metrics)
			}
			if n := server.Client().ZCard(t.Context(), "ringback:processes").Val(); n != 0 {
				t.Errorf("%d processes are announced", n)
			}
		})
	}
}

// TestADevThatCannotGreetLeavesNothingOpen: nor does it leave its key in a Redis that goes on.
func TestADevThatCannotGreetLeavesNothingOpen(t *testing.T) {
	server := redistest.Start(t)
	collector := newCollector(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	t.Setenv("RINGBACK_DEV_KEYSET_FILE", filepath.Join(t.TempDir(), "keyset.json"))
	since := goleak.IgnoreCurrent()
	root := newCLI(strings.NewReader(""), gone{}, t.Output())
	if err := root.RunContext(t.Context(), []string{"ringback", "dev", "--listen", "127.0.0.1:0", "--redis", server.URL()}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it ran: %v", err)
	}
	wantNothingOpen(t, collector, since)
	if !slices.Contains(collector.metrics, "ringback.panics") {
		t.Errorf("the last metrics were not sent, only %v", collector.metrics)
	}
	if n := server.Client().HLen(t.Context(), "ringback:keys").Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// gone is a reader's end that nobody reads any more.
type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// refusing fails the commands of a name.
type refusing string

func (refusing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (refusing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (name refusing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == string(name) {
			err := errors.New("refused for a test")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// idleClient is one whose Redis is never asked.
func idleClient(t *testing.T, log *slog.Logger, reader sdkmetric.Reader) *dispatcher.Client {
	t.Helper()
	keyset, err := registry.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	out, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(out.Close)
	rdb := redis.NewClient(&redis.Options{MaxRetries: -1, DialerRetries: 1, Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, io.EOF }})
	t.Cleanup(func() { _ = rdb.Close() })
	callbacks, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, CheckURL: out.CheckURL, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	client, err := dispatcher.New(dispatcher.Config{
		Redis: rdb, Registry: callbacks, Egress: out, Logger: log, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// uncontained are the goroutines and timers of the server's packages that catch no panic where they begin, by file and function, and why
// none of theirs ends the process, or why it may.
var uncontained = map[string]string{
	"dispatcher/start.go Start":            "reconcile contains each round",
	"dispatcher/start.go Shutdown":         "asynq's own code, at the end of the process",
	"dispatcher/near.go close":             "it ends a context",
	"dispatcher/live.go enter":             "run contains each look, and waits besides",
	"dispatcher/pollers.go enter":          "run contains each look, and waits besides",
	"dispatcher/expander.go add":           "newExpander's page contains each page, and the rest moves names about",
	"dispatcher/lanes/lanes.go inParallel": "each contains its task",
	"dispatcher/lanes/servers.go Follow":   "asynq waits for its handlers, which are contained",
	"dispatcher/lanes/servers.go wait":     "the same",
	"dispatcher/lanes/servers.go Shutdown": "the same",
	"dispatcher/lanes/bell.go hear":        "it closes a connection",
	"dispatcher/lanes/intake.go add":       "letIn contains each look, and the rest moves names about",
	"dispatcher/lanes/intake.go enter":     "each contains its task",
	"dispatcher/lanes/intake.go Close":     "it ends a context",
	"dispatcher/brake.go enter":            "ring lets on what waits, and does nothing else",
	"dispatcher/brake.go ring":             "the same",
	"dispatcher/egress/conn.go Write":      "lose is a few lines that close a connection",
	"dispatcher/egress/conn.go park":       "retired is a few lines that close a connection",
	"dispatcher/egress/proxy.go open":      "it sets a deadline",
	"dispatcher/egress/proxy.go answers":   "it sets a deadline",
	"registry/announce.go Announce":        "say recovers",
	"cmd/ringback/main.go untilSignal":     "it waits for a signal",
	"cmd/ringback/dev.go runClock":         "dev's embedded Redis runs in this process, and nobody guards its own goroutines",
	"cmd/ringback/devdata.go start":        "own waits for a process, and stops the app",
	"cmd/ringback/bulk.go run":             "a command that ends",
	"cmd/ringback/listen.go serveUntil":    "a command that ends",
	"cmd/ringback/listenfollow.go run":     "a command that ends",

	"cmd/ringback/bench/process.go launch":   "a command that ends",
	"cmd/ringback/bench/site.go register":    "a command that ends",
	"cmd/ringback/bench/receiver.go serve":   "a command that ends",
	"cmd/ringback/bench/sending.go sendLoad": "a command that ends",
	"cmd/ringback/bench/deliver.go deliver":  "a command that ends",
	"cmd/ringback/bench/floors.go hurry":     "a command that ends",
	"cmd/ringback/bench/watched.go watch":    "a command that ends",
}

// TestGoroutinesCatchTheirPanics: what begins a goroutine or a timer in the server's packages contains what runs there, or is known.
func TestGoroutinesCatchTheirPanics(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	for _, dir := range []string{"payloads", "registry", "dispatcher", "dispatcher/egress", "dispatcher/httpapi", "dispatcher/lanes", "dispatcher/ledger", "dispatcher/lua", "dispatcher/verdict", "cmd/ringback", "cmd/ringback/bench"} {
		files, err := filepath.Glob(filepath.Join(root, dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no files in %s: %v", dir, err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, path, text, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				name := dir + "/" + filepath.Base(path)
				if f, ok := decl.(*ast.FuncDecl); ok {
					name += " " + f.Name.Name
				}
				ast.Inspect(decl, func(n ast.Node) bool {
					if !spawns(n) {
						return true
					}
					known[name] = known[name] || uncontained[name] != ""
					runs := string(text[fset.Position(n.Pos()).Offset:fset.Position(n.End()).Offset])
					if uncontained[name] == "" && !strings.Contains(runs, "contain(") {
						t.Errorf("%s: a panic in there ends the process: contain it, or say in uncontained why not", fset.Position(n.Pos()))
					}
					return true
				})
			}
		}
	}
	for name := range uncontained {
		if !known[name] {
			t.Errorf("%s begins nothing: take it out of uncontained", name)
		}
	}
}

// spawns reports whether something else goes on beside a node: a go statement, a WaitGroup's or an errgroup's Go, or an AfterFunc.
func spawns(n ast.Node) bool {
	if _, ok := n.(*ast.GoStmt); ok {
		return true
	}
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return false
	}
	f, ok := call.Fun.(*ast.SelectorExpr)
	return ok && slices.Contains([]string{"Go", "AfterFunc"}, f.Sel.Name)
}
