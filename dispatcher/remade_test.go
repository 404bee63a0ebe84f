package dispatcher

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
)

// checkRemade verifies that whatever body is shown is the one that came, and that each delivery's last attempt shows one, if it was recorded.
func (h *house) checkRemade(ids []string) {
	h.t.Helper()
	came := h.came()
	for _, id := range ids {
		d := h.shown(id, everything)
		for i, a := range d.Attempts {
			switch {
			case a.Request == nil && i == len(d.Attempts)-1 && len(d.Attempts) > 1:
				h.t.Errorf("%s: attempt %d shows nothing: %s", id, a.Number, a.RequestMissing)
			case a.Request == nil: // its process died
			case string(a.Request.Body) != came[a.BatchID+" "+a.Request.Headers["Ringback-Attempt"]].body:
				h.t.Errorf("%s: attempt %d shows %q (%s)", id, a.Number, a.Request.Body, a.Request.BodyMissing)
			}
		}
	}
}

// TestBatchesAreMadeAgain for who looks at one of their deliveries, byte for byte, whatever shape the callback gives its elements, and without it.
func TestBatchesAreMadeAgain(t *testing.T) {
	const stamped = "entry_code.validation_failed"
	for name, tt := range map[string]struct {
		more    string
		deleted bool // the callback, by the time that somebody looks
	}{
		"payloads":               {`"batch": {"max_events": 3}`, false},
		"of a deleted callback":  {`"batch": {"max_events": 3}`, true},
		"envelopes":              {`"batch": {"max_events": 3, "element": "envelope"}`, false},
		"a template":             {`"batch": {"max_events": 3}, "template": {"all": {"$pointer": ""}, "n": 1.0}`, false},
		"events":                 {`"batch": {"max_events": 3}, "envelope": "cloudevents-structured"`, false},
		"enveloped, and deleted": {`"batch": {"max_events": 3, "element": "envelope"}`, true},
	} {
		t.Run(strings.NewReplacer(" ", "_", ",", "").Replace(name), func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(answering(503, 204))
				cb := h.register("*", tt.more+`, "retry": {"initial_interval": "1s"}`)
				defer h.work()()
				ids := h.sendMany("p-", 2)
				e := payloads.Event{Company: acme, ID: "stamped", Type: stamped, Payload: []byte(`{"entryCode": "4711", "timeOfIssue": "2020-01-01T00:00:00.000Z", "reason": "é<&"}`)}
				ids = append(ids, h.send(e).Deliveries[0].DeliveryID)
				h.drained(cb.ID, time.Minute)
				if tt.deleted {
					h.must(h.registry.Delete(h.t.Context(), acme, cb.ID))
				}
				h.checkShown(ids)
				if n := len(h.partner.requests()); n != 2 {
					t.Errorf("%d requests", n)
				}
			})
		})
	}
}

// TestWhatABatchLacksIsSaid: the elements of events that were erased, or whose bodies left, or that would be made otherwise now, are missing, and the others are shown.
// An event that has an erased one's id is another.
func TestWhatABatchLacksIsSaid(t *testing.T) {
	for name, tt := range map[string]struct {
		do            func(h *house, callback int64)
		whole, second string // what is said of the body, and of the second element; empty: nothing is missing
		others        string // what is said of the other elements
	}{
		"nothing": {func(*house, int64) {}, "", "", ""},
		"erased": {func(h *house, _ int64) {
			h.must(second(h.client.EraseEvent(h.t.Context(), acme, "p-1", "")))
		}, "of its 3 elements one is missing: " + elementGone, elementGone, ""},
		"erased, and sent anew": {func(h *house, callback int64) {
			h.must(second(h.registry.Pause(h.t.Context(), acme, callback)))
			h.must(second(h.client.EraseEvent(h.t.Context(), acme, "p-1", "")))
			h.must(second(h.client.Send(h.t.Context(), proof("p-1"))))
		}, "of its 3 elements one is missing: " + elementGone, elementGone, ""},
		"without its body": {func(h *house, _ int64) {
			h.must(h.rdb.HDel(h.t.Context(), ledger.EventKey(acme, "p-1"), "b").Err())
		}, "of its 3 elements one is missing: " + elementLeft, elementLeft, ""},
		"another body": {func(h *house, _ int64) {
			h.must(h.rdb.HSet(h.t.Context(), ledger.EventKey(acme, "p-1"), "b", `{"requestId": "p-1"}`).Err())
		}, "of its 3 elements one is missing: " + elementChanged, elementChanged, ""},
		"another template": {func(h *house, callback int64) {
			h.must(second(h.registry.Patch(h.t.Context(), acme, callback, []byte(`{"template": {"n": 1}}`))))
		}, "of its 3 elements 3 are missing, the last of them because " + elementChanged, elementChanged, elementChanged},
		"of a version before": {func(h *house, callback int64) {
			for _, key := range h.keys() {
				if strings.HasPrefix(key, "{acme}:batch:") {
					field := fmt.Sprintf("q%d.1", callback)
					text := h.rdb.HGet(h.t.Context(), key, field).Val()
					head, rest, _ := strings.Cut(text, "\n")
					var doc map[string]json.RawMessage
					h.must(json.Unmarshal([]byte(head), &doc))
					delete(doc, "c")
					without, _ := json.Marshal(doc)
					h.must(h.rdb.HSet(h.t.Context(), key, field, string(without)+"\n"+rest).Err())
				}
			}
		}, batchUnknown, "-", "-"},
	} {
		t.Run(strings.NewReplacer(" ", "_", ",", "").Replace(name), func(t *testing.T) {
			inBubble(t, func(h *house) {
				cb := h.register("payment_proof", `"batch": {"max_events": 3}`)
				h.must(second(h.client.Send(h.t.Context(), payloads.Event{Company: "other", ID: "p-1", Type: "payment_proof", Payload: []byte(`{"requestId": "canary", "status": "OK"}`)})))
				stop := h.work()
				ids := h.sendMany("p-", 3)
				h.drained(cb.ID, time.Minute)
				stop()
				tt.do(h, cb.ID)
				r := h.shown(ids[0], everything).Attempts[0].Request
				if r == nil || r.BodyMissing != tt.whole || (r.Body == nil) != (tt.whole != "") {
					t.Fatalf("it shows %+v", r)
				}
				if tt.second == "-" {
					if r.Elements != nil {
						t.Errorf("it shows %+v", r.Elements)
					}
					return
				}
				for i, e := range r.Elements {
					want := Element{DeliveryID: ids[i], EventID: fmt.Sprint("p-", i), Missing: tt.others}
					if i == 1 {
						want.Missing = tt.second
					}
					if want.Missing == elementGone {
						want.DeliveryID, want.EventID = "", ""
					}
					if tt.whole != "" && want.Missing == "" {
						want.Body = string(proof(want.EventID).Payload)
					}
					if e != want {
						t.Errorf("element %d is %+v, want %+v", i, e, want)
					}
				}
				blind := h.shown(ids[0], Showing{}).Attempts[0].Request
				if text, _ := json.Marshal(blind); blind.Body != nil || blind.BodyMissing != hiddenPayload || strings.Contains(string(text), "requestId") || len(blind.Elements) != 3 {
					t.Errorf("who may not see payloads sees %s", text)
				}
			})
		})
	}
}

// TestABatchShowsWhoWasInIt at each attempt, though some left it between them: cancelled, erased, or taken where the others were not.
func TestABatchShowsWhoWasInIt(t *testing.T) {
	for name, tt := range map[string]struct {
		first reply // to the first request
		leave func(h *house, id string)
	}{
		"cancelled": {reply{status: 503}, func(h *house, id string) { h.must(second(h.client.Cancel(h.t.Context(), acme, id))) }},
		"erased":    {reply{status: 503}, func(h *house, _ string) { h.must(second(h.client.EraseEvent(h.t.Context(), acme, "p-1", ""))) }},
		"taken":     {reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: `{"results":[{"id":"p-1","status":200}]}`}, func(*house, string) {}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				requests := 0
				h.partner.answers(func(*http.Request, int) reply {
					if requests++; requests == 1 {
						return tt.first
					}
					return reply{status: 204}
				})
				cb := h.register("payment_proof", `"batch": {"max_events": 3, "results": true}, "retry": {"initial_interval": "1m"}`)
				defer h.work()()
				ids := h.sendMany("p-", 3)
				h.await(ids[0], ledger.Retrying, time.Minute)
				tt.leave(h, ids[1])
				h.drained(cb.ID, 5*time.Minute)
				d := h.shown(ids[0], everything)
				if len(d.Attempts) != 2 || d.Attempts[0].BatchID == d.Attempts[1].BatchID {
					t.Fatalf("%+v", d.Attempts)
				}
				came := h.came()
				for i, want := range []int{3, 2} {
					a := d.Attempts[i]
					if len(a.Request.Elements) != want {
						t.Errorf("attempt %d shows %+v", a.Number, a.Request.Elements)
					}
					if missing := name == "erased" && i == 0; missing != (a.Request.BodyMissing != "") || !missing && string(a.Request.Body) != came[fmt.Sprint(a.BatchID, " ", i+1)].body {
						t.Errorf("attempt %d shows %q: %s", a.Number, a.Request.Body, a.Request.BodyMissing)
					}
				}
			})
		})
	}
}

// TestBodiesOfBatchesAreBoundedTogether: the latest attempt's is shown, and not all that go before.
func TestBodiesOfBatchesAreBoundedTogether(t *testing.T) {
	for _, sizes := range [][]int{{maxJoined + 1, 10}, {maxJoined / 2, maxJoined / 2}} { // a single element may be longer
		r := remaker{show: everything, left: maxJoined}
		for i, size := range sizes {
			request := &Request{}
			r.put(request, []Element{{Body: strings.Repeat("x", size)}})
			if shown := i == 0; shown != (request.Body != nil) || shown != (request.BodyMissing == "") || request.Elements[0].Body != "" {
				t.Errorf("%d of %v: %d bytes, %q", i, sizes, len(request.Body), request.BodyMissing)
			}
		}
	}
}
