package console

import (
	"fmt"
	"html/template"
	"slices"
	"strings"
)

// A bar is one bar of a [histogram]: what it stands for and how much there is.
type bar struct {
	Label string // of the axis, such as 14:05; empty: none
	Says  string // the whole of it, for the pointer and for those who do not see it
	Value int64
}

// The size of drawings, in units of their own: a page scales them to the width there is.
const (
	drawWide  = 600
	drawHigh  = 120
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
	fmt.Fprintf(&s, `<svg class="histogram" viewBox="0 0 %d %d" role="img" aria-label="%s">`, drawWide, drawHigh+18, template.HTMLEscapeString(says))
	step := float64(drawWide) / float64(max(1, len(bars)))
	for i, b := range bars {
		high := float64(drawHigh-12) * float64(b.Value) / float64(most)
		if b.Value > 0 {
			high = max(high, 2)
		}
		left := float64(i) * step
		fmt.Fprintf(&s, `<g><title>%s</title><rect class="hit" x="%.1f" y="0" width="%.1f" height="%d"/><rect class="bar" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="1.5"/></g>`,
			template.HTMLEscapeString(b.Says), left, step, drawHigh, left+step*.1, drawHigh-high, step*.8, high)
		if b.Label != "" {
			fmt.Fprintf(&s, `<text x="%.1f" y="%d">%s</text>`, left+step/2, drawHigh+14, template.HTMLEscapeString(b.Label))
		}
	}
	fmt.Fprintf(&s, `<line class="axis" x1="0" y1="%d" x2="%d" y2="%d"/></svg>`, drawHigh, drawWide, drawHigh)
	return template.HTML(s.String()) //nolint:gosec // all text in it is escaped above
}

// A series is one line of a drawing: its name, its look and its values.
type series struct {
	Name   string
	Look   string // a class of the style: each is drawn in a way of its own
	Values []int64
}

// lines draws series over the same time, with a legend below that says how much each is in all. every is how many minutes a value stands for.
func lines(all []series, labels []string, every int) template.HTML {
	most, in := int64(1), make([]int64, len(all))
	var says []string
	for i, s := range all {
		for _, n := range s.Values {
			most, in[i] = max(most, n), in[i]+n
		}
		says = append(says, figure(in[i])+" "+s.Name)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="lines" viewBox="0 0 %d %d" role="img" aria-label="%s">`, drawWide, drawHigh+18, template.HTMLEscapeString("In all: "+strings.Join(says, ", ")))
	if slices.Max(in) > 0 {
		fmt.Fprintf(&b, `<text class="most" x="2" y="10">%s in %d min</text>`, figure(most), every)
	}
	for _, s := range all {
		var points strings.Builder
		for i, n := range s.Values {
			fmt.Fprintf(&points, "%.1f,%.1f ", float64(drawWide)*float64(i)/float64(max(1, len(s.Values)-1)), float64(drawHigh)-float64(drawHigh-14)*float64(n)/float64(most))
		}
		fmt.Fprintf(&b, `<polyline class="%s" points="%s"/>`, template.HTMLEscapeString(s.Look), strings.TrimSpace(points.String()))
	}
	for i, label := range labels {
		if i%6 == 0 && i > 0 && i < len(labels)-1 {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d">%s</text>`, float64(drawWide)*float64(i)/float64(max(1, len(labels)-1)), drawHigh+14, template.HTMLEscapeString(label))
		}
	}
	fmt.Fprintf(&b, `<line class="axis" x1="0" y1="%d" x2="%d" y2="%d"/></svg><ul class="legend">`, drawHigh, drawWide, drawHigh)
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
