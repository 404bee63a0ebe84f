package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// prune goes through the book once, and returns what each page said.
func (d *desk) prune(keep time.Duration) (pages []Pruned) {
	d.t.Helper()
	for {
		p, err := d.ledger.Prune(d.t.Context(), d.company, keep)
		d.must(err)
		if pages = append(pages, p); p.Done {
			return pages
		}
	}
}

// A watch is a time in which somebody goes through the book now and then.
type watch struct {
	lasts, every time.Duration // every 0: nobody does
	keep         time.Duration
}

// TestTheDeadArePruned once they are dead for as long as they are kept, and not before that was announced for a tenth of that time, to somebody who
// looked all along. With ten hours that is an hour. A look is missed after ten minutes.
func TestTheDeadArePruned(t *testing.T) {
	const keep, minute = 10 * time.Hour, time.Minute
	for name, tt := range map[string]struct {
		looks            []watch
		pruned, expiring int64
	}{
		"at first":                       {[]watch{{minute, minute, keep}}, 0, 0},
		"before the last hour":           {[]watch{{9*hour - 5*minute, 5 * minute, keep}}, 0, 0},
		"in the last hour":               {[]watch{{9*hour + 30*minute, 5 * minute, keep}}, 0, 1},
		"at the end":                     {[]watch{{10*hour - 5*minute, 5 * minute, keep}}, 0, 1},
		"after it":                       {[]watch{{10*hour + 5*minute, 5 * minute, keep}}, 1, 0},
		"long after, but not announced":  {[]watch{{15 * hour, 0, keep}, {60 * minute, 5 * minute, keep}}, 0, 1},
		"long after, announced":          {[]watch{{15 * hour, 0, keep}, {65 * minute, 5 * minute, keep}}, 1, 0},
		"nobody looked for nine minutes": {[]watch{{15 * hour, 0, keep}, {55 * minute, 5 * minute, keep}, {4 * minute, 0, keep}, {30 * minute, 5 * minute, keep}}, 1, 0},
		"nobody looked for eleven":       {[]watch{{15 * hour, 0, keep}, {55 * minute, 5 * minute, keep}, {6 * minute, 0, keep}, {30 * minute, 5 * minute, keep}}, 0, 1},
		"kept for less than announced":   {[]watch{{15 * hour, 0, keep}, {55 * minute, 5 * minute, keep}, {30 * minute, 5 * minute, keep / 2}}, 0, 1},
		"and that is announced, too":     {[]watch{{15 * hour, 0, keep}, {55 * minute, 5 * minute, keep}, {35 * minute, 5 * minute, keep / 2}}, 1, 0},
		"kept for longer than announced": {[]watch{{9*hour + 30*minute, 5 * minute, keep}, {hour, 5 * minute, 2 * keep}}, 0, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				d.attempt(cb, badly)
				var pruned, expiring int64
				for _, w := range tt.looks {
					end := time.Now().Add(w.lasts)
					for w.every > 0 && time.Now().Before(end) {
						p := d.prune(w.keep)[0]
						pruned, expiring = pruned+p.Pruned, p.Expiring
						time.Sleep(w.every)
					}
					time.Sleep(time.Until(end))
				}
				if pruned != tt.pruned || expiring != tt.expiring {
					t.Errorf("%d were pruned, %d expire, want %d and %d", pruned, expiring, tt.pruned, tt.expiring)
				}
				if got := d.health(cb).Dead; got != 1-pruned {
					t.Errorf("the callback has %d dead", got)
				}
			})
		})
	}
}

// TestPruningIsSaidOnceADay, however often somebody looks.
func TestPruningIsSaidOnceADay(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb, keep := d.callback(""), 100*day
		d.attempt(cb, badly)
		var said []time.Duration
		began := time.Now()
		for time.Sleep(95 * day); time.Since(began) < 98*day; time.Sleep(8 * hour) {
			if d.prune(keep)[0].Announce {
				said = append(said, time.Since(began).Truncate(hour)-95*day)
			}
		}
		if diff := cmp.Diff([]time.Duration{0, day, 2 * day}, said); diff != "" {
			t.Errorf("it is said (-want +got):\n%s", diff)
		}
	})
}

// TestPruningGoesOnWhereItWas: a book of several pages, whose first entry died late in a long schedule and stays.
func TestPruningGoesOnWhereItWas(t *testing.T) {
	const dead, keep, minute = 250, time.Hour, time.Minute
	inBubble(t, bounded(1, 72*time.Hour), func(d *desk) {
		cb := d.callback("")
		d.accept([]string{"late"}, cb)
		late := d.beginLane()[0]
		d.pause(cb)
		d.accept(numbered("p-", dead+1), cb)
		time.Sleep(50 * minute)
		d.finish(late, badly)
		time.Sleep(5 * minute)
		if diff := cmp.Diff([]Pruned{{}, {}, {Done: true, Expiring: dead, Announce: true}}, d.prune(keep)); diff != "" {
			t.Errorf("announced (-want +got):\n%s", diff)
		}
		for range 2 {
			time.Sleep(5 * minute)
			if p := d.prune(keep); len(p) > 1 && p[0].Pruned > 0 {
				if diff := cmp.Diff([]Pruned{{Pruned: 99}, {Pruned: 100}, {Pruned: 51, Done: true}}, p); diff != "" {
					t.Errorf("pruned (-want +got):\n%s", diff)
				}
				break
			}
		}
		book, err := d.ledger.Book(d.t.Context(), acme, BookOfDead, -1, Span{}, 1000)
		d.must(err)
		if len(book) != 1 || book[0].Name != "late/1" {
			t.Errorf("in the book is %v", book)
		}
		if why, gone := d.record("p-0", cb).Pruned(); why != verdict.ReasonHoldFull || !gone {
			t.Errorf("the first is pruned: %t, buried by %q", gone, why)
		}
		if ttl := d.rdb.TTL(d.t.Context(), EventKey(acme, "p-0")).Val(); ttl <= 0 {
			t.Errorf("an event whose dead was pruned does not age: %s", ttl)
		}
		if diff := cmp.Diff([]Pruned{{Done: true}}, d.prune(keep)); diff != "" || d.rdb.Exists(d.t.Context(), Key(acme, "prune")).Val() != 0 {
			t.Errorf("nothing is left to do (-want +got):\n%s", diff)
		}
	})
}
