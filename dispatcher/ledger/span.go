package ledger

import (
	"strconv"
	"time"
)

// A Span is a time of acceptance: from Since (inclusive) until Until (exclusive). Zero: without end on that side.
type Span struct{ Since, Until time.Time }

// bounds are the span's in milliseconds, as ranges of a stream take them.
func (s Span) bounds() (oldest, newest string) {
	oldest, newest = "-", "+"
	if !s.Since.IsZero() {
		oldest = strconv.FormatInt(ceilMS(s.Since), 10)
	}
	if !s.Until.IsZero() {
		newest = strconv.FormatInt(max(0, ceilMS(s.Until)-1), 10)
	}
	return oldest, newest
}

// Has reports whether a time, which Redis's clock gave, is in the span.
func (s Span) Has(t time.Time) bool {
	return (s.Since.IsZero() || !t.Before(s.Since)) && (s.Until.IsZero() || t.Before(s.Until))
}

func ceilMS(t time.Time) int64 { return max(0, t.Add(time.Millisecond-1).UnixMilli()) }

func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return ceilMS(t)
}
