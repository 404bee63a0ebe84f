package payloads

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// Check reads the payload once: it makes sure that it fits the type's schema and
// extracts the attributes callbacks match on. Nil, or an *InvalidError that names
// every field at fault ("body.payload.wallet_campaign.token") and the remedy.
//
// A string attribute is the string itself, a number its literal as it stands in
// the payload (1.0 is not 1), a boolean "true" or "false". Where the payload has
// nothing at an attribute's place, or null, an object or an array, the attribute
// is not in attrs, and a callback that narrows by it does not match. attrs is nil
// when there are none.
//
// Beyond the schema, a payload must be JSON that all receivers can read: UTF-8,
// and no number beyond a double's range. An attribute must not hold half of a
// surrogate pair: readers differ about what that is.
func (t *Type) Check(payload json.RawMessage) (attrs map[string]string, err error) {
	return t.check(payload, "body.payload")
}

// Examine is Check for a payload on its way in: where the type's Validation is
// [Warn], a payload that does not fit the schema passes, and warnings say what
// does not fit, a sentence for each field.
func (t *Type) Examine(payload json.RawMessage) (attrs map[string]string, warnings []string, err error) {
	_, attrs, warnings, err = t.ExamineAndRead(payload)
	return attrs, warnings, err
}

// ExamineAndRead is Examine, and hands over the payload as it was read for it. A payload that is JSON is there to be looked at even if it does not fit the
// schema.
func (t *Type) ExamineAndRead(payload json.RawMessage) (d Document, attrs map[string]string, warnings []string, err error) {
	if d, err = t.read(payload, "body.payload"); err != nil { // no JSON is no matter of schemas
		return d, nil, nil, err
	}
	attrs, err = t.checkRead(d.root, "body.payload")
	misfit, ok := errors.AsType[*InvalidError](err)
	if t.Validation != Warn || !ok {
		return d, attrs, nil, err
	}
	for _, f := range misfit.Fields {
		warnings = append(warnings, f.Location+" "+f.Message)
	}
	return d, t.extract(d.root), warnings, nil
}

func (t *Type) check(payload json.RawMessage, location string) (map[string]string, error) {
	d, err := t.read(payload, location)
	if err != nil {
		return nil, err
	}
	return t.checkRead(d.root, location)
}

func (t *Type) read(payload json.RawMessage, location string) (Document, error) {
	if len(payload) == 0 {
		return Document{}, invalid(location, "is missing: it is the JSON that callbacks receive")
	}
	if t.schema == nil && len(t.Schema) > 0 {
		return Document{}, fmt.Errorf("callback type %s was not compiled: take it from a Catalogue", t.Name)
	}
	v, fault := readJSON(payload, location)
	if fault != nil {
		return Document{}, fault
	}
	return Document{v, true}, nil
}

func (t *Type) checkRead(v any, location string) (map[string]string, error) {
	if t.schema != nil {
		if err := t.schema.validate(v, location); err != nil {
			return nil, t.explain(err, v, location)
		}
	}
	if err := t.checkStamp(v, location); err != nil {
		return nil, err
	}
	attrs := t.extract(v)
	for _, a := range t.attributes {
		if strings.Contains(attrs[a.name], halfPair) {
			return nil, invalid(location+locate(v, a.pointer), SaysHalfPair)
		}
	}
	return attrs, nil
}

// attribute is one entry of Type.Match, ready to be looked up.
type attribute struct {
	name    string
	pointer []string // reference tokens, unescaped
}

func compileAttributes(match map[string]string) ([]attribute, error) {
	attributes := make([]attribute, 0, len(match))
	for name, pointer := range match {
		location := "body.match" + step(name)
		if !isName(name, maxNameLen, "") {
			return nil, invalid(location, "is no name for an attribute: it must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..")
		}
		tokens, ok := splitPointer(pointer)
		if !ok {
			return nil, invalid(location, "must be a JSON Pointer into the payload, such as /wallet_campaign/token (RFC 6901: ~0 for ~, ~1 for / in a name)")
		}
		attributes = append(attributes, attribute{name, tokens})
	}
	slices.SortFunc(attributes, func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	return attributes, nil
}

// splitPointer splits a JSON Pointer into its reference tokens. The pointer to
// the whole payload is refused: nothing a callback could name stands there.
func splitPointer(pointer string) ([]string, bool) {
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok || !utf8.ValidString(pointer) {
		return nil, false
	}
	tokens := strings.Split(rest, "/")
	for i, token := range tokens {
		plain := strings.NewReplacer("~0", "", "~1", "").Replace(token)
		if strings.Contains(plain, "~") {
			return nil, false
		}
		tokens[i] = strings.NewReplacer("~0", "~", "~1", "/").Replace(token)
	}
	return tokens, true
}

func (t *Type) extract(v any) map[string]string {
	var attrs map[string]string
	for _, a := range t.attributes {
		text, ok := scalar(follow(v, a.pointer))
		if !ok {
			continue
		}
		if attrs == nil {
			attrs = make(map[string]string, len(t.attributes))
		}
		attrs[a.name] = text
	}
	return attrs
}

// follow walks from v along the pointer; nil where it leads nowhere.
func follow(v any, pointer []string) any {
	for _, token := range pointer {
		switch at := v.(type) {
		case map[string]any:
			v = at[token]
		case []any:
			i, ok := arrayIndex(token)
			if !ok || i >= len(at) {
				return nil
			}
			v = at[i]
		default:
			return nil
		}
	}
	return v
}

// scalar is v as an attribute's text. The text is a copy: an attribute that is
// kept must not keep the payload it was part of.
func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return strings.Clone(v), true
	case json.Number:
		return strings.Clone(v.String()), true
	case bool:
		return strconv.FormatBool(v), true
	default:
		return "", false
	}
}

// noLoader keeps schemas from reading files or the network.
type noLoader struct{}

var errNoLoader = errors.New("references to other documents are not followed: put what they define under $defs")

func (noLoader) Load(string) (any, error) { return nil, errNoLoader }

// oneLine is the last line of an error that draws trees, the one that says what
// is at fault.
func oneLine(err error) string {
	lines := strings.Split(strings.TrimSpace(err.Error()), "\n")
	return strings.TrimLeft(lines[len(lines)-1], "- ")
}

// maxFields bounds how many faults one error lists; whoever mends sixteen fields
// tries again anyway.
const maxFields = 16

// explain turns the schema's verdict on v into an *InvalidError.
func (t *Type) explain(err error, v any, location string) error {
	verdict, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return err
	}
	x := explainer{typ: t.Name, root: v, location: location}
	x.collect(verdict)
	slices.SortFunc(x.fields, func(a, b FieldError) int {
		return strings.Compare(a.Location+"\x00"+a.Message, b.Location+"\x00"+b.Message)
	})
	x.fields = slices.CompactFunc(x.fields, func(a, b FieldError) bool { return a.Location == b.Location && a.Message == b.Message })
	if more := len(x.fields) + x.more - maxFields; more > 0 {
		x.fields = append(x.fields[:maxFields:maxFields], FieldError{Location: location, Message: fmt.Sprintf("has %d more faults", more)})
	}
	return &InvalidError{Fields: x.fields}
}

type explainer struct {
	typ      string
	root     any
	location string // of root
	fields   []FieldError
	more     int // faults beyond maxCollected
}

// maxCollected is how many faults are worded, to list the first of them.
const maxCollected = 1000

// collect walks the tree of a verdict down to the faults proper.
func (x *explainer) collect(e *jsonschema.ValidationError) {
	at := e.InstanceLocation
	switch k := e.ErrorKind.(type) {
	case *kind.Schema, *kind.Group, *kind.AllOf, *kind.Reference:
		for _, cause := range e.Causes {
			x.collect(cause)
		}
	case *kind.Required:
		for _, name := range k.Missing {
			x.add(at, step(name), "is missing: "+x.typ+" needs it")
		}
	case *kind.DependentRequired:
		for _, name := range k.Missing {
			x.add(at, step(name), "is missing: it must come with "+strconv.Quote(brief(k.Prop)))
		}
	case *kind.AdditionalProperties:
		for _, name := range k.Properties {
			x.add(at, step(name), "is not a field of "+x.typ+": leave it out")
		}
	default:
		if len(x.fields) == maxCollected {
			x.more++
			return
		}
		x.add(at, "", x.describe(e.ErrorKind))
	}
}

func (x *explainer) add(at []string, more, text string) {
	if len(x.fields) == maxCollected {
		x.more++
		return
	}
	x.fields = append(x.fields, FieldError{Location: x.location + locate(x.root, at) + more, Message: text})
}

// describe words a fault without repeating the value at fault.
func (x *explainer) describe(k jsonschema.ErrorKind) string {
	switch k := k.(type) {
	case *kind.Type:
		return fmt.Sprintf("must be %s, but is %s", alternatives(k.Want), withArticle(k.Got))
	case *kind.Enum:
		return "must be one of " + jsonList(k.Want)
	case *kind.Const:
		return "must be " + jsonList([]any{k.Want})
	case *kind.Pattern:
		return "must match the pattern " + brief(k.Want)
	case *kind.Format:
		return "must be a valid " + k.Want
	case *kind.AnyOf:
		return "fits none of the forms " + x.typ + " allows here (anyOf)"
	case *kind.OneOf:
		return "must fit exactly one of the forms " + x.typ + " allows here (oneOf)"
	case *kind.Not:
		return "has a form that " + x.typ + " excludes here (not)"
	case *kind.FalseSchema:
		return "must not be there: leave it out"
	case *kind.Minimum:
		return "must be at least " + decimal(k.Want)
	case *kind.Maximum:
		return "must be at most " + decimal(k.Want)
	case *kind.MinLength:
		return fmt.Sprintf("must have at least %d characters, but has %d", k.Want, k.Got)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters, but has %d", k.Want, k.Got)
	case *kind.MinItems:
		return fmt.Sprintf("must have at least %d items, but has %d", k.Want, k.Got)
	case *kind.MaxItems:
		return fmt.Sprintf("must have at most %d items, but has %d", k.Want, k.Got)
	default:
		return fmt.Sprintf("does not fit what the schema of %s says under %q", x.typ, brief(strings.Join(k.KeywordPath(), "/")))
	}
}

func decimal(r *big.Rat) string {
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// locate words the path from root as a Location does.
func locate(root any, at []string) string {
	var b strings.Builder
	for _, token := range at {
		items, isArray := root.([]any)
		if isArray {
			fmt.Fprintf(&b, "[%s]", token)
			if i, err := strconv.Atoi(token); err == nil && i < len(items) {
				root = items[i]
			}
			continue
		}
		b.WriteString(step(token))
		if obj, ok := root.(map[string]any); ok {
			root = obj[token]
		}
	}
	return b.String()
}

// alternatives lists types as people would, null last.
func alternatives(types []string) string {
	var words []string
	for _, t := range types {
		if t != "null" {
			words = append(words, withArticle(t))
		}
	}
	if len(words) < len(types) {
		words = append(words, "null")
	}
	return strings.Join(words, " or ")
}

func withArticle(jsonType string) string {
	switch jsonType {
	case "null":
		return jsonType
	case "array", "object", "integer":
		return "an " + jsonType
	default:
		return "a " + jsonType
	}
}

// maxListed and maxBrief bound what an error repeats of a schema: one that lists
// 10,000 values would fill a megabyte for each value at fault.
const (
	maxListed = 20
	maxBrief  = 200 // bytes of one value
)

func jsonList(values []any) string {
	words := make([]string, 0, maxListed+1)
	for _, v := range values[:min(len(values), maxListed)] {
		words = append(words, shown(v))
	}
	if more := len(values) - maxListed; more > 0 {
		words = append(words, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(words, ", ")
}

// shown is a value of a schema as an error shows it.
func shown(v any) string {
	const large = 2 * maxListed * unitsPerNumber
	if countUnits(v) > large {
		return "(a large value)"
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "(a value that cannot be shown)"
	}
	return brief(string(text))
}

// brief is the beginning of a long text.
func brief(text string) string {
	if len(text) <= maxBrief {
		return text
	}
	return strings.ToValidUTF8(text[:maxBrief], "") + "…"
}
