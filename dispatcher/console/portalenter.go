package console

import (
	"errors"
	"net/http"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry"
)

// An entrance takes portal links. Whoever opens one sees a button. Only the button uses the link up: what merely looks at addresses, such as a scanner of
// mail, does not press it.
type entrance struct {
	*door
	unknown func(*http.Request) time.Duration // see [PortalConfig]
}

// A ticket is the page that a portal link leads to.
type ticket struct {
	Action, Token string // empty: there is nothing to press
	Problem       string
	Login         string
}

// ask shows the button. It does not look whether the link is any good, and changes nothing.
func (e *entrance) ask(w http.ResponseWriter, r *http.Request) {
	// The link's token stands in the address, which is told nobody: not to this server's own log, with the page's files, nor with its form. The form needs an
	// Origin all the same, which rules out no-referrer.
	w.Header().Set("Referrer-Policy", "strict-origin")
	e.show(w, r, &client.APIError{Status: http.StatusOK}, ticket{Action: e.path("enter"), Token: r.PathValue("token")})
}

// open uses a link up. Its session begins, and the browser gets a cookie with its token.
func (e *entrance) open(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		e.refuse(w, r, &client.APIError{Status: http.StatusBadRequest, Detail: "this is not the form of a link: open the link once more"})
		return
	}
	token, s, err := e.sessions.Redeem(r.Context(), r.PostForm.Get("link"))
	if err != nil {
		e.refuse(w, r, e.because(r, err))
		return
	}
	http.SetCookie(w, e.site.cookie(r, e.cookie, token, int(s.ExpiresAt.Sub(s.BeganAt)/time.Second)))
	http.Redirect(w, r, e.root+"/", http.StatusSeeOther)
}

// because says why a link does not open, and what to do.
func (e *entrance) because(r *http.Request, err error) *client.APIError {
	const ask = "ask whoever gave it to you for another one"
	switch {
	case errors.Is(err, registry.ErrLinkUsed):
		return &client.APIError{Status: http.StatusUnauthorized, Detail: "this link was used before, and each opens once: if it was not you who used it, say so to whoever gave it to you, and ask for another one"}
	case errors.Is(err, registry.ErrExpired):
		return &client.APIError{Status: http.StatusUnauthorized, Detail: "this link has expired: " + ask}
	case errors.Is(err, registry.ErrUnauthorized):
		if wait := e.unknown(r); wait > 0 {
			return &client.APIError{Status: http.StatusTooManyRequests, Detail: "too many wrong links or keys come from this address: try again in a while", RetryAfter: wait.Round(time.Second) + time.Second}
		}
		return &client.APIError{Status: http.StatusUnauthorized, Detail: "this link is not one of ours, or it was taken back: see that you have the whole of it, or " + ask}
	}
	e.log.ErrorContext(r.Context(), "a portal link did not open", "error", err)
	return e.refusal(r, unavailable(err))
}

// refuse answers with why a link does not open.
func (e *entrance) refuse(w http.ResponseWriter, r *http.Request, why *client.APIError) {
	e.show(w, r, why, ticket{Problem: sentence(why.Detail), Login: e.path("login")})
}

func (e *entrance) show(w http.ResponseWriter, r *http.Request, status *client.APIError, t ticket) {
	f := e.frame("Open your page")
	if t.Action == "" {
		f.Title = "The link does not open"
	}
	f.Main = t
	e.stand(w, r, status, "enter", f)
}
