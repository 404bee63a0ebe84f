package httpapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// Lists over all companies, which the path names *.

const (
	// everyCallbackFor is how long a list over all companies' callbacks goes on before it answers with what it has.
	everyCallbackFor = time.Second
	// statusesTogether is of how many companies it is asked together whether they have callbacks of a status.
	statusesTogether = 100
)

// everyCallbackIn is callbacksIn without a company.
type everyCallbackIn struct {
	Limit        int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
	Cursor       string `query:"cursor"`
	CallbackType string `query:"callback_type" doc:"Only callbacks registered for this type, written as registered."`
	Status       string `query:"status" enum:"enabled,paused,disabled,unverified"`
}

func (s *server) everywhere() {
	register(s, operation{need: readCallbacks.andAnywhere(), bounds: ofThose, Operation: huma.Operation{
		OperationID: "list-callbacks", Method: http.MethodGet, Path: callbacksRoute, Tags: []string{"Callbacks"},
		Summary: "List callbacks", Description: "By callback_id, ascending. With `*` as the company, which takes a key of all companies, it lists those of all, by company; each names its `company`, and a page may be short and not be the last.", Errors: []int{http.StatusUnprocessableEntity},
	}}, s.callbacksOf)
	all := readCallbacks
	all.everywhere = true
	register(s, operation{need: all, Operation: huma.Operation{
		OperationID: "list-all-callbacks", Method: http.MethodGet, Path: "/companies/*/callbacks", Tags: []string{"Callbacks"},
		Summary: "List the callbacks of all companies", Description: "The same as `/companies/*/config/callbacks`.", Errors: []int{http.StatusUnprocessableEntity},
	}}, func(ctx context.Context, in *everyCallbackIn) (*callbacksOut, error) {
		return s.everyCallback(ctx, &callbacksIn{registry.AllCompanies, in.Limit, in.Cursor, in.CallbackType, in.Status})
	})
}

// callbacksOf lists a company's callbacks, or all companies'.
func (s *server) callbacksOf(ctx context.Context, in *callbacksIn) (*callbacksOut, error) {
	if in.Company == registry.AllCompanies {
		return s.everyCallback(ctx, in)
	}
	return s.listCallbacks(ctx, in)
}

// deliveriesOf lists a company's deliveries, or all companies'.
func (s *server) deliveriesOf(ctx context.Context, company string, q dispatcher.Query) ([]*dispatcher.Delivery, string, error) {
	if company == registry.AllCompanies {
		return s.overviews.EveryDelivery(ctx, q)
	}
	return s.Client.Deliveries(ctx, company, q)
}

// reached is how far back a list has searched that goes on with a cursor.
func reached(company, cursor string) time.Time {
	if company == registry.AllCompanies {
		return dispatcher.ReachedEverywhere(cursor)
	}
	return dispatcher.Reached(cursor)
}

// everyCallback lists callbacks by company, and each company's by id. The cursor is a company, and the cursor of its own list: empty behind all of it.
func (s *server) everyCallback(ctx context.Context, in *callbacksIn) (*callbacksOut, error) {
	until := time.Now().Add(everyCallbackFor)
	company, inner, err := parseCallbackCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	names, err := s.overviews.NamesFrom(ctx, "", base64.RawURLEncoding.EncodeToString([]byte(company)))
	if err != nil {
		return nil, err
	}
	page := callbackPage{Callbacks: []callbackHealth{}}
	if inner != "" {
		names = append([]string{company}, names...)
	}
	may := map[string]bool{}
	for i, name := range names {
		if in.Status != "" && i%statusesTogether == 0 {
			if may, err = s.withStatus(ctx, names[i:min(len(names), i+statusesTogether)], in.Status); err != nil {
				return nil, err
			}
		}
		if in.Status != "" && !may[name] {
			continue
		}
		f := registry.Filter{Type: in.CallbackType, Status: registry.Status(in.Status), Limit: in.Limit - len(page.Callbacks), Cursor: inner}
		inner = ""
		list, next, err := s.Registry.List(ctx, name, f)
		if err != nil {
			return nil, err
		}
		some, err := s.withHealth(ctx, name, list...)
		if err != nil {
			return nil, err
		}
		for j := range some {
			some[j].company = name
		}
		page.Callbacks = append(page.Callbacks, some...)
		if next != "" || i+1 < len(names) && (len(page.Callbacks) == in.Limit || time.Now().After(until)) {
			page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(name + "/" + next))
			break
		}
	}
	return &callbacksOut{page}, nil
}

func parseCallbackCursor(cursor string) (company, inner string, err error) {
	if cursor == "" {
		return "", "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	company, inner, ok := strings.Cut(string(text), "/")
	if err != nil || !ok || !payloads.ValidCompany(company) {
		return "", "", dispatcher.ErrBadCursor
	}
	return company, inner, nil
}

// withStatus are those of companies that have a callback of a status.
func (s *server) withStatus(ctx context.Context, companies []string, status string) (map[string]bool, error) {
	counts, err := s.Registry.CountStatuses(ctx, companies)
	if err != nil {
		return nil, err
	}
	have := map[string]bool{}
	for i, name := range companies {
		have[name] = counts[i][registry.Status(status)] > 0
	}
	return have, nil
}
