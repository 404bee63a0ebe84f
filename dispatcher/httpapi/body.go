package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

const (
	// bodyTimeout is how long a caller may take to send a MiB of its body, or the rest if that is less: a slow line does it. So a body
	// that stops coming is given up this soon, however long it may be.
	bodyTimeout = 15 * time.Second
	// bodyStep is how much of a body has bodyTimeout each, in bytes.
	bodyStep = 1 << 20
	// firstBytes is how much memory a body gets before any of it is there. Most events fit.
	firstBytes = 2 << 10
	// bodyGrowth bounds the memory for a body, as a multiple of the part that is there. With more, less would be left to collect.
	bodyGrowth = 4
)

// wholeBody reads an operation's body before the operation begins. So each fault in reading has an answer of its own: 415, 413,
// 408, 429, 503 or 400. The operation finds the bytes in its RawBody.
func (s *server) wholeBody(b body) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		body, err := b.read(w, r, visitOf(ctx.Context()))
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(ctx)
	}
}

// read reads a request's body whole, if it is one such as b.
func (b body) read(w http.ResponseWriter, r *http.Request, v *visit) ([]byte, error) {
	if err := acceptable(r, b.mediaTypes); err != nil {
		return nil, err
	}
	if r.ContentLength > b.limit {
		return nil, tooLong("body", b.limit)
	}
	rc := http.NewResponseController(w)
	body, err := b.gather(r, rc, v)
	if err != nil {
		return nil, err // the deadline stays: without it net/http would wait for the rest of a body that never comes
	}
	_ = rc.SetReadDeadline(time.Time{}) // a deadline that outlived the reading would look to net/http as if the caller had hung up
	return body, nil
}

// gather reads a body as it comes. It takes memory for the bytes that are there, not for those that were promised.
func (b body) gather(r *http.Request, rc *http.ResponseController, v *visit) ([]byte, error) {
	atMost := b.limit + 1 // one byte past the limit shows that the body is too long
	if r.ContentLength >= 0 {
		atMost = r.ContentLength + 1 // room for one byte more lets a read find the body's end
	}
	buf := make([]byte, 0, min(firstBytes, atMost))
	for next := 0; ; {
		if len(buf) >= next {
			_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // if the writer cannot, the server's own timeout holds
			next += bodyStep
		}
		if len(buf) == cap(buf) {
			size := int(min(bodyGrowth*int64(cap(buf)), atMost))
			if err := v.hold(size); err != nil {
				return nil, err
			}
			buf = append(make([]byte, 0, size), buf...)
		}
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > b.limit {
			return nil, tooLong("body", b.limit)
		}
		if err == io.EOF {
			return buf, nil
		}
		if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
			return nil, errTooSlow
		}
		if err != nil {
			return nil, badRequest("the body broke off before its end, or was sent in a way HTTP does not know")
		}
	}
}

// errTooSlow refuses a body that does not come in time.
var errTooSlow = &refusal{
	status: http.StatusRequestTimeout,
	detail: fmt.Sprintf("the body did not arrive in time: %s for each MiB are all there is", bodyTimeout),
}

// tooLong refuses a body, or a line of one, that is longer than its limit.
func tooLong(what string, limit int64) error {
	return &refusal{
		status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("the %s is longer than %d bytes: send less, or a reference to it", what, limit),
	}
}

// acceptable judges a body by its headers. If there is no Content-Type, the body is taken to have the right one.
func acceptable(r *http.Request, mediaTypes []string) error {
	if r.ContentLength == 0 {
		return nil
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return &refusal{status: http.StatusUnsupportedMediaType, detail: "compressed bodies are not taken: send it as it is, without Content-Encoding"}
	}
	given := r.Header.Get("Content-Type")
	if given == "" {
		return nil
	}
	if mediaType, _, err := mime.ParseMediaType(given); err == nil && slices.Contains(mediaTypes, mediaType) {
		return nil
	}
	return wrongMediaType(mediaTypes)
}

// wrongMediaType refuses a body of another media type than these.
func wrongMediaType(mediaTypes []string) error {
	what := "JSON"
	if mediaTypes[0] == mediaNDJSON {
		what = "one JSON object a line"
	}
	return &refusal{
		status: http.StatusUnsupportedMediaType,
		detail: "the body must be " + what + ": send it with the header Content-Type: " + strings.Join(mediaTypes, " or "),
	}
}

type body struct {
	schema     reflect.Type
	mediaTypes []string // empty: application/json
	optional   bool
	limit      int64 // in bytes; 0: Config.MaxBody
}
