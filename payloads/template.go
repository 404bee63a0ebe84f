package payloads

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a template, and of what is made by it. They bound the time, too: the payload is read once for each level that the pointers lead down.
const (
	maxTemplateBytes    = 16 << 10 // of its text, without spaces
	maxTemplateLevels   = 16
	maxTemplatePointers = 100
	// MaxShaped is how long a body that a template makes may be: as long as the longest payload that the API takes by default.
	MaxShaped = 1 << 20
)

// A Template makes a new body of a payload: JSON, in which an object with the member $pointer stands for what that JSON Pointer (RFC 6901) leads to in the
// payload. All else is sent as it stands.
//
//	{"id": {"$pointer": "/customer/id"}, "kind": "customer", "level": {"$pointer": "/customer/level", "$default": "none"}}
//
// What a pointer leads to is copied byte for byte, null included. Of a name that stands twice in a payload's object the last value counts. If a pointer leads
// to nothing, $default is sent in its place, as it stands. Without one, the member is left out, an item of an array is null, and so is the body, if the template is a
// pointer and no more. The empty pointer leads to the whole payload.
//
// All names that begin with $ are the template's own. One that is to be sent begins with $$ instead: {"$$pointer": 1} is sent as {"$pointer": 1}.
//
// A Template is immutable; a nil one leaves the payload as it is.
type Template struct {
	text     json.RawMessage // without spaces
	root     piece
	pointers []templatePointer
	trie     *trie
}

// A templatePointer is one of a template's places to be filled. Its piece knows it by its number.
type templatePointer struct {
	tokens []string
	at     string // its place in the template, as locations have it
}

// A piece of a template is a constant, an object, an array, or a place to be filled.
type piece struct {
	kind     byte // 0: a constant; '{', '[', or '$'
	constant []byte
	names    [][]byte // of an object: quoted, with a colon
	pieces   []piece
	pointer  int    // which
	def      []byte // nil: none
}

const (
	pointerName = "$pointer"
	defaultName = "$default"
)

// ParseTemplate reads a template. What is wrong with it is an *InvalidError, whose locations begin with the given one.
func ParseTemplate(text json.RawMessage, location string) (*Template, error) {
	v, fault := readOrdered(text, location, maxTemplateLevels)
	if fault != nil {
		return nil, fault
	}
	t := &Template{text: v.appendTo(nil), trie: &trie{}}
	if len(t.text) > maxTemplateBytes {
		return nil, invalid(location, fmt.Sprintf("has %d bytes: it may have %d", len(t.text), maxTemplateBytes))
	}
	p := templateParser{Template: t}
	t.root = p.piece(&v, location, "")
	if len(t.pointers) > maxTemplatePointers {
		p.fail(location, fmt.Sprintf("has %d pointers: there may be %d", len(t.pointers), maxTemplatePointers))
	}
	if len(p.fields) > 0 {
		return nil, &InvalidError{Fields: p.fields}
	}
	return t, nil
}

// MarshalJSON is the template's text.
func (t *Template) MarshalJSON() ([]byte, error) { return t.text, nil }

// String is the template's text.
func (t *Template) String() string {
	if t == nil {
		return ""
	}
	return string(t.text)
}

// MayBeObject reports whether what the template makes can be an object, as forms and stamps want it.
func (t *Template) MayBeObject() bool {
	return t.root.kind == '{' || t.root.kind == '$' || t.root.kind == 0 && t.root.constant[0] == '{'
}

type templateParser struct {
	*Template
	filterParser
}

func (p *templateParser) piece(v *ordered, location, at string) piece {
	switch {
	case v.kind == '[':
		made := piece{kind: '['}
		for i := range v.items {
			made.pieces = append(made.pieces, p.piece(&v.items[i], location, fmt.Sprintf("%s[%d]", at, i)))
		}
		return made.folded()
	case v.kind == '{' && (v.member(pointerName) != nil || v.member(defaultName) != nil):
		return p.place(v, location, at)
	case v.kind == '{':
		made := piece{kind: '{'}
		for i := range v.members {
			name := v.members[i].name
			inner := at + step(name)
			if plain, ok := strings.CutPrefix(name, "$$"); ok {
				name = "$" + plain
			} else if strings.HasPrefix(name, "$") {
				p.fail(location+inner, "is not known: names that begin with $ are the template's own, and there are "+pointerName+" and "+defaultName+"; to send this one, write $"+brief(name))
			}
			made.names = append(made.names, append(appendScalar(nil, name), ':'))
			made.pieces = append(made.pieces, p.piece(&v.members[i].value, location, inner))
		}
		return made.folded()
	}
	return piece{constant: v.appendTo(nil)}
}

// place reads an object that stands for something in the payload.
func (p *templateParser) place(v *ordered, location, at string) piece {
	made := piece{kind: '$', pointer: len(p.pointers)}
	for i := range v.members {
		switch name := v.members[i].name; name {
		case pointerName:
		case defaultName:
			made.def = v.members[i].value.appendTo(nil)
		default:
			p.fail(location+at+step(name), "does not go with "+pointerName+": beside it there may be "+defaultName+" only")
		}
	}
	_, tokens := p.pointer(v.member(pointerName), location+at+step(pointerName))
	p.pointers = append(p.pointers, templatePointer{tokens, at + step(pointerName)})
	p.trie.add(tokens, made.pointer)
	return made
}

// folded is a piece as a constant, if nothing in it is to be filled.
func (p piece) folded() piece {
	if slices.ContainsFunc(p.pieces, func(inner piece) bool { return inner.kind != 0 }) {
		return p
	}
	return piece{constant: p.appendTo(nil, nil)}
}

// Apply makes the body of a payload, which is JSON. A nil Template returns the payload itself. A body that would be longer than [MaxShaped] gives an *InvalidError.
func (t *Template) Apply(payload json.RawMessage) (json.RawMessage, error) {
	if t == nil {
		return payload, nil
	}
	found := make([][]byte, len(t.pointers))
	if err := t.trie.find(payload, marked(payload), found); err != nil {
		return nil, err
	}
	if n := t.root.size(found); n > MaxShaped {
		return nil, invalid("body.template", fmt.Sprintf("makes too long a body of this payload: it may have %d bytes", MaxShaped))
	}
	return t.root.appendTo(nil, found), nil
}

// filling is what is sent in a piece's place; nil: nothing.
func (p *piece) filling(found [][]byte) []byte {
	if found[p.pointer] != nil {
		return found[p.pointer]
	}
	return p.def
}

// size is how long the piece is at most, once it is filled.
func (p *piece) size(found [][]byte) int {
	switch p.kind {
	case 0:
		return len(p.constant)
	case '$':
		return max(len(p.filling(found)), len("null"))
	}
	n := len("{}") + len(p.pieces)
	for i := range p.pieces {
		if n += p.pieces[i].size(found); p.kind == '{' {
			n += len(p.names[i])
		}
	}
	return n
}

func (p *piece) appendTo(out []byte, found [][]byte) []byte {
	switch p.kind {
	case 0:
		return append(out, p.constant...)
	case '$':
		filling := p.filling(found)
		if filling == nil {
			filling = []byte("null")
		}
		return append(out, filling...)
	case '[':
		out = append(out, '[')
		for i := range p.pieces {
			if i > 0 {
				out = append(out, ',')
			}
			out = p.pieces[i].appendTo(out, found)
		}
		return append(out, ']')
	}
	out = append(out, '{')
	first := true
	for i := range p.pieces {
		inner := &p.pieces[i]
		if inner.kind == '$' && inner.filling(found) == nil {
			continue
		}
		if !first {
			out = append(out, ',')
		}
		first = false
		out = inner.appendTo(append(out, p.names[i]...), found)
	}
	return append(out, '}')
}
