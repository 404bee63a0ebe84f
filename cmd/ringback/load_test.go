//go:build load

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/ringback/ringback/registry/redistest"
)

// Longer runs of the program as it ships, over a real Redis (AOF everysec) on loopback: latency, throughput, and what a kill under load
// loses and doubles. `make load` runs them; they print their figures.

// An installation is serve processes, a Redis and a partner.
type installation struct {
	t       *testing.T
	redis   *redistest.Server
	env     []string
	server  string // URL of the API
	key     string // an operator's
	serving *process
	partner *loadPartner
	client  *http.Client
}

// shipped is the program as `make build` makes it, built once.
var shipped = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ringback-load")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ringback")
	build := exec.Command("go", "build", "-trimpath", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func install(t *testing.T) *installation {
	t.Helper()
	i := &installation{t: t, redis: redistest.Start(t), partner: newLoadPartner(t)}
	i.env = []string{"RINGBACK_REDIS=" + i.redis.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json"), "RINGBACK_EGRESS_ALLOW=127.0.0.0/8"}
	i.serving = i.serve("127.0.0.1:0")
	i.server = "http://" + address(i.serving)
	i.key = strings.TrimSpace(ringback(t, i.env, "keys", "create", "--role", "operator"))
	i.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100}, Timeout: 20 * time.Second}
	t.Cleanup(i.client.CloseIdleConnections)
	return i
}

// serve starts the program with API and worker.
func (i *installation) serve(listen string) *process {
	i.t.Helper()
	path, err := shipped()
	if err != nil {
		i.t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--listen", listen)
	cmd.Env = append(os.Environ(), i.env...)
	return launch(i.t, cmd)
}

// again starts serve anew where it listened before.
func (i *installation) again() {
	i.t.Helper()
	i.serving = i.serve(strings.TrimPrefix(i.server, "http://"))
	address(i.serving)
}

// post sends JSON to the API and decodes the answer.
func (i *installation) post(server, path string, body any, into any) (int, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequest(http.MethodPost, server+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+i.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := i.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode < 300 {
		err = json.Unmarshal(answer, into)
	}
	return resp.StatusCode, err
}

// register registers a payment-proof callback at the partner.
func (i *installation) register(server, path string) int64 {
	i.t.Helper()
	var cb struct {
		ID     int64  `json:"callback_id"`
		Secret string `json:"secret"`
	}
	status, err := i.post(server, "/companies/acme/config/callbacks", map[string]any{
		"callback_type": "payment_proof", "destination": map[string]string{"url": i.partner.url + path},
	}, &cb)
	if err != nil || status != http.StatusCreated {
		i.t.Fatalf("registering: %d, %v", status, err)
	}
	i.partner.knows(cb.Secret)
	return cb.ID
}

// TestLoadDecisions measures what Ringback adds to a partner's time to decide: the same request by hand and through the API, by turns.
func TestLoadDecisions(t *testing.T) {
	i := install(t)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"accepted": true}`)
	}))
	t.Cleanup(partner.Close)
	status, err := i.post(i.server, "/companies/acme/config/callbacks", map[string]any{
		"callback_type": "entry_code.verify", "destination": map[string]string{"url": partner.URL + "/verify"},
	}, nil)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("registering: %d, %v", status, err)
	}
	payload := map[string]any{"entryCode": "4711-0815", "storeId": 17, "customer": map[string]string{"externalId": "c-17"}}
	question := map[string]any{"event_type": "entry_code.verify", "payload": payload, "timeout": "3s"}
	const rounds, each = 5, 1000
	for range rounds {
		direct, through := make([]time.Duration, 0, each), make([]time.Duration, 0, each)
		for range each {
			start := time.Now()
			if status, err := i.post(partner.URL, "/verify", payload, nil); err != nil || status != http.StatusOK {
				t.Fatalf("directly: %d, %v", status, err)
			}
			direct = append(direct, time.Since(start))
			start = time.Now()
			if status, err := i.post(i.server, "/companies/acme/decisions", question, nil); err != nil || status != http.StatusOK {
				t.Fatalf("through Ringback: %d, %v", status, err)
			}
			through = append(through, time.Since(start))
		}
		slices.Sort(direct)
		slices.Sort(through)
		p50, p99 := each/2, each*99/100
		t.Logf("%d decisions by turns: directly p50 %s, p99 %s; through Ringback p50 %s, p99 %s; overhead p50 %s", each,
			direct[p50], direct[p99], through[p50], through[p99], through[p50]-direct[p50])
	}
}

// send sends a payment proof, and reports whether it was accepted.
func (i *installation) send(server, id string) bool {
	status, err := i.post(server, "/companies/acme/events", map[string]any{
		"event_type": "payment_proof", "event_id": id,
		"payload": map[string]string{"requestId": id, "status": "OK", "issuerName": strings.Repeat("x", 400), "voucherEffect": "Nómina"},
	}, nil)
	return err == nil && (status == http.StatusAccepted || status == http.StatusOK)
}

// sendAll sends n events from some senders, each until it is accepted, and returns when all are.
func (i *installation) sendAll(prefix string, n, senders int) {
	i.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	giveUp := time.Now().Add(3 * time.Minute)
	for range senders {
		wg.Go(func() {
			for k := next.Add(1); k <= int64(n); k = next.Add(1) {
				for !i.send(i.server, fmt.Sprintf("%s%d", prefix, k)) {
					if time.Now().After(giveUp) {
						i.t.Errorf("event %d is not accepted", k)
						return
					}
					<-time.After(50 * time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
}

// A loadPartner answers 204 and keeps books.
type loadPartner struct {
	url string

	mu       sync.Mutex
	secrets  []*standardwebhooks.Webhook
	arrivals map[string][]arrival // by event id and path
	total    int
	wrong    []string
	delay    time.Duration
	changed  chan struct{}
}

type arrival struct {
	at time.Time
	id string
}

func newLoadPartner(t *testing.T) *loadPartner {
	p := &loadPartner{arrivals: make(map[string][]arrival), changed: make(chan struct{}, 1)}
	server := httptest.NewServer(p)
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

func (p *loadPartner) knows(secret string) {
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		panic(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets = append(p.secrets, hook)
}

func (p *loadPartner) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	now := time.Now()
	p.mu.Lock()
	if len(p.secrets) == 1 { // many would make the partner the bottleneck
		if err := p.secrets[0].Verify(body, r.Header); err != nil {
			p.wrong = append(p.wrong, err.Error())
		}
	}
	delay := p.delay
	event := r.Header.Get("Ringback-Event-Id") + r.URL.Path
	p.arrivals[event] = append(p.arrivals[event], arrival{now, r.Header.Get("Webhook-Id")})
	p.total++
	p.mu.Unlock()
	if delay > 0 {
		<-time.After(delay)
	}
	w.WriteHeader(http.StatusNoContent)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

func (p *loadPartner) counts() (events, requests int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.arrivals), p.total
}

// await waits until n different events have arrived.
func (p *loadPartner) await(t *testing.T, n int, within time.Duration) {
	t.Helper()
	deadline := time.After(within)
	for {
		if events, _ := p.counts(); events >= n {
			return
		}
		select {
		case <-p.changed:
		case <-deadline:
			events, requests := p.counts()
			t.Fatalf("%d of %d events arrived within %s, by %d requests", events, n, within, requests)
		}
	}
}

func (p *loadPartner) slow(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *loadPartner) check(t *testing.T) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.wrong) > 0 {
		t.Errorf("%d signatures are wrong: %s", len(p.wrong), p.wrong[0])
	}
	for event, a := range p.arrivals {
		for _, again := range a[1:] {
			if again.id != a[0].id {
				t.Errorf("%s came under two ids", event)
			}
		}
	}
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	return sorted[min(len(sorted)-1, int(p*float64(len(sorted))))]
}

func TestLoadIdleLatency(t *testing.T) {
	i := install(t)
	i.register(i.server, "/a")
	i.send(i.server, "warm-up")
	i.partner.await(t, 1, 10*time.Second)
	const n = 300 // 20/s for 15 s
	sent, accepted := make(map[string]time.Time), make(map[string]time.Time)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for k := range n {
		<-tick.C
		id := fmt.Sprintf("e-%d", k)
		sent[id+"/a"] = time.Now()
		if !i.send(i.server, id) {
			t.Fatal("not accepted")
		}
		accepted[id+"/a"] = time.Now()
	}
	i.partner.await(t, n+1, 10*time.Second)
	var fromSent, fromAccepted []time.Duration
	i.partner.mu.Lock()
	for id, at := range accepted {
		fromSent = append(fromSent, i.partner.arrivals[id][0].at.Sub(sent[id]))
		fromAccepted = append(fromAccepted, i.partner.arrivals[id][0].at.Sub(at))
	}
	i.partner.mu.Unlock()
	slices.Sort(fromSent)
	slices.Sort(fromAccepted)
	t.Logf("idle, 20/s for 15 s: accepted -> received p50 %s, p99 %s; sent -> received p50 %s, p99 %s",
		percentile(fromAccepted, .5), percentile(fromAccepted, .99), percentile(fromSent, .5), percentile(fromSent, .99))
	i.partner.check(t)
}

func TestLoadSaturated(t *testing.T) {
	for _, callbacks := range []int{1, 8} {
		t.Run(fmt.Sprintf("%d callbacks", callbacks), func(t *testing.T) {
			i := install(t)
			for k := range callbacks {
				i.register(i.server, fmt.Sprintf("/%d", k))
			}
			var rates []float64
			for run := range 3 {
				n := 20_000 / callbacks
				start := time.Now()
				i.sendAll(fmt.Sprintf("run%d-", run), n, 64)
				accepted := time.Since(start)
				i.partner.await(t, (run+1)*n*callbacks, time.Minute)
				took := time.Since(start)
				rates = append(rates, float64(n*callbacks)/took.Seconds())
				t.Logf("64 senders: %.0f events/s accepted, %.0f deliveries/s", float64(n)/accepted.Seconds(), rates[run])
			}
			slices.Sort(rates)
			t.Logf("saturated, %d callbacks: median %.0f deliveries/s", callbacks, rates[1])
			if events, requests := i.partner.counts(); requests != events {
				t.Errorf("%d duplicates in a run without faults", requests-events)
			}
			i.partner.check(t)
		})
	}
}

// settled waits until no delivery of the callback is unfinished: what arrived before a kill may still wait for somebody to write it down.
func (i *installation) settled(within time.Duration) {
	i.t.Helper()
	for end := time.Now().Add(within); ; <-time.After(200 * time.Millisecond) {
		var callback struct{ Pending, Held int }
		status, text := get(i.t, i.server+"/companies/acme/config/callbacks/1", i.key)
		if err := json.Unmarshal([]byte(text), &callback); err != nil || status != http.StatusOK {
			i.t.Fatalf("reading the callback: %d %s", status, text)
		}
		if callback.Pending+callback.Held == 0 {
			return
		}
		if time.Now().After(end) {
			i.t.Fatalf("%d deliveries are pending and %d held", callback.Pending, callback.Held)
		}
	}
}

// unknownAttempts counts the attempts that were under way at a fault, as our own books have it: begun, and their outcome never recorded.
func (i *installation) unknownAttempts() (n int) {
	i.t.Helper()
	for cursor := ""; ; {
		req, err := http.NewRequest(http.MethodGet, i.server+"/companies/acme/deliveries?limit=500&cursor="+cursor, nil)
		if err != nil {
			i.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+i.key)
		resp, err := i.client.Do(req)
		if err != nil {
			i.t.Fatal(err)
		}
		var page struct {
			Deliveries []struct {
				State    string
				Attempts []struct{ Reason string }
			}
			Next string `json:"next_cursor"`
		}
		err = json.NewDecoder(resp.Body).Decode(&page)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			i.t.Fatalf("listing: %d, %v", resp.StatusCode, err)
		}
		for _, d := range page.Deliveries {
			if d.State != "delivered" {
				i.t.Errorf("a delivery is %s", d.State)
			}
			for _, a := range d.Attempts {
				if a.Reason == "unknown" {
					n++
				}
			}
		}
		if cursor = page.Next; cursor == "" {
			return n
		}
	}
}

// underLoad sends 10,000 events and breaks something when a third has arrived.
func underLoad(t *testing.T, breakIt func(i *installation), within time.Duration) {
	t.Helper()
	const n = 10_000
	i := install(t)
	i.register(i.server, "/a")
	i.partner.slow(5 * time.Millisecond)
	var wg sync.WaitGroup
	wg.Go(func() { i.sendAll("e-", n, 32) })
	i.partner.await(t, n/3, time.Minute)
	breakIt(i)
	broken := time.Now()
	wg.Wait()
	i.partner.await(t, n, within)
	t.Logf("all %d arrived %s after the fault was over", n, time.Since(broken).Round(time.Millisecond))
	i.partner.check(t)
	i.settled(within)
	events, requests := i.partner.counts()
	if events != n {
		t.Errorf("%d events arrived", events)
	}
	duplicates, inFlight := requests-events, i.unknownAttempts()
	t.Logf("lost %d, duplicates %d, attempts in flight at the fault %d", n-events, duplicates, inFlight)
	if duplicates > inFlight {
		t.Errorf("%d duplicates, %d in flight", duplicates, inFlight)
	}
}

func TestLoadKillServe(t *testing.T) {
	underLoad(t, func(i *installation) {
		i.serving.end(syscall.SIGKILL)
		i.again()
	}, 60*time.Second)
}

func TestLoadKillRedis(t *testing.T) {
	underLoad(t, func(i *installation) {
		i.redis.Kill()
		i.redis.Restart()
	}, 90*time.Second)
}

// TestLoadSIGTERM: nothing is cut off, so nothing is in flight at the end and nothing comes twice.
func TestLoadSIGTERM(t *testing.T) {
	underLoad(t, func(i *installation) {
		if code := i.serving.end(syscall.SIGTERM); code != exitOK {
			t.Errorf("exit %d:\n%s", code, i.serving.said)
		}
		i.again()
	}, 60*time.Second)
}

// TestLoadRegisteredMeansDelivered registers on one process and at once sends on another, a thousand times.
func TestLoadRegisteredMeansDelivered(t *testing.T) {
	i := install(t)
	other := "http://" + address(i.serve("127.0.0.1:0"))
	servers := []string{i.server, other}
	const n = 1000
	for k := range n {
		path := fmt.Sprintf("/%d", k)
		id := i.register(servers[k%2], path)
		if !i.send(servers[(k+1)%2], fmt.Sprintf("e-%d", k)) {
			t.Fatal("not accepted")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, fmt.Sprintf("%s/companies/acme/config/callbacks/%d", servers[k%2], id), nil)
		if err != nil {
			t.Fatal(err)
		}
		i.partner.awaitOne(t, fmt.Sprintf("e-%d%s", k, path))
		req.Header.Set("Authorization", "Bearer "+i.key)
		resp, err := i.client.Do(req)
		cancel()
		if err != nil || resp.StatusCode != http.StatusNoContent {
			t.Fatalf("deleting: %v", err)
		}
		_ = resp.Body.Close()
	}
	events, requests := i.partner.counts()
	t.Logf("registered on one, sent on the other, %d times: %d delivered, %d requests", n, events, requests)
	if events != n || requests != n {
		t.Errorf("%d events, %d requests", events, requests)
	}
}

func (p *loadPartner) awaitOne(t *testing.T, event string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		p.mu.Lock()
		n := len(p.arrivals[event])
		p.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-p.changed:
		case <-deadline:
			t.Fatalf("%s did not arrive", event)
		}
	}
}
