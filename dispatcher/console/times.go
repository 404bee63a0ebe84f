package console

import (
	"errors"
	"fmt"
	"html/template"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// stamp is a time as a page shows it without script: in UTC, to the second. The script puts it into the viewer's zone.
func stamp(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	t = t.UTC()
	// Neither format lets anything through but digits and the letters in it.
	return template.HTML(fmt.Sprintf(`<time datetime="%s">%s</time>`, t.Format(time.RFC3339Nano), t.Format("2006-01-02 15:04:05 MST"))) //nolint:gosec // see above
}

// written are the times in the API's sentences, and what they put between backticks.
var written = regexp.MustCompile("\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\dZ|`[^`]+`")

// says is a sentence of the API's as a page shows it.
func says(text string) template.HTML { return told(sentence(text)) }

// told is a text of the API's with its times as a page shows them.
func told(text string) template.HTML {
	return template.HTML(written.ReplaceAllStringFunc(template.HTMLEscapeString(text), func(found string) string { //nolint:gosec // it is escaped
		if code, ok := strings.CutPrefix(found, "`"); ok {
			return "<code>" + strings.TrimSuffix(code, "`") + "</code>"
		}
		t, err := time.Parse(time.RFC3339, found)
		if err != nil {
			return found
		}
		return string(stamp(t))
	}))
}

// minuteOf is a minute of the day in a sentence of the API's, as it says those that are near.
var minuteOf = regexp.MustCompile(`(^|[^:\d])(\d\d:\d\d) UTC`)

// near is a sentence of the API's as a page shows it, in which minutes of the day lie within the day after from.
func near(text string, from time.Time) template.HTML {
	return template.HTML(minuteOf.ReplaceAllStringFunc(string(says(text)), func(found string) string { //nolint:gosec // it is escaped
		m := minuteOf.FindStringSubmatch(found)
		at, err := time.Parse(time.DateOnly+" 15:04", from.UTC().Format(time.DateOnly)+" "+m[2])
		if err != nil {
			return found
		}
		if at.Before(from.UTC().Truncate(time.Minute)) {
			at = at.AddDate(0, 0, 1)
		}
		return fmt.Sprintf(`%s<time datetime="%s" data-clock="%[2]s">%s UTC</time>`, m[1], at.Format(time.RFC3339), m[2])
	}))
}

// breaks is a name as a page shows it: where there is no room for it, it goes on in the next line behind one of these, and not within a word.
func breaks(name string) template.HTML {
	var b strings.Builder
	for name != "" {
		at := strings.IndexAny(name, "/.-:_?&@,") + 1
		if at == 0 || at == len(name) {
			at = len(name)
		}
		b.WriteString(template.HTMLEscapeString(name[:at]))
		if name = name[at:]; name != "" {
			b.WriteString("<wbr>")
		}
	}
	return template.HTML(b.String()) //nolint:gosec // all of it is escaped
}

// apart is how far a time lies from now: "in 3 min", "2 h ago".
func apart(t, now time.Time) string {
	switch d := t.Sub(now).Round(time.Second); {
	case t.IsZero():
		return ""
	case d > 0:
		return "in " + span(d)
	case d > -time.Second:
		return "now"
	default:
		return span(-d) + " ago"
	}
}

// span is a duration in its two greatest units: "2 h 5 min".
func span(d time.Duration) string {
	units := []struct {
		name string
		long time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	var parts []string
	for _, u := range units {
		n := d / u.long
		d -= n * u.long
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, u.name))
		} else if len(parts) > 0 {
			break
		}
		if len(parts) == 2 {
			break
		}
	}
	if len(parts) == 0 {
		return "less than 1 s"
	}
	return strings.Join(parts, " ")
}

// errBadTime says how people write times here.
var errBadTime = errors.New("must be a span back from now such as 90m, 24h or 3d, or a time in UTC such as 2026-11-28, 2026-11-28 15:04 or 2026-11-28T15:04:05Z")

// back is a span back from now, as people write it.
var back = regexp.MustCompile(`^([0-9]{1,5})(s|m|h|d)$`)

// moment reads a time as people write it in a form. An empty text is the zero time.
func moment(text string, now time.Time) (time.Time, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, nil
	}
	if m := back.FindStringSubmatch(text); m != nil {
		n, _ := strconv.Atoi(m[1]) // five digits
		unit := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour}[m[2]]
		return now.Add(-time.Duration(n) * unit).UTC().Truncate(time.Second), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly, "2006-01-02 15:04", "2006-01-02T15:04", time.DateTime, "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errBadTime
}
