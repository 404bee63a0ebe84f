package httpapi

import (
	"encoding/json"

	"github.com/danielgtaylor/huma/v2"
)

// The types in this file are documentation; see schema.go.

// filterDoc describes a filter: a group, or a clause.
type filterDoc struct{}

// Schema describes a filter. What of its members may stand together is in words.
func (filterDoc) Schema(huma.Registry) *huma.Schema {
	list := func(what string) *huma.Schema {
		one := 1
		return &huma.Schema{Type: huma.TypeArray, MinItems: &one, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}, Description: what}
	}
	ops := []any{}
	for _, op := range []string{"equals", "not_equals", "in", "not_in", "prefix", "suffix", "exists", "gt", "gte", "lt", "lte", "not"} {
		ops = append(ops, op)
	}
	return &huma.Schema{
		Type: huma.TypeObject, AdditionalProperties: false,
		Description: "Either a group, with one of all, any and not, or a clause, with pointer, op and value. At most 50 clauses, 5 levels of groups and 8 KiB. " +
			"Strings are compared byte by byte, numbers by their exact value; a value of one kind never equals one of another, and a clause does not hold where its " +
			"pointer leads to nothing, but for not_equals, not_in and exists false. null is a value. A clause that no payload of the type could meet, by its schema, " +
			"is refused; of a glob's types, one that could meet it is enough.",
		Properties: map[string]*huma.Schema{
			"all":     list("Clauses and groups that must all hold."),
			"any":     list("Clauses and groups of which one must hold."),
			"not":     list("Clauses and groups of which none may hold."),
			"pointer": {Type: huma.TypeString, Description: "A JSON Pointer (RFC 6901) into the payload.", Examples: []any{"/amount/value"}},
			"op":      {Type: huma.TypeString, Enum: ops, Description: "How what stands there is compared with value. gt, gte, lt and lte compare numbers only; not is another name of not_equals."},
			"value":   {Description: "A string of at most 256 bytes, a number, true, false or null; with in and not_in a list of those; with exists true (the default) or false."},
		},
		Examples: []any{json.RawMessage(`{"all":[{"pointer":"/status","op":"in","value":["paid","refunded"]},{"pointer":"/amount","op":"gte","value":100}]}`)},
	}
}

// templateDoc describes a template: any JSON.
type templateDoc struct{}

// Schema describes a template.
func (templateDoc) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Description: "Any JSON, sent in the payload's place. In it {\"$pointer\": \"/customer/id\"} stands for what that JSON Pointer (RFC 6901) leads to in the payload, " +
			"copied byte for byte. Where that is nothing, \"$default\" is sent if it stands beside; else the member is left out, and an item of an array is null. " +
			"A name that is to begin with $ is written with $$. At most 16 KiB, 16 levels and 100 pointers; a body of more than 1 MiB is not sent (encode_failed).",
		Examples: []any{json.RawMessage(`{"id":{"$pointer":"/customer/id"},"kind":"customer"}`)},
	}
}
