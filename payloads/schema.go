package payloads

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// A schema that refers to itself can make a small payload recurse so deep that
// the process ends: a stack that overflows cannot be caught. These bounds are far
// from what contracts need. What they let through is bounded again, payload by
// payload, by maxSteps.
const (
	// maxSchemaWeight is how many schemas may be applied to one value, by way of
	// $ref, allOf and the like, each as often as it is; maxSchemaPath is how many
	// may lie between the outermost value and the innermost.
	maxSchemaWeight = 1000
	maxSchemaPath   = 1000

	// maxRecursion is how deep a payload may go for a schema that refers back to
	// itself. Many JSON readers go no deeper by default.
	maxRecursion = 128
)

// schemaBounds bound a schema's own text. The compiler takes the square of the
// number of schemas, and keeps the way to each.
type schemaBounds struct {
	bytes    int // of the text
	nesting  int // levels of objects and arrays
	objects  int // objects, and booleans, which are schemas too
	values   int // values of any kind
	pointer  int // bytes of the longest JSON Pointer to an object
	patterns int // instructions of all regular expressions
}

var (
	// newSchemas is what a schema must keep to when it is put: the largest is
	// compiled in a tenth of a second.
	newSchemas = schemaBounds{bytes: 256 << 10, nesting: 64, objects: 2000, values: 20_000, pointer: 4096, patterns: 200_000}

	// keptSchemas is what bound a schema when there were no others. What was taken
	// then stays.
	keptSchemas = schemaBounds{bytes: math.MaxInt, nesting: 256, objects: math.MaxInt, values: math.MaxInt, pointer: math.MaxInt, patterns: math.MaxInt}
)

// check returns nil if the schema doc, read from text, keeps to the bounds.
func (b schemaBounds) check(text []byte, doc any) error {
	if len(text) > b.bytes {
		return invalid("body.schema", fmt.Sprintf("is too large: it may have %d bytes, and has %d", b.bytes, len(text)))
	}
	if isDeeper(doc, b.nesting) {
		return invalid("body.schema", fmt.Sprintf("is too deep: objects and arrays may nest %d levels", b.nesting))
	}
	var size schemaSize
	size.add(doc, 0)
	switch {
	case size.objects > b.objects:
		return invalid("body.schema", fmt.Sprintf("is too large: it may have %d objects, and has %d (true and false count, since they are schemas, too)", b.objects, size.objects))
	case size.values > b.values:
		return invalid("body.schema", fmt.Sprintf("is too large: it may have %d values, and has %d", b.values, size.values))
	case size.pointer > b.pointer:
		return invalid("body.schema", fmt.Sprintf("has names that are too long: the JSON Pointer to a schema may have %d bytes, and one has %d", b.pointer, size.pointer))
	case size.patterns > b.patterns:
		return invalid("body.schema", fmt.Sprintf("has regular expressions that are too large: together they may have %d instructions, and have about %d: repeat less in them", b.patterns, size.patterns))
	}
	return nil
}

// schemaSize is what of schemaBounds can be seen without compiling.
type schemaSize struct{ objects, values, pointer, patterns int }

// add adds v, to which a JSON Pointer of that many bytes leads.
func (size *schemaSize) add(v any, pointer int) {
	size.values++
	switch v := v.(type) {
	case map[string]any:
		size.objects++
		size.pointer = max(size.pointer, pointer)
		for name, member := range v {
			size.add(member, pointer+len("/")+len(name))
		}
		if text, ok := v["pattern"].(string); ok {
			size.patterns += patternSize(text)
		}
		named, _ := v["patternProperties"].(map[string]any)
		for text := range named {
			size.patterns += patternSize(text)
		}
	case []any:
		for _, item := range v {
			size.add(item, pointer+len("/0"))
		}
	case bool:
		size.objects++
	}
}

// schema is a compiled JSON Schema that is safe to use on any payload.
type schema struct {
	name      string
	compiled  *jsonschema.Schema
	misfit    *jsonschema.Schema // fits what compiled does not; says nothing, keeps nothing, and ends with the first fault
	plan      *plan
	recursive bool // it refers back to itself
}

// compileSchema compiles a type's schema. No schema gives nil, which takes everything.
func compileSchema(name string, text json.RawMessage, bounds schemaBounds) (*schema, error) {
	if len(text) == 0 {
		return nil, nil
	}
	doc, fault := readJSON(text, "body.schema")
	if fault != nil {
		return nil, fault
	}
	if err := bounds.check(text, doc); err != nil {
		return nil, err
	}
	url := "callback-type:///" + name
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(compilePattern)
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
	plans := planner{}
	s := &schema{
		name: name, compiled: compiled, plan: plans.plan(compiled), recursive: w.recursive,
		misfit: &jsonschema.Schema{DraftVersion: compiled.DraftVersion, Not: compiled},
	}
	for inner := range plans {
		compareItemsOnce(inner)
	}
	return s, nil
}

// explaining is whose turn it is to say where a large payload does not fit. Who does not get it soon goes without.
var explaining = make(chan struct{}, 1)

// explainWithin is how long a payload waits for its turn: about as long as the costliest explanation takes.
const explainWithin = 250 * time.Millisecond

// validate returns nil if v fits, a *jsonschema.ValidationError that says what does
// not, or an *InvalidError if v goes too deep or the answer would cost too much, by
// itself or beside others'.
func (s *schema) validate(v any, location string) error {
	if s.recursive && isDeeper(v, maxRecursion) {
		return invalid(location, fmt.Sprintf("nests more than %d levels deep: %s goes no deeper", maxRecursion, s.name))
	}
	steps := s.plan.steps(v, maxSteps)
	if steps > maxSteps {
		return invalid(location, fmt.Sprintf("takes more than %d steps to check against the schema of %s: send less at once, or simplify the schema", maxSteps, s.name))
	}
	if steps <= maxSharedSteps {
		return s.compiled.Validate(v)
	}
	if s.misfit.Validate(v) != nil {
		return nil
	}
	if steps > maxExplainedSteps {
		return invalid(location, fmt.Sprintf("does not fit the schema of %s; to say where takes more than %d steps: send less at once to learn it", s.name, maxExplainedSteps))
	}
	late := time.NewTimer(explainWithin)
	defer late.Stop()
	select {
	case explaining <- struct{}{}:
		defer func() { <-explaining }()
	case <-late.C:
		return invalid(location, fmt.Sprintf("does not fit the schema of %s; others are being told where at the moment: send it again to learn it", s.name))
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
