package payloads

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A schema that refers to itself can make a small payload recurse so deep that
// the process ends: a stack that overflows cannot be caught. These bounds are far
// from what contracts need. (They do not bound the time that a schema takes which
// checks one thing in many ways, each leading back to itself.)
const (
	// maxSchemaNesting and maxSchemaObjects bound a schema's own JSON: how deep it
	// goes, and how many objects it has. Compiling takes the square of the latter.
	maxSchemaNesting = 256
	maxSchemaObjects = 10_000

	// maxSchemaWeight is how many schemas may be applied to one value, by way of
	// $ref, allOf and the like, each as often as it is; maxSchemaPath is how many
	// may lie between the outermost value and the innermost.
	maxSchemaWeight = 1000
	maxSchemaPath   = 1000

	// maxRecursion is how deep a payload may go for a schema that refers back to
	// itself. Many JSON readers go no deeper by default.
	maxRecursion = 128
)

// schema is a compiled JSON Schema that is safe to use on any payload.
type schema struct {
	name      string
	compiled  *jsonschema.Schema
	recursive bool // it refers back to itself
}

// compileSchema compiles a type's schema. No schema gives nil, which takes everything.
func compileSchema(name string, text json.RawMessage) (*schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	doc, fault := readJSON(text, "body.schema")
	if fault != nil {
		return nil, fault
	}
	if isDeeper(doc, maxSchemaNesting) || countObjects(doc) > maxSchemaObjects {
		return nil, invalid("body.schema", fmt.Sprintf("is too large: it may nest %d levels deep and have %d objects", maxSchemaNesting, maxSchemaObjects))
	}
	url := "callback-type:///" + name
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	if err := c.AddResource(url, doc); err != nil {
		return nil, invalid("body.schema", "is no JSON Schema: "+oneLine(err))
	}
	compiled, err := c.Compile(url)
	if err != nil {
		return nil, invalid("body.schema", "is no JSON Schema (2020-12) that stands on its own: "+oneLine(err))
	}
	w := walker{url: url, paths: map[*jsonschema.Schema]int{}, weights: map[*jsonschema.Schema]int{}}
	if _, err := w.walk(compiled); err != nil {
		return nil, err
	}
	return &schema{name, compiled, w.recursive}, nil
}

// validate returns nil if v fits, a *jsonschema.ValidationError that says what does
// not, or an *InvalidError if v goes too deep.
func (s *schema) validate(v any, location string) error {
	if s.recursive && isDeeper(v, maxRecursion) {
		return invalid(location, fmt.Sprintf("nests more than %d levels deep: %s goes no deeper", maxRecursion, s.name))
	}
	return s.compiled.Validate(v)
}

// walker visits every schema that a schema leads to.
type walker struct {
	url       string
	recursive bool                       // a schema leads to itself
	paths     map[*jsonschema.Schema]int // how many schemas lie between one and the end; 0: under way
	weights   map[*jsonschema.Schema]int // how many of them are applied to the same value; 0: under way
}

func (w *walker) walk(s *jsonschema.Schema) (path int, err error) {
	if path, ok := w.paths[s]; ok {
		w.recursive = w.recursive || path == 0
		return path, nil
	}
	if !strings.HasPrefix(s.Location, w.url+"#") {
		return 0, invalid("body.schema", "is no JSON Schema (2020-12) that stands on its own: "+errNoLoader.Error())
	}
	if s.RecursiveRef != nil || s.RecursiveAnchor || s.DynamicRef != nil && s.DynamicRef.Anchor != "" {
		return 0, invalid("body.schema", "has a $dynamicRef or $recursiveRef, which are not supported: use $ref")
	}
	if w.weight(s) > maxSchemaWeight {
		return 0, invalid("body.schema", fmt.Sprintf(
			"applies more than %d schemas to one value, or one to itself: shorten its way through $ref, allOf and the like", maxSchemaWeight))
	}
	w.paths[s] = 0
	for _, next := range append(sameValue(s), innerValues(s)...) {
		inner, err := w.walk(next)
		if err != nil {
			return 0, err
		}
		path = max(path, inner)
	}
	path++
	w.paths[s] = path
	if path > maxSchemaPath {
		return 0, invalid("body.schema", fmt.Sprintf("is more than %d schemas deep: shorten its way through $ref and properties", maxSchemaPath))
	}
	return path, nil
}

// weight is how many schemas s applies to one value, itself included; one that
// comes back to itself applies too many.
func (w *walker) weight(s *jsonschema.Schema) int {
	if n, ok := w.weights[s]; ok {
		if n == 0 {
			return maxSchemaWeight + 1
		}
		return n
	}
	w.weights[s] = 0
	n := 1
	for _, next := range sameValue(s) {
		n = min(n+w.weight(next), maxSchemaWeight+1)
	}
	w.weights[s] = n
	return n
}

// sameValue lists the schemas that s applies to the value it is applied to itself.
func sameValue(s *jsonschema.Schema) []*jsonschema.Schema {
	list := []*jsonschema.Schema{s.Ref, s.Not, s.If, s.Then, s.Else}
	if s.DynamicRef != nil {
		list = append(list, s.DynamicRef.Ref)
	}
	list = append(append(append(list, s.AllOf...), s.AnyOf...), s.OneOf...)
	for _, dependent := range s.DependentSchemas {
		list = append(list, dependent)
	}
	for _, dependency := range s.Dependencies {
		list = appendSchemas(list, dependency)
	}
	return compactSchemas(list)
}

// innerValues lists the schemas that s applies to what is within its value.
func innerValues(s *jsonschema.Schema) []*jsonschema.Schema {
	list := []*jsonschema.Schema{s.PropertyNames, s.UnevaluatedProperties, s.Contains, s.Items2020, s.UnevaluatedItems, s.ContentSchema}
	for _, property := range s.Properties {
		list = append(list, property)
	}
	for _, property := range s.PatternProperties {
		list = append(list, property)
	}
	list = append(list, s.PrefixItems...)
	for _, more := range []any{s.AdditionalProperties, s.AdditionalItems, s.Items} {
		list = appendSchemas(list, more)
	}
	return compactSchemas(list)
}

// appendSchemas adds what a keyword that may hold several things has of schemas.
func appendSchemas(list []*jsonschema.Schema, v any) []*jsonschema.Schema {
	switch v := v.(type) {
	case *jsonschema.Schema:
		return append(list, v)
	case []*jsonschema.Schema:
		return append(list, v...)
	default:
		return list
	}
}

func compactSchemas(list []*jsonschema.Schema) []*jsonschema.Schema {
	return slices.DeleteFunc(list, func(s *jsonschema.Schema) bool { return s == nil })
}

// isDeeper reports whether objects and arrays nest more than limit levels deep in v.
func isDeeper(v any, limit int) bool {
	switch v := v.(type) {
	case map[string]any:
		if limit == 0 {
			return true
		}
		for _, member := range v {
			if isDeeper(member, limit-1) {
				return true
			}
		}
	case []any:
		if limit == 0 {
			return true
		}
		for _, item := range v {
			if isDeeper(item, limit-1) {
				return true
			}
		}
	}
	return false
}

func countObjects(v any) int {
	n := 0
	switch v := v.(type) {
	case map[string]any:
		n++
		for _, member := range v {
			n += countObjects(member)
		}
	case []any:
		for _, item := range v {
			n += countObjects(item)
		}
	}
	return n
}
