//go:build load

package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// get reads JSON from the API.
func (i *installation) get(path string, into any) {
	i.t.Helper()
	req, err := http.NewRequest(http.MethodGet, i.server+path, http.NoBody)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+i.key)
	resp, err := i.client.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		i.t.Fatalf("GET %s: %d, %v: %s", path, resp.StatusCode, err, text)
	}
	if err := json.Unmarshal(text, into); err != nil {
		i.t.Fatal(err)
	}
}

// TestLoadDeadLetters lets 12,000 deliveries die, more than asynq's archive would keep, lists them all, and replays them once the partner is
// well again.
func TestLoadDeadLetters(t *testing.T) {
	const n = 12_000
	i := install(t)
	var well atomic.Bool
	var mu sync.Mutex
	arrived, marked, changed := make(map[string]int), 0, time.Now()
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if !well.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		mu.Lock()
		arrived[r.Header.Get("Webhook-Id")]++
		if r.Header.Get("Ringback-Replay") == "1" {
			marked++
		}
		changed = time.Now()
		mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(partner.Close)
	status, err := i.post(i.server, "/companies/acme/config/callbacks", map[string]any{
		"callback_type": "payment_proof", "destination": map[string]string{"url": partner.URL}, "retry": map[string]any{"max_attempts": 1},
	}, nil)
	if err != nil || status != http.StatusCreated {
		t.Fatalf("registering: %d, %v", status, err)
	}
	const callback = "/companies/acme/config/callbacks/1"
	until := func(within time.Duration, what string, done func() bool) time.Duration {
		t.Helper()
		start := time.Now()
		for tick := time.NewTicker(200 * time.Millisecond); !done(); <-tick.C {
			if time.Since(start) > within {
				t.Fatalf("%s: not within %s", what, within)
			}
		}
		return time.Since(start)
	}

	start := time.Now()
	i.sendAll("p-", n, 32)
	t.Logf("%d sent in %s", n, time.Since(start).Round(time.Millisecond))
	var health struct {
		Dead    int64  `json:"dead"`
		Breaker string `json:"breaker"`
	}
	until(5*time.Minute, "dying", func() bool { i.get(callback, &health); return health.Dead == n })
	t.Logf("all dead %s after the first was sent; the breaker is %s", time.Since(start).Round(time.Millisecond), health.Breaker)

	start = time.Now()
	listed, cursor, pages := make(map[string]bool), "", 0
	for first := true; first || cursor != ""; first = false {
		var page struct {
			Deliveries []struct {
				ID string `json:"delivery_id"`
			} `json:"deliveries"`
			Next string `json:"next_cursor"`
		}
		i.get("/companies/acme/deliveries?state=dead&limit=500&cursor="+cursor, &page)
		for _, d := range page.Deliveries {
			if listed[d.ID] {
				t.Fatalf("%s is listed twice", d.ID)
			}
			listed[d.ID] = true
		}
		cursor, pages = page.Next, pages+1
	}
	if len(listed) != n {
		t.Errorf("%d of %d are listed", len(listed), n)
	}
	t.Logf("%d listed in %d pages, %s", len(listed), pages, time.Since(start).Round(time.Millisecond))

	well.Store(true)
	start = time.Now()
	var replay struct {
		ID       string `json:"replay_id"`
		State    string `json:"state"`
		Matched  int    `json:"matched"`
		Replayed int    `json:"replayed"`
	}
	if status, err := i.post(i.server, callback+"/replay", map[string]any{"reason": "status_500"}, &replay); err != nil || status != http.StatusAccepted || replay.Matched != n {
		t.Fatalf("replaying: %d, %v, %+v", status, err, replay)
	}
	matched := time.Since(start)
	let := until(5*time.Minute, "replaying", func() bool { i.get("/companies/acme/replays/"+replay.ID, &replay); return replay.State == "done" })
	until(time.Minute, "arriving", func() bool { mu.Lock(); defer mu.Unlock(); return len(arrived) == n })
	mu.Lock()
	defer mu.Unlock()
	t.Logf("counted in %s, let out in %s, all arrived after %s", matched.Round(time.Millisecond), let.Round(time.Millisecond), changed.Sub(start).Round(time.Millisecond))
	for id, times := range arrived {
		if times != 1 || !listed[id] {
			t.Errorf("%s arrived %d times, listed as dead: %t", id, times, listed[id])
		}
	}
	if replay.Replayed != n || marked != n {
		t.Errorf("%d replayed, %d requests say so", replay.Replayed, marked)
	}
	until(time.Minute, "recording", func() bool { i.get(callback, &health); return health.Dead == 0 })
	if health.Breaker != "closed" {
		t.Errorf("the breaker is %s", health.Breaker)
	}
	var first struct{ Deliveries []any }
	if i.get("/companies/acme/deliveries?state=dead", &first); len(first.Deliveries) > 0 {
		t.Errorf("%d are still listed as dead", len(first.Deliveries))
	}
}
