package payloads_test

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ringback/ringback/payloads"
)

func builtin(t testing.TB, name string) *payloads.Type {
	t.Helper()
	typ, ok := payloads.Builtin().Lookup(name)
	if !ok {
		t.Fatalf("no type %s in the built-in catalogue", name)
	}
	return typ
}

// custom is a catalogue's one type with this schema and match.
func custom(t testing.TB, schema string, match map[string]string) *payloads.Type {
	t.Helper()
	c, err := payloads.NewCatalogue(payloads.Type{Name: "custom", Schema: json.RawMessage(schema), Match: match})
	if err != nil {
		t.Fatal(err)
	}
	return c.Types()[0]
}

// fields are an *InvalidError's fields; any other error fails the test.
func fields(t testing.TB, err error) []payloads.FieldError {
	t.Helper()
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*payloads.InvalidError](err)
	if !ok {
		t.Fatalf("error is a %T, not an *InvalidError: %v", err, err)
	}
	if len(e.Fields) == 0 {
		t.Fatal("an InvalidError without fields")
	}
	return e.Fields
}

// wantField fails unless err names exactly the location, with words in its message.
func wantField(t testing.TB, err error, location, words string) {
	t.Helper()
	got := fields(t, err)
	if len(got) != 1 || got[0].Location != location || !strings.Contains(got[0].Message, words) {
		t.Errorf("got %v\nwant one field %s saying %q", got, location, words)
	}
}

func TestBuiltinCatalogue(t *testing.T) {
	wallet := payloads.Type{Match: map[string]string{"campaign_token": "/wallet_campaign/token"}, MatchBlocks: []string{"wallet_item_install", "wallet_item_remove"}}
	want := map[string]payloads.Type{
		"wallet_item_install": wallet,
		"wallet_item_remove":  wallet,

		"payment_proof": {},

		"customer.updated":                        {},
		"customer.deleted":                        {},
		"customer.registered":                     {},
		"customer.deactivated":                    {},
		"customer.level_changed_automatically":    {},
		"customer.level_changed":                  {},
		"customer.bought_campaign":                {},
		"transaction.registered":                  {},
		"transaction.assigned_to_customer":        {},
		"account.available_points_amount_changed": {},
		"account.expiring_points_notification":    {},
		"account.points_transfer":                 {},

		"entry_code.validation_failed": {Stamp: "/timeOfIssue"},
		"entry_code.verify":            {Synchronous: true},
		"customer.created_or_updated":  {Success: payloads.AnyResponse},

		"callback.failing":  {Operational: true},
		"callback.disabled": {Operational: true},

		"callback.certificate_expiring": {Operational: true},
	}
	for name, want := range want {
		typ := builtin(t, name)
		want.Success, want.Validation = cmp.Or(want.Success, payloads.JSON200Or204), payloads.Enforce
		if want.MatchBlocks == nil {
			want.MatchBlocks = []string{name}
		}
		got := payloads.Type{
			Match: typ.Match, MatchBlocks: typ.MatchBlocks, Success: typ.Success, Validation: typ.Validation, Stamp: typ.Stamp, Synchronous: typ.Synchronous,
			Operational: typ.Operational,
		}
		if diff := gocmp.Diff(want, got, cmpopts.IgnoreUnexported(payloads.Type{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestContractsAreWhole holds what every contract's types have, those to come as well.
func TestContractsAreWhole(t *testing.T) {
	for _, typ := range payloads.Builtin().Types() {
		t.Run(typ.Name, func(t *testing.T) {
			if typ.Description == "" || len(typ.Example) == 0 || len(typ.Schema) == 0 {
				t.Error("a built-in type needs a description, a schema and an example")
			}
			var schema struct {
				Dialect string `json:"$schema"`
				Title   string `json:"title"`
			}
			if err := json.Unmarshal(typ.Schema, &schema); err != nil || schema.Title != typ.Name || schema.Dialect != "https://json-schema.org/draft/2020-12/schema" {
				t.Errorf("the schema is titled %q and of the dialect %q (%v)", schema.Title, schema.Dialect, err)
			}
			if found, ok := payloads.Builtin().Lookup(typ.Name); !ok || found != typ {
				t.Error("Lookup and Types differ")
			}
		})
	}
}

func TestLookupUnknown(t *testing.T) {
	for _, name := range []string{"", "nope", "wallet_item_*", "WALLET_ITEM_INSTALL"} {
		if typ, ok := payloads.Builtin().Lookup(name); ok || typ != nil {
			t.Errorf("Lookup(%q) found %v", name, typ)
		}
	}
}

func TestTypesIsTheCallersOwn(t *testing.T) {
	types := payloads.Builtin().Types()
	slices.Reverse(types)
	types[0] = nil
	if payloads.Builtin().Types()[0] == nil {
		t.Error("changing what Types returned changed the catalogue")
	}
	if !slices.IsSortedFunc(payloads.Builtin().Types(), func(a, b *payloads.Type) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not sorted by name")
	}
}

func TestNewCatalogueTakesCopiesAndFillsDefaults(t *testing.T) {
	given := payloads.Type{
		Name:    "a.b-c_D",
		Example: json.RawMessage(`{"n":1}`),
		Match:   map[string]string{"n": "/n"},
	}
	c, err := payloads.NewCatalogue(given)
	if err != nil {
		t.Fatal(err)
	}
	given.Match["n"] = "/other"
	given.Example[2] = 'x'
	typ := c.Types()[0]
	if typ.Success != payloads.JSON200Or204 || !slices.Equal(typ.MatchBlocks, []string{"a.b-c_D"}) {
		t.Errorf("defaults: success %q, match blocks %q", typ.Success, typ.MatchBlocks)
	}
	if typ.Match["n"] != "/n" || string(typ.Example) != `{"n":1}` {
		t.Errorf("the catalogue shares what it was given: %v %s", typ.Match, typ.Example)
	}
	if empty, err := payloads.NewCatalogue(); err != nil || len(empty.Types()) != 0 {
		t.Errorf("an empty catalogue: %v, %v", empty, err)
	}
}

func TestNewCatalogueRefuses(t *testing.T) {
	raw := func(s string) json.RawMessage { return json.RawMessage(s) }
	tests := []struct {
		what            string
		typ             payloads.Type
		location, words string
	}{
		{"no name", payloads.Type{}, "path.name", "1 to 64"},
		{"a glob for a name", payloads.Type{Name: "wallet.*"}, "path.name", "A-Z"},
		{"an unknown success rule", payloads.Type{Name: "x", Success: "maybe"}, "body.success", "any_2xx"},
		{"a schema that is not JSON", payloads.Type{Name: "x", Schema: raw(`{"type": "object",}`)}, "body.schema", "is not valid JSON at byte 19"},
		{"a schema with an unknown type", payloads.Type{Name: "x", Schema: raw(`{"type": "strnig"}`)}, "body.schema", "type"},
		{"a schema with a broken pattern", payloads.Type{Name: "x", Schema: raw(`{"pattern": "("}`)}, "body.schema", "regex"},
		{"a schema that is a string", payloads.Type{Name: "x", Schema: raw(`"object"`)}, "body.schema", "JSON Schema"},
		{"a schema that reads a file", payloads.Type{Name: "x", Schema: raw(`{"$ref": "file:///etc/hosts"}`)}, "body.schema", "$defs"},
		{"a schema that calls the network", payloads.Type{Name: "x", Schema: raw(`{"$ref": "http://127.0.0.1:1/schema"}`)}, "body.schema", "$defs"},
		{"a schema that names a sibling", payloads.Type{Name: "x", Schema: raw(`{"$ref": "other"}`)}, "body.schema", "$defs"},
		{"a schema with a dangling reference", payloads.Type{Name: "x", Schema: raw(`{"$ref": "#/$defs/nope"}`)}, "body.schema", "nope"},
		{"an example that does not fit", payloads.Type{Name: "x", Schema: raw(`{"required": ["id"]}`), Example: raw(`{}`)}, "body.example.id", "is missing"},
		{"an example that is not JSON", payloads.Type{Name: "x", Example: raw(`NULL`)}, "body.example", "not valid JSON"},
		{"a pointer without a slash", payloads.Type{Name: "x", Match: map[string]string{"token": "token"}}, "body.match.token", "JSON Pointer"},
		{"a pointer to everything", payloads.Type{Name: "x", Match: map[string]string{"token": ""}}, "body.match.token", "JSON Pointer"},
		{"a pointer with a broken escape", payloads.Type{Name: "x", Match: map[string]string{"token": "/a~2"}}, "body.match.token", "~0"},
		{"an attribute no block could name", payloads.Type{Name: "x", Match: map[string]string{"a b": "/a"}}, `body.match["a b"]`, "attribute"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			c, err := payloads.NewCatalogue(tt.typ)
			if c != nil || err == nil {
				t.Fatal("accepted")
			}
			wantField(t, err, tt.location, tt.words)
		})
	}
	t.Run("one name twice", func(t *testing.T) {
		_, err := payloads.NewCatalogue(payloads.Type{Name: "x"}, payloads.Type{Name: "x"})
		wantField(t, err, "path.name", "two types")
	})
}

func TestSuccessRuleValid(t *testing.T) {
	for rule, want := range map[payloads.SuccessRule]bool{
		"json_200_or_204": true, "any_2xx": true, "any_response": true, "": false, "ANY_2XX": false, "any": false,
	} {
		if rule.Valid() != want {
			t.Errorf("SuccessRule(%q).Valid() is %t", rule, !want)
		}
	}
}

func TestMatchGlob(t *testing.T) {
	long := strings.Repeat("a", 64)
	tests := []struct {
		glob, name string
		want       bool
	}{
		{"*", "", true},
		{"*", "customer.updated", true},
		{"customer.*", "customer.updated", true},
		{"customer.*", "customer.", true},
		{"customer.*", "customer", false},
		{"customer.*", "xcustomer.updated", false},
		{"*.updated", "customer.updated", true},
		{"*.updated", "customer.updated.x", false},
		{"customer.*.changed", "customer.level.changed", true},
		{"customer.*.changed", "customer.changed", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"*ab", "aab", true},
		{"a*b*c", "abbc", true},
		{"**", "x", true},
		{"wallet_item_install", "wallet_item_install", true},
		{"wallet_item_install", "wallet_item_install2", false},
		{"Customer.*", "customer.updated", false},
		{"customer.?", "customer.x", false},
		{"[a-z]*", "a", false},
		{"", "", true},
		{"", "x", false},
		{strings.Repeat("*a", 31) + "*b", long, false},
		{strings.Repeat("*a", 32), long, true},
	}
	for _, tt := range tests {
		if got := payloads.MatchGlob(tt.glob, tt.name); got != tt.want {
			t.Errorf("MatchGlob(%q, %q) = %t", tt.glob, tt.name, got)
		}
	}
	if payloads.IsGlob("customer.updated") || !payloads.IsGlob("customer.*") || !payloads.IsGlob("*") {
		t.Error("IsGlob")
	}
}

// A Type that was filled in but not compiled must not pass for one that checks.
func TestCheckOfATypeOutsideACatalogue(t *testing.T) {
	typ := payloads.Type{Name: "x", Schema: json.RawMessage(`{"type": "string"}`)}
	if _, err := typ.Check(json.RawMessage(`"fits"`)); err == nil || !strings.Contains(err.Error(), "Catalogue") {
		t.Errorf("got %v", err)
	}
}

func ExampleBuiltin() {
	typ, _ := payloads.Builtin().Lookup("wallet_item_install")
	fmt.Println(typ.Name, typ.Success, typ.Match)
	// Output: wallet_item_install json_200_or_204 map[campaign_token:/wallet_campaign/token]
}
