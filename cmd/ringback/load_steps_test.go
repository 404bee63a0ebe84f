//go:build load

package main

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
)

// call makes a request of an operator's, and fails the test unless it succeeds.
func (i *installation) call(method, path, body string) {
	i.t.Helper()
	req, err := http.NewRequest(method, i.server+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.key)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := i.client.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode >= 300 {
		i.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// percentiles are the evalsha's of Redis (its p50, p99 and p99.9, in µs), and how many took longer than slow by the scripts' names.
func percentiles(t *testing.T, rdb *redis.Client, slow time.Duration) (text string, p99 float64, long map[string]int) {
	t.Helper()
	info, err := rdb.Info(t.Context(), "latencystats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), "latency_percentiles_usec_evalsha:"); ok {
			text = rest
		}
	}
	_, tail, _ := strings.Cut(text, "p99=")
	number, _, _ := strings.Cut(tail, ",")
	if p99, err = strconv.ParseFloat(number, 64); err != nil {
		t.Fatalf("Redis knows no percentiles of evalsha: %q", text)
	}
	entries, err := rdb.SlowLogGet(t.Context(), 1000).Result()
	if err != nil {
		t.Fatal(err)
	}
	names := lua.Names()
	long = make(map[string]int)
	for _, e := range entries {
		if len(e.Args) > 1 && strings.EqualFold(e.Args[0], "evalsha") && e.Duration > slow {
			long[names[e.Args[1]]]++
		}
	}
	return text, p99, long
}

// TestLoadStepsOfTenThousandCallbacks: whatever a company with ten thousand callbacks does, no step keeps Redis from others for more than some
// milliseconds.
func TestLoadStepsOfTenThousandCallbacks(t *testing.T) {
	const callbacks, events = 10_000, 4
	i := install(t)
	i.call(http.MethodPatch, "/companies/acme/quotas", fmt.Sprintf(`{"callbacks": %d}`, callbacks))
	for k := range callbacks {
		i.register(i.server, fmt.Sprintf("/%d", k))
	}
	rdb := i.redis.Client()
	for _, set := range [][2]string{{"slowlog-log-slower-than", "5000"}, {"slowlog-max-len", "1000"}} {
		if err := rdb.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := rdb.ConfigResetStat(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for k := range events {
		if !i.send(i.server, fmt.Sprintf("wide-%d", k)) {
			t.Fatal("not accepted")
		}
	}
	i.partner.await(t, events*callbacks, 3*time.Minute)
	took := time.Since(began)
	i.call(http.MethodGet, "/companies/acme/deliveries?limit=500", "")
	i.call(http.MethodGet, "/companies/acme/deliveries?"+url.Values{"state": {"dead"}}.Encode(), "")
	i.call(http.MethodGet, "/companies/acme/events/wide-1?limit=500", "")
	i.call(http.MethodDelete, "/companies/acme/events/wide-2", "")
	i.call(http.MethodPost, "/companies/acme/config/callbacks/7/replay", `{"states": ["delivered"]}`)
	text, p99, long := percentiles(t, rdb, 5*time.Millisecond)
	t.Logf("%d events to %d callbacks each: %.0f deliveries/s; evalsha in µs %s; longer than 5 ms: %v", events, callbacks, events*callbacks/took.Seconds(), text, long)
	if p99 > 2500 {
		t.Errorf("one of a hundred steps takes longer than %.0f µs, want 2,500", p99)
	}
	if _, requests := i.partner.counts(); requests < events*callbacks || requests > events*callbacks+1 {
		t.Errorf("%d requests, want %d and the one that is replayed", requests, events*callbacks)
	}
	i.partner.check(t)
}
