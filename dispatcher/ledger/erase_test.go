package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// traces are all keys of the company, and all that stands in them, that tell of a word.
func (d *desk) traces(word string) (found []string) {
	d.t.Helper()
	ctx := d.t.Context()
	names, err := d.rdb.Keys(ctx, "*").Result()
	d.must(err)
	for _, name := range names {
		var all []string
		switch d.rdb.Type(ctx, name).Val() {
		case "string":
			all = []string{d.rdb.Get(ctx, name).Val()}
		case "hash":
			for field, value := range d.rdb.HGetAll(ctx, name).Val() {
				all = append(all, field, value)
			}
		case "set":
			all = d.rdb.SMembers(ctx, name).Val()
		case "zset":
			all = d.rdb.ZRange(ctx, name, 0, -1).Val()
		case "stream":
			for _, entry := range d.rdb.XRange(ctx, name, "-", "+").Val() {
				for _, value := range entry.Values {
					all = append(all, value.(string))
				}
			}
		}
		if strings.Contains(strings.Join(append(all, name), "\n"), word) {
			found = append(found, name)
		}
	}
	return found
}

// brought has a delivery of an event to a callback come to a state.
func (d *desk) brought(event string, state State, cb int64) {
	d.t.Helper()
	if state == Held {
		d.pause(cb)
	}
	d.lane = nil
	d.accept([]string{event}, cb)
	switch how := map[State]ending{Delivered: well, Dead: badly, Retrying: badly.retried(hour)}; state {
	case Delivered, Dead, Retrying:
		d.finish(d.beginLane()[0], how[state])
	case Active:
		d.beginLane()
	case Cancelled:
		_, err := d.ledger.Cancel(d.t.Context(), d.ref(event, cb), "{}")
		d.must(err)
	case Pending, Held:
	}
	if state == Held {
		d.resume(cb)
	}
	if got := StateOf[d.record(event, cb).State]; got != state {
		d.t.Fatalf("it is %s, not %s", got, state)
	}
}

// TestAnErasureTakesEachState: what it says of it, and that nothing else tells of the event afterwards. The callback's other event stays what it is.
func TestAnErasureTakesEachState(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for state, want := range map[State]Erased{
		Pending:   {Events: 1, Deliveries: 1, Unfinished: 1},
		Active:    {Events: 1, Deliveries: 1, Unfinished: 1, InFlight: 1},
		Retrying:  {Events: 1, Deliveries: 1, Unfinished: 1},
		Held:      {Events: 1, Deliveries: 1, Unfinished: 1},
		Delivered: {Events: 1, Deliveries: 1},
		Dead:      {Events: 1, Deliveries: 1, Dead: 1},
		Cancelled: {Events: 1, Deliveries: 1},
	} {
		t.Run(string(state), func(t *testing.T) {
			d := server.of(t, "c-"+string(state))
			cb := d.callback("")
			d.brought("stays", state, cb)
			d.brought("goes", state, cb)
			before := d.health(cb)
			want.Done, want.Tasks = true, []Ticket{{Ref: d.ref("goes", cb), Generation: d.record("goes", cb).Generation}}
			got, err := d.ledger.EraseEvent(t.Context(), d.company, "goes", `{"by":"me"}`)
			d.must(err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("erased (-want +got):\n%s", diff)
			}
			if found := d.traces("goes"); len(found) > 0 {
				t.Errorf("left in %v", found)
			}
			after := d.health(cb)
			if mine := want.Unfinished + want.Dead; before.Pending+before.Held+before.Dead-mine != after.Pending+after.Held+after.Dead {
				t.Errorf("%d of it were counted; the health before is %+v, after %+v", mine, before, after)
			}
			if after.LastFailure != nil {
				t.Errorf("the last failure, which was the erased event's, is still told: %+v", after.LastFailure)
			}
			if StateOf[d.record("stays", cb).State] != state {
				t.Errorf("the other is %c", d.record("stays", cb).State)
			}
			if again, err := d.ledger.EraseEvent(t.Context(), d.company, "goes", `{"by":"me"}`); err != nil || again.Events != 0 || !again.Done {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// wide is how many callbacks a large event has: several pages.
const wide = 350

// large accepts an event for that many callbacks, and writes so many of its later pages.
func (d *desk) large(event string, pages int) {
	d.t.Helper()
	o := &Offer{Company: d.company, ID: event, Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte("{}"), Later: make([][]int64, 3)}
	for cb := range int64(wide) {
		if cb < 100 {
			o.First = append(o.First, First{Callback: cb + 1})
		} else {
			o.Later[cb/100-1] = append(o.Later[cb/100-1], cb+1)
		}
	}
	a, err := d.ledger.Accept(d.t.Context(), o)[0].Answer()
	d.must(err)
	if a.Outcome != Taken {
		d.t.Fatalf("%+v", a)
	}
	for range pages {
		_, err := d.ledger.Expand(d.t.Context(), d.company, event)
		d.must(err)
	}
}

// TestALargeEventIsErasedInPages: from the first on nothing of it is seen. Each page tells what all of them erased so far, and only the last writes
// the line.
func TestALargeEventIsErasedInPages(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		written int // of its later pages
		anew    bool
	}{
		"whole":                  {3, false},
		"written in part":        {1, false},
		"and accepted meanwhile": {3, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			d.large("goes", tt.written)
			var last Erased
			tasks := 0
			for pages := 1; !last.Done; pages++ {
				got, err := d.ledger.EraseEvent(t.Context(), d.company, "goes", `{"by":"me"}`)
				d.must(err)
				if got.Deliveries < last.Deliveries || pages > 20 {
					t.Fatalf("page %d: %+v after %+v", pages, got, last)
				}
				last, tasks = got, tasks+len(got.Tasks)
				if e, err := d.ledger.Event(t.Context(), d.company, "goes"); err != nil || e != nil && !tt.anew {
					t.Errorf("after page %d it is seen: %+v, %v", pages, e, err)
				}
				if lines := d.rdb.XLen(t.Context(), Key(d.company, "audit")).Val(); (lines == 1) != got.Done {
					t.Errorf("page %d: %d lines in the audit trail", pages, lines)
				}
				if pages == 1 && got.Done {
					t.Fatal("one page erased all")
				}
				if pages > 1 && tt.anew && len(got.Tasks) > 0 {
					t.Errorf("page %d: %d tasks are to be forgotten, whose names the new event's have, too", pages, len(got.Tasks))
				}
				if pages == 1 && tt.anew {
					d.large("goes", 3)
				}
			}
			last.Tasks = nil
			if diff := cmp.Diff(Erased{Events: 1, Deliveries: wide, Unfinished: wide, Done: true}, last); diff != "" {
				t.Errorf("erased (-want +got):\n%s", diff)
			}
			depths, err := d.ledger.Depths(t.Context(), []string{d.company})
			d.must(err)
			due := d.rdb.ZCard(t.Context(), Key(d.company, "due")).Val()
			if want := map[bool]int64{true: wide}[tt.anew]; due+depths[0].Held != want {
				t.Errorf("%d are due and %d held, want %d in all", due, depths[0].Held, want)
			}
			if want := map[int]int{3: wide, 1: 200}[tt.written]; !tt.anew && tasks != want {
				t.Errorf("%d tasks were named, want %d", tasks, want)
			}
		})
	}
}

// TestAnErasedEventsAttemptCountsForNothing where the event was accepted anew meanwhile.
func TestAnErasedEventsAttemptCountsForNothing(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, how := range map[string]ending{"delivered": well, "failed": badly, "to be retried": badly.retried(time.Hour)} {
		t.Run(name, func(t *testing.T) {
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			cb := d.callback("")
			d.accept([]string{"tale"}, cb)
			old := d.beginLane()[0]
			_, err := d.ledger.EraseEvent(t.Context(), d.company, "tale", "{}")
			d.must(err)
			d.accept([]string{"tale"}, cb)
			before := d.record("tale", cb)
			if got := d.finish(old, how).Outcome; got != NotOurs {
				t.Errorf("the old attempt's end is recorded: %v", got)
			}
			if diff := cmp.Diff(before, d.record("tale", cb)); diff != "" {
				t.Errorf("the new event's delivery changed:\n%s", diff)
			}
		})
	}
}
