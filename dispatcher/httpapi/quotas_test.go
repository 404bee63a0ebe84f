package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Each quota refuses with its own status, and says its name, its value, and who can raise it.
func TestQuotas(t *testing.T) {
	h := newHouse(t)
	const quotas = "/companies/acme/quotas"
	says := func(detail string, words ...string) {
		t.Helper()
		for _, word := range append(words, "ask the operator") {
			if !strings.Contains(detail, word) {
				t.Errorf("%q does not say %q", detail, word)
			}
		}
	}
	callback := h.register("acme")
	shown := h.call("operator", "PATCH", quotas, `{"callbacks":1,"replays":1}`).want(http.StatusOK).json()
	if shown["callbacks"] != 1.0 || shown["replays"] != 1.0 || shown["waiting_bytes"] != nil || shown["used"].(map[string]any)["callbacks"] != 1.0 {
		t.Errorf("%v", shown)
	}
	p := h.call("partner", "POST", "/companies/acme/config/callbacks", hook).wantProblem(http.StatusUnprocessableEntity)
	says(p.Detail, "callbacks", " is 1,", "companies quotas acme --callbacks")
	h.call("partner", "POST", callback+"/replay", "").want(http.StatusAccepted)
	says(h.call("partner", "POST", callback+"/replay", "").wantProblem(http.StatusConflict).Detail, "replays", " is 1,")
	h.call("partner", "POST", callback+"/replay", `{"dry_run":true}`).want(http.StatusAccepted)

	h.call("operator", "PATCH", "/quotas", `{"callback_types":1}`).want(http.StatusOK)
	h.call("operator", "PUT", "/callback-types/one", `{}`).want(http.StatusCreated)
	says(h.call("operator", "PUT", "/callback-types/two", `{}`).wantProblem(http.StatusUnprocessableEntity).Detail, "callback_types", "'*' --callback-types")
	h.call("operator", "PUT", "/callback-types/one", `{"description":"d"}`).want(http.StatusOK)

	h.call("operator", "PATCH", quotas, fmt.Sprintf(`{"waiting_bytes":%d}`, len(payload)*2)).want(http.StatusOK)
	h.send("acme", "w-1")
	h.send("acme", "w-2")
	a := h.call("producer", "POST", "/companies/acme/events", event("w-3"))
	says(a.wantProblem(http.StatusTooManyRequests).Detail, "waiting_bytes", fmt.Sprint(len(payload)*2))
	if a.header.Get("Retry-After") != "10" {
		t.Errorf("Retry-After: %q", a.header.Get("Retry-After"))
	}
	batch := h.call("producer", "POST", "/companies/acme/events/batch", event("w-3")+"\n"+event("w-1")+"\n"+event("w-4")+"\n").want(http.StatusOK)
	var statuses []string
	for line := range bytes.Lines(batch.body) {
		var result struct {
			Status     int `json:"status"`
			RetryAfter int `json:"retry_after"`
		}
		h.must(json.Unmarshal(line, &result))
		statuses = append(statuses, fmt.Sprint(result.Status, " ", result.RetryAfter))
	}
	if got := strings.Join(statuses, ", "); got != "429 10, 200 0, 429 10" {
		t.Errorf("the batch's lines: %s", got)
	}
	h.call("operator", "PATCH", quotas, `{"waiting_bytes":null}`).want(http.StatusOK)
	h.call("producer", "POST", "/companies/acme/events", event("w-3")).want(http.StatusAccepted)

	for body, location := range map[string]string{
		`{"callbacks":-1}`: "body.callbacks", `{"callbacks":"many"}`: "body.callbacks", `{"waiting_bytes":0}`: "body.waiting_bytes",
		`{"replays":1.5}`: "body.replays", `{"used":{}}`: "body.used", `{"callback_types":1}`: "body.callback_types",
	} {
		h.call("operator", "PATCH", quotas, body).wantFault(location)
	}
	h.call("operator", "PATCH", quotas, `nonsense`).wantProblem(http.StatusBadRequest)
}
