package main

import (
	"log/slog"
	"net/http"
	"strings"

	"github.com/ringback/ringback/dispatcher/console"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/registry"
)

// withPages puts the console beside the API. The console calls the API in this process; each of those calls has a patience of its own. An
// unclean path is the API's, which answers 404: the console's mux would redirect it.
func withPages(api http.Handler, keys *registry.Keys, logger *slog.Logger) (http.Handler, error) {
	pages, err := console.New(console.Config{API: withPatience(api), Sessions: registry.NewSessions(keys), Logger: logger})
	if err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.URL.Path == console.Root || strings.HasPrefix(r.URL.Path, console.Root+"/")) && httpapi.IsClean(r.URL) {
			pages.ServeHTTP(w, r)
			return
		}
		api.ServeHTTP(w, r)
	}), nil
}
