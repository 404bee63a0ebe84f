package payloads

import (
	"cmp"
	"encoding/json"
	"strings"
)

// A scalarValue is a value that can be compared.
type scalarValue struct {
	kind   scalarKind
	text   string // of a string; "true" or "false"
	number number
}

type scalarKind int

const (
	noScalar scalarKind = iota // an object, an array, or nothing
	aNull
	aBool
	aNumber
	aString
)

func newScalarValue(v any) scalarValue {
	switch v := v.(type) {
	case nil:
		return scalarValue{kind: aNull}
	case bool:
		if v {
			return scalarValue{kind: aBool, text: "true"}
		}
		return scalarValue{kind: aBool, text: "false"}
	case json.Number:
		return scalarValue{kind: aNumber, number: parseNumber(string(v))}
	case string:
		return scalarValue{kind: aString, text: v}
	}
	return scalarValue{}
}

// compare orders values by their kind first.
func (v scalarValue) compare(w scalarValue) int {
	return cmp.Or(cmp.Compare(v.kind, w.kind), strings.Compare(v.text, w.text), v.number.compare(w.number))
}
