package httpapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// endpoint is a partner who answers with status and tells of each request.
func (h *house) endpoint(status int) (url string, got chan *http.Request) {
	h.t.Helper()
	got = make(chan *http.Request, 100)
	partner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		got <- r
	}))
	h.t.Cleanup(partner.Close)
	return partner.URL + "/hook", got
}

// registerAt makes a callback and returns its path.
func (h *house) registerAt(url, more string) string {
	h.t.Helper()
	return h.call("partner", "POST", "/companies/acme/config/callbacks", fmt.Sprintf(`{"destination":{"url":%q},%s}`, url, more)).want(http.StatusCreated).header.Get("Location")
}

// until asks for path until its answer suits; the test's own deadline ends it.
func (h *house) until(path string, suits func(map[string]any) bool) map[string]any {
	h.t.Helper()
	for {
		if m := h.call("operator", "GET", path, "").want(http.StatusOK).json(); suits(m) {
			return m
		}
		if err := h.t.Context().Err(); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestTryingACallbackOut(t *testing.T) {
	h := newHouse(t)
	url, got := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"payment_proof"`)
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	for _, body := range []string{"", `{}`, `{"event_type":null}`, `{"event_type":"payment_proof"}`} {
		a := h.call("partner", "POST", callback+"/test", body).want(http.StatusOK).json()
		r := <-got
		if id, _ := a["delivery_id"].(string); !strings.HasPrefix(id, "tst_") || r.Header.Get("Webhook-Id") != id {
			t.Errorf("%s: delivery_id %v, sent as %s", body, a["delivery_id"], r.Header.Get("Webhook-Id"))
		}
		if a["verdict"] != "delivered" || a["status_code"] != 204.0 || a["event_type"] != "payment_proof" || a["number"] != 1.0 || a["detail"] == "" {
			t.Errorf("%s: %v", body, a)
		}
	}
	if list := h.call("partner", "GET", "/companies/acme/deliveries", "").want(200); !strings.Contains(string(list.body), `"deliveries":[]`) {
		t.Errorf("something is kept: %s", list.body)
	}

	glob := h.registerAt(url, `"callback_type":"wallet_item_*"`)
	h.call("partner", "POST", glob+"/test", "").wantFault("body.event_type")
	h.call("partner", "POST", glob+"/test", `{"event_type":"payment_proof"}`).wantFault("body.event_type")
	h.call("partner", "POST", glob+"/test", `{"event_type":""}`).wantFault("body.event_type")
	h.call("partner", "POST", glob+"/test", `{"event_type":7}`).wantFault("body.event_type")
	h.call("partner", "POST", glob+"/test", `{"type":"payment_proof"}`).wantFault("body.type")
	h.call("partner", "POST", glob+"/test", `{"event_type":"wallet_item_remove"}`).want(http.StatusOK)
	h.call("partner", "POST", "/companies/acme/config/callbacks/9/test", "").wantProblem(http.StatusNotFound)

	failing, _ := h.endpoint(http.StatusTeapot)
	a := h.call("partner", "POST", h.registerAt(failing, `"callback_type":"payment_proof"`)+"/test", "").want(http.StatusOK).json()
	if a["verdict"] != "retry" || a["status_code"] != 418.0 || a["reason"] == nil {
		t.Errorf("%v", a)
	}
}

// An attempt may take a minute: the answer to a test has longer than the server gives others.
func TestTestsOutliveTheServersDeadline(t *testing.T) {
	h := newHouse(t)
	url, _ := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"payment_proof"`)
	server := httptest.NewUnstartedServer(h.api)
	server.Config.WriteTimeout = time.Nanosecond
	server.Start()
	t.Cleanup(server.Close)
	ask := func(path string) error {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, nil)
		h.must(err)
		r.Header.Set("Authorization", "Bearer "+h.keys["partner"])
		a, err := server.Client().Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = a.Body.Close() }()
		_, err = io.Copy(io.Discard, a.Body)
		return err
	}
	if err := ask(callback + "/pause"); err == nil {
		t.Fatal("the server's deadline does not hold")
	}
	if err := ask(callback + "/test"); err != nil {
		t.Error(err)
	}
}

func TestCallbacksTellHowTheyDo(t *testing.T) {
	h := newHouse(t)
	good, _ := h.endpoint(http.StatusNoContent)
	bad, _ := h.endpoint(http.StatusInternalServerError)
	idle := h.registerAt(good, `"callback_type":"payment_proof"`)
	held := h.registerAt(good, `"callback_type":"*"`)
	works := h.registerAt(good, `"callback_type":"*"`)
	fails := h.registerAt(bad, `"callback_type":"*","retry":{"max_attempts":1}`)
	h.call("partner", "POST", held+"/pause", "").want(http.StatusOK)
	h.work()
	h.send("acme", "e1")
	h.send("acme", "e2")

	if m := h.until(works, func(m map[string]any) bool { return m["pending"] == 0.0 && m["held"] == 0.0 }); m["last_success_at"] == nil || m["last_failure"] != nil || m["dead"] != 0.0 {
		t.Errorf("works: %v", m)
	}
	failed := h.until(fails, func(m map[string]any) bool { return m["dead"] == 2.0 })
	if f, _ := failed["last_failure"].(map[string]any); failed["last_success_at"] != nil || f["status_code"] != 500.0 || f["reason"] != "status_500" || f["detail"] == "" || f["at"] == nil || !strings.HasPrefix(f["delivery_id"].(string), "dlv_") {
		t.Errorf("fails: %v", failed)
	}
	if m := h.call("viewer", "GET", held, "").want(200).json(); m["held"] != 2.0 || m["oldest_waiting_at"] == nil || m["status"] != "paused" {
		t.Errorf("held: %v", m)
	}
	text := string(h.call("partner", "GET", idle, "").want(200).body)
	if !strings.HasSuffix(text, `"status":"enabled","pending":0,"held":0,"dead":0,"consecutive_failures":0,"breaker":"closed"}`+"\n") {
		t.Errorf("idle: %s", text)
	}
	// The list shows the same, each to its own.
	page := h.call("partner", "GET", "/companies/acme/config/callbacks", "").want(200).json()["callbacks"].([]any)
	for i, path := range []string{idle, held, works, fails} {
		one, err := json.Marshal(h.call("partner", "GET", path, "").json())
		h.must(err)
		entry, err := json.Marshal(page[i])
		h.must(err)
		if string(one) != string(entry) {
			t.Errorf("listed as %s, shown as %s", entry, one)
		}
	}
	// What was shown may be sent back as it is.
	h.call("partner", "PATCH", fails, string(h.call("partner", "GET", fails, "").body)).want(http.StatusOK)
}

// The life of a replay, as a partner leads it after an outage.
func TestReplays(t *testing.T) {
	h := newHouse(t)
	url, got := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"*"`)
	h.cancelThree(callback)
	path := callback + "/replay"

	if m := h.call("partner", "POST", path, "").want(http.StatusAccepted).json(); m["matched"] != 0.0 || fmt.Sprint(m["states"]) != "[dead]" {
		t.Errorf("of the dead there are none: %v", m)
	}
	dry := h.call("partner", "POST", path, `{"states":["cancelled"],"dry_run":true}`).want(http.StatusAccepted).json()
	if dry["matched"] != 3.0 || dry["state"] != "dry_run" || dry["replayed"] != 0.0 || dry["since"] != nil {
		t.Errorf("counted: %v", dry)
	}
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	started := h.call("partner", "POST", path, `{"states":["cancelled"]}`).want(http.StatusAccepted)
	m := started.json()
	replay := started.header.Get("Location")
	if replay != "/companies/acme/replays/"+m["replay_id"].(string) || m["state"] != "running" || m["matched"] != 3.0 || m["callback_id"] != 1.0 || m["created_at"] == nil || m["finished_at"] != nil {
		t.Errorf("started: %s at %s", started.body, replay)
	}
	h.call("partner", "DELETE", replay, "").want(http.StatusNoContent)
	if m := h.call("viewer", "GET", replay, "").want(200).json(); m["state"] != "cancelled" || m["finished_at"] == nil {
		t.Errorf("stopped: %v", m)
	}
	h.call("partner", "DELETE", replay, "").want(http.StatusNoContent) // again changes nothing
	h.call("partner", "POST", callback+"/resume", "").want(http.StatusOK)

	h.work()
	replay = h.call("partner", "POST", path, `{"states":["cancelled"]}`).want(http.StatusAccepted).header.Get("Location")
	if m := h.until(replay, func(m map[string]any) bool { return m["state"] == "done" }); m["replayed"] != 3.0 || m["finished_at"] == nil {
		t.Errorf("done: %v", m)
	}
	for range 3 {
		<-got
	}
	list := h.call("viewer", "GET", "/companies/acme/replays", "").want(200).json()["replays"].([]any)
	if first := list[0].(map[string]any); len(list) < 3 || first["state"] != "done" {
		t.Errorf("listed: %v", list)
	}
	if a := h.call("operator", "GET", "/companies/empty/replays", "").want(200); !strings.Contains(string(a.body), `"replays":[]`) {
		t.Errorf("%s", a.body)
	}
}

// TestAReplayWithoutABody is refused, and one of many says how many it skips. The explanation has it, too.
func TestAReplayWithoutABody(t *testing.T) {
	h := newHouse(t)
	url, _ := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"*"`)
	h.cancelThree(callback)
	list := h.call("partner", "GET", "/companies/acme/deliveries", "").want(http.StatusOK).json()["deliveries"].([]any)
	first := list[0].(map[string]any)
	event := first["event_id"].(string)
	h.must(h.rdb.HDel(t.Context(), "{acme}:ev:"+event, "b", "z").Err())
	a := h.call("partner", "POST", "/companies/acme/deliveries/"+first["delivery_id"].(string)+"/replay", "").want(http.StatusConflict)
	if !strings.Contains(string(a.body), "the body of its event is no longer kept") {
		t.Errorf("refused with %s", a.body)
	}
	dry := h.call("partner", "POST", callback+"/replay", `{"states":["cancelled"],"dry_run":true}`).want(http.StatusAccepted).json()
	if dry["matched"] != 2.0 || dry["body_left"] != 1.0 {
		t.Errorf("counted: %v", dry)
	}
	if x := h.call("producer", "GET", "/companies/acme/events/"+event, "").want(http.StatusOK).json(); x["body_left"] != true {
		t.Errorf("explained: %v", x)
	}
}

// TestReplaysCount: each condition of a replay narrows it.
func TestReplaysCount(t *testing.T) {
	h := newHouse(t)
	url, _ := h.endpoint(http.StatusNoContent)
	callback := h.registerAt(url, `"callback_type":"*"`)
	h.cancelThree(callback)
	path := callback + "/replay"
	for query, want := range map[string]float64{
		`{"states":["cancelled","dead"],"event_type":"wallet_item_install"}`:           3,
		`{"states":["cancelled"],"event_type":"payment_proof"}`:                        0,
		`{"states":["cancelled"],"since":"2020-01-01T00:00:00Z","until":null}`:         3,
		`{"states":["cancelled"],"until":"2020-01-01T00:00:00Z"}`:                      0,
		`{"states":["cancelled"],"since":"2120-01-01T00:00:00Z"}`:                      0,
		`{"states":["cancelled"],"reason":"status_500"}`:                               0,
		`{"states":["delivered"]}`:                                                     0,
		`{"states":null,"event_type":null,"reason":null,"dry_run":null,"since": null}`: 0,
	} {
		if !strings.Contains(query, "dry_run") {
			query = query[:len(query)-1] + `,"dry_run":true}`
		}
		if m := h.call("partner", "POST", path, query).want(http.StatusAccepted).json(); m["matched"] != want {
			t.Errorf("%s: matched %v, want %v", query, m["matched"], want)
		}
	}
}

// cancelThree leaves three cancelled deliveries to a callback of acme.
func (h *house) cancelThree(callback string) {
	h.t.Helper()
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	for i := range 3 {
		h.call("partner", "POST", h.send("acme", fmt.Sprintf("e%d", i))+"/cancel", "").want(http.StatusOK)
	}
	h.call("partner", "POST", callback+"/resume", "").want(http.StatusOK)
}

// TestReplaysThatAreRefused: a problem names the member at fault.
func TestReplaysThatAreRefused(t *testing.T) {
	h := newHouse(t)
	path := h.register("acme") + "/replay"
	for _, c := range []struct{ body, location string }{
		{`{"states":"dead"}`, "body.states"},
		{`{"states":[]}`, "body.states"},
		{`{"states":[1]}`, "body.states"},
		{`{"states":["dead","pending"]}`, "body.states[1]"},
		{`{"since":"yesterday"}`, "body.since"},
		{`{"until":7}`, "body.until"},
		{`{"since":"2026-01-02T00:00:00Z","until":"2026-01-02T00:00:00Z"}`, "body.until"},
		{`{"event_type":7}`, "body.event_type"},
		{`{"reason":7}`, "body.reason"},
		{`{"dry_run":"yes"}`, "body.dry_run"},
		{`{"dryrun":true}`, "body.dryrun"},
		{`[]`, "body"},
	} {
		h.call("partner", "POST", path, c.body).wantFault(c.location)
	}
	h.call("partner", "POST", path, `{`).wantProblem(http.StatusBadRequest)
	h.call("partner", "POST", "/companies/acme/config/callbacks/9/replay", "").wantProblem(http.StatusNotFound)
	for _, method := range []string{"GET", "DELETE"} {
		if p := h.call("partner", method, "/companies/acme/replays/rpl_none", "").wantProblem(http.StatusNotFound); !strings.Contains(p.Detail, "replay") {
			t.Errorf("%s: %s", method, p.Detail)
		}
	}
}

func TestTypesOfOperators(t *testing.T) {
	h := newHouse(t)
	const path = "/callback-types/customer.created"
	const full = `{"description":"A customer signed up.","schema":{"type":"object","required":["id"],"properties":{"id":{"type":"integer"}}},` +
		`"example":{"id":1,"shop":{"code":"hh"}},"match":{"shop":"/shop/code"},"success":"any_2xx","validation":"enforce"}`
	h.call("producer", "GET", path, "").wantProblem(http.StatusNotFound)
	created := h.call("operator", "PUT", path, full).want(http.StatusCreated)
	if got := created.header.Get("Location"); got != path {
		t.Errorf("Location = %q", got)
	}
	shown := h.call("producer", "GET", path, "").want(200)
	if string(shown.body) != string(created.body) {
		t.Errorf("created %s, shown %s", created.body, shown.body)
	}
	if m := shown.json(); m["builtin"] != false || m["validation"] != "enforce" || m["success"] != "any_2xx" || m["match"].(map[string]any)["shop"] != "/shop/code" {
		t.Errorf("%s", shown.body)
	}
	// As it was shown it may be sent back.
	if again := h.call("operator", "PUT", path, string(shown.body)).want(http.StatusOK); string(again.body) != string(shown.body) {
		t.Errorf("sent back %s, stored %s", shown.body, again.body)
	}
	h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"customer.created","customer.created":{"shop":"hh"},"destination":{"url":"http://127.0.0.1:9/"}}`).want(http.StatusCreated)
	post := func(payload string) answer {
		return h.call("producer", "POST", "/companies/acme/events", `{"event_type":"customer.created","payload":`+payload+`}`)
	}
	if m := post(`{"id":1,"shop":{"code":"hh"}}`).want(http.StatusAccepted).json(); len(m["deliveries"].([]any)) != 1 || m["warnings"] != nil {
		t.Errorf("%v", m)
	}
	post(`{"id":"1"}`).wantFault("body.payload.id")

	// What is left out is gone, and a schema that only warns lets pass.
	h.call("operator", "PUT", path, `{"schema":{"required":["id"]},"validation":"warn"}`).want(http.StatusOK)
	h.until(path, func(m map[string]any) bool {
		return m["validation"] == "warn" && m["example"] == nil && m["success"] == "json_200_or_204"
	})
	var warned map[string]any
	for warned["warnings"] == nil && t.Context().Err() == nil { // a change takes effect within a second
		if a := post(`{}`); a.status == http.StatusAccepted {
			warned = a.json()
		}
	}
	if list, _ := warned["warnings"].([]any); len(list) != 1 || !strings.Contains(fmt.Sprint(list), "id") {
		t.Errorf("%v", warned)
	}
	if got := h.batch(`{"event_type":"customer.created","payload":{}}`); got[0].Status != 202 || len(got[0].Warnings) != 1 {
		t.Errorf("%+v", got)
	}
	if a := h.call("operator", "PUT", "/callback-types/anything", `{}`).want(http.StatusCreated); strings.Contains(string(a.body), "null") {
		t.Errorf("%s", a.body)
	}
	h.call("operator", "PUT", "/callback-types/nulls", `{"description":null,"schema":null,"example":null,"match":null,"success":null,"validation":null}`).want(http.StatusCreated)
}

// TestTypesThatAreRefused: a problem names the member at fault.
func TestTypesThatAreRefused(t *testing.T) {
	h := newHouse(t)
	if p := h.call("operator", "PUT", "/callback-types/payment_proof", `{}`).wantProblem(http.StatusConflict); !strings.Contains(p.Detail, "comes with Ringback") {
		t.Errorf("%s", p.Detail)
	}
	for _, c := range []struct{ body, location string }{
		{`{"schema":{"type":"strnig"}}`, "body.schema"},
		{`{"schema":7}`, "body.schema"},
		{`{"schema":{"$ref":"http://example.com/x"}}`, "body.schema"},
		{`{"schema":{"type":"object"},"example":7}`, "body.example"},
		{`{"match":{"a":"b"}}`, "body.match.a"},
		{`{"match":["a"]}`, "body.match"},
		{`{"match":{"a":7}}`, "body.match"},
		{`{"success":"always"}`, "body.success"},
		{`{"success":7}`, "body.success"},
		{`{"validation":"never"}`, "body.validation"},
		{`{"description":7}`, "body.description"},
		{`{"colour":"red"}`, "body.colour"},
		{`{"name":"other"}`, "body.name"},
		{`{"builtin":true}`, "body.builtin"},
		{`{"match_blocks":["destination"]}`, "body.match_blocks"},
		{`{"schema":{},"schema":{}}`, "body.schema"},
		{`[]`, "body"},
	} {
		h.call("operator", "PUT", "/callback-types/unsound", c.body).wantFault(c.location)
	}
	h.call("operator", "PUT", "/callback-types/unsound", `{`).wantProblem(http.StatusBadRequest)
	h.call("operator", "PUT", "/callback-types/unsound", `{"description":"`+strings.Repeat("x", DefaultMaxBody)+`"}`).wantProblem(http.StatusRequestEntityTooLarge)
	h.call("operator", "PUT", "/callback-types/a%20b", `{}`).wantFault("path.name")
	h.call("operator", "PUT", "/callback-types/destination", `{}`).wantFault("path.name")
	h.call("operator", "GET", "/callback-types/unsound", "").wantProblem(http.StatusNotFound)
}
