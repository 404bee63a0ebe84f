package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// house is a whole server on a real Redis, a client of it, and what went over the wire between the two.
type house struct {
	t      *testing.T
	redis  *redistest.Server
	server *httptest.Server
	key    string
	client *client.Client
	wire   *wire
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{t: t, redis: redistest.Start(t), wire: &wire{}}
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: h.redis.Socket(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = rdb.Close() })
	h.server, h.key = serve(t, rdb)
	h.client = h.with(client.Config{})
	return h
}

// with is another client of the house.
func (h *house) with(cfg client.Config) *client.Client {
	h.t.Helper()
	return newClient(h.t, h.server.URL, h.key, h.wire, cfg)
}

func newClient(t *testing.T, server, key string, w *wire, cfg client.Config) *client.Client {
	t.Helper()
	if cfg.Server == "" {
		cfg.Server = server
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	w.next = transport
	cfg.Key, cfg.HTTPClient = key, &http.Client{Transport: w}
	c, err := client.New(cfg)
	must(t, err)
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve runs the API, with an operator's key. It is closed when the test ends.
func serve(t testing.TB, rdb redis.UniversalClient) (server *httptest.Server, key string) {
	t.Helper()
	server, key, stop, err := startServer(t.Context(), rdb)
	must(t, err)
	t.Cleanup(stop)
	return server, key
}

// startServer runs the API until stop is called.
func startServer(ctx context.Context, rdb redis.UniversalClient) (server *httptest.Server, key string, stop func(), err error) {
	logger := slog.New(slog.DiscardHandler)
	door, err := egress.New(egress.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if err != nil {
		return nil, "", nil, err
	}
	keyset, err := registry.NewKeyset()
	if err != nil {
		return nil, "", nil, err
	}
	callbacks, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, CheckURL: door.CheckURL, Logger: logger})
	if err != nil {
		return nil, "", nil, err
	}
	engine, err := dispatcher.New(dispatcher.Config{Redis: rdb, Registry: callbacks, Egress: door, Logger: logger}) //nolint:contextcheck // it begins its counters at zero, which waits for nothing
	if err != nil {
		return nil, "", nil, err
	}
	keys := registry.NewKeys(rdb)
	api, err := httpapi.New(httpapi.Config{Client: engine, Registry: callbacks, Keys: keys, Redis: rdb, Logger: logger, PublicURL: "https://ringback.example.com"}) //nolint:contextcheck // each request has its own
	if err != nil {
		return nil, "", nil, err
	}
	key, _, err = keys.Create(ctx, registry.Operator, registry.AllCompanies)
	if err != nil {
		return nil, "", nil, err
	}
	server = httptest.NewServer(api)
	return server, key, func() { //nolint:contextcheck // as every end
		server.Close()
		_ = engine.Close()
		door.Close()
	}, nil
}

// exampleServer is a server that examples talk to.
func exampleServer() (url, key string, stop func()) {
	mini, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: mini.Addr()})
	server, key, end, err := startServer(context.Background(), rdb)
	if err != nil {
		log.Fatal(err)
	}
	return server.URL, key, func() {
		end()
		_ = rdb.Close()
		mini.Close()
	}
}

// wire is a transport that keeps a copy of what was sent and answered last, and can break what goes over it.
type wire struct {
	next http.RoundTripper
	// tear, if set, sees every answer before the client does; it may return another, or an error.
	tear func(*http.Response) (*http.Response, error)

	mu       sync.Mutex
	requests []exchange
}

type exchange struct {
	method, path, query, mediaType string
	header                         http.Header
	body                           []byte
	status                         int
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	x := exchange{method: r.Method, path: r.URL.EscapedPath(), query: r.URL.RawQuery, mediaType: r.Header.Get("Content-Type"), header: r.Header}
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		x.body = body
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	resp, err := w.next.RoundTrip(r)
	if err == nil {
		x.status = resp.StatusCode
		if w.tear != nil {
			resp, err = w.tear(resp)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, x)
	return resp, err
}

func (w *wire) last() exchange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.requests[len(w.requests)-1]
}

func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.requests)
}

// event is one that the builtin catalogue takes.
func event(id string) client.Event {
	return client.Event{Type: "payment_proof", ID: id, Payload: json.RawMessage(`{"requestId": "cba1e997",  "status": "OK", "note": "<b>"}`)}
}

// registration is one for event, of a partner who is not there.
var registration = client.Registration{CallbackType: "payment_proof", Destination: client.Destination{URL: "http://127.0.0.1:9/hook"}}

// quickly is a bound for tests of repeating: long enough to come back once or twice.
const quickly = 5 * time.Second
