package registry_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// TestOrderingOfACallback: it is stored, shown, changed by members, taken away, told to the scripts, and written into the audit trail.
func TestOrderingOfACallback(t *testing.T) {
	h := newHouse(t)
	cb := h.create("acme", `{"callback_type":"*",`+narrowTo+`,"ordering":{"key":"/customerId"}}`)
	check := func(what string, cb *registry.Callback, want, by string) {
		t.Helper()
		if got := shown(t, cb, "ordering"); got != want {
			t.Errorf("%s: ordering %s, want %s", what, got, want)
		}
		if got, _ := h.redis.HGet(t.Context(), registry.HealthKey("acme", cb.ID), "by").Result(); got != by {
			t.Errorf("%s: the scripts read %q, want %q", what, got, by)
		}
		there, err := h.redis.SIsMember(t.Context(), "{acme}:ordered", cb.ID).Result()
		if err != nil || there != (want != "") {
			t.Errorf("%s: it is counted: %t (%v)", what, there, err)
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
	check("created", cb, `{"key":"/customerId"}`, "order 0")
	check("read by another process", h.neighbour().get("acme", cb.ID), `{"key":"/customerId"}`, "order 0")
	check("skip_after patched", patch(`{"ordering":{"skip_after":"24h"}}`), `{"key":"/customerId","skip_after":"24h"}`, "order 86400000")
	before := h.get("acme", cb.ID)
	if again := patch(`{"ordering":{"key":"/customerId","skip_after":"1440m"}}`); again.Version != before.Version {
		t.Error("to give the same again changes the callback")
	}
	check("another member patched", patch(`{"timeout":"20s"}`), `{"key":"/customerId","skip_after":"24h"}`, "order 86400000")
	check("without skip_after", patch(`{"ordering":{"skip_after":null}}`), `{"key":"/customerId"}`, "order 0")
	check("batches instead", patch(`{"ordering":null,"batch":{}}`), "", "batch 100 262144 5000 payload")
	check("taken away", patch(`{"batch":null}`), "", "")
	if text, err := json.Marshal(h.trail("acme")); err != nil || !strings.Contains(string(text), `"ordering.skip_after","old":null,"new":"24h"`) && !strings.Contains(string(text), `"field":"ordering.skip_after","new":"24h"`) {
		t.Errorf("the trail does not tell of it: %s, %v", text, err)
	}
}

// TestOrderingsAreChecked: what is wrong is said where it stands.
func TestOrderingsAreChecked(t *testing.T) {
	h := newHouse(t)
	put := func(schema string) {
		t.Helper()
		if _, err := h.Types().Put(t.Context(), payloads.Type{Name: "order.placed", Schema: json.RawMessage(schema)}); err != nil {
			t.Fatal(err)
		}
	}
	const wide, tight = `{"type":"object"}`, `{"type":"object","additionalProperties":false,"properties":{"id":{"type":"integer"},"list":{"type":"array"}}}`
	put(tight)
	for ordering, want := range map[string]string{
		`{"key":"/id"}`:                      "",
		`{"key":"/id","skip_after":"1s"}`:    "",
		`{"key":"/id","skip_after":"720h"}`:  "",
		`null`:                               "",
		`{}`:                                 "body.ordering.key is missing",
		`{"key":7}`:                          "body.ordering.key must be a string",
		`{"key":"id"}`:                       "body.ordering.key must be a JSON Pointer",
		`{"key":""}`:                         "body.ordering.key must be a JSON Pointer",
		`{"key":"/other"}`:                   "body.ordering.key leads nowhere: the schema of order.placed has no place for it",
		`{"key":"/list"}`:                    "body.ordering.key is to lead to a string, a number, true or false",
		`{"key":"/id","skip_after":"0s"}`:    "body.ordering.skip_after must be a duration",
		`{"key":"/id","skip_after":"721h"}`:  "body.ordering.skip_after must be a duration",
		`{"key":"/id","by":"x"}`:             "body.ordering.by is not known here",
		`"/id"`:                              "body.ordering must be an object",
		`{"key":"/id"},"batch":{}`:           "body.ordering (ordering) does not go with batch: ",
		`{"key":"/id"},"filter":` + paidOnly: "body.filter.pointer leads nowhere", // both are looked at
	} {
		_, err := h.Create(t.Context(), "acme", []byte(`{"callback_type":"order.placed",`+narrowTo+`,"ordering":`+ordering+`}`))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", ordering, err, want)
		}
	}
	if _, err := h.Create(t.Context(), "acme", []byte(`{"callback_type":"entry_code.verify",`+narrowTo+`,"ordering":{"key":"/id"}}`)); err == nil || !strings.Contains(err.Error(), "does not go with a synchronous type") {
		t.Errorf("a synchronous type: %v", err)
	}

	// One that stays as it is is not held against a schema that changed since.
	put(wide)
	cb := h.create("acme", `{"callback_type":"order.placed",`+narrowTo+`,"ordering":{"key":"/other"}}`)
	put(tight)
	if _, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"ordering":{"skip_after":"2h"}}`)); err != nil {
		t.Error(err)
	}
	if _, err := h.Patch(t.Context(), "acme", cb.ID, []byte(`{"ordering":{"key":"/another"}}`)); err == nil {
		t.Error("a new key is not held against the schema")
	}
}

// TestSoManyCallbacksWithOrdering: a hundred of a company, and one more once one has gone.
func TestSoManyCallbacksWithOrdering(t *testing.T) {
	h := newHouse(t)
	const body = `{"callback_type":"*",` + narrowTo + `,"ordering":{"key":"/a"}}`
	for range registry.MaxOrdered {
		h.create("acme", body)
	}
	_, err := h.Create(t.Context(), "acme", []byte(body))
	if _, ok := errors.AsType[*payloads.InvalidError](err); !ok || !strings.Contains(err.Error(), "body.ordering may not be given: 100 callbacks of this company have one") {
		t.Errorf("one more: %v", err)
	}
	plain := h.create("acme", `{"callback_type":"*",`+narrowTo+`}`)
	if _, err := h.Patch(t.Context(), "acme", plain.ID, []byte(`{"ordering":{"key":"/a"}}`)); err == nil {
		t.Error("one more by a patch")
	}
	if _, err := h.Patch(t.Context(), "acme", 1, []byte(`{"ordering":{"key":"/b"}}`)); err != nil {
		t.Errorf("one that has one may change it: %v", err)
	}
	h.create("other", body)
	if err := h.Delete(t.Context(), "acme", 2); err != nil {
		t.Fatal(err)
	}
	h.create("acme", body)
	if _, err := h.Patch(t.Context(), "acme", 1, []byte(`{"ordering":null}`)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Patch(t.Context(), "acme", plain.ID, []byte(`{"ordering":{"key":"/a"}}`)); err != nil {
		t.Errorf("where one has none any more: %v", err)
	}
}

// TestOrderingWaitsForOldProcesses: while one is alive that would send out of order, none has it.
func TestOrderingWaitsForOldProcesses(t *testing.T) {
	h := newHouse(t)
	plain := h.create("acme", `{"callback_type":"*",`+narrowTo+`}`)
	end := h.beside(5)
	defer func() { _ = end(t.Context()) }()
	_, err := h.neighbour().Create(t.Context(), "acme", []byte(`{"callback_type":"*",`+narrowTo+`,"ordering":{"key":"/a"}}`))
	_, err2 := h.neighbour().Patch(t.Context(), "acme", plain.ID, []byte(`{"ordering":{"key":"/a"}}`))
	for _, err := range []error{err, err2} {
		if _, old := errors.AsType[*registry.OldProcessError](err); !old || !strings.Contains(fmt.Sprint(err), "ordering") {
			t.Errorf("it is given beside an old process: %v", err)
		}
	}
}
