package httpapi

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/ringback/ringback/payloads"
)

// goodQuery judges a request's query by its operation's parameters, before huma does. huma would speak of Go's layouts.
// With attributes, the match attributes of callback types are parameters, too.
func (s *server) goodQuery(attributes bool) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		params, err := ctx.Operation().Parameters, error(nil)
		if attributes {
			params, err = s.withAttributes(ctx.Context(), params)
		}
		if err == nil {
			err = checkQuery(r.URL.RawQuery, params)
		}
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		next(ctx)
	}
}

// withAttributes are parameters, and the match attributes of all callback types.
func (s *server) withAttributes(ctx context.Context, params []*huma.Param) ([]*huma.Param, error) {
	types, err := s.Registry.Types().Fresh(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, typ := range types.Types() {
		for name := range typ.Match {
			names[name] = true
		}
	}
	all := slices.Clone(params)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !slices.ContainsFunc(params, func(p *huma.Param) bool { return p.In == "query" && p.Name == name }) {
			all = append(all, &huma.Param{Name: name, In: "query", Schema: &huma.Schema{Type: huma.TypeString}})
		}
	}
	return all, nil
}

// checkQuery names every parameter that is unknown, given twice or has a value that will not do: a misspelt filter must
// not look like one that was applied. An empty value is as good as none.
func checkQuery(query string, params []*huma.Param) error {
	given, err := url.ParseQuery(query)
	if err != nil {
		return errBadQuery
	}
	var fields []payloads.FieldError
	for _, name := range slices.Sorted(maps.Keys(given)) {
		fault := payloads.FieldError{Location: "query." + name}
		i := slices.IndexFunc(params, func(p *huma.Param) bool { return p.In == "query" && p.Name == name })
		switch {
		case i < 0:
			fault.Message = "is not known here: " + paramsOf(params)
		case params[i].Schema.Type == huma.TypeArray:
			fault.Message, fault.Value = wrongItem(given[name], params[i].Schema.Items)
		case len(given[name]) > 1:
			fault.Message = "is given twice: which one is meant?"
		case given.Get(name) != "":
			fault.Message, fault.Value = wrongValue(given.Get(name), params[i].Schema), given.Get(name)
		}
		if fault.Message != "" {
			fields = append(fields, fault)
		}
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
}

// paramsOf lists in words the parameters that a query may have.
func paramsOf(params []*huma.Param) string {
	var names []string
	for _, p := range params {
		if p.In == "query" {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return "this path takes no parameters"
	}
	return "there are " + strings.Join(names, ", ")
}

// wrongValue says how a value must be if it will not do. If it will, wrongValue says nothing.
func wrongValue(value string, s *huma.Schema) string {
	switch {
	case s.Type == huma.TypeInteger:
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil || s.Minimum != nil && float64(n) < *s.Minimum || s.Maximum != nil && float64(n) > *s.Maximum {
			return "must be " + rangeOf(s)
		}
	case s.Format == "date-time":
		if _, err := time.Parse(time.RFC3339, value); err != nil {
			return "must be a time as RFC 3339 writes it, such as 2026-01-02T15:04:05Z (a + is written %2B in a query)"
		}
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, any(value)):
		return "must be one of " + strings.Join(strings.Fields(strings.Trim(fmt.Sprint(s.Enum), "[]")), ", ")
	}
	return ""
}

// wrongItem says how the values of a list must be if one will not do, and returns that. What the list says of no value is for the operation to judge.
func wrongItem(given []string, items *huma.Schema) (wrong string, value any) {
	for _, list := range given {
		for item := range strings.SplitSeq(list, ",") {
			if wrong = wrongValue(item, items); wrong != "" && item != "" {
				return wrong, item
			}
		}
	}
	return "", nil
}

// rangeOf tells in words which whole numbers will do.
func rangeOf(s *huma.Schema) string {
	switch {
	case s.Minimum != nil && s.Maximum != nil:
		return fmt.Sprintf("%v to %v", *s.Minimum, *s.Maximum)
	case s.Minimum != nil:
		return fmt.Sprintf("a whole number, %v or more", *s.Minimum)
	default:
		return "a whole number"
	}
}
