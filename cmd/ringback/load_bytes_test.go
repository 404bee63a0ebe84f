//go:build load

package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"
)

// dataset is how many bytes of Redis are data, without what connections and the append-only file take.
func (i *installation) dataset() int64 {
	i.t.Helper()
	info, err := i.redis.Client().Info(i.t.Context(), "memory").Result()
	if err != nil {
		i.t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory_dataset:"); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				i.t.Fatal(err)
			}
			return n
		}
	}
	i.t.Fatal("Redis does not say how much is data")
	return 0
}

// TestLoadBytes measures how many bytes of Redis a delivery takes beyond its event's body of 640 bytes, where it stands.
func TestLoadBytes(t *testing.T) {
	const body = 640
	for _, tt := range []struct {
		where  string
		status int
		paused bool
		halted bool
		state  string
		n      int64
		most   int64
	}{
		{"in the lanes", http.StatusNoContent, false, true, "pending", 1000, 1000}, // no more are let out of the room,
		{"in the lanes, as a retry", http.StatusServiceUnavailable, false, false, "retrying", 10_000, 1400},
		{"in a room", http.StatusNoContent, true, false, "held", 10_000, 800},
		{"finished", http.StatusNoContent, false, false, "delivered", 10_000, 950},
	} {
		t.Run(tt.where, func(t *testing.T) {
			i := install(t)
			partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) }))
			defer partner.Close()
			i.call(http.MethodPost, "/companies/acme/config/callbacks", fmt.Sprintf(
				`{"callback_type": "payment_proof", "destination": {"url": %q}, "retry": {"initial_interval": "1h", "max_interval": "1h"}}`, partner.URL))
			if tt.paused {
				i.call(http.MethodPost, "/companies/acme/config/callbacks/1/pause", "")
			}
			if tt.halted {
				i.call(http.MethodPost, "/egress/pause", "")
			}
			before := i.dataset()
			i.fill(int(tt.n), body)
			i.await(tt.state, tt.n)
			if each := (i.dataset()-before)/tt.n - body; each > tt.most {
				t.Logf("%s: %d bytes a delivery beyond the body, want at most %d", tt.where, each, tt.most)
			} else {
				t.Logf("%s: %d bytes a delivery beyond the body", tt.where, each)
			}
		})
	}
}

// fill sends n events whose bodies have so many bytes.
func (i *installation) fill(n, body int) {
	i.t.Helper()
	for k := range n {
		payload := fmt.Sprintf(`{"requestId": "e-%07d", "status": "OK", "issuerName": "`, k)
		payload += strings.Repeat("x", body-len(payload)-2) + `"}`
		i.call(http.MethodPost, "/companies/acme/events", `{"event_type": "payment_proof", "payload": `+payload+`}`)
	}
}

// await waits until no delivery of the callback is in a lane's first attempt any more, and so many were let go.
func (i *installation) await(state string, n int64) {
	i.t.Helper()
	rdb := i.redis.Client()
	count := func() int64 {
		switch state {
		case "pending":
			return rdb.ZCard(i.t.Context(), "{acme}:due").Val()
		case "held":
			return rdb.ZCard(i.t.Context(), "{acme}:room:1").Val()
		case "retrying":
			return rdb.ZCard(i.t.Context(), "{acme}:retry:1").Val()
		}
		return n - rdb.ZCard(i.t.Context(), "{acme}:due").Val()
	}
	for end := time.Now().Add(2 * time.Minute); count() < n; {
		if time.Now().After(end) {
			i.t.Fatalf("%d of %d are %s", count(), n, state)
		}
		<-time.After(100 * time.Millisecond)
	}
}
