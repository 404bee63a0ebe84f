package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// An ordered is a JSON value of which the order of members is kept. It is an object, an array, or a scalar.
type ordered struct {
	kind    byte // '{', '[' or 0
	members []orderedMember
	items   []ordered
	scalar  any // nil, bool, json.Number or string
}

type orderedMember struct {
	name  string
	value ordered
}

// readOrdered reads a text that stands at location. Names that stand twice are a fault, as is more than so many levels of objects and arrays.
func readOrdered(text []byte, location string, levels int) (ordered, *InvalidError) {
	if !utf8.Valid(text) {
		return ordered{}, invalid(location, "is not UTF-8 text: JSON is exchanged as UTF-8 (RFC 8259), so convert it")
	}
	if !WholePairs(text) {
		return ordered{}, invalid(location, SaysHalfPair)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	r := orderedReader{dec, levels}
	v, err := r.value(location, 0)
	if fault, ok := errors.AsType[*InvalidError](err); ok {
		return ordered{}, fault
	}
	if err != nil {
		return ordered{}, invalid(location, syntaxMessage(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return ordered{}, invalid(location, "is not valid JSON: nothing may follow the end of the value")
	}
	return v, nil
}

type orderedReader struct {
	*json.Decoder
	levels int
}

// value reads the next value, within so many others.
func (r orderedReader) value(location string, within int) (v ordered, err error) {
	token, err := r.Token()
	if err != nil {
		return v, err
	}
	if n, ok := token.(json.Number); ok && isHuge(string(n)) {
		return v, invalid(location, "is a number that no receiver can read exactly, too large or too small: write it as a string")
	}
	open, ok := token.(json.Delim)
	if !ok {
		return ordered{scalar: token}, nil
	}
	if within == r.levels {
		return v, invalid(location, fmt.Sprintf("is too deep: objects and arrays may nest %d levels", r.levels))
	}
	if v.kind = byte(open); open == '{' { //nolint:gosec // it is one of two brackets
		err = r.object(&v, location, within)
	} else {
		err = r.array(&v, location, within)
	}
	if err == nil {
		_, err = r.Token() // the end
	}
	return v, err
}

func (r orderedReader) object(v *ordered, location string, within int) error {
	seen := map[string]bool{}
	for r.More() {
		token, err := r.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string) // a Decoder lets nothing else stand there
		at := location + step(name)
		if seen[name] {
			return invalid(at, "is given twice: which one is meant?")
		}
		seen[name] = true
		value, err := r.value(at, within+1)
		if err != nil {
			return err
		}
		v.members = append(v.members, orderedMember{name, value})
	}
	return nil
}

func (r orderedReader) array(v *ordered, location string, within int) error {
	for r.More() {
		item, err := r.value(fmt.Sprintf("%s[%d]", location, len(v.items)), within+1)
		if err != nil {
			return err
		}
		v.items = append(v.items, item)
	}
	return nil
}

// appendTo appends the value as JSON without spaces.
func (v *ordered) appendTo(out []byte) []byte {
	switch v.kind {
	case '{':
		out = append(out, '{')
		for i := range v.members {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendScalar(out, v.members[i].name), ':')
			out = v.members[i].value.appendTo(out)
		}
		return append(out, '}')
	case '[':
		out = append(out, '[')
		for i := range v.items {
			if i > 0 {
				out = append(out, ',')
			}
			out = v.items[i].appendTo(out)
		}
		return append(out, ']')
	}
	return appendScalar(out, v.scalar)
}

// appendScalar appends a scalar as JSON, in which <, > and & stay as they are.
func appendScalar(out []byte, v any) []byte {
	if n, ok := v.(json.Number); ok {
		return append(out, n...)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // of nil, a bool or a string: it cannot fail
	return append(out, bytes.TrimSuffix(b.Bytes(), []byte("\n"))...)
}

// kindOf names the kind of a value, with its article.
func (v *ordered) kindOf() string {
	switch v.kind {
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return kindOfScalar(v.scalar)
}

func kindOfScalar(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case bool:
		return "true or false"
	}
	return "null"
}

// member is the value of that name; nil: there is none.
func (v *ordered) member(name string) *ordered {
	for i := range v.members {
		if v.members[i].name == name {
			return &v.members[i].value
		}
	}
	return nil
}
