package payloads

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a filter. With them, 10,000 callbacks with filters are decided on in some milliseconds, and no filter takes longer because a payload is large.
const (
	maxFilterBytes   = 8 << 10 // of its text, without spaces
	maxFilterLevels  = 5       // of groups
	maxFilterClauses = 50
	maxFilterValue   = 256 // bytes of a string
	maxPointerBytes  = 512
	maxPointerTokens = 32
)

// A Filter says which payloads a callback is for. It is a clause, or a group of clauses and groups:
//
//	{"all": […]}   all of them hold
//	{"any": […]}   one of them holds, or several
//	{"not": […]}   none of them holds
//	{"pointer": "/amount", "op": "gt", "value": 100}
//
// A clause looks at what its JSON Pointer (RFC 6901) leads to, and at nothing else:
//
//	equals, not_equals   a string, a number, true, false or null
//	in, not_in           one of those in a list
//	prefix, suffix       a string that begins, or ends, with the value
//	exists               anything, null included; with the value false: nothing
//	gt, gte, lt, lte     a number above, from, below, or up to the value
//
// Strings are compared byte by byte, numbers by their exact value, however large: 1.0 equals 1, and 9007199254740993 does not equal 9007199254740992. A value
// of one kind never equals one of another: "1" is not 1, and null is not what is missing. Where the pointer leads to nothing, or to another kind of value than
// the clause is about, the clause does not hold; not_equals and not_in always say the opposite of equals and in, so there they hold. An object or an array is
// no value of any clause but exists.
//
// A Filter is immutable, and its zero value is none: nil holds for all payloads.
type Filter struct {
	text json.RawMessage // without spaces
	root filterNode
}

// A filterNode is a group, or a clause.
type filterNode struct {
	group  string // "all", "any" or "not"; empty: a clause
	nodes  []filterNode
	clause Clause
	at     string // its place within the filter, "filter.all[1]"
}

// A Clause of a filter.
type Clause struct {
	Pointer string          `json:"pointer"`
	Op      string          `json:"op"`
	Value   json.RawMessage `json:"value,omitempty"`

	tokens []string
	want   []scalarValue // sorted
}

// groups and ops are what a filter is made of.
var (
	groups = []string{"all", "any", "not"}
	ops    = []string{"equals", "not_equals", "in", "not_in", "prefix", "suffix", "exists", "gt", "gte", "lt", "lte"}
)

// opNot is another name of not_equals, which is what is shown.
const opNot = "not"

// ParseFilter reads a filter. What is wrong with it is an *InvalidError, whose locations begin with the given one.
func ParseFilter(text json.RawMessage, location string) (*Filter, error) {
	const levels = 2 * (maxFilterLevels + 2) // a group is an object and a list, and so may be a clause; and so much more that one too many is told of as a group
	v, fault := readOrdered(text, location, levels)
	if fault != nil {
		return nil, fault
	}
	p := filterParser{}
	root := p.node(&v, location, "filter", 1)
	if p.clauses > maxFilterClauses {
		p.fail(location, fmt.Sprintf("has %d clauses: there may be %d", p.clauses, maxFilterClauses))
	}
	if len(p.fields) > 0 {
		return nil, &InvalidError{Fields: p.fields}
	}
	f := &Filter{root: root, text: root.appendTo(nil)}
	if len(f.text) > maxFilterBytes {
		return nil, invalid(location, fmt.Sprintf("has %d bytes: it may have %d", len(f.text), maxFilterBytes))
	}
	return f, nil
}

// MarshalJSON is the filter's text.
func (f *Filter) MarshalJSON() ([]byte, error) { return f.text, nil }

// String is the filter's text.
func (f *Filter) String() string {
	if f == nil {
		return ""
	}
	return string(f.text)
}

type filterParser struct {
	fields  []FieldError
	clauses int
}

func (p *filterParser) fail(location, message string) {
	if len(p.fields) < maxFields {
		p.fields = append(p.fields, FieldError{Location: location, Message: message})
	}
}

const (
	saysFilterForm = `must be a group, {"all": […]}, {"any": […]} or {"not": […]}, or a clause, {"pointer": "/status", "op": "equals", "value": "paid"}`
	saysPointer    = "must be a JSON Pointer to something in the payload, such as /customer/id (RFC 6901: ~0 for ~, ~1 for / in a name)"
)

func (p *filterParser) node(v *ordered, location, at string, level int) filterNode {
	if v.kind != '{' || len(v.members) == 0 {
		p.fail(location, saysFilterForm+", but is "+v.kindOf())
		return filterNode{}
	}
	if len(v.members) != 1 || !slices.Contains(groups, v.members[0].name) {
		return p.clause(v, location, at)
	}
	name, list := v.members[0].name, &v.members[0].value
	location, at = location+"."+name, at+"."+name
	n := filterNode{group: name, at: at}
	switch {
	case list.kind != '[':
		p.fail(location, "must be a list of clauses and groups, but is "+list.kindOf())
		return n
	case len(list.items) == 0:
		p.fail(location, "must have a clause: without a filter, every event matches")
		return n
	case level > maxFilterLevels:
		p.fail(location, fmt.Sprintf("is too deep: groups may nest %d levels", maxFilterLevels))
		return n
	}
	for i := range list.items {
		n.nodes = append(n.nodes, p.node(&list.items[i], fmt.Sprintf("%s[%d]", location, i), fmt.Sprintf("%s[%d]", at, i), level+1))
	}
	return n
}

func (p *filterParser) clause(v *ordered, location, at string) filterNode {
	p.clauses++
	before := len(p.fields)
	for i := range v.members {
		if name := v.members[i].name; slices.Contains(groups, name) && len(v.members) > 1 {
			p.fail(location, "must have one of all, any and not, and nothing beside it: put a group within another, such as {\"all\": [{\"any\": […]}, …]}")
			return filterNode{}
		}
	}
	for i := range v.members {
		if name := v.members[i].name; name != "pointer" && name != "op" && name != "value" {
			p.fail(location+step(name), "is not known here: a clause has pointer, op and value, and a group is all, any or not")
		}
	}
	c := Clause{}
	c.Pointer, c.tokens = p.pointer(v.member("pointer"), location+".pointer")
	c.Op = p.op(v.member("op"), location+".op")
	if len(p.fields) == before {
		p.value(&c, v.member("value"), location+".value")
	}
	return filterNode{clause: c, at: at}
}

func (p *filterParser) pointer(v *ordered, location string) (pointer string, tokens []string) {
	if v == nil {
		p.fail(location, "is missing: "+strings.TrimPrefix(saysPointer, "must be "))
		return "", nil
	}
	pointer, isText := v.scalar.(string)
	tokens, ok := parsePointer(pointer)
	if !isText || !ok {
		p.fail(location, saysPointer)
	}
	if len(pointer) > maxPointerBytes || len(tokens) > maxPointerTokens {
		p.fail(location, fmt.Sprintf("is too long: it may have %d bytes and %d steps", maxPointerBytes, maxPointerTokens))
	}
	return pointer, tokens
}

// parsePointer splits a JSON Pointer, of which that to the whole is empty and has no tokens.
func parsePointer(pointer string) (tokens []string, ok bool) {
	if pointer == "" {
		return nil, true
	}
	return splitPointer(pointer)
}

func (p *filterParser) op(v *ordered, location string) string {
	if v == nil {
		p.fail(location, "is missing: there are "+strings.Join(ops, ", "))
		return ""
	}
	op, ok := v.scalar.(string)
	if op == opNot {
		return "not_equals"
	}
	if !ok || !slices.Contains(ops, op) {
		p.fail(location, "must be one of "+strings.Join(ops, ", "))
	}
	return op
}

// value reads the value of a clause, as its op wants it.
func (p *filterParser) value(c *Clause, v *ordered, location string) {
	if v == nil {
		if c.Op != "exists" {
			p.fail(location, "is missing: "+c.Op+" compares with it")
		}
		return
	}
	list, wrong := []ordered{*v}, ""
	switch c.Op {
	case "in", "not_in":
		if list = v.items; v.kind != '[' || len(list) == 0 {
			wrong = "must be a list of what there may be, but is " + v.kindOf()
		}
		if v.kind == '[' && len(list) == 0 {
			wrong = "must have an item: nothing is in an empty list"
		}
	case "prefix", "suffix":
		if text, ok := v.scalar.(string); !ok || text == "" {
			wrong = "must be a string with a character or more"
		}
	case "exists":
		if _, ok := v.scalar.(bool); !ok {
			wrong = "must be true or false, or be left out, which means true"
		}
	case "gt", "gte", "lt", "lte":
		if _, ok := v.scalar.(json.Number); !ok {
			wrong = "must be a number, but is " + v.kindOf() + ": other values have no order here"
		}
	}
	if wrong != "" {
		p.fail(location, wrong)
		return
	}
	for i := range list {
		at := location
		if v.kind == '[' {
			at = fmt.Sprintf("%s[%d]", location, i)
		}
		if text, ok := list[i].scalar.(string); ok && len(text) > maxFilterValue {
			p.fail(at, fmt.Sprintf("is too long: a string may have %d bytes", maxFilterValue))
		}
		if list[i].kind != 0 {
			p.fail(at, "must be a string, a number, true, false or null, but is "+list[i].kindOf())
		}
		c.want = append(c.want, newScalarValue(list[i].scalar))
	}
	slices.SortFunc(c.want, scalarValue.compare)
	c.Value = v.appendTo(nil)
}

func (n *filterNode) appendTo(out []byte) []byte {
	if n.group == "" {
		out = append(out, `{"pointer":`...)
		out = append(appendScalar(out, n.clause.Pointer), `,"op":"`+n.clause.Op+`"`...)
		if n.clause.Value != nil {
			out = append(append(out, `,"value":`...), n.clause.Value...)
		}
		return append(out, '}')
	}
	out = append(out, `{"`+n.group+`":[`...)
	for i := range n.nodes {
		if i > 0 {
			out = append(out, ',')
		}
		out = n.nodes[i].appendTo(out)
	}
	return append(out, ']', '}')
}
