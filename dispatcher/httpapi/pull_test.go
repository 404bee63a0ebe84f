package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// puller registers a callback of acme whose partner fetches, and returns its path.
func (h *house) puller() string {
	h.t.Helper()
	a := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"callback_type":"*","destination":{"pull":true}}`).want(http.StatusCreated)
	if d := a.json()["destination"]; fmt.Sprint(d) != "map[pull:true]" {
		h.t.Errorf("its destination is %v", d)
	}
	return a.header.Get("Location")
}

// polled are the events that a poll answered, and where it goes on.
func polled(m map[string]any) (events []string, next string) {
	for _, d := range m["deliveries"].([]any) {
		events = append(events, d.(map[string]any)["event_id"].(string))
	}
	return events, m["next"].(string)
}

// TestPulling: a partner fetches what waits, acknowledges it, and goes back. It is delivered by that, and explained.
func TestPulling(t *testing.T) {
	h := newHouse(t)
	callback := h.puller()
	first, second := h.send("acme", "e1"), h.send("acme", "e2")
	if m := h.call("partner", "GET", first, "").want(http.StatusOK).json(); m["state"] != "held" || m["held_reason"] != "pull" || !strings.Contains(m["summary"].(string), "waits to be fetched") {
		t.Errorf("it is %v", m)
	}
	m := h.call("partner", "GET", callback+"/poll?limit=1", "").want(http.StatusOK).json()
	events, next := polled(m)
	d := m["deliveries"].([]any)[0].(map[string]any)
	if !slices.Equal(events, []string{"e1"}) || m["more"] != true || d["payload"] == nil || !strings.HasSuffix(first, d["delivery_id"].(string)) || d["cursor"] != next {
		t.Errorf("the first poll: %v", m)
	}
	if m := h.call("partner", "POST", callback+"/ack", `{"through":"`+next+`"}`).want(http.StatusOK).json(); m["delivered"] != 1.0 || m["acknowledged"] != next {
		t.Errorf("acknowledged: %v", m)
	}
	if m := h.call("partner", "GET", first, "").want(http.StatusOK).json(); m["state"] != "delivered" || !strings.Contains(fmt.Sprint(m["attempts"]), "fetched, and acknowledged: delivered") {
		t.Errorf("it is %v", m)
	}
	m = h.call("partner", "GET", callback+"/poll", "").want(http.StatusOK).json()
	if events, _ := polled(m); !slices.Equal(events, []string{"e2"}) || m["acknowledged"] != next {
		t.Errorf("behind what was acknowledged: %v", m)
	}
	if m := h.call("partner", "POST", callback+"/seek", `{"to":"start"}`).want(http.StatusOK).json(); m["cancelled"] != 0.0 {
		t.Errorf("back: %v", m)
	}
	if events, _ := polled(h.call("partner", "GET", callback+"/poll", "").want(http.StatusOK).json()); !slices.Equal(events, []string{"e1", "e2"}) {
		t.Errorf("from the start: %v", events)
	}
	if m := h.call("partner", "POST", callback+"/seek", `{"to":"end"}`).want(http.StatusOK).json(); m["cancelled"] != 1.0 {
		t.Errorf("on: %v", m)
	}
	if m := h.call("partner", "GET", second, "").want(http.StatusOK).json(); m["state"] != "cancelled" {
		t.Errorf("it is %v", m)
	}
	if m := h.call("operator", "GET", callback, "").want(http.StatusOK).json(); m["status"] != "enabled" || m["held"] != 0.0 || m["last_success_at"] == nil {
		t.Errorf("the callback is %v", m)
	}
}

// TestWhatIsFetchedIsWhatWouldBeSent: a callback's template, its envelope and its type's stamp make the same of a payload whoever carries it, and what is fetched is
// made of the callback as it is then. What cannot be made does not keep the others back.
func TestWhatIsFetchedIsWhatWouldBeSent(t *testing.T) {
	h := newHouse(t)
	base, got := mailbox(t)
	const template = `"template":{"id":{"$pointer":"/requestId"},"kind":"proof"}`
	forms := []string{`"description":"as it is"`, template, `"envelope":"cloudevents-structured"`, template + `,"envelope":"cloudevents-structured"`}
	var pulls []string
	for i, members := range forms {
		members += `,"callback_type":"payment_proof"`
		h.registered(fmt.Sprintf("%s/%d", base, i), members)
		made := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"destination":{"pull":true},`+members+`}`).want(http.StatusCreated)
		pulls = append(pulls, made.header.Get("Location"))
	}
	stamped := h.call("partner", "POST", "/companies/acme/config/callbacks", `{"destination":{"pull":true},"callback_type":"entry_code.*"}`).want(http.StatusCreated).header.Get("Location")
	h.work()
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","event_id":"e1","payload":{"requestId":"é <&>","status":"OK","n":12345678901234567890}}`).want(http.StatusAccepted)
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"entry_code.validation_failed","payload":{"entryCode":"4711"}}`).want(http.StatusAccepted)
	fetch := func(path string) map[string]json.RawMessage {
		var m struct{ Deliveries []map[string]json.RawMessage }
		h.must(json.Unmarshal(h.call("partner", "GET", path+"/poll", "").want(http.StatusOK).body, &m))
		if len(m.Deliveries) != 1 {
			t.Fatalf("%s: %d wait", path, len(m.Deliveries))
		}
		return m.Deliveries[0]
	}
	for range forms {
		a := <-got
		var i int
		_, err := fmt.Sscanf(a.path, "/%d", &i)
		h.must(err)
		if fetched := fetch(pulls[i])["payload"]; string(fetched) != string(a.body) {
			t.Errorf("with %s, %s is sent, and %s fetched", forms[i], a.body, fetched)
		}
	}
	if d := fetch(stamped); !strings.Contains(string(d["payload"]), `"timeOfIssue":"20`) {
		t.Errorf("without its stamp: %s", d["payload"])
	}
	h.call("partner", "PATCH", pulls[1], `{"template":{"now":{"$pointer":"/n"}}}`).want(http.StatusOK)
	if d := fetch(pulls[1]); string(d["payload"]) != `{"now":12345678901234567890}` {
		t.Errorf("after the template changed: %s", d["payload"])
	}
	dry := h.call("partner", "POST", pulls[1]+"/dry-run", `{"payload":{"requestId":"r","status":"OK","n":1}}`).want(http.StatusOK).json()
	if fmt.Sprint(dry["payload"]) != "map[now:1]" || dry["request"] != nil || !strings.Contains(dry["request_missing"].(string), "fetches") {
		t.Errorf("tried: %v", dry)
	}
	long := make([]string, 60)
	for i := range long {
		long[i] = `{"$pointer":"/requestId"}`
	}
	h.call("partner", "PATCH", pulls[1], `{"template":[`+strings.Join(long, ",")+`]}`).want(http.StatusOK)
	h.call("producer", "POST", "/companies/acme/events", `{"event_type":"payment_proof","payload":{"status":"OK","requestId":"`+strings.Repeat("x", 20<<10)+`"}}`).want(http.StatusAccepted)
	all := h.call("partner", "GET", pulls[1]+"/poll", "").want(http.StatusOK).json()["deliveries"].([]any)
	if len(all) != 2 || all[0].(map[string]any)["payload"] == nil || all[1].(map[string]any)["payload"] != nil || !strings.Contains(fmt.Sprint(all[1].(map[string]any)["payload_fault"]), "too long") {
		t.Errorf("beside a payload that cannot be made: %.300v", all)
	}
}

// TestAPollWaits until there is something, also if another process accepts it, or until its time is up, or the process ends.
func TestAPollWaits(t *testing.T) {
	h := newHouse(t)
	callback := h.puller()
	done := make(chan map[string]any)
	poll := func(wait string) {
		go func() { done <- h.call("partner", "GET", callback+"/poll?wait="+wait, "").want(http.StatusOK).json() }()
	}
	poll("30s")
	h.send("acme", "e1")
	if events, next := polled(<-done); !slices.Equal(events, []string{"e1"}) {
		t.Errorf("it ended with %v", events)
	} else {
		h.call("partner", "POST", callback+"/ack", `{"through":"`+next+`"}`).want(http.StatusOK)
	}
	poll("300ms")
	if events, _ := polled(<-done); len(events) > 0 {
		t.Errorf("there is nothing, and it has %v", events)
	}
	poll("30s")
	for waiting := 0; waiting == 0; runtime.Gosched() {
		h.api.polls.mu.Lock()
		waiting = h.api.polls.all
		h.api.polls.mu.Unlock()
	}
	h.client.EndWatches()
	if events, _ := polled(<-done); len(events) > 0 {
		t.Errorf("the process ends, and it has %v", events)
	}
	poll("30s")
	<-done // nothing waits any more
}

// TestPollsTakePlaces: one that looks has a place at the door, and one that waits has none. As many wait as may.
func TestPollsTakePlaces(t *testing.T) {
	h := newHouse(t)
	callback := h.puller()
	waiting := func() int {
		h.api.polls.mu.Lock()
		defer h.api.polls.mu.Unlock()
		return h.api.polls.all
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if a := h.call("partner", "GET", callback+"/poll?wait=30s", ""); a.status != http.StatusServiceUnavailable { // it may look again while there is no place
			a.want(http.StatusOK)
		}
	}()
	for waiting() == 0 {
		runtime.Gosched()
	}
	for !h.api.door.places.TryAcquire(Places) { // it looks once
		if runtime.Gosched(); waiting() == 0 {
			t.Fatal("a poll that waits holds a place")
		}
	}
	if p := h.call("partner", "GET", callback+"/poll", "").wantProblem(http.StatusServiceUnavailable); p.Detail != errNoPlace.detail {
		t.Errorf("without a place: %q", p.Detail)
	}
	h.api.door.places.Release(Places)
	h.send("acme", "e1")
	<-done
	h.call("partner", "GET", callback+"/poll", "").want(http.StatusOK)

	h.api.polls.mu.Lock()
	h.api.polls.all = maxStreams
	h.api.polls.mu.Unlock()
	if p := h.call("partner", "GET", callback+"/poll?wait=1s", "").wantProblem(http.StatusTooManyRequests); !strings.Contains(p.Detail, "poll without wait") {
		t.Errorf("one too many: %q", p.Detail)
	}
	h.call("partner", "GET", callback+"/poll", "").want(http.StatusOK)
}

// TestWhatCannotBePulled: what is said instead.
func TestWhatCannotBePulled(t *testing.T) {
	h := newHouse(t)
	url, _ := h.endpoint(http.StatusNoContent)
	sent, callback := h.registerAt(url, `"callback_type":"payment_proof"`), h.puller()
	for _, test := range []struct {
		actor, method, path, body string
		status                    int
		says                      string
	}{
		{"partner", "GET", sent + "/poll", "", http.StatusConflict, "are sent to its destination.url"},
		{"partner", "POST", sent + "/ack", `{"through":"1-0"}`, http.StatusConflict, "are sent to its destination.url"},
		{"partner", "POST", callback + "/test", `{"event_type":"payment_proof"}`, http.StatusConflict, "nothing is sent"},
		{"partner", "POST", callback + "/verify", "", http.StatusConflict, "nothing is sent"},
		{"partner", "GET", callback + "/poll?wait=31s", "", http.StatusUnprocessableEntity, "from 0s to 30s"},
		{"partner", "GET", callback + "/poll?wait=soon", "", http.StatusUnprocessableEntity, "from 0s to 30s"},
		{"partner", "GET", callback + "/poll?after=12", "", http.StatusUnprocessableEntity, "no cursor"},
		{"partner", "POST", callback + "/ack", `{"through":"end"}`, http.StatusUnprocessableEntity, "no cursor"},
		{"partner", "POST", callback + "/ack", `{"through":"2099023255552-0"}`, http.StatusUnprocessableEntity, "no cursor"},
		{"partner", "POST", callback + "/ack", `{}`, http.StatusUnprocessableEntity, "is missing"},
		{"partner", "POST", callback + "/ack", `{"upto":"1-0"}`, http.StatusUnprocessableEntity, "the only member is through"},
		{"partner", "POST", callback + "/seek", `{"to":"yesterday"}`, http.StatusUnprocessableEntity, "no cursor"},
		{"acme viewer", "GET", callback + "/poll", "", http.StatusForbidden, "takes the role"},
		{"producer", "GET", callback + "/poll", "", http.StatusForbidden, "takes the role"},
		{"other partner", "GET", callback + "/poll", "", http.StatusNotFound, ""},
		{"partner", "GET", "/companies/acme/config/callbacks/99/poll", "", http.StatusNotFound, ""},
		{"partner", "POST", "/companies/acme/config/callbacks/99/seek", `{"to":"end"}`, http.StatusNotFound, ""},
	} {
		p := h.call(test.actor, test.method, test.path, test.body).wantProblem(test.status)
		if !strings.Contains(fmt.Sprint(p.Detail, p.Errors), test.says) && !strings.Contains(string(h.call(test.actor, test.method, test.path, test.body).body), test.says) {
			t.Errorf("%s %s: %+v does not say %q", test.method, test.path, p, test.says)
		}
	}
	h.call("partner", "POST", callback+"/pause", "").want(http.StatusOK)
	if p := h.call("partner", "GET", callback+"/poll", "").wantProblem(http.StatusConflict); !strings.Contains(p.Detail, "paused") {
		t.Errorf("paused: %q", p.Detail)
	}
	h.call("partner", "POST", callback+"/resume", "").want(http.StatusOK)
	h.call("partner", "GET", callback+"/poll", "").want(http.StatusOK)
	h.call("partner", "DELETE", callback, "").want(http.StatusNoContent)
	h.call("partner", "GET", callback+"/poll", "").wantProblem(http.StatusNotFound)
}
