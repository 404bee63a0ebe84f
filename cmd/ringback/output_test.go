package main

import (
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
