package ledger

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestBulksAreKeptForAWhile: those that ended, and for less time those that only counted. Those that run stay.
func TestBulksAreKeptForAWhile(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		store := func(id, state string) {
			now, err := d.ledger.Now(d.t.Context())
			d.must(err)
			d.must(d.ledger.StoreBulk(d.t.Context(), &Bulk{ID: id, State: state, States: []State{Dead}, Created: now}, 10, "{}"))
		}
		kept := func(want ...string) {
			d.t.Helper()
			d.must(d.ledger.TidyBulks(d.t.Context()))
			all, err := d.ledger.Bulks(d.t.Context(), "", 100)
			d.must(err)
			var ids []string
			for _, b := range all {
				ids = append(ids, b.ID)
			}
			if slices.Sort(ids); !slices.Equal(ids, want) {
				d.t.Errorf("%q are kept, want %q", ids, want)
			}
			if n := d.rdb.Exists(d.t.Context(), Key(bulks, "parts:ended")).Val(); (n == 1) != slices.Contains(want, "ended") {
				d.t.Errorf("%d of its parts", n)
			}
		}
		store("counted", "dry_run")
		store("ended", "running")
		store("runs", "running")
		b, err := d.ledger.Bulk(d.t.Context(), "ended")
		d.must(err)
		ok, err := d.ledger.NamePart(d.t.Context(), b, "acme", &Part{Company: "acme"})
		d.must(err)
		again, err := d.ledger.NamePart(d.t.Context(), &Bulk{ID: "ended"}, "acme", &Part{Company: "acme"}) // by somebody who looked before
		if !ok || again || err != nil {
			d.t.Errorf("named: %t, again: %t, %v", ok, again, err)
		}
		d.must(d.ledger.EndBulk(d.t.Context(), "ended"))
		kept("counted", "ended", "runs")
		time.Sleep(countKept + time.Second)
		kept("ended", "runs")
		time.Sleep(replayKept)
		kept("runs")
	})
}

// TestOnlySoManyBulksAreKept: the newest that only counted, whosever they are, and all that run.
func TestOnlySoManyBulksAreKept(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	now, err := d.ledger.Now(t.Context())
	d.must(err)
	store := func(id, of, state string) {
		d.must(d.ledger.StoreBulk(t.Context(), &Bulk{ID: id, Company: of, State: state, States: []State{Dead}, Created: now}, 10, "{}"))
	}
	store("runs", "", "running")
	for i := range keptBulks + 5 {
		store(fmt.Sprintf("z%d", i), fmt.Sprint("c", i%20), "dry_run")
	}
	d.must(d.ledger.TidyBulks(t.Context()))
	if n := d.rdb.ZCard(t.Context(), Key(bulks, "replays")).Val(); n != keptBulks+1 {
		t.Errorf("%d are kept, want %d and the one that runs", n, keptBulks)
	}
	if b, err := d.ledger.Bulk(t.Context(), "runs"); err != nil || b == nil || b.State != "running" {
		t.Errorf("the one that runs: %+v, %v", b, err)
	}
}

// TestACompanyKeepsItsBulksBesideAnothers: whoever counts again and again pushes out its own only, and nothing that runs.
func TestACompanyKeepsItsBulksBesideAnothers(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	store := func(company, id, state string, at int64) {
		d.must(d.ledger.StoreBulk(t.Context(), &Bulk{ID: id, Company: company, State: state, States: []State{Dead}, Created: FromMS(at)}, 10, "{}"))
	}
	now, err := d.ledger.Now(t.Context())
	d.must(err)
	at := now.UnixMilli()
	store("acme", "theirs", "dry_run", at)
	store("loud", "runs", "running", at)
	for i := range keptOfScope + 7 {
		store("loud", fmt.Sprintf("z%03d", i), "dry_run", at+int64(i))
	}
	for company, want := range map[string]int{"acme": 1, "loud": keptOfScope + 1} {
		all, err := d.ledger.Bulks(t.Context(), company, 1000)
		d.must(err)
		if len(all) != want {
			t.Errorf("%s keeps %d, want %d", company, len(all), want)
		}
	}
	for id, want := range map[string]bool{"runs": true, "z006": false, "z007": true, "z106": true} {
		if b, err := d.ledger.Bulk(t.Context(), id); err != nil || (b != nil) != want {
			t.Errorf("%s is kept: %t, want %t (%v)", id, b != nil, want, err)
		}
	}
}

// TestABulkIsReadAsItWasStored: all, some and none of the companies and callbacks are told apart.
func TestABulkIsReadAsItWasStored(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	for i, b := range []Bulk{
		{},
		{Companies: []string{}, Callbacks: []int64{}},
		{Companies: []string{"a"}, Callbacks: []int64{7}},
		{Companies: []string{"a", "b"}, Callbacks: []int64{7, 8}, Company: "a", By: "k", EventType: "t", Reason: "timeout", Pace: 3, Matched: 4, Bodiless: 5, Estimate: true},
	} {
		b.ID, b.State, b.States, b.Created = fmt.Sprint("b", i), "running", []State{Retrying, Dead}, FromMS(1000)
		b.Span = Span{FromMS(1), FromMS(2)}
		d.must(d.ledger.StoreBulk(t.Context(), &b, 10, "{}"))
		again, err := d.ledger.Bulk(t.Context(), b.ID)
		d.must(err)
		if diff := cmp.Diff(&b, again); diff != "" {
			t.Errorf("(-stored +read):\n%s", diff)
		}
	}
}
