package main

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/ringback/ringback/dispatcher/console"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/registry"
)

// withPages puts the console and the portal beside the API. They call the API in this process; each of those calls has a patience of its own. An
// unclean path is the API's, which answers 404: the pages' muxes would redirect it.
func withPages(api http.Handler, keys *registry.Keys, guesses *httpapi.Guesses, look console.PortalLook, logger *slog.Logger) (http.Handler, error) {
	sessions, inside := registry.NewSessions(keys), withPatience(api)
	ofConsole, err := console.New(console.Config{API: inside, Sessions: sessions, Logger: logger})
	if err != nil {
		return nil, err
	}
	ofPortal, err := console.NewPortal(console.PortalConfig{API: inside, Sessions: sessions, Unknown: guesses.Unknown, PortalLook: look, Logger: logger})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !httpapi.IsClean(r.URL):
			api.ServeHTTP(w, r)
		case isBelow(r, console.Root):
			ofConsole.ServeHTTP(w, r)
		case isBelow(r, console.PortalRoot):
			ofPortal.ServeHTTP(w, r)
		default:
			api.ServeHTTP(w, r)
		}
	}), nil
}

// isBelow reports whether a request is for a path, or for one below it.
func isBelow(r *http.Request, root string) bool {
	return r.URL.Path == root || strings.HasPrefix(r.URL.Path, root+"/")
}
