package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

type (
	findIn struct {
		Company   string    `path:"company"`
		EventType string    `query:"event_type" doc:"Only events of this type."`
		EventID   string    `query:"event_id" doc:"Only the event with this id; with a * at its end, all events whose ids begin so."`
		WebhookID string    `query:"webhook_id" doc:"Only the event of the delivery that partners know by this webhook-id."`
		Since     time.Time `query:"since" doc:"Only events accepted at this time or later."`
		Until     time.Time `query:"until" doc:"Only events accepted before this time."`
		Limit     int       `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor    string    `query:"cursor"`

		match map[string]string // values of match attributes
	}
	eventsOut struct{ Body eventPage }
	eventPage struct {
		Events         []*dispatcher.EventItem `json:"events"`
		NextCursor     string                  `json:"next_cursor,omitempty" doc:"Absent on the last page."`
		SearchedBackTo time.Time               `json:"searched_back_to,omitzero" doc:"On a page that is shorter than its limit, since the search took longer than a second: all that was accepted after this time was searched, and next_cursor goes on from there."`
	}
)

func (s *server) find() {
	register(s, operation{need: readFates.andAnywhere(), bounds: ofThose, attributes: true, Operation: huma.Operation{
		OperationID: "find-events", Method: http.MethodGet, Path: eventsRoute, Tags: []string{"Events"}, Summary: "Find events",
		Description: "Newest first, each with how many deliveries it has in each state, and without its payload. Every match attribute of a callback type is a parameter, too, " +
			"such as `campaign_token=r3zhm8`: it finds events of types that have the attribute, with that value in the payload, as long as the payload is kept. " +
			"With `*` as the company, which takes a key of all companies, it finds events of all, and each names its `company`. " +
			"A page is full or the last one, but for one that says `searched_back_to`.",
		Errors: []int{http.StatusUnprocessableEntity},
	}}, s.findEvents)
}

// Resolve takes from the query what is no parameter of the operation: goodQuery has judged that they are match attributes.
func (in *findIn) Resolve(ctx huma.Context) []error {
	query := ctx.URL()
	in.match = matchOf(query.Query(), ctx.Operation().Parameters)
	return nil
}

// matchOf are the values in a query that are for no parameter. An empty value is as good as none.
func matchOf(query url.Values, params []*huma.Param) map[string]string {
	match := map[string]string{}
	for name := range query {
		if value := query.Get(name); value != "" && !slices.ContainsFunc(params, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			match[name] = value
		}
	}
	return match
}

func (s *server) findEvents(ctx context.Context, in *findIn) (*eventsOut, error) {
	q := dispatcher.EventsQuery{
		Type: in.EventType, Since: in.Since, Until: in.Until, EventID: in.EventID, WebhookID: in.WebhookID, Match: in.match, Callbacks: keyOf(ctx).Callbacks,
		Limit: in.Limit, Cursor: in.Cursor,
	}
	find := func() ([]*dispatcher.EventItem, string, error) { return s.Client.Events(ctx, in.Company, q) }
	if in.Company == registry.AllCompanies {
		find = func() ([]*dispatcher.EventItem, string, error) { return s.overviews.EveryEvent(ctx, q) }
	}
	list, next, err := find()
	if err != nil {
		return nil, err
	}
	page := eventPage{Events: orEmpty(list), NextCursor: next}
	if next != "" && len(list) < in.Limit {
		page.SearchedBackTo = reached(in.Company, next)
	}
	return &eventsOut{page}, nil
}
