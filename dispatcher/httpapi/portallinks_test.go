package httpapi

import (
	"errors"
	"net/http"
	"path"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// opened opens a portal link of acme's that was made with a body, and returns who comes in by it.
func (h *house) opened(body string) (c registry.Caller, id string) {
	h.t.Helper()
	made := h.call("operator", "POST", "/companies/acme/portal-links", body).want(http.StatusCreated).json()
	token, ok := strings.CutPrefix(made["url"].(string), "https://ringback.example.com/portal/enter/")
	if !ok {
		h.t.Fatalf("url = %s", made["url"])
	}
	sessions := registry.NewSessions(h.api.Keys)
	session, s, err := sessions.Redeem(h.t.Context(), token)
	h.must(err)
	return sessions.Caller(s, session), made["id"].(string)
}

// A link's address begins with the installation's, whatever the request says of its host. Its holder acts as a partner, and is out once the link is revoked.
func TestPortalLinks(t *testing.T) {
	h := newHouse(t)
	h.register("acme")
	a := h.call("partner", "POST", "/companies/acme/portal-links", `{"expires_in":"1h","session_expires_in":"90m"}`, header{"Host": "evil.example", "X-Forwarded-Host": "evil.example"}).want(http.StatusCreated)
	made := a.json()
	if url := made["url"].(string); !strings.HasPrefix(url, "https://ringback.example.com/portal/enter/rbl_") || made["session_expires_in"] != "1h30m" || made["status"] != "unused" {
		t.Errorf("%s", a.body)
	}
	token := path.Base(made["url"].(string))
	list := h.call("operator", "GET", "/companies/acme/portal-links", "").want(http.StatusOK)
	one := h.call("operator", "GET", a.header.Get("Location"), "").want(http.StatusOK)
	if strings.Contains(string(list.body)+string(one.body)+h.log.String(), token[4:47]) || one.json()["created_by"] != h.keys["partner"][:12] {
		t.Errorf("%s\n%s", list.body, one.body)
	}
	partner, id := h.opened(`{}`)
	h.as(partner, "GET", "/companies/acme/config/callbacks", "").want(http.StatusOK)
	h.as(partner, "GET", "/companies/acme/portal-links", "").wantProblem(http.StatusForbidden)
	h.as(partner, "POST", "/companies/acme/portal-links", "{}").wantProblem(http.StatusForbidden)
	h.as(partner, "GET", "/companies/other/config/callbacks", "").wantProblem(http.StatusNotFound)
	if used := h.call("operator", "GET", "/companies/acme/portal-links/"+id, "").want(http.StatusOK).json(); used["status"] != "in_use" || used["used_at"] == nil || used["session_expires_at"] == nil {
		t.Errorf("%v", used)
	}
	h.must(partner.Holds(t.Context()))
	h.call("operator", "DELETE", "/companies/acme/portal-links/"+id, "").want(http.StatusNoContent)
	if err := partner.Holds(t.Context()); !errors.Is(err, registry.ErrUnauthorized) {
		t.Errorf("revoked: %v", err)
	}
	h.call("operator", "GET", "/companies/acme/portal-links/"+id, "").wantProblem(http.StatusNotFound)
	for _, body := range []string{`{"expires_in":"0s"}`, `{"expires_in":"1000h"}`, `{"callback_ids":[]}`, `{"callback_ids":[1,99]}`, `{"callback_ids":"1"}`, `{"read_only":1}`, `{"token":"x"}`} {
		h.call("operator", "POST", "/companies/acme/portal-links", body).wantProblem(http.StatusUnprocessableEntity)
	}
}

// Without an address of its own, an installation hands out no links, and says which setting is missing.
func TestPortalLinksNeedAnAddress(t *testing.T) {
	h := newHouse(t, func(cfg *Config) { cfg.PublicURL = "" })
	p := h.call("operator", "POST", "/companies/acme/portal-links", "", header{"Host": "evil.example"}).wantProblem(http.StatusConflict)
	if !strings.Contains(p.Detail, "--public-url") || !strings.Contains(p.Detail, "RINGBACK_PUBLIC_URL") {
		t.Error(p.Detail)
	}
}

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"https://ringback.example.com": "https://ringback.example.com", "https://ringback.example.com/": "https://ringback.example.com", "http://127.0.0.1:8080": "http://127.0.0.1:8080",
		"": "", "ringback.example.com": "", "ftp://x.example": "", "https://": "", "https://a:b@x.example": "", "https://x.example/ringback": "", "https://x.example?": "", "https://x.example#": "", "https://x.example/?a": "",
	} {
		if got, err := PublicURL(text); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}
