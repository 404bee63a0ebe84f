package dispatcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestBatchesGoOut: what is accepted travels together, under the batch's own webhook-id, again under the same one where it failed, and in halves where it was too
// large. Each event is delivered once.
func TestBatchesGoOut(t *testing.T) {
	failing := 5 // the two that remain of ten, and each half of the others
	for name, tt := range map[string]struct {
		status func(request int, size string) int // that a request is answered
		sizes  string
		budget int // of attempts
	}{
		"delivered":         {func(int, string) int { return http.StatusNoContent }, "4 4 2", 1},
		"tried again":       {func(request int, _ string) int { return map[bool]int{true: 503, false: 204}[request == 1] }, "4 4 4 2", 2},
		"four are too many": {func(_ int, size string) int { return map[bool]int{true: 413, false: 204}[size == "4"] }, "4 4 2 2 2 2 2", 1},
		"halves have the whole budget": {func(_ int, size string) int {
			if size == "4" {
				return 413
			}
			if failing--; failing >= 0 {
				return 503
			}
			return 204
		}, "4 4 2 2 2 2 2 2 2 2 2 2", 2},
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

// TestWhatHoldsABatchBack: who waits for others says so, and who waits for the rate limit says that, from the first moment on.
func TestWhatHoldsABatchBack(t *testing.T) {
	for name, tt := range map[string]struct {
		batch string
		sent  int
		why   string
	}{
		"full":          {`{"max_events": 5, "max_wait": "60s"}`, 11, "rate_limit"},
		"its time over": {`{"max_events": 5, "max_wait": "0s"}`, 7, "rate_limit"},
		"neither":       {`{"max_events": 5, "max_wait": "60s"}`, 8, "batch"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(answering(204))
				cb := h.register("payment_proof", `"rate_limit": {"per_second": 0.05, "burst": 1}, "batch": `+tt.batch)
				defer h.work()()
				ids := h.sendMany("p-", tt.sent)
				time.Sleep(time.Second)
				if d := h.delivery(ids[tt.sent-1]); d.State != ledger.Held || d.HeldReason != tt.why {
					t.Errorf("it is %s (%s): %s", d.State, d.HeldReason, d.Summary)
				}
				h.drained(cb.ID, 10*time.Minute)
				h.check()
			})
		})
	}
}

// TestAHastenedBatchLeavesNoTask: with the batch that a delivery is in, its task goes that waited for the next attempt.
func TestAHastenedBatchLeavesNoTask(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503, 204))
		h.register("payment_proof", `"batch": {"max_events": 2, "max_wait": "2s"}, "retry": {"initial_interval": "10m"}`)
		defer h.work()()
		ids := h.sendMany("p-", 2)
		h.await(ids[0], ledger.Retrying, time.Minute)
		if n := len(h.retries()); n != 1 {
			t.Errorf("%d tasks wait for their next attempt", n)
		}
		h.must(second(h.client.Hasten(h.t.Context(), acme, ids[1])))
		h.await(ids[0], ledger.Delivered, time.Minute)
		h.awaitIdle(5 * time.Second)
	})
}

// TestABatchIsNoDelivery: nothing can be seen of a batch, or done with it, under the id that its task has. Its members have ids of their own.
func TestABatchIsNoDelivery(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503))
		h.register("payment_proof", `"batch": {"max_events": 2, "max_wait": "2s"}, "retry": {"initial_interval": "10m"}`)
		defer h.work()()
		ids := h.sendMany("p-", 2)
		h.await(ids[0], ledger.Retrying, time.Minute)
		waiting := h.retries()
		if len(waiting) != 1 {
			t.Fatalf("%d tasks wait for their next attempt", len(waiting))
		}
		id, _, _ := strings.Cut(waiting[0].ID, ":g")
		if id == ids[0] || id == ids[1] || !strings.HasPrefix(id, ledger.DeliveryPrefix) {
			t.Fatalf("a task is called %s", waiting[0].ID)
		}
		for what, act := range map[string]func(context.Context, string, string) (*Delivery, error){
			"shown": h.client.Delivery, "hastened": h.client.Hasten, "replayed": h.client.Replay, "cancelled": h.client.Cancel,
		} {
			if _, err := act(h.t.Context(), acme, id); !errors.Is(err, ErrNotFound) {
				t.Errorf("it is %s: %v", what, err)
			}
		}
		if now := h.retries(); len(now) != 1 || now[0].ID != waiting[0].ID {
			t.Errorf("its task became %v", now)
		}
		if d := h.delivery(ids[0]); d.State != ledger.Retrying || len(h.partner.requests()) != 1 {
			t.Errorf("its members are %s, after %d requests", d.State, len(h.partner.requests()))
		}
	})
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

// idsIn are the ids of a batch's elements, which are envelopes.
func idsIn(t *testing.T, body io.Reader) []string {
	t.Helper()
	var elements []element
	if err := json.NewDecoder(body).Decode(&elements); err != nil {
		t.Error(err)
	}
	ids := make([]string, len(elements))
	for i, e := range elements {
		ids[i] = e.ID
	}
	return ids
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
		"named by their events": {func([]string) string {
			return named(eventIDs("p-", 4), func(i int) int { return 200 + 222*(i%4/3) })
		}, 200, "4 1", verdict.ReasonSomeFailed},
		"unreadable": {func(ids []string) string { return named(ids, func(int) int { return 500 })[1:] }, 200, "4", ""},
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
					ids := idsIn(t, r.Body)
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

// TestATestOfBatchesIsABatchOfOne, as a delivery by itself would go out, and is judged as one. So is a dry run.
func TestATestOfBatchesIsABatchOfOne(t *testing.T) {
	h := newHouse(t)
	status := 200
	h.partner.answers(func(r *http.Request, _ int) reply {
		id := r.Header.Get("Webhook-Id")
		return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: fmt.Sprintf(`{"results":[{"id":%q,"status":%d}]}`, id, status)}
	})
	cb := h.register("payment_proof", `"batch": {"element": "envelope", "results": true}`)
	got, err := h.client.Test(t.Context(), acme, cb.ID, "")
	h.must(err)
	var elements []struct {
		ID, Type string
		Payload  json.RawMessage
	}
	sent := h.partner.requests()[0]
	h.must(json.Unmarshal([]byte(sent.body), &elements))
	typ, _ := payloads.Builtin().Lookup("payment_proof")
	if len(elements) != 1 || elements[0].ID != got.DeliveryID || elements[0].Type != "payment_proof" || string(elements[0].Payload) != string(typ.Fragile()) || !strings.HasPrefix(got.DeliveryID, "tst_") {
		t.Errorf("%s was sent as %s", got.DeliveryID, sent.body)
	}
	if sent.header.Get("Ringback-Batch") != "1" || sent.header.Get("Ringback-Test") != "1" || sent.header.Get("Ringback-Event-Id") != "" || sent.verified != nil {
		t.Errorf("with %v: %v", sent.header, sent.verified)
	}
	if sent.header.Get("Ringback-Batch-Element") != "envelope" || sent.header.Get("Ringback-Batch-Results") != "1" {
		t.Errorf("with %v", sent.header)
	}
	if got.Verdict != verdict.Delivered || string(got.Request.Body) != sent.body {
		t.Errorf("it is %s: %s; shown is %s", got.Verdict, got.Detail, got.Request.Body)
	}
	status = 500
	if got, err = h.client.Test(t.Context(), acme, cb.ID, ""); err != nil || got.Reason != verdict.ReasonAllFailed {
		t.Errorf("its element failed: %+v, %v", got, err)
	}
	cb, err = h.registry.Patch(t.Context(), acme, cb.ID, []byte(`{"batch": {"results": false, "element": "payload"}, "envelope": "cloudevents-structured"}`))
	h.must(err)
	dry, err := h.client.DryRun(t.Context(), cb, "", nil)
	h.must(err)
	if body := string(dry.Request.Body); !strings.HasPrefix(body, `[{"specversion":"1.0","id":"dry_`) || !strings.HasSuffix(body, "]") || dry.Request.Headers["Ringback-Batch"] != "1" ||
		dry.Request.Headers["Content-Type"] != payloads.ContentTypeCloudEventsBatch {
		t.Errorf("it would be sent as %s with %v", body, dry.Request.Headers)
	}
	if h := dry.Request.Headers; h["Ringback-Batch-Element"] != "" || h["Ringback-Batch-Results"] != "" {
		t.Errorf("it would be sent with %v", h)
	}
}

// TestOneAnswerIsForAllOfABatch: what it asks to wait holds for all, and so does a 410, which disables the callback.
func TestOneAnswerIsForAllOfABatch(t *testing.T) {
	for status, state := range map[int]State{http.StatusServiceUnavailable: Delivered, http.StatusGone: Dead} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(func(_ *http.Request, n int) reply {
					if n == 0 { // the first under its id
						return reply{status: status, header: http.Header{"Retry-After": {"90"}}}
					}
					return reply{status: 204}
				})
				cb := h.register("payment_proof", `"batch": {"max_events": 4}, "retry": {"initial_interval": "1s", "multiplier": 1}`)
				defer h.work()()
				ids := h.sendMany("p-", 4)
				h.drained(cb.ID, 5*time.Minute)
				sent := h.partner.requests()
				if want := map[State]int{Delivered: 2, Dead: 1}[state]; len(sent) != want || sent[0].id != sent[len(sent)-1].id {
					h.t.Fatalf("%d requests, want %d: %+v", len(sent), want, sent)
				}
				if waited := sent[len(sent)-1].at.Sub(sent[0].at); state == Delivered && waited < 90*time.Second {
					h.t.Errorf("it was tried again after %s", waited)
				}
				for _, id := range ids {
					if d := h.delivery(id); d.State != state || len(d.Attempts) != len(sent) {
						h.t.Errorf("%s is %s: %+v", id, d.State, d.Attempts)
					}
				}
				now, err := h.registry.Get(h.t.Context(), acme, cb.ID)
				if h.must(err); (now.Status == registry.Disabled) != (state == Dead) {
					h.t.Errorf("the callback is %s", now.Status)
				}
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

// came is what the partner got of batches, by webhook-id and attempt.
func (h *house) came() map[string]request {
	byID := make(map[string]request)
	for _, r := range h.partner.requests() {
		byID[r.id+" "+r.header.Get("Ringback-Attempt")] = r
	}
	return byID
}

// checkShown verifies that each attempt of each delivery shows the request that it was a part of.
func (h *house) checkShown(ids []string) {
	h.t.Helper()
	byID := h.came()
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
			if a.StatusCode == http.StatusRequestEntityTooLarge && !strings.Contains(a.Detail, "too small for this batch") {
				h.t.Errorf("%s: attempt %d: %s", id, a.Number, a.Detail)
			}
			if a.Request.URL == "" || string(a.Request.Body) != got.body || len(got.body) == 0 {
				h.t.Errorf("%s: attempt %d shows %q and was %q: %s", id, a.Number, a.Request.Body, got.body, a.Request.BodyMissing)
			}
			if e := a.Request.Elements; fmt.Sprint(len(e)) != a.Request.Headers["Ringback-Batch"] || !slices.ContainsFunc(e, func(e Element) bool { return e.DeliveryID == id && e.Missing == "" }) {
				h.t.Errorf("%s: attempt %d shows the elements %+v", id, a.Number, e)
			}
		}
	}
}

// TestSplitsAreRecorded again and again while Redis fails: a batch that was too large is not sent whole a second time, at once or ever, as long as that can be
// recorded. If it cannot, the attempt is lost, and made anew once its lease is over.
func TestSplitsAreRecorded(t *testing.T) {
	for name, tt := range map[string]struct {
		stored bool
		fails  int64
		sizes  string
		pause  time.Duration // at least, before the second request
	}{
		"not stored": {false, 3, "4 2 2", 0},
		"stored":     {true, 1, "4 2 2", 0},
		"never":      {false, 12, "4 4 2 2", time.Second}, // more than finishWithin allows for
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, func(h *house) {
				var at []time.Time
				h.partner.answers(func(r *http.Request, _ int) reply {
					at = append(at, time.Now())
					return reply{status: map[bool]int{true: 413, false: 204}[r.Header.Get("Ringback-Batch") == "4"]}
				})
				cb := h.register("payment_proof", `"timeout": "1s", "batch": {"max_events": 4, "max_wait": "2s"}`)
				h.breaks(isScript(splitScript), tt.stored, tt.fails)
				defer h.work()()
				ids := h.sendMany("p-", 4)
				h.drained(cb.ID, 5*time.Minute)
				h.checkBatches(tt.sizes, ids)
				if paused := at[1].Sub(at[0]); paused < tt.pause {
					t.Errorf("the next request came after %s", paused)
				}
				h.check()
			}, impatient)
		})
	}
}

// TestASplitOfWhatCannotBeSent is told as what may yet deliver: only the event that no receiver could get is dead.
func TestASplitOfWhatCannotBeSent(t *testing.T) {
	var log lockedBuffer
	inBubble(t, func(h *house) {
		pointers := strings.TrimSuffix(strings.Repeat(`{"$pointer": ""},`, 4), ",")
		cb := h.register("payment_proof", `"template": [`+pointers+`], "batch": {"max_events": 2, "max_wait": "2s", "max_bytes": 1048576}`)
		defer h.work()()
		e := proof("p-1")
		e.Payload = json.RawMessage(`{"requestId": "p-1", "status": "OK", "long": "` + strings.Repeat("x", payloads.MaxShaped/3) + `"}`)
		long, short := h.send(e).Deliveries[0].DeliveryID, h.send(proof("p-2")).Deliveries[0].DeliveryID
		h.drained(cb.ID, 5*time.Minute)
		if l, s := h.delivery(long), h.delivery(short); l.State != ledger.Dead || s.State != ledger.Delivered {
			t.Errorf("%s and %s", l.State, s.State)
		}
	}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if n := strings.Count(log.String(), "verdict=dead"); n != 1 {
		t.Errorf("%d attempts are told as dead, want 1:\n%s", n, log.String())
	}
}
