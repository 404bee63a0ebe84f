package httpapi

import (
	"bytes"
	_ "embed"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

const (
	monitoringRoot = "/monitoring"
	loginPath      = monitoringRoot + "/login"
	logoutPath     = monitoringRoot + "/logout"

	// cookieName holds the token of a session. It is not the name that versions before used: their cookies held API keys, and beside such a version each
	// keeps to its own.
	cookieName    = "ringback_monitoring_session"
	oldCookieName = "ringback_monitoring"
	// maxLogin bounds the login form, in bytes.
	maxLogin = 4096
)

// A lock stands before asynq's UI, which has no access control of its own. It opens to a key in the header, and to a session in a cookie.
type lock struct {
	server   *server
	sessions *registry.Sessions
}

// install adds the login form's path, and describes it.
func (l lock) install(chapter []string) {
	form := &huma.Schema{Type: huma.TypeObject, Required: []string{"key"}, Properties: map[string]*huma.Schema{"key": plainText}}
	l.server.document(page{Operation: huma.Operation{
		OperationID: "monitoring-login", Method: http.MethodPost, Path: loginPath, Tags: chapter, Summary: "Log in to asynq's UI",
		Description: "Takes the login form and sets a cookie. With a key that will not do the answer is the form again, with the status that is due.",
		RequestBody: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{"application/x-www-form-urlencoded": {Schema: form}}},
		Responses:   map[string]*huma.Response{"303": {Description: "Logged in: on to the UI", Headers: stringHeaders("Location", "Set-Cookie")}},
		Errors:      []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable},
	}})
	l.server.document(page{Operation: huma.Operation{
		OperationID: "monitoring-logout", Method: http.MethodPost, Path: logoutPath, Tags: chapter, Summary: "Log out of asynq's UI",
		Description: "Ends the session of the cookie, and takes the cookie back.",
		Responses:   map[string]*huma.Response{"303": {Description: "Logged out: on to the login form", Headers: stringHeaders("Location", "Set-Cookie")}},
		Errors:      []int{http.StatusForbidden, http.StatusServiceUnavailable},
	}})
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(l.denyCrossOrigin))
	l.server.mux.Handle("POST "+loginPath, l.server.keyless(sameOrigin.Handler(http.HandlerFunc(l.login))))
	l.server.mux.Handle("POST "+logoutPath, l.server.keyless(sameOrigin.Handler(http.HandlerFunc(l.logout))))
}

// admit wants a key in the header, or else a session in the cookie.
func (l lock) admit(r *http.Request) error {
	if r.Header.Get("Authorization") != "" {
		presented, err := bearer(r.Header)
		if err != nil {
			return err
		}
		return l.check(r, presented)
	}
	token := cookieOf(r, cookieName)
	if token == "" {
		return errNoKey
	}
	session, err := l.sessions.Get(r.Context(), token, registry.PlaceMonitoring)
	if errors.Is(err, registry.ErrUnauthorized) {
		return errNoSession
	}
	if err != nil {
		return err
	}
	admitted(r.Context())
	return watch.permits(session.Key, "")
}

// check judges a key.
func (l lock) check(r *http.Request, presented string) error {
	key, err := l.server.authenticate(r, presented)
	if err != nil {
		return err
	}
	return watch.permits(key, "")
}

// cookieOf is the value of a request's cookie. If there is none, it is "".
func cookieOf(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}

// login takes the form. If its key is good, login begins a session and leaves its token in a cookie. The key itself does not come back to the browser.
func (l lock) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := r.ParseForm(); err != nil {
		l.server.refuse(w, r, badRequest("this is not the login form"))
		return
	}
	key := strings.TrimSpace(r.PostForm.Get("key"))
	if key == "" {
		l.form(w, r, errNoKey)
		return
	}
	if err := l.check(r, key); err != nil {
		l.form(w, r, err)
		return
	}
	token, _, err := l.sessions.Begin(r.Context(), key, registry.PlaceMonitoring)
	if err != nil {
		l.form(w, r, err)
		return
	}
	forgetOldCookie(w, r)
	setCookie(w, r, cookieName, token, int(registry.SessionLife/time.Second))
	http.Redirect(w, r, monitoringRoot+"/", http.StatusSeeOther)
}

// logout ends the session of the cookie, if there is one.
func (l lock) logout(w http.ResponseWriter, r *http.Request) {
	if err := l.sessions.End(r.Context(), cookieOf(r, cookieName)); err != nil {
		l.server.refuse(w, r, err)
		return
	}
	forgetOldCookie(w, r)
	setCookie(w, r, cookieName, "", -1)
	http.Redirect(w, r, monitoringRoot+"/", http.StatusSeeOther)
}

// forgetOldCookie takes the cookie back that a version before gave out, with an API key in it.
func forgetOldCookie(w http.ResponseWriter, r *http.Request) {
	if cookieOf(r, oldCookieName) != "" {
		setCookie(w, r, oldCookieName, "", -1)
	}
}

// setCookie leaves a cookie for some seconds. Less than 0 takes it back.
func setCookie(w http.ResponseWriter, r *http.Request, name, value string, age int) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure if the browser spoke TLS: dev is plain HTTP on loopback
		Name: name, Value: value, Path: monitoringRoot + "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	})
}

// overTLS reports whether the browser spoke TLS, with us or with the proxy before us. A lie about it gains nothing: a browser
// merely keeps a Secure cookie to itself on plain HTTP.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// denyCrossOrigin refuses a form that another site's page sent.
func (l lock) denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	l.server.refuse(w, r, &refusal{status: http.StatusForbidden, detail: "this form was sent from another site: go to " + monitoringRoot + "/"})
}

//go:embed login.html
var loginHTML string

// styles are the style elements of a page.
var styles = regexp.MustCompile(`(?s)<style>(.*?)</style>`)

var (
	loginForm   = template.Must(template.New("login").Parse(loginHTML))
	loginPolicy = "default-src 'none'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; style-src " + hashesOf(styles, []byte(loginHTML))
)

// form shows the login form, with the status that is due. Somebody who tried reads the reason, too.
func (l lock) form(w http.ResponseWriter, r *http.Request, err error) {
	p, header := l.server.answer(r.Context(), r.Method+" "+routeOf(r), err)
	var page bytes.Buffer
	problem := p.Detail
	if errors.Is(err, errNoKey) {
		problem = ""
	}
	if err := loginForm.Execute(&page, struct{ Action, Problem string }{loginPath, problem}); err != nil {
		l.server.refuse(w, r, err)
		return
	}
	maps.Copy(w.Header(), header)
	w.Header().Set("Content-Security-Policy", loginPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(p.Status)
	_, _ = w.Write(page.Bytes())
}
