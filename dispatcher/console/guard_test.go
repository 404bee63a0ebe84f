package console

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
	v.send(pause, url.Values{"token": {token}, "more": {strings.Repeat("x", maxVisit)}}).want(t, http.StatusBadRequest, "The form cannot be read")
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

// The headers of every answer are these, and no others: what browsers keep from each other rests on them.
func TestHeadersOfEveryAnswer(t *testing.T) {
	t.Parallel()
	got := http.Header{}
	(&site{}).secure(got)
	want := http.Header{
		"Content-Security-Policy": {"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; " +
			"frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"},
		"X-Frame-Options": {"DENY"}, "X-Content-Type-Options": {"nosniff"}, "Referrer-Policy": {"same-origin"}, "Cross-Origin-Resource-Policy": {"same-origin"},
		"Cross-Origin-Opener-Policy": {"same-origin"}, "Permissions-Policy": {"camera=(), geolocation=(), microphone=(), payment=(), usb=()"}, "Cache-Control": {"no-store"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Pages of a list lead on, and back to the first, with all that its address asks for. A list that follows what happens asks for its own part of it, and goes on
// where it broke off.
func TestListsLeadOnWithTheirFilters(t *testing.T) {
	t.Parallel()
	v := &visit{r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/x?state=dead&state=held&cursor=abc", nil)}
	if got, want := v.pagerOf("next"), (pager{Next: "?cursor=next&state=dead&state=held", First: "?state=dead&state=held"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	v.r = httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/x?state=dead", nil)
	if got := v.pagerOf(""); got != (pager{}) {
		t.Errorf("%+v", got)
	}
	var asked *http.Request
	v = &visit{
		site: &site{api: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { asked = r })}, w: httptest.NewRecorder(),
		r: httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/console/companies/acme/live?callback_id=3&event_type=x&token=y", nil),
	}
	v.r.SetPathValue("company", "acme")
	v.r.Header.Set("Last-Event-ID", "place")
	if err := livePage(v); err != nil || asked.URL.String() != "/companies/acme/deliveries/stream?callback_id=3&event_type=x" || asked.Header.Get("Last-Event-ID") != "place" {
		t.Errorf("%v: %s %v", err, asked.URL, asked.Header)
	}
}

// A session that is none of the pages' people opens nothing, whoever began it.
func TestSessionsOfOthersOpenNothing(t *testing.T) {
	h := newHouse(t)
	for _, tt := range []struct {
		actor, cookie, at string
		place             registry.Place
	}{{"producer", "ringback_console", "/console/types", registry.PlaceConsole}, {"partner", "ringback_console", "/console/types", registry.PlaceConsole}, {"viewer", "ringback_portal", "/portal/types", registry.PlacePortal}} {
		token, _, err := registry.NewSessions(h.keys).Begin(t.Context(), h.has[tt.actor], tt.place)
		h.must(err)
		(&visitor{h, "", map[string]string{tt.cookie: token}}).get(tt.at).want(t, http.StatusForbidden, "These pages are for")
	}
}

// What was counted is what goes out: the form below the count holds the times that were counted.
func TestWhatWasCountedGoesOut(t *testing.T) {
	h := newHouse(t)
	v := h.loggedIn("operator")
	at := fmt.Sprintf("/console/companies/acme/callbacks/%d/replay", h.bad)
	began := time.Now()
	ask := v.submit(v.get(at), at, url.Values{"since": {"1h"}}).want(t, http.StatusOK, "This is 1 delivery")
	times := map[string]time.Time{}
	for n := range elements(ask.parse(t), "input") {
		if name := attribute(n, "name"); name == "since" || name == "until" {
			when, err := time.Parse(time.RFC3339Nano, attribute(n, "value"))
			h.must(err)
			times[name] = when
		}
	}
	if began.Sub(times["since"]).Round(time.Minute) != time.Hour || times["until"].Before(began.Add(-time.Minute)) || times["until"].After(time.Now().Add(time.Minute)) {
		t.Errorf("it goes over %v", times)
	}
}
