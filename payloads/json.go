package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	// maxNumberLen and maxExponent bound a number's literal. A double ends
	// near 1e308, so whatever lies beyond reaches no receiver as it was meant,
	// while exact arithmetic on 1e999999 costs a schema's "integer" or
	// "multipleOf" milliseconds per number.
	maxNumberLen = 400
	maxExponent  = 400
)

// readJSON reads a text that stands at location into the shapes jsonschema
// validates; its error is ready to be returned. Beyond encoding/json it demands
// UTF-8 (RFC 8259) and numbers that a receiver can read. Of a name that stands
// twice in an object the last one counts, as with encoding/json.
func readJSON(text []byte, location string) (any, *InvalidError) {
	if !utf8.Valid(text) {
		return nil, invalid(location, "is not UTF-8 text: JSON is exchanged as UTF-8 (RFC 8259), so convert it")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, invalid(location, syntaxMessage(err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid(location, "is not valid JSON: nothing may follow the end of the value")
	}
	if path, ok := hugeNumber(v); ok {
		return nil, invalid(location+path, "is a number that no receiver can read exactly, too large or too small: send it as a string")
	}
	return v, nil
}

func syntaxMessage(err error) string {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("is not valid JSON at byte %d: %s", syntax.Offset, syntax.Error())
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "is not valid JSON: it ends before the value does"
	}
	return "is not valid JSON"
}

// hugeNumber finds a number beyond the bounds, and the path to it.
func hugeNumber(v any) (path string, found bool) {
	switch v := v.(type) {
	case json.Number:
		return "", isHuge(string(v))
	case map[string]any:
		for name, member := range v {
			if path, found := hugeNumber(member); found {
				return step(name) + path, true
			}
		}
	case []any:
		for i, item := range v {
			if path, found := hugeNumber(item); found {
				return fmt.Sprintf("[%d]%s", i, path), true
			}
		}
	}
	return "", false
}

func isHuge(literal string) bool {
	if len(literal) < 5 { // nothing shorter reaches an exponent of 401
		return false
	}
	at := strings.IndexAny(literal, "eE")
	if at < 0 {
		return len(literal) > maxNumberLen
	}
	exponent := strings.TrimLeft(strings.TrimLeft(literal[at+1:], "+-"), "0")
	return len(literal) > maxNumberLen || len(exponent) > 3 || len(exponent) == 3 && exponent > fmt.Sprint(maxExponent)
}
