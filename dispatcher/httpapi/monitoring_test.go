package httpapi

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/hibiken/asynq"

	"github.com/ringback/ringback/registry"
)

// logIn sends the login form and returns the answer.
func (h *house) logIn(key string, change ...func(*http.Request)) answer {
	h.t.Helper()
	r := httptest.NewRequestWithContext(h.t.Context(), "POST", loginPath, strings.NewReader(url.Values{"key": {key}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, f := range change {
		f(r)
	}
	return h.do(r)
}

func (a answer) cookie() *http.Cookie {
	a.t.Helper()
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 1 {
		a.t.Fatalf("%d cookies", len(cookies))
	}
	return cookies[0]
}

func TestMonitoringAsksWhoComes(t *testing.T) {
	h := newHouse(t)
	for _, path := range []string{"/monitoring/", "/monitoring/queues/ringback-0", "/monitoring/static/js/main.5adda2da.chunk.js"} {
		a := h.call("", "GET", path, "").want(http.StatusUnauthorized)
		if !strings.Contains(string(a.body), "<form") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/html") {
			t.Errorf("%s: no login form: %s", path, a.body)
		}
		wantOffline(h, "", a, "http://here/monitoring/")
	}
	h.call("", "GET", "/monitoring/api/queues", "").wantProblem(http.StatusUnauthorized)
	if got := h.call("", "GET", "/monitoring", "").want(http.StatusTemporaryRedirect).header.Get("Location"); got != "/monitoring/" {
		t.Errorf("/monitoring leads to %q", got)
	}
}

func TestMonitoringIsReadOnly(t *testing.T) {
	h := newHouse(t)
	h.call("", "GET", "/readyz", "").want(http.StatusOK) // names the queues
	a := h.call("viewer", "GET", "/monitoring/api/queues", "").want(http.StatusOK)
	if !strings.Contains(string(a.body), "ringback-0") || a.header.Get("Content-Type") != "application/json" {
		t.Errorf("queues: %s (%s)", a.body, a.header.Get("Content-Type"))
	}
	for _, r := range []struct{ method, path string }{
		{method: "POST", path: "/monitoring/api/queues/ringback-0:pause"},
		{method: "DELETE", path: "/monitoring/api/queues/ringback-0"},
		{method: "POST", path: "/monitoring/api/queues/ringback-0/pending_tasks:archive_all"},
		{method: "DELETE", path: "/monitoring/api/queues/ringback-0/pending_tasks:delete_all"},
		{method: "POST", path: "/monitoring/"},
	} {
		for _, actor := range []string{"operator", "viewer", ""} {
			h.call(actor, r.method, r.path, "").wantProblem(http.StatusMethodNotAllowed)
		}
	}
	info, err := asynq.NewInspectorFromRedisClient(h.rdb).GetQueueInfo("ringback-0")
	h.must(err)
	if info.Paused {
		t.Error("a queue was paused")
	}
}

func TestMonitoringKnowsItsQueues(t *testing.T) {
	h := newHouse(t)
	h.call("", "GET", "/readyz", "").want(http.StatusOK) // names the queues
	for _, path := range []string{"", "/active_tasks", "/pending_tasks", "/retry_tasks", "/groups"} {
		h.call("viewer", "GET", "/monitoring/api/queues/nope"+path, "").wantProblem(http.StatusNotFound)
	}
	h.call("viewer", "GET", "/monitoring/api/queues/ringback-0", "").want(http.StatusOK)
	// A fault that is neither Redis's nor the caller's.
	h.must(h.rdb.LPush(t.Context(), "asynq:{ringback-0}:archived", "not a sorted set").Err())
	a := h.call("viewer", "GET", "/monitoring/api/queues/ringback-0/archived_tasks", "")
	a.wantProblem(http.StatusInternalServerError)
	if strings.Contains(string(a.body), "WRONGTYPE") || !strings.Contains(h.log.String(), "WRONGTYPE") {
		t.Errorf("the cause belongs in the log, not here: %s", a.body)
	}
}

func TestMonitoringWithoutRedis(t *testing.T) {
	h := newHouse(t)
	h.call("viewer", "GET", "/monitoring/api/queues", "").want(http.StatusOK) // the key is known from here on
	h.redis.Kill()
	for _, path := range []string{"queues", "queues/ringback-0", "queues/nope/pending_tasks", "redis_info", "servers", "scheduler_entries"} {
		a := h.call("viewer", "GET", "/monitoring/api/"+path, "")
		a.wantProblem(http.StatusServiceUnavailable)
		if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "redis.sock") || strings.Contains(string(a.body), "dial") {
			t.Errorf("%s: %v %s", path, a.header, a.body)
		}
	}
}

func TestMonitoringPageRunsUnderItsPolicy(t *testing.T) {
	h := newHouse(t)
	page := h.call("viewer", "GET", "/monitoring/", "").want(http.StatusOK)
	wantOffline(h, "viewer", page, "http://here/monitoring/")
	csp := page.header.Get("Content-Security-Policy")
	if strings.Contains(csp, "script-src 'self' 'unsafe") || strings.Contains(csp, "unsafe-eval") {
		t.Errorf("any script may run: %s", csp)
	}
	if n := len(scripts.FindAll(page.body, -1)); n == 0 || strings.Count(csp, "'sha256-") != n {
		t.Errorf("%d inline scripts, policy %s", n, csp)
	}
	script := h.call("viewer", "GET", "/monitoring/static/js/main.5adda2da.chunk.js", "").want(http.StatusOK)
	if got := script.header.Get("Content-Type"); !strings.Contains(got, "javascript") {
		t.Errorf("a script of type %q does not run under nosniff", got)
	}
	deep := h.call("viewer", "GET", "/monitoring/queues/ringback-0/tasks/dlv_a.b:g1", "").want(http.StatusOK)
	if string(deep.body) != string(page.body) {
		t.Error("a place within the page is not the page")
	}
	form := h.call("", "GET", "/monitoring/", "")
	if want := hashesOf(styles, form.body); !strings.Contains(form.header.Get("Content-Security-Policy"), want) {
		t.Errorf("the form's style is %s, its policy %s", want, form.header.Get("Content-Security-Policy"))
	}
}

func TestLogin(t *testing.T) {
	h := newHouse(t)
	for _, actor := range []string{"operator", "viewer"} {
		a := h.logIn(" " + h.keys[actor] + "\n").want(http.StatusSeeOther)
		if got := a.header.Get("Location"); got != "/monitoring/" {
			t.Errorf("Location = %q", got)
		}
		c := a.cookie()
		if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/monitoring/" || c.Secure || c.MaxAge != 12*60*60 || strings.Contains(c.Value, h.keys[actor]) {
			t.Errorf("cookie: %+v", c)
		}
		for _, path := range []string{"/monitoring/", "/monitoring/api/queues"} {
			h.call("", "GET", path, "", header{"Cookie": c.Name + "=" + c.Value}).want(http.StatusOK)
		}
		if again := h.logIn(h.keys[actor]).want(http.StatusSeeOther).cookie(); again.Value == c.Value {
			t.Error("two sessions have one token")
		}
		// The cookie opens nothing else.
		h.call("", "GET", "/metrics", "", header{"Cookie": c.Name + "=" + c.Value}).wantProblem(http.StatusUnauthorized)
		// A header that is wrong is not made good by a cookie.
		h.call("wrong", "GET", "/monitoring/", "", header{"Cookie": c.Name + "=" + c.Value}).wantProblem(http.StatusUnauthorized)
	}
	for _, secure := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") },
		func(r *http.Request) { r.TLS = &tls.ConnectionState{} },
	} {
		if c := h.logIn(h.keys["viewer"], secure).want(http.StatusSeeOther).cookie(); !c.Secure {
			t.Error("the cookie is not Secure although the browser spoke TLS")
		}
	}
	for key, status := range map[string]int{
		"": 401, "wrong": 401, h.keys["producer"]: 403, h.keys["partner"]: 403, h.keys["acme viewer"]: 403, h.keys["acme operator"]: 403,
	} {
		a := h.logIn(key).want(status)
		if len(a.header["Set-Cookie"]) > 0 || !strings.Contains(string(a.body), "<form") {
			t.Errorf("status %d: %s", status, a.body)
		}
		if key != "" && (strings.Contains(string(a.body), key) || !strings.Contains(string(a.body), `role="alert"`)) {
			t.Errorf("the form should say why and not repeat the key: %s", a.body)
		}
	}
	console, _, err := registry.NewSessions(h.api.Keys).Begin(t.Context(), h.keys["viewer"], registry.PlaceConsole)
	h.must(err)
	for _, cookie := range []string{"!", "d3Jvbmc", "", console} {
		h.call("", "GET", "/monitoring/", "", header{"Cookie": cookieName + "=" + cookie}).want(http.StatusUnauthorized)
	}
	h.logIn(strings.Repeat("x", maxLogin)).wantProblem(http.StatusBadRequest)
}

func TestLoginComesFromHere(t *testing.T) {
	h := newHouse(t)
	for _, foreign := range []header{{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://evil.example"}} {
		a := h.logIn(h.keys["operator"], func(r *http.Request) {
			for name, value := range foreign {
				r.Header.Set(name, value)
			}
		})
		a.wantProblem(http.StatusForbidden)
		if len(a.header["Set-Cookie"]) > 0 {
			t.Error("a cookie for another site's form")
		}
	}
	h.logIn(h.keys["operator"], func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-origin") }).want(http.StatusSeeOther)
	h.logIn(h.keys["operator"], func(r *http.Request) { r.Header.Set("Origin", "http://example.com") }).want(http.StatusSeeOther)
}

func TestARevokedKeyEndsTheVisit(t *testing.T) {
	h := newHouse(t)
	c := h.logIn(h.keys["viewer"]).want(http.StatusSeeOther).cookie()
	keys, err := h.api.Keys.List(t.Context())
	h.must(err)
	for _, k := range keys {
		if strings.HasPrefix(h.keys["viewer"], k.ID) {
			h.must(h.api.Keys.Revoke(t.Context(), k.ID))
		}
	}
	h.call("", "GET", "/monitoring/", "", header{"Cookie": c.Name + "=" + c.Value}).want(http.StatusUnauthorized)
}

// Whoever logs out is out, whatever keeps the cookie. A form of another site's logs nobody out.
func TestLogout(t *testing.T) {
	h := newHouse(t)
	c := h.logIn(h.keys["viewer"]).want(http.StatusSeeOther).cookie()
	cookie := header{"Cookie": c.Name + "=" + c.Value}
	if page := h.call("", "GET", "/monitoring/", "", cookie).want(http.StatusOK); !strings.Contains(string(page.body), `action="/monitoring/logout"`) {
		t.Error("the page has no button to log out")
	}
	h.call("", "POST", "/monitoring/logout", "", cookie, header{"Origin": "https://evil.example"}).wantProblem(http.StatusForbidden)
	h.call("", "GET", "/monitoring/", "", cookie).want(http.StatusOK)
	if gone := h.call("", "POST", "/monitoring/logout", "", cookie, header{"Sec-Fetch-Site": "same-origin"}).want(http.StatusSeeOther).cookie(); gone.Name != c.Name || gone.MaxAge >= 0 {
		t.Errorf("%+v", gone)
	}
	h.call("", "GET", "/monitoring/", "", cookie).want(http.StatusUnauthorized)
	h.call("", "GET", "/monitoring/api/queues", "", cookie).wantProblem(http.StatusUnauthorized)
}

// The cookie of a version before, which holds an API key, opens nothing, and is taken back at the next login.
func TestCookiesOfTheVersionBefore(t *testing.T) {
	h := newHouse(t)
	old := oldCookieName + "=" + base64.RawURLEncoding.EncodeToString([]byte(h.keys["viewer"]))
	h.call("", "GET", "/monitoring/", "", header{"Cookie": old}).want(http.StatusUnauthorized)
	a := h.logIn(h.keys["viewer"], func(r *http.Request) { r.Header.Set("Cookie", old) }).want(http.StatusSeeOther)
	cookies := (&http.Response{Header: a.header}).Cookies()
	if len(cookies) != 2 || cookies[0].Name != oldCookieName || cookies[0].MaxAge >= 0 || cookies[1].Name != cookieName {
		t.Errorf("%v", cookies)
	}
}
