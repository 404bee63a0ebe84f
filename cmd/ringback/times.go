package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// timeExamples are what a flag that takes a time understands, for help and for errors.
const timeExamples = `24h or 2d (ago), today, yesterday, 2026-11-28, "2026-11-28 14:00" or 2026-11-28T14:00:00Z`

// timeHelp is for the description of every command with a timeFlag.
const timeHelp = "A TIME is " + timeExamples + ".\nWithout a zone it is the terminal's."

// timeFlag takes a time as people write it, see [readTime]. [timeOf] is the time that it was given.
func timeFlag(name, usage string) cli.Flag {
	return &cli.StringFlag{
		Name: name, Usage: usage,
		Action: func(_ *cli.Context, v string) error {
			if _, err := readTime(v, time.Now()); err != nil {
				return usagef("--%s: %v", name, err)
			}
			return nil
		},
	}
}

// timeOf is the time that a timeFlag was given, zero if it was given none.
func timeOf(c *cli.Context, flag string) time.Time {
	if !c.IsSet(flag) {
		return time.Time{}
	}
	t, _ := readTime(c.String(flag), time.Now()) // the flag has checked it
	return t
}

var (
	aSpan  = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(w|d|h|ms|m|s))+$`)
	aPart  = regexp.MustCompile(`([0-9]+(?:\.[0-9]+)?)(w|d|h|ms|m|s)`)
	aMonth = regexp.MustCompile(`(?i)^[0-9.]+ ?(mo|months?|y|years?)( ago)?$`)
	aDate  = regexp.MustCompile(`^(\d{4})-(\d\d)-(\d\d)(?:T(.+))?$`)
	anHour = regexp.MustCompile(`^(\d\d):(\d\d)(?::(\d\d))?$`)
	swung  = regexp.MustCompile(`^\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b`) // is 01/02/2026 in January?
)

// zoned are the forms that name a zone by how far it is from UTC.
var zoned = []string{time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04Z07:00", "2006-01-02 15:04Z07:00"}

// readTime reads a time as people write it: how long ago (24h, 2d, 1w2d), a day by name or date, a day and an hour, or RFC 3339. Where it names no
// zone, the one of now is meant. What could mean two times, or none, is refused, with examples.
func readTime(text string, now time.Time) (time.Time, error) {
	words := strings.Fields(text)
	if len(words) > 1 && words[len(words)-1] == "ago" {
		words = words[:len(words)-1]
	}
	if len(words) == 0 || len(words) > 3 {
		return time.Time{}, unreadable(text)
	}
	if len(words) == 1 {
		switch word := words[0]; {
		case strings.EqualFold(word, "now"):
			return now, nil
		case aSpan.MatchString(word):
			return ago(text, word, now)
		case strings.Trim(word, "0123456789") == "":
			return time.Time{}, fmt.Errorf("%q has no unit: write 90m, 24h or 2d for how long ago, or a date such as 2026-11-28", text)
		case anHour.MatchString(word):
			return time.Time{}, fmt.Errorf("%q: of which day? Write \"today %s\" or \"2026-11-28 %s\"", text, word, word)
		}
	}
	switch {
	case aMonth.MatchString(text):
		return time.Time{}, fmt.Errorf("%q: months and years differ in length: count in days or weeks, such as 30d or 4w, or name the day", text)
	case swung.MatchString(words[0]):
		return time.Time{}, fmt.Errorf("%q: which number is the month? Write the year first, as in 2026-11-28", text)
	}
	for _, layout := range zoned {
		if t, err := time.Parse(layout, strings.ToUpper(strings.Join(words, " "))); err == nil {
			return t, nil
		}
	}
	return dayAndHour(text, words, now)
}

// longestAgo bounds spans of time, so that none overflows.
const longestAgo = 10_000 * 24 * time.Hour

// ago reads a span of time, and is so long before now. A day is 24 hours.
func ago(text, span string, now time.Time) (time.Time, error) {
	unit := map[string]time.Duration{
		"w": 7 * 24 * time.Hour, "d": 24 * time.Hour, "h": time.Hour, "m": time.Minute, "s": time.Second, "ms": time.Millisecond,
	}
	var sum float64
	for _, part := range aPart.FindAllStringSubmatch(span, -1) {
		n, _ := strconv.ParseFloat(part[1], 64) // too large a number is infinite
		sum += n * float64(unit[part[2]])
	}
	if sum > float64(longestAgo) {
		return time.Time{}, fmt.Errorf("%q is longer ago than anything here: write a date such as 2026-11-28", text)
	}
	return now.Add(-time.Duration(sum)), nil
}

// oldest is the first year of a time: none here is older, and the zones of older ones have odd seconds.
const oldest = 1970

// dayAndHour reads a day, by name or date, an hour of it, and the zone's name. Without an hour it is the day's beginning.
func dayAndHour(text string, words []string, now time.Time) (time.Time, error) {
	year, month, day := now.Date()
	switch date := aDate.FindStringSubmatch(words[0]); {
	case strings.EqualFold(words[0], "today"):
	case strings.EqualFold(words[0], "yesterday"):
		day--
	case strings.EqualFold(words[0], "tomorrow"):
		day++
	case date != nil:
		year, month, day = number(date[1]), time.Month(number(date[2])), number(date[3])
		if noon := time.Date(year, month, day, 12, 0, 0, 0, time.UTC); noon.Day() != day || noon.Month() != month || year < oldest {
			return time.Time{}, fmt.Errorf("%q: there is no such day", text)
		}
		if date[4] != "" {
			words = append([]string{"", date[4]}, words[1:]...)
		}
	default:
		return time.Time{}, unreadable(text)
	}
	if len(words) == 1 {
		return beginning(year, month, day, now.Location()), nil
	}
	hour := anHour.FindStringSubmatch(words[1])
	if hour == nil {
		return time.Time{}, unreadable(text)
	}
	h, m, s := number(hour[1]), number(hour[2]), number(hour[3])
	if h > 23 || m > 59 || s > 59 {
		return time.Time{}, fmt.Errorf("%q: no day has such an hour", text)
	}
	if len(words) == 3 && words[2] == "UTC" {
		return time.Date(year, month, day, h, m, s, 0, time.UTC), nil
	}
	return onTheClock(text, time.Date(year, month, day, h, m, s, 0, now.Location()), fmt.Sprintf("%02d:%02d:%02d", h, m, s), words[2:])
}

// onTheClock is t if its zone's clocks show it once. Where they are put back they show some times twice, which the zone's name tells apart; where
// they are put forward they skip some.
func onTheClock(text string, t time.Time, shown string, name []string) (time.Time, error) {
	if t.Format(time.TimeOnly) != shown {
		return time.Time{}, fmt.Errorf("%q: the clocks are put forward then, and skip that time: write one an hour earlier or later", text)
	}
	all := []time.Time{t}
	for _, other := range []time.Duration{-time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour} { // how far clocks are put back
		if twin := t.Add(other); twin.Format(face) == t.Format(face) {
			all = append(all, twin)
		}
	}
	if len(name) > 0 {
		all = slices.DeleteFunc(all, func(t time.Time) bool { return zone(t) != name[0] })
		if len(all) == 0 {
			return time.Time{}, fmt.Errorf("%q: which zone is that? Leave it out for the terminal's, or write how far it is from UTC, as in 2026-11-28T14:00:00+01:00", text)
		}
	}
	if len(all) > 1 {
		slices.SortFunc(all, time.Time.Compare)
		return time.Time{}, fmt.Errorf("%q: the clocks are put back then, and show that time twice: write %s or %s",
			text, all[0].Format(time.RFC3339), all[1].Format(time.RFC3339))
	}
	return all[0], nil
}

// beginning is the first moment of a day, which is not at midnight where the clocks are put forward then.
func beginning(year int, month time.Month, day int, zone *time.Location) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, zone)
	from, to := t.ZoneBounds()
	switch noon := time.Date(year, month, day, 12, 0, 0, 0, zone); {
	case t.Hour() == 0 && t.Day() == noon.Day():
		return t
	case t.Day() == noon.Day():
		return from
	}
	return to
}

func unreadable(text string) error {
	return errors.New(strconv.Quote(text) + " is no time that this understands: write " + timeExamples)
}

// number reads digits.
func number(digits string) int {
	n, _ := strconv.Atoi(digits) // its callers have matched it
	return n
}

// face is how a time is shown to people, to the second.
const face = "2006-01-02 15:04:05"

// clock shows a time to people in a sentence: in the terminal's zone, which it names; the zero time as nothing.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(face) + " " + zone(t.Local())
}

// moment shows a time in a column that [times] made: the column's name says the zone, and the cell only if the clocks were put forward or
// back in between.
func moment(t time.Time) string {
	switch {
	case t.IsZero():
		return ""
	case zone(t.Local()) == zone(time.Now()):
		return t.Local().Format(face)
	}
	return clock(t)
}

// zone names the zone of a time. Some have numbers for names, such as -03.
func zone(t time.Time) string {
	name, _ := t.Zone()
	if strings.HasPrefix(name, "+") || strings.HasPrefix(name, "-") {
		return "UTC" + name
	}
	return name
}
