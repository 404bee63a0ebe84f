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

// Delivery is one event for one callback, as it arrived and was verified, by itself or in a batch.
type Delivery struct {
	// ID is the webhook-id: the same on every attempt, and when the delivery is replayed. In a batch whose elements are envelopes it is the id in the
	// envelope, of which the same holds. In another batch it is the batch's webhook-id and the element's place, such as bat_3f1c/0: the same as long as the
	// batch is.
	ID string

	// EventID is the event's id, which the sender chose: the same for every callback that gets the event. Of a batch, only CloudEvents say it.
	EventID string

	// EventType is the name of the callback type that the event has. Of a batch, only envelopes and CloudEvents say it.
	EventType string

	// Attempt counts from 1, and for a batch as a whole. Zero: the request does not say.
	Attempt int

	// Replay says that somebody had the delivery sent again.
	Replay bool

	// Sequence is the delivery's number among those of its key, where the callback has an ordering: a lower one than the last is a repetition, or a replay. It
	// counts from 1. Zero: the delivery has no order. The signature does not cover it.
	Sequence int64

	// SignedAt is when this attempt was signed, in whole seconds.
	SignedAt time.Time

	// Payload is the event's payload: the body itself, or the JSON that a form stands for, whose values are all strings.
	Payload json.RawMessage

	// Header holds all headers of the request. All deliveries of a batch have the same one.
	Header http.Header

	test bool   // somebody is trying the callback out: it holds an example, and is about nothing that happened
	name string // by which the answer to a batch may speak of it; empty: by none
}

const (
	challengeType = "callback.challenge"
	testPrefix    = "tst_" // of the webhook-id, which the signature covers
)

// heading reads the headers of a request that was verified.
func heading(s signed, h http.Header) Delivery {
	d := Delivery{
		ID: s.id, EventID: h.Get("Ringback-Event-Id"), EventType: h.Get("Ringback-Event-Type"),
		Replay: h.Get("Ringback-Replay") != "", SignedAt: s.at, Header: h, test: strings.HasPrefix(s.id, testPrefix),
	}
	if n, err := strconv.ParseUint(h.Get("Ringback-Attempt"), 10, 31); err == nil {
		d.Attempt = int(n)
	}
	if n, err := strconv.ParseUint(h.Get("Ringback-Sequence"), 10, 63); err == nil {
		d.Sequence = int64(n)
	}
	return d
}

// newDelivery reads a request that was verified, and is no batch.
func newDelivery(s signed, h http.Header, body []byte) (Delivery, error) {
	d := heading(s, h)
	d.Payload = body
	if mediaType, _, err := mime.ParseMediaType(h.Get("Content-Type")); err != nil || mediaType != payloads.ContentTypeForm {
		return d, nil
	}
	payload, err := payloads.DecodeForm(body)
	d.Payload = payload
	return d, err
}

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
