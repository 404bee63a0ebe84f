package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/ringback/ringback/dispatcher/client"
)

// A tableColumn is what a table shows of each row in one place. Where the terminal is too narrow for all of them, a table gives way in this order, and
// stops as soon as it fits; no cell is ever cut:
//
//  1. Sentences are folded, between words.
//  2. Columns that [tableColumn.dropped] names are left out, in its order.
//  3. With all columns again, sentences stand on lines of their own under their row; then 2.
//  4. With all columns again, ids do so as well; then 2.
type tableColumn struct {
	name string
	kind cellKind
	drop int // from 1 on: the order in which columns are left out; 0: this one stays
}

type cellKind int

const (
	ofWords     cellKind = iota // few and short: they always stand in their row
	ofSentences                 // for people, of any length
	ofIDs                       // of use only whole, and long
	ofStates                    // words that have a colour where there are colours
)

// words is a column of a few short words, or a number.
func words(name string) tableColumn { return tableColumn{name: name} }

// states is a column of states, which begin with a word of [shades].
func states(name string) tableColumn { return tableColumn{name: name, kind: ofStates} }

// sentences is a column of text that may be folded.
func sentences(name string) tableColumn { return tableColumn{name: name, kind: ofSentences} }

// ids is a column of long ids.
func ids(name string) tableColumn { return tableColumn{name: name, kind: ofIDs} }

// times is a column of times, whose cells [moment] makes. Its name says their zone.
func times(name string) tableColumn { return tableColumn{name: name + " (" + zone(time.Now()) + ")"} }

// dropped is the column, left out where there is no room for it: of several, that with the lowest order first.
func (c tableColumn) dropped(order int) tableColumn {
	c.drop = order
	return c
}

// table prints rows under a header. All columns are of few words, but for the last one, which holds sentences.
func (p printer) table(header []string, rows [][]string) error {
	return p.grid(plainly(header), rows)
}

// plainly are the columns of [printer.table].
func plainly(header []string) []tableColumn {
	all := make([]tableColumn, len(header))
	for i, name := range header {
		if all[i] = words(name); i == len(header)-1 {
			all[i] = sentences(name)
		}
	}
	return all
}

// grid prints rows in columns, under their names. Cells may come from partners, so characters that a terminal would obey are replaced.
func (p printer) grid(all []tableColumn, rows [][]string) error {
	return p.rows(&columns{}, all, rows)
}

// columns are those of a table that is printed page by page: how wide they have become, and which of them stand where.
type columns struct {
	widths  []int
	places  []tablePlace
	started bool
}

// A tablePlace is where a table shows a column.
type tablePlace int

const (
	beside  tablePlace = iota // in the row
	below                     // on a line of its own under the row
	leftOut                   // nowhere
)

const (
	gap      = 2  // between two columns
	readable = 30 // columns at least for sentences in a row
	least    = 16 // columns at least for what stands under one
	margin   = 4  // before what stands under a row
)

// rows prints more rows of a table. Its columns get wider where they have to. If they must be placed anew, their names are printed again.
func (p printer) rows(c *columns, all []tableColumn, rows [][]string) error {
	shown, longest := make([][]string, 0, len(rows)), make([]int, len(all))
	for len(c.widths) < len(all) {
		c.widths = append(c.widths, text.StringWidthWithoutEscSequences(all[len(c.widths)].name))
	}
	for _, row := range rows {
		cells := make([]string, len(all))
		for j := range all {
			cells[j] = printable(cmp.Or(row[j], "-"))
			c.widths[j] = max(c.widths[j], text.StringWidthWithoutEscSequences(cells[j]))
			for word := range strings.FieldsSeq(cells[j]) {
				longest[j] = max(longest[j], text.StringWidthWithoutEscSequences(word))
			}
		}
		shown = append(shown, cells)
	}
	places, widths := spread(all, c.widths, longest, p.width)
	var b strings.Builder
	if !c.started || !slices.Equal(places, c.places) {
		if c.started {
			b.WriteByte('\n')
		}
		names := make([]string, len(all))
		for j := range all {
			names[j] = all[j].name
		}
		printer{width: p.width}.row(&b, all, places, widths, names)
	}
	c.started, c.places = true, places
	for _, cells := range shown {
		p.row(&b, all, places, widths, cells)
		p.under(&b, all, places, cells)
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

// spread says where each column stands, and how wide those in the row are, in a terminal of a width. longest are the widest words of each column.
func spread(all []tableColumn, natural, longest []int, width int) ([]tablePlace, []int) {
	var places []tablePlace
	for _, move := range [][]cellKind{nil, {ofSentences}, {ofSentences, ofIDs}} {
		places = make([]tablePlace, len(all))
		for j := range all {
			if slices.Contains(move, all[j].kind) && len(all) > 1 {
				places[j] = below
			}
		}
		for {
			if widths, ok := fitted(all, places, natural, longest, width); ok {
				return places, widths
			}
			next := -1
			for j := range all {
				if places[j] == beside && all[j].drop > 0 && (next < 0 || all[j].drop < all[next].drop) {
					next = j
				}
			}
			if next < 0 {
				break
			}
			places[next] = leftOut
		}
	}
	return places, natural // it is too narrow for anything: the terminal breaks the lines
}

// fitted are the widths of the columns in the row, narrowed where they hold sentences; false: they do not fit.
func fitted(all []tableColumn, places []tablePlace, natural, longest []int, width int) ([]int, bool) {
	widths := slices.Clone(natural)
	over := -gap - width
	for j := range all {
		if places[j] == beside {
			over += widths[j] + gap
		}
	}
	if width == 0 {
		return widths, true
	}
	for over > 0 {
		widest := -1
		for j := range all {
			if places[j] == beside && all[j].kind == ofSentences && widths[j] > max(readable, longest[j]) && (widest < 0 || widths[j] >= widths[widest]) {
				widest = j
			}
		}
		if widest < 0 {
			return nil, false
		}
		widths[widest]--
		over--
	}
	return widths, true
}

// row prints the cells that stand in the row, on as many lines as the longest of them is folded to.
func (p printer) row(b *strings.Builder, all []tableColumn, places []tablePlace, widths []int, cells []string) {
	var stacks [][]string
	var wide []int
	lines := 1
	for j, cell := range cells {
		if places[j] == beside {
			stack := folded(cell, widths[j])
			if p.colour && all[j].kind == ofStates {
				stack[0] = painted(stack[0])
			}
			stacks, wide, lines = append(stacks, stack), append(wide, widths[j]), max(lines, len(stack))
		}
	}
	for i := range lines {
		var line strings.Builder
		for j, stack := range stacks {
			part := ""
			if i < len(stack) {
				part = stack[i]
			}
			line.WriteString(text.Pad(part, wide[j]+gap, ' '))
		}
		b.WriteString(strings.TrimRight(line.String(), " "))
		b.WriteByte('\n')
	}
}

// The colours of a terminal.
const (
	red, green, yellow, noColour = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
)

// shades are the colours of states. The word says it all; the colour finds it faster.
var shades = map[string]string{
	client.Delivered: green, client.Held: yellow, client.Retrying: yellow, client.Dead: red,
	"enabled": green, "paused": yellow, "unverified": yellow, "disabled": red,
}

// painted is a state in its colour.
func painted(state string) string {
	word, _, _ := strings.Cut(state, " ")
	if shades[word] == "" {
		return state
	}
	return shades[word] + state + noColour
}

// under prints what stands below the row, each with its column's name.
func (p printer) under(b *strings.Builder, all []tableColumn, places []tablePlace, cells []string) {
	name := 0
	for j := range all {
		if places[j] == below {
			name = max(name, text.StringWidthWithoutEscSequences(all[j].name))
		}
	}
	for j := range all {
		if places[j] != below || cells[j] == "-" {
			continue
		}
		for i, line := range folded(cells[j], max(p.width-margin-name-gap, least)) {
			label := ""
			if i == 0 {
				label = lowerName(all[j].name)
			}
			b.WriteString(strings.Repeat(" ", margin) + text.Pad(label, name+gap, ' ') + line + "\n")
		}
	}
}

// lowerName is a column's name as it stands before a value. A zone keeps its capitals.
func lowerName(name string) string {
	name, zone, _ := strings.Cut(name, " (")
	return strings.TrimSuffix(strings.ToLower(name)+" ("+zone, " (")
}

// pairs prints a name and a value on each line, leaving out those that have no value. Values are folded under themselves.
func (p printer) pairs(pairs ...[2]string) error {
	name := 0
	for _, pair := range pairs {
		if pair[1] != "" {
			name = max(name, text.StringWidthWithoutEscSequences(pair[0]))
		}
	}
	width := 0
	if p.width > 0 {
		width = max(p.width-name-gap, least)
	}
	var b strings.Builder
	for _, pair := range pairs {
		if pair[1] == "" {
			continue
		}
		label := printable(pair[0])
		for _, line := range folded(printable(pair[1]), width) {
			b.WriteString(text.Pad(label, name+gap, ' ') + line + "\n")
			label = ""
		}
	}
	_, err := io.WriteString(p.w, b.String())
	return err
}

// say prints sentences, folded to the terminal.
func (p printer) say(format string, a ...any) error {
	_, err := fmt.Fprintln(p.w, strings.Join(folded(printable(fmt.Sprintf(format, a...)), p.width), "\n"))
	return err
}

// folded is a text on lines of a width, broken between words only: a longer word is of use only whole. 0 is boundless.
func folded(s string, width int) []string {
	if width <= 0 || text.StringWidthWithoutEscSequences(s) <= width {
		return []string{s}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		longer := strings.TrimPrefix(line+" "+word, " ")
		if line != "" && text.StringWidthWithoutEscSequences(longer) > width {
			lines, longer = append(lines, line), word
		}
		line = longer
	}
	return append(lines, line)
}
