package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/redistest"
)

// What a program of data model 1 left behind (commit 6da24ca, killed with work of every kind under way) is in testdata/model1: Redis's dump, the
// keyset, and an operator's key. old_test.go makes it anew. Its times are those of its making, so programs that go on with it keep things for ever.
const (
	oldData = "testdata/model1"
	oldDump = oldData + "/dump.rdb"
	oldKeys = oldData + "/keyset.json"
	oldKey  = oldData + "/operator.key"
	// oldPartner is where its callbacks go: an address of the loopback network that nobody else listens on.
	oldPartner = "127.77.31.9:7391"
)

// ages is how programs are set up that go on with old data.
var ages = []string{
	"RINGBACK_RETENTION=1000000h", "RINGBACK_DEAD_RETENTION=1000000h", "RINGBACK_HOLD_MAX_AGE=1000000h", "RINGBACK_EGRESS_ALLOW=127.0.0.0/8",
	"RINGBACK_LISTEN=127.0.0.1:0",
}

// A bystander is a partner of several companies, each with a path of its own.
type bystander struct {
	mu      sync.Mutex
	answers map[string]int      // status by path; 0: none, until the test ends
	came    map[string][]string // event ids by path
	release chan struct{}
}

// newBystander listens on addr.
func newBystander(t *testing.T, addr string, answers map[string]int) *bystander {
	t.Helper()
	b := &bystander{answers: answers, came: make(map[string][]string), release: make(chan struct{})}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Skipf("no partner can listen on %s here: %v", addr, err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: b, ReadHeaderTimeout: time.Minute}}
	server.Start()
	t.Cleanup(func() {
		close(b.release)
		server.CloseClientConnections()
		server.Close()
	})
	return b
}

func (b *bystander) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	b.mu.Lock()
	status := b.answers[r.URL.Path]
	b.came[r.URL.Path] = append(b.came[r.URL.Path], r.Header.Get("Ringback-Event-Id"))
	b.mu.Unlock()
	if status == 0 {
		<-b.release
		return
	}
	if status == http.StatusOK {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"accepted": true}`)
		return
	}
	w.WriteHeader(status)
}

// got are the ids of the events that came to a path, with those that came again.
func (b *bystander) got(path string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.came[path])
}

// An apiCaller calls one server's API with one key.
type apiCaller struct {
	t           *testing.T
	server, key string
}

// call makes a request and reads the answer into into, which may be nil. It returns the status.
func (a apiCaller) call(method, path string, body, into any) int {
	a.t.Helper()
	status, text, err := a.try(method, path, body)
	if err == nil && into != nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		a.t.Fatalf("%s %s: %v: %s", method, path, err, text)
	}
	return status
}

// try is call where no answer may come.
func (a apiCaller) try(method, path string, body any) (status int, answer []byte, err error) {
	text, err := json.Marshal(body)
	if err != nil {
		return 0, nil, err
	}
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.server+path, bytes.NewReader(text))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// states are a company's deliveries: how each event's stands.
func (a apiCaller) states(company string) map[string]string {
	a.t.Helper()
	var page struct {
		Deliveries []struct {
			EventID string `json:"event_id"`
			State   string `json:"state"`
		} `json:"deliveries"`
	}
	a.call(http.MethodGet, "/companies/"+company+"/deliveries?limit=500", nil, &page)
	states := make(map[string]string)
	for _, d := range page.Deliveries {
		states[d.EventID] = d.State
	}
	return states
}

// await waits until what is wanted of a company's deliveries is so, and fails the test if it never is.
func (a apiCaller) await(company, what string, wanted func(states map[string]string) bool) {
	a.t.Helper()
	var states map[string]string
	for end := time.Now().Add(2 * patience); ; time.Sleep(100 * time.Millisecond) {
		if states = a.states(company); wanted(states) {
			return
		}
		if time.Now().After(end) {
			a.t.Fatalf("%s: never %s: %v", company, what, states)
		}
	}
}

// all reports whether there are so many, and each is in that state.
func all(n int, state string) func(map[string]string) bool {
	return func(states map[string]string) bool { return len(states) == n && count(states, state) == n }
}

func count(states map[string]string, state string) (n int) {
	for _, s := range states {
		if s == state {
			n++
		}
	}
	return n
}

// restored is a Redis with what the old program left.
func restored(t *testing.T) *redistest.Server {
	t.Helper()
	server := redistest.Start(t, append(slices.Clone(healthy), "--appendonly", "no")...)
	server.Kill()
	dump, err := os.ReadFile(oldDump)
	if err == nil {
		err = os.WriteFile(filepath.Join(server.Dir(), "dump.rdb"), dump, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	server.Restart()
	return server
}

// TestDataOfModelOne: this program goes on with what one of data model 1 left when it was killed: pending, active, retrying, held and dead
// deliveries, a replay of many and a decision under way, a notice that was not sent. Nothing is lost, and nothing stands still.
func TestDataOfModelOne(t *testing.T) {
	t.Parallel()
	partner := newBystander(t, oldPartner, map[string]int{
		"/fine": 204, "/limited": 204, "/retrying": 204, "/hanging": 204, "/paused": 204, "/dead": 204, "/gone": 204, "/warned": 204, "/notices": 204, "/asked": 200,
	})
	server := restored(t)
	key, err := os.ReadFile(oldKey)
	if err != nil {
		t.Fatal(err)
	}
	keyset, err := os.ReadFile(oldKeys)
	if err != nil {
		t.Fatal(err)
	}
	env := append(slices.Clone(ages), "RINGBACK_REDIS="+server.URL(), "RINGBACK_KEYSET="+string(keyset))
	api := apiCaller{t, "http://" + address(startPlain(t, env, "serve")), strings.TrimSpace(string(key))}

	api.await("fine", "all delivered", all(8, "delivered"))
	api.await("limited", "all delivered", all(3, "delivered"))
	api.await("hanging", "all delivered", all(2, "delivered"))
	api.await("retrying", "delivered but for the one that was cancelled", func(s map[string]string) bool { return s["e-3"] == "cancelled" && count(s, "delivered") == 2 })
	api.await("dead", "sent again by the replay", all(3, "delivered"))
	api.await("warned", "all delivered, notices too", func(s map[string]string) bool { return len(s) > 12 && count(s, "delivered") == len(s) })
	for company, held := range map[string]int{"paused": 3, "gone": 2} {
		if n := count(api.states(company), "held"); n != held {
			t.Errorf("%s: %d are held, want %d", company, n, held)
		}
		api.call(http.MethodPost, "/companies/"+company+"/config/callbacks/1/resume", map[string]any{}, nil)
		api.await(company, "delivered what was held", func(s map[string]string) bool { return count(s, "delivered") == held })
	}
	if s := api.states("gone"); s["e-1"] != "dead" {
		t.Errorf("what was answered 410 is %s", s["e-1"])
	}
	var decisions struct {
		Deliveries []struct{ State string } `json:"deliveries"`
	}
	api.call(http.MethodGet, "/companies/asked/deliveries?kind=decision", nil, &decisions)
	if n := len(decisions.Deliveries); n != 2 {
		t.Errorf("%d decisions are listed, want 2", n)
	}
	var answer struct{ Decision map[string]any }
	if status := api.call(http.MethodPost, "/companies/asked/decisions", question, &answer); status != http.StatusOK {
		t.Errorf("asked again: %d", status)
	}
	if n := len(partner.got("/notices")); n == 0 {
		t.Error("the notice was never sent")
	}
	for path, want := range map[string]int{"/fine": 5, "/limited": 3, "/hanging": 2, "/retrying": 2, "/paused": 3, "/dead": 3, "/gone": 2} {
		if got := partner.got(path); len(got) > want {
			t.Errorf("%s was called %d times, %d were to be sent: %v", path, len(got), want, got)
		}
	}
	wantAtRest(t, server.Client())
}

// question is an event that a partner is asked about.
var question = map[string]any{"event_type": "entry_code.verify", "payload": map[string]any{"entryCode": "4711-0815"}, "timeout": "30s"}

// wantAtRest fails the test if Redis holds anything that waits, but for retries of asynq's that end without an attempt.
func wantAtRest(t *testing.T, rdb *redis.Client) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		err := atRest(t, rdb)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Error(err)
			return
		}
	}
}

func atRest(t *testing.T, rdb *redis.Client) error {
	t.Helper()
	var left []string
	for _, pattern := range []string{"{*}:due", "{*}:ready:*", "{*}:room:*", "{*}:rooms", "{*}:retry:*", "{*}:notices", "{*}:replaying", "asynq:{ringback-*}:pending", "asynq:{ringback-*}:active"} {
		keys, err := rdb.Keys(t.Context(), pattern).Result()
		if err != nil {
			return err
		}
		left = append(left, keys...)
	}
	if len(left) > 0 {
		return fmt.Errorf("%w: %q", errNotAtRest, left)
	}
	return nil
}

var errNotAtRest = errors.New("something still waits")
