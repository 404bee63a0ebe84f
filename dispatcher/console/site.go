package console

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/ringback/ringback/registry"
)

// A site is one front end: all of its pages lie below its root and look alike.
type site struct {
	root   string // such as /console
	name   string // in titles and on top of pages
	api    http.Handler
	log    *slog.Logger
	admits func(registry.Key) bool                  // whether a key may look at the pages at all
	refuse string                                   // what others hear
	hint   string                                   // on the login page: who gets in, and how
	ended  string                                   // what somebody hears whose session is over
	menu   func(key registry.Key, at string) []item // at: the path of the page

	partners bool     // the pages are one company's, for partners
	embed    []string // origins whose pages may have these pages in a frame
	look     look     // instead of Ringback's own
}

// An item is a link of the menu.
type item struct {
	Href, Label string
	Here        bool // the page lies below it
}

// operates reports whether a caller may change something: buttons are shown then. The API decides by itself.
func operates(k registry.Key) bool {
	return (k.Role == registry.Operator || k.Role == registry.Partner) && !k.ReadOnly
}

// path is the address of a page.
func (s *site) path(segments ...string) string { return s.root + route(segments...) }

// A link is a word that leads somewhere.
type link struct{ Href, Text string }

// asset is the address of a file under static/.
func (s *site) asset(name string) string { return s.root + "/static/" + hashed(name) }

// secure sets the headers that every answer has. Who may have a page in a frame is said by the policy. X-Frame-Options cannot name origins, so it is sent
// only where nobody may.
func (s *site) secure(h http.Header) {
	ancestors, fetchers := "'none'", "same-origin"
	if len(s.embed) > 0 {
		// A page that wants its frames to say that they may be embedded (COEP) hears so.
		ancestors, fetchers = "'self' "+strings.Join(s.embed, " "), "cross-origin"
	} else {
		h.Set("X-Frame-Options", "DENY")
	}
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "form-action 'self'",
		"base-uri 'none'", "frame-ancestors " + ancestors, "require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	// Not no-referrer: browsers would then send forms with "Origin: null", which looks like a stranger's.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", fetchers)
	if len(s.embed) > 0 {
		h.Set("Cross-Origin-Embedder-Policy", "require-corp") // all that a page needs is of its own origin
	}
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}
