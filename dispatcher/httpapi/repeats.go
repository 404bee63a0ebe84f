package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
)

const (
	// idempotencyKey is the header (draft-ietf-httpapi-idempotency-key-header).
	idempotencyKey = "Idempotency-Key"
	// replayedHeader says that an answer is that of before.
	replayedHeader = "Idempotent-Replayed"
	// underWay is how long a request may be under way that is not allowed more, and how much longer than it is allowed.
	underWay = 10 * time.Second
	// underWayLong is the same for what may take Redis long.
	underWayLong = 40 * time.Second
	// keepFor bounds how long an answer waits to be kept.
	keepFor = 2 * time.Second
)

// errKeyRefused refuses the header where nobody honours it.
var errKeyRefused = &payloads.InvalidError{Fields: []payloads.FieldError{{
	Location: "header." + idempotencyKey,
	Message:  "does not go with this: leave it out; of many events at once, give each line an event_id, by which a repeat is known",
}}}

// repeatDocs describe the header.
var repeatDocs = map[repeats]string{
	actsOnce: "A text of your own, of 1 to 255 printable ASCII characters, that no other request has: a UUID. The request is done once. For 24 h a repeat with the same key and body gets the same answer, " +
		"secrets included, with the header Idempotent-Replayed; the key is yours, and of this path, alone. While the first request is under way, a repeat is 409, and Retry-After says " +
		"when to come again. With another body it is 422. An error that changed nothing is not kept: repeat the request with the same key. So is nothing lost or done twice if the answer does not arrive.",
	actsAnew: "Taken, and of no effect: there is nothing that a repeat would change, so each is done anew.",
}

// asksForRepeats adds to an operation how it takes the header.
func (op *operation) asksForRepeats() {
	if op.Method != http.MethodPost || op.repeats == namesEvent || op.repeats == refusesKey {
		return
	}
	about := repeatDocs[actsAnew]
	if op.repeats != actsAnew {
		about = repeatDocs[actsOnce]
		op.Errors = append(op.Errors, http.StatusConflict, http.StatusUnprocessableEntity)
	}
	op.Parameters = append(op.Parameters, &huma.Param{
		Name: idempotencyKey, In: "header", Description: about, Schema: &huma.Schema{Type: huma.TypeString}, Example: "8e03978e-40d5-43dd-bc93-6894a57f9324",
	})
}

// refuseKeys refuses the header.
func (s *server) refuseKeys(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	s.keyless(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { next(ctx) })).ServeHTTP(w, r)
}

// refuseEmptyKeys refuses a header that is there and empty, as of a script whose variable is not set: its caller counts on it.
func (s *server) refuseEmptyKeys(ctx huma.Context, next func(huma.Context)) {
	r, w := humago.Unwrap(ctx)
	if given := r.Header[idempotencyKey]; len(given) > 0 && strings.Join(given, "") == "" {
		s.refuse(w, r.WithContext(ctx.Context()), errBadIdempotencyKey)
		return
	}
	next(ctx)
}

// keyless is a handler that refuses the header.
func (s *server) keyless(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(idempotencyKey) != "" {
			s.refuse(w, r, errKeyRefused)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// once has a request with an Idempotency-Key done once. It is the last step before the operation, whose body is there. One without the header goes by.
func (s *server) once(op operation) func(huma.Context, func(huma.Context)) {
	lasts := op.patience + underWay
	if op.long {
		lasts = underWayLong
	}
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		given := r.Header[idempotencyKey]
		if len(given) == 0 {
			next(ctx)
			return
		}
		claim, err := s.claim(ctx.Context(), r, op, given, lasts)
		if err != nil {
			s.refuse(w, r.WithContext(ctx.Context()), err)
			return
		}
		if claim.Before != nil {
			s.answerAgain(w, r, claim.Before)
			return
		}
		noted := &noting{beneath: ctx, answer: keptAnswer{Code: http.StatusOK, Header: http.Header{}}}
		next(huma.WithContext(noted, claim.Context(ctx.Context())))
		s.keep(ctx.Context(), claim, &noted.answer)
		noted.answer.write(w)
	}
}

// answerAgain answers as before.
func (s *server) answerAgain(w http.ResponseWriter, r *http.Request, before []byte) {
	var answer keptAnswer
	if err := json.Unmarshal(before, &answer); err != nil {
		s.refuse(w, r, errors.New("a kept answer is not readable")) // not wrapped: it may quote
		return
	}
	w.Header().Set(replayedHeader, "true")
	answer.write(w)
}

// claim claims a request with an Idempotency-Key.
func (s *server) claim(ctx context.Context, r *http.Request, op operation, given []string, lasts time.Duration) (*dispatcher.Claim, error) {
	key, ok := "", len(given) == 1
	if ok {
		key, ok = readIdempotencyKey(given[0])
	}
	if !ok {
		return nil, errBadIdempotencyKey
	}
	content := []byte(r.URL.RawQuery + "\n")
	if op.body != nil {
		body, err := io.ReadAll(r.Body) // which is there
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		content = append(content, body...)
	}
	return s.Client.Claim(ctx, dispatcher.Repeatable{
		Company: r.PathValue("company"), Bulk: op.repeats == actsOnceInBulk, Caller: keyOf(ctx).ID, Method: r.Method, Path: r.URL.Path, Key: key, Content: content, Lasts: lasts,
	})
}

// keep keeps an answer for repeats: of success in any case, and of failure if the request acted. What is our own failure is not the answer to anything.
func (s *server) keep(ctx context.Context, claim *dispatcher.Claim, answer *keptAnswer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepFor)
	defer cancel()
	var text []byte
	switch answer.Code {
	case http.StatusInternalServerError, http.StatusServiceUnavailable:
	default:
		text, _ = json.Marshal(answer) // plain values always encode
	}
	if err := claim.Answered(ctx, text, answer.Code < http.StatusMultipleChoices); err != nil {
		s.Logger.ErrorContext(ctx, "the answer to a request with an Idempotency-Key is not kept: a repeat finds it anew", "error", err)
	}
}

// keptAnswer is an answer as it is kept.
type keptAnswer struct {
	Code   int         `json:"s"`
	Header http.Header `json:"h"`
	Body   []byte      `json:"b"`
}

// write answers.
func (a *keptAnswer) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.Header)
	w.WriteHeader(a.Code)
	_, _ = w.Write(a.Body)
}

// beneath is a request's own context, under a name that is not one of its methods.
type beneath = huma.Context

// noting is a request's context that notes the answer.
type noting struct {
	beneath

	answer keptAnswer
}

// Unwrap is the request's own context.
func (n *noting) Unwrap() huma.Context { return n.beneath }

// SetStatus notes the status.
func (n *noting) SetStatus(code int) { n.answer.Code = code }

// Status is the status noted.
func (n *noting) Status() int { return n.answer.Code }

// SetHeader notes a header.
func (n *noting) SetHeader(name, value string) { n.answer.Header.Set(name, value) }

// AppendHeader notes one more of a header.
func (n *noting) AppendHeader(name, value string) { n.answer.Header.Add(name, value) }

// BodyWriter takes the body.
func (n *noting) BodyWriter() io.Writer { return n }

// Write takes a part of the body.
func (n *noting) Write(b []byte) (int, error) {
	n.answer.Body = append(n.answer.Body, b...)
	return len(b), nil
}
