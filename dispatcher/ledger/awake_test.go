package ledger

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

const (
	index = "ringback:working"
	owed  = "ringback:owed"
)

// checkAwake fails the test if the company has work and is asleep, or awake and neither in the index nor owed to it: then a kill just now would leave work
// that no round finds.
func (d *desk) checkAwake(when string) {
	d.t.Helper()
	ctx := d.t.Context()
	pipe := d.rdb.TxPipeline()
	works := pipe.Exists(ctx, workKeys(d.company)...)
	awake, score, owes := pipe.Get(ctx, registry.AwakeKey(d.company)), pipe.ZScore(ctx, index, d.company), pipe.ZScore(ctx, owed, d.company)
	_, _ = pipe.Exec(ctx)
	epoch, _ := awake.Int64()
	work, listed := works.Val() > 0, score.Err() == nil || owes.Err() == nil
	if work && epoch <= 0 || epoch > 0 && !listed {
		d.t.Errorf("%s: work %t, awake at %d, in the index or owed to it %t", when, work, epoch, listed)
	}
}

func (d *desk) hasWork() bool {
	return d.rdb.Exists(d.t.Context(), workKeys(d.company)...).Val() > 0
}

func workKeys(company string) []string {
	return keys(company, "", "due", "rooms", "paged", "notices", "replaying", "prune")
}

// An actor is somebody of the protocol, and does a step with each call.
type actor func(d *desk) []func(ctx context.Context)

// storing is the arguments of a replay's start: of all that makes work it asks the least of the company.
func storing(id string) []any {
	return []any{id, 1000, 1000, 100, `{"by":"x"}`, "state", "running", "created", 1}
}

// waker makes work under a name of its own.
func waker(name string) actor { return wakes(name, registry.Wake) }

// ower is a waker whom the index does not answer.
func ower(name string) actor { return wakes(name, registry.Owe) }

func wakes(name string, wake func(context.Context, redis.UniversalClient, string, registry.Nap) (string, error)) actor {
	return func(d *desk) []func(context.Context) {
		var nap registry.Nap
		var found bool
		may := ""
		try := func(ctx context.Context, settings string) {
			v, err := startReplayScript.Run(ctx, d.rdb, []string{Key(d.company, "due")}, append([]any{settings}, storing(name)...)...).Result()
			d.must(err)
			nap, found = registry.ReadNap(Strings(v))
		}
		return []func(context.Context){
			func(ctx context.Context) { try(ctx, d.ledger.rules) },
			func(ctx context.Context) {
				if found {
					var err error
					may, err = wake(ctx, d.rdb, d.company, nap)
					d.must(err)
				}
			},
			func(ctx context.Context) {
				if found {
					try(ctx, leave(d.ledger.settings(ctx, Key(d.company, "due")), may))
				}
			},
		}
	}
}

// payer lists the company that is owed to the index.
func payer(d *desk) []func(context.Context) {
	epoch := 0.0
	return []func(context.Context){
		func(ctx context.Context) { epoch, _ = d.rdb.ZScore(ctx, owed, d.company).Result() },
		func(ctx context.Context) {
			if epoch > 0 {
				d.must(d.registry.Pay(ctx, d.company, int64(epoch)))
			}
		},
		func(ctx context.Context) {
			if epoch > 0 {
				d.must(d.registry.Paid(ctx, d.company, int64(epoch)))
			}
		},
	}
}

// sleeper finds the company in the index, and puts it to sleep.
func sleeper(d *desk) []func(context.Context) {
	var all []Sleeper
	var glance Glance
	return []func(context.Context){
		func(ctx context.Context) {
			epochs, err := d.registry.Working(ctx)
			d.must(err)
			found, err := d.ledger.GlanceAll(ctx, []string{d.company})
			d.must(err)
			glance = found[0]
			if epoch := epochs[d.company]; epoch != 0 && !glance.Work {
				all = []Sleeper{{d.company, epoch, glance.Version}}
			}
		},
		func(ctx context.Context) {
			var err error
			if len(all) > 0 {
				all, err = d.ledger.Sleep(ctx, all)
				d.must(err)
			}
		},
		func(ctx context.Context) {
			for _, s := range all {
				_, err := d.registry.File(ctx, registry.Filing{Company: s.Company, Epoch: s.Epoch})
				d.must(err)
			}
		},
	}
}

// eraser is the end of a company's erasure.
func eraser(d *desk) []func(context.Context) {
	var epoch int64
	var erased Erased
	return []func(context.Context){
		func(ctx context.Context) {
			_, _, err := d.ledger.EraseSweeps(ctx, d.company)
			d.must(err)
			epoch, err = registry.Enlist(ctx, d.rdb, d.company)
			d.must(err)
		},
		func(ctx context.Context) {
			var err error
			erased, err = d.ledger.EraseRest(ctx, d.company)
			d.must(err)
		},
		func(ctx context.Context) {
			if erased.Done {
				_, err := d.registry.File(ctx, registry.Filing{Company: d.company, Epoch: epoch})
				d.must(err)
			}
		},
	}
}

// interleavings are all orders in which so many actors may do three steps each. The first of two that are alike begins first.
func interleavings(actors int, alike ...int) (all [][]int) {
	left := slices.Repeat([]int{3}, actors)
	var walk func(sofar []int)
	walk = func(sofar []int) {
		if len(sofar) == 3*actors {
			if len(alike) == 0 || slices.Index(sofar, alike[0]) < slices.Index(sofar, alike[1]) {
				all = append(all, slices.Clone(sofar))
			}
			return
		}
		for a := range left {
			if left[a] > 0 {
				left[a]--
				walk(append(sofar, a))
				left[a]++
			}
		}
	}
	walk(nil)
	return all
}

// someOrders are a few hundred of the orders in which so many actors may do three steps each.
func someOrders(t *testing.T, actors int) (all [][]int) {
	t.Helper()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	for range 400 {
		var order []int
		for a := range actors {
			order = append(order, a, a, a)
		}
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		all = append(all, order)
	}
	return all
}

// TestNoOrderOfStepsLosesWork: wakers, sleepers and an erasure in every order of their steps, and together with payers in many, from each state that
// a company may be in. After each step, where a kill may end any of them, work stands in the index or is owed to it. In the end, the company is woken and put
// to sleep as ever.
func TestNoOrderOfStepsLosesWork(t *testing.T) {
	t.Parallel()
	states := map[string]func(d *desk){
		"new":    func(*desk) {},
		"asleep": func(d *desk) { d.nap() },
		"awake": func(d *desk) {
			d.must(d.ledger.StoreSweep(d.t.Context(), d.company, &Sweep{ID: "before", State: "running", Created: time.Now()}, `{"by":"x"}`))
			d.must(d.rdb.Del(d.t.Context(), Key(d.company, "replaying"), Key(d.company, "replays"), Key(d.company, "replay:before")).Err())
		},
		"listed and asleep": func(d *desk) {
			d.nap()
			_, err := registry.Enlist(d.t.Context(), d.rdb, d.company)
			d.must(err)
		},
	}
	some := []int{-1} // of the orders, not all
	for name, tt := range map[string]struct {
		actors []actor
		alike  []int
		from   []string
	}{
		"one of each":  {[]actor{waker("a"), sleeper}, nil, []string{"new", "asleep", "awake", "listed and asleep"}},
		"two wakers":   {[]actor{waker("a"), waker("b"), sleeper}, []int{0, 1}, []string{"new", "asleep"}},
		"two sleepers": {[]actor{waker("a"), sleeper, sleeper}, []int{1, 2}, []string{"awake", "listed and asleep"}},
		"an erasure":   {[]actor{waker("a"), sleeper, eraser}, nil, []string{"asleep", "awake"}},

		"owed":                 {[]actor{ower("a"), sleeper, payer}, some, []string{"new", "asleep", "awake", "listed and asleep"}},
		"owed by one of two":   {[]actor{ower("a"), waker("b"), payer, sleeper}, some, []string{"asleep"}},
		"owed and erased":      {[]actor{ower("a"), payer, eraser}, some, []string{"asleep"}},
		"owed by two":          {[]actor{ower("a"), ower("b"), sleeper, payer}, some, []string{"asleep", "listed and asleep"}},
		"owed and slept twice": {[]actor{ower("a"), ower("b"), payer, sleeper, sleeper}, some, []string{"asleep"}},
	} {
		for _, state := range tt.from {
			t.Run(name+", "+state, func(t *testing.T) {
				t.Parallel()
				d, before, actors := newDesk(t, standard), states[state], tt.actors
				orders := interleavings
				if slices.Equal(tt.alike, some) {
					orders = func(actors int, _ ...int) [][]int { return someOrders(t, actors) }
				}
				looked := map[string]bool{}
				for _, order := range orders(len(actors), tt.alike...) {
					d.must(d.rdb.FlushDB(t.Context()).Err())
					before(d)
					d.perform(actors, order, looked)
					if t.Failed() {
						t.Fatalf("in the order %v", order)
					}
				}
			})
		}
	}
}

// TestWhatIsOwedIsPaidOnce: orders of steps that are rare, and tell whether who pays takes out no more than was paid, and files at no lower epoch.
func TestWhatIsOwedIsPaidOnce(t *testing.T) {
	t.Parallel()
	const a, b, p, s = 0, 1, 2, 3
	d := newDesk(t, standard)
	for name, tt := range map[string]struct {
		lost  bool // the index has lost its last epochs
		order []int
	}{
		"owed anew while it is paid":               {false, []int{a, a, p, p, s, s, s, b, b, p, b, a}},
		"woken after it was paid and put to sleep": {false, []int{a, a, p, p, p, s, s, s, a, b, b, b}},
		"the same, and the index went back":        {true, []int{a, a, p, p, p, s, s, s, a, b, b, b}},
	} {
		d.must(d.rdb.FlushDB(t.Context()).Err())
		for range 3 {
			d.nap()
		}
		if tt.lost {
			d.must(d.rdb.Del(t.Context(), "{"+index+"}:epoch").Err())
		}
		d.perform([]actor{ower("a"), ower("b"), payer, sleeper}, tt.order, map[string]bool{})
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// perform has the actors do their steps in an order, and then others who come later. looked are beginnings of orders: what comes after the same steps from the
// same state was seen.
func (d *desk) perform(actors []actor, order []int, looked map[string]bool) {
	d.t.Helper()
	steps := make([][]func(context.Context), len(actors))
	for i, a := range actors {
		steps[i] = a(d)
	}
	for i, a := range order {
		steps[a][0](d.t.Context())
		steps[a] = steps[a][1:]
		if begin := fmt.Sprint(order[:i+1]); !looked[begin] {
			looked[begin] = true
			d.checkAwake(fmt.Sprintf("after step %d", i+1))
		}
	}
	d.must(d.ledger.StoreSweep(d.t.Context(), d.company, &Sweep{ID: "later", State: "running", Created: time.Now()}, `{"by":"x"}`))
	if !d.hasWork() {
		d.t.Error("what came later is not there")
	}
	d.checkAwake("later")
	d.must(d.rdb.Del(d.t.Context(), Key(d.company, "replaying")).Err())
	d.nap()
}

// nap puts the company to sleep, if it is listed or not.
func (d *desk) nap() {
	d.t.Helper()
	ctx := d.t.Context()
	epoch, err := registry.Enlist(ctx, d.rdb, d.company)
	d.must(err)
	version := d.rdb.Get(ctx, registry.VersionKey(d.company)).Val()
	if version == "" {
		version = "0"
	}
	asleep, err := d.ledger.Sleep(ctx, []Sleeper{{d.company, epoch, version}})
	d.must(err)
	n, err := d.registry.File(ctx, registry.Filing{Company: d.company, Epoch: epoch})
	d.must(err)
	if got, _ := d.rdb.Get(ctx, registry.AwakeKey(d.company)).Int64(); len(asleep) != 1 || n != 1 || got != -epoch {
		d.t.Fatalf("%d companies fell asleep, %d were taken out of the index, at %d, want epoch %d", len(asleep), n, got, epoch)
	}
}

// answered500 ends a delivery.
var answered500 = ending{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: "status_500", Status: 500}}

// TestWhateverMakesWorkWakesItsCompany: each step that makes work for the rounds finds the company asleep, and leaves it awake and in the index. Steps that
// make none let it sleep.
func TestWhateverMakesWorkWakesItsCompany(t *testing.T) {
	t.Parallel()
	paused := func(d *desk) int64 {
		cb := d.callback("")
		d.pause(cb)
		return cb
	}
	dead := func(d *desk) (r Ref) {
		cb := d.callback("")
		d.accept([]string{"old"}, cb)
		d.finish(d.beginLane()[0], answered500)
		return d.ref("old", cb)
	}
	for name, tt := range map[string]struct {
		before func(d *desk) any
		do     func(d *desk, was any)
		sleeps bool
	}{
		"accept":       {before: func(d *desk) any { return d.callback("") }, do: func(d *desk, cb any) { d.accept([]string{"e"}, cb.(int64)) }},
		"accept, held": {before: func(d *desk) any { return paused(d) }, do: func(d *desk, cb any) { d.accept([]string{"e"}, cb.(int64)) }},
		"accept for nobody": {
			before: func(*desk) any { return nil }, do: func(d *desk, _ any) { d.offer("{}", "", []string{"e"}) }, sleeps: true,
		},
		"replay": {before: func(d *desk) any { return dead(d) }, do: func(d *desk, r any) {
			_, err := d.ledger.Replay(d.t.Context(), r.(Ref), `{"by":"x"}`)
			d.must(err)
		}},
		"start of a replay": {before: func(d *desk) any { return nil }, do: func(d *desk, _ any) {
			d.must(d.ledger.StoreSweep(d.t.Context(), d.company, &Sweep{ID: "s", State: "running", Created: time.Now()}, `{"by":"x"}`))
		}},
		"dry run": {before: func(d *desk) any { return nil }, sleeps: true, do: func(d *desk, _ any) {
			d.must(d.ledger.StoreSweep(d.t.Context(), d.company, &Sweep{ID: "s", State: "dry_run", Created: time.Now()}, `{"by":"x"}`))
		}},
		"delete": {before: func(d *desk) any { return d.callback("") }, do: func(d *desk, cb any) {
			d.must(d.registry.Delete(d.t.Context(), d.company, cb.(int64)))
		}},
		"resume": {before: func(d *desk) any { return paused(d) }, do: func(d *desk, cb any) { d.resume(cb.(int64)) }},
		"resume nothing": {before: func(*desk) any { return nil }, sleeps: true, do: func(d *desk, _ any) {
			if _, err := d.registry.Resume(d.t.Context(), d.company, 7); err == nil {
				d.t.Error("resumed what is not there")
			}
		}},
		"end of a cancelled attempt that disables": {before: func(d *desk) any {
			cb := d.callback("")
			d.accept([]string{"e"}, cb)
			a := d.beginLane()[0]
			_, err := d.ledger.Cancel(d.t.Context(), a.Ref, `{"by":"x"}`)
			d.must(err)
			return a
		}, do: func(d *desk, was any) {
			// Nothing but failures for long enough: the run's fields are the health's.
			ago := time.Now().Add(-1000 * time.Hour).UnixMilli()
			d.must(d.rdb.HSet(d.t.Context(), Key(d.company, "health:1"), "fs", ago, "fl", time.Now().UnixMilli(), "fo", 0, "fn", 100).Err())
			d.finish(was.(*owned), answered500)
			if d.rdb.HLen(d.t.Context(), Key(d.company, "notices")).Val() != 1 {
				d.t.Error("there is no notice")
			}
		}},
		"erasure of an event": {before: func(d *desk) any { return dead(d) }, do: func(d *desk, _ any) {
			_, err := d.ledger.EraseEvent(d.t.Context(), d.company, "old", `{"by":"x"}`)
			d.must(err)
		}},
		"erasure of no event": {before: func(*desk) any { return nil }, sleeps: true, do: func(d *desk, _ any) {
			_, err := d.ledger.EraseEvent(d.t.Context(), d.company, "none", `{"by":"x"}`)
			d.must(err)
		}},
		"announcement of the pruning": {before: func(d *desk) any { return dead(d) }, do: func(d *desk, _ any) {
			_, err := d.ledger.Prune(d.t.Context(), d.company, time.Millisecond)
			d.must(err)
			if d.rdb.Exists(d.t.Context(), Key(d.company, "prune")).Val() == 0 {
				d.t.Error("nothing is announced")
			}
		}},
		"nothing to prune": {before: func(d *desk) any { return dead(d) }, sleeps: true, do: func(d *desk, _ any) {
			_, err := d.ledger.Prune(d.t.Context(), d.company, time.Hour)
			d.must(err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t, standard)
			was := tt.before(d)
			d.must(d.rdb.Del(t.Context(), registry.RoomsKey(d.company)).Err()) // a round finds them empty
			d.nap()
			tt.do(d, was)
			d.checkAwake("then")
			epoch, _ := d.rdb.Get(t.Context(), registry.AwakeKey(d.company)).Int64()
			if awake := epoch > 0; awake == tt.sleeps {
				t.Errorf("awake is %t", awake)
			}
		})
	}
}

// TestTheFlightWakesOnce: steps that travel together find their company asleep together. They are done in their order, and the index is asked once.
func TestTheFlightWakesOnce(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.accept([]string{"warm"}, cb)
	d.finish(d.beginLane()[0], ending{Judgement: verdict.Judgement{Verdict: verdict.Delivered, Status: 204}})
	d.nap()
	var events []string
	for i := range 20 {
		events = append(events, fmt.Sprintf("e-%02d", i))
	}
	woken := 0
	d.ledger.accepts.wake = func(ctx context.Context, company string, nap registry.Nap) (string, error) {
		woken++
		return d.ledger.wake(ctx, company, nap)
	}
	for i, a := range d.offer("{}", "", events, cb) {
		if a.Outcome != Taken {
			t.Errorf("%s: %+v", events[i], a)
		}
	}
	if woken != 1 {
		t.Errorf("the company was woken %d times", woken)
	}
	var log []string
	for _, m := range d.rdb.XRange(t.Context(), Key(d.company, "log"), "-", "+").Val() {
		log = append(log, m.Values["e"].(string))
	}
	if want := append([]string{"warm"}, events...); !slices.Equal(log, want) {
		t.Errorf("the log has %s", strings.Join(log, " "))
	}
	d.checkAwake("then")
}

// TestACompanyThatIsWokenInVain: whoever cannot wake its company says so, and has changed nothing.
func TestACompanyThatIsWokenInVain(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	d.must(d.rdb.Del(t.Context(), registry.RoomsKey(d.company)).Err())
	d.nap()
	d.must(d.rdb.Del(t.Context(), index).Err())
	d.must(d.rdb.Set(t.Context(), index, "no set", 0).Err())
	d.version = 0
	o := &Offer{Company: d.company, ID: "e", Meta: Meta{Type: "payment_proof"}, Payload: []byte("{}"), First: []First{{Callback: cb}}}
	o.Version, _ = d.rdb.Get(t.Context(), registry.VersionKey(d.company)).Int64()
	if a, err := d.ledger.Accept(t.Context(), o)[0].Answer(); err == nil || !redis.HasErrorPrefix(err, "WRONGTYPE") {
		t.Errorf("accepted: %+v, %v", a, err)
	}
	if err := d.ledger.StoreSweep(t.Context(), d.company, &Sweep{ID: "s", State: "running"}, "{}"); err == nil {
		t.Error("a replay is stored")
	}
	if _, err := d.registry.Resume(t.Context(), d.company, cb); err == nil {
		t.Error("a callback is resumed")
	}
	if d.hasWork() || d.rdb.Exists(t.Context(), EventKey(d.company, "e")).Val() > 0 {
		t.Error("something was written")
	}
}
