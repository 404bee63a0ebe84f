package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
)

// pageFlags are those of a command that follows a list.
func pageFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: "limit", Usage: "list at most `N`, and say how to go on", DefaultText: "all",
			Action: func(_ *cli.Context, n int) error {
				if n < 1 {
					return usagef("--limit is a number from 1 on, not %d", n)
				}
				return nil
			},
		},
		&cli.StringFlag{Name: "cursor", Usage: "go on from this `CURSOR`, which a call before named"},
	}
}

// A leaf is a page of a list.
type leaf struct {
	raw      json.RawMessage
	entries  int
	next     string // the cursor of the page after it; empty: it is the last one
	searched time.Time
	show     func(out printer, columns *columns, first bool) error // for people
}

// gridRows shows a leaf as rows of a table, as [printer.grid] does.
func gridRows(all []tableColumn, rows [][]string) func(printer, *columns, bool) error {
	return func(out printer, columns *columns, _ bool) error { return out.rows(columns, all, rows) }
}

// follow prints the pages of a list as they come, as far as --limit goes. member is where the API's answer has the entries. How to go on is said, on
// stderr, if the list was not seen to its end.
func follow(c *cli.Context, member string, ask func(limit int, cursor string) (leaf, error)) error {
	out, wide, doc := newPrinter(c), &columns{}, jsonList{w: c.App.Writer, member: member}
	left, cursor := c.Int("limit"), c.String("cursor")
	for first := true; ; first = false {
		limit := dispatcher.MaxLimit
		if left > 0 {
			limit = min(limit, left)
		}
		page, err := ask(limit, cursor)
		if err != nil {
			if !first {
				more(c, cursor)
			}
			return err
		}
		left -= page.entries
		end := page.next == "" || c.Int("limit") > 0 && left <= 0
		if out.json {
			err = doc.page(page.raw, first, end)
		} else {
			err = page.show(out, wide, first)
		}
		if err != nil {
			return err
		}
		if end {
			more(c, page.next)
			return nil
		}
		if !page.searched.IsZero() {
			_, _ = fmt.Fprintf(c.App.ErrWriter, "searched back to %s, and going on\n", clock(page.searched))
		}
		cursor = page.next
	}
}

// more tells, on stderr, how to see the next page.
func more(c *cli.Context, cursor string) {
	if cursor != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "there is more: add --cursor %s\n", printable(cursor))
	}
}

// A jsonList prints the pages of a list as one document, in the form of the API's: what stands before the entries is the first page's, what stands
// behind them the last one's.
type jsonList struct {
	w       io.Writer
	member  string // the entries
	entries int
}

// A field is a member of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

// fields are an object's, in their order.
func fields(doc json.RawMessage) (all []field, err error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	if _, err = d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, err
		}
		f := field{}
		f.name, _ = name.(string)
		if err := d.Decode(&f.value); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

func (l *jsonList) page(raw json.RawMessage, first, last bool) error {
	all, err := fields(raw)
	if err != nil {
		return fmt.Errorf("the server answered something that is not JSON; does --server point at Ringback? (%w)", err)
	}
	var b bytes.Buffer
	comma, behind := "{\n", false
	for _, f := range all {
		listed := f.name == l.member
		if before := !behind && !listed; before && first || behind && last || listed && first {
			name, _ := json.Marshal(f.name) // it came as JSON
			fmt.Fprintf(&b, "%s  %s: ", comma, name)
			if comma = ",\n"; !listed {
				_ = json.Indent(&b, f.value, "  ", "  ") // the same
			}
		}
		if behind = behind || listed; listed {
			if err := l.elements(&b, f.value, first, last); err != nil {
				return err
			}
			comma = ",\n"
		}
	}
	if last {
		b.WriteString("\n}\n")
	}
	_, err = io.WriteString(l.w, escaped(b.String()))
	return err
}

func (l *jsonList) elements(b *bytes.Buffer, list json.RawMessage, first, last bool) error {
	var entries []json.RawMessage
	if err := decode(list, &entries); err != nil {
		return err
	}
	if first {
		b.WriteByte('[')
	}
	for _, e := range entries {
		if l.entries++; l.entries > 1 {
			b.WriteByte(',')
		}
		b.WriteString("\n    ")
		_ = json.Indent(b, e, "    ", "  ") // it came as JSON
	}
	if last && l.entries > 0 {
		b.WriteString("\n  ")
	}
	if last {
		b.WriteByte(']')
	}
	return nil
}
