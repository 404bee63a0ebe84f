package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const (
	eventsRoute = "/companies/{company}/events"
	eventRoute  = eventsRoute + "/{event_id}"
)

type (
	eventIn struct {
		Company        string `path:"company"`
		IdempotencyKey string `header:"Idempotency-Key" doc:"The event's id, where the body gives none. A key that is no event id is one by its digest."`
		RawBody        []byte `contentType:"application/json"`
	}
	receiptOut struct {
		Status   int
		Location string `header:"Location"`
		Body     dispatcher.Receipt
	}
	explainIn struct {
		Company    string `path:"company"`
		EventID    string `path:"event_id"`
		Limit      int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor     string `query:"cursor"`
		CallbackID int64  `query:"callback_id" minimum:"1" doc:"Only what concerns this callback."`
	}
	explanationOut struct{ Body *dispatcher.Explanation }
)

func (s *server) events() {
	chapter := []string{"Events"}
	op := huma.Operation{
		OperationID: "send-event", Method: http.MethodPost, Path: eventsRoute, Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary: "Hand over an event",
		Description: "202 says that the event is durable: it will be delivered to every callback that matches, even if all of Ringback " +
			"stops this instant. The payload goes out byte for byte as it came in. The same event_id with the same type and payload again " +
			"is answered 200 and `duplicate`; with others, 409. Of an event that matches more than 100 callbacks the answer lists the first " +
			"100 deliveries, and says `expanding`: the others are written right after. After a 429, a 503 or a lost answer repeat it with the same event_id. " +
			"Where the body has no event_id, the header Idempotency-Key is the event's id, and repeats are answered as those with an event_id are.",
		Errors: []int{http.StatusConflict, http.StatusUnprocessableEntity, http.StatusTooManyRequests},
	}
	again := map[int]string{http.StatusOK: "Accepted before; the first answer again"}
	register(s, operation{need: sendEvents, repeats: namesEvent, also: again, body: &body{schema: reflect.TypeFor[eventDoc]()}, Operation: op}, s.sendEvent)
	register(s, operation{need: readFates, bounds: ofThose, Operation: huma.Operation{
		OperationID: "explain-event", Method: http.MethodGet, Path: eventRoute, Tags: chapter, Summary: "What became of an event",
		Description: "For each callback of the company: matched or not and why, and where matched, the delivery with its attempts and what comes next.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}}, s.explainEvent)
}

func (s *server) sendEvent(ctx context.Context, in *eventIn) (*receiptOut, error) {
	e, err := decodeEvent(in.Company, in.RawBody)
	if err != nil {
		return nil, err
	}
	named, err := eventIDOf(in.IdempotencyKey)
	if err != nil {
		return nil, err
	}
	e.ID = cmp.Or(e.ID, named)
	receipt, err := s.Client.Send(ctx, e)
	if err != nil {
		return nil, err
	}
	return receiptOf(in.Company, receipt), nil
}

// receiptOf is the answer to an event that was accepted: 202, or 200 if it was accepted before.
func receiptOf(company string, receipt dispatcher.Receipt) *receiptOut {
	receipt.Deliveries = orEmpty(receipt.Deliveries)
	out := &receiptOut{Status: http.StatusAccepted, Location: "/companies/" + company + "/events/" + receipt.EventID, Body: receipt}
	if receipt.Duplicate {
		out.Status = http.StatusOK
	}
	return out
}

// decodeEvent reads an event as it is handed over. Its payload is a copy of the body's very bytes, and the dispatcher judges
// whether it suits its type. The errors are those of registry.Members.
func decodeEvent(company string, body []byte) (payloads.Event, error) {
	e := payloads.Event{Company: company}
	err := registry.Members(body, func(name string, value json.RawMessage) (wrong string) {
		switch name {
		case "event_type":
			return text(value, &e.Type)
		case "event_id":
			return eventID(value, &e.ID)
		case "occurred_at":
			return moment(value, &e.OccurredAt)
		case "payload":
			e.Payload = value
			return ""
		}
		return "is not known here: the members are event_type, event_id, occurred_at and payload"
	})
	return e, err
}

// eventID reads an id; null is none, but "" is somebody's mistake.
func eventID(value json.RawMessage, into *string) (wrong string) {
	if isNull(value) {
		return ""
	}
	if wrong := text(value, into); wrong != "" {
		return wrong
	}
	if *into == "" {
		return "is empty: give 1 to 128 of A-Z a-z 0-9 _ . : - and not . or .. (or leave it out: one is made up)"
	}
	return ""
}

func (s *server) explainEvent(ctx context.Context, in *explainIn) (*explanationOut, error) {
	x, err := s.Client.Explain(ctx, in.Company, in.EventID, dispatcher.ExplainQuery{
		CallbackID: in.CallbackID, Within: keyOf(ctx).Callbacks, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	x.Callbacks = orEmpty(x.Callbacks)
	for _, d := range x.Callbacks {
		whole(d.Delivery)
	}
	return &explanationOut{x}, nil
}
