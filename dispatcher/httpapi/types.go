package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

const (
	typesRoute = "/callback-types"
	typeRoute  = typesRoute + "/{name}"
)

type (
	typeIn struct {
		Name string `path:"name"`
	}
	deleteTypeIn struct {
		Name    string  `path:"name"`
		IfMatch ifMatch `header:"If-Match"`
	}
	putTypeIn struct {
		Name    string  `path:"name"`
		IfMatch ifMatch `header:"If-Match"`
		RawBody []byte  `contentType:"application/json"`
	}
	typesOut struct{ Body typeList }
	typeOut  struct {
		ETag string `header:"ETag" doc:"Names the type as it is."`
		Body callbackType
	}
	putTypeOut struct {
		Status   int
		Location string `header:"Location"`
		ETag     string `header:"ETag" doc:"Names the type as it is."`
		Body     callbackType
	}

	typeList struct {
		CallbackTypes []callbackType `json:"callback_types"`
	}

	// callbackType is a type of the catalogue as the API shows it.
	callbackType struct {
		Name        string               `json:"name"`
		Builtin     bool                 `json:"builtin"`
		Description string               `json:"description"`
		Match       map[string]string    `json:"match"`
		MatchBlocks []string             `json:"match_blocks"`
		Success     payloads.SuccessRule `json:"success"`
		Validation  payloads.Validation  `json:"validation"`
		Stamp       string               `json:"stamp,omitempty"`
		Synchronous bool                 `json:"synchronous"`
		Operational bool                 `json:"operational"`
		Schema      json.RawMessage      `json:"schema,omitempty"`
		Example     json.RawMessage      `json:"example,omitempty"`
	}
)

func (s *server) callbackTypes() {
	chapter := []string{"Callback types"}
	register(s, operation{need: readTypes, bounds: ofNoCallback, Operation: huma.Operation{
		OperationID: "list-callback-types", Method: http.MethodGet, Path: typesRoute, Tags: chapter, Summary: "List the callback types there are",
		Description: "By name: those Ringback comes with, and those that operators added.",
	}}, s.listTypes)
	register(s, operation{need: readTypes, bounds: ofNoCallback, Operation: huma.Operation{
		OperationID: "get-callback-type", Method: http.MethodGet, Path: typeRoute, Tags: chapter, Summary: "Show a callback type, its schema and an example",
	}}, s.getType)
	replaced := map[int]string{http.StatusOK: "It was there, and is replaced"}
	register(s, operation{need: manageTypes, also: replaced, body: &body{schema: reflect.TypeFor[typeDoc]()}, Operation: huma.Operation{
		OperationID: "put-callback-type", Method: http.MethodPut, Path: typeRoute, Tags: chapter, DefaultStatus: http.StatusCreated,
		Summary: "Add or change a callback type",
		Description: "201 if it is new, else 200. The type is replaced as a whole: what is left out is as if it had never been given. Known everywhere at once; " +
			"a change takes effect within a second, for events from then on. Takes an operator's key for all companies.",
		Errors: []int{http.StatusConflict, http.StatusPreconditionFailed},
	}}, s.putType)
	register(s, operation{need: manageTypes, patience: deleteTypePatience, Operation: huma.Operation{
		OperationID: "delete-callback-type", Method: http.MethodDelete, Path: typeRoute, Tags: chapter, Summary: "Delete a callback type",
		Description: "Takes a type away that was added. 409 while a callback of any company is registered for it by its name, or a delivery of it is not finished; the " +
			"answer says where. A callback for a glob is for no type by its name. It takes two seconds or more, in which nothing new of the type is accepted: if " +
			"something came meanwhile, the type stays, and the answer is 409. Events of the type can be read as before, and replayed: they go out as the type had it. " +
			"Takes an operator's key for all companies.",
		Errors: []int{http.StatusConflict, http.StatusPreconditionFailed},
	}}, s.deleteType)
}

// deleteTypePatience is how long a deletion may take: it looks twice through what waits, and waits in between.
const deleteTypePatience = 90 * time.Second

func (s *server) listTypes(ctx context.Context, _ *struct{}) (*typesOut, error) {
	types, err := s.Registry.Types().Fresh(ctx)
	if err != nil {
		return nil, err
	}
	list := []callbackType{}
	for _, t := range types.Types() {
		list = append(list, s.showType(t))
	}
	return &typesOut{typeList{list}}, nil
}

func (s *server) getType(ctx context.Context, in *typeIn) (*typeOut, error) {
	t, err := s.findType(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	return &typeOut{registry.TypeETag(t), s.showType(t)}, nil
}

func (s *server) findType(ctx context.Context, name string) (*payloads.Type, error) {
	types, err := s.Registry.Types().Fresh(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := types.Lookup(name)
	if !ok {
		return nil, s.gone(ctx, name)
	}
	return t, nil
}

func (s *server) putType(ctx context.Context, in *putTypeIn) (*putTypeOut, error) {
	t, err := decodeType(in.Name, in.RawBody)
	if err != nil {
		return nil, err
	}
	created, err := s.Registry.Types().Put(ctx, t, in.IfMatch.conditions()...)
	if err != nil {
		return nil, err
	}
	stored, err := s.findType(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	out := &putTypeOut{Status: http.StatusOK, Location: typesRoute + "/" + in.Name, ETag: registry.TypeETag(stored), Body: s.showType(stored)}
	if created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

func (s *server) deleteType(ctx context.Context, in *deleteTypeIn) (*noContent, error) {
	err := s.Client.DeleteType(ctx, in.Name, in.IfMatch.conditions()...)
	switch {
	case errors.Is(err, registry.ErrBuiltin):
		return nil, errBuiltinStays
	case errors.Is(err, registry.ErrNoType):
		return nil, s.gone(ctx, in.Name)
	}
	return &noContent{}, err
}

// gone is the answer about a type that there is not: when it was deleted, or which names are near.
func (s *server) gone(ctx context.Context, name string) error {
	types := s.Registry.Types()
	if words, err := types.Deleted(ctx, name); err != nil || words != "" {
		return cmp.Or(err, error(&refusal{status: http.StatusNotFound, detail: "this callback type " + words + ": GET /callback-types lists those there are"}))
	}
	return noType(types.Current().Near(name))
}

// decodeType reads a type. A type may be sent back as an answer showed it.
func decodeType(name string, body []byte) (payloads.Type, error) {
	t := payloads.Type{Name: name}
	err := registry.Members(body, func(member string, value json.RawMessage) string {
		if isNull(value) {
			return ""
		}
		switch member {
		case "description":
			return text(value, &t.Description)
		case "schema":
			t.Schema = value
			return ""
		case "example":
			t.Example = value
			return ""
		case "match":
			if json.Unmarshal(value, &t.Match) != nil {
				return "must be an object of names, each with a JSON Pointer into the payload: {\"campaign_token\": \"/wallet_campaign/token\"}"
			}
			if !payloads.WholePairs(value) {
				return payloads.SaysHalfPair
			}
			return ""
		case "success":
			return text(value, (*string)(&t.Success))
		case "validation":
			return text(value, (*string)(&t.Validation))
		case "stamp":
			return text(value, &t.Stamp)
		case "synchronous":
			return boolean(value, &t.Synchronous)
		case "name":
			return unchanged(value, name)
		case "builtin":
			return unchanged(value, false)
		case "match_blocks":
			return unchanged(value, []string{name})
		case "operational":
			return unchanged(value, false)
		}
		return "is not known here: the members are description, schema, example, match, success, validation, stamp and synchronous"
	})
	return t, err
}

// unchanged judges a member that answers show, and that nobody may choose.
func unchanged(value json.RawMessage, shown any) (wrong string) {
	given, want := any(nil), any(nil)
	b, err := json.Marshal(shown)
	if err != nil || json.Unmarshal(b, &want) != nil || json.Unmarshal(value, &given) != nil || !reflect.DeepEqual(given, want) {
		return "cannot be chosen: leave it out"
	}
	return ""
}

func (s *server) showType(t *payloads.Type) callbackType {
	shown := callbackType{
		Name: t.Name, Builtin: s.Registry.Types().Builtin(t.Name), Description: t.Description, Match: t.Match, MatchBlocks: orEmpty(t.MatchBlocks),
		Success: t.Success, Validation: t.Validation, Stamp: t.Stamp, Synchronous: t.Synchronous, Operational: t.Operational, Schema: t.Schema, Example: t.Example,
	}
	if shown.Match == nil {
		shown.Match = map[string]string{}
	}
	return shown
}
