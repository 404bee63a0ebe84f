package payloads

import (
	"fmt"
	"slices"
	"strings"
)

// Holds reports whether a payload is one that the filter is for.
func (f *Filter) Holds(d Document) bool { return f == nil || f.root.holds(d) }

func (n *filterNode) holds(d Document) bool {
	switch n.group {
	case "":
		return n.clause.holds(d)
	case "all":
		for i := range n.nodes {
			if !n.nodes[i].holds(d) {
				return false
			}
		}
		return true
	}
	for i := range n.nodes {
		if n.nodes[i].holds(d) {
			return n.group == "any"
		}
	}
	return n.group == "not"
}

func (c *Clause) holds(d Document) bool {
	found := d.follow(c.tokens)
	switch c.Op {
	case "exists":
		_, missing := found.(nothing)
		return missing == (len(c.want) == 1 && c.want[0].text == "false")
	case "prefix":
		text, ok := found.(string)
		return ok && strings.HasPrefix(text, c.want[0].text)
	case "suffix":
		text, ok := found.(string)
		return ok && strings.HasSuffix(text, c.want[0].text)
	}
	got := newScalarValue(found)
	switch c.Op {
	case "equals", "in", "not_equals", "not_in":
		_, there := slices.BinarySearchFunc(c.want, got, scalarValue.compare)
		return there == (c.Op == "equals" || c.Op == "in")
	}
	if got.kind != aNumber {
		return false
	}
	order := got.number.compare(c.want[0].number)
	switch c.Op {
	case "gt":
		return order > 0
	case "gte":
		return order >= 0
	case "lt":
		return order < 0
	}
	return order <= 0
}

// A Miss is why a payload is none that a filter is for.
type Miss struct {
	// Location is the place of the clause that decides, such as filter.all[1]. If none of several holds, of which one would do, it is the place of their group.
	Location string
	// Clause is the clause itself. Of a group that decides as a whole, it is nil.
	Clause *Clause
	// Why is a sentence. It tells nothing of the payload but whether something is there, and of which kind.
	Why string
}

// Judge says why a payload is none that the filter is for; nil: it is one.
func (f *Filter) Judge(d Document) *Miss {
	if f.Holds(d) {
		return nil
	}
	return f.root.miss(d)
}

// miss is why a node does not hold.
func (n *filterNode) miss(d Document) *Miss {
	switch n.group {
	case "":
		return &Miss{n.at, &n.clause, fmt.Sprintf("The callback's %s asks for %s, and %s.", n.at, n.clause.words(), n.clause.found(d))}
	case "all":
		i := slices.IndexFunc(n.nodes, func(n filterNode) bool { return !n.holds(d) })
		return n.nodes[i].miss(d)
	case "not":
		i := slices.IndexFunc(n.nodes, func(n filterNode) bool { return n.holds(d) })
		held := &n.nodes[i]
		m := &Miss{Location: held.at, Why: fmt.Sprintf("The callback's %s is not to hold, and it does: %s.", held.at, held.because(d))}
		if held.group == "" {
			m.Clause, m.Why = &held.clause, fmt.Sprintf("The callback's %s asks for anything but %s, and the event has that.", held.at, held.clause.words())
		}
		return m
	}
	if len(n.nodes) == 1 {
		return n.nodes[0].miss(d)
	}
	return &Miss{Location: n.at, Why: fmt.Sprintf("The callback's %s asks for one of %d, and none of them holds: %s.", n.at, len(n.nodes), n.first(d))}
}

// maxTold is how many of the clauses are told of that do not hold.
const maxTold = 3

// first tells of the first clauses of a group.
func (n *filterNode) first(d Document) string {
	var told []string
	for i := range n.nodes[:min(len(n.nodes), maxTold)] {
		told = append(told, n.nodes[i].shortly(d))
	}
	if more := len(n.nodes) - maxTold; more > 0 {
		told = append(told, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(told, ", ")
}

// shortly says why a node does not hold: of a group, by the clause that decides, if it is one.
func (n *filterNode) shortly(d Document) string {
	m := n.miss(d)
	switch {
	case m.Clause == nil:
		return n.at
	case m.Clause.holds(d):
		return fmt.Sprintf("anything but %s (the event has that)", m.Clause.words())
	}
	return fmt.Sprintf("%s (%s)", m.Clause.words(), m.Clause.found(d))
}

// because says what of a node has it hold: the first of its clauses that do.
func (n *filterNode) because(d Document) string {
	var told []string
	n.each(func(at string, c *Clause) {
		if c.holds(d) {
			told = append(told, fmt.Sprintf("%s (%s)", c.words(), at))
		}
	})
	switch {
	case len(told) == 0:
		return "none of its clauses does"
	case len(told) > maxTold:
		told = append(told[:maxTold], fmt.Sprintf("and %d more", len(told)-maxTold))
	}
	return strings.Join(told, ", ")
}

// each has f see the clauses of a node, in their order.
func (n *filterNode) each(f func(at string, c *Clause)) {
	if n.group == "" {
		f(n.at, &n.clause)
	}
	for i := range n.nodes {
		n.nodes[i].each(f)
	}
}

// words say what the clause asks for.
func (c *Clause) words() string {
	pointer := c.Pointer
	if pointer == "" {
		pointer = "the payload"
	}
	if c.Op == "exists" {
		if len(c.want) == 1 && c.want[0].text == "false" {
			return "nothing at " + brief(pointer)
		}
		return "something at " + brief(pointer)
	}
	return fmt.Sprintf("%s %s %s", brief(pointer), c.Op, brief(string(c.Value)))
}

// found says of which kind it is what a document has at the clause's place.
func (c *Clause) found(d Document) string {
	switch found := d.follow(c.tokens).(type) {
	case nothing:
		return "the event has nothing there"
	case map[string]any:
		return "the event has an object there"
	case []any:
		return "the event has an array there"
	default:
		kind := kindOfScalar(found)
		if c.Op == "exists" || len(c.want) > 0 && !slices.ContainsFunc(c.want, func(w scalarValue) bool { return w.kind == newScalarValue(found).kind }) {
			return "the event has " + kind + " there"
		}
		return "the event has another value there, " + kind
	}
}
