package ledger

import (
	"fmt"
	"testing"
)

// An event expands until its last page is written. Those of a type are counted, up to a limit; one that is being erased is none.
func TestExpandingEventsOfAType(t *testing.T) {
	d := newDesk(t, standard)
	want := func(typ string, limit, want int) {
		t.Helper()
		if n, err := d.ledger.Expanding(t.Context(), d.company, typ, limit); n != want || err != nil {
			t.Errorf("of %s: %d, %v; want %d", typ, n, err, want)
		}
	}
	want("payment_proof", 100, 0)
	d.large("one", 0)
	d.large("two", 2)
	want("payment_proof", 100, 2)
	want("customer.created", 100, 0)
	_, err := d.ledger.Expand(t.Context(), d.company, "two")
	d.must(err)
	want("payment_proof", 100, 1)
	// It goes by pages of those in the set, and stops where the limit is.
	for i := range 2 * expandingPage {
		d.must(d.rdb.Do(t.Context(), "ZADD", Key(d.company, "paged"), 1, fmt.Sprintf("gone-%d", i)).Err())
	}
	want("payment_proof", 100, 1)
	d.large("three", 0)
	want("payment_proof", 1, 1)
	want("payment_proof", 100, 2)
	_, err = d.ledger.EraseEvent(t.Context(), d.company, "one", "{}")
	d.must(err)
	want("payment_proof", 100, 1)
}
