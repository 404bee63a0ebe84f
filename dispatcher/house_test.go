package dispatcher

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	lua "github.com/yuin/gopher-lua"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	// What package net locks its resolver with is made by the first lookup. If that is a bubble's, no lookup outside may use it.
	_, _ = net.DefaultResolver.LookupHost(context.Background(), "localhost")
	// The Redis in memory makes a Lua state for each run, and ours need little of what it would have.
	lua.RegistrySize, lua.CallStackSize = 1024, 64
	// The crash tests wait, half a minute each, for the reconciler's patience: together.
	flag.Parse()
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const acme = "acme"

// loopback is what the tests' egress may reach.
var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// A house is Ringback around one Redis: client, workers, and a partner who keeps books. check verifies every invariant.
type house struct {
	t        *testing.T
	stops    []func() // of the workers that were started
	rdb      *redis.Client
	redis    *redistest.Server    // nil inside a bubble
	mini     *miniredis.Miniredis // nil outside
	keyset   *registry.Keyset
	registry *registry.Registry
	cfg      Config // the client's
	client   *Client
	egress   *egress.Client
	out      egress.Config // of egress
	partner  *partner
	acked    map[string]payloads.Event // accepted events by id
	ackedMu  sync.Mutex

	duplicates int           // that the test's faults permit
	poll       time.Duration // of idle lanes
	hand       *Worker       // drain's
}

// pollOfMany is how often asynq servers look at an idle lane: many houses share the machine, and polling as often as in production they
// would take it whole.
const pollOfMany = 250 * time.Millisecond

type houseOption func(*Config)

func withWindow(n int) houseOption { return func(c *Config) { c.Window = n } }

// impatient is for tests that wait for the reconciler's repairs: it takes a delivery for forgotten, and an attempt for lost, much sooner.
// TestPatience has the real values.
func impatient(c *Config) { c.Patience, c.OwnerGrace = 2*time.Second, 5*time.Second }

// unaided is for tests of what comes to be without the reconciler: it would bring a delivery that waits only when the test has long failed.
func unaided(c *Config) { c.Patience = time.Hour }

// newHouse opens a house on a real Redis.
func newHouse(t *testing.T, options ...houseOption) *house {
	t.Helper()
	server := redistest.Start(t)
	p := newPartner(t)
	h := furnish(t, server.Client(), egress.Config{Allow: loopback}, p, options...)
	h.redis = server
	p.serve()
	return h
}

// furnish builds everything on a Redis connection.
func furnish(t *testing.T, rdb *redis.Client, out egress.Config, p *partner, options ...houseOption) *house {
	t.Helper()
	h := &house{t: t, rdb: rdb, partner: p, acked: make(map[string]payloads.Event), poll: pollOfMany}
	var err error
	h.keyset, err = registry.NewKeyset()
	h.must(err)
	h.registry, err = registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(t)})
	h.must(err)
	h.out = out
	h.egress, err = egress.New(out)
	h.must(err)
	t.Cleanup(h.egress.Close)
	h.cfg = Config{Redis: rdb, Registry: h.registry, Egress: h.egress, UserAgent: "Ringback/test", Logger: testLog(t)}
	for _, o := range options {
		o(&h.cfg)
	}
	h.client, err = New(h.cfg)
	h.must(err)
	t.Cleanup(func() { h.must(h.client.Close()) })
	return h
}

func testLog(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// work starts a worker that stops with the test, or by the function returned.
func (h *house) work() (stop func()) {
	h.t.Helper()
	w := h.worker()
	h.must(w.Start())
	stop = sync.OnceFunc(w.Shutdown)
	h.t.Cleanup(stop)
	h.stops = append(h.stops, stop)
	return stop
}

// workerConfig is of a worker that shares its machine with many, and goes its rounds more often where patience is short.
func workerConfig(patience, poll time.Duration) WorkerConfig {
	return WorkerConfig{Concurrency: 64, Poll: poll, ReconcileEvery: min(defaulted(patience, DefaultPatience)/2, DefaultReconcileEvery)}
}

func (h *house) worker() *Worker {
	h.t.Helper()
	w, err := NewWorker(h.client, workerConfig(h.cfg.Patience, h.poll))
	h.must(err)
	return w
}

// round serves every company once, and reports whether all went well, but for the notices.
func (w *Worker) round(ctx context.Context, trim bool) bool {
	t := &tour{Worker: w, trim: trim, walks: trim, ok: true}
	w.whole(ctx, t, true)
	return t.ok
}

// announce makes the test's process known to the installation, as the program does: else its workers are taken for old ones.
func (h *house) announce() {
	h.t.Helper()
	forget, err := registry.Announce(h.t.Context(), h.rdb, nil, registry.Self("test", "worker"), testLog(h.t))
	h.must(err)
	h.t.Cleanup(func() { _ = forget(context.Background()) }) // of a Redis that may be gone
}

// register registers a callback at the partner, with more members of the registration as JSON (or "").
func (h *house) register(callbackType, more string) *registry.Callback {
	h.t.Helper()
	body := fmt.Sprintf(`{"callback_type": %q, "destination": {"url": %q, "method": "POST", "content_type": "application/json"}%s}`,
		callbackType, h.partner.url(callbackType), prefixed(more))
	cb, err := h.registry.Create(h.t.Context(), acme, []byte(body))
	h.must(err)
	h.partner.knows(cb)
	return cb
}

func prefixed(more string) string {
	if more == "" {
		return ""
	}
	return ", " + more
}

// proof is a payment-proof event.
func proof(id string) payloads.Event {
	return payloads.Event{
		Company: acme, ID: id, Type: "payment_proof",
		Payload: json.RawMessage(`{"requestId": "` + id + `",  "status": "OK", "totalCfdi": "$1,962.36", "voucherEffect": "Nómina"}`),
	}
}

// send sends an event and notes it as accepted.
func (h *house) send(e payloads.Event) Receipt {
	h.t.Helper()
	r, err := h.client.Send(h.t.Context(), e)
	h.must(err)
	h.ack(e)
	return r
}

// sendAll sends payment proofs by the page and notes them as accepted.
func (h *house) sendAll(ids []string) {
	h.t.Helper()
	events := make([]payloads.Event, len(ids))
	for i, id := range ids {
		events[i] = proof(id)
	}
	for i, s := range h.client.SendAll(h.t.Context(), events) {
		h.must(s.Err)
		h.ack(events[i])
	}
}

func (h *house) ack(e payloads.Event) {
	h.ackedMu.Lock()
	defer h.ackedMu.Unlock()
	h.acked[e.ID] = e
}

func (h *house) delivery(id string) *Delivery {
	h.t.Helper()
	d, err := h.client.Delivery(h.t.Context(), acme, id)
	h.must(err)
	return d
}

// await waits until a delivery is in the state, or fails after the time.
func (h *house) await(id string, state ledger.State, within time.Duration) *Delivery {
	h.t.Helper()
	h.checkModel(someKeys)
	var d *Delivery
	h.eventually(within, func() bool { d = h.delivery(id); return d.State == state }, func() string {
		return fmt.Sprintf("delivery is %s, not %s: %s", d.State, state, d.Summary)
	})
	return d
}

// awaitAll waits until every delivery of every accepted event is final. It looks at each until it is, and not again.
func (h *house) awaitAll(within time.Duration) {
	h.t.Helper()
	h.checkModel(someKeys)
	open := slices.Collect(maps.Keys(h.acked))
	h.eventually(within, func() bool {
		for len(open) > 0 && h.finished(open[0]) {
			open = open[1:]
		}
		return len(open) == 0
	}, func() string {
		open = slices.DeleteFunc(open, h.finished)
		return fmt.Sprintf("%d of %d events are unfinished: %.10q", len(open), len(h.acked), open)
	})
}

// finished says whether every delivery of an event is final.
func (h *house) finished(id string) bool {
	h.t.Helper()
	e, err := h.client.Event(h.t.Context(), acme, id)
	if err != nil {
		h.t.Logf("reading %s: %v", id, err)
		return false // Redis may be away: ask again
	}
	return !e.Expanding && !slices.ContainsFunc(e.Deliveries, func(d *Delivery) bool { return !d.State.Final() })
}

// leastWait is how long a test waits at least for what should take moments: other tests share the machine, and it may be a slow one. Where
// it matters how long something took, the test measures it.
const leastWait = 4 * time.Minute

// eventually polls until the condition holds, ever more slowly, and on a real clock for leastWait at least.
func (h *house) eventually(within time.Duration, condition func() bool, complain func() string) {
	h.t.Helper()
	pause, longest := 10*time.Millisecond, 250*time.Millisecond
	if h.redis == nil {
		pause, longest = longest, time.Second // in a bubble, no time passes but by looking
	} else {
		within = max(within, leastWait)
	}
	for deadline := time.Now().Add(within); !condition(); pause = min(pause*5/4, longest) {
		if time.Now().After(deadline) {
			h.t.Fatalf("after %s: %s", within, complain())
		}
		<-time.After(pause)
	}
}

// wantNoneBegun fails the test if an attempt began in the time between. When its request reached the partner says less: the machine may be busy.
func (h *house) wantNoneBegun(from, to time.Time) {
	h.t.Helper()
	to = to.Truncate(time.Millisecond) // as an attempt's time is
	for id := range h.acked {
		e, err := h.client.Event(h.t.Context(), acme, id)
		h.must(err)
		for _, d := range e.Deliveries {
			for _, a := range d.Attempts {
				if a.StartedAt.After(from) && a.StartedAt.Before(to) {
					h.t.Errorf("%s: attempt %d began %s after the pause", d.DeliveryID, a.Number, a.StartedAt.Sub(from))
				}
			}
		}
	}
}

// check verifies the invariants: nothing accepted is lost, nothing is delivered twice beyond what the faults permit, duplicates are equal
// and signed, our attempts are the partner's requests, and Redis holds nothing that is over.
func (h *house) check() {
	h.t.Helper()
	h.awaitAll(5 * time.Second)
	ctx := h.t.Context()
	requests := h.partner.requests()
	byID := make(map[string][]request)
	for _, r := range requests {
		byID[r.id] = append(byID[r.id], r)
	}
	extra, known := 0, 0
	all, batches := tallies{}, make(map[string]bool)
	for id := range h.acked {
		e, err := h.client.Event(ctx, acme, id)
		h.must(err)
		for _, d := range e.Deliveries {
			got := byID[d.DeliveryID]
			known += len(got)
			for _, a := range d.Attempts {
				if a.BatchID == "" {
					continue
				}
				if !batches[a.BatchID] {
					known += len(byID[a.BatchID])
					batches[a.BatchID] = true
				}
				if !slices.ContainsFunc(got, func(r request) bool { return r.id == a.BatchID }) {
					got = append(got, byID[a.BatchID]...)
				}
			}
			extra += h.checkDelivery(d, got)
			all.add(d)
		}
	}
	known += h.checkDecisions(byID, all)
	if known != len(requests) {
		h.t.Errorf("the partner has %d requests, of which %d belong to accepted events", len(requests), known)
	}
	if extra > h.duplicates {
		h.t.Errorf("%d deliveries arrived again after they were answered well; the faults permit %d", extra, h.duplicates)
	}
	h.checkRedis()
	h.checkHealth(all)
}

// tallies count what became of each callback's deliveries.
type tallies map[int64]*tally

type tally struct {
	dead                         int64
	succeeded, failed, tokenless bool
}

func (all tallies) add(d *Delivery) {
	if all[d.CallbackID] == nil {
		all[d.CallbackID] = &tally{}
	}
	mine := all[d.CallbackID]
	if d.State == ledger.Dead && d.DecisionID == "" {
		mine.dead++
	}
	for _, a := range d.Attempts {
		mine.succeeded = mine.succeeded || a.Verdict == verdict.Delivered
		split := a.BatchID != "" && a.StatusCode == http.StatusRequestEntityTooLarge // it says nothing of the partner
		mine.failed = mine.failed || a.Verdict != verdict.Delivered && !split &&
			!slices.Contains([]Reason{verdict.ReasonUnknown, verdict.ReasonOAuthToken, verdict.ReasonEgressProxy, verdict.ReasonNameNotAllowed, verdict.ReasonUnverified}, a.Reason)
		mine.tokenless = mine.tokenless || a.Reason == verdict.ReasonOAuthToken
	}
}

// checkHealth verifies that what is counted of each callback is what its deliveries say, now that nothing is unfinished.
func (h *house) checkHealth(all tallies) {
	h.t.Helper()
	for id, want := range all {
		if _, err := h.registry.Get(h.t.Context(), acme, id); errors.Is(err, registry.ErrNotFound) {
			continue // deleted, and its health with it
		}
		list, err := h.client.Health(h.t.Context(), acme, id)
		h.must(err)
		got := list[0]
		if got.Dead != want.dead || got.Pending != 0 || got.OldestWaitingAt != (time.Time{}) {
			h.t.Errorf("callback %d: %d dead and nothing under way, but its health is %+v", id, want.dead, got)
		}
		if got.LastSuccessAt.IsZero() == want.succeeded || (got.LastFailure != nil) != want.failed {
			h.t.Errorf("callback %d: succeeded %t, failed %t, but its health is %+v, last failure %+v", id, want.succeeded, want.failed, got, got.LastFailure)
		}
		if (got.LastTokenFailure != nil) != want.tokenless {
			h.t.Errorf("callback %d: got no token %t, but its last token failure is %+v", id, want.tokenless, got.LastTokenFailure)
		}
	}
}

// checkDecisions verifies that each decision was asked for once at most, and signed, and returns how many requests that made.
func (h *house) checkDecisions(byID map[string][]request, all tallies) (known int) {
	h.t.Helper()
	cursor := ""
	for {
		page, next, err := h.client.Deliveries(h.t.Context(), acme, Query{Decisions: true, Cursor: cursor, Limit: 2})
		h.must(err)
		for _, d := range page {
			got := byID[d.DecisionID]
			known += len(got)
			heard := slices.DeleteFunc(slices.Clone(got), func(r request) bool { return r.status == http.StatusUnauthorized && len(got) > 1 }) // a stale token
			if len(heard) > 1 || len(got) > 2 || d.State != ledger.Active && len(d.Attempts) != 1 {
				h.t.Errorf("%s: asked %d times, recorded %+v", d.DecisionID, len(got), d)
			}
			for _, r := range got {
				if r.verified != nil {
					h.t.Errorf("%s: signature: %v", d.DecisionID, r.verified)
				}
			}
			all.add(d)
		}
		if cursor = next; cursor == "" {
			return known
		}
	}
}

// checkDelivery returns how many requests of a delivery came after one that was answered well.
func (h *house) checkDelivery(d *Delivery, got []request) (extra int) {
	h.t.Helper()
	reasons := make(map[string]Reason)
	for _, a := range d.Attempts {
		reasons[strconv.Itoa(a.Number)] = a.Reason
	}
	good, renewed := 0, 0
	for i, r := range got {
		number := r.header.Get("Ringback-Attempt")
		again := i+1 < len(got) && got[i+1].header.Get("Ringback-Attempt") == number
		if r.status == http.StatusUnauthorized && (again || reasons[number] == verdict.ReasonOAuthToken) {
			renewed++ // the token was refused, and another one asked for in the same attempt
		}
		if r.verified != nil {
			h.t.Errorf("%s: signature: %v", d.DeliveryID, r.verified)
		}
		if first := got[slices.IndexFunc(got, func(o request) bool { return o.id == r.id })]; r.body != first.body {
			h.t.Errorf("%s: two bodies", d.DeliveryID)
		}
		late := reasons[number] == Reason(egress.Timeout) // a busy machine: the answer was good, and nobody waited for it any more
		if !late && (r.status == http.StatusNoContent || r.status == http.StatusOK && r.header.Get("Ringback-Batch") != "") {
			good++
		}
	}
	if d.State == ledger.Delivered && good == 0 {
		h.t.Errorf("%s: delivered, but the partner never answered well", d.DeliveryID)
	}
	unknown, posted := 0, 0
	for _, a := range d.Attempts {
		if strings.Contains(a.Detail, "went out twice") {
			unknown++ // the first time it may not have got there
		}
		switch {
		case a.StatusCode != 0:
			posted++
		case a.Reason == verdict.ReasonUnknown || a.Reason == Reason(egress.Timeout): // a busy machine may not have connected in time
			unknown++
		}
		if a.Detail == "" || a.Verdict == "" || (a.Verdict != verdict.Delivered) == (a.Reason == "") {
			h.t.Errorf("%s: attempt %d has no verdict, reason or sentence: %+v", d.DeliveryID, a.Number, a)
		}
	}
	if sent := len(got) - renewed; sent < posted || sent > posted+unknown {
		h.t.Errorf("%s: the partner saw %d requests, our log has %d and %d unknown", d.DeliveryID, len(got), posted, unknown)
	}
	return max(0, good-1)
}

// checkRedis verifies that no index holds what is over.
func (h *house) checkRedis() {
	h.t.Helper()
	h.checkModel(10 * someKeys)
	ctx := h.t.Context()
	h.eventually(3*time.Second, func() bool {
		n, _ := h.rdb.ZCard(ctx, ledger.Key(acme, "due")).Result()
		return n == 0
	}, func() string { return "due holds finished deliveries" })
	for _, pattern := range []string{"ready:*", "room:*", "line:*", "heads:*", "behind:*"} {
		keys, err := h.rdb.Keys(ctx, ledger.Key(acme, pattern)).Result()
		h.must(err)
		for _, key := range keys {
			if !strings.Contains(key, ":room:") {
				h.t.Errorf("%s holds finished deliveries", key)
			}
		}
	}
	for id := range h.acked {
		counts, err := h.rdb.HMGet(ctx, ledger.EventKey(acme, id), "n", "x").Result()
		h.must(err)
		ttl, err := h.rdb.TTL(ctx, ledger.EventKey(acme, id)).Result()
		h.must(err)
		if n := counts[0]; n != "0" && (n != nil || len(h.deliveriesOf(id)) > 1) { // a single delivery is not counted before it is replayed
			h.t.Errorf("%s: %v deliveries are counted as unfinished", id, counts[0])
		}
		if dead := counts[1] != nil && counts[1] != "0"; dead == (ttl > 0) {
			h.t.Errorf("%s: dead %v, but its time to live is %s", id, counts[1], ttl)
		}
	}
}

// keys are the names of all that is in Redis.
func (h *house) keys() []string {
	h.t.Helper()
	keys, err := h.rdb.Keys(h.t.Context(), "*").Result()
	h.must(err)
	return keys
}

// overdue makes the reconciler look at all of acme's deliveries at once, as if its patience were over.
func (h *house) overdue() {
	h.t.Helper()
	members, err := h.rdb.ZRange(h.t.Context(), ledger.Key(acme, "due"), 0, -1).Result()
	h.must(err)
	for _, member := range members {
		h.must(h.rdb.ZAddXX(h.t.Context(), ledger.Key(acme, "due"), redis.Z{Score: 1, Member: member}).Err())
	}
}

// deliveriesOf are the fields of an event's records.
func (h *house) deliveriesOf(event string) []string {
	h.t.Helper()
	fields, err := h.rdb.HKeys(h.t.Context(), ledger.EventKey(acme, event)).Result()
	h.must(err)
	return slices.DeleteFunc(fields, func(field string) bool { return field[0] != 'd' })
}

// drain attempts what is in the lanes, and what comes there meanwhile, as a worker would: a rule needs no servers. Retries are asynq's.
func (h *house) drain() {
	h.t.Helper()
	if h.hand == nil {
		h.must(h.client.lanes.Register(h.t.Context()))
		h.hand = h.worker()
	}
	for busy := true; busy; {
		if busy = h.client.lanes.Waiting(acme) > 0; busy { // for a lane that did not answer in time
			<-time.After(10 * time.Millisecond)
		}
		for _, lane := range queues {
			tasks, err := h.inspector().ListPendingTasks(lane)
			h.must(err)
			for _, task := range tasks {
				busy = true
				h.must(h.inspector().DeleteTask(lane, task.ID))
				h.must(h.hand.servers.Process(h.t.Context(), lane, asynq.NewTask(task.Type, task.Payload)))
			}
		}
	}
}

// awaitIdle waits until asynq holds no task in any lane.
func (h *house) awaitIdle(within time.Duration) {
	h.t.Helper()
	var left []string
	h.eventually(within, func() bool { left = h.tasks(); return len(left) == 0 }, func() string { return "asynq still holds " + strings.Join(left, ", ") })
}

func (h *house) tasks() []string {
	h.t.Helper()
	var left []string
	for _, q := range h.client.Queues() {
		info, err := h.inspector().GetQueueInfo(q)
		if err == nil && info.Size > 0 {
			left = append(left, fmt.Sprintf("%s: pending %d, active %d, retry %d, archived %d", q, info.Pending, info.Active, info.Retry, info.Archived))
		}
	}
	return left
}

// retries lists asynq's retry tasks in all lanes.
func (h *house) retries() []*asynq.TaskInfo {
	h.t.Helper()
	var all []*asynq.TaskInfo
	for _, q := range h.client.Queues() {
		infos, err := h.inspector().ListRetryTasks(q, asynq.PageSize(1000))
		if err == nil {
			all = append(all, infos...)
		}
	}
	return all
}

// A partner receives, verifies, answers as told and keeps books.
type partner struct {
	t      testing.TB
	server *httptest.Server
	host   string  // in the URLs it is registered with
	issuer *issuer // its token endpoint, at /token; nil: it has none

	mu     sync.Mutex
	hooks  map[int64]*standardwebhooks.Webhook // of callbacks by id: each verifies what its secret signed
	paths  map[string]int64                    // the callback last known at a path: it is asked first
	answer func(r *http.Request, n int) reply
	got    []request
	perID  map[string]int

	challenges []request // challenges and handshakes, which are no deliveries
}

// A reply is what the partner answers; after runs first, and may block.
type reply struct {
	status int
	header http.Header
	body   string
	after  func(ctx context.Context)
}

type request struct {
	at       time.Time
	id       string
	body     string
	header   http.Header
	path     string
	status   int
	verified error
	digest   [32]byte
}

func newPartner(t testing.TB) *partner {
	return &partner{t: t, hooks: make(map[int64]*standardwebhooks.Webhook), paths: make(map[string]int64), perID: make(map[string]int), answer: answering(204)}
}

// serve opens the partner's door on loopback.
func (p *partner) serve() {
	p.server = httptest.NewServer(p)
	p.host = strings.TrimPrefix(p.server.URL, "http://")
	p.t.Cleanup(p.server.Close)
}

func (p *partner) url(path string) string { return "http://" + p.host + "/" + path }

func (p *partner) knows(cb *registry.Callback) {
	hook, err := standardwebhooks.NewWebhook(cb.LiveSecrets(time.Now())[0].Reveal())
	if err != nil {
		p.t.Fatal(err)
	}
	at, err := url.Parse(cb.Destination.URL)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hooks[cb.ID] = hook
	p.paths[at.Path] = cb.ID
}

// strike takes out of the books what came to a path.
func (p *partner) strike(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = slices.DeleteFunc(p.got, func(r request) bool { return r.path == path })
}

// answers sets how requests are answered: n counts a delivery's requests from 0.
func (p *partner) answers(f func(r *http.Request, n int) reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// answering answers a delivery's requests with the statuses in turn, and the last one for ever.
func answering(statuses ...int) func(*http.Request, int) reply {
	return func(_ *http.Request, n int) reply { return reply{status: statuses[min(n, len(statuses)-1)]} }
}

func (p *partner) requests() []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *partner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.issuer != nil && r.URL.Path == "/token" {
		p.issuer.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender died in mid-request: it was not received
	}
	id := r.Header.Get("Webhook-Id")
	p.mu.Lock()
	n := p.perID[id]
	p.perID[id]++
	answer := p.answer
	p.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body)) // for answers that look at it
	a := answer(r, n)
	p.mu.Lock()
	books := &p.got
	if r.Method == http.MethodOptions || strings.HasPrefix(id, challengePrefix) {
		books = &p.challenges
	}
	*books = append(*books, request{
		at: time.Now(), id: id, body: string(body), header: r.Header, path: r.URL.Path, status: a.status,
		verified: p.verify(r.URL.Path, r.Header, body), digest: sha256.Sum256(body),
	})
	p.mu.Unlock()
	if a.after != nil {
		a.after(r.Context())
	}
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// verify checks the signature with the library that partners use, against any secret known.
func (p *partner) verify(path string, h http.Header, body []byte) error {
	if hook := p.hooks[p.paths[path]]; hook != nil && hook.Verify(body, h) == nil {
		return nil
	}
	err := fmt.Errorf("no secret known")
	for _, hook := range p.hooks {
		if err = hook.Verify(body, h); err == nil {
			return nil
		}
	}
	return err
}

// eventIDs are n ids with a prefix.
func eventIDs(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = prefix + strconv.Itoa(i)
	}
	return ids
}

// taskOf is the task asynq holds for a generation.
func taskOf(t *testing.T, r ledger.Ref, generation int64) *asynq.Task {
	t.Helper()
	task, err := lanes.NewTask(ledger.Ticket{Ref: r, Generation: generation})
	if err != nil {
		t.Fatal(err)
	}
	return task
}

// The real values of what impatient shortens.
const (
	patience       = DefaultPatience
	ownerGrace     = DefaultOwnerGrace
	finishWithin   = ownerGrace * 2 / 3
	reconcileEvery = DefaultReconcileEvery
)

// cutTail takes a third off Redis's append-only file.
func cutTail(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no append-only file: %v", err)
	}
	name := files[len(files)-1]
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, info.Size()*2/3); err != nil {
		t.Fatal(err)
	}
}
