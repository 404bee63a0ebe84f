package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A refusal is an error of this package's own making, which knows its answer.
type refusal struct {
	status int
	detail string
	header http.Header // may be nil
	shed   bool        // the caller did nothing wrong: there is too much to do
}

func (e *refusal) Error() string { return e.detail }

var (
	errNoSuchPath = &refusal{status: http.StatusNotFound, detail: "there is nothing at this path: /openapi.json and /docs list the paths there are"}
	errNoKey      = &refusal{
		status: http.StatusUnauthorized, detail: "this path needs an API key: send the header Authorization: Bearer KEY",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback"`}},
	}
	errBadKey = &refusal{
		status: http.StatusUnauthorized, detail: "the API key is unknown or was revoked: check it, or ask the operator for a new one",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback", error="invalid_token"`}},
	}
	// errOldKey tells who holds the key's secret what anybody else must not learn.
	errOldKey = &refusal{
		status: http.StatusUnauthorized, detail: "this API key has expired, or was replaced by a new one: use that, or ask the operator for one",
		header: http.Header{"Www-Authenticate": {`Bearer realm="ringback", error="invalid_token"`}},
	}
	errBadQuery = &refusal{
		status: http.StatusBadRequest, detail: "the query cannot be read: percent-encode what is special in it, a % as %25 and a ; as %3B",
	}
	// errHidden is what a key of one company hears about every other.
	errHidden      = &refusal{status: http.StatusNotFound, detail: "there is no such company for this key"}
	errNoCallback  = &refusal{status: http.StatusNotFound, detail: "there is no such callback in this company"}
	errNoRecord    = &refusal{status: http.StatusNotFound, detail: "there is no such event or delivery in this company, or it is no longer kept"}
	errNoReplay    = &refusal{status: http.StatusNotFound, detail: "there is no such replay in this company, or it is no longer kept"}
	errNoCompany   = &refusal{status: http.StatusNotFound, detail: "there is nothing of this company: it was never used, or is erased"}
	errNoType      = &refusal{status: http.StatusNotFound, detail: "there is no such callback type: GET /callback-types lists those there are"}
	errNoQueue     = &refusal{status: http.StatusNotFound, detail: "there is no such queue: /monitoring/api/queues lists those there are"}
	errPanicked    = errors.New("panic") // whose cause is logged where it is caught
	errNotAllSeers = &refusal{status: http.StatusForbidden, detail: "this is about all companies: it takes a key made for all of them (--company '*')"}
)

func badRequest(detail string) error {
	return &refusal{status: http.StatusBadRequest, detail: detail}
}

func methodNotAllowed(method, allow string) error {
	return &refusal{
		status: http.StatusMethodNotAllowed, detail: fmt.Sprintf("%s is not possible here: use %s", method, allow),
		header: http.Header{"Allow": {allow}},
	}
}

const (
	busyNow       = "Ringback has more to do at the moment than it can: try again in a moment (an event with the same event_id)"
	busyDetail    = "this is being changed by others at the moment: try again"
	builtinDetail = "this callback type comes with Ringback and cannot be changed: choose another name"
)

// retryAfter is what a 503 advises, in seconds: a Redis that restarts or fails over is back after a few of them.
const retryAfter = 2

// retryAfterFull is the same where Redis is nearly full, which takes longer to pass.
const retryAfterFull = 10

// explain turns an error into the answer its caller gets. It is the only place that does.
func explain(err error) (*huma.ErrorModel, http.Header) {
	if e, ok := errors.AsType[*refusal](err); ok {
		return problem(e.status, e.detail), e.header
	}
	if e, ok := errors.AsType[*payloads.InvalidError](err); ok {
		return invalid(e), nil
	}
	if e, ok := errors.AsType[*dispatcher.StateError](err); ok {
		return problem(http.StatusConflict, e.Message), nil
	}
	if e, ok := errors.AsType[*registry.QuotaError](err); ok {
		return explainQuota(e)
	}
	if e, ok := errors.AsType[*dispatcher.ChallengedTooOftenError](err); ok {
		return problem(http.StatusTooManyRequests, e.Error()), http.Header{"Retry-After": {strconv.Itoa(int(e.Wait / time.Second))}}
	}
	if e, ok := errors.AsType[*dispatcher.ElectionError](err); ok {
		return problem(http.StatusConflict, e.Message), nil
	}
	if e, ok := errors.AsType[*dispatcher.NoDecisionError](err); ok {
		return explainDecision(e), nil
	}
	if e, ok := errors.AsType[*registry.OldProcessError](err); ok {
		return problem(http.StatusConflict, e.Public()), nil
	}
	switch {
	case errors.Is(err, registry.ErrBadJSON):
		return problem(http.StatusBadRequest, strings.TrimPrefix(err.Error(), "registry: ")), nil
	case errors.Is(err, registry.ErrNotFound):
		return problem(http.StatusNotFound, errNoCallback.detail), nil
	case errors.Is(err, registry.ErrBuiltin):
		return problem(http.StatusConflict, builtinDetail), nil
	case errors.Is(err, registry.ErrBusy):
		return problem(http.StatusConflict, busyDetail), nil
	case errors.Is(err, dispatcher.ErrNotAsked):
		return problem(http.StatusNotFound, dispatcher.ErrNotAsked.Error()), nil
	case errors.Is(err, dispatcher.ErrTooManyAsked):
		return problem(http.StatusTooManyRequests, dispatcher.ErrTooManyAsked.Error()), http.Header{"Retry-After": {strconv.Itoa(retryAfter)}}
	case errors.Is(err, dispatcher.ErrNotFound):
		return problem(http.StatusNotFound, errNoRecord.detail), nil
	case errors.Is(err, dispatcher.ErrEventConflict):
		return problem(http.StatusConflict, dispatcher.ErrEventConflict.Error()), nil
	case errors.Is(err, dispatcher.ErrBadCursor):
		return invalid(&payloads.InvalidError{Fields: []payloads.FieldError{{
			Location: "query.cursor", Message: "is not one that this list gave out: start again without it",
		}}}), nil
	case redis.HasErrorPrefix(err, "OOM"):
		return problem(http.StatusServiceUnavailable, "the store behind Ringback is full: its operator has to make room"), http.Header{"Retry-After": {strconv.Itoa(retryAfterFull)}}
	case errors.Is(err, dispatcher.ErrEgressPaused):
		return problem(http.StatusServiceUnavailable, dispatcher.ErrEgressPaused.Error()), http.Header{"Retry-After": {strconv.Itoa(retryAfterFull)}}
	case errors.Is(err, dispatcher.ErrOverloaded):
		return problem(http.StatusServiceUnavailable, dispatcher.ErrOverloaded.Error()), http.Header{"Retry-After": {strconv.Itoa(retryAfterFull)}}
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted): // our own queue, which Redis knows nothing of
		return problem(http.StatusServiceUnavailable, busyNow), http.Header{"Retry-After": {strconv.Itoa(retryAfter)}}
	case isRedisTrouble(err):
		return problem(http.StatusServiceUnavailable, "the store behind Ringback does not answer: try again in a moment (an event with the same event_id)"),
			http.Header{"Retry-After": {strconv.Itoa(retryAfter)}}
	}
	return problem(http.StatusInternalServerError, "something went wrong in Ringback: the operator finds the cause in its log"), nil
}

// explainQuota answers what a quota refused. Bytes that wait become fewer by themselves: whoever sends tries again.
func explainQuota(e *registry.QuotaError) (*huma.ErrorModel, http.Header) {
	switch e.Quota {
	case registry.QuotaReplays:
		return problem(http.StatusConflict, e.Error()), nil
	case registry.QuotaWaitingBytes:
		return problem(http.StatusTooManyRequests, e.Error()), http.Header{"Retry-After": {strconv.Itoa(retryAfterFull)}}
	}
	p := problem(http.StatusUnprocessableEntity, e.Error())
	p.Errors = []*huma.ErrorDetail{{Location: "quotas." + e.Quota, Message: "is used up", Value: e.Limit}}
	return p, nil
}

func problem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

func invalid(e *payloads.InvalidError) *huma.ErrorModel {
	p := problem(http.StatusUnprocessableEntity, e.Error())
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, &huma.ErrorDetail{Location: f.Location, Message: f.Message, Value: echo(f.Location, f.Value)})
	}
	return p
}

// maxEcho bounds the values that problems repeat, in bytes of JSON.
const maxEcho = 256

// telling are parts of field names whose values are never repeated, whatever the validator thought of them.
var telling = []string{"token", "secret", "password", "username", "auth", "header", "url", "key", "payload"}

// echo is what a problem repeats of a field's value: nothing of what is secret or long.
func echo(location string, value any) any {
	location = strings.ToLower(location)
	for _, part := range telling {
		if strings.Contains(location, part) {
			return nil
		}
	}
	if b, err := json.Marshal(value); err != nil || len(b) > maxEcho {
		return nil
	}
	return value
}

// isRedisTrouble reports whether Redis, or the way to it, is at fault: worth another try.
func isRedisTrouble(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	if _, ok := errors.AsType[redis.Error](err); ok {
		return true
	}
	for _, trouble := range []error{
		dispatcher.ErrUnavailable, redis.ErrClosed,
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, context.Canceled,
	} {
		if errors.Is(err, trouble) {
			return true
		}
	}
	return false
}

// answer logs what the operator must hear of an error and returns what its caller does. That a partner did not decide is the
// dispatcher's to log, as it logs all decisions.
func (s *server) answer(ctx context.Context, doing string, err error) (*huma.ErrorModel, http.Header) {
	p, header := explain(err)
	if old, ok := errors.AsType[*registry.OldProcessError](err); ok && isOperator(ctx) {
		p.Detail = old.Error()
	}
	_, undecided := errors.AsType[*dispatcher.NoDecisionError](err)
	if e, ok := errors.AsType[*refusal](err); ok && e.shed {
		s.shed(ctx, e.detail)
		return p, header
	}
	if p.Status >= http.StatusInternalServerError && ctx.Err() == nil && !undecided {
		s.Logger.ErrorContext(ctx, "request failed", "request", doing, "status", p.Status, "error", err)
	}
	return p, header
}

// Problem answers with an error as the API does. It is for what stands before the API.
func Problem(w http.ResponseWriter, status int, detail string) {
	secure(w.Header())
	p := problem(status, detail)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// refuse answers a request with an error.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	p, header := s.answer(r.Context(), r.Method+" "+routeOf(r), err)
	maps.Copy(w.Header(), header)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// routeOf names a request in logs: its pattern, for a path may hold what does not belong there.
func routeOf(r *http.Request) string {
	if _, path, ok := strings.Cut(r.Pattern, " "); ok {
		return path
	}
	return "(unrouted)"
}

// survive turns a panic into a 500, if the answer has not begun, and cuts the connection otherwise: half an answer must
// not look whole.
func (s *server) survive(w *trackingWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if cause == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
		panic(cause)
	}
	s.panicked(r.Context(), r.Method+" "+routeOf(r), cause)
	if w.begun {
		panic(http.ErrAbortHandler)
	}
	p, _ := explain(errPanicked)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// panicked logs a panic that was caught.
func (s *server) panicked(ctx context.Context, doing string, cause any) {
	s.Logger.ErrorContext(ctx, "request panicked", "request", doing)
	s.Client.Panicked(ctx, dispatcher.PlaceHTTP, cause)
}
