package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const (
	narrowTo = `"destination":{"url":"https://partner.example/hook"}`
	paidOnly = `{"pointer":"/status","op":"equals","value":"<paid>"}`
)

func doc(payload string) func() payloads.Document {
	return func() payloads.Document { return payloads.ReadDocument(json.RawMessage(payload)) }
}

// shown is a member of a callback's JSON.
func shown(t *testing.T, cb *registry.Callback, name string) string {
	t.Helper()
	text, err := cb.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	return string(members[name])
}

// TestFilterAndTemplateOfACallback: they are stored, shown as they were given, replaced whole by a patch, and kept by one that is about something else.
func TestFilterAndTemplateOfACallback(t *testing.T) {
	h := newHouse(t)
	const filter = `{"all":[` + paidOnly + `,{"pointer":"/n","op":"gt","value":1.50}]}`
	const template = `{"z":{"$pointer":"/a","$default":null},"a":{"none":null,"html":"<&>"}}`
	cb := h.create("acme", `{"callback_type":"*",`+narrowTo+`,"filter": `+filter+`,"template":`+template+`}`)
	same := func(what string, cb *registry.Callback, filter, template string) {
		t.Helper()
		if got := shown(t, cb, "filter"); got != filter {
			t.Errorf("%s: filter %s", what, got)
		}
		if got := shown(t, cb, "template"); got != template {
			t.Errorf("%s: template %s", what, got)
		}
	}
	patch := func(text string) *registry.Callback {
		t.Helper()
		next, err := h.Patch(t.Context(), "acme", cb.ID, []byte(text))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return next
	}
	same("created", cb, filter, template)
	same("read", h.get("acme", cb.ID), filter, template)
	same("read by another process", h.neighbour().get("acme", cb.ID), filter, template)

	other := patch(`{"timeout":"20s"}`)
	same("another member patched", other, filter, template)
	if again := patch(`{"filter":` + filter + `,"template":` + template + `}`); again.Version != other.Version {
		t.Error("to give the same again changes the callback")
	}
	const anyOf, list = `{"any":[{"pointer":"/n","op":"exists"}]}`, `[{"$pointer":"/n"},null]`
	same("replaced whole", patch(`{"filter":`+anyOf+`,"template":`+list+`}`), anyOf, list)
	same("taken back", patch(`{"filter":null,"template":null}`), "", "")
}

// TestFiltersNarrowTheMatch: filters decide after everything else, and the clause is named.
func TestFiltersNarrowTheMatch(t *testing.T) {
	h := newHouse(t)
	exact := h.create("acme", `{"callback_type":"payment_proof",`+narrowTo+`,"filter":`+paidOnly+`}`)
	glob := h.create("acme", `{"callback_type":"payment_*",`+narrowTo+`,"filter":{"not":[`+paidOnly+`]}}`)
	plain := h.create("acme", `{"callback_type":"payment_proof",`+narrowTo+`}`)
	for payload, want := range map[string][]int64{
		`{"status":"<paid>"}`: {exact.ID, plain.ID}, `{"status":"open"}`: {glob.ID, plain.ID}, `{}`: {glob.ID, plain.ID}, `{`: {glob.ID, plain.ID},
	} {
		if err := h.Refresh(t.Context(), "acme", h.version(t.Context(), "acme")); err != nil {
			t.Fatal(err)
		}
		_, matched, err := h.Match(t.Context(), "acme", "payment_proof", nil, time.Now(), doc(payload))
		if err != nil || fmt.Sprint(ids(matched)) != fmt.Sprint(want) {
			t.Errorf("%s goes to %v, not %v (%v)", payload, ids(matched), want, err)
		}
	}
	for _, tt := range []struct {
		cb            *registry.Callback
		payload, want string
		clause        string
	}{
		{exact, `{"status":5}`, `The callback's filter asks for /status equals "<paid>", and the event has a number there.`, "filter"},
		{glob, `{"status":"<paid>"}`, `The callback's filter.not[0] asks for anything but /status equals "<paid>", and the event has that.`, "filter.not[0]"},
		{exact, `{"status":"<paid>"}`, "The callback is for payment_proof and takes every event of type payment_proof. Its filter holds.", ""},
	} {
		matched, why, miss := h.Decide(tt.cb, "payment_proof", nil, time.Now(), doc(tt.payload))
		if why != tt.want || matched != (tt.clause == "") || miss != nil && miss.Location != tt.clause {
			t.Errorf("%s: %t, %q, %+v", tt.payload, matched, why, miss)
		}
	}
	if matched, _, _ := h.Decide(exact, "payment_proof", nil, time.Now(), nil); matched {
		t.Error("a payload that nobody knows matches")
	}
}

// TestPayloadsAreReadOnceForAllFilters counts: one reading however many callbacks look, and none where nobody does.
func TestPayloadsAreReadOnceForAllFilters(t *testing.T) {
	h := newHouse(t)
	for range 50 {
		h.create("many", `{"callback_type":"*",`+narrowTo+`,"filter":`+paidOnly+`}`)
		h.create("none", `{"callback_type":"*",`+narrowTo+`}`)
	}
	h.create("none", `{"callback_type":"customer.*",`+narrowTo+`,"filter":`+paidOnly+`}`)
	for company, want := range map[string]int{"many": 1, "none": 0} {
		reads := 0
		_, matched, err := h.Match(t.Context(), company, "payment_proof", nil, time.Now(), func() payloads.Document {
			reads++
			return doc(`{"status":"<paid>"}`)()
		})
		if err != nil || len(matched) != 50 || reads != want {
			t.Errorf("%s: %d matched, %d times read, want %d (%v)", company, len(matched), reads, want, err)
		}
	}
}

// TestFiltersAreHeldAgainstTheType: what a schema rules out is refused when it is given, and a schema that changes afterwards changes nothing for who has one.
func TestFiltersAreHeldAgainstTheType(t *testing.T) {
	h := newHouse(t)
	put := func(name, schema string) {
		t.Helper()
		if _, err := h.Types().Put(t.Context(), payloads.Type{Name: name, Schema: json.RawMessage(schema)}); err != nil {
			t.Fatal(err)
		}
	}
	const wide, tight = `{"type":"object"}`, `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"integer"},"status":{"type":"integer"}}}`
	put("order.placed", tight)
	put("order.paid", tight)
	for registration, want := range map[string]string{
		`"callback_type":"order.placed","filter":{"pointer":"/total","op":"gt","value":5}`:                                                   `body.filter.pointer leads nowhere: the schema of order.placed has no place for it`,
		`"callback_type":"order.placed","filter":` + paidOnly:                                                                                `body.filter.value cannot be: the schema of order.placed does not allow it at /status`,
		`"callback_type":"order.*","filter":{"all":[{"pointer":"/total","op":"exists"}]}`:                                                    `body.filter.all[0].pointer leads nowhere`,
		`"callback_type":"order.placed","template":{"t":{"$pointer":"/total"}}`:                                                              `body.template.t["$pointer"] leads nowhere`,
		`"callback_type":"order.placed","filter":{"pointer":"total","op":"is"}`:                                                              `body.filter.op must be one of equals`,
		`"callback_type":"order.placed","template":[1],"destination":{"url":"https://x","content_type":"application/x-www-form-urlencoded"}`: `body.template does not go with destination.content_type`,
		`"callback_type":"order.placed","template":{"t":{"$ponter":"/total"}}`:                                                               `body.template.t["$ponter"] is not known`,
		`"callback_type":"order.placed","filter":{"pointer":"/id","op":"exists","op":"equals","value":"x"}`:                                  `body.filter.op is given twice`,
	} {
		if !strings.Contains(registration, "destination") {
			registration += `,` + narrowTo
		}
		_, err := h.Create(t.Context(), "acme", []byte(`{`+registration+`}`))
		if e, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(e.Error(), want) {
			t.Errorf("%s: %v", registration, err)
		}
	}
	put("order.paid", wide)
	loose := h.create("acme", `{"callback_type":"order.*","filter":{"pointer":"/total","op":"gt","value":5},`+narrowTo+`}`)
	put("order.paid", tight)
	if _, err := h.Patch(t.Context(), "acme", loose.ID, []byte(`{"timeout":"20s"}`)); err != nil {
		t.Errorf("a schema that changed keeps a timeout from being changed: %v", err)
	}
	if _, err := h.Patch(t.Context(), "acme", loose.ID, []byte(`{"filter":{"pointer":"/total","op":"gt","value":6}}`)); err == nil {
		t.Error("another filter is not held against the schema")
	}
	if _, err := h.Patch(t.Context(), "acme", loose.ID, []byte(`{"callback_type":"order.paid"}`)); err == nil {
		t.Error("the filter is not held against the schema of another type")
	}
}

// TestFiltersWaitForOlderProcesses: a process that does not know filters would send what does not match.
func TestFiltersWaitForOlderProcesses(t *testing.T) {
	h := newHouse(t)
	plain := h.create("acme", `{"callback_type":"*",`+narrowTo+`}`)
	end := h.beside(5)
	defer func() { _ = end(t.Context()) }()
	for _, member := range []string{`"filter":` + paidOnly, `"template":{"kind":"x"}`} {
		_, err := h.neighbour().Create(t.Context(), "acme", []byte(`{"callback_type":"*",`+narrowTo+`,`+member+`}`))
		if _, ok := errors.AsType[*registry.OldProcessError](err); !ok {
			t.Errorf("%s: %v", member, err)
		}
		if _, err = h.neighbour().Patch(t.Context(), "acme", plain.ID, []byte(`{`+member+`}`)); err == nil {
			t.Errorf("%s: patched", member)
		}
	}
}

// TestTheAuditTrailShowsFilters holds what of a filter and a template the audit trail has.
func TestTheAuditTrailShowsFilters(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", `{"callback_type":"*",`+narrowTo+`,"filter":`+paidOnly+`}`)
	if _, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"filter":null,"template":{"kind":"x"}}`)); err != nil {
		t.Fatal(err)
	}
	page, _, err := h.Audit(t.Context(), registry.AuditQuery{Company: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"filter.op"`, `"filter.value"`, `"template.kind"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

// BenchmarkFilters decides on one event for 10,000 callbacks with filters of three clauses each.
func BenchmarkFilters(b *testing.B) {
	f, err := payloads.ParseFilter(json.RawMessage(`{"all":[{"pointer":"/status","op":"in","value":["paid","open","late"]},{"pointer":"/amount/value","op":"gt","value":99.95},`+
		`{"not":[{"pointer":"/customer/country","op":"equals","value":"XX"}]}]}`), "filter")
	if err != nil {
		b.Fatal(err)
	}
	payload := `{"status":"paid","amount":{"value":100.05,"currency":"EUR"},"customer":{"id":"c-1","country":"DE"}}`
	for b.Loop() {
		d := payloads.ReadDocument(json.RawMessage(payload))
		for range 10_000 {
			if !f.Holds(d) {
				b.Fatal("it does not hold")
			}
		}
	}
}
