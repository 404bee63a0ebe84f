package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/swaggest/swgui/v5/static"
)

// docsPolicy lets Swagger UI run from here alone: the page loads nothing from anywhere else, and sends nothing there. Its
// styles are partly inline, and its icons are data.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; " +
	"connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// docsPage is /docs. Its links are relative, so that it works behind a proxy that adds a prefix.
const docsPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ringback API</title>
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
`

// docsStart starts Swagger UI. Without validatorUrl it would have a stranger check the description.
const docsStart = `SwaggerUIBundle({url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});
`

// docs adds the API's description and the page that shows it. It comes last: all operations must be registered before.
func (s *server) docs() {
	chapter := []string{"Operations"}
	s.document(page{mediaType: mediaJSON, schema: &huma.Schema{Type: huma.TypeObject}, Operation: huma.Operation{
		OperationID: "openapi", Method: http.MethodGet, Path: "/openapi.json", Tags: chapter, Summary: "This description",
	}})
	s.document(page{mediaType: "text/html", schema: plainText, Operation: huma.Operation{
		OperationID: "docs", Method: http.MethodGet, Path: "/docs", Tags: chapter, Summary: "This description as a page",
	}})
	s.document(page{mediaType: "application/octet-stream", schema: plainText, Operation: huma.Operation{
		OperationID: "docs-file", Method: http.MethodGet, Path: "/docs/{file}", Tags: chapter, Summary: "What the page is made of",
		Parameters: []*huma.Param{{Name: "file", In: "path", Required: true, Schema: plainText}}, Errors: []int{http.StatusNotFound},
	}})

	s.neverNull()
	// The description is rendered when somebody asks for it. It would be most of the cost of a server's start, and few ask.
	description := sync.OnceValues(func() ([]byte, error) { return json.Marshal(s.api.OpenAPI()) })
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		text, err := description()
		if err != nil {
			s.Logger.ErrorContext(r.Context(), "the API's description cannot be rendered", "error", err)
			Problem(w, http.StatusInternalServerError, "the description cannot be rendered: the operator finds the cause in the log")
			return
		}
		w.Header().Set("Content-Type", mediaJSON)
		_, _ = w.Write(text)
	})
	s.mux.HandleFunc("GET /docs", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, docsPage)
	})
	s.mux.HandleFunc("GET /docs/{file}", s.docsFile)
}

// docsFile serves Swagger UI's files. They are embedded in gzip, and sent so to every client that takes it.
func (s *server) docsFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	if name == "start.js" {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		_, _ = io.WriteString(w, docsStart)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	w.Header().Set("Cache-Control", "public, max-age=86400")
	if plain, err := fs.ReadFile(static.FS, name); err == nil {
		_, _ = w.Write(plain)
		return
	}
	packed, err := fs.ReadFile(static.FS, name+".gz")
	if err != nil {
		w.Header().Set("Cache-Control", "no-store")
		s.refuse(w, r, errNoSuchPath)
		return
	}
	w.Header().Set("Vary", "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed)
		return
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	_, _ = io.Copy(w, unpacked) //nolint:gosec // embedded, so its size is known to be small
}
