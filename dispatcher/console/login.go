package console

import (
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry"
)

// loginGet shows the login page to somebody who asks for it.
func (d *door) loginGet(w http.ResponseWriter, r *http.Request) {
	d.loginPage(w, r, &client.APIError{Status: http.StatusOK}, d.root+"/")
}

// login takes the form. If its key is good, a session begins, and the browser gets a cookie with its token.
func (d *door) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		d.turnAway(w, r, &client.APIError{Status: http.StatusBadRequest, Detail: "this is not the login form"})
		return
	}
	presented, to := strings.TrimSpace(r.PostForm.Get("key")), next(d.site, r.PostForm.Get("next"))
	if presented == "" || strings.ContainsFunc(presented, func(c rune) bool { return c <= ' ' || c > '~' }) {
		d.loginPage(w, r, &client.APIError{Status: http.StatusUnauthorized, Detail: "give an API key: `ringback keys create` makes one"}, to)
		return
	}
	// The API judges the key, and holds back those who guess.
	asked := r.Clone(r.Context())
	asked.Header = http.Header{"Authorization": {"Bearer " + presented}, "User-Agent": {r.UserAgent()}}
	var key registry.Key
	err := ask(r.Context(), d.api, asked, w, question{method: http.MethodGet, path: route("caller")}, &key)
	token := ""
	if err = d.admitted(key, err); err == nil {
		token, _, err = d.sessions.Begin(r.Context(), presented, d.place)
		if err != nil {
			d.log.ErrorContext(r.Context(), "no session began", "error", err)
			err = unavailable(err)
		}
	}
	if err != nil {
		d.loginPage(w, r, d.refusal(r, err), to)
		return
	}
	http.SetCookie(w, d.site.cookie(r, d.cookie, token, int(registry.SessionLife/time.Second)))
	http.Redirect(w, r, to, http.StatusSeeOther) //nolint:gosec // next lets nothing through but the site's own pages
}

// logout ends the session.
func (d *door) logout(v *visit) error {
	if err := d.sessions.End(v.r.Context(), d.tokenIn(v.r)); err != nil {
		return unavailable(err)
	}
	http.SetCookie(v.w, v.site.cookie(v.r, d.cookie, "", -1))
	http.Redirect(v.w, v.r, d.path("login"), http.StatusSeeOther)
	return nil
}

// ownPages refuses forms that pages of another site sent.
func (d *door) ownPages(next http.Handler) http.Handler {
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.turnAway(w, r, &client.APIError{Status: http.StatusForbidden, Detail: "this form was sent from another site: open " + d.root + "/ and send it from there"})
	}))
	return own.Handler(next)
}
