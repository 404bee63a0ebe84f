package main

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // whose clocks are put forward and back, on every machine
)

func inZone(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// TestTimesAreReadAsPeopleWriteThem: what names no zone is in that of the terminal, and a day begins when its clocks say so.
func TestTimesAreReadAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
	const berlin, havana, beirut = "Europe/Berlin", "America/Havana", "Asia/Beirut"
	for _, tt := range []struct{ zone, now, text, want string }{
		{berlin, "2026-11-28T14:05:06+01:00", "now", "2026-11-28T14:05:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "24h", "2026-11-27T14:05:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2d", "2026-11-26T14:05:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "1w2d", "2026-11-19T14:05:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "90m ago", "2026-11-28T12:35:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "1.5h", "2026-11-28T12:35:06+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "today", "2026-11-28T00:00:00+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "Yesterday", "2026-11-27T00:00:00+01:00"},
		{berlin, "2026-12-01T14:05:06+01:00", "yesterday 09:30", "2026-11-30T09:30:00+01:00"},
		{berlin, "2026-11-30T14:05:06+01:00", "tomorrow", "2026-12-01T00:00:00+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28", "2026-11-28T00:00:00+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-07-01", "2026-07-01T00:00:00+02:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2028-02-29", "2028-02-29T00:00:00+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28 14:00", "2026-11-28T14:00:00+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28T14:00:01", "2026-11-28T14:00:01+01:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28T14:00:00.5Z", "2026-11-28T14:00:00.5Z"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28 14:00+05:30", "2026-11-28T14:00:00+05:30"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28 14:00:05 CET", "2026-11-28T14:00:05+01:00"}, // as it is shown
		{berlin, "2026-11-28T14:05:06+01:00", "2026-11-28 14:00:05 UTC", "2026-11-28T14:00:05Z"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-10-25 02:30 CEST", "2026-10-25T02:30:00+02:00"},
		{berlin, "2026-11-28T14:05:06+01:00", "2026-10-25 02:30:00 CET", "2026-10-25T02:30:00+01:00"},
		{berlin, "2026-03-29T14:05:06+02:00", "24h", "2026-03-28T13:05:06+01:00"},   // a day of 23 hours lies between
		{beirut, "2022-03-27T14:05:06+03:00", "today", "2022-03-27T01:00:00+03:00"}, // its midnight was skipped
		{havana, "2025-11-02T14:05:06-05:00", "today", "2025-11-02T00:00:00-04:00"}, // its midnight came twice
		{"UTC", "2026-11-28T14:05:06Z", "2026-03-29 02:30", "2026-03-29T02:30:00Z"},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		want, err := time.Parse(time.RFC3339, tt.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readTime(tt.text, now.In(inZone(t, tt.zone)))
		if err != nil || !got.Equal(want) {
			t.Errorf("%q in %s at %s is %v (%v), want %s", tt.text, tt.zone, tt.now, got, err, tt.want)
		}
	}
}

// TestTimesThatMeanTwoOrNoneAreRefused, each with what to write instead.
func TestTimesThatMeanTwoOrNoneAreRefused(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 14, 5, 6, 0, inZone(t, "Europe/Berlin"))
	for text, want := range map[string]string{
		"": "2026-11-28", "soon": "24h or 2d (ago)", "-24h": "24h or 2d (ago)", "yesterdy": "yesterday", "24 h": "24h", "1d 2h": "24h or 2d",
		"24": "24 has no unit", "1732000000": "has no unit", "14:00": `"today 14:00"`, "3mo": "30d or 4w", "1 year ago": "30d or 4w", "2y": "30d or 4w",
		"11/12/2026": "which number is the month", "01.02.26": "which number is the month", "28-11-2026 14:00": "which number is the month",
		"2026-02-30": "no such day", "2026-13-01": "no such day", "2026-11-31 14:00": "no such day", "2026-02-30T10:00:00": "no such day",
		"2026-11-28 25:00": "no day has such an hour", "2026-11-28 14:61": "no day has such an hour", "2026-11-28 2pm": "14:00",
		"2026-03-29 02:30": "skip that time", "2026-10-25 02:30": "2026-10-25T02:30:00+02:00 or 2026-10-25T02:30:00+01:00",
		"2026-11-28 14:00 PST": "which zone", "2026-11-28 14:00 CEST": "which zone", "today 14:00 CET please": "write 24h",
		"99999999999w": "longer ago than anything", "20000d": "longer ago than anything", strings.Repeat("9", 400) + "h": "longer ago than anything",
	} {
		got, err := readTime(text, now)
		if err == nil {
			t.Errorf("%q is taken for %s", text, got)
		} else if said := strings.ReplaceAll(err.Error(), `"24"`, "24"); !strings.Contains(said, want) || strings.Contains(said, "\n") {
			t.Errorf("%q: %s, want %s", text, err, want)
		}
	}
}

func FuzzReadTime(f *testing.F) {
	for _, seed := range []string{"24h", "1w2d", "yesterday 14:00", "2026-11-28", "2026-11-28 14:00:05 CET", "2026-11-28T14:00:00.5+05:30", "14:00", "9e9h", "1/2/2026"} {
		f.Add(seed)
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		f.Fatal(err)
	}
	now := time.Date(2026, 10, 25, 14, 5, 6, 0, zone)
	f.Fuzz(func(t *testing.T, text string) {
		got, err := readTime(text, now)
		if err != nil {
			return
		}
		again, err := readTime(got.Format(time.RFC3339Nano), now)
		if err != nil || !again.Equal(got) {
			t.Errorf("%q is %s, and that is %s (%v)", text, got, again, err)
		}
	})
}
