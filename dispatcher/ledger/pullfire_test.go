package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/registry/redistest"
)

// TestFetchingUnderFire: senders write at the same time, Redis is killed and comes back, and a partner fetches and acknowledges all along. Every event that was
// taken is fetched once, in the order of its sender, and its cursor is above all that were fetched before.
func TestFetchingUnderFire(t *testing.T) {
	const senders, together, kills = 8, 5, 3
	events, err := strconv.Atoi(os.Getenv("RINGBACK_PULL_EVENTS"))
	if err != nil {
		events = 2000
	}
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	d := furnish(t, server.Client(), standard)
	cb := d.puller()
	d.accept([]string{"first-0"}, cb) // which brings the version
	d.ledger.log = slog.New(slog.DiscardHandler)
	each := events / senders / together * together
	all := senders*each + 1
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var taken, fetched atomic.Int64
	taken.Add(1)
	var busy sync.WaitGroup
	for s := range senders {
		busy.Go(func() {
			for i := 0; i < each && ctx.Err() == nil; i += together {
				offers := make([]*Offer, together)
				for k := range offers {
					offers[k] = &Offer{
						Company: d.company, ID: fmt.Sprintf("s%d-%d", s, i+k), Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte("{}"), First: []First{{Callback: cb}},
					}
				}
				for left := offers; len(left) > 0 && ctx.Err() == nil; {
					again := left[:0:0]
					for k, a := range d.ledger.Accept(ctx, left...) {
						got, err := a.Answer()
						if err != nil || len(again) > 0 { // whoever sends in order repeats what follows on what failed
							again = append(again, left[k])
							continue
						}
						if got.Outcome != Taken && got.Outcome != Known {
							t.Errorf("%s is answered %v", left[k].ID, got.Outcome)
						}
					}
					left = again
				}
				taken.Add(together)
			}
		})
	}
	last := map[string]int{"first": -1}
	for s := range senders {
		last[fmt.Sprintf("s%d", s)] = -1
	}
	busy.Go(func() {
		at := Cursor(0)
		defer cancel() // the senders go on as long as this does, or are through
		for n := 0; n < all && ctx.Err() == nil && !t.Failed(); {
			f, err := d.ledger.Fetch(ctx, Fetch{Company: d.company, Callback: cb, After: at, Limit: 50})
			if err != nil {
				continue
			}
			for _, w := range f.Deliveries {
				sender, number, _ := strings.Cut(w.Event, "-")
				if i, _ := strconv.Atoi(number); i != last[sender]+1 {
					t.Errorf("%s comes behind %d of its sender", w.Event, last[sender])
				} else {
					last[sender] = i
				}
				if w.Cursor <= at {
					t.Errorf("%s has the cursor %s behind %s", w.Event, w.Cursor, at)
				}
				at = w.Cursor
			}
			if n += len(f.Deliveries); n%3 == 0 && len(f.Deliveries) > 0 { // what fails is acknowledged with the next
				_, _ = d.ledger.Acknowledge(ctx, d.company, cb, at)
			}
			fetched.Store(int64(n))
		}
	})
	for k := 1; k <= kills; k++ {
		for taken.Load() < int64(all*k/(kills+1)) && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		server.Kill()
		server.Restart()
	}
	busy.Wait()
	if taken.Load() != int64(all) || fetched.Load() != int64(all) {
		t.Fatalf("%d of %d events were taken, and %d fetched", taken.Load(), all, fetched.Load())
	}
	end := d.fetch(cb, LastCursor, 1)
	if _, m := d.acknowledge(cb, end.Given); m.Acknowledged != end.Given {
		t.Errorf("acknowledged %s of %s", m.Acknowledged, end.Given)
	}
	if h := d.health(cb); h.Held != 0 {
		t.Errorf("%d are left", h.Held)
	}
	t.Logf("%d events", all)
}
