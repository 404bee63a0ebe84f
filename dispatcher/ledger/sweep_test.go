package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// sweep begins a replay of many of a callback's deliveries.
func (d *desk) sweep(s Sweep) *Sweep {
	d.t.Helper()
	s.ID, s.State = "sweep", "running"
	d.must(d.ledger.StoreSweep(d.t.Context(), d.company, &s, "{}"))
	return &s
}

// TestASweepSelects by state, type, reason and time of acceptance. What it counts is what it replays, once.
func TestASweepSelects(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		what Sweep
		want []string
	}{
		"the dead":         {Sweep{States: []State{Dead}}, []string{"dead", "silent"}},
		"the delivered":    {Sweep{States: []State{Delivered}}, []string{"delivered"}},
		"the retrying":     {Sweep{States: []State{Retrying}}, []string{"retrying"}},
		"two by status":    {Sweep{States: []State{Retrying, Dead}, Reason: "status_500"}, []string{"dead", "retrying"}},
		"the cancelled":    {Sweep{States: []State{Cancelled}}, []string{"cancelled"}},
		"two states":       {Sweep{States: []State{Dead, Cancelled}}, []string{"cancelled", "dead", "silent"}},
		"by status":        {Sweep{States: []State{Dead}, Reason: "status_500"}, []string{"dead"}},
		"by silence":       {Sweep{States: []State{Dead}, Reason: verdict.ReasonTimeout}, []string{"silent"}},
		"of the type":      {Sweep{States: []State{Dead}, EventType: "payment_proof"}, []string{"dead", "silent"}},
		"of another type":  {Sweep{States: []State{Dead}, EventType: "entry_code"}, nil},
		"what is over":     {Sweep{States: []State{Dead, Delivered, Cancelled}}, []string{"cancelled", "dead", "delivered", "silent"}},
		"until long ago":   {Sweep{States: []State{Dead}, Span: Span{Until: FromMS(1000)}}, nil},
		"since long ago":   {Sweep{States: []State{Dead}, Span: Span{Since: FromMS(1000)}}, []string{"dead", "silent"}},
		"another callback": {Sweep{States: []State{Dead}, Callback: 2}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			cb := d.callback("")
			for _, state := range []State{Dead, Delivered, Cancelled, Pending, Active, Retrying} {
				d.brought(string(state), state, cb)
			}
			d.lane = nil
			d.accept([]string{"silent"}, cb)
			d.finish(d.beginLane()[0], silence)
			if tt.what.Callback == 0 {
				tt.what.Callback = cb
			}
			matched, _, next, err := d.ledger.CountSweep(t.Context(), d.company, &tt.what, "")
			d.must(err)
			s := d.sweep(tt.what)
			swept, err := d.ledger.GoOnSweeping(t.Context(), d.company, s)
			d.must(err)
			var replayed []string
			for _, event := range []string{"active", "cancelled", "dead", "delivered", "pending", "retrying", "silent"} {
				if d.record(event, cb).Generation == 2 {
					replayed = append(replayed, event)
				}
			}
			if diff := cmp.Diff(tt.want, replayed); diff != "" || !swept.Done || len(swept.Released) != len(tt.want) {
				t.Errorf("%+v; replayed (-want +got):\n%s", swept, diff)
			}
			if matched != int64(len(tt.want)) || next != "" {
				t.Errorf("%d were counted, and it goes on at %q", matched, next)
			}
		})
	}
}

// TestASweepWaitsForPlaces: it replays no more than fit into the room beside what may come back from the lanes, and waits while a window is held.
func TestASweepWaitsForPlaces(t *testing.T) {
	const dead = 8
	for name, tt := range map[string]struct {
		window, holdMax int
		lane, held      int
		waits           bool
		replayed        int
	}{
		"all of them":             {20, 100, 0, 0, false, dead},
		"as many as may be held":  {20, 3, 0, 0, false, 3},
		"places for the lane":     {20, 3, 2, 0, false, 1},
		"the lane has all":        {20, 3, 3, 0, true, 0},
		"some are held":           {20, 3, 0, 2, false, 1},
		"held, and in the lane":   {20, 5, 1, 2, false, 2},
		"no more may be held":     {20, 3, 0, 3, true, 0},
		"a window is held":        {4, 100, 0, 4, true, 0},
		"less than a window":      {4, 100, 0, 3, false, dead},
		"more in the lane though": {4, 100, 4, 0, false, dead},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, bounded(tt.holdMax, hour), func(d *desk) {
				rules := bounded(tt.holdMax, hour)
				rules.Window = tt.window
				d.rule(rules)
				cb := d.callback("")
				d.fail(cb, dead, 0, badly)
				if tt.lane > 0 {
					d.accept(numbered("lane-", tt.lane), cb)
				}
				d.pause(cb)
				if tt.held > 0 {
					d.accept(numbered("held-", tt.held), cb)
				}
				s := d.sweep(Sweep{Callback: cb, States: []State{Dead}})
				swept, err := d.ledger.GoOnSweeping(d.t.Context(), d.company, s)
				d.must(err)
				now, err := d.ledger.Sweep(d.t.Context(), d.company, s.ID)
				d.must(err)
				if swept.Wait != tt.waits || now.Replayed != int64(tt.replayed) {
					t.Errorf("it waits: %t, want %t; %d are replayed, want %d", swept.Wait, tt.waits, now.Replayed, tt.replayed)
				}
				if got := d.health(cb); got.Held != int64(tt.held+tt.replayed) || got.Dead != int64(dead-tt.replayed) {
					t.Errorf("%d are held and %d dead: somebody was given up", got.Held, got.Dead)
				}
			})
		})
	}
}

// TestAReplayByHand starts from what is over, or waits for its next attempt, and needs a place in the room.
func TestAReplayByHand(t *testing.T) {
	t.Parallel()
	server := newDesk(t, bounded(2, hour))
	for state, want := range map[State]ActOutcome{
		Delivered: Released, Dead: Released, Cancelled: Released, Retrying: Released,
		Pending: WrongState, Active: WrongState, Held: WrongState,
	} {
		for _, room := range []string{"open", "closed", "full"} {
			t.Run(fmt.Sprintf("%s, %s", state, room), func(t *testing.T) {
				t.Parallel()
				d := server.of(t, string(state)+"-"+room)
				cb := d.callback("")
				d.brought("p", state, cb)
				expected := want
				if room != "open" {
					d.pause(cb)
					expected = map[bool]ActOutcome{true: Done, false: want}[want == Released]
				}
				if room == "full" {
					d.accept(numbered("held-", 2-int(d.health(cb).Held)), cb)
					expected = map[bool]ActOutcome{true: RoomFull, false: want}[want == Released]
				}
				before := d.record("p", cb)
				r, err := d.ledger.Replay(t.Context(), d.ref("p", cb), "{}")
				d.must(err)
				if r.Outcome != expected {
					t.Errorf("it ended as %d, want %d", r.Outcome, expected)
				}
				if after := d.record("p", cb).Generation; (after == before.Generation+1) != (expected == Released || expected == Done) {
					t.Errorf("generation %d became %d", before.Generation, after)
				}
			})
		}
	}
}

// TestASweepKeepsItsPace: it replays so many a second, in steps of its callers' rounds, from where it stood. What it did not use is not saved up for long.
func TestASweepKeepsItsPace(t *testing.T) {
	for name, tt := range map[string]struct {
		pace   int64
		rounds []time.Duration // how long each waits
		want   []int64         // replayed after each
	}{
		"two a second":   {2, []time.Duration{0, 0, 500 * time.Millisecond, 2 * time.Second}, []int64{2, 2, 3, 7}},
		"after a pause":  {2, []time.Duration{0, time.Minute}, []int64{2, 10}},
		"faster than it": {500, []time.Duration{0}, []int64{20}},
		"none":           {0, []time.Duration{0}, []int64{20}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				const dead = 20
				cb := d.callback("")
				d.fail(cb, dead, 0, badly)
				d.must(d.rdb.HDel(d.t.Context(), Key(d.company, fmt.Sprintf("health:%d", cb)), "f", "l", "o", "b", "k").Err())
				s := d.sweep(Sweep{Callback: cb, States: []State{Dead}, Pace: tt.pace})
				for i, pause := range tt.rounds {
					time.Sleep(pause)
					for {
						swept, err := d.ledger.GoOnSweeping(d.t.Context(), d.company, s)
						d.must(err)
						if swept.Wait || swept.Done {
							break
						}
					}
					now, err := d.ledger.Sweep(d.t.Context(), d.company, s.ID)
					d.must(err)
					if now.Replayed != tt.want[i] {
						t.Errorf("after round %d, %d are replayed, want %d", i+1, now.Replayed, tt.want[i])
					}
				}
			})
		})
	}
}
