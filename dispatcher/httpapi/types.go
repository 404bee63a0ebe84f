package httpapi

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/ringback/ringback/payloads"
)

type (
	typeIn struct {
		Name string `path:"name" example:"wallet_item_install"`
	}
	typesOut struct{ Body typeList }
	typeOut  struct{ Body callbackType }

	typeList struct {
		CallbackTypes []callbackType `json:"callback_types"`
	}

	// callbackType is a type of the catalogue as the API shows it.
	callbackType struct {
		Name        string               `json:"name"`
		Description string               `json:"description"`
		Match       map[string]string    `json:"match"`
		MatchBlocks []string             `json:"match_blocks"`
		Success     payloads.SuccessRule `json:"success"`
		Schema      json.RawMessage      `json:"schema"`
		Example     json.RawMessage      `json:"example"`
	}
)

func (s *server) callbackTypes() {
	tags := []string{"Callback types"}
	register(s, operation{need: readTypes, Operation: huma.Operation{
		OperationID: "list-callback-types", Method: http.MethodGet, Path: "/callback-types", Tags: tags, Summary: "List the callback types there are",
	}}, s.listTypes)
	register(s, operation{need: readTypes, Operation: huma.Operation{
		OperationID: "get-callback-type", Method: http.MethodGet, Path: "/callback-types/{name}", Tags: tags, Summary: "Show a callback type, its schema and an example",
	}}, s.getType)
}

func (s *server) listTypes(ctx context.Context, _ *struct{}) (*typesOut, error) {
	types, err := s.Registry.Types().Fresh(ctx)
	if err != nil {
		return nil, err
	}
	list := []callbackType{}
	for _, t := range types.Types() {
		list = append(list, showType(t))
	}
	return &typesOut{typeList{list}}, nil
}

func (s *server) getType(ctx context.Context, in *typeIn) (*typeOut, error) {
	types, err := s.Registry.Types().Fresh(ctx)
	if err != nil {
		return nil, err
	}
	t, ok := types.Lookup(in.Name)
	if !ok {
		return nil, &refusal{status: http.StatusNotFound, detail: "there is no such callback type: GET /callback-types lists those there are"}
	}
	return &typeOut{showType(t)}, nil
}

func showType(t *payloads.Type) callbackType {
	shown := callbackType{
		Name: t.Name, Description: t.Description, Match: t.Match, MatchBlocks: orEmpty(t.MatchBlocks),
		Success: t.Success, Schema: t.Schema, Example: t.Example,
	}
	if shown.Match == nil {
		shown.Match = map[string]string{}
	}
	return shown
}
