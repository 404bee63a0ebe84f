package payloads_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"testing"

	"github.com/ringback/ringback/payloads"
)

func TestEncodeJSONIsByteForByte(t *testing.T) {
	for _, payload := range []string{"{ \"b\":1,\r\n\t\"a\":\"\\u00e9<>&\" }\n", "[1.0,1e2]", "null"} {
		got, err := payloads.Encode(payloads.ContentTypeJSON, json.RawMessage(payload))
		if err != nil || string(got) != payload {
			t.Errorf("%q became %q, error %v", payload, got, err)
		}
	}
}

func TestEncodeForm(t *testing.T) {
	tests := []struct{ what, payload, want string }{
		{"empty", `{}`, ""},
		{"document order", `{"z":"1","a":"2","m":"3"}`, "z=1&a=2&m=3"},
		{"a string as it is", `{"s":"a b&c=d+e%f/é"}`, "s=a+b%26c%3Dd%2Be%25f%2F%C3%A9"},
		{"an escape read", `{"s":"N\u00f3mina\n"}`, "s=N%C3%B3mina%0A"},
		{"a name encoded", `{"a b[]":"x"}`, "a+b%5B%5D=x"},
		{"an empty name", `{"":"x"}`, "=x"},
		{"numbers literally", `{"i":1.0,"e":1E+2,"big":12345678901234567890}`, "i=1.0&e=1E%2B2&big=12345678901234567890"},
		{"booleans", `{"t":true,"f":false}`, "t=true&f=false"},
		{"null is empty", `{"n":null,"s":""}`, "n=&s="},
		{"an object compact, inner order kept", `{"o": { "b": 1, "a": [ 1 , "x y" ] } }`, "o=" + url.QueryEscape(`{"b":1,"a":[1,"x y"]}`)},
		{"an array compact, escapes kept", `{"a": [ "\u00e9", null ]}`, "a=" + url.QueryEscape(`["\u00e9",null]`)},
		{"only outer members become fields", `{"o":{"a":{"b":"c"}},"p":"q"}`, "o=" + url.QueryEscape(`{"a":{"b":"c"}}`) + "&p=q"},
		{"space around", " \n{ \"a\" : \"b\" }\n", "a=b"},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			got, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(tt.payload))
			if err != nil || string(got) != tt.want {
				t.Errorf("got  %s (%v)\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestEncodeFormRefuses(t *testing.T) {
	tests := []struct{ payload, location, words string }{
		{`[1]`, "body.payload", "must be an object"},
		{`"a=b"`, "body.payload", "must be an object"},
		{`null`, "body.payload", "must be an object"},
		{``, "body.payload", "not valid JSON"},
		{`{"a":}`, "body.payload", "not valid JSON"},
	}
	for _, tt := range tests {
		_, err := payloads.Encode(payloads.ContentTypeForm, json.RawMessage(tt.payload))
		wantField(t, err, tt.location, tt.words)
	}
}

func TestEncodeUnknownContentType(t *testing.T) {
	for _, ct := range []string{"", "text/plain", "application/json; charset=utf-8", "APPLICATION/JSON"} {
		if body, err := payloads.Encode(ct, json.RawMessage(`{}`)); err == nil || body != nil {
			t.Errorf("%q: %s, %v", ct, body, err)
		}
	}
}

func TestEncodeFormOfTheWalletExample(t *testing.T) {
	body, err := payloads.Encode(payloads.ContentTypeForm, builtin(t, "wallet_item_install").Example)
	if err != nil {
		t.Fatal(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Fatal(err)
	}
	if form.Get("event_type") != "wallet_item_install" || len(form) != 6 {
		t.Errorf("fields %v", form)
	}
	var campaign struct{ Token string }
	if err := json.Unmarshal([]byte(form.Get("wallet_campaign")), &campaign); err != nil || campaign.Token != "r3zhm8" {
		t.Errorf("wallet_campaign %s: %v", form.Get("wallet_campaign"), err)
	}
}

func ExampleEncode() {
	payload := json.RawMessage(`{"status": "OK", "totalCfdi": "$1,962.36", "items": [1, 2]}`)
	body, err := payloads.Encode(payloads.ContentTypeForm, payload)
	fmt.Println(string(body), err)
	// Output: status=OK&totalCfdi=%241%2C962.36&items=%5B1%2C2%5D <nil>
}
