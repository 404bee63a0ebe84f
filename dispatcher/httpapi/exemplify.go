package httpapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// exemplify puts examples into an operation's description, those of its problems included.
func (s *server) exemplify(described *huma.Operation, op operation) {
	shown := examples[described.OperationID]
	if described.RequestBody != nil {
		for mediaType, content := range described.RequestBody.Content {
			content.Example = exampleOf(mediaType, shown.request)
		}
	}
	for status, description := range op.also {
		first := described.Responses[strconv.Itoa(op.DefaultStatus)]
		described.Responses[strconv.Itoa(status)] = &huma.Response{Description: description, Headers: first.Headers, Content: maps.Clone(first.Content)}
	}
	for text, response := range described.Responses {
		status, err := strconv.Atoi(text)
		if err != nil || status < http.StatusBadRequest {
			for mediaType, content := range response.Content {
				response.Content[mediaType] = &huma.MediaType{Schema: content.Schema, Example: exampleOf(mediaType, shown.answers[status])}
			}
			continue
		}
		s.exemplifyProblem(response, status, s.exampleError(status, described, op))
	}
}

// exemplifyProblem describes a response of failure by the problem for err.
func (s *server) exemplifyProblem(response *huma.Response, status int, err error) {
	plain, _ := explain(err)
	p := withDecision(plain, err)
	response.Description = problemDescriptions[status]
	response.Content = map[string]*huma.MediaType{"application/problem+json": {
		Schema:  s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(p), true, ""),
		Example: p,
	}}
	switch status {
	case http.StatusUnauthorized:
		response.Headers = stringHeaders("WWW-Authenticate")
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		response.Headers = stringHeaders("Retry-After")
	}
}

// exampleOf is an example as the description holds it: JSON as such, all else as text.
func exampleOf(mediaType, text string) any {
	if text == "" {
		return nil
	}
	if strings.HasSuffix(mediaType, "json") && mediaType != mediaNDJSON || strings.Contains(mediaType, "form") {
		return json.RawMessage(text)
	}
	return text
}

// stringHeaders describes headers of a response by their names.
func stringHeaders(names ...string) map[string]*huma.Param {
	headers := map[string]*huma.Param{}
	for _, name := range names {
		headers[name] = &huma.Param{Schema: plainText}
	}
	return headers
}

// problemDescriptions say in words what a status of failure means.
var problemDescriptions = map[int]string{
	http.StatusBadRequest:            "The body, or the query, cannot be read",
	http.StatusUnauthorized:          "No key, or one that is unknown or was revoked",
	http.StatusForbidden:             "The key's role may not do this",
	http.StatusNotFound:              "There is no such thing, or it is not for this key to see",
	http.StatusRequestTimeout:        "The body did not arrive in time",
	http.StatusGone:                  "It is no longer kept",
	http.StatusConflict:              "Things are not such that this could be done",
	http.StatusPreconditionFailed:    "It was changed meanwhile, and is not as If-Match says",
	http.StatusRequestEntityTooLarge: "The body is too long",
	http.StatusUnsupportedMediaType:  "The body is of another media type, or compressed",
	http.StatusUnprocessableEntity:   "Something in the request does not fit: `errors` says what",
	http.StatusInternalServerError:   "Something went wrong in Ringback: its log says what",
	http.StatusTooManyRequests:       "More than may be at a time: wait as long as Retry-After says, and try again",
	http.StatusBadGateway:            "The partner did not decide: `partner_status` and `partner_body` say what it answered, `reason` why it does not count",
	http.StatusGatewayTimeout:        "The partner did not answer in time",
	http.StatusServiceUnavailable:    "The store does not answer, or there is too much to do: try again",
}

// notFound holds the refusals of names that name nothing, by a path's last parameter.
var notFound = map[string]error{
	"{callback_id": errNoCallback, "{event_id": errNoRecord, "{delivery_id": errNoRecord, "{replay_id": errNoReplay, "{link_id": errNoLink, "{ticket": errNoTicket, "{name": errNoType, "{file": errNoSuchPath,
}

// exampleError is an error to which an operation answers with a status.
func (s *server) exampleError(status int, described *huma.Operation, op operation) error {
	shown := examples[described.OperationID]
	if err := shown.refusals[status]; err != nil {
		return err
	}
	switch status {
	case http.StatusBadRequest:
		if op.body == nil {
			return errBadQuery
		}
		return fmt.Errorf("%w: at byte 17: invalid character '}' looking for beginning of object key string", registry.ErrBadJSON)
	case http.StatusUnauthorized:
		return errNoKey
	case http.StatusForbidden:
		if len(op.need.roles) == 0 {
			return errNotAllSeers
		}
		return op.need.wrongRole(registry.Producer)
	case http.StatusNotFound:
		last := described.Path[strings.LastIndexByte(described.Path, '{'):]
		name, _, _ := strings.Cut(last, "}")
		if err := notFound[name]; err != nil {
			return err
		}
		return errHidden
	case http.StatusConflict:
		if shown.conflict == "" {
			return &dispatcher.UnderWayError{Wait: retryAfter * time.Second}
		}
		return &refusal{status: status, detail: shown.conflict}
	case http.StatusPreconditionFailed:
		return registry.ErrOvertaken
	case http.StatusUnprocessableEntity:
		if shown.fault.Location == "" {
			shown.fault = payloads.FieldError{Location: "query.verbose", Message: "is not known here: this path takes no parameters"}
		}
		return &payloads.InvalidError{Fields: []payloads.FieldError{shown.fault}}
	case http.StatusTooManyRequests:
		return errKeyRequests
	case http.StatusServiceUnavailable:
		return dispatcher.ErrUnavailable
	}
	if op.body != nil {
		switch status {
		case http.StatusRequestTimeout:
			return errTooSlow
		case http.StatusRequestEntityTooLarge:
			return tooLong("body", op.body.limit)
		case http.StatusUnsupportedMediaType:
			return wrongMediaType(op.body.mediaTypes)
		}
	}
	return errPanicked
}
