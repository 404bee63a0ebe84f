package console

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"
)

// A bar is one bar of a [histogram]: what it stands for and how much there is.
type bar struct {
	Label string // of the axis, such as 14:05; empty: none
	Says  string // the whole of it, for the pointer and for those who do not see it; it begins with At, in UTC
	Value int64
	At    time.Time
}

// The size of drawings, in units of their own: a page scales them to the width there is.
const (
	drawWide  = 600
	drawHigh  = 120
	drawFew   = 10 // things that take half the width
	sparkWide = 120
	sparkHigh = 24
	sparkLast = 24 // things in it
)

// histogram draws bars side by side. says is the text that stands for it where it is not seen.
func histogram(says string, bars []bar) template.HTML {
	most := int64(1)
	for _, b := range bars {
		most = max(most, b.Value)
	}
	var s strings.Builder
	wide, look := drawFor(len(bars))
	fmt.Fprintf(&s, `<svg class="histogram%s" viewBox="0 0 %d %d" role="img" aria-label="%s">`, look, wide, drawHigh+18, template.HTMLEscapeString(says))
	step := float64(wide) / float64(max(1, len(bars)))
	for i, b := range bars {
		high := float64(drawHigh-12) * float64(b.Value) / float64(most)
		if b.Value > 0 {
			high = max(high, 2)
		}
		left := float64(i) * step
		fmt.Fprintf(&s, `<g><title data-clock="%s">%s</title><rect class="hit" x="%.1f" y="0" width="%.1f" height="%d"/><rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5"/></g>`,
			b.At.UTC().Format(time.RFC3339), template.HTMLEscapeString(b.Says), left, step, drawHigh, left+step*.1, drawHigh-high, step*.8, high)
		if b.Label != "" {
			fmt.Fprintf(&s, `<text x="%.1f" y="%d" data-clock="%s">%s</text>`, left+step/2, drawHigh+14, b.At.UTC().Format(time.RFC3339), template.HTMLEscapeString(b.Label))
		}
	}
	fmt.Fprintf(&s, `<line class="axis" x1="0" y1="%d" x2="%d" y2="%d"/></svg>`, drawHigh, wide, drawHigh)
	return template.HTML(s.String()) //nolint:gosec // all text in it is escaped above
}

// drawFor is the width of a drawing of so many things, with the class of its style: a few of them take half of it.
func drawFor(things int) (wide int, look string) {
	if things <= drawFew {
		return drawWide / 2, " half"
	}
	return drawWide, ""
}

// A series is one line of a drawing: its name, its look and its values.
type series struct {
	Name   string
	Look   string // a class of the style: each is drawn in a way of its own
	Values []int64
}

// lines draws series over the same time, with a legend below that says how much each is in all. times are those of the values, every is how many minutes
// a value stands for.
func lines(all []series, times []time.Time, every int) template.HTML {
	most, in := int64(1), make([]int64, len(all))
	var says []string
	for i, s := range all {
		for _, n := range s.Values {
			most, in[i] = max(most, n), in[i]+n
		}
		says = append(says, figure(in[i])+" "+s.Name)
	}
	var b strings.Builder
	wide, look := drawFor(len(times))
	fmt.Fprintf(&b, `<svg class="lines%s" viewBox="0 0 %d %d" role="img" aria-label="%s">`, look, wide, drawHigh+18, template.HTMLEscapeString("In all: "+strings.Join(says, ", ")))
	if slices.Max(in) > 0 {
		fmt.Fprintf(&b, `<text class="most" x="2" y="10">%s in %d min</text>`, figure(most), every)
	}
	for _, s := range all {
		var points strings.Builder
		for i, n := range s.Values {
			fmt.Fprintf(&points, "%.1f,%.1f ", float64(wide)*float64(i)/float64(max(1, len(s.Values)-1)), float64(drawHigh)-float64(drawHigh-14)*float64(n)/float64(most))
		}
		fmt.Fprintf(&b, `<polyline class="%s" points="%s"/>`, template.HTMLEscapeString(s.Look), strings.TrimSpace(points.String()))
	}
	apart := 6
	if len(times) <= drawFew {
		apart = 3
	}
	for i := apart; i < len(times)-1; i += apart {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" data-clock="%s">%s</text>`,
			float64(wide)*float64(i)/float64(len(times)-1), drawHigh+14, times[i].UTC().Format(time.RFC3339), times[i].UTC().Format("15:04"))
	}
	fmt.Fprintf(&b, `<line class="axis" x1="0" y1="%d" x2="%d" y2="%d"/></svg><ul class="legend">`, drawHigh, wide, drawHigh)
	for i, s := range all {
		fmt.Fprintf(&b, `<li><svg class="lines key" viewBox="0 0 28 8" aria-hidden="true" focusable="false"><polyline class="%s" points="0,4 28,4"/></svg> %s</li>`,
			template.HTMLEscapeString(s.Look), template.HTMLEscapeString(says[i]))
	}
	b.WriteString(`</ul>`)
	return template.HTML(b.String()) //nolint:gosec // all text in it is escaped above
}

// A fate is how a delivery is drawn that went well, went badly, or has not gone yet: as a bar up, a bar down or a dot, so that no colour has to be told
// from another.
type fate string

const (
	up   fate = "good"
	down fate = "bad"
	flat fate = "idle"
)

// fatesDrawn draws how things went one after the other. says is the text that stands for it where it is not seen.
func fatesDrawn(says string, fates []fate) template.HTML {
	var bars strings.Builder
	step := float64(sparkWide) / float64(max(1, sparkLast))
	for i, f := range fates {
		x, y, high := step*float64(i), float64(sparkHigh/2)-1, 2.0
		switch f {
		case up:
			y, high = 2, sparkHigh/2-2
		case down:
			y, high = sparkHigh/2, sparkHigh/2-2
		case flat:
		}
		fmt.Fprintf(&bars, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`, f, x+step*.15, y, step*.7, high)
	}
	return template.HTML(fmt.Sprintf(`<svg class="spark fates" viewBox="0 0 %d %d" role="img" aria-label="%s">%s</svg>`, //nolint:gosec // the text in it is escaped
		sparkWide, sparkHigh, template.HTMLEscapeString(says), bars.String()))
}
