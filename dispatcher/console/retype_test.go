package console

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// focus is what has the focus when a page comes: an element's id, or its role.
func (a answer) focus(t *testing.T) string {
	t.Helper()
	var all []string
	for n := range elements(a.parse(t), "") {
		if _, focused := has(n, "autofocus"); focused {
			all = append(all, attribute(n, "id")+attribute(n, "role"))
		}
	}
	if len(all) > 1 {
		t.Errorf("%d elements want the focus: %q", len(all), all)
	}
	return strings.Join(all, "")
}

// wantRetyped checks that a page asks for a secret that was typed, at its field, and has it nowhere.
func (a answer) wantRetyped(t *testing.T, id, secret, says, focus string) answer {
	t.Helper()
	a.wantSound(t)
	said, holds := a.beside(t, id)
	if !strings.Contains(said, says) || says == "" && said != "" || holds != "" || strings.Contains(a.text, secret) {
		t.Errorf("beside %s it says %q, not %q, and it holds %q", id, said, says, holds)
	}
	if a.folded(t, id) {
		t.Errorf("%s is folded away", id)
	}
	if got := a.focus(t); got != focus {
		t.Errorf("%q has the focus, not %q", got, focus)
	}
	for n := range elements(a.parse(t), "input") {
		if attribute(n, "id") != id {
			continue
		}
		if invalid, about := attribute(n, "aria-invalid"), attribute(n, "aria-describedby"); (invalid == "true") != (says != "") || strings.Contains(about, id+"-fault") != (says != "") {
			t.Errorf("%s has aria-invalid=%q and is described by %q", id, invalid, about)
		}
		if attribute(n, "type") != "password" || attribute(n, "autocomplete") != "new-password" {
			t.Errorf("a browser may fill %s in, or show it", id)
		}
	}
	return a
}

// A page that comes back has no secret that was typed: it says so at the field. Whoever misses that is asked once, and gets no secret that nobody meant.
func TestSecretsAreTypedAgain(t *testing.T) {
	h := newHouse(t)
	v := h.by("acme", "")
	const at, own, again = "/portal/companies/acme/new", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "Type it again: no page gives back a secret that was typed."
	const empty = "Is empty, and a secret was typed here before"
	list := h.tell("GET", "/companies/acme/config/callbacks", "")
	form := v.get(at)
	form.wantSound(t)
	if focus := form.focus(t); focus != "" {
		t.Errorf("a fresh form has the focus at %s", focus)
	}
	fill := url.Values{"callback_type": {"payment_proof"}, "url": {h.partner + "/well"}, "secret": {own}, "ed25519": {"", yes}}
	tried := url.Values{"do": {"try"}}
	wrong := maps.Clone(fill)
	wrong.Set("timeout", "soon")
	refused := v.submit(form, at, wrong).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "e-secret", own, again, "e-timeout")
	v.submit(refused, at, nil).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "e-secret", own, empty, "e-secret") // the timeout is not looked at yet
	refused = v.submit(form, at, url.Values{"secret": {own}, "skip_after": {"7h"}}).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "e-secret", own, again, "e-secret")
	v.submit(refused, at, nil).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "e-secret", own, again, "e-secret") // it does not come to that yet

	fill.Set("do", "try")
	page := v.submit(form, at, fill).want(t, http.StatusOK, "matched").wantRetyped(t, "e-secret", own, again, "")
	page = v.submit(page, at, tried).want(t, http.StatusOK, "matched").wantRetyped(t, "e-secret", own, again, "")
	asked := v.submit(page, at, nil).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "e-secret", own, empty, "e-secret")
	if now := h.tell("GET", "/companies/acme/config/callbacks", ""); now != list {
		t.Errorf("something is registered: %s", now)
	}
	v.follow(v.submit(asked, at, url.Values{"secret": {own}})).want(t, http.StatusOK, "signed with the secret that you gave")
	v.submit(asked, at, nil).want(t, http.StatusOK, "is registered", "whsec_")
	v.submit(v.submit(page, at, nil), at, nil).want(t, http.StatusOK, "is registered", "whsec_")

	id := h.register("acme", h.partner+"/well", `"header_style":"github"`)
	rotate := fmt.Sprintf("/portal/companies/acme/callbacks/%d/secret", id)
	refused = v.submit(v.get(rotate), rotate, url.Values{"overlap": {"24h"}, "secret": {own}}).want(t, http.StatusUnprocessableEntity, "carries one signature").wantRetyped(t, "secret-own", own, again, "secret-own")
	before := h.member(id, "updated_at")
	asked = v.submit(refused, rotate, url.Values{"overlap": {"0s"}}).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "secret-own", own, empty, "secret-own")
	if now := h.member(id, "updated_at"); now != before {
		t.Error("it has a secret that nobody meant")
	}
	v.follow(v.submit(asked, rotate, url.Values{"secret": {own}})).want(t, http.StatusOK, "has the secret that you gave")
	stale := v.submit(asked, rotate, url.Values{"secret": {own}}).want(t, http.StatusPreconditionFailed, "Somebody changed this callback meanwhile").wantRetyped(t, "secret-own", own, again, "alert")
	v.submit(v.submit(stale, rotate, nil), rotate, nil).want(t, http.StatusOK, "has a new secret", "whsec_")
	v.submit(v.get(rotate), rotate, url.Values{"overlap": {"24h"}}).want(t, http.StatusUnprocessableEntity).wantRetyped(t, "secret-own", own, "", "alert")
}

// In a frame of another site nothing takes the focus: that page's own visitor is somewhere else.
func TestFormsTakeNoFocusInFrames(t *testing.T) {
	h := newHouse(t)
	h.portal.Embed = []string{"https://partner.example.com"}
	framed, err := NewPortal(h.portal)
	h.must(err)
	key := h.has["partner"]
	for _, at := range []string{"/portal/companies/acme/new", fmt.Sprintf("/portal/companies/acme/callbacks/%d/secret", h.bad)} {
		form := url.Values{"token": {tokenOf(key)}, "callback_type": {"payment_proof"}, "url": {"ftp://x"}, "secret": {"short"}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, at, strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Authorization", "Bearer "+key)
		w := httptest.NewRecorder()
		framed.ServeHTTP(w, r)
		a := answer{w.Code, w.Result().Header, w.Body.String()}
		if a.want(t, http.StatusUnprocessableEntity, "Type it again"); a.focus(t) != "" {
			t.Errorf("%s takes the focus to %q", at, a.focus(t))
		}
	}
}
