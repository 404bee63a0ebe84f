package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// printer writes a command's answer: for people as tables, for programs as JSON.
type printer struct {
	w      io.Writer
	json   bool
	width  int  // of the terminal; 0: boundless, so that each row is one line, whole
	colour bool // w is a terminal that wants colours
}

func newPrinter(c *cli.Context) printer {
	return printer{w: c.App.Writer, json: c.String("output") == "json", width: terminalWidth(c.App.Writer), colour: isTerminal(c.App.Writer)}
}

// usualWidth is that of a terminal which does not say.
const usualWidth = 80

// terminalWidth is how many columns w has. COLUMNS says so, if it is set; else a terminal knows. What is no terminal is boundless, for programs read
// it that take it line by line, such as grep.
func terminalWidth(w io.Writer) int {
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	if !isScreen(w) {
		return 0
	}
	f, _ := w.(*os.File) // a screen is one
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil || width <= 0 {
		return usualWidth
	}
	return width
}

// isScreen reports whether w is a terminal.
func isScreen(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
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

// line prints one line of text, however long.
func (p printer) line(format string, a ...any) error {
	_, err := fmt.Fprintf(p.w, format+"\n", a...)
	return err
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
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && isScreen(w)
}
