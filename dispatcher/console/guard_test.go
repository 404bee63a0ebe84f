package console

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// A cookie is Secure where the browser speaks TLS, with us or with a proxy before us: it does not come back over plain HTTP.
func TestCookiesOverTLS(t *testing.T) {
	h := newHouse(t)
	token, _ := h.link("acme", "")
	for name, tt := range map[string]struct {
		over func(*http.Request)
		want bool
	}{
		"plain HTTP":         {func(*http.Request) {}, false},
		"TLS":                {func(r *http.Request) { r.TLS = &tls.ConnectionState{} }, true},
		"TLS with the proxy": {func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "HTTPS") }, true},
		"a proxy without":    {func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "http") }, false},
	} {
		r := newForm(t, "/console/login", url.Values{"key": {h.has["viewer"]}})
		r.Header.Set("Origin", "http://example.com")
		tt.over(r)
		w := httptest.NewRecorder()
		h.pages.ServeHTTP(w, r)
		if c := w.Result().Cookies(); len(c) != 1 || c[0].Secure != tt.want || c[0].MaxAge != int(registry.SessionLife.Seconds()) || c[0].Partitioned {
			t.Errorf("%s: %v", name, c)
		}
	}
	r := newForm(t, "/portal/enter", url.Values{"link": {token}})
	r.TLS = &tls.ConnectionState{}
	if c := h.serve(r).header.Get("Set-Cookie"); !strings.Contains(c, "; Secure") || !strings.Contains(c, "SameSite=Strict") || !strings.Contains(c, "Max-Age=43200;") {
		t.Errorf("the portal's cookie: %s", c)
	}
}

// A form is read up to a bound, and its token stands in it: one in the address, which others come to read, is none.
func TestFormsHaveTheirTokenInThem(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	token := tokenOn(t, v.get("/console/types"))
	pause := fmt.Sprintf("/console/companies/acme/callbacks/%d/pause", h.waits)
	v.send(pause+"?"+url.Values{"token": {token}}.Encode(), nil).want(t, http.StatusForbidden, "load the page again")
	v.send(pause, url.Values{"token": {token}, "more": {strings.Repeat("x", maxForm)}}).want(t, http.StatusBadRequest, "The form cannot be read")
	v.send("/console/login", url.Values{"key": {h.has["viewer"]}, "more": {strings.Repeat("x", maxForm)}}).want(t, http.StatusBadRequest, "This is not the login form")
	link, _ := h.link("acme", "")
	v.send("/portal/enter", url.Values{"link": {link}, "more": {strings.Repeat("x", maxForm)}}).want(t, http.StatusBadRequest, "This is not the form of a link")
	if said := h.tell("GET", fmt.Sprintf("/companies/acme/config/callbacks/%d", h.waits), ""); !strings.Contains(said, `"status":"enabled"`) {
		t.Errorf("the callback is paused: %s", said)
	}
	v.send(pause, url.Values{"token": {token}, "more": {strings.Repeat("x", maxForm/2)}}).want(t, http.StatusSeeOther)
}

// Whoever asks for a page that acts is asked back: nothing happens before the form is sent.
func TestLookingActsOnNothing(t *testing.T) {
	h := newHouse(t)
	type looks struct {
		*visitor
		paths map[string]string
	}
	all := []looks{{h.loggedIn("operator"), h.paths(http.MethodGet)}, {h.by("acme", ""), h.portalPaths(http.MethodGet)}}
	before := h.tell("GET", "/audit", "")
	for _, of := range all {
		for pattern, at := range of.paths {
			if strings.HasSuffix(pattern, "/live") {
				continue
			}
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				of.do(httptest.NewRequestWithContext(t.Context(), method, at+"?do=start&state=dead&held=skip&own=true&overlap=0s", nil))
			}
		}
	}
	if after := h.tell("GET", "/audit", ""); after != before {
		t.Errorf("somebody looked, and there is\n%s\nwhere there was\n%s", after, before)
	}
}

// What names something in an address of the API is one segment of its path, whatever is in it.
func TestSegmentsStayWithinTheirSlashes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"a/b": "/a%2Fb", "../keys": "/..%2Fkeys", "a?b": "/a%3Fb", "a#b": "/a%23b", "a%2Fb": "/a%252Fb", "é": "/%C3%A9"} {
		if got := route(name); got != want {
			t.Errorf("%s becomes %s, want %s", name, got, want)
		}
	}
}
