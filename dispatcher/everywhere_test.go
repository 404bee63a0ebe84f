package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"testing"
	"time"
)

// braided is a braid of companies that have entries at these milliseconds, the newest first. A company that has none fails.
func braided(companies map[string][]int64) *braid[string] {
	type entry = string // its time and company
	b := &braid[entry]{of: func(e entry) (at int64, inner string) {
		_, _ = fmt.Sscanf(e, "%d", &at)
		return at, "inner"
	}}
	read := map[string]*int{} // how many of each; companies are asked at the same time
	for company, times := range companies {
		s := &strand[entry]{company: company, bound: 99}
		read[company] = new(int)
		if len(times) > 0 {
			s.bound = times[0]
		}
		b.strands = append(b.strands, s)
	}
	b.fetch = func(_ context.Context, s *strand[entry], limit int) (items []entry, next string, err error) {
		left := companies[s.company][*read[s.company]:]
		if len(companies[s.company]) == 0 {
			return nil, "", errors.New("no answer from " + s.company)
		}
		for _, at := range left[:min(limit, len(left))] {
			items = append(items, fmt.Sprint(at, " ", s.company))
		}
		if *read[s.company] += len(items); len(items) < len(left) {
			next = logPosition{strconv.FormatInt(left[len(items)-1], 10) + "-0", 0}.cursor()
		}
		return items, next, nil
	}
	return b
}

// TestCompaniesAreMerged: the newest of all first, those of a millisecond by company, and so many as were asked for. Where the time is up, the list says how far
// it came, and what a company does not answer is not left out silently.
func TestCompaniesAreMerged(t *testing.T) {
	t.Parallel()
	g := &guard{log: slog.New(slog.DiscardHandler)}
	long := make([]int64, 40) // more than a company is asked for at a time
	var want []string
	for i := range long {
		long[i] = int64(60 - i)
	}
	for _, at := range long {
		if at == 60 || at == 21 {
			want = append(want, fmt.Sprint(at, " a"))
		}
		want = append(want, fmt.Sprint(at, " b"))
		if at == 21 {
			want = append(want, "21 c", "20 c")
		}
	}
	companies := map[string][]int64{"a": {60, 21}, "b": long, "c": {21, 20}}
	later := time.Now().Add(time.Hour)
	for _, limit := range []int{1, 2, 39, len(want) - 1, len(want), 500} {
		got, next, err := braided(companies).merge(t.Context(), g, limit, later)
		if err != nil || !slices.Equal(got, want[:min(limit, len(want))]) || (next != "") != (limit < len(want)) {
			t.Errorf("%d of them, %q, %v: %q", limit, next, err, got)
		}
	}
	got, next, err := braided(companies).merge(t.Context(), g, 5, time.Now().Add(-time.Second))
	if p, bad := parseEveryPlace(next); err != nil || bad != nil || len(got) != 0 || p != (everyPlace{60, "a", ""}) || !ReachedEverywhere(next).Equal(time.UnixMilli(60)) {
		t.Errorf("the time is up: %q, %+v, %v", got, p, err)
	}
	companies["d"] = nil
	if got, _, err := braided(companies).merge(t.Context(), g, 5, later); err == nil || len(got) != 0 {
		t.Errorf("a company does not answer: %q, %v", got, err)
	}
}
