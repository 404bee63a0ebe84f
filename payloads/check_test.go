package payloads_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/payloads"
)

func TestCheckExtractsTheCampaignToken(t *testing.T) {
	want := map[string]string{"campaign_token": "r3zhm8"}
	for _, name := range []string{"wallet_item_install", "wallet_item_remove"} {
		typ := builtin(t, name)
		got, err := typ.Check(typ.Example)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	proof := builtin(t, "payment_proof")
	if got, err := proof.Check(proof.Example); err != nil || got != nil {
		t.Errorf("payment_proof: attributes %v, error %v", got, err)
	}
}

// edited is the type's example with one edit.
func edited(t *testing.T, name, old, replacement string) json.RawMessage {
	t.Helper()
	example := string(builtin(t, name).Example)
	if !strings.Contains(example, old) {
		t.Fatalf("%s is not in the example of %s", old, name)
	}
	return json.RawMessage(strings.Replace(example, old, replacement, 1))
}

func TestCheckNamesTheFieldAndTheRemedy(t *testing.T) {
	tests := []struct {
		typ, old, replacement string
		location, message     string
	}{
		{"wallet_item_install", `"token":"r3zhm8",`, ``, "body.payload.wallet_campaign.token", "is missing: wallet_item_install needs it"},
		{"wallet_item_remove", `"token":"r3zhm8",`, ``, "body.payload.wallet_campaign.token", "is missing: wallet_item_remove needs it"},
		{"wallet_item_install", `"token":"r3zhm8"`, `"token":17`, "body.payload.wallet_campaign.token", "must be a string, but is a number"},
		{"wallet_item_install", `"token":"r3zhm8"`, `"token":null`, "body.payload.wallet_campaign.token", "must be a string, but is null"},
		{"wallet_item_remove", `"wallet_campaign":`, `"campaign":`, "body.payload.wallet_campaign", "is missing: wallet_item_remove needs it"},
		{"wallet_item_remove", `"wallet_item":{`, `"item":{`, "body.payload.wallet_item", "is missing: wallet_item_remove needs it"},
		{"wallet_item_remove", `"wallet_instance":{`, `"instance":{`, "body.payload.wallet_instance", "is missing: wallet_item_remove needs it"},
		{"wallet_item_install", `"unregistered_at":null`, `"unregistered_at":false`, "body.payload.wallet_instance.unregistered_at", "must be a string or null, but is a boolean"},
		{"wallet_item_install", `{"first_name":"Calrissian"}`, `["Calrissian"]`, "body.payload.wallet_item.tokens", "must be an object or null, but is an array"},
		{"payment_proof", `"$1,962.36"`, `1962.36`, "body.payload.totalCfdi", "must be a string or null, but is a number"},
		{"payment_proof", `"status":"OK"`, `"state":"OK"`, "body.payload.status", "is missing: payment_proof needs it"},
		{"payment_proof", `"requestId"`, `"RequestId"`, "body.payload.requestId", "is missing: payment_proof needs it"},
	}
	for _, tt := range tests {
		t.Run(tt.typ+" "+tt.location, func(t *testing.T) {
			attrs, err := builtin(t, tt.typ).Check(edited(t, tt.typ, tt.old, tt.replacement))
			if attrs != nil {
				t.Errorf("attributes %v of a payload that does not fit", attrs)
			}
			want := []payloads.FieldError{{Location: tt.location, Message: tt.message}}
			if diff := cmp.Diff(want, fields(t, err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestCheckIsAsLenientAsTheContracts(t *testing.T) {
	tests := []struct{ what, typ, old, replacement string }{
		{"a date without seconds", "wallet_item_install", "2018-05-07T15:27:33.664Z", "2017-01-14T14:30Z"},
		{"a date with an offset", "wallet_item_install", "2018-05-07T15:27:33.664Z", "2019-08-09T14:08:28+02:00"},
		{"a date without a zone", "payment_proof", "2021-06-19T12:33:20", "2021-06-19T12:33"},
		{"an unknown field", "payment_proof", `"status"`, `"extra":{"a":[1,2]},"status"`},
		{"an unknown field inside", "wallet_item_remove", `"provider"`, `"device":"x","provider"`},
		{"null for what is not known", "payment_proof", `"MBS42143234"`, `null`},
		{"a remove without a date", "wallet_item_remove", `"2018-01-14T14:30Z"`, `null`},
		{"escapes and spaces", "payment_proof", `"Nómina"`, "  \"N\\u00f3mina\"\r\n\t"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			if _, err := builtin(t, tt.typ).Check(edited(t, tt.typ, tt.old, tt.replacement)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCheckReportsEveryFieldInOrder(t *testing.T) {
	_, err := builtin(t, "wallet_item_install").Check(json.RawMessage(`{"event_id": 5, "wallet_campaign": {"token": []}}`))
	const want = "body.payload.event_id must be a string, but is a number; " +
		"body.payload.wallet_campaign.token must be a string, but is an array; " +
		"body.payload.wallet_instance is missing: wallet_item_install needs it; " +
		"body.payload.wallet_item is missing: wallet_item_install needs it"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCheckBoundsWhatItReports(t *testing.T) {
	typ := custom(t, `{"items": {"type": "string"}}`, nil)
	_, err := typ.Check(json.RawMessage("[" + strings.Repeat("1,", 999) + "1]"))
	got := fields(t, err)
	if len(got) != 17 || got[16].Message != "has 984 more faults" {
		t.Errorf("%d fields, the last %v", len(got), got[len(got)-1])
	}
}

func TestCheckWordsEachKeyword(t *testing.T) {
	tests := []struct{ schema, payload, location, words string }{
		{`{"enum": ["a", "b"]}`, `"c"`, "body.payload", `must be one of "a", "b"`},
		{`{"const": "a"}`, `"c"`, "body.payload", `must be "a"`},
		{`{"pattern": "^[a-z]+$"}`, `"C"`, "body.payload", `must match the pattern ^[a-z]+$`},
		{`{"minimum": 2}`, `1`, "body.payload", "must be at least 2"},
		{`{"maximum": 2.5}`, `3`, "body.payload", "must be at most 2.5"},
		{`{"exclusiveMaximum": 3}`, `3`, "body.payload", `"exclusiveMaximum"`},
		{`{"multipleOf": 2}`, `3`, "body.payload", `"multipleOf"`},
		{`{"type": "integer"}`, `1.5`, "body.payload", "must be an integer, but is a number"},
		{`{"minLength": 2}`, `"é"`, "body.payload", "at least 2 characters, but has 1"},
		{`{"maxLength": 2}`, `"abc"`, "body.payload", "at most 2 characters, but has 3"},
		{`{"minItems": 2}`, `[]`, "body.payload", "at least 2 items, but has 0"},
		{`{"maxItems": 1}`, `[1,2]`, "body.payload", "at most 1 items, but has 2"},
		{`{"uniqueItems": true}`, `[1,1]`, "body.payload", `"uniqueItems"`},
		{`{"contains": {"type": "string"}}`, `[1]`, "body.payload", `"contains"`},
		{`{"minProperties": 1}`, `{}`, "body.payload", `"minProperties"`},
		{`{"propertyNames": {"maxLength": 1}}`, `{"ab": 1}`, "body.payload", `"propertyNames"`},
		{`{"additionalProperties": false}`, `{"a": 1}`, "body.payload.a", "is not a field of custom: leave it out"},
		{`{"dependentRequired": {"a": ["b"]}}`, `{"a": 1}`, "body.payload.b", `is missing: it must come with "a"`},
		{`{"properties": {"a": false}}`, `{"a": 1}`, "body.payload.a", "must not be there: leave it out"},
		{`{"anyOf": [{"type": "string"}, {"type": "null"}]}`, `1`, "body.payload", "fits none of the forms"},
		{`{"oneOf": [{"type": "number"}, {"minimum": 0}]}`, `1`, "body.payload", "exactly one of the forms"},
		{`{"not": {"type": "number"}}`, `1`, "body.payload", "excludes"},
		{`{"allOf": [{"type": "string"}]}`, `1`, "body.payload", "must be a string"},
		{`{"$defs": {"s": {"type": "string"}}, "items": {"$ref": "#/$defs/s"}}`, `["a", 1]`, "body.payload[1]", "must be a string"},
		{`{"properties": {"a": {"items": {"required": ["x.y"]}}}}`, `{"a": [{"x.y": 1}, {}]}`, `body.payload.a[1]["x.y"]`, "is missing"},
		{`false`, `1`, "body.payload", "must not be there"},
	}
	for _, tt := range tests {
		t.Run(tt.schema, func(t *testing.T) {
			_, err := custom(t, tt.schema, nil).Check(json.RawMessage(tt.payload))
			wantField(t, err, tt.location, tt.words)
		})
	}
}

// What partners' customers typed must not end up in a log by way of an error.
func TestErrorsHoldNoValuesOfThePayload(t *testing.T) {
	const canary = "Calrissian-4711"
	schemas := []string{
		`{"enum": ["a"]}`, `{"const": "a"}`, `{"pattern": "^$"}`, `{"maxLength": 1}`, `{"type": "number"}`, `{"not": {}}`, `{"anyOf": [{"const": 1}, {"maxLength": 2}]}`, `false`,
	}
	for _, schema := range schemas {
		for _, payload := range []string{`"` + canary + `"`, `"` + canary + `" x`, `"\q` + canary + `"`} {
			_, err := custom(t, schema, nil).Check(json.RawMessage(payload))
			if err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("schema %s, payload %s: error %v", schema, payload, err)
			}
			for _, f := range fields(t, err) {
				if f.Value != nil {
					t.Errorf("schema %s: the value %v came along", schema, f.Value)
				}
			}
		}
	}
}

func TestCheckReadsJSONStrictly(t *testing.T) {
	tests := []struct{ what, payload, location, words string }{
		{"nothing", "", "body.payload", "is missing"},
		{"only space", " \n", "body.payload", "it ends before the value does"},
		{"a bare word", "NULL", "body.payload", "is not valid JSON"},
		{"a misspelt word", `{"a": nul}`, "body.payload", "is not valid JSON"},
		{"smart quotes", "{“a”: 1}", "body.payload", "is not valid JSON"},
		{"a trailing comma", "{\n  \"ä\": 1,\n}", "body.payload", "is not valid JSON"},
		{"a trailing comma in an array", `[1,]`, "body.payload", "is not valid JSON"},
		{"a missing comma", `{"a": 1 "b": 2}`, "body.payload", "is not valid JSON"},
		{"a missing colon", `{"a" 1}`, "body.payload", "is not valid JSON"},
		{"a missing bracket", `[1`, "body.payload", "is not valid JSON"},
		{"a comment", `{"a": 1} //deprecated`, "body.payload", "is not valid JSON"},
		{"two values", `{} {}`, "body.payload", "is not valid JSON"},
		{"a NUL byte after", "{}\x00", "body.payload", "is not valid JSON"},
		{"a byte order mark", "\ufeff{}", "body.payload", "begins with a byte order mark (U+FEFF): send it without"},
		{"an open string", `{"a": "x`, "body.payload", "is not valid JSON"},
		{"an open string after an escape", `"x\"`, "body.payload", "is not valid JSON"},
		{"an open escape", `"\`, "body.payload", "is not valid JSON"},
		{"an unknown escape", `{"a": {"b": "\x41"}}`, "body.payload", "is not valid JSON"},
		{"half an escape", `"\u00"`, "body.payload", "is not valid JSON"},
		{"a line break in a string", "\"a\nb\"", "body.payload", "is not valid JSON"},
		{"a leading zero", `[01]`, "body.payload", "is not valid JSON"},
		{"a lone minus", `-`, "body.payload", "is not valid JSON"},
		{"a plus", `+1`, "body.payload", "is not valid JSON"},
		{"a point without digits", `1.`, "body.payload", "is not valid JSON"},
		{"an exponent without digits", `1e+`, "body.payload", "is not valid JSON"},
		{"NaN", `{"a": NaN}`, "body.payload", "is not valid JSON"},
		{"not UTF-8", "\"N\xf3mina\"", "body.payload", "is not UTF-8"},
		{"a huge exponent", `{"a": [1e999999]}`, "body.payload.a[0]", "send it as a string"},
		{"a tiny number", `1e-999999`, "body.payload", "send it as a string"},
		{"an endless number", strings.Repeat("9", 401), "body.payload", "send it as a string"},
	}
	anything := custom(t, "", nil)
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			_, err := anything.Check(json.RawMessage(tt.payload))
			wantField(t, err, tt.location, tt.words)
		})
	}
}

func TestCheckReadsAllOfJSON(t *testing.T) {
	for _, payload := range []string{
		`null`, `true`, `false`, `0`, `-0`, `-0.5e+10`, `1E400`, `""`, `{}`, `[]`, " [ ] ", "{\t\r\n}",
		`"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"`, `"\ud800"`, `{"": {"": 1}}`, `[[],{},[{}]]`, `{"a":1,"A":2}`, "\"\u2028\"",
		strings.Repeat("[", 128) + strings.Repeat("]", 128), strings.Repeat("9", 400),
		"[" + strings.Repeat(strings.Repeat("[", 127)+strings.Repeat("]", 127)+",", 3) + "[]]",
	} {
		if _, err := custom(t, "", nil).Check(json.RawMessage(payload)); err != nil {
			t.Errorf("%.40q: %v", payload, err)
		}
	}
}

func TestCheckAttributes(t *testing.T) {
	match := map[string]string{"v": "/a~1b/c~0d", "first": "/items/0", "tenth": "/items/10", "odd": "/items/00", "end": "/items/-", "empty": "/"}
	tests := []struct {
		payload string
		want    map[string]string
	}{
		{`{"a/b": {"c~d": "text"}}`, map[string]string{"v": "text"}},
		{`{"a/b": {"c~d": "t\u00e9xt"}}`, map[string]string{"v": "téxt"}},
		{`{"a/b": {"c~d": ""}}`, map[string]string{"v": ""}},
		{`{"a/b": {"c~d": 1.0}}`, map[string]string{"v": "1.0"}},
		{`{"a/b": {"c~d": 12345678901234567890}}`, map[string]string{"v": "12345678901234567890"}},
		{`{"a/b": {"c~d": true}}`, map[string]string{"v": "true"}},
		{`{"a/b": {"c~d": false}}`, map[string]string{"v": "false"}},
		{`{"a/b": {"c~d": null}}`, nil},
		{`{"a/b": {"c~d": {}}}`, nil},
		{`{"a/b": {"c~d": []}}`, nil},
		{`{"a/b": {}}`, nil},
		{`{"a/b": "c~d"}`, nil},
		{`{}`, nil},
		{`[]`, nil},
		{`"text"`, nil},
		{`{"items": ["x", "y"]}`, map[string]string{"first": "x"}},
		{`{"items": []}`, nil},
		{`{"items": {"0": "x", "00": "y", "-": "z"}}`, map[string]string{"first": "x", "odd": "y", "end": "z"}},
		{`{"": "x"}`, map[string]string{"empty": "x"}},
	}
	typ := custom(t, "", match)
	for _, tt := range tests {
		got, err := typ.Check(json.RawMessage(tt.payload))
		if err != nil {
			t.Errorf("%s: %v", tt.payload, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.payload, diff)
		}
	}
}

func TestCheckLeavesThePayloadAlone(t *testing.T) {
	typ := builtin(t, "wallet_item_install")
	payload := json.RawMessage(" " + string(typ.Example) + "\n")
	before := string(payload)
	attrs, err := typ.Check(payload)
	if err != nil {
		t.Fatal(err)
	}
	if string(payload) != before {
		t.Error("the payload changed")
	}
	clear(payload)
	if attrs["campaign_token"] != "r3zhm8" {
		t.Error("the attributes share the payload's bytes")
	}
}

func TestCheckFromManyGoroutines(t *testing.T) {
	typ := builtin(t, "wallet_item_install")
	bad := edited(t, typ.Name, `"token":"r3zhm8"`, `"token":17`)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				if i%2 == 0 {
					if attrs, err := typ.Check(typ.Example); err != nil || !maps.Equal(attrs, map[string]string{"campaign_token": "r3zhm8"}) {
						t.Errorf("%v %v", attrs, err)
					}
				} else if _, err := typ.Check(bad); err == nil {
					t.Error("accepted")
				}
			}
		})
	}
	wg.Wait()
}

// A check that allocates much more than encoding/json would is a regression on
// the path every event takes.
func TestCheckStaysCheap(t *testing.T) {
	for _, typ := range payloads.Builtin().Types() {
		check := testing.AllocsPerRun(100, func() { _, _ = typ.Check(typ.Example) })
		decode := testing.AllocsPerRun(100, func() { _ = json.Unmarshal(typ.Example, new(any)) })
		if check > 2.5*decode+20 {
			t.Errorf("%s: %.0f allocations a check, and encoding/json alone has %.0f", typ.Name, check, decode)
		}
	}
}

func ExampleType_Check() {
	install, _ := payloads.Builtin().Lookup("wallet_item_install")

	attrs, err := install.Check(install.Example)
	fmt.Println(attrs, err)

	_, err = install.Check(json.RawMessage(`{"wallet_instance": {}, "wallet_item": {}, "wallet_campaign": {}}`))
	fmt.Println(err)
	// Output:
	// map[campaign_token:r3zhm8] <nil>
	// body.payload.wallet_campaign.token is missing: wallet_item_install needs it
}

func ExampleNewCatalogue() {
	catalogue, err := payloads.NewCatalogue(payloads.Type{
		Name:   "order.paid",
		Schema: json.RawMessage(`{"type": "object", "required": ["shop"]}`),
		Match:  map[string]string{"shop": "/shop/id"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	paid, _ := catalogue.Lookup("order.paid")
	attrs, _ := paid.Check(json.RawMessage(`{"shop": {"id": 17}}`))
	fmt.Println(attrs["shop"])
	// Output: 17
}

func ExampleMatchGlob() {
	fmt.Println(payloads.MatchGlob("customer.*", "customer.level_changed"))
	fmt.Println(payloads.MatchGlob("customer.*", "transaction.registered"))
	// Output:
	// true
	// false
}

// TestWarningType lets what does not fit pass and says so; what is no JSON at all never passes.
func TestWarningType(t *testing.T) {
	c, err := payloads.NewCatalogue(payloads.Type{
		Name: "lenient", Validation: payloads.Warn, Match: map[string]string{"shop": "/shop"},
		Schema: json.RawMessage(`{"required": ["id"], "properties": {"shop": {"type": "string"}}}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	typ := c.Types()[0]
	attrs, warnings, err := typ.Examine(json.RawMessage(`{"shop": 17}`))
	if err != nil || attrs["shop"] != "17" || len(warnings) != 2 || !strings.Contains(strings.Join(warnings, "; "), "body.payload.id is missing") {
		t.Errorf("got %v, %q, %v", attrs, warnings, err)
	}
	if _, warnings, err := typ.Examine(json.RawMessage(`{"id": 1, "shop": "x"}`)); err != nil || warnings != nil {
		t.Errorf("what fits: %q, %v", warnings, err)
	}
	for _, payload := range []string{``, `{`, "{\"a\": \"\xff\"}"} {
		if _, _, err := typ.Examine(json.RawMessage(payload)); err == nil {
			t.Errorf("%q passed", payload)
		}
	}
	if _, _, err := builtin(t, "payment_proof").Examine(json.RawMessage(`[]`)); err == nil {
		t.Error("an enforcing type let pass what does not fit")
	}
}
