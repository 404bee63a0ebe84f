package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// explain turns an error into the answer its caller gets. It is the only place that does. First come the errors that bring their own words.
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
		return problem(http.StatusTooManyRequests, e.Error()), retryIn(int(e.Wait / time.Second))
	}
	if e, ok := errors.AsType[*dispatcher.ElectionError](err); ok {
		return problem(http.StatusConflict, e.Message), nil
	}
	if e, ok := errors.AsType[*dispatcher.NoDecisionError](err); ok {
		return explainDecision(e), nil
	}
	if e, ok := errors.AsType[*dispatcher.TypeInUseError](err); ok {
		return problem(http.StatusConflict, e.Message), nil
	}
	if e, ok := errors.AsType[*registry.OldProcessError](err); ok {
		return problem(http.StatusConflict, e.Public()), nil
	}
	if p, header := explainRepeat(err); p != nil {
		return p, header
	}
	return explainKnown(err)
}

// explainKnown is explain for the errors that are known by their value, and for all that nobody knows.
func explainKnown(err error) (*huma.ErrorModel, http.Header) {
	switch {
	case errors.Is(err, registry.ErrBadJSON):
		return problem(http.StatusBadRequest, strings.TrimPrefix(err.Error(), "registry: ")), nil
	case errors.Is(err, registry.ErrNotFound):
		return problem(http.StatusNotFound, errNoCallback.detail), nil
	case errors.Is(err, registry.ErrOvertaken):
		return problem(http.StatusPreconditionFailed, overtakenDetail), nil
	case errors.Is(err, registry.ErrBuiltin):
		return problem(http.StatusConflict, builtinDetail), nil
	case errors.Is(err, registry.ErrBusy):
		return problem(http.StatusConflict, busyDetail), nil
	case errors.Is(err, dispatcher.ErrNotAsked):
		return problem(http.StatusNotFound, dispatcher.ErrNotAsked.Error()), nil
	case errors.Is(err, dispatcher.ErrTooManyAsked):
		return problem(http.StatusTooManyRequests, dispatcher.ErrTooManyAsked.Error()), retryIn(retryAfter)
	case errors.Is(err, dispatcher.ErrTooManyReplays):
		return problem(http.StatusConflict, dispatcher.ErrTooManyReplays.Error()), nil
	case errors.Is(err, dispatcher.ErrNotFound):
		return problem(http.StatusNotFound, errNoRecord.detail), nil
	case errors.Is(err, dispatcher.ErrBodyLeft):
		return problem(http.StatusGone, dispatcher.ErrBodyLeft.Error()), nil
	case errors.Is(err, dispatcher.ErrEventConflict):
		return problem(http.StatusConflict, dispatcher.ErrEventConflict.Error()), nil
	case errors.Is(err, dispatcher.ErrBadCursor):
		return invalid(&payloads.InvalidError{Fields: []payloads.FieldError{{
			Location: "query.cursor", Message: "is not one that this list gave out: start again without it",
		}}}), nil
	case redis.HasErrorPrefix(err, "OOM"):
		return problem(http.StatusServiceUnavailable, "the store behind Ringback is full: its operator has to make room"), retryIn(retryAfterFull)
	case errors.Is(err, dispatcher.ErrEnding):
		return problem(http.StatusServiceUnavailable, dispatcher.ErrEnding.Error()), retryIn(retryAfter)
	case errors.Is(err, dispatcher.ErrEgressPaused):
		return problem(http.StatusServiceUnavailable, dispatcher.ErrEgressPaused.Error()), retryIn(retryAfterFull)
	case errors.Is(err, dispatcher.ErrOverloaded):
		return problem(http.StatusServiceUnavailable, dispatcher.ErrOverloaded.Error()), retryIn(retryAfterFull)
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted): // our own queue, which Redis knows nothing of
		return problem(http.StatusServiceUnavailable, busyNow), retryIn(retryAfter)
	case isRedisTrouble(err):
		return problem(http.StatusServiceUnavailable, "the store behind Ringback does not answer: try again in a moment (an event with the same event_id)"),
			retryIn(retryAfter)
	}
	return problem(http.StatusInternalServerError, "something went wrong in Ringback: the operator finds the cause in its log"), nil
}

// explainRepeat is explain for the errors of claims; nil for others.
func explainRepeat(err error) (*huma.ErrorModel, http.Header) {
	if e, ok := errors.AsType[*dispatcher.UnderWayError](err); ok {
		return problem(http.StatusConflict, e.Error()), retryIn(max(1, int((e.Wait+time.Second-1)/time.Second)))
	}
	if e, ok := errors.AsType[*dispatcher.ClaimsFullError](err); ok {
		return problem(http.StatusTooManyRequests, e.Error()), retryIn(max(1, int((e.Wait+time.Second-1)/time.Second)))
	}
	switch {
	case errors.Is(err, dispatcher.ErrClaimTaken):
		return problem(http.StatusConflict, dispatcher.ErrClaimTaken.Error()), retryIn(retryAfter)
	case errors.Is(err, dispatcher.ErrOtherRequest):
		return invalid(&payloads.InvalidError{Fields: []payloads.FieldError{{Location: "header.Idempotency-Key", Message: dispatcher.ErrOtherRequest.Error()}}}), nil
	case errors.Is(err, dispatcher.ErrAnswerLost):
		return problem(http.StatusConflict, dispatcher.ErrAnswerLost.Error()), nil
	}
	return nil, nil
}

// explainQuota answers a refusal by a quota. Bytes that wait become fewer by themselves, so the sender is told to try again.
func explainQuota(e *registry.QuotaError) (*huma.ErrorModel, http.Header) {
	switch e.Quota {
	case registry.QuotaReplays:
		return problem(http.StatusConflict, e.Error()), nil
	case registry.QuotaWaitingBytes:
		return problem(http.StatusTooManyRequests, e.Error()), retryIn(retryAfterFull)
	}
	p := problem(http.StatusUnprocessableEntity, e.Error())
	p.Errors = []*huma.ErrorDetail{{Location: "quotas." + e.Quota, Message: "is used up", Value: e.Limit}}
	return p, nil
}

// explainDecision is explain for a decision that did not come.
func explainDecision(e *dispatcher.NoDecisionError) *huma.ErrorModel {
	status := http.StatusBadGateway
	if e.Late {
		status = http.StatusGatewayTimeout
	}
	return problem(status, fmt.Sprintf("callback %d did not decide: %s", e.CallbackID, e.Detail))
}

// problem is a status with a sentence about it.
func problem(status int, detail string) *huma.ErrorModel {
	return &huma.ErrorModel{Status: status, Title: http.StatusText(status), Detail: detail}
}

// invalid is the problem of a request that was understood, and names the fields at fault.
func invalid(e *payloads.InvalidError) *huma.ErrorModel {
	p := problem(http.StatusUnprocessableEntity, e.Error())
	for _, f := range e.Fields {
		p.Errors = append(p.Errors, &huma.ErrorDetail{Location: f.Location, Message: f.Message, Value: echo(f.Location, f.Value)})
	}
	return p
}

// maxEcho bounds the values that problems repeat, in bytes of JSON.
const maxEcho = 256

// telling are parts of field names. The values of such fields are never repeated, even if the validator would.
var telling = []string{"token", "secret", "password", "username", "auth", "header", "url", "key", "payload"}

// echo returns the value that a problem repeats of a field: nil if it is secret or long.
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

// Problem answers with an error as the API does. It is for handlers that stand before the API.
func Problem(w http.ResponseWriter, status int, detail string) {
	secure(w.Header())
	p := problem(status, detail)
	writeJSON(w, p.Status, p.ContentType("application/json"), p)
}

// A decisionProblem is a problem that says more: it is about a decision that did not come.
type decisionProblem struct {
	huma.ErrorModel
	DecisionID    string  `json:"decision_id,omitempty" doc:"Under which it is recorded."`
	CallbackID    int64   `json:"callback_id,omitempty" doc:"The callback that was asked."`
	Reason        string  `json:"reason,omitempty" doc:"Why it did not decide, in one word."`
	PartnerStatus int     `json:"partner_status,omitempty" doc:"The status it answered with. Absent if there was no answer."`
	PartnerBody   string  `json:"partner_body,omitempty" doc:"The beginning of its answer, 1 KiB at most."`
	CallbackIDs   []int64 `json:"callback_ids,omitempty" doc:"With a 409: the callbacks there are."`
}

// withDecision adds to the problem for an error the decision that the error is about, if it is about one.
func withDecision(p *huma.ErrorModel, err error) huma.StatusError {
	if e, ok := errors.AsType[*dispatcher.NoDecisionError](err); ok {
		return &decisionProblem{
			ErrorModel: *p, DecisionID: e.DecisionID, CallbackID: e.CallbackID, Reason: string(e.Reason), PartnerStatus: e.StatusCode, PartnerBody: e.Body,
		}
	}
	if e, ok := errors.AsType[*dispatcher.ElectionError](err); ok {
		return &decisionProblem{ErrorModel: *p, CallbackIDs: e.Callbacks}
	}
	return p
}
