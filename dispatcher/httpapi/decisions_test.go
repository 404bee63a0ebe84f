package httpapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

// A decisionHouse has a partner that decides.
type decisionHouse struct {
	*house
	partner *httptest.Server
	reply   atomic.Pointer[http.HandlerFunc]
}

func newDecisionHouse(t *testing.T) *decisionHouse {
	h := &decisionHouse{house: newHouse(t)}
	h.partner = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*h.reply.Load())(w, r) }))
	t.Cleanup(h.partner.Close)
	return h
}

// answers is what the partner says from now on.
func (h *decisionHouse) answers(status int, contentType, body string) {
	h.reply.Store(new(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = fmt.Fprint(w, body)
	})))
}

// hangs makes the partner say nothing from now on.
func (h *decisionHouse) hangs() {
	h.reply.Store(new(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice that the other side hangs up
		<-r.Context().Done()
	})))
}

func (h *decisionHouse) ask(timeout string) answer {
	h.t.Helper()
	return h.call("producer", "POST", "/companies/acme/decisions",
		`{"event_type":"entry_code.verify","payload":{"entryCode":"4711"}`+timeout+`}`)
}

// registerDecider registers one more callback that decides.
func (h *decisionHouse) registerDecider() string {
	h.t.Helper()
	return h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"entry_code.verify","destination":{"url":"`+h.partner.URL+`/verify"},"auth":{"type":"bearer","token":"canary"}}`).
		want(http.StatusCreated).json()["url"].(string)
}

// TestDecisions: what a caller hears of a decision, and of one that did not come.
func TestDecisions(t *testing.T) {
	h := newDecisionHouse(t)
	h.ask("").wantProblem(http.StatusNotFound)
	h.registerDecider()

	h.answers(200, "application/json", `{"accepted":false,"customerId":"<17>"}`)
	decided := h.ask("").want(http.StatusOK)
	if m := decided.json(); m["callback_id"] != 1.0 || m["status_code"] != 200.0 || !strings.HasPrefix(m["decision_id"].(string), "dec_") || m["duration_ms"] == nil ||
		!strings.Contains(string(decided.body), `"body":{"accepted":false,"customerId":"<17>"}`) {
		t.Errorf("decided: %s", decided.body)
	}
	h.answers(204, "", "")
	if a := h.ask("").want(http.StatusOK); !strings.Contains(string(a.body), `"status_code":204,"body":null`) {
		t.Errorf("no content: %s", a.body)
	}

	h.answers(404, "application/json", `{"message":"Customer id c-17 not found, canary"}`)
	a := h.ask("")
	p := a.wantProblem(http.StatusBadGateway)
	m := a.json()
	if m["partner_status"] != 404.0 || m["reason"] != "status_404" || m["callback_id"] != 1.0 || m["partner_body"] != `{"message":"Customer id c-17 not found, ***"}` ||
		p.Detail != "callback 1 did not decide: answered 404 Not Found: Customer id c-17 not found, ***" {
		t.Errorf("not found: %s", a.body)
	}
	recorded := h.call("viewer", "GET", "/companies/acme/deliveries/"+m["decision_id"].(string), "").want(http.StatusOK).json()
	if recorded["decision_id"] != m["decision_id"] || recorded["state"] != "dead" {
		t.Errorf("recorded as %v", recorded)
	}
	h.answers(500, "text/plain", "")
	h.ask("").wantProblem(http.StatusBadGateway)
	h.answers(200, "application/json", `{"accepted":`)
	if m := h.ask("").json(); m["status"] != 502.0 || m["partner_status"] != 200.0 || m["reason"] != "malformed_answer" {
		t.Errorf("malformed: %v", m)
	}
	h.hangs()
	late := h.ask(`,"timeout":"100ms"`)
	late.wantProblem(http.StatusGatewayTimeout)
	if m := late.json(); m["partner_status"] != nil || m["reason"] != "timeout" || m["decision_id"] == nil {
		t.Errorf("late: %s", late.body)
	}

	list := h.call("partner", "GET", "/companies/acme/deliveries?kind=decision&state=dead", "").want(http.StatusOK).json()["deliveries"].([]any)
	if len(list) != 4 {
		t.Errorf("%d decisions did not come, want 4: %v", len(list), list)
	}
	if list := h.call("partner", "GET", "/companies/acme/deliveries", "").want(http.StatusOK).json()["deliveries"].([]any); len(list) != 0 {
		t.Errorf("deliveries: %v", list)
	}
}

// TestDecisionsNeedOneCallback: with none, several or a paused one nobody is asked.
func TestDecisionsNeedOneCallback(t *testing.T) {
	h := newDecisionHouse(t)
	h.ask("").wantProblem(http.StatusNotFound)
	first := h.registerDecider()
	second := h.registerDecider()
	several := h.ask("")
	several.wantProblem(http.StatusConflict)
	if fmt.Sprint(several.json()["callback_ids"]) != "[1 2]" || !strings.Contains(string(several.body), "1, 2") {
		t.Errorf("several: %s", several.body)
	}
	h.call("partner", "POST", first+"/pause", "").want(http.StatusOK)
	h.call("partner", "POST", second+"/pause", "").want(http.StatusOK)
	h.ask("").wantProblem(http.StatusConflict)
}

// TestQuestionsThatAreRefused: a problem names the member at fault.
func TestQuestionsThatAreRefused(t *testing.T) {
	h := newDecisionHouse(t)
	h.registerDecider()
	for body, location := range map[string]string{
		`{"event_type":"entry_code.verify","payload":{"entryCode":1}}`:                     "body.payload.entryCode",
		`{"event_type":"payment_proof","payload":{"requestId":"1","status":"OK"}}`:         "body.event_type",
		`{"event_type":"entry_code.verify","payload":{"entryCode":"1"},"timeout":"0s"}`:    "body.timeout",
		`{"event_type":"entry_code.verify","payload":{"entryCode":"1"},"timeout":"2m"}`:    "body.timeout",
		`{"event_type":"entry_code.verify","payload":{"entryCode":"1"},"timeout":3}`:       "body.timeout",
		`{"event_type":"entry_code.verify","payload":{"entryCode":"1"},"event_id":"mine"}`: "body.event_id",
		`{"event_type":"entry_code.verify","event_type":"x","payload":{"entryCode":"1"}}`:  "body.event_type",
		`{"payload":{"entryCode":"1"}}`:                                                    "body.event_type",
	} {
		h.call("producer", "POST", "/companies/acme/decisions", body).wantFault(location)
	}
}
