package httpapi

import (
	"cmp"
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// keyed is how an operation or a page asks for an API key.
var keyed = []map[string][]string{{"key": {}}}

// register makes an operation part of the API.
func register[I, O any](s *server, op operation, handler func(context.Context, *I) (*O, error)) {
	doing := op.Method + " " + op.Path
	op.Security = keyed
	op.asksForRepeats()
	op.Errors = errorsOf(op)
	if op.body != nil {
		op.body.limit = cmp.Or(op.body.limit, s.MaxBody)
		if len(op.body.mediaTypes) == 0 {
			op.body.mediaTypes = []string{mediaJSON}
		}
		op.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{}}
		op.SkipValidateBody = true // the packages behind validate, and say more
	}
	op.Middlewares = s.before(op)
	huma.Register(s.api, op.Operation, func(ctx context.Context, in *I) (*O, error) {
		out, err := handler(ctx, in)
		if err != nil {
			p, header := s.answer(ctx, doing, err)
			return nil, huma.ErrorWithHeaders(withDecision(p, err), header)
		}
		return out, nil
	})
	if op.body != nil { // huma documents a RawBody as bytes, and as required
		op.RequestBody.Content = s.contentOf(op.body)
		op.RequestBody.Required = !op.body.optional
	}
	s.exemplify(described(s.api, op.Method, op.Path), op)
}

// before lists the steps that stand before an operation, in their order.
func (s *server) before(op operation) huma.Middlewares {
	steps := huma.Middlewares{s.guard(op.need), s.within(op.bounds), s.goodQuery(op.attributes)}
	switch {
	case op.Method != http.MethodPost:
	case op.repeats == refusesKey:
		steps = append(steps, s.refuseKeys)
	default:
		steps = append(steps, s.refuseEmptyKeys)
	}
	if op.patience > 0 {
		steps = append(steps, patient(op.patience))
	}
	if op.body != nil {
		steps = append(steps, s.wholeBody(*op.body))
	}
	switch {
	case op.long:
		steps = append(steps, s.placedLong)
	case op.patience == 0 && !op.paged && !op.stream: // an operation that waits for a partner needs no place meanwhile
		steps = append(steps, s.placed)
	}
	if op.repeats == actsOnce || op.repeats == actsOnceInBulk {
		steps = append(steps, s.once(op))
	}
	return steps
}

// contentOf describes a body in each of its media types.
func (s *server) contentOf(b *body) map[string]*huma.MediaType {
	schema := s.api.OpenAPI().Components.Schemas.Schema(b.schema, true, "")
	content := map[string]*huma.MediaType{}
	for _, mediaType := range b.mediaTypes {
		content[mediaType] = &huma.MediaType{Schema: schema}
	}
	return content
}

// document describes a page.
func (s *server) document(p page) {
	op := operation{Operation: p.Operation}
	if p.need != nil {
		op.need = *p.need
		op.Security = keyed
		op.Errors = append(op.Errors, http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable)
	}
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	if p.mediaType != "" {
		op.Responses["200"] = &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{p.mediaType: {Schema: p.schema}}}
	}
	for _, status := range op.Errors {
		op.Responses[strconv.Itoa(status)] = &huma.Response{}
	}
	s.api.OpenAPI().AddOperation(&op.Operation)
	s.exemplify(&op.Operation, op)
}

// described finds an operation in the API's description.
func described(api huma.API, method, path string) *huma.Operation {
	item := api.OpenAPI().Paths[path]
	return map[string]*huma.Operation{
		http.MethodGet: item.Get, http.MethodPost: item.Post, http.MethodPut: item.Put, http.MethodPatch: item.Patch, http.MethodDelete: item.Delete,
	}[method]
}
