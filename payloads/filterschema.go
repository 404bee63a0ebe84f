package payloads

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// Check returns what of the filter no payload can meet, by the schemas of the types it is for: a pointer that leads to no place, a value that cannot be there.
// Locations begin with the given one. Where a schema says nothing, anything may be. Of several types, as a glob has them, one is enough that a payload of it
// could meet a clause; so is one that takes payloads that do not fit ([Warn]).
func (f *Filter) Check(types []*Type, location string) (fields []FieldError) {
	f.root.check(types, location, &fields)
	return fields[:min(len(fields), maxFields)]
}

func (n *filterNode) check(types []*Type, location string, fields *[]FieldError) {
	if n.group != "" {
		for i := range n.nodes {
			n.nodes[i].check(types, fmt.Sprintf("%s.%s[%d]", location, n.group, i), fields)
		}
		return
	}
	if member, message := n.clause.fault(types); message != "" {
		*fields = append(*fields, FieldError{Location: location + "." + member, Message: message})
	}
}

// fault is what of a clause no payload of any of the types can meet; empty: one could.
func (c *Clause) fault(types []*Type) (member, message string) {
	for _, t := range types {
		if !t.enforces() {
			return "", ""
		}
		of, said := c.faultFor(t)
		if said == "" {
			return "", ""
		}
		if message == "" {
			member, message = of, said
		}
	}
	if len(types) > 1 {
		message += fmt.Sprintf("; nor does that of the other %s", counted(len(types)-1, "type"))
	}
	return member, message
}

func counted(n int, noun string) string {
	if n == 1 {
		return noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// enforces reports whether all payloads of the type fit its schema.
func (t *Type) enforces() bool { return t.schema != nil && t.Validation != Warn }

func (c *Clause) faultFor(t *Type) (member, message string) {
	if !t.allows(c.tokens, anyKind) {
		return "pointer", fmt.Sprintf("leads nowhere: the schema of %s has no place for it", t.Name)
	}
	switch c.Op {
	case "exists":
	case "prefix", "suffix":
		if !t.allows(c.tokens, kindString) {
			return "op", fmt.Sprintf("looks at a string, and the schema of %s allows none at %s", t.Name, brief(c.Pointer))
		}
	case "gt", "gte", "lt", "lte":
		if !t.allows(c.tokens, kindNumber) {
			return "op", fmt.Sprintf("looks at a number, and the schema of %s allows none at %s", t.Name, brief(c.Pointer))
		}
	default:
		for i, v := range c.values() {
			if t.allowsValue(c.tokens, v) {
				continue
			}
			if member = "value"; c.Op == "in" || c.Op == "not_in" {
				member = fmt.Sprintf("value[%d]", i)
			}
			return member, fmt.Sprintf("cannot be: the schema of %s does not allow it at %s", t.Name, brief(c.Pointer))
		}
	}
	return "", ""
}

// values are those that a clause compares with, in their order.
func (c *Clause) values() []any {
	v, _ := readJSON(c.Value, "")
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

// jsonKinds is a set of kinds of JSON values.
type jsonKinds uint8

const (
	kindNull jsonKinds = 1 << iota
	kindBool
	kindNumber
	kindString
	kindArray
	kindObject

	anyKind = kindNull | kindBool | kindNumber | kindString | kindArray | kindObject
)

// allows reports whether the type's schema leaves room for a value of one of the kinds where a pointer leads.
func (t *Type) allows(tokens []string, kinds jsonKinds) bool {
	r := reach{seen: map[reached]bool{}, end: func(s *jsonschema.Schema) bool { return kindsOf(s, map[*jsonschema.Schema]jsonKinds{})&kinds != 0 }}
	return r.could(t.schema.compiled, tokens)
}

// allowsValue reports whether the schema leaves room for a scalar value where a pointer leads.
func (t *Type) allowsValue(tokens []string, v any) bool {
	r := reach{seen: map[reached]bool{}, end: func(s *jsonschema.Schema) bool { return s.Validate(v) == nil }}
	return r.could(t.schema.compiled, tokens)
}

// A reach walks a schema along a pointer. It takes every turn that a payload might take, and says no only if none of them leads to the end. What it does not
// look at (not, if, unevaluatedProperties, dependencies) leaves room.
type reach struct {
	end  func(s *jsonschema.Schema) bool // where the pointer ends
	seen map[reached]bool                // so that no part of a schema is walked twice
}

type reached struct {
	schema *jsonschema.Schema
	left   int // tokens
}

func (r *reach) could(s *jsonschema.Schema, tokens []string) bool {
	if len(tokens) == 0 {
		return r.end(s)
	}
	key := reached{s, len(tokens)}
	could, known := r.seen[key]
	if !known {
		could = r.walk(s, tokens)
		r.seen[key] = could
	}
	return could
}

func (r *reach) walk(s *jsonschema.Schema, tokens []string) bool {
	if s.Bool != nil {
		return *s.Bool
	}
	if !r.member(s, tokens) && !r.item(s, tokens) {
		return false
	}
	here := func(other *jsonschema.Schema) bool { return r.could(other, tokens) }
	for _, must := range musts(s) {
		if !here(must) {
			return false
		}
	}
	return (len(s.AnyOf) == 0 || slices.ContainsFunc(s.AnyOf, here)) && (len(s.OneOf) == 0 || slices.ContainsFunc(s.OneOf, here))
}

// musts are the schemas that a value has to fit beside s.
func musts(s *jsonschema.Schema) []*jsonschema.Schema {
	list := slices.Clone(s.AllOf)
	if s.Ref != nil {
		list = append(list, s.Ref)
	}
	if s.DynamicRef != nil && s.DynamicRef.Ref != nil {
		list = append(list, s.DynamicRef.Ref)
	}
	return list
}

// member walks on into an object.
func (r *reach) member(s *jsonschema.Schema, tokens []string) bool {
	if ownKinds(s)&kindObject == 0 {
		return false
	}
	name, rest := tokens[0], tokens[1:]
	found := false
	if property, ok := s.Properties[name]; ok {
		if found = true; !r.could(property, rest) {
			return false
		}
	}
	for pattern, property := range s.PatternProperties {
		if pattern.MatchString(name) {
			if found = true; !r.could(property, rest) {
				return false
			}
		}
	}
	if found {
		return true
	}
	switch others := s.AdditionalProperties.(type) {
	case bool:
		return others
	case *jsonschema.Schema:
		return r.could(others, rest)
	}
	return true
}

// item walks on into an array.
func (r *reach) item(s *jsonschema.Schema, tokens []string) bool {
	i, ok := arrayIndex(tokens[0])
	if !ok || ownKinds(s)&kindArray == 0 || s.MaxItems != nil && i >= *s.MaxItems {
		return false
	}
	switch {
	case i < len(s.PrefixItems):
		return r.could(s.PrefixItems[i], tokens[1:])
	case s.Items2020 != nil:
		return r.could(s.Items2020, tokens[1:])
	}
	return true
}

// ownKinds are the kinds of values that a schema allows by itself.
func ownKinds(s *jsonschema.Schema) jsonKinds {
	kinds := anyKind
	if s.Bool != nil && !*s.Bool {
		return 0
	}
	if s.Types != nil {
		kinds = 0
		for _, name := range s.Types.ToStrings() {
			kinds |= map[string]jsonKinds{"null": kindNull, "boolean": kindBool, "number": kindNumber, "integer": kindNumber, "string": kindString, "array": kindArray, "object": kindObject}[name]
		}
	}
	if s.Enum != nil {
		kinds &= kindsAmong(s.Enum.Values)
	}
	if s.Const != nil {
		kinds &= kindsAmong([]any{*s.Const})
	}
	return kinds
}

func kindsAmong(values []any) (kinds jsonKinds) {
	for _, v := range values {
		switch v.(type) {
		case nil:
			kinds |= kindNull
		case bool:
			kinds |= kindBool
		case json.Number:
			kinds |= kindNumber
		case string:
			kinds |= kindString
		case []any:
			kinds |= kindArray
		case map[string]any:
			kinds |= kindObject
		default:
			kinds |= anyKind
		}
	}
	return kinds
}

// kindsOf are the kinds of values that a schema allows together with those that it refers to.
func kindsOf(s *jsonschema.Schema, known map[*jsonschema.Schema]jsonKinds) jsonKinds {
	if kinds, ok := known[s]; ok {
		return kinds
	}
	kinds := ownKinds(s)
	for _, must := range musts(s) {
		kinds &= kindsOf(must, known)
	}
	for _, choice := range [][]*jsonschema.Schema{s.AnyOf, s.OneOf} {
		if len(choice) == 0 {
			continue
		}
		var some jsonKinds
		for _, other := range choice {
			some |= kindsOf(other, known)
		}
		kinds &= some
	}
	known[s] = kinds
	return kinds
}

// Matching are the types that a name or a glob names.
func (c *Catalogue) Matching(glob string) []*Type {
	if t, ok := c.Lookup(glob); ok {
		return []*Type{t}
	}
	return slices.DeleteFunc(c.Types(), func(t *Type) bool { return !IsGlob(glob) || !MatchGlob(glob, t.Name) })
}

// CheckPointers returns the pointers of the template that lead nowhere by the schemas of the types, as [Filter.Check] does.
func (t *Template) CheckPointers(types []*Type, location string) (fields []FieldError) {
	for _, p := range t.pointers {
		if len(types) == 0 || slices.ContainsFunc(types, func(typ *Type) bool { return !typ.enforces() || typ.allows(p.tokens, anyKind) }) {
			continue
		}
		names := make([]string, 0, len(types))
		for _, typ := range types[:min(len(types), maxTold)] {
			names = append(names, typ.Name)
		}
		fields = append(fields, FieldError{Location: location + p.at, Message: "leads nowhere: no schema has a place for it, of " + strings.Join(names, ", ")})
	}
	return fields[:min(len(fields), maxFields)]
}
