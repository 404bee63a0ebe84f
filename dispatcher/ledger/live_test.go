package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// watch looks into the company's news from a place, and begins to watch if nobody does.
func (d *desk) watch(from Place, most int) Seen {
	d.t.Helper()
	version, err := d.ledger.WatchVersion(d.t.Context(), d.company)
	d.must(err)
	return d.look(Look{Company: d.company, From: from, Most: most, Begin: version})
}

func (d *desk) look(l Look) Seen {
	d.t.Helper()
	seen, err := d.ledger.Watch(d.t.Context(), []Look{l})
	d.must(err)
	d.must(seen[0].Err)
	return seen[0]
}

// told are changes as event and state.
func told(seen Seen) (all []string) {
	for _, c := range seen.Changes {
		all = append(all, c.Event+" "+string(c.State))
	}
	return all
}

// TestEachChangeIsTold to those who watch: each attempt that ends, and each state that a delivery comes to without one. What is only let go on is not.
func TestEachChangeIsTold(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, tt := range map[string]struct {
		do   func(d *desk, cb int64)
		want []string
	}{
		"delivered": {func(d *desk, cb int64) { d.brought("e", Delivered, cb) }, []string{"e delivered"}},
		"tried in vain, and then dead": {func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.finish(d.beginLane()[0], badly.retried(time.Second))
			d.lane = []Ticket{{Ref: d.ref("e", cb), Generation: 1}}
			c := d.claim(d.lane[0])
			c.Early = time.Minute
			a, _ := d.begin(c)
			d.finish(a, badly)
		}, []string{"e retrying", "e dead"}},
		"gone, which disables": {func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.finish(d.beginLane()[0], gone)
			d.accept([]string{"f"}, cb)
		}, []string{"e dead", "f held"}},
		"accepted and held, let out, delivered": {func(d *desk, cb int64) {
			d.brought("e", Held, cb)
			d.pump(cb)
			d.finish(d.beginLane()[0], well)
		}, []string{"e held", "e delivered"}},
		"held where it was to begin": {func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.pause(cb)
			d.beginLane()
		}, []string{"e held"}},
		"cancelled, and replayed": {func(d *desk, cb int64) {
			d.brought("e", Cancelled, cb)
			_, err := d.ledger.Replay(d.t.Context(), d.ref("e", cb), "{}")
			d.must(err)
		}, []string{"e cancelled", "e pending"}},
		"tried now": {func(d *desk, cb int64) {
			d.brought("e", Retrying, cb)
			_, err := d.ledger.Hasten(d.t.Context(), d.ref("e", cb), "{}")
			d.must(err)
		}, []string{"e retrying", "e pending"}},
		"replayed into a room": {func(d *desk, cb int64) {
			d.brought("e", Dead, cb)
			d.pause(cb)
			_, err := d.ledger.Replay(d.t.Context(), d.ref("e", cb), "{}")
			d.must(err)
		}, []string{"e dead", "e held"}},
		"replayed among many": {func(d *desk, cb int64) {
			d.brought("e", Dead, cb)
			d.brought("f", Dead, cb)
			s := d.sweep(Sweep{Callback: cb, States: []State{Dead}})
			_, err := d.ledger.GoOnSweeping(d.t.Context(), d.company, s)
			d.must(err)
		}, []string{"e dead", "f dead", "e pending", "f pending"}},
		"cancelled under way, and delivered": {func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			a := d.beginLane()[0]
			_, err := d.ledger.Cancel(d.t.Context(), a.Ref, "{}")
			d.must(err)
			d.finish(a, well)
		}, []string{"e cancelled", "e delivered"}},
		"its callback deleted": {func(d *desk, cb int64) {
			d.brought("f", Retrying, cb)
			d.brought("e", Held, cb)
			d.must(d.registry.Delete(d.t.Context(), d.company, cb))
			for cursor := "0"; ; {
				next, err := d.ledger.Purge(d.t.Context(), d.company, cb, cursor, "")
				d.must(err)
				if cursor = next; next == "0" {
					return
				}
			}
		}, []string{"f retrying", "e held", "e cancelled", "f cancelled"}},
		"its callback deleted before it began": {func(d *desk, cb int64) {
			d.accept([]string{"e"}, cb)
			d.must(d.registry.Delete(d.t.Context(), d.company, cb))
			d.beginLane()
		}, []string{"e cancelled"}},
	} {
		t.Run(strings.ReplaceAll(name, ",", ""), func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.NewReplacer(" ", "-", ",", "").Replace(name))
			cb := d.callback("")
			from := d.watch(Place{}, 1)
			if !from.Watched || from.Whole || from.At == (Place{}) {
				t.Fatalf("watching did not begin: %+v", from)
			}
			tt.do(d, cb)
			seen := d.watch(from.At, 100)
			if diff := cmp.Diff(tt.want, told(seen)); diff != "" || !seen.Whole {
				t.Errorf("what is told (whole: %t):\n%s", seen.Whole, diff)
			}
			if again := d.watch(seen.At, 100); len(again.Changes) > 0 || !again.Whole || again.At != seen.At {
				t.Errorf("it is told twice: %+v", again)
			}
		})
	}
}

// TestAGivenUpDeliveryIsTold: what is buried since its room is full, and what lost its owner.
func TestAGivenUpDeliveryIsTold(t *testing.T) {
	t.Parallel()
	rules := standard
	rules.HoldMaxCount, rules.Patience = 1, time.Millisecond
	inBubble(t, rules, func(d *desk) {
		cb := d.callback("")
		from := d.watch(Place{}, 1).At
		d.accept([]string{"lost"}, cb)
		lost := d.beginLane()[0]
		time.Sleep(lease + time.Second)
		from = d.watch(from, 1).At // somebody does, all the time
		_, err := d.ledger.Overdue(d.t.Context(), d.company, 10)
		d.must(err)
		d.finish(lost, well) // it was only slow
		d.pause(cb)
		d.accept([]string{"old", "new"}, cb)
		seen := d.watch(from, 100)
		if diff := cmp.Diff([]string{"lost pending", "lost delivered", "old held", "new held", "old dead"}, told(seen)); diff != "" {
			t.Error(diff)
		}

		other := d.callback("")
		d.accept([]string{"left"}, other)
		d.beginLane()
		d.must(d.registry.Delete(d.t.Context(), d.company, other))
		time.Sleep(lease + time.Second)
		from = d.watch(Place{}, 1).At
		_, err = d.ledger.Overdue(d.t.Context(), d.company, 10)
		d.must(err)
		if diff := cmp.Diff([]string{"left cancelled"}, told(d.watch(from, 100))); diff != "" {
			t.Error(diff)
		}
	})
}

// TestAPlaceIsGoodWhileItsEntryIsThere: from there on nothing is missing, in pieces of any length. Once the entry is gone, a look says so, and so it does of
// a place of another epoch.
func TestAPlaceIsGoodWhileItsEntryIsThere(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	first := d.watch(Place{}, 1).At
	events := numbered("e", window)
	d.accept(events, cb)
	for _, a := range d.beginLane() {
		d.finish(a, well)
	}
	var all []string
	for at := first; ; {
		seen := d.watch(at, 7)
		if len(seen.Changes) == 0 {
			break
		}
		for _, c := range seen.Changes {
			if at = c.After; true {
				all = append(all, c.Event)
			}
		}
		if at != seen.At || !seen.Whole {
			t.Fatalf("%+v goes on elsewhere than at %s", seen, at)
		}
	}
	if diff := cmp.Diff(events, all); diff != "" {
		t.Fatalf("in pieces of seven:\n%s", diff)
	}
	text, ok := ParsePlace(first.String())
	if !ok || text != first {
		t.Errorf("%q is read as %q", first, text)
	}
	if seen := d.watch(Place{strings.Repeat("A", 26), first.entry}, 100); seen.Whole || len(seen.Changes) > 0 {
		t.Errorf("the same entry of another epoch: %+v", seen)
	}
	d.must(d.rdb.XTrimMaxLen(t.Context(), Key(d.company, "live"), 5).Err())
	if seen := d.watch(first, 100); seen.Whole || len(seen.Changes) > 0 {
		t.Errorf("behind what is gone: %+v", seen)
	}
	other, ok := ParsePlace(strings.Repeat("A", 26) + "-1-1")
	if seen := d.watch(other, 100); !ok || seen.Whole || seen.At.epoch != first.epoch {
		t.Errorf("of another epoch: %+v", seen)
	}
	for _, text := range []string{"x", "-", first.String() + "1-", "(1-1", strings.Repeat("a", 26) + "-1-1", first.String() + " +"} {
		if _, ok := ParsePlace(text); ok {
			t.Errorf("%q is taken for a place", text)
		}
	}
}

// TestNewsAreBounded however long nobody reads them.
func TestNewsAreBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.watch(Place{}, 1)
	d.pause(cb)
	for i := range 60 {
		d.accept(numbered(fmt.Sprintf("e%d-", i), 100), cb)
	}
	if n, err := d.rdb.XLen(t.Context(), Key(d.company, "live")).Result(); err != nil || n < 4096 || n > 4300 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// TestNewsGoOnceNobodyWatches: the next change takes them away, or the sweep of the log, whatever Redis's own expiry does. A change before that is still
// told.
func TestNewsGoOnceNobodyWatches(t *testing.T) {
	t.Parallel()
	for name, last := range map[string]func(d *desk, cb int64){
		"with the next change": func(d *desk, cb int64) { d.brought("late", Delivered, cb) },
		"with the sweep": func(d *desk, cb int64) {
			_, err := d.ledger.TrimLog(d.t.Context(), d.company, "-")
			d.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				from := d.watch(Place{}, 1).At
				time.Sleep(50 * time.Second)
				d.brought("early", Delivered, cb)
				if seen := d.watch(from, 10); len(seen.Changes) != 1 || !seen.Whole {
					t.Fatalf("within the minute: %+v", seen)
				}
				for _, key := range []string{"live", "watched"} {
					d.must(d.rdb.Persist(d.t.Context(), Key(d.company, key)).Err()) // Redis's clock stands
				}
				time.Sleep(61 * time.Second)
				last(d, cb)
				if n := d.rdb.Exists(d.t.Context(), Key(d.company, "live"), Key(d.company, "watched")).Val(); n != 0 {
					t.Errorf("%d keys are left", n)
				}
				if seen := d.watch(from, 10); seen.Whole || !seen.Watched {
					t.Errorf("who comes back then: %+v", seen)
				}
			})
		})
	}
}

// TestAnErasedCompanyIsNotWatched: its news go with it, and who watched it makes no key of it anew.
func TestAnErasedCompanyIsNotWatched(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	version, err := d.ledger.WatchVersion(t.Context(), d.company)
	d.must(err)
	at := d.watch(Place{}, 1).At
	d.brought("e", Delivered, cb)
	d.must(d.registry.Delete(t.Context(), d.company, cb))
	for done := false; !done; {
		n, err := d.ledger.EraseRest(t.Context(), d.company)
		d.must(err)
		done = n.Done
	}
	for _, begin := range []string{"", version} {
		if seen := d.look(Look{Company: d.company, From: at, Most: 1, Begin: begin}); seen.Watched {
			t.Errorf("begun at %q: %+v", begin, seen)
		}
	}
	if n := d.rdb.Exists(t.Context(), Key(d.company, "live"), Key(d.company, "watched")).Val(); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}

// TestNobodyWatchingCostsNoCommand: a step of whatever kind calls as many commands of Redis as it has keys to look at, and reads whether somebody watches in
// one of them. Whoever watches costs one command more for each change, however many watch.
func TestNobodyWatchingCostsNoCommand(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	const n = 20
	count := func(prefix string) map[string]int64 {
		d.must(d.rdb.ConfigResetStat(t.Context()).Err())
		for _, event := range numbered(prefix, n) {
			d.accept([]string{event}, cb)
			d.finish(d.beginLane()[0], well)
		}
		return d.calls()
	}
	count("warm")
	alone := count("alone")
	gates := alone["get"] + alone["mget"]
	if gates != 8*n {
		t.Errorf("%d reads of single keys for %d deliveries, want 8 each: as many as before anybody could watch", gates, n)
	}
	d.watch(Place{}, 1)
	watched := count("watched")
	for name, calls := range watched {
		want := alone[name]
		if name == "xadd" {
			want += n // of each delivery: one entry of the log, and one of the news
		}
		if name != "get" && name != "mget" && calls != want {
			t.Errorf("%s: %d calls, want %d", name, calls, want)
		}
	}
	if got := watched["get"] + watched["mget"]; got != gates {
		t.Errorf("gates are read %d times with a watcher, %d times without", got, gates)
	}
}

// calls are how often Redis ran each command since its counts were reset.
func (d *desk) calls() map[string]int64 {
	d.t.Helper()
	stats, err := d.rdb.InfoMap(d.t.Context(), "commandstats").Result()
	d.must(err)
	calls := make(map[string]int64)
	for name, text := range stats["Commandstats"] {
		var n int64
		_, err := fmt.Sscanf(text, "calls=%d", &n)
		d.must(err)
		calls[strings.TrimPrefix(name, "cmdstat_")] = n
	}
	return calls
}

// TestAFloodIsToldInPart: where more changes than are kept come within seconds, nothing is told for most of each second, and whoever comes by knows that
// something is missing. Once less changes, all is told again, and at once if somebody wants to hear of some only.
func TestAFloodIsToldInPart(t *testing.T) {
	t.Parallel()
	const pause = 950 * time.Millisecond
	flood := func(d *desk, from Place) Seen {
		const much = `for _ = 1, 5000 do redis.call('XADD', KEYS[1], 'MAXLEN', 4096, '*', 'm', 'x/1', 's', 'D') end return 1`
		d.must(d.rdb.Eval(d.t.Context(), much, []string{Key(d.company, "live")}).Err())
		seen := d.look(Look{Company: d.company, From: from, Most: 8})
		if !seen.Flooded || !seen.Missed || !seen.Whole || len(seen.Changes) > 0 {
			d.t.Fatalf("a flood that nobody can read: %+v", seen)
		}
		return seen
	}
	for name, tt := range map[string]func(d *desk, cb int64, seen Seen){
		"nothing is told meanwhile": func(d *desk, cb int64, seen Seen) {
			d.brought("unheard", Delivered, cb)
			if again := d.look(Look{Company: d.company, From: seen.At, Most: 8, Flooded: true}); len(again.Changes) > 0 || again.At != seen.At || again.Flooded {
				d.t.Errorf("meanwhile: %+v", again)
			}
		},
		"it goes on": func(d *desk, cb int64, seen Seen) {
			time.Sleep(pause)
			d.accept(numbered("e", 9), cb)
			for _, a := range d.beginLane() {
				d.finish(a, well)
			}
			more := d.look(Look{Company: d.company, From: seen.At, Most: 8, Flooded: true})
			if want := numbered("e", 8); !more.Flooded || !more.Missed || len(more.Changes) != len(want) || more.Changes[7].Event != want[7] || more.At == more.Changes[7].After {
				d.t.Errorf("the first of the next second: %+v", more)
			}
			time.Sleep(pause)
			d.brought("calm", Delivered, cb)
			if calm := d.look(Look{Company: d.company, From: more.At, Most: 8, Flooded: true}); calm.Flooded || calm.Missed || len(calm.Changes) != 1 {
				d.t.Errorf("once it is over: %+v", calm)
			}
			other := d.look(Look{Company: d.company, From: seen.At, Most: 100})
			if other.Flooded || !other.Missed || len(other.Changes) != 10 {
				d.t.Errorf("who comes by later: %+v", other)
			}
		},
		"somebody wants to hear of some": func(d *desk, cb int64, seen Seen) {
			d.look(Look{Company: d.company, From: seen.At, Most: 8, Narrow: true})
			d.brought("heard", Delivered, cb)
			if all := d.look(Look{Company: d.company, From: seen.At, Most: 8}); len(all.Changes) != 1 {
				d.t.Errorf("at once: %+v", all)
			}
			d.accept(numbered("e", 9), cb)
			for _, a := range d.beginLane() {
				d.finish(a, well)
			}
			if all := d.look(Look{Company: d.company, From: seen.At, Most: 8, Flooded: true}); all.Flooded || all.Missed || len(all.Changes) != 8 || all.At != all.Changes[7].After {
				d.t.Errorf("while somebody does: %+v", all)
			}
		},
		"Redis's clock went back": func(d *desk, cb int64, seen Seen) {
			watched := strings.Fields(d.rdb.Get(d.t.Context(), Key(d.company, "watched")).Val())
			later := fmt.Sprint(time.Now().Add(time.Hour).UnixMilli())
			d.must(d.rdb.Set(d.t.Context(), Key(d.company, "watched"), strings.Join([]string{watched[0], watched[1], later, later}, " "), time.Hour).Err())
			d.brought("told", Delivered, cb)
			heard := d.look(Look{Company: d.company, From: seen.At, Most: 8})
			if len(heard.Changes) != 1 || heard.Changes[0].Event != "told" {
				d.t.Errorf("it is told when the clock is there again: %+v", heard)
			}
			d.accept(numbered("e", 9), cb)
			for _, a := range d.beginLane() {
				d.finish(a, well)
			}
			if again := d.look(Look{Company: d.company, From: heard.At, Most: 8, Flooded: true}); !again.Flooded {
				d.t.Errorf("all is told for as long: %+v", again)
			}
			there := d.rdb.XLen(d.t.Context(), Key(d.company, "live")).Val()
			d.brought("unheard", Delivered, cb)
			if n := d.rdb.XLen(d.t.Context(), Key(d.company, "live")).Val(); n != there {
				d.t.Errorf("%d changes more are told in a flood", n-there)
			}
		},
		"who was away for long is no flood": func(d *desk, cb int64, seen Seen) {
			time.Sleep(20 * time.Second)
			d.brought("late", Delivered, cb)
			d.must(d.rdb.XTrimMaxLen(d.t.Context(), Key(d.company, "live"), 4096).Err())
			first := seen.At
			first.entry = "1-1"
			if late := d.look(Look{Company: d.company, From: first, Most: 8}); late.Whole || late.Flooded {
				d.t.Errorf("behind what is gone: %+v", late)
			}
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				tt(d, cb, flood(d, d.watch(Place{}, 1).At))
			})
		})
	}
}
