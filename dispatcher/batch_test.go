package dispatcher

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestBatchesGoOut: what is accepted travels together, under the batch's own webhook-id, again under the same one where it failed, and in halves where it was too
// large. Each event is delivered once.
func TestBatchesGoOut(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []int // to one request after the other; the last to all that follow
		sizes   string
	}{
		"delivered":      {[]int{204}, "4 4 2"},
		"tried again":    {[]int{503, 204}, "4 4 2 4"},
		"split in three": {[]int{413, 413, 204}, "4 4 2 2 2 2 2"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				n := 0
				h.partner.answers(func(*http.Request, int) reply {
					n++
					return reply{status: tt.answers[min(n, len(tt.answers))-1]}
				})
				cb := h.register("payment_proof", `"batch": {"max_events": 4, "max_wait": "2s"}`)
				defer h.work()()
				ids := h.sendMany("p-", 10)
				if d := h.delivery(ids[9]); d.HeldReason != "batch" || !strings.Contains(d.Summary, "once 4 events wait for this callback, or the first of them has waited for 2s") {
					t.Errorf("it is %s (%s): %s", d.State, d.HeldReason, d.Summary)
				}
				h.drained(cb.ID, 5*time.Minute)
				h.checkBatches(tt.sizes, ids)
				h.check()
			})
		})
	}
}

// checkBatches verifies what the partner got.
func (h *house) checkBatches(sizes string, ids []string) {
	h.t.Helper()
	byID := make(map[string]string)
	var got []string
	for _, r := range h.partner.requests() {
		var elements []json.RawMessage
		if err := json.Unmarshal([]byte(r.body), &elements); err != nil {
			h.t.Fatalf("the body is no array: %.100s", r.body)
		}
		id := r.header.Get("Webhook-Id")
		if was, ok := byID[id]; ok && was != r.body {
			h.t.Errorf("%s came with two bodies", id)
		}
		byID[id] = r.body
		got = append(got, fmt.Sprint(len(elements)))
		if !strings.HasPrefix(id, "bat_") || r.header.Get("Ringback-Batch") != fmt.Sprint(len(elements)) || r.header.Get("Ringback-Event-Id") != "" {
			h.t.Errorf("the headers are %v", r.header)
		}
	}
	if s := strings.Join(got, " "); s != sizes {
		h.t.Errorf("batches of %s, want %s", s, sizes)
	}
	for _, id := range ids {
		if d := h.delivery(id); d.State != ledger.Delivered {
			h.t.Errorf("%s is %s: %s", id, d.State, d.Summary)
		}
	}
}
