package payloads_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func keyFor(t *testing.T, pointer string) *payloads.Key {
	k, err := payloads.ParseKey(pointer, "body.ordering.key")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeysOfPayloads: equal values have one name, however they are written, and others have another; what is no string, number, true or false has none.
func TestKeysOfPayloads(t *testing.T) {
	k := keyFor(t, "/customer/id")
	of := func(value string) string {
		return k.Of(payloads.ReadDocument(json.RawMessage(`{"customer":{"id":` + value + `},"other":1}`)))
	}
	for _, same := range [][]string{
		{`"c-1"`, `"c\u002d1"`}, {`1`, `1.0`, `10e-1`, `0.1E1`}, {`0`, `-0`, `0.00`}, {`9007199254740993`, `9007199254740993.0`}, {`true`}, {`""`},
	} {
		for _, value := range same {
			if of(value) != of(same[0]) || len(of(value)) != 16 {
				t.Errorf("%s is %q, and %s is %q", value, of(value), same[0], of(same[0]))
			}
		}
	}
	seen := map[string]string{}
	for _, value := range []string{`"1"`, `1`, `-1`, `10`, `true`, `"true"`, `false`, `9007199254740993`, `9007199254740992`, `""`, `"a"`, `"A"`} {
		if other, twice := seen[of(value)]; twice {
			t.Errorf("%s has the name of %s", value, other)
		}
		seen[of(value)] = value
	}
	for _, value := range []string{`null`, `{}`, `[1]`} {
		if of(value) != "" {
			t.Errorf("%s is a key: %q", value, of(value))
		}
	}
	for _, payload := range []string{`{}`, `{"customer":7}`, `[]`, `no JSON`} {
		if got := k.Of(payloads.ReadDocument(json.RawMessage(payload))); got != "" {
			t.Errorf("%s has a key: %q", payload, got)
		}
	}
	doc := payloads.ReadDocument(json.RawMessage(`{"customer":{"id":1},"a":1}`))
	if k.Of(doc) == keyFor(t, "/a").Of(doc) {
		t.Error("two places have one name")
	}
}

// TestKeysAreChecked: the pointer, and what the schemas of types have there.
func TestKeysAreChecked(t *testing.T) {
	for _, pointer := range []string{"", "customerId", "/a~2", "/" + strings.Repeat("x", 600)} {
		if _, err := payloads.ParseKey(pointer, "body.ordering.key"); err == nil || !strings.Contains(err.Error(), "body.ordering.key") {
			t.Errorf("%q: %v", pointer, err)
		}
	}
	typ := func(name, schema string, v payloads.Validation) *payloads.Type {
		c, err := payloads.NewCatalogue(payloads.Type{Name: name, Schema: json.RawMessage(schema), Validation: v})
		if err != nil {
			t.Fatal(err)
		}
		typ, _ := c.Lookup(name)
		return typ
	}
	strict := `{"type":"object","properties":{"id":{"type":"string"},"list":{"type":"array"},"any":{}},"additionalProperties":false}`
	paid, loose, free := typ("paid", strict, ""), typ("loose", strict, payloads.Warn), typ("free", `{}`, "")
	for _, tt := range []struct {
		pointer string
		types   []*payloads.Type
		want    string
	}{
		{"/id", []*payloads.Type{paid}, ""},
		{"/any/x", []*payloads.Type{paid}, ""},
		{"/list/0", []*payloads.Type{paid}, ""},
		{"/other", []*payloads.Type{paid}, "leads nowhere: the schema of paid"},
		{"/list", []*payloads.Type{paid}, "allows none of them there"},
		{"/other", []*payloads.Type{loose}, ""},
		{"/other", []*payloads.Type{paid, free}, ""},
		{"/other", []*payloads.Type{paid, paid}, "nor does that of the other type"},
		{"/other", nil, ""},
	} {
		fields := keyFor(t, tt.pointer).Check(tt.types, "body.ordering.key")
		if (tt.want == "") != (len(fields) == 0) || tt.want != "" && (len(fields) != 1 || !strings.Contains(fields[0].Message, tt.want)) {
			t.Errorf("%s of %d types: %v, want %q", tt.pointer, len(tt.types), fields, tt.want)
		}
	}
}
