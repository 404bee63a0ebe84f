package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/ringback/ringback/payloads"
)

// ErrBadJSON says that a body is no JSON text at all. The HTTP API answers 400. A
// body that is JSON but does not fit, an *payloads.InvalidError, gets 422.
var ErrBadJSON = errors.New("registry: the body is not valid JSON")

// givenTwice is the fault of a member whose name has stood before.
const givenTwice = "is given twice: which one is meant?"

// Members reads body, one JSON object in UTF-8, and calls visit for each of its
// members, in order, with the value's bytes exactly as they stand in body. visit
// returns the fault of the member. If it has none, that is "".
//
// Errors: ErrBadJSON, with the place in body, and *payloads.InvalidError for all
// that visit found, for names given twice, and for JSON that is not an object.
func Members(body []byte, visit func(name string, value json.RawMessage) (wrong string)) error {
	if !utf8.Valid(body) {
		return errNotUTF8
	}
	var fields []payloads.FieldError
	seen := map[string]bool{}
	err := walk(body, func(name string, value json.RawMessage) {
		wrong := givenTwice
		if !seen[name] {
			seen[name] = true
			wrong = visit(name, value)
		}
		if wrong != "" {
			fields = append(fields, payloads.FieldError{Location: at("body", name), Message: wrong})
		}
	})
	if err != nil {
		if err := syntaxError(body); err != nil {
			return err
		}
		return invalid("body", "must be a JSON object, but is "+kind(body), nil)
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
}

// checkJSON makes sure that body is one JSON text in UTF-8, that no name stands
// twice in it, where a registration has names, and that all of it is characters.
// If a name stands twice, other faults are not looked for: they depend on which of the
// two is meant.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return errNotUTF8
	}
	if err := syntaxError(body); err != nil {
		return err
	}
	if fields := twice(body, "body", 2); len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	if !payloads.WholePairs(body) { // it would be kept as U+FFFD
		return invalid("body", payloads.SaysHalfPair, nil)
	}
	return nil
}

// twice finds the names that stand twice in a valid JSON text, down to objects
// within depth others. Nothing of a registration lies deeper than two.
func twice(text []byte, location string, depth int) (fields []payloads.FieldError) {
	seen := map[string]bool{}
	_ = walk(text, func(name string, value json.RawMessage) { // not an object: no names
		if seen[name] {
			fields = append(fields, payloads.FieldError{Location: at(location, name), Message: givenTwice})
		}
		seen[name] = true
		if depth > 1 {
			fields = append(fields, twice(value, at(location, name), depth-1)...)
		}
	})
	return fields
}

var (
	errNotUTF8  = fmt.Errorf("%w: it is not UTF-8 text", ErrBadJSON)
	errNoObject = errors.New("not one JSON object")
)

// walk calls visit for the members of the object that text must be.
func walk(text []byte, visit func(name string, value json.RawMessage)) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	if first, err := dec.Token(); err != nil || first != json.Delim('{') {
		return errNoObject
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		visit(name.(string), value) // a Decoder lets nothing else stand there
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errNoObject
	}
	return nil
}

// syntaxError says where body stops being JSON, counting its bytes from 1, and
// why. If body is JSON, it is nil. It repeats one character of body at most.
func syntaxError(body []byte) error {
	if bytes.HasPrefix(body, []byte("\ufeff")) { // RFC 8259, section 8.1
		return fmt.Errorf("%w: it begins with a byte order mark (U+FEFF): send it without", ErrBadJSON)
	}
	var whole json.RawMessage
	err := json.Unmarshal(body, &whole)
	if err == nil {
		return nil
	}
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	switch {
	case !ok:
		return ErrBadJSON
	case syntax.Offset >= int64(len(body)) && strings.HasPrefix(syntax.Error(), "unexpected end"):
		return fmt.Errorf("%w: it ends too early, after byte %d", ErrBadJSON, len(body))
	default:
		return fmt.Errorf("%w: at byte %d: %w", ErrBadJSON, syntax.Offset, syntax)
	}
}

// parseAny parses a JSON text that is known to be valid. Numbers stay literal.
func parseAny(text []byte) any {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	_ = dec.Decode(&v)
	return v
}

// joinObjects renders each part, which must be an object or null, and puts their
// members into one object, in order.
func joinObjects(parts ...any) ([]byte, error) {
	out := []byte{'{'}
	for _, part := range parts {
		var buf bytes.Buffer
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false) // & in URLs
		if err := enc.Encode(part); err != nil {
			return nil, err
		}
		members := bytes.TrimSpace(buf.Bytes())
		if len(members) <= 2 || members[0] != '{' { // {} or null
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, members[1:len(members)-1]...)
	}
	return append(out, '}'), nil
}
