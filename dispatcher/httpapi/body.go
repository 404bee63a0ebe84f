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
	// bodyTimeout is how long a caller may take to send a MiB of its body, or what is left: a slow line, and no more. So a body that
	// stops coming is given up this soon, however long it may be.
	bodyTimeout = 15 * time.Second
	// bodyStep is what has bodyTimeout, in bytes.
	bodyStep = 1 << 20
	// firstBytes is what is reserved for a body before any of it is there. Most events fit.
	firstBytes = 2 << 10
	// bodyGrowth is how much memory there is for a body at most, as a multiple of what is there. More would leave less to collect.
	bodyGrowth = 4
)

// wholeBody reads an operation's body before the operation begins, so that what can go wrong in reading has an answer of
// its own: 415, 413, 408, 429, 503 or 400. The operation finds the bytes in its RawBody.
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
		return nil, err // and the deadline stays, or net/http would wait for the rest of a body that never comes
	}
	_ = rc.SetReadDeadline(time.Time{}) // one that outlived the reading would look to net/http as if the caller had hung up
	return body, nil
}

// gather reads a body as it comes. It takes memory for what is there, not for what was promised.
func (b body) gather(r *http.Request, rc *http.ResponseController, v *visit) ([]byte, error) {
	atMost := b.limit + 1 // one byte more than will do shows that it is too long
	if r.ContentLength >= 0 {
		atMost = r.ContentLength + 1 // and one more than there is, that it is at its end
	}
	buf := make([]byte, 0, min(firstBytes, atMost))
	for next := 0; ; {
		if len(buf) >= next {
			_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can, and then the server's own timeout holds
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

var errTooSlow = &refusal{
	status: http.StatusRequestTimeout,
	detail: fmt.Sprintf("the body did not arrive in time: %s for each MiB are all there is", bodyTimeout),
}

func tooLong(what string, limit int64) error {
	return &refusal{
		status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("the %s is longer than %d bytes: send less, or a reference to it", what, limit),
	}
}

// acceptable judges a body by its headers. A body without a Content-Type is taken for what it should be.
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
