package payloads_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/payloads"
)

func seedPayloads(f *testing.F, add func(payload []byte)) {
	f.Helper()
	for _, typ := range payloads.Builtin().Types() {
		add(typ.Example)
	}
	for _, s := range []string{
		``, `null`, `{"a":1,"a":2}`, `{"a":{"b":[1,"\u00e9",null,true,false,-0.1e+2]}}`, `{“a”:1}`, `[1,]`, "\"\xff\"", `"\ud83d\ude00\ud800"`,
		`1e999999`, `{"wallet_instance":{},"wallet_item":{},"wallet_campaign":{"token":"x"}}`, `{"requestId":"1","status":"OK"}`, "{\"\":\"\\\"\\\\\"}\n",
		strings.Repeat("[", 200), `{"token":5,"items":["a",1.0]}`, `"\`, `nul`, `-`, `01`,
	} {
		add([]byte(s))
	}
}

// Check reads what encoding/json reads, the same way, or refuses it.
func FuzzCheck(f *testing.F) {
	seedPayloads(f, func(payload []byte) { f.Add(payload) })
	types := payloads.Builtin().Types()
	reader := custom(f, "", map[string]string{"v": "/token", "first": "/items/0"})
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, typ := range types {
			attrs, err := typ.Check(payload)
			if err != nil {
				if attrs != nil {
					t.Error("attributes and an error")
				}
				for _, field := range fields(t, err) {
					if !strings.HasPrefix(field.Location, "body.payload") || field.Message == "" || strings.ContainsAny(field.Location, "\n\r") {
						t.Errorf("field %q", field)
					}
				}
			}
			if attrs["campaign_token"] != "" && !strings.HasPrefix(typ.Name, "wallet") {
				t.Errorf("%s has a campaign token", typ.Name)
			}
		}
		attrs, err := reader.Check(payload)
		if !json.Valid(payload) {
			if err == nil {
				t.Fatal("accepted what is not JSON")
			}
			if (payloads.Event{Company: "c", Type: "t", Payload: payload}).Validate() == nil {
				t.Fatal("Validate accepts what is not JSON")
			}
			return
		}
		if err != nil {
			return
		}
		var want struct {
			Token any
			Items any
		}
		var members map[string]any
		if json.Unmarshal(payload, &members) != nil {
			if attrs != nil {
				t.Fatalf("attributes %v of what is no object", attrs)
			}
			return
		}
		want.Token, want.Items = members["token"], members["items"]
		if s, ok := want.Token.(string); ok && attrs["v"] != s {
			t.Errorf("token %q, encoding/json reads %q", attrs["v"], s)
		}
		if items, ok := want.Items.([]any); ok && len(items) > 0 {
			if s, ok := items[0].(string); ok && attrs["first"] != s {
				t.Errorf("first item %q, encoding/json reads %q", attrs["first"], s)
			}
		}
	})
}

// What is sent as JSON is the payload itself, and what is sent as a form comes back with every value as its text.
func FuzzEncode(f *testing.F) {
	seedPayloads(f, func(payload []byte) { f.Add(payload) })
	for _, s := range []string{
		`{"0":{"0":[{"1":[]},{}]},"%":{"":{"]":"[","a[0]":"%5B"}}}`, `{"a":{"b":1},"a":[2,{"b":3}],"A":4}`, `{"":"","a":[[[]]],"b":[null,"[]",1.0e+2]}`, "{\"a b&=+\":\"\u2028\x7f\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		same, err := payloads.Encode(payloads.ContentTypeJSON, payload)
		if err != nil || string(same) != string(payload) {
			t.Fatal("JSON does not go out byte for byte")
		}
		body, err := payloads.Encode(payloads.ContentTypeForm, payload)
		if err != nil {
			fields(t, err)
			return
		}
		form, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatalf("%q is no form: %v", body, err)
		}
		for name, values := range form {
			if len(values) != 1 || name == "" {
				t.Fatalf("field %q has %d values", name, len(values))
			}
		}
		back, err := payloads.DecodeForm(body)
		if err != nil {
			t.Fatalf("%q of %q does not read back: %v", body, payload, err)
		}
		if want, got := asText(anyJSON(t, payload)), anyJSON(t, back); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q became %q and came back as\n%v, want\n%v", payload, body, got, want)
		}
	})
}

// Whatever arrives as a form is refused, or means one payload and no other.
func FuzzDecodeForm(f *testing.F) {
	for _, s := range []string{
		"", "a=1", "a=1&a[b]=2", "a[0]=1&a[1][b]=2&a[1][c]=", "a%5B0%5D=%5B%5D", "%25[%2530]=x&0=y", "a[999999999]=1", "a[b", "[=", "a]=1", "=", "&", "a[]=1", "a=%", "a=%FF", "%25FF=1", "a[b][c]=1&a[b]=2",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		payload, err := payloads.DecodeForm(body)
		if err != nil {
			if payload != nil || len(err.Error()) > 200 {
				t.Errorf("%q and %v", payload, err)
			}
			return
		}
		if !json.Valid(payload) || len(payload) > 6*len(body)+2 { // a control character is one byte, and \u0001
			t.Fatalf("%q gives %q", body, payload)
		}
		again, err := payloads.Encode(payloads.ContentTypeForm, payload)
		if err != nil {
			t.Fatalf("%q, of %q, cannot be encoded: %v", payload, body, err)
		}
		if back, err := payloads.DecodeForm(again); err != nil || string(back) != string(payload) {
			t.Fatalf("%q means %q, which is sent as %q and means %q (%v)", body, payload, again, back, err)
		}
	})
}

// anyJSON is what encoding/json reads, numbers literally.
func anyJSON(t *testing.T, text []byte) any {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// asText is v with every value that holds no others as a form says it.
func asText(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if v[name] = asText(member); isEmpty(member) {
				v[name] = "{}"
			}
		}
		return v
	case []any:
		if len(v) == 0 {
			return "[]"
		}
		for i, item := range v {
			if v[i] = asText(item); isEmpty(item) {
				v[i] = "{}"
			}
		}
		return v
	case nil:
		return ""
	default:
		return fmt.Sprint(v)
	}
}

func isEmpty(v any) bool {
	members, ok := v.(map[string]any)
	return ok && len(members) == 0
}

// A type that an operator registers is refused with the field at fault, or checks whatever comes, and is the same when it is registered again.
func FuzzType(f *testing.F) {
	for _, typ := range payloads.Builtin().Types() {
		f.Add([]byte(typ.Schema), []byte(typ.Example), []byte(typ.Example), "/wallet_campaign/token", "/sent/at")
	}
	for _, s := range []string{
		`{"$ref":"#"}`, `{"properties":{"x":{"anyOf":[{"$ref":"#"},{"$ref":"#"}]}}}`, `{"$dynamicRef":"#a","$dynamicAnchor":"a"}`, `{"$id":"http://x/y","$ref":"y#/$defs/a","$defs":{"a":{"type":"object"}}}`,
		`{"$schema":"http://json-schema.org/draft-07/schema#","format":"date-time","items":[{"uniqueItems":true}],"dependencies":{"a":["b"],"c":{"$ref":"#"}}}`, `true`, `false`, `{"pattern":"("}`,
		`{"multipleOf":1e-400}`, `{"enum":[1e400,1.0,[{}]],"const":null}`, `{"type":["integer","null"],"contains":{"minimum":1e300},"minContains":0}`, `{"propertyNames":{"maxLength":1},"unevaluatedProperties":false}`,
		`{"contentMediaType":"application/json","contentSchema":{"$ref":"#"}}`, `{"$ref":"file:///etc/passwd"}`, `{"$ref":"https://json-schema.org/draft/2020-12/schema"}`, `{"$anchor":"a","not":{"$ref":"#a"}}`,
	} {
		f.Add([]byte(s), []byte(`{"x":{"x":{"x":[1,1.0,{"x":"y"}]}},"":null}`), []byte(nil), "/x/0/~1", "")
	}
	f.Add([]byte(`{}`), []byte(`{}`), []byte(nil), "/\xad", "/\xad")
	f.Fuzz(func(t *testing.T, schema, payload, example []byte, match, stamp string) {
		typ := payloads.Type{Name: "fuzzed", Schema: schema, Example: example, Match: map[string]string{"a": match}, Stamp: stamp}
		first := registered(t, typ)
		if first == nil {
			return
		}
		attrs, err := first.Check(payload)
		if err != nil {
			fields(t, err)
		}
		if len(example) > 0 {
			if _, err := first.Check(example); err != nil {
				t.Errorf("the example is refused later: %v", err)
			}
		}

		text, err2 := json.Marshal(first)
		if err2 != nil {
			t.Fatalf("%+v: %v", typ, err2)
		}
		again := payloads.Type{Name: "fuzzed"}
		if err := json.Unmarshal(text, &again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		second := registered(t, again)
		if second == nil {
			t.Fatalf("what is shown is refused: %s", text)
		}
		if textAgain, err := json.Marshal(second); err != nil || string(textAgain) != string(text) {
			t.Errorf("%s became %s (%v)", text, textAgain, err)
		}
		attrsAgain, errAgain := second.Check(payload)
		if !reflect.DeepEqual(attrs, attrsAgain) || (err == nil) != (errAgain == nil) {
			t.Errorf("%s reads %q as %v (%v), and then as %v (%v)", text, payload, attrs, err, attrsAgain, errAgain)
		}
	})
}

// registered is the type in a catalogue, nil if it is refused.
func registered(t *testing.T, typ payloads.Type) *payloads.Type {
	t.Helper()
	c, err := payloads.NewCatalogue(typ)
	if err != nil {
		for _, field := range fields(t, err) {
			if !strings.HasPrefix(field.Location, "body.") {
				t.Errorf("field %q", field)
			}
		}
		return nil
	}
	compiled, _ := c.Lookup(typ.Name)
	return compiled
}

func FuzzParseSecret(f *testing.F) {
	for _, s := range []string{"", "whsec_", vectorSecret, vectorSecret + "\n", "whsec_***", "whsk_abc", vectorSecret + "="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		secret, err := payloads.ParseSecret(s)
		if err != nil {
			if !secret.IsZero() {
				t.Error("a secret and an error")
			}
			if len(s) > 40 && strings.Contains(err.Error(), s[6:]) {
				t.Error("the error repeats the secret")
			}
			return
		}
		if secret.Reveal() != s {
			t.Error("Reveal gives another text than was parsed")
		}
	})
}

// What Sign made, Verify takes, and nothing else.
func FuzzSignVerify(f *testing.F) {
	f.Add(vectorID, int64(vectorTime), []byte(vectorBody), uint16(0))
	f.Add("a.b", int64(-1), []byte{}, uint16(1))
	f.Add("", int64(1)<<41, []byte("x"), uint16(300))
	f.Fuzz(func(t *testing.T, id string, seconds int64, body []byte, flip uint16) {
		secret, at := payloads.NewSecret(), time.Unix(seconds, 0)
		signature, err := payloads.Sign(id, at, body, payloads.NewSecret(), secret)
		if err != nil {
			return
		}
		if seconds >= 1<<40 {
			return // later than Verify can read, and than anyone will
		}
		h := signed(id, seconds, signature)
		if err := payloads.Verify(h, body, at, secret); err != nil {
			t.Fatalf("Verify refuses what Sign made: %v", err)
		}
		changed := append([]byte{}, body...)
		if len(changed) == 0 {
			changed = []byte{0}
		} else {
			changed[int(flip)%len(changed)] ^= 1 << (flip % 8)
		}
		if payloads.Verify(h, changed, at, secret) == nil {
			t.Error("a changed body verifies")
		}
		if payloads.Verify(h, body, at, payloads.NewSecret()) == nil {
			t.Error("another secret verifies")
		}
	})
}

// Whatever headers a stranger sends, Verify answers and refuses.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "1614265330", vectorSignature, []byte("x"))
	f.Add("", "", "", []byte{})
	f.Add("a", "99999999999999999999", "v1,", []byte("{}"))
	f.Add("a", "1", "v1,  v1 ,, v1a,x v2,y", []byte("{ }\n"))
	secret := payloads.NewSecret()
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		h := http.Header{payloads.HeaderID: {id}, payloads.HeaderTimestamp: {timestamp}, payloads.HeaderSignature: {signature}}
		for _, verify := range []func(http.Header, []byte, time.Time, ...payloads.Secret) error{payloads.Verify, payloads.Diagnose} {
			if p := problem(verify(h, body, time.Unix(vectorTime, 0), secret)); p == "" {
				t.Error("a request nobody signed verifies")
			}
		}
	})
}
