package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/registry"
)

type (
	questionIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	decisionOut struct{ Body *dispatcher.PartnerAnswer }
)

func (s *server) decisions() {
	register(s, operation{need: sendEvents, patience: egress.DefaultMaxTimeout + bodyTimeout, body: &body{schema: reflect.TypeFor[questionDoc]()}, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "ask-decision", Method: http.MethodPost, Path: "/companies/{company}/decisions", Tags: []string{"Decisions"},
		Summary: "Ask a partner to decide",
		Description: "Puts the payload to the company's one enabled callback for this synchronous type, once, and answers with what the partner says: 200 also " +
			"where it says no. A callback for the type itself is asked before one for a glob. Where there is none the answer is 404, where there is more than one, or none is enabled, 409; an error " +
			"of the partner's is 502, with its status and words, and no answer in time 504. Nothing is queued or repeated (but for a 401 to an access token that has expired since); everything is recorded, for GET …/deliveries?kind=decision.",
		Errors: []int{http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusGatewayTimeout},
	}}, s.askDecision)
}

func (s *server) askDecision(ctx context.Context, in *questionIn) (*decisionOut, error) {
	q, err := decodeQuestion(in.Company, in.RawBody)
	if err != nil {
		return nil, err
	}
	answer, err := s.Client.Ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return &decisionOut{answer}, nil
}

// decodeQuestion reads a question. Its errors are those of registry.Members.
func decodeQuestion(company string, body []byte) (dispatcher.Question, error) {
	q := dispatcher.Question{Company: company}
	err := registry.Members(body, func(name string, value json.RawMessage) (wrong string) {
		switch name {
		case "event_type":
			return text(value, &q.Type)
		case "payload":
			q.Payload = value
			return ""
		case "timeout":
			return wait(value, &q.Timeout)
		}
		return "is not known here: the members are event_type, payload and timeout"
	})
	return q, err
}

// wait reads a duration; null is none. The dispatcher judges its bounds, but to the dispatcher 0 means none: so it is refused here.
func wait(value json.RawMessage, into *time.Duration) (wrong string) {
	if isNull(value) {
		return ""
	}
	if wrong := duration(value, into); wrong != "" || *into == 0 {
		return `must be a duration such as "3s", from 100ms to 1m`
	}
	return ""
}
