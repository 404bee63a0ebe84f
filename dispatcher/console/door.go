package console

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry"
)

// A door stands before the pages of a site. It opens to an API key in the header, and to a session in the cookie.
type door struct {
	*site
	sessions *registry.Sessions
	place    registry.Place
	cookie   string // the name of the one with a session's token
}

// Bounds of what a form may send, in bytes.
const (
	maxForm  = 64 << 10  // of somebody who is not in yet
	maxVisit = 256 << 10 // of a visit: a template of the longest has 16 KiB, a filter 8, each three times as long in a form, and there is a payload to try them on
)

// A page answers a visit, or returns why it cannot.
type page func(*visit) error

// open lets callers in to a page.
func (d *door) open(p page) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v, err := d.enter(w, r)
		if err != nil {
			d.turnAway(w, r, err)
			return
		}
		if err = v.checked(); err == nil {
			err = p(v)
		}
		if err != nil {
			v.fail(err) //nolint:contextcheck // the visit's request has its own
		}
	})
}

// enter finds out who calls.
func (d *door) enter(w http.ResponseWriter, r *http.Request) (*visit, error) {
	v := &visit{site: d.site, w: w, r: r, now: time.Now()}
	if given := r.Header.Get("Authorization"); given != "" {
		_, secret, _ := strings.Cut(given, " ")
		v.token = tokenOf(strings.TrimSpace(secret))
		err := v.get(&v.key, nil, "caller") //nolint:contextcheck // the request has its own
		return v, d.admitted(v.key, err)
	}
	token := d.tokenIn(r)
	if token == "" {
		return v, errNobody
	}
	s, err := d.sessions.Get(r.Context(), token, d.place)
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		return v, &client.APIError{Status: http.StatusUnauthorized, Detail: d.ended}
	case err != nil:
		return v, unavailable(err)
	}
	v.key, v.token = s.Key, s.CSRF
	v.r = r.WithContext(registry.WithCaller(r.Context(), d.sessions.Caller(s, token)))
	return v, d.admitted(v.key, nil)
}

// admitted judges a key that the API knows.
func (d *door) admitted(key registry.Key, err error) error {
	if err == nil && !d.admits(key) {
		return &client.APIError{Status: http.StatusForbidden, Detail: d.refuse}
	}
	return err
}

// tokenIn is the session's token in the cookie. If there is none, it is "".
func (d *door) tokenIn(r *http.Request) string {
	c, err := r.Cookie(d.cookie)
	if err != nil {
		return ""
	}
	return c.Value
}

// errNobody says that nobody has logged in. It is no mistake of the caller's, and the login page says nothing of it.
var errNobody = &client.APIError{Status: http.StatusUnauthorized}

// unavailable is a failure to look up a session. It wraps its cause, for the log.
func unavailable(err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &client.APIError{Status: http.StatusServiceUnavailable, Detail: "the store behind Ringback does not answer: try again in a moment", RetryAfter: 2 * time.Second}
}

// checked judges a form: it must hold the token that the page gave it.
func (v *visit) checked() error {
	if v.r.Method == http.MethodGet || v.r.Method == http.MethodHead {
		return nil
	}
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxVisit)
	if err := v.r.ParseForm(); err != nil {
		return &client.APIError{Status: http.StatusBadRequest, Detail: "the form cannot be read: go back and send it again"}
	}
	if subtle.ConstantTimeCompare([]byte(v.r.PostForm.Get("token")), []byte(v.token)) != 1 {
		return &client.APIError{Status: http.StatusForbidden, Detail: "this form is not of your visit, or it is an old one: go back, load the page again, and try once more"}
	}
	return nil
}

// turnAway answers somebody who does not get in. Nobody in particular gets the login page.
func (d *door) turnAway(w http.ResponseWriter, r *http.Request, err error) {
	d.loginPage(w, r, d.refusal(r, err), here(d.site, r))
}

// refusal is an error as the login page says it. What is no answer of the API is logged.
func (d *door) refusal(r *http.Request, err error) *client.APIError {
	if e, ok := errors.AsType[*client.APIError](err); ok {
		return e
	}
	d.log.ErrorContext(r.Context(), "page failed", "page", r.Pattern, "error", err)
	return &client.APIError{Status: http.StatusInternalServerError, Detail: "something went wrong in Ringback: the operator finds the cause in its log"}
}

// entry is the login page.
type entry struct {
	Action, Next, Problem string
	Hint                  string
	Focus                 bool // the field has the focus: in a frame it may not take that
}

// loginPage shows the login page, with the status that is due and what was wrong, if something was.
func (d *door) loginPage(w http.ResponseWriter, r *http.Request, e *client.APIError, next string) {
	f := d.frame("Log in")
	f.Main = entry{Action: d.path("login"), Next: next, Problem: sentence(e.Detail), Hint: d.hint, Focus: len(d.embed) == 0}
	d.stand(w, r, e, "login", f)
}

// stand answers with a page for somebody who is not in.
func (d *door) stand(w http.ResponseWriter, r *http.Request, e *client.APIError, template string, f frame) {
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("Www-Authenticate", `Bearer realm="ringback"`)
	}
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter/time.Second)))
	}
	if err := write(w, e.Status, template, f); err != nil {
		d.log.ErrorContext(r.Context(), "page failed", "page", r.Pattern, "error", err)
		http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
	}
}

// here is the page that somebody wanted, to which the login leads. A form that was sent is not sent again.
func here(s *site, r *http.Request) string {
	if r.Method == http.MethodGet {
		return next(s, r.URL.RequestURI())
	}
	return s.root + "/"
}

// next is where a login leads: to a page of the site, and nowhere else. Browsers take an escaped dot for a dot, so what counts is the path without escapes.
func next(s *site, to string) string {
	u, err := url.Parse(to)
	switch {
	case err != nil, u.Scheme != "", u.Host != "", strings.ContainsAny(to, "\\\r\n"), strings.Contains(to, "//"):
		return s.root + "/"
	case !strings.HasPrefix(u.Path, s.root+"/"), strings.HasPrefix(u.Path, s.root+"/login"), path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/"):
		return s.root + "/"
	}
	return to
}
