package ledger

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

const (
	minute = time.Minute
	// looked is how often somebody takes bodies away.
	looked = 5 * minute
)

// keeping are the standard rules of an installation that keeps bodies for so long.
func keeping(bodies time.Duration) Rules {
	r := standard
	r.BodyRetention = bodies
	return r
}

// keeps has the installation's processes start anew, and keep bodies for so long.
func (d *desk) keeps(bodies time.Duration) {
	d.rule(keeping(bodies))
	d.ledger.raising.done.Store(true)
}

// takeBodies takes away what bodies there are to be taken.
func (d *desk) takeBodies() (taken int64) {
	d.t.Helper()
	for {
		n, more, err := d.ledger.TakeBodies(d.t.Context(), d.company)
		d.must(err)
		if taken += n; !more {
			return taken
		}
	}
}

// passes has time pass, in which somebody takes bodies away, and trims the log, now and then.
func (d *desk) passes(lasts time.Duration) {
	d.t.Helper()
	for range lasts / looked {
		time.Sleep(looked)
		d.takeBodies()
		d.trim()
	}
}

// trim sweeps the log once.
func (d *desk) trim() {
	d.t.Helper()
	for from := ""; from != "-"; {
		next, err := d.ledger.TrimLog(d.t.Context(), d.company, map[bool]string{true: "-", false: from}[from == ""])
		d.must(err)
		from = next
	}
}

func (d *desk) hasBody(event string) bool {
	d.t.Helper()
	return d.rdb.HExists(d.t.Context(), EventKey(d.company, event), "b").Val()
}

// leaves has time pass until an event's body has left, and returns when that was; zero if it did not within some hours.
func (d *desk) leaves(event string) time.Time {
	d.t.Helper()
	for range 5 * time.Hour / looked {
		if d.passes(looked); !d.hasBody(event) {
			return time.Now()
		}
	}
	return time.Time{}
}

// wantLeft verifies that an event's body leaves so long after a time, or never if that is 0: no earlier, and by the second look at the latest, for the walk comes a
// minute later.
func (d *desk) wantLeft(event string, since time.Time, after time.Duration) {
	d.t.Helper()
	at := d.leaves(event)
	switch late := at.Sub(since.Add(after)); {
	case after == 0 && !at.IsZero():
		d.t.Errorf("its body left after %s, and should stay", at.Sub(since))
	case after == 0:
	case at.IsZero():
		d.t.Error("its body stays")
	case late < 0 || late > 2*looked:
		d.t.Errorf("its body left after %s, want %s", at.Sub(since), after)
	}
}

// deliverAll makes the attempts that are in the lane, or were let into it, until there are none.
func (d *desk) deliverAll() {
	d.t.Helper()
	for len(d.lane) > 0 {
		d.deliverLane()
	}
}

// TestBodiesLeave an hour after the last delivery of their event ended, however it did, and whenever. What has a dead letter in the book keeps its body.
func TestBodiesLeave(t *testing.T) {
	many := func(d *desk) (callbacks []int64) {
		for range 30 {
			callbacks = append(callbacks, d.callback(""))
		}
		return callbacks
	}
	for name, tt := range map[string]struct {
		end   func(d *desk, cb int64) // of event e
		stays bool
	}{
		"delivered at once": {end: func(d *desk, cb int64) { d.brought("e", Delivered, cb) }},
		"cancelled":         {end: func(d *desk, cb int64) { d.brought("e", Cancelled, cb) }},
		"goes to nobody": {end: func(d *desk, cb int64) {
			d.accept([]string{"another"}, cb)
			o := &Offer{Company: d.company, ID: "e", Version: d.version, Payload: []byte("{}")}
			_, err := d.ledger.Accept(d.t.Context(), o)[0].Answer()
			d.must(err)
		}},
		"delivered before the walk comes": {end: func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.passes(50 * minute)
			d.deliverLane()
		}},
		"delivered as the walk comes": {end: func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.passes(55 * minute)
			time.Sleep(5*minute + 30*time.Second)
			d.takeBodies()
			d.deliverLane()
		}},
		"delivered long after": {end: func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.passes(5 * time.Hour)
			d.deliverLane()
		}},
		"two, one of them later": {end: func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb, d.callback(""))
			d.finish(d.beginLane()[0], well)
			d.passes(3 * time.Hour)
			_, err := d.ledger.Cancel(d.t.Context(), d.ref("e", 2), "{}")
			d.must(err)
		}},
		"replayed at once": {end: func(d *desk, cb int64) {
			d.brought("e", Delivered, cb)
			d.passes(30 * minute)
			d.replay("e", cb)
			d.passes(10 * minute)
			d.lane = []Ticket{{Ref: d.ref("e", cb), Generation: 2}}
			d.deliverLane()
		}},
		"replayed when it was written down": {end: func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.passes(50 * minute)
			d.deliverLane()
			d.passes(20 * minute)
			d.replay("e", cb)
			d.passes(90 * minute)
			d.lane = []Ticket{{Ref: d.ref("e", cb), Generation: 2}}
			d.deliverLane()
		}},
		"many": {end: func(d *desk, _ int64) {
			d.accept([]string{"e"}, many(d)...)
			d.deliverAll()
		}},
		"many, one of them later": {end: func(d *desk, _ int64) {
			d.accept([]string{"e"}, many(d)...)
			last := d.lane[0]
			d.lane = d.lane[1:]
			d.deliverAll()
			d.passes(50 * minute)
			d.lane = []Ticket{last}
			d.deliverAll()
		}},
		"dead":                         {end: func(d *desk, cb int64) { d.brought("e", Dead, cb) }, stays: true},
		"dead, where another one well": {end: func(d *desk, cb int64) { d.deadAndWell("e", cb) }, stays: true},
		"dead, replayed and delivered": {end: func(d *desk, cb int64) {
			d.brought("e", Dead, cb)
			d.passes(3 * time.Hour)
			d.replay("e", cb)
			d.lane = []Ticket{{Ref: d.ref("e", cb), Generation: 2}}
			d.deliverLane()
		}},
		"dead, and pruned": {end: func(d *desk, cb int64) {
			d.brought("e", Dead, cb)
			for d.prune(2 * time.Hour)[0].Pruned == 0 {
				d.passes(5 * minute)
			}
		}},
		"under way": {end: func(d *desk, cb int64) { d.brought("e", Active, cb) }, stays: true},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, keeping(time.Hour), func(d *desk) {
				d.ledger.raising.done.Store(true)
				tt.end(d, d.callback(""))
				after := map[bool]time.Duration{true: 0, false: time.Hour}[tt.stays]
				d.wantLeft("e", time.Now(), after)
				if tt.stays {
					return
				}
				if _, err := d.ledger.Payload(d.t.Context(), d.company, "e"); !errors.Is(err, ErrBodyLeft) {
					t.Errorf("its payload is read: %v", err)
				}
				if e, err := d.ledger.Event(d.t.Context(), d.company, "e"); err != nil || e == nil || !e.BodyLeft {
					t.Errorf("what is left of it: %+v, %v", e, err)
				}
				if left := d.rdb.ZScore(d.t.Context(), Key(d.company, "bodies"), "e").Err(); !errors.Is(left, redis.Nil) {
					t.Errorf("it is still written down: %v", left)
				}
			})
		})
	}
}

// deadAndWell has one of an event's two deliveries die, and the other deliver.
func (d *desk) deadAndWell(event string, cb int64) {
	d.t.Helper()
	d.accept([]string{event}, cb, d.callback(""))
	both := d.beginLane()
	d.finish(both[0], badly)
	d.finish(both[1], well)
}

// TestBodiesLeaveByTheRulesOfToday: bodies are kept for as long as the installation's processes say since their last start, and what happened before that is not
// forgotten.
func TestBodiesLeaveByTheRulesOfToday(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(d *desk, deliver func())
		after   time.Duration // the event's acceptance; 0: never
	}{
		"longer": {func(d *desk, deliver func()) { deliver(); d.passes(30 * minute); d.keeps(3 * time.Hour) }, 3 * time.Hour},
		"longer, written down": {func(d *desk, deliver func()) {
			d.passes(50 * minute)
			deliver()
			d.passes(20 * minute)
			d.keeps(3 * time.Hour)
		}, 3*time.Hour + 50*minute},
		"longer, past the walk": {func(d *desk, deliver func()) {
			d.passes(90 * minute)
			d.keeps(2 * time.Hour)
			d.passes(looked)
			deliver()
		}, 2*time.Hour + 95*minute},
		"shorter": {func(d *desk, deliver func()) {
			d.keeps(3 * time.Hour)
			deliver()
			d.passes(30 * minute)
			d.keeps(time.Hour)
		}, time.Hour},
		"shorter, long over": {func(d *desk, deliver func()) {
			d.keeps(5 * time.Hour)
			deliver()
			d.passes(2 * time.Hour)
			d.keeps(time.Hour)
		}, 2 * time.Hour},
		"off":           {func(d *desk, deliver func()) { deliver(); d.passes(30 * minute); d.keeps(0) }, 0},
		"off, and late": {func(d *desk, deliver func()) { d.passes(90 * minute); d.keeps(0); deliver() }, 0},
		"off and on": {func(d *desk, deliver func()) {
			d.passes(70 * minute)
			d.keeps(0)
			d.passes(30 * minute)
			deliver()
			d.passes(10 * minute)
			d.keeps(time.Hour)
		}, 160 * minute},
		"on": {func(d *desk, deliver func()) {
			d.keeps(0)
			deliver()
			d.passes(5 * time.Hour)
			d.keeps(time.Hour)
		}, 5 * time.Hour},
	} {
		t.Run(strings.NewReplacer(" ", "_", ",", "").Replace(name), func(t *testing.T) {
			inBubble(t, keeping(time.Hour), func(d *desk) {
				d.ledger.raising.done.Store(true)
				accepted := time.Now()
				d.accept([]string{"e"}, d.callback(""))
				tt.happens(d, d.deliverLane)
				d.wantLeft("e", accepted, tt.after)
				if n := d.rdb.Exists(d.t.Context(), Key(acme, "bodies"), Key(acme, "bodies:at")).Val(); tt.after == 0 && n > 0 {
					t.Error("what was known of bodies is still there")
				}
			})
		})
	}
}

// TestABodyDoesNotLeaveForAClock that stepped: neither its end nor now is a time that Redis's clock alone says.
func TestABodyDoesNotLeaveForAClock(t *testing.T) {
	for _, by := range []time.Duration{10 * time.Hour, -10 * time.Hour, 24 * time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			inBubble(t, keeping(time.Hour), func(d *desk) {
				log := slog.New(slog.NewTextHandler(d.t.Output(), nil))
				clock := steady.New(d.rdb, log)
				defer clock.Close()
				d.ledger = New(Config{Redis: d.rdb, Clock: clock, Logger: log, Rules: keeping(time.Hour), Contain: contained})
				d.ledger.raising.done.Store(true)
				ended := time.Now()
				d.brought("e", Delivered, d.callback(""))
				for d.hasBody("e") && time.Since(ended) < 2*time.Hour {
					d.mini.SetTime(time.Now())
					d.must(clock.Look(d.t.Context()))
					d.mini.SetTime(time.Now().Add(by)) // nobody has noticed it yet, again and again
					d.takeBodies()
					d.mini.SetTime(time.Now())
					time.Sleep(minute)
				}
				if after := time.Since(ended); after < time.Hour || after > time.Hour+3*minute {
					t.Errorf("its body left after %s, want an hour", after)
				}
			})
		})
	}
}

// TestABodyThatLeftIsNotSentAgain: a replay by hand is refused, and one of many counts and skips it. What is not over can be cancelled as ever.
func TestABodyThatLeftIsNotSentAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	for _, event := range []string{"p", "q", "r"} {
		d.brought(event, Delivered, cb)
	}
	d.brought("c", Cancelled, cb)
	for _, event := range []string{"q", "r", "c"} {
		d.must(d.rdb.HDel(d.t.Context(), EventKey(acme, event), "b", "z").Err())
	}
	for event, want := range map[string]ActOutcome{"q": Bodiless, "c": Bodiless} {
		r, err := d.ledger.Replay(d.t.Context(), d.ref(event, cb), "{}")
		d.must(err)
		if r.Outcome != want || d.record(event, cb).Generation != 1 {
			t.Errorf("%s: a replay ends as %d, and it is %+v", event, r.Outcome, d.record(event, cb))
		}
		if got, err := d.ledger.Cancel(d.t.Context(), d.ref(event, cb), "{}"); err != nil || got != WrongState {
			t.Errorf("%s: cancelling ends as %d: %v", event, got, err)
		}
	}
	what := Sweep{Callback: cb, States: []State{Delivered}}
	matched, bodiless, _, err := d.ledger.CountSweep(d.t.Context(), acme, &what, "")
	d.must(err)
	if matched != 1 || bodiless != 2 {
		t.Errorf("%d match, and %d would, want 1 and 2", matched, bodiless)
	}
	what.Matched, what.Bodiless = matched, bodiless
	s := d.sweep(what)
	swept, err := d.ledger.GoOnSweeping(d.t.Context(), acme, s)
	d.must(err)
	stored, err := d.ledger.Sweep(d.t.Context(), acme, s.ID)
	d.must(err)
	if !swept.Done || len(swept.Released) != 1 || swept.Released[0].Event != "p" || stored.Replayed != 1 || stored.Bodiless != 2 {
		t.Errorf("%+v is let out, and stored is %+v", swept, stored)
	}
	if again := d.offer("{}", "", []string{"q"}, cb)[0]; again.Outcome != Known {
		t.Errorf("the same event again is %+v", again)
	}
}

// TestBodiesLeaveByThePage: a call takes so many at most, and says that there are more.
func TestBodiesLeaveByThePage(t *testing.T) {
	for name, early := range map[string]bool{"found in the log": true, "written down": false} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, keeping(time.Hour), func(d *desk) {
				d.ledger.raising.done.Store(true)
				cb := d.callback("")
				d.accept(numbered("e-", 250), cb)
				if !early {
					d.passes(2 * time.Hour)
				}
				for len(d.lane) > 0 || d.health(cb).Held > 0 {
					d.deliverLane()
					d.pump(cb)
				}
				time.Sleep(2 * time.Hour)
				var pages []int64
				for more := true; more; {
					n, goesOn, err := d.ledger.TakeBodies(d.t.Context(), acme)
					d.must(err)
					pages, more = append(pages, n), goesOn
				}
				if diff := cmp.Diff([]int64{100, 100, 50}, pages); diff != "" {
					t.Errorf("pages (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestNoBodyLeavesBesideAnOlderProcess, which would send a replay without one.
func TestNoBodyLeavesBesideAnOlderProcess(t *testing.T) {
	t.Parallel()
	d := newDesk(t, keeping(time.Second))
	d.must(Enter(d.t.Context(), d.rdb))
	end := d.beside(registry.ModelLevel - 1)
	d.brought("e", Delivered, d.callback(""))
	d.must(d.rdb.ZAdd(d.t.Context(), Key(acme, "bodies"), redis.Z{Score: 1, Member: "e"}).Err()) // as if it had ended long ago
	d.must(d.rdb.HSet(d.t.Context(), EventKey(acme, "e"), RecordField(1), "D 1 1 1 5 - ", "a", "5-1").Err())
	if d.takeBodies(); !d.hasBody("e") {
		t.Error("its body left")
	}
	end()
	d.ledger.raising.next.Store(0)
	if d.takeBodies(); d.hasBody("e") {
		t.Error("its body stays after the older process's end")
	}
}

// TestErasuresKnowOfBodies: nothing tells of an event, or of a company, whose body was to leave.
func TestErasuresKnowOfBodies(t *testing.T) {
	inBubble(t, keeping(time.Hour), func(d *desk) {
		d.ledger.raising.done.Store(true)
		cb := d.callback("")
		d.accept([]string{"goes", "stays"}, cb)
		d.passes(2 * time.Hour)
		d.deliverLane()
		bodies := Key(acme, "bodies")
		if n := d.rdb.ZCard(d.t.Context(), bodies).Val(); n != 2 {
			t.Fatalf("%d are written down, want 2", n)
		}
		_, err := d.ledger.EraseEvent(d.t.Context(), acme, "goes", "{}")
		d.must(err)
		if found := d.traces("goes"); len(found) > 0 {
			t.Errorf("left in %v", found)
		}
		d.must(d.registry.Delete(d.t.Context(), acme, cb))
		d.must(d.rdb.Del(d.t.Context(), Key(acme, "cb")).Err())
		for done := false; !done; {
			e, err := d.ledger.EraseRest(d.t.Context(), acme)
			d.must(err)
			done = e.Done
		}
		if n := d.rdb.Exists(d.t.Context(), bodies, bodies+":at").Val(); n > 0 {
			t.Error("what was known of the company's bodies is still there")
		}
	})
}
