package httpapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"
	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	if os.Getenv(killedEnv) != "" {
		os.Exit(killed())
	}
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

// house is the whole API on a Redis of its own, and a key for everybody.
type house struct {
	t      testing.TB
	redis  *redistest.Server
	rdb    *redis.Client
	keyset *registry.Keyset
	client *dispatcher.Client
	egress *egress.Client
	api    *server
	log    *logBook
	keys   map[string]string // actor -> API key
}

// actors are who calls: a role at acme, at another company, or everywhere.
var actors = map[string]registry.Key{
	"operator":       {Role: registry.Operator, Company: "*"},
	"acme operator":  {Role: registry.Operator, Company: "acme"},
	"producer":       {Role: registry.Producer, Company: "acme"},
	"all producer":   {Role: registry.Producer, Company: "*"},
	"partner":        {Role: registry.Partner, Company: "acme"},
	"viewer":         {Role: registry.Viewer, Company: "*"},
	"acme viewer":    {Role: registry.Viewer, Company: "acme"},
	"other operator": {Role: registry.Operator, Company: "other"},
	"other producer": {Role: registry.Producer, Company: "other"},
	"other partner":  {Role: registry.Partner, Company: "other"},
	"other viewer":   {Role: registry.Viewer, Company: "other"},
}

func newHouse(t testing.TB, change ...func(*Config)) *house {
	t.Helper()
	return openHouse(t, egress.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, (*egress.Client).CheckURL, change...)
}

// openHouse is newHouse with another way out, and with what of it stands before registrations: nil for nothing.
func openHouse(t testing.TB, out egress.Config, check func(*egress.Client, string) error, change ...func(*Config)) *house {
	t.Helper()
	h := &house{t: t, redis: redistest.Start(t), log: &logBook{}, keys: map[string]string{}}
	// One try: a Redis that is gone is to be found out at once.
	h.rdb = redis.NewClient(&redis.Options{Network: "unix", Addr: h.redis.Socket(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() { _ = h.rdb.Close() })
	logger := slog.New(NameRequests(slog.NewTextHandler(h.log, nil)))

	var err error
	h.egress, err = egress.New(out)
	h.must(err)
	t.Cleanup(h.egress.Close)
	checkURL := func(url string) error { return check(h.egress, url) }
	if check == nil {
		checkURL = nil
	}
	h.keyset, err = registry.NewKeyset()
	h.must(err)
	reg, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, CheckURL: checkURL, PublicURL: "https://ringback.example.com", Logger: logger})
	h.must(err)
	h.client, err = dispatcher.New(dispatcher.Config{Redis: h.rdb, Registry: reg, Egress: h.egress, Logger: logger})
	h.must(err)
	t.Cleanup(func() { _ = h.client.Close() })

	cfg := Config{
		Client: h.client, Registry: reg, Keys: registry.NewKeys(h.rdb), Redis: h.rdb, Logger: logger, Version: "1.2.3", PublicURL: "https://ringback.example.com",
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
	}
	for _, f := range change {
		f(&cfg)
	}
	h.api, err = build(cfg)
	h.must(err)
	for name := range actors {
		h.newKey(name)
	}
	return h
}

// guesses gives the address that calls come from a whole number of guesses, however long the test takes: no more of them as time passes.
func (h *house) guesses() {
	from := sourceOf(httptest.NewRequestWithContext(h.t.Context(), http.MethodGet, "/", nil))
	h.api.Guesses.note(from)
	h.api.Guesses.met[from] = rate.NewLimiter(0, wrongKeys)
}

// newKey gives an actor a key without a rate limit: no test is a partner's second.
func (h *house) newKey(actor string) {
	h.t.Helper()
	key := actors[actor]
	secret := "rbk_" + rand.Text()
	key.ID, key.RateLimit = secret[:12], new(float64)
	h.must(h.api.Keys.Put(h.t.Context(), secret, key))
	h.keys[actor] = secret
}

// in is the same house for a subtest.
func (h *house) in(t *testing.T) *house {
	sub := *h
	sub.t = t
	return &sub
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// answer is what a caller sees.
type answer struct {
	t      testing.TB
	status int
	header http.Header
	body   []byte
}

type header map[string]string

// call makes a request as an actor ("": with no key).
func (h *house) call(actor, method, path, body string, headers ...header) answer {
	h.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(h.t.Context(), method, path, reader)
	if actor != "" {
		key, ok := h.keys[actor]
		if !ok {
			key = actor // some other text
		}
		r.Header.Set("Authorization", "Bearer "+key)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if strings.HasSuffix(path, "/events/batch") {
		r.Header.Set("Content-Type", "application/x-ndjson")
	}
	for _, hs := range headers {
		for name, value := range hs {
			r.Header.Set(name, value)
		}
	}
	return h.do(r)
}

func (h *house) do(r *http.Request) answer {
	h.t.Helper()
	w := httptest.NewRecorder()
	if isStream(r) { // which has no end: its caller hangs up after the first words
		ctx, hangUp := context.WithCancel(r.Context())
		defer hangUp()
		h.api.observed().ServeHTTP(&onFlush{w, hangUp}, r.WithContext(ctx))
	} else {
		h.api.observed().ServeHTTP(w, r)
	}
	a := answer{h.t, w.Code, w.Result().Header, w.Body.Bytes()}
	a.wantSafeHeaders()
	return a
}

// onFlush calls do when some of an answer is sent on its way.
type onFlush struct {
	http.ResponseWriter
	do func()
}

func (w *onFlush) Flush() { w.do() }

func (a answer) wantSafeHeaders() {
	a.t.Helper()
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"} {
		if got := a.header.Get(name); got != want {
			a.t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if csp := a.header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		a.t.Errorf("Content-Security-Policy = %q", csp)
	}
	if a.header.Get("Cache-Control") == "" {
		a.t.Error("no Cache-Control")
	}
}

func (a answer) want(status int) answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// json decodes the answer into a map.
func (a answer) json() map[string]any {
	a.t.Helper()
	var m map[string]any
	if err := json.Unmarshal(a.body, &m); err != nil {
		a.t.Fatalf("not a JSON object: %v: %s", err, a.body)
	}
	return m
}

type problemDoc struct {
	Status int
	Title  string
	Detail string
	Errors []struct {
		Location, Message string
		Value             any
	}
}

// wantProblem checks the shape of a problem and returns it.
func (a answer) wantProblem(status int) problemDoc {
	a.t.Helper()
	a.want(status)
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("Content-Type %q, want application/problem+json: %s", got, a.body)
	}
	var p problemDoc
	if err := json.Unmarshal(a.body, &p); err != nil {
		a.t.Fatalf("%v: %s", err, a.body)
	}
	if p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" {
		a.t.Errorf("a problem without its parts: %s", a.body)
	}
	if (status == http.StatusUnprocessableEntity) != (len(p.Errors) > 0) {
		a.t.Errorf("status %d with %d errors: %s", status, len(p.Errors), a.body)
	}
	for _, e := range p.Errors {
		if e.Location == "" || e.Message == "" {
			a.t.Errorf("an error without location or message: %s", a.body)
		}
	}
	return p
}

// wantFault checks that a 422 names the field.
func (a answer) wantFault(location string) {
	a.t.Helper()
	p := a.wantProblem(http.StatusUnprocessableEntity)
	var locations []string
	for _, e := range p.Errors {
		locations = append(locations, e.Location)
	}
	if !slices.Contains(locations, location) {
		a.t.Errorf("errors at %q, want one at %q: %s", locations, location, a.body)
	}
}

const (
	token = "r3zhm8"
	hook  = `{"callback_type":"wallet_item_install","wallet_item_install":{"campaign_token":"r3zhm8"},"destination":{"url":"http://127.0.0.1:9/hook"}}`
)

// payload is an event's payload, the type's own example with our campaign.
var payload = func() string {
	t, _ := payloads.Builtin().Lookup("wallet_item_install")
	var m map[string]any
	if err := json.Unmarshal(t.Example, &m); err != nil {
		panic(err)
	}
	m["wallet_campaign"].(map[string]any)["token"] = token
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}()

func event(id string) string {
	return fmt.Sprintf(`{"event_type":"wallet_item_install","event_id":%q,"payload":%s}`, id, payload)
}

// register makes a callback and returns its path.
func (h *house) register(company string) string {
	h.t.Helper()
	return h.call("operator", "POST", "/companies/"+company+"/config/callbacks", hook).want(http.StatusCreated).json()["url"].(string)
}

// send hands over an event and returns the path of its last delivery, or "" if there is none.
func (h *house) send(company, id string) string {
	h.t.Helper()
	a := h.call("operator", "POST", "/companies/"+company+"/events", event(id)).want(http.StatusAccepted).json()
	deliveries := a["deliveries"].([]any)
	if len(deliveries) == 0 {
		return ""
	}
	last := deliveries[len(deliveries)-1].(map[string]any)
	return "/companies/" + company + "/deliveries/" + last["delivery_id"].(string)
}

// snapshot is all that Redis holds of a company.
func (h *house) snapshot(company string) map[string]string {
	h.t.Helper()
	all := map[string]string{}
	iter := h.rdb.Scan(h.t.Context(), 0, "*{"+company+"}*", 1000).Iterator()
	for iter.Next(h.t.Context()) {
		dump, err := h.rdb.Dump(h.t.Context(), iter.Val()).Result()
		h.must(err)
		all[iter.Val()] = dump
	}
	h.must(iter.Err())
	return all
}

// everything is a fingerprint of all that Redis holds, but for asynq's tasks and what is counted by the minute, which may come later than what they are for,
// and what who watches leaves. Of API keys it is which
// there are: when they were last used changes by being asked.
var everything = redis.NewScript(`
local names, all = redis.call('KEYS', '*'), {}
table.sort(names)
for _, name in ipairs(names) do
	if name == 'ringback:keys' then
		local digests = redis.call('HKEYS', name)
		table.sort(digests)
		table.insert(all, table.concat(digests))
	elseif not string.find(name, '^ringback:minutes:') and not string.find(name, '}:watched$') and not string.find(name, '}:live$') and not string.find(name, '^asynq:{.*}:t:') and not string.find(name, '^asynq:{.*}:pending$') then
		table.insert(all, name .. redis.sha1hex(redis.call('DUMP', name)))
	end
end
return redis.sha1hex(table.concat(all))`)

func (h *house) digest() string {
	h.t.Helper()
	sum, err := everything.Run(h.t.Context(), h.rdb, nil).Text()
	h.must(err)
	return sum
}

func (h *house) wantUnchanged(company string, before map[string]string) {
	h.t.Helper()
	after := h.snapshot(company)
	for _, key := range slices.Sorted(maps.Keys(after)) {
		if before[key] != after[key] {
			h.t.Errorf("%s changed", key)
		}
	}
	if len(before) != len(after) {
		h.t.Errorf("%d keys, want %d", len(after), len(before))
	}
}

// work starts a worker for the rest of the test.
func (h *house) work() {
	h.t.Helper()
	w, err := dispatcher.NewWorker(h.client, dispatcher.WorkerConfig{Concurrency: 16})
	h.must(err)
	h.must(w.Start())
	h.t.Cleanup(w.Shutdown)
}

// logBook keeps what is logged.
type logBook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBook) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// empty forgets what was logged.
func (l *logBook) empty() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf.Reset()
}

// measured is what a metric has counted, by one of its attributes.
func (h *house) measured(reader sdkmetric.Reader, name, by string) map[string]int64 {
	h.t.Helper()
	var data metricdata.ResourceMetrics
	h.must(reader.Collect(h.t.Context(), &data))
	counts := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch points := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range points.DataPoints {
					value, _ := p.Attributes.Value(attribute.Key(by))
					counts[value.AsString()] += p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range points.DataPoints {
					value, _ := p.Attributes.Value(attribute.Key(by))
					counts[value.AsString()] += int64(p.Count)
				}
			}
		}
	}
	return counts
}

// forget has the addresses of before presented no key.
func (g *Guesses) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	clear(g.met)
}
