package console

import (
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

func TestTimesAsPeopleWriteThem(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"": "0001-01-01T00:00:00Z", "90m": "2026-11-30T10:30:00Z", "24h": "2026-11-29T12:00:00Z", "3d": "2026-11-27T12:00:00Z", " 5s ": "2026-11-30T11:59:55Z",
		"2026-11-28": "2026-11-28T00:00:00Z", "2026-11-28 15:04": "2026-11-28T15:04:00Z", "2026-11-28T15:04": "2026-11-28T15:04:00Z",
		"2026-11-28T15:04:05+01:00": "2026-11-28T14:04:05Z", "2026-11-28 15:04:05": "2026-11-28T15:04:05Z",
		"soon": "", "-3d": "", "3w": "", "999999d": "", "2026-13-01": "",
	} {
		got, err := moment(text, now)
		if want == "" {
			if err == nil {
				t.Errorf("%q is taken for %s", text, got)
			}
		} else if err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q is %s (%v), want %s", text, got, err, want)
		}
	}
}

func TestTimesForPeople(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "now", 400 * time.Millisecond: "now", -3 * time.Second: "3 s ago", 61 * time.Second: "in 1 min 1 s", -2 * time.Hour: "2 h ago",
		-(26*time.Hour + 5*time.Minute): "1 d 2 h ago", -(24*time.Hour + 5*time.Minute): "1 d ago",
	} {
		if got := apart(now.Add(d), now); got != want {
			t.Errorf("%s from now is %q, want %q", d, got, want)
		}
	}
	zoned := time.Date(2026, 11, 30, 13, 0, 0, 5000000, time.FixedZone("X", 3600))
	if got := string(stamp(zoned)); got != `<time datetime="2026-11-30T12:00:00.005Z">2026-11-30 12:00:00 UTC</time>` {
		t.Error(got)
	}
}

func TestWordsForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "−1,234"} {
		if got := figure(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	for want, got := range map[string]string{
		"1 delivery": count(1, "delivery"), "2,000 deliveries": count(2000, "delivery"), "0 attempts": count(0, "attempt"),
		"Answered 503: it is down.": sentence("answered 503: it is down"), "": sentence(" "), "Is it?": sentence("is it?"),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if p := pillOf("never_heard_of"); p.Word != "never heard of" || p.Shape == "" || p.Tone == "" {
		t.Errorf("%+v", p)
	}
	for word, p := range pills {
		if p.Word == "" || p.Shape == "" || p.Tone == "" {
			t.Errorf("%s has no word, shape or tone: %+v", word, p)
		}
	}
}

func TestSentencesOfTheAPI(t *testing.T) {
	got := string(says("answered <503> at 2026-11-30T12:00:00Z: see `ringback doctor`"))
	if want := `Answered &lt;503&gt; at <time datetime="2026-11-30T12:00:00Z">2026-11-30 12:00:00 UTC</time>: see <code>ringback doctor</code>.`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := string(told("e-1 was accepted")); got != "e-1 was accepted" {
		t.Error(got)
	}
}

// Minutes of the day that a sentence says are times, of the day or of the next.
func TestMinutesOfTheDay(t *testing.T) {
	from := time.Date(2026, 11, 30, 23, 50, 30, 0, time.UTC)
	got := string(near("most (<3>) from 23:50 UTC on, some at 00:10 UTC, at 2026-11-30T22:33:37Z and 99:99 UTC", from))
	want := `Most (&lt;3&gt;) from <time datetime="2026-11-30T23:50:00Z" data-clock="2026-11-30T23:50:00Z">23:50 UTC</time> on, some at <time datetime="2026-12-01T00:10:00Z" ` +
		`data-clock="2026-12-01T00:10:00Z">00:10 UTC</time>, at <time datetime="2026-11-30T22:33:37Z">2026-11-30 22:33:37 UTC</time> and 99:99 UTC.`
	if got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A name can go on in the next line behind a stroke or a dot, and is text all the same.
func TestNamesBreak(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "acme": "acme", "https://a.example/x?y=<z>": "https:<wbr>/<wbr>/<wbr>a.<wbr>example/<wbr>x?<wbr>y=&lt;z&gt;", "a_b.": "a_<wbr>b.",
	} {
		if got := string(breaks(name)); got != want {
			t.Errorf("%q: %s, want %s", name, got, want)
		}
	}
}

// A list says how attempts failed once, and for the others the word for it, and when they are tried again. What is no failure stays as it is.
func TestListsSaySentencesOnce(t *testing.T) {
	next := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	row := func(reason, detail, summary string) deliveryRow {
		d := &client.Delivery{Summary: summary, NextAttemptAt: next}
		if detail != "" {
			d.Attempts = []client.Attempt{{Reason: reason, Detail: detail}}
		}
		return deliveryRow{Delivery: d}
	}
	held := func(callback int64, reason, summary string) deliveryRow {
		return deliveryRow{Delivery: &client.Delivery{State: client.Held, CallbackID: callback, HeldReason: reason, Summary: summary}}
	}
	rows := []deliveryRow{
		row("status_503", "answered 503", "attempt 1: answered 503. Next in 4s"), row("status_503", "answered 503", "attempt 2: answered 503. Next in 9s"),
		row("", "answered 204", "delivered by attempt 1: answered 204"), row("", "answered 204", "delivered by attempt 2: answered 204"), row("", "", "waits"),
		row("status_503", "answered 503", "cancelled"), held(1, "paused", "it is held: 1 is paused"), held(1, "paused", "it is held: 1 is paused"), held(2, "paused", "it is held: 2 is paused"),
	}
	briefly(rows)
	for i, want := range []string{
		"attempt 1: answered 503. Next in 4s", "attempt 2: `status_503`", "delivered by attempt 1: answered 204", "delivered by attempt 2: answered 204", "waits", "cancelled",
		"it is held: 1 is paused", "`paused`, as above", "it is held: 2 is paused",
	} {
		if rows[i].Said != want || rows[i].Next.IsZero() == (i == 1) {
			t.Errorf("row %d says %q and %s, want %q", i, rows[i].Said, rows[i].Next, want)
		}
	}
}

// Drawings show the part of their time in which something happens.
func TestDrawingsLeaveOutEmptyTime(t *testing.T) {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	o := &overview{AsOf: at}
	o.Wave.Minutes = make([]int64, 60)
	if waveOf(o).Picture != "" {
		t.Error("a wave of nothing is drawn")
	}
	for last, want := range map[int]struct {
		bars int
		says string
	}{0: {10, "The next 10 minutes"}, 9: {10, "The next 10 minutes"}, 10: {20, "The next 20 minutes"}, 59: {60, "By the minute."}} {
		o.Wave.Minutes = make([]int64, 60)
		o.Wave.Minutes[last] = 3
		d := waveOf(o)
		if n := strings.Count(string(d.Picture), `class="bar"`); n != want.bars || !strings.HasPrefix(d.Axis, want.says) {
			t.Errorf("retries until minute %d: %d bars, and %q", last, n, d.Axis)
		}
	}
	for first, want := range map[int]struct {
		points int
		says   string
	}{-1: {0, ""}, 0: {36, "By five minutes."}, 92: {18, "By five minutes."}, 149: {7, "By five minutes."}, 150: {30, "The last 30 minutes"}, 159: {30, "The last 30 minutes"}, 160: {20, "The last 20 minutes"}, 170: {10, "The last 10 minutes"}, 179: {10, "The last 10 minutes"}} {
		minutes := make([]minute, 180)
		for i := range minutes {
			minutes[i].At = at.Add(time.Duration(i-180) * time.Minute)
		}
		if first >= 0 {
			minutes[first].Failed = 2
		}
		d := flowOf(minutes)
		_, points, _ := strings.Cut(string(d.Picture), `points="`)
		points, _, _ = strings.Cut(points, `"`)
		if n := strings.Count(points, ","); n != want.points || !strings.HasPrefix(d.Axis, want.says) {
			t.Errorf("first in minute %d: %d points, and %q", first, n, d.Axis)
		}
	}
}

func TestDrawingsHaveWords(t *testing.T) {
	noon := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	drawn := string(histogram(`retries <"due">`, []bar{{"12:00", "12:00: 3 <retries>", 3, noon}, {"", "none", 0, noon.Add(time.Minute)}}))
	for _, want := range []string{`role="img"`, `aria-label="retries &lt;&#34;due&#34;&gt;"`, `<title data-clock="2026-11-30T12:00:00Z">12:00: 3 &lt;retries&gt;</title>`, `data-clock="2026-11-30T12:00:00Z">12:00</text>`, `class="histogram half" viewBox="0 0 300 138"`, `height="108.0"`, `height="0.0"`} {
		if !strings.Contains(drawn, want) {
			t.Errorf("no %s in %s", want, drawn)
		}
	}
	fates := string(fatesDrawn("a <line>", []fate{up, flat, down}))
	for _, want := range []string{`aria-label="a &lt;line&gt;"`, `class="good" x="0.8" y="2.0"`, `class="idle" x="5.8" y="11.0"`, `class="bad" x="10.8" y="12.0"`} {
		if !strings.Contains(fates, want) {
			t.Errorf("no %s in %s", want, fates)
		}
	}
	flow := string(lines([]series{{"<taken>", "first", []int64{1, 2}}, {"lost", "third", []int64{0, 0}}}, []time.Time{noon, noon.Add(5 * time.Minute)}, 5))
	for _, want := range []string{`aria-label="In all: 3 &lt;taken&gt;, 0 lost"`, `<li>`, `3 &lt;taken&gt;</li>`, "2 in 5 min"} {
		if !strings.Contains(flow, want) {
			t.Errorf("no %s in %s", want, flow)
		}
	}
}
