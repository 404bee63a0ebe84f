package console

import (
	"net/http"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// front is the handler of a site: its pages behind the door, what is before the door, and its files. It expects clean paths only.
func (d *door) front(pages map[string]page, before map[string]http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	for pattern, p := range pages {
		method, path, _ := strings.Cut(pattern, " ")
		mux.Handle(method+" "+d.root+path, d.open(p))
	}
	for pattern, h := range before {
		method, path, _ := strings.Cut(pattern, " ")
		mux.HandleFunc(method+" "+d.root+path, h)
	}
	mux.HandleFunc("GET "+d.root+"/login", d.loginGet)
	mux.HandleFunc("POST "+d.root+"/login", d.login)
	mux.HandleFunc("GET "+d.root+"/static/{file}", func(w http.ResponseWriter, r *http.Request) {
		if !serveFile(w, r.PathValue("file"), d.look.files) {
			d.open(nowhere).ServeHTTP(w, r)
		}
	})
	mux.Handle(d.root+"/", d.elsewhere(mux))
	own := d.ownPages(mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.secure(w.Header())
		own.ServeHTTP(w, r)
	})
}

// elsewhere answers for what no page takes: 405 where a page of that path takes another method, else 404.
func (d *door) elsewhere(mux *http.ServeMux) http.Handler {
	missing := d.open(nowhere)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var allowed []string
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			other := r.Clone(r.Context())
			other.Method = method
			if _, pattern := mux.Handler(other); pattern != d.root+"/" {
				allowed = append(allowed, method)
			}
		}
		if len(allowed) == 0 {
			missing.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		e := &client.APIError{Status: http.StatusMethodNotAllowed, Detail: "this page takes no " + r.Method + ": only " + strings.Join(allowed, ", ")}
		f := d.frame(http.StatusText(e.Status))
		f.Main = troubleOf(e)
		d.stand(w, r, e, "trouble", f)
	})
}

// nowhere answers for paths without a page.
func nowhere(*visit) error { return errNoPage }
