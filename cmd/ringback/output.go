package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// printer writes a command's answer: for people as tables, for programs as JSON.
type printer struct {
	w     io.Writer
	json  bool
	width int // of the terminal, 0 if w is none: then nothing is cut
}

func newPrinter(c *cli.Context) printer {
	return printer{w: c.App.Writer, json: c.String("output") == "json", width: terminalWidth(c.App.Writer)}
}

// terminalWidth is how many columns w has if it is a terminal, else 0.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// raw prints a JSON document of the API as it came, indented. Partners' texts are in it, so characters that a terminal would obey are escaped.
func (p printer) raw(doc json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(doc), "", "  "); err != nil {
		return fmt.Errorf("the server answered something that is not JSON; does --server point at Ringback? (%w)", err)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(p.w, escaped(b.String()))
	return err
}

// escaped is a JSON document with \u escapes for the characters that are not printed (C1 controls, text direction and the like), and for
// bytes that are none. Such can only be in strings.
func escaped(doc string) string {
	var b strings.Builder
	for _, c := range doc {
		switch {
		case c == '\n' || unicode.IsPrint(c) && c != utf8.RuneError:
			b.WriteRune(c)
		case c > 0xffff:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, c)
		}
	}
	return b.String()
}

// value prints v as indented JSON.
func (p printer) value(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.raw(doc)
}

// gap is between two columns.
const gap = 2

// table prints rows under a header, in columns. On a terminal, columns are cut until all fit; piped output is never cut. Cells may
// come from partners, so characters that a terminal would obey are replaced.
func (p printer) table(header []string, rows [][]string) error {
	return p.rows(&columns{}, header, rows)
}

// columns are how wide a table's columns have become, page by page.
type columns struct{ widths []int }

// rows prints more rows of a table, whose columns get wider where they have to.
func (p printer) rows(c *columns, header []string, rows [][]string) error {
	if len(header) > 0 {
		rows = append([][]string{header}, rows...)
	}
	widths := c.widths
	shown := make([][]string, 0, len(rows))
	for _, row := range rows {
		cells := make([]string, len(row))
		for j, cell := range row {
			cells[j] = printable(cmp.Or(cell, "-"))
			if j == len(widths) {
				widths = append(widths, 0)
			}
			widths[j] = max(widths[j], text.StringWidthWithoutEscSequences(cells[j]))
		}
		shown = append(shown, cells)
	}
	c.widths = slices.Clone(widths)
	fit(widths, p.width)
	var b strings.Builder
	for _, row := range shown {
		var line strings.Builder
		for j, cell := range row {
			line.WriteString(text.Pad(text.Snip(cell, widths[j], "…"), widths[j]+gap, ' '))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

// fit narrows columns until all of them fit into width; 0 is boundless. It begins with the last one, which holds sentences, and goes on with the
// widest, for ids are of use only whole. No column gets narrower than is of any use.
func fit(widths []int, width int) {
	const readable, least = 20, 8
	if width == 0 || len(widths) == 0 {
		return
	}
	over := gap*(len(widths)-1) - width
	for _, w := range widths {
		over += w
	}
	last := len(widths) - 1
	narrow := func(column, to int) {
		cut := min(over, widths[column]-to)
		if cut > 0 {
			widths[column] -= cut
			over -= cut
		}
	}
	narrow(last, readable)
	for over > 0 {
		widest := slices.Index(widths, slices.Max(widths))
		if widths[widest] <= least {
			return
		}
		narrow(widest, widths[widest]-1)
	}
}

// pairs prints a name and a value on each line, leaving out those that have no value.
func (p printer) pairs(pairs ...[2]string) error {
	var rows [][]string
	for _, pair := range pairs {
		if pair[1] != "" {
			rows = append(rows, pair[:])
		}
	}
	return p.table(nil, rows)
}

// line prints one line of text.
func (p printer) line(format string, a ...any) error {
	_, err := fmt.Fprintf(p.w, format+"\n", a...)
	return err
}

// clock shows a time to people: local, to the second; the zero time as nothing.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// printable replaces every character that a terminal would act on rather than show.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// printableText is printable for text of several lines.
func printableText(s string) string {
	lines := strings.Split(strings.ReplaceAll(s, "\t", "    "), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// isTerminal reports whether w is a terminal that wants colours (https://no-color.org).
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
