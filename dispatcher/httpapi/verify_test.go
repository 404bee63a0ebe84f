package httpapi

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// wantProof makes a house want proof of control.
func (h *house) wantProof() {
	h.t.Helper()
	keyset, err := registry.NewKeyset()
	h.must(err)
	h.api.Registry, err = registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: keyset, Logger: h.api.Logger, VerifyDestinations: true})
	h.must(err)
	h.client, err = dispatcher.New(dispatcher.Config{Redis: h.rdb, Registry: h.api.Registry, Egress: h.egress, Logger: h.api.Logger})
	h.must(err)
	h.t.Cleanup(func() { _ = h.client.Close() })
	h.api.Client = h.client
}

// TestProofOfControl: a callback is challenged when it is registered and when its URL changes, the answers say what came of it, and it can be
// challenged again.
func TestProofOfControl(t *testing.T) {
	h := newHouse(t)
	h.wantProof()
	partner, wants := newAgreeing(t)
	register := func(actor string) answer {
		t.Helper()
		return h.call(actor, "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"`+partner.URL+`/hook"}}`).want(http.StatusCreated)
	}

	refused := register("partner")
	doc := refused.json()
	at := refused.header.Get("Location")
	if doc["status"] != "unverified" || doc["unverified_reason"] != "status_404" || doc["status_at"] == nil || !strings.HasPrefix(doc["secret"].(string), "whsec_") {
		t.Errorf("registered as %s", refused.body)
	}
	if doc := h.call("partner", "POST", at+"/resume", "").want(http.StatusOK).json(); doc["status"] != "unverified" {
		t.Errorf("resumed as %v", doc["status"])
	}
	h.call("partner", "POST", at+"/test", "").wantProblem(http.StatusConflict)
	if list := h.call("partner", "GET", "/companies/acme/config/callbacks?status=unverified", "").want(http.StatusOK); !strings.Contains(string(list.body), `"callback_id":1,`) {
		t.Errorf("unverified are %s", list.body)
	}
	if doc := h.call("partner", "POST", at+"/verify", "").want(http.StatusOK).json(); doc["verified"] != false || doc["status"] != "unverified" || doc["status_code"] != 404.0 || doc["reason"] != "status_404" {
		t.Errorf("challenged in vain: %v", doc)
	}
	wants.Store(true)
	if doc := h.call("partner", "POST", at+"/verify", "").want(http.StatusOK).json(); doc["verified"] != true || doc["status"] != "enabled" {
		t.Errorf("challenged: %v", doc)
	}
	if doc := h.call("partner", "PATCH", at, `{"description":"for people"}`).want(http.StatusOK).json(); doc["status"] != "enabled" {
		t.Errorf("described: %v", doc["status"])
	}
	wants.Store(false)
	if doc := h.call("partner", "PATCH", at, `{"destination":{"url":"`+partner.URL+`/moved"}}`).want(http.StatusOK).json(); doc["status"] != "unverified" || doc["unverified_reason"] != "status_404" || doc["secret"] != nil {
		t.Errorf("moved in vain: %v", doc)
	}
	wants.Store(true)
	if doc := h.call("partner", "PATCH", at, `{"destination":{"url":"`+partner.URL+`/third"}}`).want(http.StatusOK).json(); doc["status"] != "enabled" {
		t.Errorf("moved: %v", doc)
	}
	if doc := register("operator").json(); doc["status"] != "enabled" || doc["unverified_reason"] != nil {
		t.Errorf("registered as %v", doc)
	}

	h.call("other partner", "POST", at+"/verify", "").wantProblem(http.StatusNotFound)
	h.call("producer", "POST", at+"/verify", "").wantProblem(http.StatusForbidden)
	wants.Store(false)
	for range 20 {
		h.call("partner", "POST", at+"/verify", "").want(http.StatusOK)
	}
	late := h.call("partner", "POST", at+"/verify", "")
	if p := late.wantProblem(http.StatusTooManyRequests); late.header.Get("Retry-After") == "" || !strings.Contains(p.Detail, "challenges") {
		t.Errorf("the 21st: %v %+v", late.header, p)
	}
	if doc := register("partner").json(); doc["status"] != "unverified" || doc["unverified_reason"] != nil || doc["secret"] == nil {
		t.Errorf("registered while no challenge may go out: %v", doc)
	}
}

// newAgreeing starts an endpoint that agrees to be called while it wants to.
func newAgreeing(t *testing.T) (partner *httptest.Server, wants *atomic.Bool) {
	wants = new(atomic.Bool)
	partner = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !wants.Load() || r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(partner.Close)
	return partner, wants
}

// TestChallengesOfChangesAreTests: of what a key registers and moves, no more endpoints are challenged at once than it may test. A change whose
// challenge was not sent brings it when it is repeated.
func TestChallengesOfChangesAreTests(t *testing.T) {
	h := newHouse(t)
	h.wantProof()
	var asked atomic.Int32
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	defer partner.Close()
	key, err := h.api.Keys.Authenticate(t.Context(), h.keys["partner"])
	h.must(err)
	var ends []func()
	for range registry.MaxTests {
		end, ok, err := h.api.Keys.BeginTest(t.Context(), key, time.Minute)
		if h.must(err); !ok {
			t.Fatal("no test may be made")
		}
		ends = append(ends, end)
	}
	made := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"url":"`+partner.URL+`/hook"}}`).want(http.StatusCreated)
	if doc := made.json(); doc["status"] != "unverified" || doc["unverified_reason"] != nil || asked.Load() > 0 {
		t.Errorf("registered beside %d tests: %s, %d requests", registry.MaxTests, made.body, asked.Load())
	}
	for _, end := range ends {
		end()
	}
	same := `{"destination":{"url":"` + partner.URL + `/hook"}}`
	if doc := h.call("partner", "PATCH", made.header.Get("Location"), same).want(http.StatusOK).json(); doc["status"] != "enabled" {
		t.Errorf("the same again: %v", doc)
	}
}
