package receive

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/payloads"
)

// Delivery is one event for one callback, as it arrived and was verified.
type Delivery struct {
	// ID is the webhook-id: the same on every attempt, and when the delivery is replayed.
	ID string

	// EventID is the event's id, which the sender chose: the same for every callback that gets the event.
	EventID string

	// EventType is the name of the callback type that the event has.
	EventType string

	// Attempt counts from 1. Zero: the request does not say.
	Attempt int

	// Replay says that somebody had the delivery sent again.
	Replay bool

	// SignedAt is when this attempt was signed, in whole seconds.
	SignedAt time.Time

	// Payload is the event's payload: the body itself, or the JSON that a form stands for, whose values are all strings.
	Payload json.RawMessage

	// Header holds all headers of the request.
	Header http.Header
}

const (
	challengeType = "callback.challenge"
	testPrefix    = "tst_" // of the webhook-id, which the signature covers
)

// newDelivery reads a request that was verified.
func newDelivery(s signed, h http.Header, body []byte) (Delivery, error) {
	d := Delivery{
		ID: s.id, EventID: h.Get("Ringback-Event-Id"), EventType: h.Get("Ringback-Event-Type"),
		Replay: h.Get("Ringback-Replay") != "", SignedAt: s.at, Payload: body, Header: h,
	}
	if n, err := strconv.ParseUint(h.Get("Ringback-Attempt"), 10, 31); err == nil {
		d.Attempt = int(n)
	}
	if mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || mediaType != payloads.ContentTypeForm {
		return d, nil
	}
	payload, err := payloads.DecodeForm(body)
	d.Payload = payload
	return d, err
}

// isTest reports whether somebody is trying the callback out: such a delivery holds an example and is about nothing that happened.
func (d Delivery) isTest() bool { return strings.HasPrefix(d.ID, testPrefix) }

// challenge is the token that the endpoint has to say back, as JSON; nil if the delivery asks for none.
func (d Delivery) challenge() []byte {
	if d.EventType != challengeType {
		return nil
	}
	var asked struct {
		Challenge string `json:"challenge"`
	}
	if json.Unmarshal(d.Payload, &asked) != nil || asked.Challenge == "" {
		return nil
	}
	answer, err := json.Marshal(asked)
	if err != nil {
		return nil
	}
	return answer
}
