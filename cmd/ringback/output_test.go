package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/ringback/ringback/dispatcher/client"
)

func TestDurationsAreBrief(t *testing.T) {
	for in, want := range map[string]string{"1h0m0s": "1h", "1h30m0s": "1h30m", "15s": "15s", "10m0s": "10m", "12h0m5s": "12h0m5s", "100h0m0s": "100h"} {
		var d client.Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || brief(d) != want {
			t.Errorf("%s: %s, %v, want %s", in, brief(d), err, want)
		}
	}
}

// TestJSONShowsWhatTerminalsObey: a partner's text in a JSON document reaches programs as it is, and terminals as escapes.
func TestJSONShowsWhatTerminalsObey(t *testing.T) {
	for doc, want := range map[string]string{
		`{"a":"é 生命 € 🙂"}`:                                           "{\n  \"a\": \"é 生命 € 🙂\"\n}\n",
		"[\"C1 \u009b31m, DEL \u007f, NEL \u0085\"]":                 "[\n  \"C1 \\u009b31m, DEL \\u007f, NEL \\u0085\"\n]\n",
		"[\"bidi \u202e\u2066\u200f\u061c, lines \u2028\u2029\"]":    "[\n  \"bidi \\u202e\\u2066\\u200f\\u061c, lines \\u2028\\u2029\"\n]\n",
		"[\"zero width \u200b\ufeff, tag \U000e0041, NBSP \u00a0\"]": "[\n  \"zero width \\u200b\\ufeff, tag \\udb40\\udc41, NBSP \\u00a0\"\n]\n",
		"[\"a byte \x9b\"]":                                          "[\n  \"a byte \\ufffd\"\n]\n",
	} {
		var out strings.Builder
		if err := (printer{w: &out, json: true}).raw(json.RawMessage(doc)); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%q is printed as\n%q, want\n%q", doc, out.String(), want)
		}
		var before, after any
		if json.Unmarshal([]byte(doc), &before) != nil || json.Unmarshal([]byte(out.String()), &after) != nil || fmt.Sprint(before) != fmt.Sprint(after) {
			t.Errorf("%q became %q", before, after)
		}
	}
}
