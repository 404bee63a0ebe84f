package httpapi

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
)

// requestID is the header that names a request, in what comes and in every answer.
const requestID = "X-Request-Id"

// maxRequestID bounds a name that comes.
const maxRequestID = 128

type requestIDKey struct{}

// Named is a handler whose requests have names. It is for what stands before the API, which does the same for its own. A request is called what a proxy or the
// caller called it, in printable ASCII without spaces, or has a name that is made here. The answer has the name, and with [NameRequests] so has what the log says.
func Named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { next.ServeHTTP(w, named(w.Header(), r)) })
}

// named gives a request its name, unless what stands before has done so.
func named(h http.Header, r *http.Request) *http.Request {
	id := nameOf(r.Context())
	if id == "" {
		id = r.Header.Get(requestID)
	}
	if id == "" || len(id) > maxRequestID || strings.ContainsFunc(id, func(c rune) bool { return c <= ' ' || c > '~' }) {
		id = rand.Text()
	}
	h.Set(requestID, id)
	return r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
}

// nameOf is a request's name, empty for what is no request's.
func nameOf(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}
