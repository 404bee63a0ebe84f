package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

const payloadRoute = eventRoute + "/payload"

// readPayloads is for those who send events and those who receive them. Viewers see how things are, and nothing of what is sent.
var readPayloads = need{roles: []registry.Role{registry.Operator, registry.Producer, registry.Partner}}

type (
	payloadIn struct {
		Company string `path:"company"`
		EventID string `path:"event_id"`
	}
	payloadOut struct {
		ContentType string `header:"Content-Type"`
		Disposition string `header:"Content-Disposition" doc:"So that a browser keeps it as a file."`
		Digest      string `header:"Repr-Digest" doc:"The payload's SHA-256 (RFC 9530)."`
		Body        []byte
	}
)

// payloadBytes registers what shows the bytes of events.
func (s *server) payloadBytes() {
	register(s, operation{need: readPayloads, bounds: ofEvent, Operation: huma.Operation{
		OperationID: "get-payload", Method: http.MethodGet, Path: payloadRoute, Tags: []string{"Events"}, Summary: "The bytes of an event's payload",
		Description: "As they came in. What a request carried may differ, where its type has a time of sending or its callback is sent forms: that is shown with the delivery. " +
			"410 says that the event is kept without its body.",
		Errors: []int{http.StatusGone},
		Responses: map[string]*huma.Response{"200": {
			Description: "The payload", Content: map[string]*huma.MediaType{mediaJSON: {Schema: &huma.Schema{Description: "What was sent as the event's payload."}}},
		}},
	}}, s.getPayload)
}

func (s *server) getPayload(ctx context.Context, in *payloadIn) (*payloadOut, error) {
	payload, err := s.Client.Payload(ctx, in.Company, in.EventID)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(payload)
	return &payloadOut{
		ContentType: mediaJSON, Disposition: `attachment; filename="` + in.EventID + `.json"`, // an id has no quotes
		Digest: "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":", Body: payload,
	}, nil
}
