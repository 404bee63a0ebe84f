package payloads_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

// stamping is a type that stamps at the pointer.
func stamping(t testing.TB, pointer string) *payloads.Type {
	t.Helper()
	c, err := payloads.NewCatalogue(payloads.Type{Name: "custom", Stamp: pointer})
	if err != nil {
		t.Fatal(err)
	}
	return c.Types()[0]
}

func TestStamped(t *testing.T) {
	at := time.Date(2026, 1, 31, 23, 59, 59, 1_999_999, time.FixedZone("", 3600))
	const now = `"2026-01-31T22:59:59.001Z"`
	for _, tt := range []struct{ what, pointer, payload, want string }{
		{"all else byte for byte", "/t", "{ \"b\":1.0,\r\n\t\"t\" :\t\"2019\" , \"a\":\"\\u00e9<>&\" }\n", "{ \"b\":1.0,\r\n\t\"t\" :\t" + now + " , \"a\":\"\\u00e9<>&\" }\n"},
		{"whatever stood there", "/t", `{"t":{"t":[1]},"u":null}`, `{"t":` + now + `,"u":null}`},
		{"added at the end", "/t", "{\"a\":{\"t\":1}\n}\n", "{\"a\":{\"t\":1}\n,\"t\":" + now + "}\n"},
		{"added to nothing", "/t", `{ }`, `{ "t":` + now + `}`},
		{"wherever the name stands", "/t", `{"t":1,"\u0074":2}`, `{"t":` + now + `,"\u0074":` + now + `}`},
		{"further in", "/a/t", `{"t":1,"a":{"t":2,"a":3}}`, `{"t":1,"a":{"t":` + now + `,"a":3}}`},
		{"added further in", "/a/t", `{"a":{},"t":1}`, `{"a":{"t":` + now + `},"t":1}`},
		{"a name with escapes", "/a~1b~0\"", `{"a/b~\"":1}`, `{"a/b~\"":` + now + `}`},
		{"halves of pairs stay", "/a/t", `{"\ud800":"\udfff","a":{"x":"\ud83d","t":1}}`, `{"\ud800":"\udfff","a":{"x":"\ud83d","t":` + now + `}}`},
		{"and are no other name", "/\ufffd", `{"\ud800":1}`, `{"\ud800":1,"` + "\ufffd" + `":` + now + `}`},
		{"no stamp", "", `{"t":1}`, `{"t":1}`},
		{"no object", "/t", `[1]`, `[1]`},
		{"no object on the way", "/a/t", `{"a":1,"b":2}`, `{"a":1,"b":2}`},
	} {
		t.Run(tt.what, func(t *testing.T) {
			before := tt.payload
			got := stamping(t, tt.pointer).Stamped(json.RawMessage(tt.payload), at)
			if string(got) != tt.want || tt.payload != before {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

// A payload that has no place for the stamp is refused where it comes in.
func TestCheckWantsAPlaceForTheStamp(t *testing.T) {
	deep := stamping(t, "/a/b/t")
	for _, ok := range []string{`{"a":{"b":{}}}`, `{"a":{"b":{"t":1}}}`} {
		if _, err := deep.Check(json.RawMessage(ok)); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for payload, location := range map[string]string{
		`[]`: "body.payload", `{}`: "body.payload.a", `{"a":{}}`: "body.payload.a.b", `{"a":{"b":[]}}`: "body.payload.a.b",
	} {
		_, err := deep.Check(json.RawMessage(payload))
		wantField(t, err, location, "must be an object: the time of sending")
	}
	_, err := payloads.NewCatalogue(payloads.Type{Name: "custom", Stamp: "timeOfIssue"})
	wantField(t, err, "body.stamp", "JSON Pointer")
}

// Whatever is stamped stays JSON of the same members, and stamping twice is stamping once.
func FuzzStamped(f *testing.F) {
	seedPayloads(f, func(payload []byte) { f.Add(payload) })
	types := []*payloads.Type{stamping(f, "/timeOfIssue"), stamping(f, "/wallet_item/tokens/first_name"), stamping(f, "/")}
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, typ := range types {
			if _, err := typ.Check(payload); err != nil {
				continue
			}
			once := typ.Stamped(payload, at)
			if !json.Valid(once) {
				t.Fatalf("%q became %q", payload, once)
			}
			if twice := typ.Stamped(once, at); string(twice) != string(once) {
				t.Fatalf("%q, and again %q", once, twice)
			}
			if later := typ.Stamped(once, at.Add(time.Second)); len(later) != len(once) || string(later) == string(once) {
				t.Fatalf("%q, and later %q", once, later)
			}
		}
	})
}
