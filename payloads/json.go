package payloads

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf16"
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
// twice in an object the last one counts, as with encoding/json. Half a surrogate
// pair is read as halfPair.
func readJSON(text []byte, location string) (any, *InvalidError) {
	if !utf8.Valid(text) {
		return nil, invalid(location, "is not UTF-8 text: JSON is exchanged as UTF-8 (RFC 8259), so convert it")
	}
	if bytes.HasPrefix(text, []byte("\ufeff")) {
		return nil, invalid(location, "begins with a byte order mark (U+FEFF): send it without")
	}
	dec := json.NewDecoder(bytes.NewReader(marked(text)))
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

// halfPair stands for a \ud800 to \udfff that is not one of a pair: an escape of no
// character. encoding/json reads it as U+FFFD, so that different texts become the
// same one. U+FDD0 is no character either, and no text holds it (Unicode, 23.7).
const halfPair = "\ufdd0"

// SaysHalfPair is what is wrong with a text for which [WholePairs] is false.
const SaysHalfPair = "holds half of a surrogate pair (\\ud800 to \\udfff), which is no character: send both halves, or neither"

// WholePairs reports whether each escape of a surrogate in a JSON text is one of a
// pair. encoding/json replaces the others by U+FFFD, without a word.
func WholePairs(text []byte) bool { return nextHalfPair(text, 0) < 0 }

// marked is a JSON text in which halfPair takes the place of each half of a
// surrogate pair. All else keeps its place. It is text itself if there are none.
func marked(text []byte) []byte {
	at := nextHalfPair(text, 0)
	if at < 0 {
		return text
	}
	text = bytes.Clone(text)
	for ; at >= 0; at = nextHalfPair(text, at+escapeLen) {
		copy(text[at:], `\ufdd0`)
	}
	return text
}

const escapeLen = len(`\ud800`)

// nextHalfPair is where the first half of a pair stands in text, from there on; -1:
// nowhere.
func nextHalfPair(text []byte, from int) int {
	for {
		at := bytes.IndexByte(text[from:], '\\')
		if at < 0 {
			return -1
		}
		from += at
		first := escaped(text[from:])
		switch {
		case !utf16.IsSurrogate(first):
			from += len(`\n`) // of \u0041, what follows holds no backslash
		case utf16.DecodeRune(first, escaped(text[from+escapeLen:])) != utf8.RuneError:
			from += 2 * escapeLen
		default:
			return from
		}
		from = min(from, len(text))
	}
}

// escaped is what the \u with which text begins stands for; -1: it begins with none.
func escaped(text []byte) rune {
	if len(text) < escapeLen || text[0] != '\\' || text[1] != 'u' {
		return -1
	}
	code, err := strconv.ParseUint(string(text[2:escapeLen]), 16, 16)
	if err != nil {
		return -1
	}
	return rune(code)
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
