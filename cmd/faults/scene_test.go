package faults

// # How a fault is written
//
// A fault is an entry in a list such as crashFaults, and those lists are joined in faults_test.go. Its run gets a [scene]:
//
//	func killedWorker(s *scene) {
//		s.open(setup{callbacks: 1})                  // Redis, processes, partner, registrations
//		sending := s.send(load{events: 400})         // producers, until each event is acknowledged
//		s.partner.await(100)                         // something to be in the middle of
//		s.injected("kill -9 of the one worker")      // the table's second column
//		s.kill(s.workers[0])                         // notes when, for the oracle
//		s.again(s.workers[0])                        // starts it anew, where it listened before
//		sending.wait()
//		s.settle(60 * time.Second)                   // waits until nothing is under way any more, and measures how long that took
//		s.verify()                                   // the oracle: every invariant
//	}
//
// A scene belongs to its test's goroutine; only the [partner] and what [scene.call] does may be used from others.
//
// The books:
//
//   - the [ledger] is the producers': each event they sent, with which bytes, and when it was acknowledged;
//   - the [partner] keeps each request that arrived, its signature verified, and what was answered when. [partner.handle] sets what it
//     answers; a receiver of another kind (raw TCP, its own server) books its requests with [partner.book] and [arrival.answered];
//   - our own: the API's list of all deliveries and their attempts.
//
// [scene.settle] and [scene.verify] compare them; see oracle_test.go for what is held against what. A scene without a fault must pass too.
// Whatever the fault permits beyond nothing has to be said: [scene.hit] notes a moment at which requests under way may come again, and
// [scene.forget] one at which Redis may have lost what it was told.
//
// # Numbers
//
// s.pick(quick, full) chooses by how the suite runs. s.rand is seeded by FAULTS_SEED and the fault's name, so that a fault draws the
// same numbers alone and among others.

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/redistest"
)

const (
	company   = "acme"
	eventType = "payment_proof"
)

// bearer is the token that callbacks are called with, and a canary: it must be in no log.
func (s *scene) bearer() string { return fmt.Sprintf("canary-bearer-%016x", s.seed) }

// A scene is one installation under one fault: a Redis, processes of the shipped program, producers and a partner.
type scene struct {
	t    *testing.T
	seed uint64
	rand *rand.Rand
	full bool
	row  *row
	setup

	redis   *redistest.Server     // nil: it is another of the three
	nodes   *redistest.Cluster    // the same
	watched *redistest.Sentinels  // the same
	direct  redis.UniversalClient // to Redis itself, past every proxy
	env     []string
	apis    []*process
	workers []*process

	key       string   // an operator's
	companies []string // that events are sent for, in turn
	partner   *partner
	callbacks []callback
	ledger    ledger
	client    *http.Client

	hits    []hit
	secrets []string // canaries
	clock   *redistest.Clock
	release func() // lets the next heavy fault begin

	// What the fault permits beside the usual.
	together      int            // how many deliveries a request may make, where they travel in batches
	mayCancel     bool           // deliveries may end cancelled
	callbacksVary bool           // registrations change while events are sent
	members       map[string]int // callbacks of each audience
	ages          bool           // what is finished is soon forgotten (--retention), and cannot be listed any more
}

// A setup says what a scene is made of.
type setup struct {
	cluster   bool                            // Redis is a cluster of three masters with a replica each, and there are two companies on each master
	sentinel  bool                            // Redis is a master with two replicas, which three sentinels watch, and there are three companies
	redisArgs []string                        // added to redis-server's command line; it runs with AOF everysec
	clock     bool                            // the scene moves Redis's clock
	via       func(role, redis string) string // a proxy before Redis for processes of that role: takes Redis's address, returns its own
	apis      int                             // processes with the role api; default 1
	workers   int                             // processes with the role worker; default 1
	both      int                             // processes with both roles, instead of those
	args      []string                        // added to `ringback serve`
	callbacks int                             // registrations of each company, all of which match its every event; default 1, -1 for none
	options   map[string]any                  // members of each registration; default: a timeout of 2 s
}

type callback struct {
	ID      int64  `json:"callback_id"`
	Secret  string `json:"secret"`
	company string
}

// program is `ringback` as `make build` makes it, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ringback-faults")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ringback")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/ringback")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func newScene(t *testing.T, f fault) *scene {
	h := fnv.New64a()
	_, _ = h.Write([]byte(f.name))
	seed := suite.seed ^ h.Sum64()
	s := &scene{t: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), full: suite.full, row: suite.report.add(f)}
	t.Cleanup(func() {
		s.row.failed = t.Failed()
		t.Log(s.row)
	})
	return s
}

// pick is quick in `make test`, and full in `make test-faults`.
func (s *scene) pick(quick, full int) int {
	if s.full {
		return full
	}
	return quick
}

// between draws a duration.
func (s *scene) between(from, to time.Duration) time.Duration {
	return from + time.Duration(s.rand.Int64N(int64(to-from)+1))
}

// injected says in the table what was done. It may be called several times.
func (s *scene) injected(format string, args ...any) {
	s.row.injected = append(s.row.injected, fmt.Sprintf(format, args...))
}

// found adds a figure to the table's remarks.
func (s *scene) found(format string, args ...any) {
	s.row.remarks = append(s.row.remarks, fmt.Sprintf(format, args...))
	s.t.Logf(format, args...)
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// open starts everything, and returns when each process answers and the callbacks are registered.
func (s *scene) open(in setup) {
	s.t.Helper()
	in.apis, in.workers, in.callbacks = max(in.apis, 1), max(in.workers, 1), cmp.Or(in.callbacks, 1)
	s.setup = in
	s.openRedis()
	if info, err := s.direct.InfoMap(s.t.Context(), "server").Result(); err == nil {
		store := "Redis " + info["Server"]["redis_version"]
		if version := info["Server"]["valkey_version"]; version != "" {
			store = "Valkey " + version
		}
		suite.report.sees(store)
	}
	s.env = []string{
		"RINGBACK_EGRESS_ALLOW=127.0.0.0/8",
		"RINGBACK_KEYSET_FILE=" + filepath.Join(s.t.TempDir(), "keyset.json"),
	}
	s.partner = newPartner(s.t)
	transport := &http.Transport{MaxIdleConnsPerHost: 200}
	s.client = &http.Client{Transport: transport, Timeout: 20 * time.Second}
	s.t.Cleanup(transport.CloseIdleConnections)
	s.startAll(in)
	s.key = s.makeKey()
	for range in.callbacks {
		for _, name := range s.companies {
			s.registerFor(name, in.options)
		}
	}
}

func (s *scene) startAll(in setup) {
	s.t.Helper()
	for range in.both {
		s.workers = append(s.workers, s.start("api,worker"))
	}
	if in.both > 0 {
		s.apis = s.workers
		return
	}
	for range in.apis {
		s.apis = append(s.apis, s.start("api"))
	}
	for range in.workers {
		s.workers = append(s.workers, s.start("worker"))
	}
}

// openRedis starts the one Redis, the cluster, or those that sentinels watch.
func (s *scene) openRedis() {
	s.t.Helper()
	if s.sentinel {
		s.watched = redistest.StartSentinels(s.t, s.redisArgs...)
		s.direct = s.watched.Client()
		for i := range 3 {
			s.companies = append(s.companies, fmt.Sprintf("%s-%d", company, i))
		}
		return
	}
	if !s.cluster {
		if s.setup.clock {
			s.redis, s.clock = redistest.StartWithClock(s.t, s.redisArgs...)
		} else {
			s.redis = redistest.Start(s.t, s.redisArgs...)
		}
		s.direct, s.companies = s.redis.Client(), []string{company}
		return
	}
	s.nodes = redistest.StartCluster(s.t, 3, 1, s.redisArgs...)
	s.direct = s.nodes.Client()
	on := make(map[*redistest.Server]int)
	for i := 0; len(s.companies) < 2*3; i++ {
		name := fmt.Sprintf("%s-%d", company, i)
		if node := s.nodes.MasterOf("{" + name + "}:ver"); on[node] < 2 {
			on[node]++
			s.companies = append(s.companies, name)
		}
	}
}

// redisURL is what --redis takes.
func (s *scene) redisURL() string {
	switch {
	case s.nodes != nil:
		return s.nodes.URL()
	case s.watched != nil:
		return s.watched.URL()
	}
	return s.redis.URL()
}

// redisDirs are where Redis keeps its files.
func (s *scene) redisDirs() (dirs []string) {
	servers := []*redistest.Server{s.redis}
	switch {
	case s.nodes != nil:
		servers = s.nodes.Nodes()
	case s.watched != nil:
		servers = append(slices.Clip(s.watched.Nodes()), s.watched.Watchers()...)
	}
	for _, server := range servers {
		dirs = append(dirs, server.Dir())
	}
	return dirs
}

// makeKey makes an operator's key with the program itself.
func (s *scene) makeKey() string {
	s.t.Helper()
	path, err := program()
	s.must(err)
	cmd := exec.Command(path, "keys", "create", "--role", "operator")
	cmd.Env = append(os.Environ(), "RINGBACK_REDIS="+s.redisURL())
	out, err := cmd.Output()
	s.must(err)
	key := strings.TrimSpace(string(out))
	s.secrets = append(s.secrets, key)
	return key
}

// register registers one more callback at the partner, at a path of its own, with a bearer token.
func (s *scene) register(options map[string]any) callback {
	s.t.Helper()
	return s.registerFor(company, options)
}

func (s *scene) registerFor(name string, options map[string]any) callback {
	s.t.Helper()
	path := "/" + strconv.Itoa(len(s.callbacks)+1)
	body := map[string]any{
		"callback_type": eventType, "timeout": "2s",
		"destination": map[string]string{"url": s.partner.url + path},
		"auth":        map[string]string{"type": "bearer", "token": s.bearer()},
	}
	maps.Copy(body, options)
	cb := callback{company: name}
	status, err := s.patiently(http.MethodPost, "/companies/"+name+"/config/callbacks", body, &cb)
	if err != nil || status != http.StatusCreated {
		s.t.Fatalf("registering: %d, %v", status, err)
	}
	s.partner.knows(path, cb.Secret)
	s.callbacks = append(s.callbacks, cb)
	s.secrets = append(s.secrets, cb.Secret, s.bearer())
	return cb
}

// patientOptions are of a callback whose attempts end by themselves on a machine that does much else.
var patientOptions = map[string]any{"timeout": "15s"}

// call asks the first API process and decodes a good answer into into, unless that is nil.
func (s *scene) call(method, path string, body, into any) (status int, err error) {
	return s.callAt(s.t.Context(), s.apis[0].url(), method, path, body, into)
}

// ndjson is a body of JSON lines.
type ndjson []byte

func (s *scene) callAt(ctx context.Context, server, method, path string, body, into any) (status int, err error) {
	text, mediaType := []byte(nil), "application/json"
	switch b := body.(type) {
	case nil:
	case ndjson:
		text, mediaType = b, "application/x-ndjson"
	default:
		if text, err = json.Marshal(body); err != nil {
			return 0, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, server+path, bytes.NewReader(text))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+s.key)
	if text != nil {
		req.Header.Set("Content-Type", mediaType)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode < 300 {
		if raw, ok := into.(*[]byte); ok {
			*raw = answer
		} else {
			err = json.Unmarshal(answer, into)
		}
	}
	return resp.StatusCode, err
}

// A process is one run after the other of `ringback serve` in one role, listening at the same address.
type process struct {
	role    string
	address string // once it listened
	env     []string
	log     string // file of all its runs' logs
	base    map[string]float64

	cmd  *exec.Cmd
	done chan struct{}
}

func (p *process) url() string { return "http://" + p.address }

func (p *process) pid() int { return p.cmd.Process.Pid }

// start runs one more process, and returns when it is ready.
func (s *scene) start(role string) *process {
	s.t.Helper()
	url := s.redisURL()
	if s.via != nil {
		url = "redis://" + s.via(role, s.redis.Addr()) + "/0"
	}
	p := &process{role: role, log: filepath.Join(s.t.TempDir(), role+".log"), env: append(slices.Clip(s.env), "RINGBACK_REDIS="+url)}
	s.t.Cleanup(func() { p.end(syscall.SIGKILL) })
	s.again(p)
	return p
}

// startWithin is how long a process may take to be ready on a machine that does much else.
const startWithin = time.Minute

var readyAt = regexp.MustCompile(`"msg":"ready","address":"([^"]+)"`)

// launch starts p and waits until it is ready. An error if it ends instead, as without a Redis.
func (s *scene) launch(p *process) error {
	path, err := program()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	before, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	listen := p.address
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	args := append([]string{"serve", "--roles", p.role, "--listen", listen}, s.args...)
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = suite.leash.group()
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait()
		close(done)
	}(p.done)
	for deadline := time.After(startWithin); ; {
		text, err := os.ReadFile(p.log)
		if err != nil {
			return err
		}
		if m := readyAt.FindSubmatch(text[before:]); m != nil {
			p.address = string(m[1])
			return nil
		}
		select {
		case <-p.done:
			text, _ := os.ReadFile(p.log)
			return fmt.Errorf("%s ended instead of being ready: %s", p.role, text[before:])
		case <-deadline:
			p.end(syscall.SIGKILL)
			return fmt.Errorf("%s is not ready after %s: %s", p.role, startWithin, text[before:])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end signals the process and waits until it is gone.
func (p *process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	<-p.done
}

// kill ends processes at once, as kill -9 does, and notes the moment if a worker is among them: the API has no attempts to cut off.
func (s *scene) kill(targets ...*process) {
	s.t.Helper()
	from := time.Now()
	for _, p := range targets {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
	}
	for _, p := range targets {
		<-p.done
	}
	if slices.ContainsFunc(targets, func(p *process) bool { return p.role != "api" }) {
		s.hit(from)
	}
}

// again starts processes, each where it listened before, as a supervisor does: until it works.
func (s *scene) again(targets ...*process) {
	s.t.Helper()
	for _, p := range targets {
		deadline := time.Now().Add(2 * startWithin)
		for {
			err := s.launch(p)
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				s.t.Fatalf("%s does not start any more: %v", p.role, err)
			}
			<-time.After(200 * time.Millisecond)
		}
	}
}

// A hit is a moment at which attempts may have been cut off, or Redis forgot.
type hit struct {
	from, to time.Time
	forgets  time.Duration // what Redis was told so long before may be lost; 0: nothing
}

// hit notes that from then until now requests under way may have been cut off from their outcome.
func (s *scene) hit(from time.Time) { s.hits = append(s.hits, hit{from: from, to: time.Now()}) }

// forget notes that Redis lost, between from and now, what it was told at most so long before.
func (s *scene) forget(from time.Time, forgets time.Duration) {
	s.hits = append(s.hits, hit{from, time.Now(), forgets})
}

// everysecForgets is what kill -9 may cost a Redis that syncs every second: while a sync is under way it puts further writes off for up
// to two seconds, and answers all the same.
const everysecForgets = 2*time.Second + 200*time.Millisecond

// killRedis kills Redis at once. What it had put off writing is lost with it, and the oracle told so.
func (s *scene) killRedis() {
	s.t.Helper()
	from := time.Now()
	policy, err := s.direct.ConfigGet(s.t.Context(), "appendfsync").Result()
	s.must(err)
	s.redis.Kill()
	if policy["appendfsync"] == "always" {
		s.hit(from)
	} else {
		s.forget(from, everysecForgets)
	}
}

// killWrittenRedis kills Redis at a moment when it has put off writing nothing: then kill -9 costs nothing that was answered.
func (s *scene) killWrittenRedis() {
	s.t.Helper()
	ctx := s.t.Context()
	from := time.Now()
	s.eventually(10*time.Second, func() bool {
		paused := time.Now()
		s.must(s.direct.Do(ctx, "CLIENT", "PAUSE", 10_000, "WRITE").Err())
		info, err := s.direct.InfoMap(ctx, "persistence").Result()
		s.must(err)
		return info["Persistence"]["aof_buffer_length"] == "0" && time.Since(paused) < 5*time.Second
	}, func() string { return "Redis does not write" })
	s.redis.Kill()
	s.hit(from)
}

// metrics reads what a process exports, by name with labels.
func (s *scene) metrics(p *process) (map[string]float64, error) {
	var text []byte
	status, err := s.callAt(s.t.Context(), p.url(), http.MethodGet, "/metrics", nil, &text)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("/metrics: %d", status)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.HasPrefix(name, "#") {
			values[name] = v
		}
	}
	return values, nil
}

// leastWait is how long `make test` waits at least for what should take moments: beside everything else, on a machine that is not fast.
const leastWait = 2 * time.Minute

// atLeast is within, or leastWait where that is longer and the suite runs in `make test`.
func atLeast(within time.Duration) time.Duration {
	if suite.full {
		return within
	}
	return max(within, leastWait)
}

// eventually polls until ok, or fails with what why says.
func (s *scene) eventually(within time.Duration, ok func() bool, why func() string) {
	s.t.Helper()
	within = atLeast(within)
	for deadline := time.Now().Add(within); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("after %s: %s", within, why())
		}
	}
}

// processes are all of them.
func (s *scene) processes() []*process {
	if s.both > 0 {
		return s.workers
	}
	return append(slices.Clip(s.apis), s.workers...)
}

// A leash is a shell that kills every process in its group once this process is gone, however it went.
type leash struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
}

func newLeash() (*leash, error) {
	cmd := exec.Command("/bin/sh", "-c", "read -r _; kill -9 0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return &leash{cmd, stdin}, cmd.Start()
}

// group makes a child one that dies with this process.
func (l *leash) group() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pgid: l.cmd.Process.Pid}
}

func (l *leash) close() error {
	err := errors.Join(l.stdin.Close())
	_ = l.cmd.Wait()
	return err
}
