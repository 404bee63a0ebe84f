package console

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Operators see the keys that their own covers, and revoke them once they have said so twice. Viewers do neither.
func TestKeysArePagesOfOperators(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	page := v.get("/console/keys").want(t, http.StatusOK, `href="/console/keys"`)
	page.wantSound(t)
	for actor, secret := range h.has {
		at := "/console/keys/" + registryID(secret) + "/revoke"
		if !strings.Contains(page.text, at) || strings.Contains(page.text, secret) {
			t.Errorf("the %s's key is not listed, or its secret is", actor)
		}
		if actor != "operator" {
			h.showing("viewer").get(at).want(t, http.StatusForbidden)
		}
	}
	if own := strings.Count(page.text, "your own"); own != 1 {
		t.Errorf("%d keys are the visitor's own", own)
	}
	some := v.get("/console/keys?company=acme").want(t, http.StatusOK, registryID(h.has["acme viewer"]))
	if strings.Contains(some.text, registryID(h.has["other operator"])) {
		t.Error("a key of another company is among acme's")
	}
	for _, actor := range []string{"viewer", "acme viewer"} {
		a := h.showing(actor).get("/console/keys").want(t, http.StatusForbidden, "viewer key may not do this")
		if strings.Contains(a.text, `href="/console/keys"`) {
			t.Errorf("the menu leads the %s to keys", actor)
		}
	}

	other := h.showing("other operator")
	list := other.get("/console/keys").want(t, http.StatusOK, registryID(h.has["other operator"]))
	if strings.Contains(list.text, registryID(h.has["partner"])) || strings.Contains(list.text, "f-company") {
		t.Errorf("an operator of one company sees keys of others, or is asked which: %s", list.text)
	}
	for _, key := range []string{registryID(h.has["partner"]), registryID(h.has["operator"]), "rbk_nobodys"} {
		at := "/console/keys/" + key + "/revoke"
		other.get(at).want(t, http.StatusNotFound, "There is no such API key")
		other.send(at, url.Values{"token": {tokenOf(other.key)}, "own": {"true"}}).want(t, http.StatusNotFound, "There is no such API key")
	}

	partner := registryID(h.has["partner"])
	at := "/console/keys/" + partner + "/revoke"
	ask := v.get(at).want(t, http.StatusOK, "partner", "acme", "cannot be brought back")
	if strings.Contains(ask.text, "your own") {
		t.Error("another's key is called the visitor's own")
	}
	v.follow(v.submit(ask, at, nil)).want(t, http.StatusOK, "API key "+partner+" is revoked.")
	v.get(at).want(t, http.StatusNotFound, "There is no such API key")
	if said := h.tell("GET", "/audit", ""); !strings.Contains(said, `"actor":"`+registryID(h.has["operator"])+`","action":"apikey.revoke","object":"keys/`+partner) {
		t.Errorf("the trail does not tell of it: %s", said)
	}
}

// Whoever revokes the own key is told what that means, and does so by a form that says it. It ends the visit.
func TestTheOwnKeyIsRevokedKnowingly(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("acme operator")
	own := registryID(h.has["acme operator"])
	at := "/console/keys/" + own + "/revoke"
	v.send(at, url.Values{"token": {tokenOn(t, v.get("/console/keys"))}}).want(t, http.StatusConflict, "own=true").wantSound(t)
	v.get("/console/keys").want(t, http.StatusOK, "your own")
	ask := v.get(at).want(t, http.StatusOK, "This is your own key: your visit ends with it", "Revoke my own key")
	v.follow(v.submit(ask, at, nil)).want(t, http.StatusUnauthorized, "Log in")
}
