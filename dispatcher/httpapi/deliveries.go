package httpapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const (
	deliveriesRoute = "/companies/{company}/deliveries"
	deliveryRoute   = deliveriesRoute + "/{delivery_id}"
)

// includeRequest is what a delivery shows only if it is asked for.
const includeRequest = "request"

type (
	deliveriesIn struct {
		Company    string    `path:"company"`
		Limit      int       `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor     string    `query:"cursor"`
		Kind       string    `query:"kind" enum:"delivery,decision" default:"delivery" doc:"Decisions are listed by themselves: as deliveries of one attempt, with a decision_id; delivered where the partner decided, else dead."`
		State      []string  `query:"state,explode" nullable:"false" doc:"Only deliveries in these states, separated by commas or given repeatedly." example:"dead,held"`
		CallbackID int64     `query:"callback_id" minimum:"1" doc:"Only deliveries to this callback."`
		EventType  string    `query:"event_type" doc:"Only deliveries of events of this type."`
		Since      time.Time `query:"since" doc:"Only deliveries of events accepted at this time or later."`
		Until      time.Time `query:"until" doc:"Only deliveries of events accepted before this time."`
	}
	deliveryIn struct {
		Company    string `path:"company"`
		DeliveryID string `path:"delivery_id"`
	}
	deliveryShownIn struct {
		Company    string   `path:"company"`
		DeliveryID string   `path:"delivery_id"`
		Include    []string `query:"include" enum:"request" nullable:"false" doc:"What else to show: with request each attempt has its request as it went out, or says why there is none, and its timing. What travelled in a batch has the whole batch's."`
	}
	deliveriesOut struct{ Body deliveryPage }
	deliveryOut   struct{ Body *dispatcher.Delivery }

	deliveryPage struct {
		Deliveries []*dispatcher.Delivery `json:"deliveries"`
		NextCursor string                 `json:"next_cursor,omitempty" doc:"Absent on the last page."`
		// SearchedBackTo is set on a page that is short, or empty, since the search took too long.
		SearchedBackTo time.Time `json:"searched_back_to,omitzero" doc:"On a page that is shorter than its limit, since the search took longer than a second: all that was accepted after this time was searched, and next_cursor goes on from there."`
	}
)

func (s *server) deliveries() {
	chapter := []string{"Deliveries"}
	register(s, operation{need: readFates.andAnywhere(), bounds: ofThose, Operation: huma.Operation{
		OperationID: "list-deliveries", Method: http.MethodGet, Path: deliveriesRoute, Tags: chapter,
		Summary: "List deliveries", Description: "Newest first. With `*` as the company, which takes a key of all companies, it lists those of all, and each names its `company`. A page is full or the last one, but for one that says `searched_back_to`.", Errors: []int{http.StatusUnprocessableEntity},
	}}, s.listDeliveries)
	register(s, operation{need: readFates, bounds: ofDelivery, Operation: huma.Operation{
		OperationID: "get-delivery", Method: http.MethodGet, Path: deliveryRoute, Tags: chapter, Summary: "Show a delivery and its attempts",
		Description: "With `include=request`, what each attempt sent and where its time went. Of a delivery that is read by itself answers are shown as far as they are kept; lists show a beginning.",
	}}, s.getDelivery)
	register(s, operation{need: steerDeliveries, bounds: ofDelivery, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "replay-delivery", Method: http.MethodPost, Path: deliveryRoute + "/replay", Tags: chapter, DefaultStatus: http.StatusAccepted,
		Summary: "Deliver again", Description: "For a delivery that is delivered, dead or cancelled. The partner sees the same webhook-id. Where its event is kept without its body, it is refused: there is nothing to send.",
		Errors: []int{http.StatusConflict},
	}}, s.replayDelivery)
	register(s, operation{need: steerDeliveries, bounds: ofDelivery, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "cancel-delivery", Method: http.MethodPost, Path: deliveryRoute + "/cancel", Tags: chapter,
		Summary: "Cancel a delivery", Description: "For a delivery that is not finished. An attempt in flight finishes.",
		Errors: []int{http.StatusConflict},
	}}, s.cancelDelivery)
}

func (s *server) listDeliveries(ctx context.Context, in *deliveriesIn) (*deliveriesOut, error) {
	states, err := parseStates(in.State)
	if err != nil {
		return nil, err
	}
	list, next, err := s.deliveriesOf(ctx, in.Company, dispatcher.Query{
		States: states, CallbackID: in.CallbackID, EventType: in.EventType,
		Within: keyOf(ctx).Callbacks, Decisions: in.Kind == "decision", Since: in.Since, Until: in.Until, Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		whole(d)
	}
	page := deliveryPage{Deliveries: orEmpty(list), NextCursor: next}
	if next != "" && len(list) < in.Limit {
		page.SearchedBackTo = reached(in.Company, next)
	}
	return &deliveriesOut{page}, nil
}

// parseStates reads ?state=dead,held&state=retrying.
func parseStates(given []string) ([]dispatcher.State, error) {
	var states []dispatcher.State
	for _, list := range given {
		for name := range strings.SplitSeq(list, ",") {
			state := dispatcher.State(strings.TrimSpace(name))
			if state == "" {
				continue
			}
			if !slices.Contains(dispatcher.States, state) {
				return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{
					Location: "query.state", Value: string(state), Message: "is no state of a delivery: they are " + stateNames(),
				}}}
			}
			states = append(states, state)
		}
	}
	return states, nil
}

func stateNames() string {
	names := make([]string, len(dispatcher.States))
	for i, state := range dispatcher.States {
		names[i] = string(state)
	}
	return strings.Join(names, ", ")
}

func (s *server) getDelivery(ctx context.Context, in *deliveryShownIn) (*deliveryOut, error) {
	d, err := s.Client.Delivery(ctx, in.Company, in.DeliveryID)
	if err == nil && slices.Contains(in.Include, includeRequest) {
		sees := keyOf(ctx).Role != registry.Viewer
		err = s.Client.ShowRequests(ctx, in.Company, d, dispatcher.Showing{Payload: sees, Query: sees})
	}
	return told(d, err)
}

func (s *server) replayDelivery(ctx context.Context, in *deliveryIn) (*deliveryOut, error) {
	return told(s.Client.Replay(ctx, in.Company, in.DeliveryID))
}

func (s *server) cancelDelivery(ctx context.Context, in *deliveryIn) (*deliveryOut, error) {
	return told(s.Client.Cancel(ctx, in.Company, in.DeliveryID))
}

func told(d *dispatcher.Delivery, err error) (*deliveryOut, error) {
	whole(d)
	return &deliveryOut{d}, err
}

// whole makes a delivery's attempts an empty list, if there were none.
func whole(d *dispatcher.Delivery) {
	if d != nil {
		d.Attempts = orEmpty(d.Attempts)
	}
}
