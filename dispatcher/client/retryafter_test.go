package client

import (
	"testing"
	"time"
)

var someDay = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// A server's wait is never cut short by a number that does not fit, and never negative.
func TestRetryAfter(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": 0, "soon": 0, "1e99": 0, "0": 0, "-1": 0, "-99999999999999999999": 0, "+5": 0, "99999999999999999999x": 0, "120": 2 * time.Minute,
		"9223372037": longestWait, "18446744074": longestWait, "99999999999999999999": longestWait,
		"Sat, 28 Nov 2026 12:00:30 GMT": 30 * time.Second, "Sat, 28 Nov 2026 11:00:00 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": longestWait,
	} {
		if got := retryAfter(value, someDay); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if e := (&BatchResult{Status: 429, RetryAfter: 18446744074}).Err().(*APIError); e.RetryAfter != longestWait { //nolint:errorlint,forcetypeassert // it is
		t.Errorf("a line's: %s", e.RetryAfter)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"120", "-1", "18446744074", "Fri, 31 Dec 9999 23:59:59 GMT"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if got := retryAfter(value, someDay); got < 0 || got > longestWait {
			t.Errorf("%q: %s", value, got)
		}
	})
}
