package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
)

// printer writes a command's answer: for people as tables, for programs as JSON.
type printer struct {
	w    io.Writer
	json bool
}

func newPrinter(c *cli.Context) printer {
	return printer{w: c.App.Writer, json: c.String("output") == "json"}
}

// raw prints a JSON document of the API as it came, indented.
func (p printer) raw(doc json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, bytes.TrimSpace(doc), "", "  "); err != nil {
		return fmt.Errorf("the server answered something that is not JSON; does --server point at Ringback? (%w)", err)
	}
	b.WriteByte('\n')
	_, err := p.w.Write(b.Bytes())
	return err
}

// value prints v as indented JSON.
func (p printer) value(v any) error {
	doc, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.raw(doc)
}

// table prints rows under a header, in columns. Cells may come from partners, so what a terminal would obey is replaced.
func (p printer) table(header []string, rows [][]string) error {
	tw := tabwriter.NewWriter(p.w, 0, 0, 2, ' ', 0)
	if len(header) > 0 {
		_, _ = fmt.Fprintln(tw, strings.Join(header, "\t"))
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cell == "" {
				cell = "-"
			}
			cells[i] = printable(cell)
		}
		_, _ = fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	return tw.Flush()
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
