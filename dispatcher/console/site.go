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
	menu   func(key registry.Key, at string) []item // at: the path of the page
}

// An item is a link of the menu.
type item struct {
	Href, Label string
	Here        bool // the page lies below it
}

// operates reports whether a caller may change something: buttons are shown then. The API decides by itself.
func operates(k registry.Key) bool { return k.Role == registry.Operator && !k.ReadOnly }

// path is the address of a page.
func (s *site) path(segments ...string) string { return s.root + route(segments...) }

// A link is a word that leads somewhere.
type link struct{ Href, Text string }

// asset is the address of a file under static/.
func (s *site) asset(name string) string { return s.root + "/static/" + hashed(name) }

// secure sets the headers that every answer has.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", strings.Join([]string{
		"default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'", "connect-src 'self'", "form-action 'self'",
		"base-uri 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
	}, "; "))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	// Not no-referrer: browsers would then send forms with "Origin: null", which looks like a stranger's.
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	h.Set("Cache-Control", "no-store")
}
