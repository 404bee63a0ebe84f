package httpapi

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

// TestReplaysOverCallbacks is the life of replays over callbacks and companies, as on-call and a partner lead them.
func TestReplaysOverCallbacks(t *testing.T) {
	h := newHouse(t)
	url, got := h.endpoint(http.StatusNoContent)
	h.cancelThree(h.registerAt(url, `"callback_type":"*"`))
	second := h.registerAt(url, `"callback_type":"wallet_item_install"`)
	const all, own = "/replays", "/companies/acme/replays"

	for _, c := range []struct {
		actor, path, body string
		matched           float64
	}{
		{"operator", all, `{"states":["cancelled"],"dry_run":true}`, 3},
		{"operator", all, `{"states":["cancelled"],"companies":["acme"],"callback_ids":[2],"dry_run":true}`, 0},
		{"operator", all, `{"states":["dead"],"companies":null,"dry_run":true}`, 0},
		{"partner", own, `{"states":["cancelled"],"callback_ids":[1,2],"dry_run":true}`, 3},
		{"partner", own, `{"states":["retrying"],"dry_run":true}`, 0},
	} {
		m := h.call(c.actor, "POST", c.path, c.body).want(http.StatusAccepted).json()
		if m["matched"] != c.matched || m["state"] != "dry_run" || m["callback_id"] != nil || m["estimate"] != nil {
			t.Errorf("%s: %v", c.body, m)
		}
	}
	started := h.call("operator", "POST", all, `{"states":["cancelled"],"pace":100}`).want(http.StatusAccepted)
	replay := started.header.Get("Location")
	if m := started.json(); replay != all+"/"+m["replay_id"].(string) || m["state"] != "running" || m["matched"] != 3.0 || m["pace"] != 100.0 {
		t.Errorf("started: %s at %s", started.body, replay)
	}
	h.work()
	m := h.until(replay, func(m map[string]any) bool { return m["state"] == "done" })
	if part := m["parts"].([]any)[0].(map[string]any); m["replayed"] != 3.0 || part["company"] != "acme" || part["state"] != "done" || part["replayed"] != 3.0 || part["left"] != 0.0 {
		t.Errorf("done: %v", m)
	}
	for range 3 {
		<-got
	}
	if list := h.call("viewer", "GET", all, "").want(200).json()["replays"].([]any); len(list) != 4 || list[0].(map[string]any)["replayed"] != 3.0 {
		t.Errorf("listed: %v", list)
	}
	list := h.call("viewer", "GET", own, "").want(200).json()["replays"].([]any)
	if first := list[0].(map[string]any); len(list) != 4 || first["bulk_id"] != m["replay_id"] && list[1].(map[string]any)["bulk_id"] != m["replay_id"] {
		t.Errorf("the company's: %v", list)
	}
	h.call("partner", "POST", second+"/pause", "").want(http.StatusOK)
	mine := h.call("partner", "POST", own, "").want(http.StatusAccepted).header.Get("Location")
	if !strings.HasPrefix(mine, own+"/rpl_") {
		t.Errorf("Location: %s", mine)
	}
	h.call("operator", "GET", strings.TrimPrefix(mine, "/companies/acme"), "").wantProblem(http.StatusNotFound)
	h.call("partner", "DELETE", mine, "").want(http.StatusNoContent)
	if m := h.call("viewer", "GET", mine, "").want(200).json(); m["finished_at"] == nil || fmt.Sprint(m["companies"]) != "[acme]" {
		t.Errorf("stopped: %v", m)
	}
	h.call("operator", "DELETE", replay, "").want(http.StatusNoContent) // it has ended, and that changes nothing
}

// TestReplaysOverCallbacksThatAreRefused: a problem names the member at fault.
func TestReplaysOverCallbacksThatAreRefused(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	for _, c := range []struct{ actor, path, body, location string }{
		{"operator", "/replays", `{"companies":"acme"}`, "body.companies"},
		{"operator", "/replays", `{"companies":[]}`, "body.companies"},
		{"operator", "/replays", `{"companies":["nobody"]}`, "body.companies[0]"},
		{"operator", "/replays", `{"callback_ids":[1]}`, "body.callback_ids"},
		{"operator", "/replays", `{"companies":["acme"],"callback_ids":["1"]}`, "body.callback_ids"},
		{"operator", "/replays", `{"companies":["acme"],"callback_ids":[7]}`, "body.callback_ids[0]"},
		{"operator", "/replays", `{"pace":0}`, "body.pace"},
		{"operator", "/replays", `{"pace":1.5}`, "body.pace"},
		{"operator", "/replays", `{"until":"2026-01-02T00:00:00Z","since":"2026-01-02T00:00:00Z"}`, "body.until"},
		{"operator", "/replays", `{"everything":true}`, "body.everything"},
		{"partner", "/companies/acme/replays", `{"companies":["acme"]}`, "body.companies"},
		{"partner", "/companies/acme/replays", `{"states":["pending"]}`, "body.states[0]"},
	} {
		h.call(c.actor, "POST", c.path, c.body).wantFault(c.location)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if p := h.call("operator", method, "/replays/rpl_none", "").wantProblem(http.StatusNotFound); !strings.Contains(p.Detail, "replay") {
			t.Errorf("%s: %s", method, p.Detail)
		}
	}
	for range 10 {
		h.call("operator", "POST", "/replays", `{"states":["delivered"]}`).want(http.StatusAccepted)
	}
	if p := h.call("operator", "POST", "/replays", "").wantProblem(http.StatusConflict); !strings.Contains(p.Detail, "cancel one") {
		t.Errorf("one too many: %s", p.Detail)
	}
}

// TestAReplayStaysWithinItsCallersCallbacks: a caller that may see some callbacks only replays those, and another one is as one that there is not.
func TestAReplayStaysWithinItsCallersCallbacks(t *testing.T) {
	for name, tt := range map[string]struct {
		sees, asks, gets []int64
	}{
		"all, of all":       {nil, nil, nil},
		"one, of all":       {nil, []int64{7}, []int64{7}},
		"its own":           {[]int64{1, 2}, nil, []int64{1, 2}},
		"one of its own":    {[]int64{1, 2}, []int64{2}, []int64{2}},
		"none":              {[]int64{}, nil, []int64{}},
		"one of another's":  {[]int64{1, 2}, []int64{2, 3}, nil},
		"there is only his": {[]int64{}, []int64{1}, nil},
	} {
		q := dispatcher.BulkQuery{Callbacks: tt.asks}
		err := within(registry.Key{Callbacks: tt.sees}, &q)
		if refused := tt.asks != nil && tt.gets == nil; (err != nil) != refused {
			t.Errorf("%s: %v", name, err)
		} else if !refused && (!slices.Equal(q.Callbacks, tt.gets) || (q.Callbacks == nil) != (tt.gets == nil)) {
			t.Errorf("%s: %v, want %v", name, q.Callbacks, tt.gets)
		}
	}
}
