package ledger

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
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

// TestABlockOfVeryManyDeliveries is settled in several runs, and a change of what one of them has seen has it begin anew. Of an event with so many that a run
// does not read them, it is known that they have ended, and lists of all final states look at it.
func TestABlockOfVeryManyDeliveries(t *testing.T) {
	t.Parallel()
	const each, large = 21, 300
	d, ctx := newDesk(t, standard), t.Context()
	pipe := d.rdb.Pipeline()
	for i := range blockSize {
		id, n := strconv.Itoa(i), each
		if i == blockSize/2 {
			n = large
		}
		at := fmt.Sprintf("%d-0", 1000+i)
		fields := []any{"m", `{"t":"payment_proof"}`, "b", "{}", "a", at, "n", 0}
		for cb := range n {
			fields = append(fields, RecordField(int64(cb+1)), "D 1 1 1 1 -")
		}
		pipe.HSet(ctx, EventKey(d.company, id), fields...)
		pipe.XAdd(ctx, &redis.XAddArgs{Stream: Key(d.company, "log"), ID: at, Values: []string{"e", id}})
	}
	_, err := pipe.Exec(ctx)
	d.must(err)
	_, err = d.ledger.Summarize(ctx, d.company)
	d.must(err)
	block := fmt.Sprintf("%d-0", 1000+blockSize-1)
	field := func(name string) string { return d.rdb.HGet(ctx, "{"+d.company+"}:finals", name).Val() }
	step := func() {
		t.Helper()
		if more, err := d.ledger.Settle(ctx, d.company); err != nil || !more {
			t.Fatalf("%t, %v", more, err)
		}
	}
	expanding, forgotten := EventKey(d.company, "5"), redis.ZStore{Keys: []string{Key(d.company, "unsettled")}, Weights: []float64{0}}
	d.must(d.rdb.HSet(ctx, expanding, "e", "1 30").Err())
	step()
	if d.rdb.HLen(ctx, Key(d.company, "finals")).Val() != 1 {
		t.Error("a block is noted while an event of it expands")
	}
	d.must(d.rdb.HDel(ctx, expanding, "e").Err())
	d.must(d.rdb.ZUnionStore(ctx, forgotten.Keys[0], &forgotten).Err())
	step()
	if got := field("~" + block); !strings.HasSuffix(got, " D") || field(block) != "" {
		t.Fatalf("after a run: %q", got)
	}
	_, err = d.ledger.Replay(ctx, d.ref("3", 1), "{}")
	d.must(err)
	if got := field("~" + block); got != "" {
		t.Errorf("after a replay: %q", got)
	}
	d.must(d.rdb.HSet(ctx, EventKey(d.company, "3"), RecordField(1), "C 2 1 1 1 -").Err())
	step()
	step()
	step()
	if got := field(block); got != "DXC" || field("~"+block) != "" {
		t.Errorf("in the end: %q", got)
	}
}
