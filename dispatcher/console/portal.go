package console

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/ringback/ringback/registry"
)

// PortalRoot is where the partners' pages lie.
const PortalRoot = "/portal"

// PortalConfig is what the partners' pages need.
type PortalConfig struct {
	API      http.Handler       // the API's handler; required
	Sessions *registry.Sessions // of the people who came in by a portal link, or logged in; required

	// Unknown is told of each request that shows an unknown portal link, and says how long its sender has to wait; 0: not at all. Nil: nobody waits.
	Unknown func(*http.Request) time.Duration

	PortalLook

	// Logger hears of pages that this program failed to make. Default: slog.Default().
	Logger *slog.Logger
}

// PortalLook is how the pages look, and where.
type PortalLook struct {
	Name   string   // in titles and on top of pages; default: Ringback
	Accent string   // such as #1f5fd0; default: Ringback's. It is made darker or lighter where it could not be read
	Logo   []byte   // a PNG or an SVG; default: Ringback's
	Embed  []string // origins whose pages may have these in a frame, see [EmbedOrigin]; default: none
}

// NewPortal makes the handler of all pages below [PortalRoot]. It expects clean paths only: the API answers others.
func NewPortal(cfg PortalConfig) (http.Handler, error) {
	switch {
	case cfg.API == nil:
		return nil, errors.New("console: PortalConfig.API is missing")
	case cfg.Sessions == nil:
		return nil, errors.New("console: PortalConfig.Sessions is missing")
	}
	if cfg.Unknown == nil {
		cfg.Unknown = func(*http.Request) time.Duration { return 0 }
	}
	look, err := newLook(cfg.Accent, cfg.Logo)
	if err != nil {
		return nil, err
	}
	s := &site{
		root: PortalRoot, name: cmp.Or(cfg.Name, "Ringback"), api: cfg.API, log: cmp.Or(cfg.Logger, slog.Default()), partners: true, look: look,
		admits: func(k registry.Key) bool { return k.Role == registry.Partner },
		refuse: "these pages are for partners: open the link that you were given, or log in with a partner’s key",
		hint:   "If somebody gave you a link, open that: it needs no key. A key of the role `partner` gets in, too. The browser keeps a session of up to twelve hours, and not the key.",
		ended:  "your visit has ended: ask whoever gave you the link for another one, or log in with a partner’s key",
	}
	for _, text := range cfg.Embed {
		origin, err := EmbedOrigin(text)
		if err != nil {
			return nil, fmt.Errorf("console: PortalConfig.Embed: %q %w", text, err)
		}
		s.embed = append(s.embed, origin)
	}
	s.menu = portalMenu(s)
	d := &door{site: s, sessions: cfg.Sessions, place: registry.PlacePortal, cookie: "ringback_portal"}
	e := &entrance{d, cfg.Unknown}
	return d.front(d.portalRoutes(), map[string]http.HandlerFunc{"GET /enter/{token}": e.ask, "POST /enter": e.open}), nil
}

// portalRoutes are the partners' pages. Those of the console that show the same are the same.
func (d *door) portalRoutes() map[string]page {
	const callback = "/companies/{company}/callbacks/{callback}"
	pages := d.companyRoutes()
	pages["GET /{$}"], pages["GET /verification"] = homePage, verificationPage
	asking(pages, map[string]page{callback + "/delete": deleteCallbackPage})
	return pages
}

// homePage is the page of the caller's company.
func homePage(v *visit) error {
	v.r.SetPathValue("company", v.key.Company)
	return companyPage(v)
}

// portalMenu returns what makes the portal's menu.
func portalMenu(s *site) func(registry.Key, string) []item {
	return func(key registry.Key, at string) []item {
		company := s.path("companies", key.Company)
		items := []item{{Href: s.root + "/", Label: "Callbacks", Here: at == s.root+"/" || at == company || strings.HasPrefix(at, company+"/callbacks/")}}
		for _, i := range []item{
			{Href: company + "/deliveries", Label: "Deliveries"},
			{Href: company + "/replays", Label: "Replays"},
			{Href: s.path("types"), Label: "Events there are"},
			{Href: s.path("verification"), Label: "Verify signatures"},
		} {
			i.Here = at == i.Href || strings.HasPrefix(at, i.Href+"/")
			items = append(items, i)
		}
		return items
	}
}
