package payloads_test

import (
	"encoding/json"
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

// A form of an object holds each member, in a form any parser reads back.
func FuzzEncode(f *testing.F) {
	seedPayloads(f, func(payload []byte) { f.Add(payload) })
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
		var members map[string]json.RawMessage
		if err := json.Unmarshal(payload, &members); err != nil {
			t.Fatalf("a form of what is no object: %v", err)
		}
		if len(form) != len(members) {
			t.Fatalf("%d fields of %d members", len(form), len(members))
		}
		for name, raw := range members {
			checkFormValue(t, form[name], raw)
		}
	})
}

func checkFormValue(t *testing.T, got []string, raw json.RawMessage) {
	t.Helper()
	var want, back any
	if err := json.Unmarshal(raw, &want); err != nil {
		return // a number beyond a float64
	}
	if len(got) == 0 {
		t.Fatal("no value of a member")
	}
	got = got[len(got)-1:] // of a name that stands twice, encoding/json keeps the last
	switch want := want.(type) {
	case string:
		if got[0] != want {
			t.Errorf("%q, want %q", got[0], want)
		}
	case nil:
		if got[0] != "" {
			t.Errorf("%q for null", got[0])
		}
	default:
		if err := json.Unmarshal([]byte(got[0]), &back); err != nil || !reflect.DeepEqual(want, back) {
			t.Errorf("%q does not read as %s", got[0], raw)
		}
	}
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
