package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// noted is what is known of a company's blocks, of each a line, once all that can be known is.
func (d *desk) noted() []string {
	d.t.Helper()
	for _, step := range []func() (bool, error){
		func() (bool, error) { return d.ledger.Summarize(d.t.Context(), d.company) },
		func() (bool, error) { return d.ledger.Settle(d.t.Context(), d.company) },
	} {
		for more := true; more; {
			var err error
			more, err = step()
			d.must(err)
		}
	}
	notes, err := d.rdb.HGetAll(d.t.Context(), "{"+d.company+"}:finals").Result()
	d.must(err)
	lines := []string{}
	for block, states := range notes {
		if block != "/" {
			lines = append(lines, states)
		}
	}
	return lines
}

// inOneRun lists what is in a state, and whether one run of the search sufficed.
func (d *desk) inOneRun(state State) (found string, whole bool) {
	d.t.Helper()
	var names []string
	for from, runs := LogPlace(""), 1; ; runs++ {
		events, next, err := d.ledger.Search(d.t.Context(), d.company, from, Search{States: []State{state}}, 100)
		d.must(err)
		for _, e := range events {
			names = append(names, e.ID)
		}
		if next == "" {
			return strings.Join(names, " "), runs == 1
		}
		from = next
	}
}

// TestASettledBlock is left out, in one run, by lists of states that it has none of. Whatever gives one of its deliveries another state unsettles it: the
// delivery is found, and the block is settled anew once all of it is final again.
func TestASettledBlock(t *testing.T) {
	t.Parallel()
	var late *owned
	for name, tt := range map[string]struct {
		before, after func(d *desk, cb int64) // of the event that this is about
		notes, then   string
		state         State // its state between
	}{
		"a replay": {
			func(d *desk, cb int64) { d.brought("it", Delivered, cb) },
			func(d *desk, cb int64) { d.replay("it", cb) },
			"D", "D", Pending,
		},
		"a replay of many": {
			func(d *desk, cb int64) { d.brought("it", Cancelled, cb) },
			func(d *desk, cb int64) {
				_, err := d.ledger.GoOnSweeping(d.t.Context(), d.company, d.sweep(Sweep{Callback: cb, States: []State{Cancelled}}))
				d.must(err)
			},
			"DC", "D", Pending,
		},
		"cancelled under way, and delivered": {
			func(d *desk, cb int64) {
				d.accept([]string{"it"}, cb)
				late = d.beginLane()[0]
				_, err := d.ledger.Cancel(d.t.Context(), d.ref("it", cb), "{}")
				d.must(err)
			},
			func(d *desk, _ int64) { d.finish(late, well) },
			"DC", "D", Delivered,
		},
		"dead, and delivered by an owner that was taken for gone": {
			func(d *desk, cb int64) {
				d.accept([]string{"it"}, cb)
				late = d.beginLane()[0]
				time.Sleep(2 * lease)
				overdue, err := d.ledger.Overdue(d.t.Context(), d.company, 10)
				d.must(err)
				again, _ := d.begin(d.claim(overdue.Lost[0]))
				d.finish(again, badly)
			},
			func(d *desk, _ int64) { d.finish(late, well) },
			"DX", "D", Delivered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules := standard
			rules.Window = 1000
			inBubble(t, rules, func(d *desk) {
				cb := d.callback("")
				tt.before(d, cb)
				d.lane = nil
				d.accept(numbered("other-", blockSize-1), cb)
				d.deliverLane()
				_ = d.noted()
				time.Sleep(6 * time.Second)
				if got := d.noted(); !cmp.Equal(got, []string{tt.notes}) {
					t.Fatalf("noted: %q, want %s", got, tt.notes)
				}
				if _, whole := d.inOneRun(Pending); !whole {
					t.Error("a list walks through a block that has nothing for it")
				}
				tt.after(d, cb)
				if found, _ := d.inOneRun(tt.state); !strings.Contains(found, "it") {
					t.Errorf("%s: found %q", tt.state, found)
				}
				if tt.state == Pending && len(d.noted()) > 0 {
					t.Error("what has not ended is settled")
				}
				if tt.state == Pending {
					d.lane = []Ticket{{Ref: d.ref("it", cb), Generation: 2}}
					d.deliverLane()
				}
				time.Sleep(time.Minute)
				if got := d.noted(); !cmp.Equal(got, []string{tt.then}) {
					t.Errorf("in the end: %q, want %s", got, tt.then)
				}
			})
		})
	}
}
