package httpapi

import (
	"cmp"
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

const (
	mediaJSON       = "application/json"
	mediaMergePatch = "application/merge-patch+json"
)

// newAPI makes the huma API that operations are registered with. It serves no pages of its own: huma's load scripts from
// strangers, and ours are in docs.go.
func newAPI(mux humago.Mux, version string) huma.API {
	schemas := huma.NewMapRegistry("#/components/schemas/", schemaName)
	for goType, doc := range map[reflect.Type]reflect.Type{
		reflect.TypeFor[registry.Callback]():  reflect.TypeFor[CallbackDoc](),
		reflect.TypeFor[registry.Revealed]():  reflect.TypeFor[createdCallbackDoc](),
		reflect.TypeFor[dispatcher.Attempt](): reflect.TypeFor[attemptDoc](),
		reflect.TypeFor[dispatcher.State]():   reflect.TypeFor[stateDoc](),
		reflect.TypeFor[callbackType]():       reflect.TypeFor[callbackTypeDoc](),
	} {
		schemas.RegisterTypeAlias(goType, doc)
	}
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{
				Title: "Ringback", Version: version,
				Description: "Reliable outbound webhooks: partners register callbacks, internal systems hand over events, " +
					"Ringback delivers each event, signed, to every callback that matches, and can say what became of it.",
			},
			OnAddOperation: []huma.AddOpFunc{describeParameters},
			Components: &huma.Components{
				Schemas: schemas,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"key": {Type: "http", Scheme: "bearer", Description: "An API key, as `ringback keys create` gives it."},
				},
			},
		},
		Formats:       map[string]huma.Format{mediaJSON: jsonFormat, "json": jsonFormat},
		DefaultFormat: mediaJSON,
	}
	config.AllowAdditionalPropertiesByDefault = true // answers may grow
	return humago.New(mux, config)
}

// schemaName names a schema after its Go type: the Doc of those that stand for another is left off.
func schemaName(t reflect.Type, hint string) string {
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "Doc")
}

// jsonFormat writes an answer as JSON, whole: that a caller has hung up is not an error of ours.
var jsonFormat = huma.Format{
	Marshal: func(w io.Writer, v any) error {
		b, err := encode(v)
		if err != nil {
			return err
		}
		_, _ = w.Write(b)
		return nil
	},
	Unmarshal: json.Unmarshal,
}

// operation is one method of one path: its description, who may use it, and what its body must be.
type operation struct {
	huma.Operation
	need need
	// body documents the request's body, which the input's RawBody receives. Nil: no body is read.
	body *body
}

type body struct {
	schema     reflect.Type
	mediaTypes []string // empty: application/json
	optional   bool
}

// register makes an operation part of the API.
func register[I, O any](s *server, op operation, handler func(context.Context, *I) (*O, error)) {
	doing := op.Method + " " + op.Path
	op.Security = []map[string][]string{{"key": {}}}
	op.Middlewares = huma.Middlewares{s.guard(op.need), s.goodQuery}
	op.Errors = errorsOf(op)
	var content map[string]*huma.MediaType
	if op.body != nil {
		if len(op.body.mediaTypes) == 0 {
			op.body.mediaTypes = []string{mediaJSON}
		}
		op.Middlewares = append(op.Middlewares, s.wholeBody(op.body.mediaTypes))
		op.SkipValidateBody = true // the packages behind validate, and say more
		schema := s.api.OpenAPI().Components.Schemas.Schema(op.body.schema, true, "")
		content = map[string]*huma.MediaType{}
		for _, mediaType := range op.body.mediaTypes {
			content[mediaType] = &huma.MediaType{Schema: schema}
		}
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{}}
	}
	huma.Register(s.api, op.Operation, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p, header := s.answer(ctx, doing, err)
			return nil, huma.ErrorWithHeaders(p, header)
		}
		return out, nil
	})
	if op.body != nil { // huma documents a RawBody as bytes, and as required
		op.RequestBody.Content = content
		op.RequestBody.Required = !op.body.optional
	}
}

// parameters are the ones that many operations have: their descriptions and examples.
var parameters = map[string]struct {
	description string
	example     any
}{
	"company":     {"The company: 1 to 64 of A-Z a-z 0-9 _ . - A company exists from its first use.", "acme"},
	"callback_id": {"A callback's id.", 11887},
	"limit":       {"How many entries at most.", nil},
	"cursor":      {"The next_cursor of the page before.", nil},
}

func describeParameters(_ *huma.OpenAPI, op *huma.Operation) {
	for _, p := range op.Parameters {
		if known, ok := parameters[p.Name]; ok {
			p.Description, p.Example = cmp.Or(p.Description, known.description), known.example
		}
	}
}

// errorsOf lists the statuses an operation may refuse with.
func errorsOf(op operation) []int {
	statuses := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusServiceUnavailable}
	if strings.Contains(op.Path, "{") {
		statuses = append(statuses, http.StatusNotFound)
	}
	if op.body != nil {
		statuses = append(statuses, http.StatusBadRequest, http.StatusRequestTimeout,
			http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType)
	}
	statuses = append(statuses, op.Errors...)
	slices.Sort(statuses)
	return slices.Compact(statuses)
}

// document describes a path whose handler is none of the API's operations.
func (s *server) document(op huma.Operation, mediaType string, secured bool) {
	if secured {
		op.Security = []map[string][]string{{"key": {}}}
	}
	ok := strconv.Itoa(http.StatusOK)
	op.Responses = map[string]*huma.Response{ok: {
		Description: "OK", Content: map[string]*huma.MediaType{mediaType: {}},
	}}
	s.api.OpenAPI().AddOperation(&op)
}

// description renders the API's description, once all operations are registered.
func (s *server) description() ([]byte, error) {
	for schema := range maps.Values(s.api.OpenAPI().Components.Schemas.Map()) {
		for property := range maps.Values(schema.Properties) {
			if property.Type == huma.TypeArray {
				property.Nullable = false // an empty list is [], never null
			}
		}
	}
	return json.Marshal(s.api.OpenAPI())
}

// noContent is the output of operations that answer 204.
type noContent struct{}
