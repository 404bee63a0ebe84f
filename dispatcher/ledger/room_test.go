package ledger

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// events are those of what is in the lane.
func (d *desk) events() (ids []string) {
	for _, t := range d.lane {
		ids = append(ids, t.Event)
	}
	return ids
}

// buried are the dead of a company that were given up in a room, by reason.
func (d *desk) buried() map[string]int64 {
	d.t.Helper()
	books, err := d.ledger.Books(d.t.Context(), []string{d.company})
	d.must(err)
	return books[0].Buried
}

// bounded are rules with such bounds for what is held.
func bounded(count int, age time.Duration) Rules {
	r := standard
	r.HoldMaxCount, r.HoldMaxAge = count, age
	return r
}

// TestWhatIsHeldHasBounds: the oldest of too many, and what was held for too long, go to the dead-letter book. A room with more of them than a page is
// looked at again at once, and one with none within a minute.
func TestWhatIsHeldHasBounds(t *testing.T) {
	for name, tt := range map[string]struct {
		rules  Rules // as the events are accepted
		events int
		wait   time.Duration
		later  Rules // as the room is pumped
		pages  int   // of the pump, until nothing is due
		buried map[string]int64
	}{
		"within":                    {bounded(5, time.Hour), 5, 59 * time.Minute, bounded(5, time.Hour), 1, map[string]int64{}},
		"too many":                  {bounded(5, time.Hour), 8, 0, bounded(5, time.Hour), 1, map[string]int64{"hold_full": 3}},
		"too long":                  {bounded(5, time.Hour), 5, 61 * time.Minute, bounded(5, time.Hour), 1, map[string]int64{"hold_expired": 5}},
		"a crowd for too long":      {bounded(300, time.Hour), 250, 61 * time.Minute, bounded(300, time.Hour), 3, map[string]int64{"hold_expired": 250}},
		"fewer may be held since":   {bounded(10, time.Hour), 10, 0, bounded(4, time.Hour), 1, map[string]int64{"hold_full": 6}},
		"many fewer may be held":    {bounded(300, time.Hour), 250, 0, bounded(20, time.Hour), 3, map[string]int64{"hold_full": 230}},
		"not for as long any more":  {bounded(5, time.Hour), 5, 6 * time.Minute, bounded(5, 5*time.Minute), 1, map[string]int64{"hold_expired": 5}},
		"full when they were taken": {bounded(3, time.Hour), 8, 0, bounded(10, time.Hour), 1, map[string]int64{"hold_full": 5}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, tt.rules, func(d *desk) {
				cb := d.callback("")
				d.pause(cb)
				d.accept(numbered("p-", tt.events), cb)
				time.Sleep(tt.wait)
				d.rule(tt.later)
				pages := 0
				for pages == 0 || d.due(cb) && pages < 10 {
					d.pump(cb)
					pages++
				}
				if diff := cmp.Diff(tt.buried, d.buried()); diff != "" || pages != tt.pages {
					t.Errorf("after %d pages, want %d, there were given up (-want +got):\n%s", pages, tt.pages, diff)
				}
				gone := tt.buried["hold_full"] + tt.buried["hold_expired"]
				if got := d.health(cb); got.Held != int64(tt.events)-gone || got.Dead != gone {
					t.Errorf("%d are held, %d dead", got.Held, got.Dead)
				}
				time.Sleep(time.Minute)
				if left := int64(tt.events) > gone; d.due(cb) != left {
					t.Errorf("a minute later it is due: %t, and anything is left: %t", d.due(cb), left)
				}
			})
		})
	}
}

// TestAnEventFillsAWindow, however many callbacks it has: so many of each go to the lanes, and the rest to the rooms.
func TestAnEventFillsAWindow(t *testing.T) {
	for callbacks, lanes := range map[int]int64{1: window, 2: 10, 5: 4, 7: 2, 30: 1} {
		t.Run(strconv.Itoa(callbacks), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				all := make([]int64, callbacks)
				for i := range all {
					all[i] = int64(i + 1) // a callback that is not registered is like any other here
				}
				d.accept(numbered("p-", window+2), all...)
				for _, cb := range all {
					if got := d.health(cb); got.Pending != lanes || got.Held != window+2-lanes {
						t.Errorf("callback %d has %d in the lanes and %d held, want %d", cb, got.Pending, got.Held, lanes)
					}
				}
			})
		})
	}
}

// TestTheOldestGoFirst out of a room, be it to a lane or, where there are too many, to the dead-letter book. What comes back from a lane keeps its place.
func TestTheOldestGoFirst(t *testing.T) {
	small := bounded(5, time.Hour)
	small.Window = 3
	inBubble(t, small, func(d *desk) {
		cb := d.callback("")
		for _, event := range numbered("p-", 6) {
			d.accept([]string{event}, cb)
			time.Sleep(time.Second)
		}
		if diff := cmp.Diff([]string{"p-0", "p-1", "p-2"}, d.events()); diff != "" {
			t.Errorf("in the lane (-want +got):\n%s", diff)
		}
		first, _ := d.begin(d.claim(d.lane[0]))
		back := d.claim(d.lane[1])
		back.NoTurn = true
		if _, why := d.begin(back); why.Outcome != WaitsInRoom {
			t.Errorf("without a turn, it ended with %+v", why)
		}
		d.lane = nil
		d.finish(first, well)
		if diff := cmp.Diff([]string{"p-1", "p-3"}, d.events()); diff != "" {
			t.Errorf("then let out (-want +got):\n%s", diff)
		}
		d.pause(cb)
		d.beginLane() // back to the room
		d.accept(numbered("q-", 3), cb)
		var dead []string
		for _, event := range append(numbered("p-", 6), numbered("q-", 3)...) {
			if StateOf[d.record(event, cb).State] == Dead {
				dead = append(dead, event)
			}
		}
		if diff := cmp.Diff([]string{"p-1", "p-3"}, dead); diff != "" {
			t.Errorf("given up (-want +got):\n%s", diff)
		}
	})
}

// TestThePumpLeavesARoomAlone while what ends will let others out: for five seconds after a process had no turn, as long as half as many are in the
// lanes as then.
func TestThePumpLeavesARoomAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		back, cancelled int // of twenty in the lanes: for lack of a turn, and by somebody
		wait            time.Duration
		out             int
	}{
		"at first":           {1, 0, 0, 0},
		"half are there":     {1, 9, 0, 0},
		"fewer than half":    {1, 10, 0, 11},
		"before its time":    {1, 0, 4999 * time.Millisecond, 0},
		"after its time":     {1, 0, 5 * time.Second, 1},
		"the lanes empty":    {20, 0, 0, 20},
		"half of them empty": {10, 0, 0, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				d.accept(numbered("p-", 20), cb)
				d.accept(numbered("q-", 20), cb)
				for _, ticket := range d.lane[:tt.back] {
					c := d.claim(ticket)
					c.NoTurn = true
					d.begin(c)
				}
				for _, ticket := range d.lane[20-tt.cancelled:] {
					_, err := d.ledger.Cancel(d.t.Context(), ticket.Ref, "{}")
					d.must(err)
				}
				time.Sleep(tt.wait)
				if n := len(d.pump(cb).Released); n != tt.out {
					t.Errorf("%d are let out, want %d", n, tt.out)
				}
			})
		})
	}
}

// TestAResumeIsEased: where more are held than go out at a time to a failing partner, no more go out at first.
func TestAResumeIsEased(t *testing.T) {
	for _, tt := range []struct {
		held, window, out int
		breaker           Breaker
	}{{8, 20, 8, "closed"}, {9, 20, 8, "half_open"}, {40, 20, 8, "half_open"}, {40, 5, 5, "half_open"}} {
		t.Run(strconv.Itoa(tt.held), func(t *testing.T) {
			rules := standard
			rules.Window = tt.window
			inBubble(t, rules, func(d *desk) {
				cb := d.callback("")
				d.pause(cb)
				d.accept(numbered("p-", tt.held), cb)
				d.must(d.ledger.Ease(d.t.Context(), acme, cb))
				d.resume(cb)
				d.pump(cb)
				if got := d.health(cb).Breaker; len(d.lane) != tt.out || got != tt.breaker {
					t.Errorf("%d go out, want %d; the breaker is %s, want %s", len(d.lane), tt.out, got, tt.breaker)
				}
			})
		})
	}
}

// TestLostAttemptsComeBack, once their lease is over: at once if nothing paces their callback, and else to its room. Nothing of a deleted one does.
func TestLostAttemptsComeBack(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(d *desk, cb int64) // the lease is over
		state  State
	}{
		"at once":     {func(*desk, int64) {}, Pending},
		"rate limit":  {func(d *desk, cb int64) { d.patch(cb, `{"rate_limit": {"per_second": 2, "burst": 1}}`) }, Held},
		"failing":     {func(d *desk, cb int64) { d.fail(cb, 10, 0, badly) }, Held},
		"narrow host": {func(d *desk, _ int64) { d.failOn(10, silence, d.callback(""), d.callback("")) }, Held},
		"paused":      {func(d *desk, cb int64) { d.pause(cb) }, Held},
		"deleted":     {func(d *desk, cb int64) { d.must(d.registry.Delete(d.t.Context(), acme, cb)) }, Cancelled},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb, events := d.callback(""), numbered("p-", 5)
				d.accept(events, cb)
				d.beginLane()
				began := time.Now()
				tt.before(d, cb)
				lost := func() int {
					o, err := d.ledger.Overdue(d.t.Context(), acme, Page)
					d.must(err)
					return len(o.Lost)
				}
				time.Sleep(lease - time.Since(began) - time.Millisecond)
				if n := lost(); n > 0 {
					t.Errorf("%d are lost before their lease is over", n)
				}
				time.Sleep(time.Millisecond)
				if want := map[bool]int{true: 5}[tt.state == Pending]; lost() != want {
					t.Errorf("not %d may go at once", want)
				}
				if diff := cmp.Diff(map[State]int{tt.state: 5}, d.states(cb, events...)); diff != "" {
					t.Errorf("states (-want +got):\n%s", diff)
				}
			})
		})
	}
}
