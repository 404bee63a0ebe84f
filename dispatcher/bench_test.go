package dispatcher

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// BenchmarkDeliver sends events from 64 senders until all are delivered; everything (senders, engine, Redis with AOF everysec, partner)
// shares the machine. The baseline of the same run is the partner's POST alone, from as many senders.
func BenchmarkDeliver(b *testing.B) {
	for _, callbacks := range []int{1, 8} {
		b.Run(fmt.Sprintf("callbacks=%d", callbacks), func(b *testing.B) { benchmarkDeliver(b, callbacks) })
	}
}

func benchmarkDeliver(b *testing.B, callbacks int) {
	var arrived atomic.Int64
	done := make(chan struct{})
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
		if arrived.Add(1) == int64(b.N) {
			close(done)
		}
	}))
	b.Cleanup(partner.Close)
	c := benchmarkClient(b)
	for k := range callbacks { // each its own company: an event has one delivery
		_, err := c.registry.Create(b.Context(), fmt.Sprintf("company-%d", k), []byte(`{"callback_type": "payment_proof", "destination": {"url": "`+partner.URL+`"}}`))
		if err != nil {
			b.Fatal(err)
		}
	}
	w, err := NewWorker(c, WorkerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Shutdown)
	padding := strings.Repeat("x", 400)
	b.ResetTimer()
	eachOf(b, 64, b.N, func(k int) {
		_, err := c.Send(b.Context(), payloads.Event{
			Company: fmt.Sprintf("company-%d", k%callbacks), Type: "payment_proof",
			Payload: fmt.Appendf(nil, `{"requestId": "r-%d", "status": "OK", "issuerName": %q}`, k, padding),
		})
		if err != nil {
			b.Error(err)
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "accepted/s")
	<-done
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
}

// benchmarkClient is a client of a Redis of its own, with a callback of acme's for payment proofs that nobody attempts.
func benchmarkClient(b *testing.B) *Client {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	rdb := redistest.Start(b).Client()
	keyset, err := registry.NewKeyset()
	must(err)
	logger := slog.New(slog.NewJSONHandler(io.Discard, nil)) //nolint:sloglint // writing the lines is part of what is measured
	reg, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, Logger: logger})
	must(err)
	out, err := egress.New(egress.Config{Allow: loopback})
	must(err)
	c, err := New(Config{Redis: rdb, Registry: reg, Egress: out, Logger: logger})
	must(err)
	_, err = reg.Create(b.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"url": "http://127.0.0.1:1/"}}`))
	must(err)
	return c
}

// eachOf does work 0 to n-1 with so many workers.
func eachOf(b *testing.B, workers, n int, do func(k int)) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for k := next.Add(1) - 1; k < int64(n); k = next.Add(1) - 1 {
				do(int(k))
			}
		})
	}
	wg.Wait()
}
