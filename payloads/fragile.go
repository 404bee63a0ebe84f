package payloads

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Fragile returns the type's example for a test: it means the same and fits the
// schema, but its bytes change if anything parses it and writes it anew. So a
// receiver that verifies such a body fails at the desk, and not on the first real
// event that was written otherwise than its own encoder writes.
//
// All values are the example's, in these writings:
//
//   - spaces stand where no encoder puts them;
//   - one character of a string is an escape, \u00e9 for é, or \u0050 for the P of
//     a text that is all ASCII;
//   - members that would stand in the order of their names do not;
//   - one whole number has a fraction, 1.0 for 1, where the schema takes fractions.
//
// What the example has beyond that (a large number, escapes of its own) stays as it
// is. A type without an example has nothing to write: nil.
func (t *Type) Fragile() json.RawMessage {
	attrs, err := t.check(t.Example, "body.example")
	w, ok := readWriting(t.Example)
	if err != nil || !ok {
		return t.Example
	}
	takes := func(text []byte) bool {
		seen, err := t.check(text, "body.example")
		return err == nil && maps.Equal(seen, attrs) // an attribute's text counts, in which 1.0 is not 1
	}
	w.disorder()
	w.escape()
	numbers := w.wholeNumbers()
	for _, n := range numbers[:min(len(numbers), maxTried)] {
		literal := n.raw
		if n.raw = literal + ".5"; takes(w.write()) {
			if n.raw = literal + ".0"; takes(w.write()) {
				break
			}
		}
		n.raw = literal
	}
	return w.write()
}

// maxTried bounds how many numbers are tried with a fraction: each try checks the
// example twice.
const maxTried = 10

// maxWritings bounds how many writings [Diagnose] tries.
const maxWritings = 50

// fragileWritings are the bodies that a test may have had, if a receiver's encoder made body of it.
func fragileWritings(body []byte) [][]byte {
	w, ok := readWriting(body)
	if !ok {
		return nil
	}
	w.plain()
	w.disorder()
	w.escape()
	writings := [][]byte{w.write()}
	numbers := w.wholeNumbers()
	for _, n := range numbers[:min(len(numbers), maxWritings)] {
		literal := n.raw
		n.raw = literal + ".0"
		writings = append(writings, w.write())
		n.raw = literal
	}
	return writings
}

// A writing is a JSON value with its literals as they stand in the text, and its members in their order.
type writing struct {
	raw   string // of what holds no others; of an object "{", of an array "["
	parts []part
}

// A part is a member of an object, or an item of an array, which has no name.
type part struct {
	name  string // as it stands in the text
	value *writing
}

// readWriting reads a text. It reports false for what is not JSON.
func readWriting(text []byte) (*writing, bool) {
	if !json.Valid(text) {
		return nil, false
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	literal := func() string {
		from := dec.InputOffset()
		_, _ = dec.Token() // it is valid
		return strings.TrimLeft(string(text[from:dec.InputOffset()]), " \t\r\n,:")
	}
	var value func() *writing
	value = func() *writing {
		t := &writing{raw: literal()}
		if t.raw != "{" && t.raw != "[" {
			return t
		}
		for dec.More() {
			m := part{}
			if t.raw == "{" {
				m.name = literal()
			}
			m.value = value()
			t.parts = append(t.parts, m)
		}
		literal()
		return t
	}
	return value(), true
}

// spaces are what stands around colons and commas, by turns.
var spaces = []struct{ colon, comma string }{{" : ", " ,  "}, {":  ", ",\n "}, {" :", " , "}}

// write writes it with spaces that no encoder writes.
func (t *writing) write() []byte {
	var b bytes.Buffer
	n := 0
	var value func(t *writing)
	value = func(t *writing) {
		b.WriteString(t.raw)
		if t.raw != "{" && t.raw != "[" {
			return
		}
		for i, m := range t.parts {
			n++
			s := spaces[n%len(spaces)]
			if i > 0 {
				b.WriteString(s.comma)
			} else {
				b.WriteByte(' ')
			}
			if t.raw == "{" {
				b.WriteString(m.name + s.colon)
			}
			value(m.value)
		}
		b.WriteString(map[string]string{"{": " }", "[": " ]"}[t.raw])
	}
	value(t)
	return b.Bytes()
}

// each calls do for the values that hold no others, in their order, until it returns false.
func (t *writing) each(do func(*writing) bool) bool {
	if t.raw != "{" && t.raw != "[" {
		return do(t)
	}
	for _, m := range t.parts {
		if !m.value.each(do) {
			return false
		}
	}
	return true
}

// disorder exchanges the first two members if all stand in the order of their names.
func (t *writing) disorder() {
	byName := func(a, b part) int { return strings.Compare(a.name, b.name) }
	if t.raw == "{" && len(t.parts) > 1 && slices.IsSortedFunc(t.parts, byName) && t.parts[0].name != t.parts[1].name {
		t.parts[0], t.parts[1] = t.parts[1], t.parts[0]
	}
}

// escape writes one character of a string as an escape: the first that is not ASCII, or else the first letter.
func (t *writing) escape() {
	for _, fits := range []func(rune) bool{
		func(r rune) bool { return r >= utf8.RuneSelf },
		func(r rune) bool { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' },
	} {
		none := t.each(func(t *writing) bool {
			if t.raw[0] != '"' || strings.Contains(t.raw, `\`) {
				return true
			}
			at := strings.IndexFunc(t.raw, fits)
			if at < 0 {
				return true
			}
			r, size := utf8.DecodeRuneInString(t.raw[at:])
			t.raw = t.raw[:at] + escapeOf(r) + t.raw[at+size:]
			return false
		})
		if !none {
			return
		}
	}
}

// escapeOf writes a character as JSON escapes it.
func escapeOf(r rune) string {
	hex := func(r rune) string {
		digits := strconv.FormatInt(int64(r), 16)
		return `\u` + strings.Repeat("0", max(0, 4-len(digits))) + digits
	}
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return hex(high) + hex(low)
	}
	return hex(r)
}

// wholeNumbers are the numbers that are written without a fraction and an exponent, and stay exact with one.
func (t *writing) wholeNumbers() []*writing {
	var found []*writing
	t.each(func(t *writing) bool {
		if digits := strings.TrimPrefix(t.raw, "-"); digits != "" && len(digits) <= 15 && strings.Trim(digits, "0123456789") == "" {
			found = append(found, t)
		}
		return true
	})
	return found
}

// plain writes all strings without escapes that they do not need.
func (t *writing) plain() {
	t.each(func(t *writing) bool {
		var said string
		if t.raw[0] == '"' && json.Unmarshal([]byte(t.raw), &said) == nil {
			t.raw = quoted(said)
		}
		return true
	})
	var names func(t *writing)
	names = func(t *writing) {
		for i := range t.parts {
			var said string
			if json.Unmarshal([]byte(t.parts[i].name), &said) == nil {
				t.parts[i].name = quoted(said)
			}
			names(t.parts[i].value)
		}
	}
	names(t)
}

// quoted is a string as JSON writes it with no escape that it can do without.
func quoted(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string always can be
	return strings.TrimRight(b.String(), "\n")
}
