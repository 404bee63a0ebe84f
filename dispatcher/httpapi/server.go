package httpapi

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
)

// server is the state that all requests share. It is the handler that New returns.
type server struct {
	Config
	mux       *recordingMux
	api       huma.API
	door      *doorway
	sheds     shedLog
	streams   streams
	polls     streams // those that wait
	refused   refusedKeys
	overviews *dispatcher.Overviews // of all companies
}

// recordingMux is a ServeMux that remembers its patterns: the API's description is tested to name them all.
type recordingMux struct {
	*http.ServeMux
	patterns []string
}

func (m *recordingMux) Handle(pattern string, h http.Handler) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.Handle(pattern, h)
}

func (m *recordingMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	m.Handle(pattern, http.HandlerFunc(h))
}
