package console

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/ringback/ringback/registry"
)

// meanwhile is what a page says beside a field of what somebody changed.
func (a answer) meanwhile(t *testing.T, id string) string {
	t.Helper()
	for n := range elements(a.parse(t), "p") {
		if attribute(n, "id") == id+"-changed" {
			return textOf(n)
		}
	}
	return ""
}

// wantFields checks what the fields of a page hold, by their ids.
func (a answer) wantFields(t *testing.T, want map[string]string) {
	t.Helper()
	for id, text := range want {
		if _, holds := a.beside(t, id); holds != text {
			t.Errorf("%s holds %q, not %q", id, holds, text)
		}
	}
}

// Two people edit the same callback, one in the portal and one in the console. The second to save sees what the first has changed, keeps what was typed, and
// saves that with the rest as it is now.
func TestEditsAtTheSameTime(t *testing.T) {
	h := newHouse(t)
	mine, theirs := h.by("acme", ""), h.showing("acme operator")
	id := h.register("acme", h.partner+"/well", `"description":"as it was","filter":{"pointer":"/status","op":"exists"}`)
	at, other := fmt.Sprintf("/portal/companies/acme/callbacks/%d/edit", id), fmt.Sprintf("/console/companies/acme/callbacks/%d/edit", id)
	form := mine.get(at)
	theirs.submit(theirs.get(other), other, url.Values{
		"url": {h.partner + "/well?theirs"}, "method": {"PUT"}, "description": {"theirs"}, "batch": {"", yes}, "template": {`{"theirs": 1}`}, "filter": {""},
	}).want(t, http.StatusSeeOther)
	before := h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", id), "")

	fill := url.Values{"description": {"mine"}, "template": {"{\n  \"mine\": 1\n}"}, "timeout": {"20s"}}
	again := mine.submit(form, at, fill).want(t, http.StatusPreconditionFailed, "Somebody changed this callback meanwhile", "Nothing is saved yet", "begin anew with what is there now", `href="#e-url"`)
	again.wantSound(t)
	if now := h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", id), ""); now != before {
		t.Errorf("something is saved: %s", now)
	}
	again.wantFields(t, map[string]string{
		"e-description": "mine", "e-template": "{\n  \"mine\": 1\n}", "e-timeout": "20s", // as they were typed
		"e-url": h.partner + "/well?theirs", "e-method": "PUT", "e-batch-events": "100", "e-filter": "", // as they are now
	})
	for field, says := range map[string]string{
		"e-description": "It is now theirs.", "e-template": "What is there now stands below.", "e-url": "It was " + h.partner + "/well, and is now what stands here.", "e-method": "It was “POST”",
		"e-batch": "It was off", "e-filter": "to what stands here", "e-timeout": "", "e-type": "", "e-style": "",
	} {
		if said := again.meanwhile(t, field); !strings.Contains(said, says) || says == "" && said != "" {
			t.Errorf("beside %s it says %q, not %q", field, said, says)
		}
		if says != "" && again.folded(t, field) {
			t.Errorf("%s was changed, and is folded away", field)
		}
	}
	if !strings.Contains(again.text, "&#34;theirs&#34;: 1") {
		t.Error("what is there now of the template is not shown")
	}

	mine.submit(again, at, nil).want(t, http.StatusSeeOther)
	for member, want := range map[string]string{"description": `"mine"`, "template": `{"mine":1}`, "timeout": `"20s"`, "filter": ""} {
		if got := h.member(id, member); got != want {
			t.Errorf("%s is %s, not %s", member, got, want)
		}
	}
	if got := h.member(id, "destination"); !strings.Contains(got, "/well?theirs") || !strings.Contains(got, "PUT") {
		t.Errorf("what the other saved is lost: %s", got)
	}
	mine.get(at).wantFields(t, map[string]string{"e-batch-events": "100"})
}

// What is tried, or refused, in a form that somebody overtook says so, too. Then whoever has it knows, and may save.
func TestOvertakenFormsAreTriedAndRefused(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	id := h.register("acme", h.partner+"/well", `"description":"as it was"`)
	at := fmt.Sprintf("/portal/companies/acme/callbacks/%d/edit", id)
	overtake := func() {
		h.tell("PATCH", fmt.Sprintf("/companies/acme/config/callbacks/%d", id), fmt.Sprintf(`{"description":%q}`, "theirs "+h.member(id, "updated_at")))
	}
	form := v.get(at)
	overtake()
	tried := v.submit(form, at, url.Values{"do": {"try"}, "envelope": {"cloudevents-binary"}}).want(t, http.StatusOK, "Somebody changed this callback meanwhile", "matched")
	tried.wantSound(t)
	v.submit(tried, at, nil).want(t, http.StatusSeeOther)
	if got := h.member(id, "envelope") + h.member(id, "description"); !strings.HasPrefix(got, `"cloudevents-binary""theirs`) {
		t.Errorf("saved: %s", got)
	}

	form = v.get(at)
	overtake()
	refused := v.submit(form, at, url.Values{"filter": {"{"}}).want(t, http.StatusUnprocessableEntity, "Somebody changed this callback meanwhile", "is no JSON")
	refused.wantSound(t)
	tried = v.submit(form, at, url.Values{"do": {"try"}, "sample": {"{"}}).want(t, http.StatusUnprocessableEntity, "Somebody changed this callback meanwhile")
	overtake()
	v.submit(refused, at, url.Values{"filter": {""}}).want(t, http.StatusPreconditionFailed)
	v.submit(tried, at, nil).want(t, http.StatusPreconditionFailed)
}

// What somebody changed that the form does not have is no reason to ask, and stays.
func TestFormsAreNotOvertakenByWhatTheyDoNotHave(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	id := h.register("acme", h.partner+"/well", `"description":"as it was"`)
	at, api := fmt.Sprintf("/portal/companies/acme/callbacks/%d/edit", id), fmt.Sprintf("/companies/acme/config/callbacks/%d", id)
	form := v.get(at)
	h.tell("PATCH", api, `{"headers":{"X-Theirs":"1"}}`)
	h.tell("POST", api+"/secret", "")
	h.tell("POST", api+"/pause", "")
	v.submit(form, at, url.Values{"description": {"mine"}}).want(t, http.StatusSeeOther)
	if got := h.member(id, "headers") + h.member(id, "description"); !strings.Contains(got, "X-Theirs") || !strings.Contains(got, "mine") {
		t.Errorf("saved: %s", got)
	}
	form = v.get(at)
	h.tell("PATCH", api, `{"description":"the same"}`)
	v.submit(form, at, url.Values{"description": {"the same"}, "timeout": {"20s"}}).want(t, http.StatusSeeOther)
}

// A change that comes between the page's own look at the callback and its change is noticed, too.
func TestFormsAreOvertakenAtTheLastMoment(t *testing.T) {
	h := newHouse(t)
	id := h.register("acme", h.partner+"/well", `"description":"as it was"`)
	api := fmt.Sprintf("/companies/acme/config/callbacks/%d", id)
	for verb, path := range map[string]string{"PATCH": "/edit", "POST": "/secret"} {
		var once sync.Once
		faster := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == verb {
				once.Do(func() { h.tell("PATCH", api, fmt.Sprintf(`{"description":"before %s"}`, verb)) }) //nolint:contextcheck // the test's own
			}
			h.api.ServeHTTP(w, r)
		})
		var err error
		h.pages, err = New(Config{API: faster, Sessions: registry.NewSessions(h.keys), Logger: h.portal.Logger})
		h.must(err)
		v, at := h.showing("acme operator"), fmt.Sprintf("/console/companies/acme/callbacks/%d", id)+path
		again := v.submit(v.get(at), at, url.Values{"timeout": {"20s"}, "overlap": {"1h"}}).want(t, http.StatusPreconditionFailed, "Somebody changed this callback meanwhile")
		if got, want := h.member(id, "description"), fmt.Sprintf(`"before %s"`, verb); got != want {
			t.Errorf("%s: %s", verb, got)
		}
		if next := v.submit(again, at, nil); next.status/100 != 2 && next.status != http.StatusSeeOther {
			t.Errorf("%s: there is no way on: %d", verb, next.status)
		}
	}
}

// Whoever deletes a callback, or gives it a new secret or key, does so to the callback that the page showed.
func TestQuestionsAreOvertaken(t *testing.T) {
	h := newHouse(t)
	portal, operator := h.by("acme", ""), h.showing("acme operator")
	for _, tt := range []struct {
		v        *visitor
		root, at string
		status   int // of what is done
	}{
		{operator, "/console", "/secret", http.StatusOK},
		{operator, "/console", "/signing-key", http.StatusSeeOther},
		{portal, "/portal", "/secret", http.StatusOK},
		{portal, "/portal", "/signing-key", http.StatusSeeOther},
		{portal, "/portal", "/delete", http.StatusSeeOther},
	} {
		id := h.register("acme", h.partner+"/well", `"signature":{"ed25519":true}`)
		of, at := fmt.Sprintf("/companies/acme/config/callbacks/%d", id), fmt.Sprintf("%s/companies/acme/callbacks/%d", tt.root, id)+tt.at
		ask := tt.v.get(at)
		h.tell("PATCH", of, `{"description":"theirs"}`)
		before := h.tell("GET", of, "")
		again := tt.v.submit(ask, at, nil).want(t, http.StatusPreconditionFailed, "Somebody changed this callback meanwhile", "Nothing was done", "theirs")
		again.wantSound(t)
		if now := h.tell("GET", of, ""); now != before {
			t.Errorf("%s: it is done all the same: %s", at, now)
		}
		if tt.at == "/signing-key" { // the company's first key signs at once, and those that follow are announced
			continue
		}
		tt.v.submit(again, at, nil).want(t, tt.status)
	}
}
