package console

import (
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"strings"

	"github.com/ringback/ringback/registry"
)

// Root is where the console lies.
const Root = "/console"

// Config is what the console needs.
type Config struct {
	API      http.Handler       // the API's handler; required
	Sessions *registry.Sessions // of the people who logged in; required

	// Logger hears of pages that this program failed to make. Default: slog.Default().
	Logger *slog.Logger
}

// New makes the handler of all pages below [Root]. It expects clean paths only: the API answers others.
func New(cfg Config) (http.Handler, error) {
	switch {
	case cfg.API == nil:
		return nil, errors.New("console: Config.API is missing")
	case cfg.Sessions == nil:
		return nil, errors.New("console: Config.Sessions is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &site{
		root: Root, name: "Ringback", api: cfg.API, log: cfg.Logger,
		admits: func(k registry.Key) bool { return k.Role == registry.Operator || k.Role == registry.Viewer },
		refuse: "these pages are for operators and viewers: log in with a key of that role",
		hint:   "An operator’s or a viewer’s key, as `ringback keys create` makes it. The browser keeps a session of up to twelve hours, and not the key.",
		ended:  "your visit has ended: log in again",
	}
	s.menu = menu(s)
	d := &door{site: s, sessions: cfg.Sessions, place: registry.PlaceConsole, cookie: "ringback_console"}
	return d.front(d.routes(), nil), nil
}

// routes are the console's pages.
func (d *door) routes() map[string]page {
	pages := d.companyRoutes()
	maps.Copy(pages, map[string]page{
		"GET /{$}":              overviewPage,
		"GET /companies":        companiesPage,
		"GET /replays":          replaysPage,
		"GET /replays/{replay}": replayPage,
		"GET /keys":             keysPage,
		"GET /audit":            auditPage,
		"GET /operations":       operationsPage,
	})
	asking(pages, map[string]page{
		"/replays/{replay}/cancel": cancelReplayPage, "/replays/start": startReplayPage, "/keys/{key}/revoke": revokeKeyPage,
		"/operations/pause": pauseEgressPage, "/operations/resume": resumeEgressPage,
	})
	return pages
}

// menu returns what makes the console's menu. It shows what the caller may look at.
func menu(s *site) func(registry.Key, string) []item {
	return func(key registry.Key, at string) []item {
		var items []item
		add := func(label string, segments ...string) {
			href := s.path(segments...)
			items = append(items, item{Href: href, Label: label, Here: at == href || strings.HasPrefix(at, href+"/")})
		}
		everywhere := key.Company == registry.AllCompanies
		if everywhere {
			items = append(items, item{Href: s.root + "/", Label: "Overview", Here: at == s.root+"/"})
			add("Companies", "companies")
		} else {
			add(key.Company, "companies", key.Company)
		}
		add("Find", "find")
		if everywhere {
			add("Replays", "replays")
		}
		add("Types", "types")
		if operates(key) {
			add("Keys", "keys")
			add("Audit", "audit")
		}
		if everywhere && operates(key) {
			add("Operations", "operations")
		}
		return items
	}
}
