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

// named gives a request its name: the one that a proxy or the caller gave it, of printable ASCII without spaces, or one that is made here. The answer has
// it, and so has what the log says of the request.
func named(h http.Header, r *http.Request) *http.Request {
	id := r.Header.Get(requestID)
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
