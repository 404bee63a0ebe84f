package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/registry"
)

const (
	callbacksRoute = "/companies/{company}/config/callbacks"
	callbackRoute  = callbacksRoute + "/{callback_id}"
)

type (
	callbackIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
	}
	registrationIn struct {
		Company string `path:"company"`
		RawBody []byte `contentType:"application/json"`
	}
	patchIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
		RawBody    []byte `contentType:"application/merge-patch+json"`
	}
	resumeIn struct {
		Company    string `path:"company"`
		CallbackID int64  `path:"callback_id"`
		RawBody    []byte `contentType:"application/json"`
	}
	callbacksIn struct {
		Company      string `path:"company"`
		Limit        int    `query:"limit" minimum:"1" maximum:"500" default:"50"`
		Cursor       string `query:"cursor"`
		CallbackType string `query:"callback_type" doc:"Only callbacks registered for this type, written as registered."`
		Status       string `query:"status" enum:"enabled,paused,disabled"`
	}

	createdOut struct {
		Location string `header:"Location"`
		Body     registry.Revealed
	}
	callbackOut  struct{ Body *registry.Callback }
	callbacksOut struct{ Body callbackPage }

	callbackPage struct {
		Callbacks  []*registry.Callback `json:"callbacks"`
		NextCursor string               `json:"next_cursor,omitempty" doc:"Absent on the last page."`
	}
)

func (s *server) callbacks() {
	tags := []string{"Callbacks"}
	registration := reflect.TypeFor[RegistrationDoc]()
	register(s, operation{need: manageCallbacks, body: &body{schema: registration}, Operation: huma.Operation{
		OperationID: "create-callback", Method: http.MethodPost, Path: callbacksRoute, Tags: tags, DefaultStatus: http.StatusCreated,
		Summary:     "Register a callback",
		Description: "The answer is the only one that shows the signing secret. Events accepted from now on reach the callback if they match.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}}, s.createCallback)
	register(s, operation{need: readCallbacks, Operation: huma.Operation{
		OperationID: "list-callbacks", Method: http.MethodGet, Path: callbacksRoute, Tags: tags,
		Summary: "List callbacks", Description: "By callback_id, ascending.", Errors: []int{http.StatusUnprocessableEntity},
	}}, s.listCallbacks)
	register(s, operation{need: readCallbacks, Operation: huma.Operation{
		OperationID: "get-callback", Method: http.MethodGet, Path: callbackRoute, Tags: tags, Summary: "Show a callback",
	}}, s.getCallback)
	register(s, operation{need: manageCallbacks, body: &body{schema: reflect.TypeFor[patchDoc](), mediaTypes: []string{mediaMergePatch, mediaJSON}}, Operation: huma.Operation{
		OperationID: "update-callback", Method: http.MethodPatch, Path: callbackRoute, Tags: tags, Summary: "Change a callback",
		Description: "A JSON Merge Patch (RFC 7396): members that are given replace, null removes, \"***\" leaves a secret as it is.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}}, s.patchCallback)
	register(s, operation{need: manageCallbacks, Operation: huma.Operation{
		OperationID: "delete-callback", Method: http.MethodDelete, Path: callbackRoute, Tags: tags, Summary: "Delete a callback",
		Description: "What waits for it is cancelled; an attempt in flight finishes.",
	}}, s.deleteCallback)
	register(s, operation{need: manageCallbacks, Operation: huma.Operation{
		OperationID: "pause-callback", Method: http.MethodPost, Path: callbackRoute + "/pause", Tags: tags, Summary: "Pause a callback",
		Description: "Its deliveries are held until it is resumed.",
	}}, s.pauseCallback)
	register(s, operation{need: manageCallbacks, body: &body{schema: reflect.TypeFor[resumeDoc](), optional: true}, Operation: huma.Operation{
		OperationID: "resume-callback", Method: http.MethodPost, Path: callbackRoute + "/resume", Tags: tags, Summary: "Resume a callback",
		Description: "Enables a disabled one, too. What was held goes out, oldest first and paced, or is cancelled with `skip_held`.",
		Errors:      []int{http.StatusUnprocessableEntity},
	}}, s.resumeCallback)
}

func (s *server) createCallback(ctx context.Context, in *registrationIn) (*createdOut, error) {
	cb, err := s.Registry.Create(ctx, in.Company, in.RawBody)
	if err != nil {
		return nil, err
	}
	return &createdOut{
		Location: fmt.Sprintf("/companies/%s/config/callbacks/%d", cb.Company, cb.ID),
		Body:     cb.WithSecret(),
	}, nil
}

func (s *server) listCallbacks(ctx context.Context, in *callbacksIn) (*callbacksOut, error) {
	list, next, err := s.Registry.List(ctx, in.Company, registry.Filter{
		Type: in.CallbackType, Status: registry.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	return &callbacksOut{callbackPage{Callbacks: orEmpty(list), NextCursor: next}}, nil
}

func (s *server) getCallback(ctx context.Context, in *callbackIn) (*callbackOut, error) {
	return shown(s.Registry.Get(ctx, in.Company, in.CallbackID))
}

func (s *server) patchCallback(ctx context.Context, in *patchIn) (*callbackOut, error) {
	return shown(s.Registry.Patch(ctx, in.Company, in.CallbackID, in.RawBody))
}

func (s *server) deleteCallback(ctx context.Context, in *callbackIn) (*noContent, error) {
	return &noContent{}, s.Registry.Delete(ctx, in.Company, in.CallbackID)
}

func (s *server) pauseCallback(ctx context.Context, in *callbackIn) (*callbackOut, error) {
	return shown(s.Registry.Pause(ctx, in.Company, in.CallbackID))
}

func (s *server) resumeCallback(ctx context.Context, in *resumeIn) (*callbackOut, error) {
	skipHeld, err := decodeResume(in.RawBody)
	if err != nil {
		return nil, err
	}
	return shown(s.Client.Resume(ctx, in.Company, in.CallbackID, skipHeld))
}

func shown(cb *registry.Callback, err error) (*callbackOut, error) {
	return &callbackOut{cb}, err
}

// decodeResume reads {"skip_held": true}. No body at all is {}.
func decodeResume(body []byte) (skipHeld bool, err error) {
	if len(body) == 0 {
		return false, nil
	}
	err = registry.Members(body, func(name string, value json.RawMessage) string {
		if name != "skip_held" {
			return "is not known here: the only member is skip_held"
		}
		if json.Unmarshal(value, &skipHeld) != nil {
			return "must be true or false"
		}
		return ""
	})
	return skipHeld, err
}

// orEmpty makes a list that is encoded as [], not null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
