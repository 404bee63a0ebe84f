package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/ringback/ringback/dispatcher/client"
)

// TestTablesFitTheTerminal: the widest columns are cut, down to a bound; what is piped is whole.
func TestTablesFitTheTerminal(t *testing.T) {
	header := []string{"ID", "WORDS", "URL"}
	rows := [][]string{
		{"1", "short", "https://partner.example/a/long/path/to/a/hook"},
		{"2", "生命生命生命", "https://partner.example/b"},
		{"3", "", "\x1b[31mred"},
	}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, "ID  WORDS         URL\n" +
			"1   short         https://partner.example/a/long/path/to/a/hook\n" +
			"2   生命生命生命  https://partner.example/b\n" +
			"3   -             \uFFFD[31mred\n"},
		{40, "ID  WORDS         URL\n" +
			"1   short         https://partner.examp…\n" +
			"2   生命生命生命  https://partner.examp…\n" +
			"3   -             \uFFFD[31mred\n"},
		{34, "ID  WORDS         URL\n" +
			"1   short         https://partner…\n" +
			"2   生命生命生命  https://partner…\n" +
			"3   -             \uFFFD[31mred\n"},
		{24, "ID  WORDS      URL\n" +
			"1   short      https://…\n" +
			"2   生命生命…  https://…\n" +
			"3   -          \uFFFD[31mred\n"},
	} {
		var out strings.Builder
		if err := (printer{w: &out, width: tt.width}).table(header, rows); err != nil {
			t.Fatal(err)
		}
		if out.String() != tt.want {
			t.Errorf("width %d:\n%swant\n%s", tt.width, out.String(), tt.want)
		}
		for line := range strings.Lines(out.String()) {
			if w := text.StringWidthWithoutEscSequences(strings.TrimSuffix(line, "\n")); tt.width > 0 && w > tt.width {
				t.Errorf("%d columns of %d: %s", w, tt.width, line)
			}
		}
	}
	widths := []int{40, 10, 90}
	if fit(widths, 90); widths[0] != 40 || widths[1] != 10 || widths[2] != 36 {
		t.Errorf("ids are cut where sentences would do: %v", widths)
	}
	widths = []int{2, 30, 30}
	if fit(widths, 10); widths[0] != 2 || widths[1] != 8 || widths[2] != 8 {
		t.Errorf("narrower than is of use: %v", widths)
	}
}

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
