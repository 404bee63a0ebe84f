package dispatcher

import (
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestKillBetweenPagesOfAnAcknowledgement, or of a seek, or after the last of them: what came so far stays, in the order of the cursors, and whoever repeats it does the rest.
func TestKillBetweenPagesOfAnAcknowledgement(t *testing.T) {
	t.Parallel()
	const n, page = 150, 100
	for _, test := range []struct {
		name string
		seek bool
		done int // by the child
	}{
		{"acknowledged in part", false, page},
		{"acknowledged, and not answered", false, n},
		{"jumped over in part", true, page},
		{"jumped over, and not answered", true, n},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHouse(t)
			_, err := h.registry.Create(t.Context(), acme, []byte(`{"callback_type": "payment_proof", "destination": {"pull": true}}`))
			h.must(err)
			h.sendAll(eventIDs("p-", n))
			poll := func() *Polled {
				p, err := h.client.Poll(t.Context(), Poll{Company: acme, CallbackID: 1, Limit: MaxPollLimit})
				h.must(err)
				return p
			}
			all := poll()
			if len(all.Deliveries) != n {
				t.Fatalf("%d wait", len(all.Deliveries))
			}
			job, state := childJob{KillAt: "acknowledged", After: (test.done - 1) / page, Through: all.Next}, ledger.Delivered
			if test.seek {
				job.Through, job.SeekTo, state = "", all.Next, ledger.Cancelled
			}
			h.start(job).dies()
			left := poll()
			if len(left.Deliveries) != n-test.done || test.done < n && left.Deliveries[0].DeliveryID != all.Deliveries[test.done].DeliveryID {
				t.Errorf("after the kill %d wait", len(left.Deliveries))
			}
			var did *Acknowledgement
			if test.seek {
				did, err = h.client.Seek(t.Context(), acme, 1, Seek{Cursor: all.Next})
			} else {
				did, err = h.client.Acknowledge(t.Context(), acme, 1, all.Next)
			}
			h.must(err)
			if did.Delivered+did.Cancelled != n-test.done || did.Acknowledged != all.Next {
				t.Errorf("repeated: %+v", did)
			}
			h.client.minutes.tell(t.Context())
			minutes, _, err := readMinutes(t.Context(), h.rdb, time.Now(), time.Hour, time.Minute)
			h.must(err)
			counted := int64(0)
			for _, m := range minutes {
				counted += m.Delivered
			}
			if counted != int64(did.Delivered) { // the child told nobody
				t.Errorf("%d are counted as delivered", counted)
			}
			if rest := poll(); len(rest.Deliveries) > 0 {
				t.Errorf("%d wait at last", len(rest.Deliveries))
			}
			got, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []ledger.State{state}, Limit: MaxLimit})
			h.must(err)
			if len(got) != n {
				t.Errorf("%d are %s", len(got), state)
			}
			for _, d := range got {
				if !test.seek && len(d.Attempts) != 1 {
					t.Errorf("%s has %d attempts", d.DeliveryID, len(d.Attempts))
				}
			}
			h.checkRedis()
		})
	}
}
