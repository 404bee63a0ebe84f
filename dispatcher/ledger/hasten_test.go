package ledger

import (
	"fmt"
	"testing"
	"time"
)

// TestAHastening lets go at once what is retrying, with the attempts and the budget that it has, if its gate is open. All else stays as it is.
func TestAHastening(t *testing.T) {
	t.Parallel()
	server := newDesk(t, bounded(2, hour))
	for state, want := range map[State]map[string]HastenOutcome{
		Retrying:  {"open": Hastened, "waiting": Hastened, "closed": HastenClosed, "full": HastenFull},
		Pending:   {"open": HastenSoon, "waiting": HastenSoon, "closed": HastenClosed, "full": HastenSoon},
		Active:    {"open": HastenSoon, "waiting": HastenSoon, "closed": HastenSoon, "full": HastenSoon},
		Held:      {"open": HastenHeld, "waiting": HastenHeld, "closed": HastenHeld},
		Delivered: {"open": HastenFinal, "waiting": HastenFinal, "closed": HastenFinal, "full": HastenFinal},
		Dead:      {"open": HastenFinal, "waiting": HastenFinal, "closed": HastenFinal, "full": HastenFinal},
		Cancelled: {"open": HastenFinal, "waiting": HastenFinal, "closed": HastenFinal, "full": HastenFinal},
	} {
		for room, outcome := range want {
			t.Run(fmt.Sprintf("%s, %s", state, room), func(t *testing.T) {
				t.Parallel()
				d := server.of(t, string(state)+"-"+room)
				cb := d.callback("")
				d.brought("p", state, cb)
				if room != "open" {
					d.pause(cb)
				}
				if room == "waiting" || room == "full" {
					d.accept(numbered("held-", map[string]int{"waiting": 1, "full": 2}[room]-int(d.health(cb).Held)), cb)
					d.resume(cb)
				}
				before := d.record("p", cb)
				h, err := d.ledger.Hasten(t.Context(), d.ref("p", cb), "{}")
				d.must(err)
				if h.Outcome != outcome || h.Goes != (outcome == Hastened && room == "open") {
					t.Errorf("it ended as %+v, want outcome %d", h, outcome)
				}
				after := d.record("p", cb)
				if after.Spent != before.Spent || after.Number != before.Number || after.Attempts != before.Attempts {
					t.Errorf("%+v became %+v", before, after)
				}
				if outcome != Hastened {
					if after != before {
						t.Errorf("%+v became %+v", before, after)
					}
					return
				}
				if want := map[bool]State{true: Pending, false: Held}[h.Goes]; after.Generation != before.Generation+1 || StateOf[after.State] != want || h.Old != before.Generation {
					t.Errorf("%+v became %+v, want %s", before, after, want)
				}
				if n := d.rdb.ZCard(t.Context(), Key(d.company, fmt.Sprintf("retry:%d", cb))).Val(); n != 0 {
					t.Errorf("it is still among those that wait for their next attempt")
				}
			})
		}
	}
	if h, err := server.ledger.Hasten(t.Context(), server.ref("nobody", 1), "{}"); err != nil || h.Outcome != HastenUnknown {
		t.Errorf("nobody: %+v, %v", h, err)
	}
}

// TestAnEarlyAttemptIsPaidFor: it counts on, and the last of the budget is the last.
func TestAnEarlyAttemptIsPaidFor(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.brought("p", Retrying, cb)
	for spent := 1; spent < 3; spent++ {
		h, err := d.ledger.Hasten(t.Context(), d.ref("p", cb), "{}")
		d.must(err)
		a, why := d.begin(d.claim(h.Ticket))
		if a == nil {
			t.Fatalf("it does not begin: %+v", why)
		}
		if a.grant.Spent != spent || a.grant.Number != spent+1 || a.grant.Replayed {
			t.Errorf("attempt %d begins with %d spent, a replay's: %t", a.grant.Number, a.grant.Spent, a.grant.Replayed)
		}
		d.finish(a, badly.retried(hour))
	}
}

// TestALateDeliveryIsFound: what is pending and was begun by nobody for long is named, to have its task anew.
func TestALateDeliveryIsFound(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.callback("")
		d.accept([]string{"p"}, cb)
		for _, want := range []HastenOutcome{HastenSoon, HastenLate} {
			h, err := d.ledger.Hasten(d.t.Context(), d.ref("p", cb), "{}")
			d.must(err)
			if h.Outcome != want || want == HastenLate && h.Ticket != d.lane[0] {
				t.Errorf("it is %+v, want outcome %d", h, want)
			}
			time.Sleep(standard.Patience)
		}
	})
}
