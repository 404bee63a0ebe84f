package payloads

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
)

// A schema that leads back to itself in two ways doubles the work with every level
// of a payload, so that 50 bytes can cost seconds and gigabytes. The library that
// checks payloads neither counts nor stops. So the work is counted beforehand, by a
// walk that goes where the library would go, but does nothing there. The walk ends
// where the budget ends.
//
// The walk counts what may be needed at most: it knows no verdicts, so it does not
// see that an anyOf ends with the first schema that fits.
const (
	// maxSteps bounds what checking one payload may cost. A step is one schema that
	// is applied to one value, or other work that takes as long: about a microsecond
	// and 250 bytes that are free again at once. A payload of 1 MiB from practice has
	// 50,000 values, and takes two or three steps for each.
	maxSteps = 1_000_000

	// maxExplainedSteps bounds what it may cost to say where a payload does not fit.
	// All faults are kept until the last is found, at up to 400 bytes a step.
	maxExplainedSteps = 250_000

	// maxSharedSteps is up to where the answer is explained at once. What costs more
	// is answered first, and explained when it is its turn, so that many at once need
	// no more memory than one.
	maxSharedSteps = 10_000
)

// The units of work. One is about 15 nanoseconds, as measured on a slow machine.
const (
	unitsPerStep   = 64
	unitsPerLevel  = 4    // a fault holds the way to its place
	unitsPerLink   = 1    // a schema looks for itself among those that led to it at the same value
	unitsPerNumber = 160  // a number of up to 64 digits becomes an exact fraction
	unitsPerName   = 8    // a name that a schema requires
	unitsPerByte   = 2048 // of a text that is itself read as a pattern
)

// plan is what applying a schema costs, by the kind of value it is applied to.
// Plans refer to each other as the schemas do.
type plan struct {
	same     []*plan // applied to the value itself
	members  map[string]*plan
	patterns []patternPlan
	others   *plan   // applied to members that the two above leave
	rest     *plan   // applied to members that all of the above leave
	names    *plan   // applied to the members' names
	prefix   []*plan // applied to the item at their place
	items    []*plan // applied to any item

	tracks  bool // it remembers which members or items were looked at
	unique  bool // it compares the items
	object  int  // units for an object, beside its members
	array   int  // units for an array, beside its items
	text    int  // units for a string
	perByte int  // units for each byte of a string
	number  int  // units for a number
}

type patternPlan struct {
	*pattern
	then *plan
}

// planner makes the plans of all schemas that a schema leads to.
type planner map[*jsonschema.Schema]*plan

func (made planner) plan(s *jsonschema.Schema) *plan {
	if s == nil {
		return nil
	}
	if p, ok := made[s]; ok {
		return p
	}
	p := &plan{tracks: s.UnevaluatedProperties != nil || s.UnevaluatedItems != nil, unique: s.UniqueItems}
	made[s] = p
	p.same = made.plans(sameValue(s))
	made.planMembers(p, s)
	made.planItems(p, s)
	p.planValues(s)
	return p
}

func (made planner) plans(schemas []*jsonschema.Schema) []*plan {
	list := make([]*plan, len(schemas))
	for i, s := range schemas {
		list[i] = made.plan(s)
	}
	return list
}

func (made planner) planMembers(p *plan, s *jsonschema.Schema) {
	p.members = make(map[string]*plan, len(s.Properties))
	for name, member := range s.Properties {
		p.members[name] = made.plan(member)
	}
	for name, member := range s.PatternProperties {
		if matches, ok := name.(*pattern); ok {
			p.patterns = append(p.patterns, patternPlan{matches, made.plan(member)})
		}
	}
	others, _ := s.AdditionalProperties.(*jsonschema.Schema)
	p.others, p.rest, p.names = made.plan(others), made.plan(s.UnevaluatedProperties), made.plan(s.PropertyNames)
	names := len(s.Required) + len(s.DependentSchemas)
	for _, required := range s.DependentRequired {
		names += 1 + len(required)
	}
	for _, dependency := range s.Dependencies {
		required, _ := dependency.([]string)
		names += 1 + len(required)
	}
	p.object = unitsPerName * names
}

func (made planner) planItems(p *plan, s *jsonschema.Schema) {
	prefix := s.PrefixItems
	if items, ok := s.Items.([]*jsonschema.Schema); ok {
		prefix = items
	}
	p.prefix = made.plans(prefix)
	items := []*jsonschema.Schema{s.Items2020, s.Contains, s.UnevaluatedItems}
	for _, more := range []any{s.Items, s.AdditionalItems} {
		if every, ok := more.(*jsonschema.Schema); ok {
			items = append(items, every)
		}
	}
	p.items = made.plans(compactSchemas(items))
}

// planValues counts what the keywords cost that hold no schemas.
func (p *plan) planValues(s *jsonschema.Schema) {
	var compared []any
	if s.Enum != nil {
		compared = append(compared, s.Enum.Values...)
	}
	if s.Const != nil {
		compared = append(compared, *s.Const)
	}
	for _, v := range compared {
		switch v := v.(type) {
		case string:
			p.text += 1 + len(v)/unitsPerStep
		case json.Number:
			p.number += countUnits(v)
		case map[string]any:
			p.object += countUnits(v)
		case []any:
			p.array += countUnits(v)
		}
	}
	if s.Types != nil && slices.Contains(s.Types.ToStrings(), "integer") || s.Minimum != nil || s.Maximum != nil || s.ExclusiveMinimum != nil || s.ExclusiveMaximum != nil || s.MultipleOf != nil {
		p.number += unitsPerNumber
	}
	if matches, ok := s.Pattern.(*pattern); ok {
		p.perByte += matches.size
	}
	if s.MinLength != nil || s.MaxLength != nil || s.Format != nil {
		p.perByte++
	}
	if s.Format != nil && s.Format.Name == "regex" {
		p.perByte += unitsPerByte
	}
}

// steps is how many steps it may take to apply p to v; more than limit: too many.
func (p *plan) steps(v any, limit int) int {
	m := meter{left: (limit + 1) * unitsPerStep}
	all := m.left
	if !m.apply(p, v, place{}) {
		return limit + 1
	}
	return (all - m.left) / unitsPerStep
}

// meter counts down what is left of a budget, in units.
type meter struct{ left int }

func (m *meter) spend(units int) bool {
	m.left -= units
	return m.left > 0
}

// place is where a schema is applied.
type place struct {
	depth   int  // of the value in the payload
	chain   int  // schemas that led to this one at the same value
	tracked bool // the answer says which members or items were looked at
}

func (at place) inner() place { return place{depth: at.depth + 1} }

// apply spends what it may cost to apply p to v.
func (m *meter) apply(p *plan, v any, at place) bool {
	at.tracked = at.tracked || p.tracks
	if !m.spend(unitsPerStep+unitsPerLevel*at.depth+unitsPerLink*at.chain) || !m.value(p, v, at) {
		return false
	}
	at.chain++
	for _, next := range p.same {
		if !m.apply(next, v, at) {
			return false
		}
	}
	return true
}

func (m *meter) value(p *plan, v any, at place) bool {
	switch v := v.(type) {
	case map[string]any:
		if at.tracked && !m.spend(unitsPerStep*len(v)) {
			return false
		}
		return m.spend(p.object) && m.object(p, v, at.inner())
	case []any:
		if at.tracked && !m.spend(unitsPerStep*len(v)) || p.unique && !m.spend(countUnits(v)) {
			return false
		}
		return m.spend(p.array) && m.array(p, v, at.inner())
	case string:
		return m.spend(p.text + p.perByte*len(v))
	case json.Number:
		return m.spend(p.number * (1 + len(v)/unitsPerStep))
	default:
		return true
	}
}

func (m *meter) object(p *plan, members map[string]any, at place) bool {
	for name, v := range members {
		if p.names != nil && !m.apply(p.names, name, at) {
			return false
		}
		next, known := p.members[name]
		if known && !m.apply(next, v, at) {
			return false
		}
		for _, named := range p.patterns {
			if !m.spend(1 + named.size*len(name)) {
				return false
			}
			if named.MatchString(name) {
				known = true
				if !m.apply(named.then, v, at) {
					return false
				}
			}
		}
		if next = p.others; next == nil {
			next = p.rest
		}
		if !known && next != nil && !m.apply(next, v, at) {
			return false
		}
	}
	return true
}

func (m *meter) array(p *plan, items []any, at place) bool {
	for i, v := range items {
		if i < len(p.prefix) && !m.apply(p.prefix[i], v, at) {
			return false
		}
		for _, next := range p.items {
			if !m.apply(next, v, at) {
				return false
			}
		}
	}
	return true
}

// countUnits is what it costs to compare v with another value, or to sum it up.
func countUnits(v any) int {
	units := unitsPerStep
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			units += len(name)/unitsPerStep + countUnits(member)
		}
	case []any:
		for _, item := range v {
			units += countUnits(item)
		}
	case string:
		units += len(v) / unitsPerStep
	case json.Number:
		units += unitsPerNumber * (1 + len(v)/unitsPerStep)
	}
	return units
}

// pattern is a regular expression and its size, in instructions: matching takes at
// most that many units for each byte of a text.
type pattern struct {
	*regexp.Regexp
	size int
}

// maxPatternSize bounds one pattern, in instructions: [a-z]{1,1000} has 1,000. Go's
// own bound lets one have 3 million, which fill 128 MiB, and the format "regex" of
// older drafts takes patterns from payloads.
const maxPatternSize = 100_000

var errPatternSize = fmt.Errorf("it is too large: repeat less in it, for it may have %d instructions", maxPatternSize)

// compilePattern is the regexp engine of all schemas.
func compilePattern(text string) (jsonschema.Regexp, error) {
	size := patternSize(text)
	if size > maxPatternSize {
		return nil, errPatternSize
	}
	compiled, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	return &pattern{compiled, size}, nil
}

// patternSize is about how many instructions a pattern becomes; 0 if it is none.
func patternSize(text string) int {
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return 0
	}
	return treeSize(tree)
}

func treeSize(tree *syntax.Regexp) int {
	size := 1
	if tree.Op == syntax.OpLiteral {
		size = len(tree.Rune)
	}
	for _, inner := range tree.Sub {
		size += treeSize(inner)
	}
	if tree.Op == syntax.OpRepeat {
		return (size - 1) * max(tree.Min, tree.Max, 1)
	}
	return size
}

// uniqueItems is the keyword of that name. The library's own takes the square of
// the number of items when they are made for it: [[1],2] and [[1,2]] meet in its table.
type uniqueItems struct{}

// compareItemsOnce lets s compare items as uniqueItems does.
func compareItemsOnce(s *jsonschema.Schema) {
	if s.UniqueItems {
		s.UniqueItems = false
		s.Extensions = append(s.Extensions, uniqueItems{})
	}
}

// Validate finds the first item that equals one before it.
func (uniqueItems) Validate(ctx *jsonschema.ValidatorContext, v any) {
	items, _ := v.([]any)
	places := make(map[string]int, len(items))
	for i, item := range items {
		key := string(appendKey(nil, item))
		if first, twice := places[key]; twice {
			ctx.AddError(&kind.UniqueItems{Duplicates: [2]int{first, i}})
			return
		}
		places[key] = i
	}
}

// appendKey appends a text that equal values share, and no others.
func appendKey(key []byte, v any) []byte {
	switch v := v.(type) {
	case map[string]any:
		key = append(key, '{')
		for _, name := range slices.Sorted(maps.Keys(v)) {
			key = append(strconv.AppendQuote(key, name), ':')
			key = append(appendKey(key, v[name]), ',')
		}
		return append(key, '}')
	case []any:
		key = append(key, '[')
		for _, item := range v {
			key = append(appendKey(key, item), ',')
		}
		return append(key, ']')
	case string:
		return strconv.AppendQuote(key, v)
	case json.Number:
		exact, _ := new(big.Rat).SetString(string(v)) // readJSON took it
		return append(key, exact.String()...)
	default:
		return fmt.Append(key, v)
	}
}
