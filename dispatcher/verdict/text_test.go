package verdict

import (
	"testing"
	"time"
)

func TestText(t *testing.T) {
	for _, tc := range []struct{ got, want string }{
		{Clip("short", 5), "short"},
		{Clip("too long", 5), "too l…"},
		{Clip("über", 1), "…"}, // no half of a letter is left
		{Printable("a\x1b[31m<b>\u202e\xff\n"), "a[31mb"},
		{InWords(2 * time.Minute), "2m"},
		{InWords(90 * time.Minute), "1h30m"},
		{InWords(24 * time.Hour), "24h"},
		{InWords(61 * time.Second), "1m1s"},
		{InWords(10 * time.Second), "10s"},
	} {
		if tc.got != tc.want {
			t.Errorf("%q, want %q", tc.got, tc.want)
		}
	}
}
