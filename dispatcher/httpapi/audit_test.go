package httpapi

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// audited says which line each operation that may change something leaves in the audit trail; "": none, for what it does is no change by hand
// of what the trail is about.
var audited = map[string]string{
	"create-callback": "callback.create", "update-callback": "callback.update", "delete-callback": "callback.delete",
	"pause-callback": "callback.pause", "resume-callback": "callback.resume", "rotate-secret": "callback.rotate_secret", "rotate-signing-key": "callback.rotate_key", "test-callback": "", "verify-callback": "", "dry-run": "", "dry-run-callback": "",
	"acknowledge-deliveries": "", "seek-callback": "callback.seek",
	"send-event": "", "send-events": "", "ask-decision": "", "erase-event": "event.erase", "erase-company": registry.ActionEraseCompany,
	"replay-delivery": "delivery.replay", "cancel-delivery": "delivery.cancel", "hasten-delivery": "delivery.now", "replay-callback": "replay.start", "cancel-replay": "replay.cancel", "replay-companies": "replay.start", "replay-company": "replay.start", "cancel-bulk-replay": "replay.cancel",
	"put-callback-type": "type.create", "delete-callback-type": "type.delete", "pause-egress": "egress.pause", "resume-egress": "egress.resume", "set-lanes": "lanes.update",
	"set-company-quotas": "quotas.update", "set-quotas": "quotas.update", "monitoring-login": "", "monitoring-logout": "",
	"set-company-tls": "company_tls.update", "delete-company-tls": "company_tls.delete",
	"revoke-key": "apikey.revoke", "create-portal-link": "portal_link.create", "revoke-portal-link": "portal_link.revoke",
}

type auditDoc struct {
	Entries []registry.AuditEntry `json:"entries"`
	Next    string                `json:"next_cursor"`
}

// trail is what an actor sees of the audit trail, newest first.
func (h *house) trail(actor, query string) []registry.AuditEntry {
	h.t.Helper()
	var all []registry.AuditEntry
	for cursor := ""; ; {
		var page auditDoc
		h.must(json.Unmarshal(h.call(actor, "GET", "/audit?limit=500&cursor="+cursor+query, "").want(http.StatusOK).body, &page))
		all, cursor = append(all, page.Entries...), page.Next
		if cursor == "" {
			return all
		}
	}
}

// during are the lines that the trail got by what is done.
func (h *house) during(do func()) []registry.AuditEntry {
	h.t.Helper()
	known := map[string]bool{}
	for _, e := range h.trail("operator", "") {
		known[e.ID] = true
	}
	do()
	return slices.DeleteFunc(h.trail("operator", ""), func(e registry.AuditEntry) bool { return known[e.ID] })
}

// Every operation of the API's description that may change something leaves one line where it succeeds, by the key that asked, and none where it
// is refused. A new operation has to say here which.
func TestEachChangeLeavesOneLine(t *testing.T) {
	h := newHouse(t)
	for n, op := range h.guarded() {
		if op.method == "get" || op.method == "head" {
			continue
		}
		id := op.OperationID
		want, said := audited[id]
		if !said {
			t.Errorf("%s (%s): which line does it leave in the audit trail? say so in audited", op, id)
		}
		t.Run(id, func(t *testing.T) {
			h := h.in(t)
			h.afresh()
			r := h.request(op, 1000+n)
			switch id {
			case "resume-callback":
				h.call("operator", "POST", strings.Replace(r.path, "/resume", "/pause", 1), "").want(http.StatusOK)
			case "seek-callback":
				h.send("acme", "sought")
				r.body = `{"to":"end"}`
			case "resume-egress":
				h.call("operator", "POST", "/egress/pause", "").want(http.StatusOK)
			case "replay-callback":
				r.body = `{}`
			}
			for _, actor := range []string{"other partner", "acme viewer", "nobody", ""} {
				if got := h.during(func() { r.do(h, actor) }); len(got) != 0 {
					t.Errorf("refused to %q, and yet the trail says %+v", actor, got)
				}
			}
			if r.body != "" {
				broken := r
				broken.body = `{"nonsense":[1]}`
				if got := h.during(func() { broken.do(h, "operator") }); len(got) != 0 {
					t.Errorf("refused for its body, and yet the trail says %+v", got)
				}
			}
			got := h.during(func() {
				if a := r.do(h, "operator"); a.status >= 300 {
					t.Errorf("%s is answered %d: %s", op, a.status, a.body)
				}
			})
			switch {
			case want == "" && len(got) == 0:
			case len(got) != 1 || got[0].Action != want || got[0].Actor != h.keys["operator"][:12] || got[0].Object == "":
				t.Errorf("%s left %+v, want one line %q", op, got, want)
			}
		})
	}
}

// A partner sees what concerns its company, whoever did it, and nothing of others.
func TestTheAuditTrailOfOneCompany(t *testing.T) {
	h := newHouse(t)
	mine, theirs := h.register("acme"), h.register("other")
	h.call("partner", "PATCH", mine, `{"destination":{"url":"http://127.0.0.1:9/new?token=canary"},"auth":{"type":"bearer","token":"canary"}}`).want(http.StatusOK)
	h.call("operator", "PATCH", "/companies/acme/quotas", `{"callbacks":50}`).want(http.StatusOK)
	h.call("operator", "POST", theirs+"/pause", "").want(http.StatusOK)
	h.call("operator", "PUT", "/callback-types/mine", `{}`).want(http.StatusCreated)
	for _, actor := range []string{"partner", "acme operator"} {
		lines := h.trail(actor, "")
		seen := map[string]bool{}
		for _, e := range lines {
			seen[e.Action] = true
			if e.Company != "acme" {
				t.Errorf("%s sees %+v", actor, e)
			}
		}
		for _, action := range []string{"callback.create", "callback.update", "quotas.update"} {
			if !seen[action] {
				t.Errorf("%s does not see %s", actor, action)
			}
		}
		h.call(actor, "GET", "/audit?company=other", "").wantProblem(http.StatusNotFound)
	}
	if a := h.call("operator", "GET", "/audit?company=acme", "").want(200); strings.Contains(string(a.body), "canary") || strings.Contains(string(a.body), "whsec_") {
		t.Errorf("a secret is in the trail: %s", a.body)
	}
	companies := map[string]bool{}
	for _, e := range h.trail("operator", "") {
		companies[e.Company] = true
	}
	if !companies["acme"] || !companies["other"] || !companies[""] {
		t.Errorf("an operator of all sees %v", companies)
	}
	h.call("operator", "GET", "/audit?cursor=nonsense", "").wantFault("query.cursor")
	h.call("operator", "GET", "/audit?since=yesterday", "").wantProblem(http.StatusUnprocessableEntity)

	h.call("operator", "DELETE", "/companies/acme?confirm=acme", "").want(http.StatusOK)
	if left := h.trail("operator", "&company=acme"); len(left) != 1 || left[0].Action != registry.ActionEraseCompany || left[0].Actor != h.keys["operator"][:12] {
		t.Errorf("erased, the company leaves %+v", left)
	}
}
