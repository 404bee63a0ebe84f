package dispatcher

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
)

const loud = `"filter": {"all": [{"pointer": "/status", "op": "equals", "value": "OK"}, {"pointer": "/total", "op": "gt", "value": 9007199254740992}]}`

// totalled is a payment proof of so much.
func totalled(id, total string) payloads.Event {
	e := proof(id)
	e.Payload = json.RawMessage(`{"requestId": "` + id + `", "status": "OK", "totalCfdi": "$1", "total": ` + total + `}`)
	return e
}

// TestFiltersDecideAtAcceptance: what matches is recorded, and what does not is explained by its clause, as the callback is when somebody asks.
func TestFiltersDecideAtAcceptance(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", loud)
	h.work()
	got := h.send(totalled("p-1", "9007199254740993"))
	not := h.send(totalled("p-2", "9007199254740992"))
	if len(got.Deliveries) != 1 || got.Deliveries[0].CallbackID != cb.ID || len(not.Deliveries) != 0 {
		t.Fatalf("delivered %+v and %+v", got.Deliveries, not.Deliveries)
	}
	why := func(event string) string {
		t.Helper()
		x, err := h.client.Explain(t.Context(), acme, event, ExplainQuery{})
		h.must(err)
		if len(x.Callbacks) != 1 {
			t.Fatalf("%+v", x)
		}
		return x.Callbacks[0].Decision + ": " + x.Callbacks[0].Why
	}
	const missed = "not_matched: The callback's filter.all[1] asks for /total gt 9007199254740992, and the event has another value there, a number."
	if said := why("p-2"); said != missed {
		t.Error(said)
	}
	_, err := h.registry.Patch(t.Context(), acme, cb.ID, []byte(`{"filter":{"pointer":"/total","op":"lt","value":1}}`))
	h.must(err)
	if said := why("p-1"); !strings.HasPrefix(said, "matched: It matched when the event was accepted") {
		t.Error(said)
	}
	if said := why("p-2"); !strings.Contains(said, "The callback's filter asks for /total lt 1") || !strings.Contains(said, "The callback was changed since") {
		t.Error(said)
	}
	if again := h.send(totalled("p-3", "0")); len(again.Deliveries) != 1 {
		t.Error("the next event is not matched by the filter as it is then")
	}
	h.awaitAll(5 * time.Second)
	h.check()
}

// TestATemplateThatChangesUnderRetries holds from the next attempt on, and each request is signed over what it carries.
func TestATemplateThatChangesUnderRetries(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", `"template": {"id": {"$pointer": "/requestId"}, "kind": "proof"}, "retry": {"initial_interval": "1m"}`)
	h.partner.answers(answering(503, 204))
	h.work()
	id := h.send(proof("p-1")).Deliveries[0].DeliveryID
	h.await(id, ledger.Retrying, 5*time.Second)
	_, err := h.registry.Patch(t.Context(), acme, cb.ID, []byte(`{"template":["$1",{"$pointer":"/voucherEffect"},{"$pointer":"/nothing"}]}`))
	h.must(err)
	_, err = h.client.Hasten(t.Context(), acme, id)
	h.must(err)
	d := h.await(id, ledger.Delivered, 10*time.Second)
	requests := h.partner.requests()
	if len(requests) != 2 {
		t.Fatalf("%d requests", len(requests))
	}
	for i, want := range []string{`{"id":"p-1","kind":"proof"}`, `["$1","Nómina",null]`} {
		if requests[i].body != want || requests[i].verified != nil {
			t.Errorf("request %d: %s (%v)", i+1, requests[i].body, requests[i].verified)
		}
	}
	h.must(h.client.ShowRequests(t.Context(), acme, d, Showing{Payload: true}))
	if r := d.Attempts[0].Request; r == nil || string(r.Body) != `{"id":"p-1","kind":"proof"}` && r.BodyMissing == "" {
		t.Errorf("shown: %+v", r)
	}
}

// TestTemplatesThatCannotBeSent: a body that no receiver could get is dead at once, and says why.
func TestTemplatesThatCannotBeSent(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	pointers := strings.TrimSuffix(strings.Repeat(`{"$pointer": ""},`, 4), ",")
	h.register("payment_proof", `"template": [`+pointers+`]`)
	h.work()
	e := proof("p-1")
	e.Payload = json.RawMessage(`{"requestId": "p-1", "status": "OK", "long": "` + strings.Repeat("x", payloads.MaxShaped/3) + `"}`)
	d := h.await(h.send(e).Deliveries[0].DeliveryID, ledger.Dead, 5*time.Second)
	if d.Attempts[0].Reason != verdict.ReasonEncodeFailed || !strings.Contains(d.Attempts[0].Detail, "too long a body") || len(h.partner.requests()) != 0 {
		t.Errorf("%+v", d.Attempts)
	}
}

// TestFiltersOfQuestions: who is asked for a decision may be narrowed by a filter, too.
func TestFiltersOfQuestions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register(verify, `"filter": {"pointer": "/entryCode", "op": "prefix", "value": "99"}`)
	here := h.register(verify, `"filter": {"pointer": "/entryCode", "op": "prefix", "value": "47"}, "template": {"code": {"$pointer": "/entryCode"}}`)
	h.partner.answers(deciding(200, "application/json", `{"accepted":true}`))
	answer, err := h.client.Ask(t.Context(), question())
	h.must(err)
	if r := h.partner.requests(); answer.CallbackID != here.ID || len(r) != 1 || r[0].body != `{"code":"4711"}` {
		t.Errorf("%+v, %+v", answer, r)
	}
}

// TestDryRun says what a delivery would do, and does none of it.
func TestDryRun(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", loud+`, "template": {"id": {"$pointer": "/requestId"}}, "headers": {"X-Key": "geheim"}, "auth": {"type": "bearer", "token": "t0ken"}`)
	run := func(patch, typ, payload string) *DryRunResult {
		t.Helper()
		draft, err := h.registry.PatchDraft(t.Context(), acme, cb.ID, []byte(patch))
		h.must(err)
		r, err := h.client.DryRun(t.Context(), draft, typ, json.RawMessage(payload))
		h.must(err)
		return r
	}
	r := run(`{}`, "", string(totalled("p-1", "9007199254740993").Payload))
	if !r.Matches || r.Miss != nil || string(r.Request.Body) != `{"id":"p-1"}` || r.Request.Headers["X-Key"] != "***" || r.Request.Headers["Authorization"] != "***" ||
		r.Request.Headers["Ringback-Event-Type"] != "payment_proof" || r.Request.Headers["Webhook-Signature"] == "" {
		t.Errorf("%+v, %+v", r, r.Request)
	}
	r = run(`{}`, "", string(totalled("p-1", "5").Payload))
	text, err := json.Marshal(r)
	h.must(err)
	const want = `"matches":false,"why":"The callback's filter.all[1] asks for /total gt 9007199254740992, and the event has another value there, a number.",` +
		`"clause":{"location":"filter.all[1]","pointer":"/total","op":"gt","value":9007199254740992}`
	if !strings.Contains(string(text), want) || r.Request == nil {
		t.Errorf("%s", text)
	}
	if r := run(`{"filter":null,"template":null}`, "", ""); !r.Matches || !json.Valid(r.Request.Body) {
		t.Errorf("the example: %+v", r)
	}
	if r := run(`{}`, "customer.updated", ""); r.Matches || !strings.Contains(r.Why, "is for payment_proof") {
		t.Errorf("another type: %+v", r)
	}
	if r := run(`{"template":{"$pointer":"/status"},"destination":{"content_type":"application/x-www-form-urlencoded"}}`, "", ""); r.Request != nil || !strings.Contains(r.RequestMissing, "encode_failed") {
		t.Errorf("what cannot be sent: %+v", r)
	}
	if _, err := h.client.DryRun(t.Context(), cb, "", json.RawMessage(`[]`)); err == nil || !strings.Contains(err.Error(), "body.payload") {
		t.Errorf("a payload that does not fit: %v", err)
	}
	if got := h.partner.requests(); len(got) != 0 {
		t.Errorf("%d requests were made", len(got))
	}
	if after, err := h.registry.Get(t.Context(), acme, cb.ID); err != nil || after.Version != cb.Version {
		t.Errorf("the callback changed: %v", err)
	}
	draft, err := h.registry.Draft(t.Context(), acme, []byte(`{"callback_type":"payment_*","destination":{"url":"`+h.partner.url("x")+`"}}`))
	h.must(err)
	if _, err := h.client.DryRun(t.Context(), draft, "", nil); err == nil || !strings.Contains(err.Error(), "body.event_type") {
		t.Errorf("a glob without a type: %v", err)
	}
}

// TestLargeFanOutsAreFiltered: the pages of a large fan-out hold those that match, and no others.
func TestLargeFanOutsAreFiltered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const n = fanOutPage + 20
	for i := range 2 * n {
		value := fmt.Sprint(i % 2)
		_, err := h.registry.Create(t.Context(), acme, []byte(`{"callback_type":"payment_proof","destination":{"url":"`+h.partner.url("x")+`"},"filter":{"pointer":"/total","op":"equals","value":`+value+`}}`))
		h.must(err)
	}
	r, err := h.client.Send(t.Context(), totalled("p-1", "1"))
	h.must(err)
	x, err := h.client.Explain(t.Context(), acme, "p-1", ExplainQuery{Limit: 2 * n})
	h.must(err)
	matched := 0
	for _, d := range x.Callbacks {
		if d.Decision == "matched" {
			matched++
		}
	}
	if !r.Expanding || matched != n || len(x.Callbacks) != 2*n {
		t.Errorf("%d of %d matched", matched, len(x.Callbacks))
	}
}
