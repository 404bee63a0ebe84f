package main

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jedib0t/go-pretty/v6/text"
)

// TestTablesGiveWayInOrder: sentences are folded first, then what matters less is left out, then sentences and at last ids stand under their row. No
// cell is cut, and what is no terminal gets one line a row.
func TestTablesGiveWayInOrder(t *testing.T) {
	t.Parallel()
	all := []tableColumn{words("ID"), words("STATE"), words("ATTEMPTS").dropped(1), words("TYPE").dropped(2), ids("DELIVERY"), sentences("WHY")}
	rows := [][]string{
		{"1", "held", "3", "生命生命", "dlv_abcdefghijklmn", "It waits for the callback, which is paused since yesterday"},
		{"2", "dead", "15", "payment", "dlv_x", ""},
		{"3", "dead", "15", "payment", "dlv_y", "\x1b[31mred"},
	}
	for _, tt := range []struct {
		width int
		want  string
	}{
		{0, `
ID  STATE  ATTEMPTS  TYPE      DELIVERY            WHY
1   held   3         生命生命  dlv_abcdefghijklmn  It waits for the callback, which is paused since yesterday
2   dead   15        payment   dlv_x               -
3   dead   15        payment   dlv_y               ` + "\uFFFD" + `[31mred
`},
		{81, `
ID  STATE  ATTEMPTS  TYPE      DELIVERY            WHY
1   held   3         生命生命  dlv_abcdefghijklmn  It waits for the callback,
                                                   which is paused since
                                                   yesterday
2   dead   15        payment   dlv_x               -
3   dead   15        payment   dlv_y               ` + "\uFFFD" + `[31mred
`},
		{71, `
ID  STATE  TYPE      DELIVERY            WHY
1   held   生命生命  dlv_abcdefghijklmn  It waits for the callback,
                                         which is paused since
                                         yesterday
2   dead   payment   dlv_x               -
3   dead   payment   dlv_y               ` + "\uFFFD" + `[31mred
`},
		{61, `
ID  STATE  DELIVERY            WHY
1   held   dlv_abcdefghijklmn  It waits for the callback,
                               which is paused since
                               yesterday
2   dead   dlv_x               -
3   dead   dlv_y               ` + "\uFFFD" + `[31mred
`},
		{52, `
ID  STATE  ATTEMPTS  TYPE      DELIVERY
1   held   3         生命生命  dlv_abcdefghijklmn
    why  It waits for the callback, which is paused
         since yesterday
2   dead   15        payment   dlv_x
3   dead   15        payment   dlv_y
    why  ` + "\uFFFD" + `[31mred
`},
		{30, `
ID  STATE  DELIVERY
1   held   dlv_abcdefghijklmn
    why  It waits for the
         callback, which is
         paused since
         yesterday
2   dead   dlv_x
3   dead   dlv_y
    why  ` + "\uFFFD" + `[31mred
`},
		{28, `
ID  STATE  TYPE
1   held   生命生命
    delivery  dlv_abcdefghijklmn
    why       It waits for the
              callback, which
              is paused since
              yesterday
2   dead   payment
    delivery  dlv_x
3   dead   payment
    delivery  dlv_y
    why       ` + "\uFFFD" + `[31mred
`},
		{10, `
ID  STATE
1   held
    delivery  dlv_abcdefghijklmn
    why       It waits for the
              callback, which
              is paused since
`},
	} {
		var out strings.Builder
		if err := (printer{w: &out, width: tt.width}).grid(all, rows); err != nil {
			t.Fatal(err)
		}
		got, want := out.String(), strings.TrimPrefix(tt.want, "\n")
		if tt.width == 10 {
			got = got[:min(len(got), len(want))]
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("width %d (-want +got):\n%s", tt.width, diff)
		}
		for line := range strings.Lines(out.String()) {
			line = strings.TrimSuffix(line, "\n")
			if w := text.StringWidthWithoutEscSequences(line); tt.width >= 30 && w > tt.width {
				t.Errorf("%d columns of %d: %s", w, tt.width, line)
			}
		}
	}
}

// TestPagesOfATableAreOneTable: a page whose cells need another order of columns prints their names again, and no other does.
func TestPagesOfATableAreOneTable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p, c := printer{w: &out, width: 30}, &columns{}
	all := []tableColumn{words("STATE"), ids("DELIVERY")}
	for _, id := range []string{"dlv_1", "dlv_22", "dlv_" + strings.Repeat("3", 128), "dlv_4"} {
		if err := p.rows(c, all, [][]string{{"dead", id}}); err != nil {
			t.Fatal(err)
		}
	}
	want := "STATE  DELIVERY\ndead   dlv_1\ndead   dlv_22\n\n" +
		"STATE\ndead\n    delivery  dlv_" + strings.Repeat("3", 128) + "\ndead\n    delivery  dlv_4\n"
	if diff := gocmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestSentencesAreFolded under themselves, between words, and never within one: an id or a URL is of use only whole.
func TestSentencesAreFolded(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := printer{w: &out, width: 40}
	url := "https://partner.example/" + strings.Repeat("x", 60)
	if err := p.pairs([2]string{"state", "dead"}, [2]string{"left out"}, [2]string{"destination", "POST " + url}, [2]string{"because", "it answered 503 each of the fifteen times it was asked"}); err != nil {
		t.Fatal(err)
	}
	if err := p.say("callback %d: %s", 12, "matched: it matched when the event\n was accepted"); err != nil {
		t.Fatal(err)
	}
	want := `state        dead
destination  POST
             ` + url + `
because      it answered 503 each of the
             fifteen times it was asked
callback 12: matched: it matched when
the event` + "\uFFFD" + ` was accepted
`
	if diff := gocmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTimesNameTheirZone: of a sentence, and of a column in its name; where the clocks were put forward or back in between, the cell does so.
func TestTimesNameTheirZone(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	for name, want := range map[string]string{"UTC": "UTC", "America/Sao_Paulo": "UTC-03"} {
		time.Local = inZone(t, name)
		now := time.Date(2026, 11, 28, 14, 0, 5, 0, time.Local)
		if got := clock(now.UTC()); got != "2026-11-28 14:00:05 "+want {
			t.Errorf("%s: %s", name, got)
		}
		if got := times("ACCEPTED").name; got != "ACCEPTED ("+want+")" {
			t.Errorf("%s: the column is called %s", name, got)
		}
		if got := moment(now.UTC()); got != "2026-11-28 14:00:05" {
			t.Errorf("%s: the cell is %s", name, got)
		}
	}
	time.Local = inZone(t, "Europe/Berlin")
	winter, summer := time.Date(2026, 1, 1, 12, 0, 0, 0, time.Local), time.Date(2026, 7, 1, 12, 0, 0, 0, time.Local)
	if got := []string{moment(winter), moment(summer)}; strings.Count(strings.Join(got, ","), " CE") != 1 {
		t.Errorf("one of the two cells has another zone than now: %q", got)
	}
	if clock(time.Time{}) != "" || moment(time.Time{}) != "" {
		t.Error("no time is shown as one")
	}
}

// TestStatesAreColoured on terminals that want it, beside the word, and no column gets wider of it.
func TestStatesAreColoured(t *testing.T) {
	t.Parallel()
	all, rows := []tableColumn{words("ID"), states("STATE"), words("N")}, [][]string{{"1", "held (paused)", "3"}, {"2", "dead", "4"}, {"3", "cancelled", "5"}}
	for _, tt := range []struct {
		colour bool
		want   string
	}{
		{true, "ID  STATE          N\n1   \x1b[33mheld (paused)\x1b[0m  3\n2   \x1b[31mdead\x1b[0m           4\n3   cancelled      5\n"},
		{false, "ID  STATE          N\n1   held (paused)  3\n2   dead           4\n3   cancelled      5\n"},
	} {
		var out strings.Builder
		if err := (printer{w: &out, width: 80, colour: tt.colour}).grid(all, rows); err != nil || out.String() != tt.want {
			t.Errorf("colour %t: %q, want %q (%v)", tt.colour, out.String(), tt.want, err)
		}
	}
}
