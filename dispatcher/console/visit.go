package console

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
	"github.com/ringback/ringback/registry"
)

// A visit is one request for a page, of a caller who is known.
type visit struct {
	*site
	w   http.ResponseWriter
	r   *http.Request // its context holds the caller, or its header does
	key registry.Key  // the caller's
	csrf
	now time.Time
}

// csrf is what a form must hold to be taken.
type csrf struct{ token string }

// operatesAll reports whether the caller may do what goes beyond single callbacks: somebody who is bounded to some may not.
func (v *visit) operatesAll() bool { return v.operates() && !v.key.Bounded() }

// operates reports whether the caller may change something.
func (v *visit) operates() bool { return operates(v.key) }

// everywhere reports whether the caller sees all companies.
func (v *visit) everywhere() bool { return v.key.Company == registry.AllCompanies }

// get asks the API for something.
func (v *visit) get(answer any, query url.Values, segments ...string) error {
	return ask(v.r.Context(), v.api, v.r, v.w, question{method: http.MethodGet, path: route(segments...), query: query}, answer)
}

// raw asks the API for something that is not JSON, or need not be read.
func (v *visit) raw(segments ...string) (*kept, error) {
	return answered(v.r.Context(), v.api, v.r, v.w, question{method: http.MethodGet, path: route(segments...)})
}

// post has the API do something. A nil body is none.
func (v *visit) post(answer, body any, segments ...string) error {
	return ask(v.r.Context(), v.api, v.r, v.w, question{method: http.MethodPost, path: route(segments...), body: body}, answer)
}

// change has the API change something that must still have a version.
func (v *visit) change(method, version string, answer, body any, segments ...string) error {
	return ask(v.r.Context(), v.api, v.r, v.w, question{method: method, path: route(segments...), body: body, version: version}, answer)
}

// delete has the API end something.
func (v *visit) delete(segments ...string) error {
	return ask(v.r.Context(), v.api, v.r, v.w, question{method: http.MethodDelete, path: route(segments...)}, nil)
}

// missing reports whether the API said that there is no such thing.
func missing(err error) bool {
	e, ok := errors.AsType[*client.APIError](err)
	return ok && e.Status == http.StatusNotFound
}

// An act is a button that does something, as a form of its own.
type act struct {
	Href, Token, Label string
	Kind               string // primary, danger or plain
}

func (v *visit) act(label, kind string, segments ...string) *act {
	return &act{Href: v.path(segments...), Token: v.token, Label: label, Kind: kind}
}

// A note is what became of what somebody did. It goes with the redirect that follows, in a cookie, and is shown once.
type note struct {
	Tone string // good or bad
	Text string
}

// noteCookie is the name of the cookie with a note.
const noteCookie = "ringback_note"

// seen sends the browser on to a page, which shows what became of what it did.
func (v *visit) seen(said string, segments ...string) error {
	text, err := json.Marshal(note{"good", said})
	if err != nil {
		return err
	}
	value := base64.RawURLEncoding.EncodeToString(text)
	http.SetCookie(v.w, v.cookie(noteCookie, value+"."+v.seal(value), 60))
	return v.redirect(segments...)
}

// redirect sends the browser on to a page.
func (v *visit) redirect(segments ...string) error {
	http.Redirect(v.w, v.r, v.path(segments...), http.StatusSeeOther) //nolint:gosec // below the root, and each segment is escaped
	return nil
}

// note takes the note of what was done last, if there is one. Nobody but this program writes notes: they are sealed for the caller.
func (v *visit) note() *note {
	c, err := v.r.Cookie(noteCookie)
	if err != nil {
		return nil
	}
	http.SetCookie(v.w, v.cookie(noteCookie, "", -1))
	value, seal, _ := strings.Cut(c.Value, ".")
	text, err := base64.RawURLEncoding.DecodeString(value)
	var n note
	if err != nil || !hmac.Equal([]byte(seal), []byte(v.seal(value))) || json.Unmarshal(text, &n) != nil {
		return nil
	}
	return &n
}

// seal is a proof that this program wrote a text, for a caller with this token.
func (c csrf) seal(text string) string {
	mac := hmac.New(sha256.New, []byte(c.token))
	_, _ = mac.Write([]byte("note " + text)) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tokenOf is the token for the forms of a caller who shows an API key with every request.
func tokenOf(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("forms")) // documented never to fail
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// cookie is one of this site's. A negative age ends it.
func (v *visit) cookie(name, value string, age int) *http.Cookie {
	return v.site.cookie(v.r, name, value, age)
}

// cookie is one of this site's. It is Secure if the browser spoke TLS: dev is plain HTTP on loopback.
func (s *site) cookie(r *http.Request, name, value string, age int) *http.Cookie {
	c := &http.Cookie{
		Name: name, Value: value, Path: s.root + "/", MaxAge: age, HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: overTLS(r),
	}
	if len(s.embed) > 0 { // in a frame of another site no other cookie comes back; and each site that has the frame gets a cookie of its own
		c.SameSite, c.Secure, c.Partitioned = http.SameSiteNoneMode, true, true
	}
	return c
}

// overTLS reports whether the browser spoke TLS, with us or with the proxy before us. A lie about it gains nothing: a browser merely keeps a
// Secure cookie to itself on plain HTTP.
func overTLS(r *http.Request) bool {
	return r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
}
