package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// bodyTimeout is how long a caller may take to send its body: 1 MiB over a slow line, and no more.
const bodyTimeout = 15 * time.Second

// wholeBody reads an operation's body before the operation begins, so that what can go wrong in reading has an answer of
// its own: 415, 413, 408 or 400. The operation finds the bytes in its RawBody.
func (s *server) wholeBody(mediaTypes []string) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		body, err := s.readBody(w, r, mediaTypes)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next(ctx)
	}
}

func (s *server) readBody(w http.ResponseWriter, r *http.Request, mediaTypes []string) ([]byte, error) {
	if err := acceptable(r, mediaTypes); err != nil {
		return nil, err
	}
	if r.ContentLength > s.MaxBody {
		return nil, s.tooLong()
	}
	// A deadline that outlived the reading would look to net/http as if the caller had hung up.
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTimeout)) // not every writer can, and then the server's own timeout holds
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()

	var buf bytes.Buffer
	buf.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead)
	_, err := buf.ReadFrom(http.MaxBytesReader(w, r.Body, s.MaxBody))
	if err == nil {
		return buf.Bytes(), nil
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, s.tooLong()
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return nil, &refusal{status: http.StatusRequestTimeout, detail: fmt.Sprintf("the body did not arrive within %s", bodyTimeout)}
	}
	return nil, badRequest("the body broke off before its end, or was sent in a way HTTP does not know")
}

func (s *server) tooLong() error {
	return &refusal{
		status: http.StatusRequestEntityTooLarge,
		detail: fmt.Sprintf("the body is longer than %d bytes: send less, or a reference to it", s.MaxBody),
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
	return &refusal{
		status: http.StatusUnsupportedMediaType,
		detail: "the body must be JSON: send it with the header Content-Type: " + strings.Join(mediaTypes, " or "),
	}
}

// text reads a JSON string.
func text(value json.RawMessage, into *string) (wrong string) {
	if value[0] != '"' || json.Unmarshal(value, into) != nil {
		return "must be a string"
	}
	return ""
}
