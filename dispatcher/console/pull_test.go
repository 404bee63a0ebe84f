package console

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// TestCallbacksThatAreFetched are shown as that, and offer nothing of requests: no test, no secret, no URL to edit. An edit keeps them as they are.
func TestCallbacksThatAreFetched(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	var made struct {
		ID int64 `json:"callback_id"`
	}
	h.must(json.Unmarshal([]byte(h.tell("POST", "/companies/acme/config/callbacks", `{"callback_type":"payment_proof","destination":{"pull":true},"template":{"id":{"$pointer":"/requestId"}}}`)), &made))
	read := func() map[string]any {
		var cb map[string]any
		h.must(json.Unmarshal([]byte(h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", made.ID), "")), &cb))
		delete(cb, "updated_at")
		return cb
	}
	at := fmt.Sprintf("/portal/companies/acme/callbacks/%d", made.ID)
	page := v.get(at).want(t, http.StatusOK, "fetched by the partner", at+"/edit", at+"/pause")
	page.wantSound(t)
	for _, verb := range []string{"/test", "/secret"} {
		if strings.Contains(page.text, at+verb) {
			t.Errorf("it is offered %s", verb)
		}
	}
	v.get("/portal/").want(t, http.StatusOK, "fetched by the partner")
	form := v.get(at+"/edit").want(t, http.StatusOK, "e-description")
	form.wantSound(t)
	if strings.Contains(form.text, "e-url") || strings.Contains(form.text, "e-timeout") {
		t.Errorf("the form asks about requests: %s", form.text)
	}
	before := read()
	v.submit(form, at+"/edit", url.Values{"description": {"for the ledger"}}).want(t, http.StatusSeeOther)
	before["description"] = "for the ledger"
	want, _ := json.Marshal(before)
	if got, _ := json.Marshal(read()); string(got) != string(want) {
		t.Errorf("edited:\n%s\nwant\n%s", got, want)
	}
	v.submit(v.get(at+"/pause"), at+"/pause", nil).want(t, http.StatusSeeOther)
	v.follow(v.submit(v.get(at+"/resume"), at+"/resume", url.Values{"held": {"send"}})).want(t, http.StatusOK, "can be fetched")
}

func TestWhoDoesNotFetch(t *testing.T) {
	now := time.Now()
	cb := client.Callback{Destination: client.Destination{Pull: true}, Status: "enabled", OldestWaitingAt: now.Add(-2 * time.Hour)}
	sent, fresh, paused := cb, cb, cb
	sent.Destination.Pull, fresh.OldestWaitingAt, paused.Status = false, now.Add(-time.Minute), "paused"
	if !unfetched(&cb, now) || unfetched(&sent, now) || unfetched(&fresh, now) || unfetched(&paused, now) {
		t.Error("it is another one's page that says so")
	}
}
