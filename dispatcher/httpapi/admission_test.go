package httpapi

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// A connection counts as admitted once a request of it shows a key that is good, a session of asynq's UI that holds, or comes from a page that knows its
// caller. What is refused admits nobody.
func TestWhoIsAdmittedAtTheDoor(t *testing.T) {
	h := newHouse(t)
	begun := h.call("", "POST", loginPath, "key="+h.keys["viewer"], header{"Content-Type": "application/x-www-form-urlencoded"}).want(http.StatusSeeOther)
	session, _, _ := strings.Cut(begun.header.Get("Set-Cookie"), ";")
	over, _, _ := strings.Cut(h.call("", "POST", loginPath, "key="+h.keys["viewer"], header{"Content-Type": "application/x-www-form-urlencoded"}).header.Get("Set-Cookie"), ";")
	h.call("", "POST", logoutPath, "", header{"Cookie": over}).want(http.StatusSeeOther)
	for name, tt := range map[string]struct {
		path   string
		header string
		text   string
		caller registry.Key
		want   bool
	}{
		"a good key":                     {"/callback-types", "Authorization", "Bearer " + h.keys["viewer"], registry.Key{}, true},
		"a good key without rights":      {"/egress", "Authorization", "Bearer " + h.keys["partner"], registry.Key{}, true},
		"a wrong key":                    {"/callback-types", "Authorization", "Bearer wrong", registry.Key{}, false},
		"no key":                         {"/callback-types", "X-None", "x", registry.Key{}, false},
		"a page's caller":                {"/callback-types", "X-None", "x", registry.Key{ID: "k", Role: registry.Viewer, Company: registry.AllCompanies}, true},
		"a session of asynq's UI":        {"/monitoring/", "Cookie", session, registry.Key{}, true},
		"a session that ended":           {"/monitoring/", "Cookie", over, registry.Key{}, false},
		"a session, where none is taken": {"/callback-types", "Cookie", session, registry.Key{}, false},
		"the login form":                 {"/monitoring/", "X-None", "x", registry.Key{}, false},
	} {
		told := false
		ctx := OnAdmission(t.Context(), func() { told = true })
		if tt.caller.ID != "" {
			ctx = registry.WithCaller(ctx, registry.Caller{Key: tt.caller})
		}
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, tt.path, nil)
		r.Header.Set(tt.header, tt.text)
		h.api.ServeHTTP(httptest.NewRecorder(), r)
		if told != tt.want {
			t.Errorf("%s is admitted: %t, want %t", name, told, tt.want)
		}
	}
}
