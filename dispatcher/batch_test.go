package dispatcher

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// TestBatchesGoOut: what is accepted travels together, under the batch's own webhook-id, again under the same one where it failed, and in halves where it was too
// large. Each event is delivered once.
func TestBatchesGoOut(t *testing.T) {
	for name, tt := range map[string]struct {
		status func(request int, size string) int // that a request is answered
		sizes  string
		budget int // of attempts
	}{
		"delivered":         {func(int, string) int { return http.StatusNoContent }, "4 4 2", 1},
		"tried again":       {func(request int, _ string) int { return map[bool]int{true: 503, false: 204}[request == 1] }, "4 4 4 2", 2},
		"four are too many": {func(_ int, size string) int { return map[bool]int{true: 413, false: 204}[size == "4"] }, "4 4 2 2 2 2 2", 1},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				n := 0
				h.partner.answers(func(r *http.Request, _ int) reply {
					n++
					return reply{status: tt.status(n, r.Header.Get("Ringback-Batch"))}
				})
				cb := h.register("payment_proof", fmt.Sprintf(`"batch": {"max_events": 4, "max_wait": "2s"}, "retry": {"max_attempts": %d}`, tt.budget))
				defer h.work()()
				ids := h.sendMany("p-", 10)
				if d := h.delivery(ids[9]); d.HeldReason != "batch" || !strings.Contains(d.Summary, "once 4 events wait for this callback, or the first of them has waited for 2s") {
					t.Errorf("it is %s (%s): %s", d.State, d.HeldReason, d.Summary)
				}
				h.drained(cb.ID, 5*time.Minute)
				h.checkBatches(tt.sizes, ids)
				h.checkShown(ids)
				h.check()
			})
		})
	}
}

// checkBatches verifies what the partner got: batches of these sizes, the largest first, in whatever order they came.
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
	slices.SortFunc(got, func(a, b string) int { return strings.Compare(b, a) })
	if s := strings.Join(got, " "); s != sizes {
		h.t.Errorf("batches of %s, want %s", s, sizes)
	}
	for _, id := range ids {
		if d := h.delivery(id); d.State != ledger.Delivered {
			h.t.Errorf("%s is %s: %s", id, d.State, d.Summary)
		}
	}
}

// TestAnswersSpeakOfElements: of a batch that may be answered so, each element is delivered that the answer says was taken, and tried again otherwise, or if it is
// not named. An answer that says nothing of each, or is cut off, speaks of all by its status.
func TestAnswersSpeakOfElements(t *testing.T) {
	named := func(ids []string, status func(i int) int) string {
		var all []string
		for i, id := range ids {
			all = append(all, fmt.Sprintf(`{"id":%q,"status":%d}`, id, status(i)))
		}
		return `{"results":[` + strings.Join(all, ",") + `]}`
	}
	ok := func(int) int { return 200 }
	for name, tt := range map[string]struct {
		answer func(ids []string) string // to the first request
		status int
		sizes  string
		reason Reason // of the first attempt of what went out again
	}{
		"all":          {func(ids []string) string { return named(ids, ok) }, 200, "4", ""},
		"none":         {func(ids []string) string { return named(ids, func(int) int { return 500 }) }, 200, "4 4", verdict.ReasonAllFailed},
		"one failed":   {func(ids []string) string { return named(ids, func(i int) int { return 200 + 222*(i%4/3) }) }, 200, "4 1", verdict.ReasonSomeFailed},
		"two left out": {func(ids []string) string { return named(ids[:2], ok) }, 200, "4 2", verdict.ReasonSomeFailed},
		"unreadable":   {func(ids []string) string { return named(ids, func(int) int { return 500 })[1:] }, 200, "4", ""},
		"cut off": {func(ids []string) string {
			return strings.Repeat(" ", 64<<10) + named(ids, func(int) int { return 500 })
		}, 200, "4", ""},
		"cut off behind what it says": {func(ids []string) string {
			return named(ids, func(int) int { return 500 }) + strings.Repeat(" ", 64<<10)
		}, 200, "4", ""},
		"within 64 KiB": {func(ids []string) string {
			return strings.Repeat(" ", 64<<10-1-len(named(ids, ok))) + named(ids, func(int) int { return 500 })
		}, 200, "4 4", verdict.ReasonAllFailed},
		"a status that fails": {func(ids []string) string { return named(ids, ok) }, 500, "4 4", "status_500"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				n := 0
				h.partner.answers(func(r *http.Request, _ int) reply {
					n++
					if n > 1 {
						return reply{status: 204}
					}
					var elements []element
					if err := json.NewDecoder(r.Body).Decode(&elements); err != nil {
						t.Error(err)
					}
					ids := make([]string, len(elements))
					for i, e := range elements {
						ids[i] = e.ID
					}
					return reply{status: tt.status, header: http.Header{"Content-Type": {"application/json"}}, body: tt.answer(ids)}
				})
				cb := h.register("payment_proof", `"batch": {"max_events": 4, "element": "envelope", "results": true}`)
				defer h.work()()
				ids := h.sendMany("p-", 4)
				h.drained(cb.ID, 5*time.Minute)
				h.checkBatches(tt.sizes, ids)
				h.checkOutcomes(ids, tt.reason, strings.Fields(tt.sizes))
			})
		})
	}
}

// checkOutcomes verifies that as many were tried again, for that reason, as the second request had, and that the others were delivered at once.
func (h *house) checkOutcomes(ids []string, reason Reason, sizes []string) {
	h.t.Helper()
	again := 0
	for _, id := range ids {
		d := h.delivery(id)
		first, last := d.Attempts[0], d.Attempts[len(d.Attempts)-1]
		if last.Verdict != verdict.Delivered || last.Reason != "" || len(d.Attempts) > 2 {
			h.t.Errorf("%s: %+v", id, d.Attempts)
		}
		if len(d.Attempts) == 1 {
			continue
		}
		again++
		if first.Reason != reason || first.Verdict != verdict.Retry || first.BatchID == last.BatchID && reason == verdict.ReasonSomeFailed {
			h.t.Errorf("%s: %+v", id, d.Attempts)
		}
	}
	want := "0"
	if len(sizes) > 1 {
		want = sizes[1]
	}
	if fmt.Sprint(again) != want {
		h.t.Errorf("%d went out again, want %s", again, want)
	}
}

// checkShown verifies that each attempt of each delivery shows the request that it was a part of.
func (h *house) checkShown(ids []string) {
	h.t.Helper()
	byID := make(map[string]request)
	for _, r := range h.partner.requests() {
		byID[r.id+" "+r.header.Get("Ringback-Attempt")] = r
	}
	for _, id := range ids {
		d := h.delivery(id)
		h.must(h.client.ShowRequests(h.t.Context(), acme, d, Showing{Payload: true, Query: true}))
		for _, a := range d.Attempts {
			if a.Request == nil {
				h.t.Errorf("%s: attempt %d: %s", id, a.Number, a.RequestMissing)
				continue
			}
			got := byID[a.BatchID+" "+a.Request.Headers["Ringback-Attempt"]]
			for name, value := range a.Request.Headers {
				if got.header.Get(name) != value {
					h.t.Errorf("%s: attempt %d: %s is shown as %q, and was %q", id, a.Number, name, value, got.header.Get(name))
				}
			}
			if a.Request.URL == "" || !strings.Contains(a.Request.BodyMissing, "batch") {
				h.t.Errorf("%s: attempt %d shows %+v", id, a.Number, a.Request)
			}
		}
	}
}
