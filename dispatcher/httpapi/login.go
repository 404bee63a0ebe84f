package httpapi

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

const (
	monitoringRoot = "/monitoring"
	loginPath      = monitoringRoot + "/login"

	// cookieName holds the key of somebody who logged in. It is in base64, for a key may have characters that a cookie may not.
	// The cookie holds the key itself and no session: the key is checked on every request, so revoking it also ends the visit.
	cookieName = "ringback_monitoring"
	// cookieAge is a working day, in seconds.
	cookieAge = 12 * 60 * 60
	// maxLogin bounds the login form, in bytes.
	maxLogin = 4096
)

// A lock stands before asynq's UI, which has no access control of its own. It opens to a key in the header, and to a cookie with a key.
type lock struct{ server *server }

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
	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(l.denyCrossOrigin))
	l.server.mux.Handle("POST "+loginPath, sameOrigin.Handler(http.HandlerFunc(l.login)))
}

// admit takes the key from the header, or else from the cookie.
func (l lock) admit(r *http.Request) error {
	presented, err := bearer(r.Header)
	if err != nil && r.Header.Get("Authorization") == "" {
		presented = keyFromCookie(r)
	}
	if presented == "" {
		return errNoKey
	}
	return l.check(r, presented)
}

// check judges a key.
func (l lock) check(r *http.Request, presented string) error {
	key, err := l.server.authenticate(r, presented)
	if err != nil {
		return err
	}
	return watch.permits(key, "")
}

// keyFromCookie returns the key of somebody who logged in. If there is none, it is "".
func keyFromCookie(r *http.Request) string {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return ""
	}
	key, err := base64.RawURLEncoding.DecodeString(c.Value)
	if err != nil {
		return ""
	}
	return string(key)
}

// login takes the form, and leaves a cookie if its key is good.
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
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure if the browser spoke TLS: dev is plain HTTP on loopback
		Name: cookieName, Value: base64.RawURLEncoding.EncodeToString([]byte(key)),
		Path: monitoringRoot + "/", MaxAge: cookieAge, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	})
	http.Redirect(w, r, monitoringRoot+"/", http.StatusSeeOther)
}

// overTLS reports whether the browser spoke TLS, with us or with the proxy before us. A lie about it gains nothing: a browser
// merely keeps a Secure cookie to itself on plain HTTP.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}

// denyCrossOrigin refuses a form that another site's page sent.
func (l lock) denyCrossOrigin(w http.ResponseWriter, r *http.Request) {
	l.server.refuse(w, r, &refusal{status: http.StatusForbidden, detail: "this form was sent from another site: log in from " + monitoringRoot + "/"})
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
