package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ringback/ringback/dispatcher/client"
)

// printExchange prints what an attempt sent, if that was asked for, and what it was answered.
func printExchange(out printer, a *client.Attempt, asked bool) error {
	var b strings.Builder
	if asked {
		fmt.Fprintf(&b, "\nattempt %d sent, at %s%s:\n\n", a.Number, whenSent(a), timing(a.Timing))
		writeRequest(&b, out, a)
	}
	if a.ResponseBody != "" || len(a.ResponseHeaders) > 0 {
		fmt.Fprintf(&b, "\nattempt %d was answered %d:\n\n", a.Number, a.StatusCode)
		writeHeaders(&b, a.ResponseHeaders)
		writeBody(&b, printableText(pretty(out, []byte(a.ResponseBody))))
	}
	return out.text(b.String())
}

// whenSent is when an attempt's request began, as far as that is known.
func whenSent(a *client.Attempt) string {
	if a.Request != nil {
		return clock(a.Request.SentAt)
	}
	return clock(a.StartedAt)
}

// timing says where the time went.
func timing(t *client.Timing) string {
	if t == nil {
		return ""
	}
	var phases []string
	for _, phase := range []struct {
		name string
		ms   float64
	}{{"dns", t.DNS}, {"connect", t.Connect}, {"tls", t.TLS}, {"first byte", t.FirstByte}} {
		if phase.ms > 0 {
			phases = append(phases, phase.name+" "+millis(phase.ms))
		}
	}
	if t.Reused {
		phases = append(phases, "on a connection that had served before")
	}
	said := ", in " + millis(t.Total)
	if len(phases) > 0 { // a connection that was refused came to none
		said += " (" + strings.Join(phases, ", ") + ")"
	}
	return said
}

// millis are milliseconds with three digits that count, or as many as there are before the point.
func millis(ms float64) string {
	if ms >= 100 {
		return fmt.Sprintf("%.0fms", ms)
	}
	return fmt.Sprintf("%.3gms", ms)
}

// writeRequest writes a request as HTTP/1.1 has it, or why there is none.
func writeRequest(b *strings.Builder, out printer, a *client.Attempt) {
	r := a.Request
	if r == nil {
		fmt.Fprintf(b, "(%s)\n", printable(cmp.Or(a.RequestMissing, "the server does not say what was sent")))
		return
	}
	fmt.Fprintf(b, "%s %s\n", printable(r.Method), printable(r.URL))
	writeHeaders(b, r.Headers)
	body, err := r.BodyBytes()
	if err != nil {
		body, r.BodyMissing = nil, err.Error()
	}
	switch {
	case body == nil:
		fmt.Fprintf(b, "\n(the body is not shown: %s)\n", printable(r.BodyMissing))
		writeElements(b, out, r.Elements)
	case out.width > 0:
		writeBody(b, printableText(pretty(out, body)))
	default: // to a file or a program it goes as it was sent
		writeBody(b, string(body))
	}
	if r.Incomplete {
		b.WriteString("(it could not be written to its end: the partner may have a part of it)\n")
	}
}

// writeElements writes what is known of a batch's elements, if its body is not shown.
func writeElements(b *strings.Builder, out printer, elements []client.Element) {
	for i, e := range elements {
		said := e.DeliveryID
		if e.Missing != "" {
			said = strings.TrimPrefix(said+": "+e.Missing, ": ")
		}
		fmt.Fprintf(b, "\nelement %d of %d, %s\n", i+1, len(elements), printable(said))
		if out.width > 0 {
			e.Body = printableText(pretty(out, []byte(e.Body)))
		}
		writeBody(b, e.Body)
	}
}

func writeHeaders(b *strings.Builder, headers map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		fmt.Fprintf(b, "%s: %s\n", printable(name), printable(headers[name]))
	}
}

// writeBody writes a body behind headers.
func writeBody(b *strings.Builder, body string) {
	if body == "" {
		return
	}
	b.WriteString("\n" + body)
	if !strings.HasSuffix(body, "\n") {
		b.WriteByte('\n')
	}
}

// pretty is a body as people read it on a terminal: JSON is indented. Elsewhere it is as it was.
func pretty(out printer, body []byte) string {
	var b bytes.Buffer
	if out.width > 0 && json.Indent(&b, body, "", "  ") == nil {
		return b.String()
	}
	return string(body)
}

// text prints a text as it is.
func (p printer) text(s string) error {
	_, err := p.w.Write([]byte(s))
	return err
}
