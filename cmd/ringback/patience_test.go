package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/redistest"
)

// slack is what a busy machine may need on top of callerPatience. Without patience a batch would take a minute and a half, and fifteen commands would
// take twenty seconds.
const slack = 15 * time.Second

// TestAHungRedisIsWaitedForOnce stops Redis under a process and asks it everything at once, with a key that the process knows and one that
// it has to look up, in a company that it knows and in one that it does not: every answer is a 503, within two seconds and what this machine
// needs. Once Redis goes on the process does, too, and nothing has piled up.
func TestAHungRedisIsWaitedForOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	shared := []string{"RINGBACK_REDIS=" + server.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json")}
	known := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "operator"))
	unknown := strings.TrimSpace(ringback(t, shared, "keys", "create", "--role", "operator"))
	url := "http://" + address(start(t, shared, "serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"))

	type call struct{ method, path, body string }
	event := func(id string) string {
		return `{"event_type":"payment_proof","event_id":"` + id + `","payload":{"requestId":"a","status":"OK"}}`
	}
	const callback = `{"callback_type":"*","destination":{"url":"http://127.0.0.1:9/"}}`
	ask := func(key string, c call) (status int, body string) {
		req, err := http.NewRequestWithContext(t.Context(), c.method, url+c.path, strings.NewReader(c.body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		req.Header.Set("Authorization", "Bearer "+key)
		if strings.HasSuffix(c.path, "/batch") {
			req.Header.Set("Content-Type", "application/x-ndjson")
		}
		status, _, body = send(t, req)
		return status, body
	}
	goroutines := func() int {
		_, body := ask(known, call{method: "GET", path: "/metrics"})
		found := regexp.MustCompile(`(?m)^go_goroutines (\d+)$`).FindStringSubmatch(body)
		if found == nil {
			t.Fatalf("no go_goroutines in %s", body)
		}
		n, _ := strconv.Atoi(found[1])
		return n
	}
	for _, c := range []call{{"POST", "/companies/known/config/callbacks", callback}, {"POST", "/companies/known/events", event("e-0")}} {
		if status, body := ask(known, c); status >= 300 {
			t.Fatalf("%s %s: %d %s", c.method, c.path, status, body)
		}
	}
	before := goroutines()

	calls := []call{{"GET", "/readyz", ""}}
	for _, company := range []string{"/companies/known", "/companies/unknown"} {
		for n := range 4 { // several of the same, which wait for each other
			calls = append(calls, call{"POST", company + "/events", event(fmt.Sprint("e-", n))}, call{"GET", company + "/config/callbacks", ""})
		}
		calls = append(calls,
			call{"POST", company + "/events/batch", strings.Repeat(event("e-b")+"\n", 200)},
			call{"POST", company + "/config/callbacks", callback},
			call{"GET", company + "/deliveries", ""},
			call{"GET", company + "/events/e-0", ""},
			call{"GET", company + "/replays", ""},
			call{"POST", company + "/decisions", `{"event_type":"entry_code.verify","payload":{"entryCode":"a","customer":{"externalId":"c"}}}`},
		)
	}
	server.Stop()
	began := time.Now()
	var wg sync.WaitGroup
	for _, key := range []string{known, unknown} {
		for _, c := range calls {
			wg.Go(func() {
				status, body := ask(key, c)
				took := time.Since(began)
				batch := status == http.StatusOK && strings.HasSuffix(c.path, "/batch") // a line for each
				if batch && strings.Count(body, `"status":503`) != 200 || !batch && status != http.StatusServiceUnavailable {
					t.Errorf("%s %s: %d %.300s", c.method, c.path, status, body)
				}
				if took > callerPatience+slack {
					t.Errorf("%s %s was answered after %v", c.method, c.path, took)
				}
			})
		}
	}
	wg.Wait()
	server.Cont()
	for deadline := time.Now().Add(patience); ; {
		status, body := ask(unknown, call{"POST", "/companies/unknown/events", event("e-0")})
		if status < 300 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after Redis went on: %d %s", status, body)
		}
	}
	// What belongs to a request ends with it: what may be left are connections, to Redis and from us, of two goroutines at most.
	for deadline := time.Now().Add(patience); ; {
		after := goroutines()
		if after <= before+len(calls) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines before, %d after", before, after)
		}
	}
}

// TestOnlyRequestsLosePatience looks at what a hung Redis does to commands, alone and in pipelines, of a request and of none.
func TestOnlyRequestsLosePatience(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb, err := openRedis(server.URL(), "", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	defer server.Cont()
	pipeline := func(ctx context.Context) (each []error) {
		cmds, _ := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			p.Get(ctx, "a")
			p.Get(ctx, "b")
			return nil
		})
		for _, cmd := range cmds {
			each = append(each, cmd.Err())
		}
		return each
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		request := context.WithValue(t.Context(), patienceKey{}, new(requestPatience))
		began := time.Now()
		for range 5 {
			each := append(pipeline(context.WithoutCancel(request)), rdb.Get(request, "a").Err())
			for _, err := range each {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("a request's command: %v", err)
				}
			}
		}
		if took := time.Since(began); took < callerPatience || took > callerPatience+slack {
			t.Errorf("a request's fifteen commands took %v, want %v", took, callerPatience)
		}
	})
	wg.Go(func() {
		began := time.Now()
		if err := rdb.Get(t.Context(), "a").Err(); err == nil {
			t.Error("a stopped Redis answered")
		}
		if took := time.Since(began); took < redisTimeout {
			t.Errorf("a command of no request took %v, less than %v", took, redisTimeout)
		}
	})
	wg.Wait()
}

// TestCallersOfOneTripLosePatienceTogether: what several requests ask for goes to Redis in one trip, and a Redis that hangs is waited for once by
// each of them. After that, a trip of nobody else is not even sent.
func TestCallersOfOneTripLosePatienceTogether(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	rdb := server.Client()
	rdb.AddHook(newPatienceHook(10))
	var sent countingHook
	rdb.AddHook(&sent)
	steps := ledger.NewCommitter(rdb, func(context.Context, string) string { return "settings" }, 0, func(_ context.Context, do func() error) error { return do() })
	heard := redis.NewScript("local out, at = {}, 2 while at <= #ARGV do out[#out + 1], at = {'heard'}, at + 1 + ARGV[at] end return out")
	ask := func(ctx context.Context, n int) (calls []*ledger.Call) {
		for range n {
			calls = append(calls, &ledger.Call{Script: heard, Key: "{a}:due"})
		}
		steps.Do(ctx, calls...)
		return calls
	}
	if answer, err := ask(t.Context(), 1)[0].Answer(); err != nil || answer[0] != "heard" {
		t.Fatalf("%q, %v", answer, err)
	}
	server.Stop()
	t.Cleanup(func() {
		server.Cont()
		steps.Close()
	})
	ask(t.Context(), 1) // of no request: those that follow go together behind it
	var waiting []*requestPatience
	var calls []*ledger.Call
	var asking context.Context
	for range 3 {
		p := &requestPatience{}
		waiting = append(waiting, p)
		asking = context.WithValue(t.Context(), patienceKey{}, p)
		calls = append(calls, ask(asking, 1)...)
	}
	for i, call := range calls {
		// Either the trip's time ended first, or the connection's, which is the same.
		_, err := call.Answer()
		if late := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded); !late || !waiting[i].lost.Load() {
			t.Errorf("request %d: %v, its patience is lost: %t", i, err, waiting[i].lost.Load())
		}
	}
	before := sent.Load()
	for _, call := range ask(asking, 5) {
		if _, err := call.Answer(); !errors.Is(err, errNoPatience) {
			t.Errorf("once it is lost: %v", err)
		}
	}
	if n := sent.Load() - before; n != 0 {
		t.Errorf("%d commands were sent for a request that has no patience", n)
	}
}

// A countingHook counts the commands that are sent.
type countingHook struct{ atomic.Int64 }

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.Add(1)
		return next(ctx, cmd)
	}
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.Add(1)
		return next(ctx, cmds)
	}
}
