package httpapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
)

const companyRoute = "/companies/{company}"

type (
	eraseEventIn struct {
		Company string `path:"company"`
		EventID string `path:"event_id"`
	}
	eraseCompanyIn struct {
		Company string `path:"company"`
		Confirm string `query:"confirm" doc:"The company's name once more. Without it nothing is erased."`
	}
	erasedEventOut   struct{ Body *dispatcher.ErasedEvent }
	erasedCompanyOut struct{ Body *dispatcher.ErasedCompany }
)

func (s *server) erasures() {
	register(s, operation{need: eraseEvents, Operation: huma.Operation{
		OperationID: "erase-event", Method: http.MethodDelete, Path: eventRoute, Tags: []string{"Events"}, Summary: "Erase an event",
		Description: "Its payload, its deliveries and what was noted of them, as if it had never been accepted: what is not delivered yet never will be. " +
			"A request under way finishes, and nothing is noted of it. The same event_id may be sent anew, and is then delivered.",
	}}, s.eraseEvent)
	register(s, operation{need: eraseCompanies, long: true, Operation: huma.Operation{
		OperationID: "erase-company", Method: http.MethodDelete, Path: companyRoute, Tags: []string{"Operations"}, Summary: "Erase a company",
		Description: "Wants the company's name again, as `confirm`. All of it goes: callbacks, events and deliveries, decisions, replays, and the API keys that are bound to it. It works for some " +
			"twenty seconds at most. While `done` is false, or if there was no answer, call again: it goes on, and the numbers are those of each " +
			"call. `kept` is what stays. Stop whatever sends for the company before: its next event makes the company anew.",
	}}, s.eraseCompany)
}

func (s *server) eraseEvent(ctx context.Context, in *eraseEventIn) (*erasedEventOut, error) {
	e, err := s.Client.EraseEvent(ctx, in.Company, in.EventID, caller(ctx))
	return &erasedEventOut{e}, err
}

func (s *server) eraseCompany(ctx context.Context, in *eraseCompanyIn) (*erasedCompanyOut, error) {
	if in.Confirm != in.Company {
		return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{
			Location: "query.confirm", Message: "must be the company's name once more, as in ?confirm=" + in.Company + ": all of it will be erased, for ever",
		}}}
	}
	e, err := s.Client.EraseCompany(ctx, s.Keys, in.Company, caller(ctx))
	if errors.Is(err, dispatcher.ErrNotFound) {
		err = errNoCompany
	}
	return &erasedCompanyOut{e}, err
}
