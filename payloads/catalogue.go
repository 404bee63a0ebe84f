package payloads

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
)

// SuccessRule says which answers of a partner's endpoint count as delivered.
type SuccessRule string

const (
	// JSON200Or204 is status 204, or 200 with the media type application/json:
	// the rule the payment proof contract words, and the default everywhere.
	JSON200Or204 SuccessRule = "json_200_or_204"
	// Any2xx is any status from 200 to 299.
	Any2xx SuccessRule = "any_2xx"
	// AnyResponse is any HTTP answer at all, 410 and 500 included; for
	// callbacks that merely inform. No answer is still a failure.
	AnyResponse SuccessRule = "any_response"
)

// Valid reports whether r is one of the rules above. The empty rule is not:
// where it is allowed, it stands for the callback type's default.
func (r SuccessRule) Valid() bool {
	return r == JSON200Or204 || r == Any2xx || r == AnyResponse
}

// Validation says what becomes of a payload that does not fit its type's schema.
type Validation string

const (
	// Enforce refuses it.
	Enforce Validation = "enforce"
	// Warn lets it pass and says what does not fit: for a type whose producers
	// are still being brought in line.
	Warn Validation = "warn"
)

// Valid reports whether v is one of the values above. The empty one is not: where
// it is allowed, it stands for Enforce.
func (v Validation) Valid() bool { return v == Enforce || v == Warn }

// Type is one callback type: what its payloads look like and how callbacks pick
// among them. Its JSON is that of the API's PUT /callback-types/{name}, and of a
// type in the files of contracts/: all but the name. Fill one in and hand it to
// [NewCatalogue]; a Type that comes out of a [Catalogue] is complete, shared and
// must not be changed.
type Type struct {
	// Name is what callbacks and events call it: 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..
	Name string `json:"-"`

	// Description is one paragraph for people: when does such an event happen?
	Description string `json:"description,omitempty"`

	// Schema is the JSON Schema (2020-12) a payload must fit. Formats such as
	// date-time are notes, not checks. References to other documents are
	// refused, and so are $dynamicRef and chains of references without an end in
	// sight. Empty: any JSON will do.
	//
	// A schema has 256 KiB, 64 levels, 2,000 objects (true and false count as such)
	// and 20,000 values at most. The JSON Pointer to each object has 4,096 bytes, and
	// the regular expressions together have 200,000 instructions, at most.
	//
	// If the schema refers back to itself, a payload nests 128 levels deep at most.
	// Checking a payload takes 1,000,000 steps at most: a step is one schema that is
	// applied to one value. What would take more is refused.
	Schema json.RawMessage `json:"schema,omitempty"`

	// Example is a payload that fits Schema: what documentation shows and a
	// test delivery sends. Empty: none.
	Example json.RawMessage `json:"example,omitempty"`

	// Match names the attributes callbacks may narrow their match by, each with
	// the JSON Pointer (RFC 6901) to it in the payload:
	// campaign_token -> /wallet_campaign/token. Empty: callbacks of this type
	// match every event of it.
	Match map[string]string `json:"match,omitempty"`

	// MatchBlocks are the names under which a registration may give its match,
	// {"wallet_item_install": {"campaign_token": "r3zhm8"}}. Empty: the type's
	// name alone, which NewCatalogue then fills in.
	MatchBlocks []string `json:"match_blocks,omitempty"`

	// Success is the rule of callbacks that do not choose their own.
	// Empty: JSON200Or204, which NewCatalogue then fills in.
	Success SuccessRule `json:"success,omitempty"`

	// Validation says what becomes of payloads that do not fit Schema.
	// Empty: Enforce, which NewCatalogue then fills in.
	Validation Validation `json:"validation,omitempty"`

	// Stamp is the JSON Pointer to the member that holds the time at which the
	// payload was sent, "/timeOfIssue": it is written anew on every attempt, see
	// [Type.Stamped]. Its path leads through objects only. Empty: none, and the
	// payload goes out as it came.
	Stamp string `json:"stamp,omitempty"`

	// Synchronous types are asked, not sent: the caller waits for the decision
	// of the company's one callback, and nothing is queued or repeated.
	Synchronous bool `json:"synchronous,omitempty"`

	// Operational types are sent by Ringback itself, about its own work: it takes
	// none of them from anybody.
	Operational bool `json:"operational,omitempty"`

	schema     *schema     // nil: any JSON will do
	attributes []attribute // of Match, by name
	stamp      []string    // Stamp's reference tokens; nil: none
}

// Catalogue is an immutable set of callback types; it may be used by many
// goroutines at once.
type Catalogue struct {
	types  []*Type // by name
	byName map[string]*Type
}

// NewCatalogue checks and compiles the types. It takes copies, so what was handed
// over may be reused. A type that is not sound gives an *InvalidError whose
// locations are those of the API's PUT /callback-types/{name}: "body.schema",
// "body.match.campaign_token".
func NewCatalogue(types ...Type) (*Catalogue, error) {
	c := &Catalogue{byName: make(map[string]*Type, len(types))}
	for _, t := range types {
		if err := c.add(t); err != nil {
			return nil, err
		}
	}
	c.sort()
	return c, nil
}

func (c *Catalogue) add(t Type) error {
	if _, twice := c.byName[t.Name]; twice {
		return invalid("path.name", fmt.Sprintf("names two types (%q): rename one", t.Name))
	}
	compiled, err := compile(t, newSchemas)
	if err != nil {
		return err
	}
	c.types = append(c.types, compiled)
	c.byName[t.Name] = compiled
	return nil
}

func (c *Catalogue) sort() {
	slices.SortFunc(c.types, func(a, b *Type) int { return strings.Compare(a.Name, b.Name) })
}

// Lookup finds a type by its name.
func (c *Catalogue) Lookup(name string) (*Type, bool) {
	t, ok := c.byName[name]
	return t, ok
}

// Types lists all types by name.
func (c *Catalogue) Types() []*Type { return slices.Clone(c.types) }

// With returns a catalogue of c's types and t, which takes the place of the one
// that has its name. c stays as it is. Errors are those of [NewCatalogue].
func (c *Catalogue) With(t Type) (*Catalogue, error) {
	compiled, err := compile(t, newSchemas)
	if err != nil {
		return nil, err
	}
	return c.And(compiled), nil
}

// Keep compiles a type that was taken before. Its schema may be larger than those of
// new types: it has 256 levels at most.
func Keep(t Type) (*Type, error) { return compile(t, keptSchemas) }

// And returns a catalogue of c's types and others, which come out of another
// Catalogue or out of [Keep]. They take the place of those that have their names. c
// stays as it is.
func (c *Catalogue) And(others ...*Type) *Catalogue {
	next := &Catalogue{byName: maps.Clone(c.byName)}
	for _, t := range others {
		next.byName[t.Name] = t
	}
	next.types = slices.Collect(maps.Values(next.byName))
	next.sort()
	return next
}

// compile makes a complete Type of one that was filled in.
func compile(t Type, bounds schemaBounds) (*Type, error) {
	if !ValidTypeName(t.Name) {
		return nil, &InvalidError{Fields: []FieldError{{Location: "path.name", Message: namesRule, Value: short(t.Name)}}}
	}
	if t.Success == "" {
		t.Success = JSON200Or204
	}
	if !t.Success.Valid() {
		return nil, invalid("body.success", fmt.Sprintf("must be %s, %s or %s", JSON200Or204, Any2xx, AnyResponse))
	}
	if t.Validation == "" {
		t.Validation = Enforce
	}
	if !t.Validation.Valid() {
		return nil, invalid("body.validation", fmt.Sprintf("must be %s or %s", Enforce, Warn))
	}
	t.Schema, t.Example = slices.Clone(t.Schema), slices.Clone(t.Example)
	t.Match, t.MatchBlocks = maps.Clone(t.Match), slices.Clone(t.MatchBlocks)
	if len(t.MatchBlocks) == 0 {
		t.MatchBlocks = []string{t.Name}
	}
	var err error
	if t.attributes, err = compileAttributes(t.Match); err != nil {
		return nil, err
	}
	if t.stamp, err = compileStamp(t.Stamp); err != nil {
		return nil, err
	}
	if t.schema, err = compileSchema(t.Name, t.Schema, bounds); err != nil {
		return nil, err
	}
	return &t, checkExample(&t)
}

// checkExample makes sure that what a type shows is what it accepts.
func checkExample(t *Type) error {
	if len(t.Example) == 0 {
		return nil
	}
	_, err := t.check(t.Example, "body.example")
	return err
}

//go:embed contracts/*.json
var contractFiles embed.FS

// Builtin is the catalogue Ringback ships with: the types of all contracts, one
// file of contracts/ each. It is read on first use and shared afterwards.
func Builtin() *Catalogue { return builtin() }

var builtin = sync.OnceValue(func() *Catalogue {
	c, err := loadContracts()
	if err != nil {
		panic("payloads: the embedded contracts are broken: " + err.Error()) // a test reads them all
	}
	return c
})

// contract is a file of contracts/: what one provider's document agrees on.
type contract struct {
	Description string          `json:"description"`
	Types       map[string]Type `json:"types"` // by name
}

func loadContracts() (*Catalogue, error) {
	files, err := contractFiles.ReadDir("contracts")
	if err != nil {
		return nil, err
	}
	c := &Catalogue{byName: map[string]*Type{}}
	for _, f := range files {
		text, err := contractFiles.ReadFile(path.Join("contracts", f.Name()))
		if err != nil {
			return nil, err
		}
		types, err := parseContract(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name(), err)
		}
		for _, t := range types {
			if err := c.add(t); err != nil {
				return nil, fmt.Errorf("%s: %s: %w", f.Name(), t.Name, err)
			}
		}
	}
	c.sort()
	return c, nil
}

func parseContract(text []byte) ([]Type, error) {
	var c contract
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&c); err != nil {
		return nil, err
	}
	var types []Type
	for _, name := range slices.Sorted(maps.Keys(c.Types)) {
		t := c.Types[name]
		t.Name, t.Schema, t.Example = name, compact(t.Schema), compact(t.Example)
		types = append(types, t)
	}
	return types, nil
}

// compact drops the spaces that only make a contract file pleasant to read.
func compact(text json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, text) != nil {
		return text // absent
	}
	return b.Bytes()
}
