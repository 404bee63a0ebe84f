package dispatcher

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

const workingKey = "ringback:working"

// A listener is a go-redis hook that notes the commands that are sent.
type listener struct {
	mu sync.Mutex
	heard
}

type heard struct {
	commands int
	glanced  []string // companies that were looked into
	named    int      // how often all names were read
}

func (l *listener) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (l *listener) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.hear(cmd)
		return next(ctx, cmd)
	}
}

func (l *listener) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			l.hear(cmd)
		}
		return next(ctx, cmds)
	}
}

var glances = lua.Script("glance").Hash()

func (l *listener) hear(cmd redis.Cmder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.commands++
	args := cmd.Args()
	if cmd.Name() == "smembers" && len(args) > 1 && args[1] == "ringback:companies" {
		l.named++
	}
	if cmd.Name() == "evalsha" && args[1] == glances {
		key, _ := args[3].(string)
		company, _, _ := strings.Cut(strings.TrimPrefix(key, "{"), "}")
		l.glanced = append(l.glanced, company)
	}
}

// listen notes what is sent from now on.
func (h *house) listen() *listener {
	l := &listener{}
	h.rdb.AddHook(l)
	return l
}

// during is what was heard while something was done.
func (l *listener) during(do func()) heard {
	l.take()
	do()
	return l.take()
}

// take is what was heard so far, which it forgets.
func (l *listener) take() heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.heard
	l.heard = heard{}
	slices.Sort(was.glanced)
	was.glanced = slices.Compact(was.glanced)
	return was
}

// holding gives companies a delivery that is held, so that they have work for the rounds.
func (h *house) holding(companies ...string) {
	h.t.Helper()
	for _, company := range companies {
		cb, err := h.registry.Create(h.t.Context(), company, []byte(`{"callback_type": "payment_proof", "destination": {"url": "https://partner.example/"}}`))
		h.must(err)
		_, err = h.registry.Pause(h.t.Context(), company, cb.ID)
		h.must(err)
		e := proof("held")
		e.Company = company
		_, err = h.client.Send(h.t.Context(), e)
		h.must(err)
	}
}

// asleep reports whether a company is out of the index, and knows it.
func (h *house) asleep(company string) bool {
	h.t.Helper()
	epoch, err := h.rdb.Get(h.t.Context(), registry.AwakeKey(company)).Int64()
	if err != nil {
		h.t.Fatal(err)
	}
	listed := h.rdb.ZScore(h.t.Context(), workingKey, company).Err() == nil
	if listed != (epoch > 0) {
		h.t.Errorf("%s is at epoch %d, and listed: %t", company, epoch, listed)
	}
	return !listed
}

// goes has a worker go rounds for so long.
func (h *house) goes(w *Worker, long time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(w.every) {
		w.turn(h.t.Context())
	}
}

// TestACompanyFallsAsleepAndWakes: once it has been without work for a minute, rounds no longer look into it, and what comes then is delivered as ever.
func TestACompanyFallsAsleepAndWakes(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		end, err := registry.Announce(h.t.Context(), h.rdb, nil, registry.Self("test", "worker"), testLog(h.t))
		h.must(err)
		stop := h.work()
		h.send(proof("p-1"))
		h.awaitAll(5 * time.Second)
		time.Sleep(lingers / 2)
		if h.asleep(acme) {
			h.t.Error("it fell asleep at once: its next event would pay for that")
		}
		time.Sleep(lingers)
		if !h.asleep(acme) {
			h.t.Error("it is still awake")
		}
		began := time.Now()
		h.send(proof("p-2"))
		h.awaitAll(5 * time.Second)
		if took := time.Since(began); took > 5*time.Second || h.asleep(acme) {
			h.t.Errorf("delivered after %s, and asleep: %t", took, h.asleep(acme))
		}
		h.check()
		stop()
		h.must(end(h.t.Context()))
	})
}

// TestARoundLooksOnlyIntoThoseWithWork, whatever else has a name. The first round goes over all names.
func TestARoundLooksOnlyIntoThoseWithWork(t *testing.T) {
	inBubble(t, func(h *house) {
		names := eventIDs("idle-", 300)
		for _, name := range names {
			h.must(h.registry.Touch(h.t.Context(), name))
		}
		h.holding("busy-1", "busy-2")
		w, l := h.worker(), h.listen()
		if first := l.during(func() { w.turn(h.t.Context()) }); first.named != 1 || len(first.glanced) != 302 {
			h.t.Errorf("the first round read the names %d times, and looked into %d companies", first.named, len(first.glanced))
		}
		w.rounds.walk.began, w.rounds.walk.underWay = time.Now(), false // it has its own test
		if next := l.during(func() { w.turn(h.t.Context()) }); next.named != 0 || !slices.Equal(next.glanced, []string{"busy-1", "busy-2"}) {
			h.t.Errorf("the next read the names %d times, and looked into %v", next.named, next.glanced)
		}
	})
}

// TestIdleCostsAreThoseOfTheWork: how many commands an idle worker sends does not depend on how many names there are.
func TestIdleCostsAreThoseOfTheWork(t *testing.T) {
	sent := map[int]int{}
	for _, names := range []int{20, 2000} {
		inBubble(t, func(h *house) {
			for _, name := range eventIDs("idle-", names) {
				h.must(h.rdb.SAdd(h.t.Context(), "ringback:companies", name).Err())
			}
			end, err := registry.Announce(h.t.Context(), h.rdb, nil, registry.Self("test", "worker"), testLog(h.t))
			h.must(err)
			stop := h.work()
			time.Sleep(10 * time.Second)
			l := h.listen()
			time.Sleep(5 * time.Minute)
			sent[names] = l.take().commands
			stop()
			h.must(end(h.t.Context()))
		})
	}
	t.Logf("in 5 minutes of rounds: %d commands with 20 names, %d with 2,000", sent[20], sent[2000])
	if sent[20] == 0 || sent[2000]*2 > sent[20]*3 {
		t.Errorf("%d commands with 20 names, %d with 2,000", sent[20], sent[2000])
	}
}

// TestWorkersShareTheCompaniesOut: each company is looked into by one of them. If one goes no more rounds, the other has all of them well before anything
// is overdue; if it says that it leaves, at once.
func TestWorkersShareTheCompaniesOut(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		t.Run(fmt.Sprintf("leaves %t", leaves), func(t *testing.T) {
			inBubble(t, func(h *house) {
				all := eventIDs("busy-", 40)
				h.holding(all...)
				slices.Sort(all)
				one, two, l := h.worker(), h.worker(), h.listen()
				round := func(w *Worker) []string {
					w.rounds.walk.began, w.rounds.walk.underWay = time.Now(), false
					return l.during(func() { w.turn(h.t.Context()) }).glanced
				}
				for range 3 {
					round(one)
					round(two)
					time.Sleep(one.every)
				}
				first, second := round(one), round(two)
				together := slices.Sorted(slices.Values(slices.Concat(first, second)))
				if !slices.Equal(together, all) || len(first) < 8 || len(second) < 8 {
					h.t.Errorf("one serves %d, the other %d, of 40", len(first), len(second))
				}
				began := time.Now()
				if leaves {
					two.retire(h.t.Context())
				}
				for len(round(one)) != len(all) {
					time.Sleep(one.every)
					if time.Since(began) > patience {
						h.t.Fatal("nobody serves what was the other's")
					}
				}
				if took := time.Since(began); leaves && took > 0 || took > (goneAfter+1)*one.every || took+one.every >= patience/2 {
					h.t.Errorf("it took %s until all were served again", took)
				}
				if n := len(round(two)); n < 1 || n == len(all) { // it was only slow
					h.t.Errorf("the other, which is back, serves %d", n)
				}
			})
		})
	}
}

// TestARedisThatWentBackIsGoneOverWhole: it may have lost the index, or part of it.
func TestARedisThatWentBackIsGoneOverWhole(t *testing.T) {
	inBubble(t, func(h *house) {
		h.holding("busy")
		w, l := h.worker(), h.listen()
		w.turn(h.t.Context())
		w.turn(h.t.Context())
		h.must(h.rdb.Del(h.t.Context(), workingKey, beatsKey).Err())
		if round := l.during(func() { w.turn(h.t.Context()) }); round.named != 1 || h.asleep("busy") {
			h.t.Errorf("the names were read %d times", round.named)
		}
		if round := l.during(func() { w.turn(h.t.Context()) }); round.named != 0 {
			h.t.Error("the next round goes over all names again")
		}
	})
}

// forgets leaves a company as a program leaves it that knows no index: with work, asleep and not listed.
func (h *house) forgets(company string) {
	h.t.Helper()
	h.must(h.rdb.ZRem(h.t.Context(), workingKey, company).Err())
	h.must(h.rdb.Del(h.t.Context(), registry.AwakeKey(company)).Err())
}

// TestBesideAnOlderProgramRoundsGoOverAllNames, and once more when the last of its processes has gone.
func TestBesideAnOlderProgramRoundsGoOverAllNames(t *testing.T) {
	inBubble(t, func(h *house) {
		h.holding("busy")
		w, l := h.worker(), h.listen()
		h.goes(w, 10*time.Second)
		end, err := registry.Announce(h.t.Context(), h.rdb, nil, registry.Process{ID: "old", Level: registry.IndexLevel - 1, Roles: "worker", Host: "web-7"}, testLog(h.t))
		h.must(err)
		h.goes(w, oldEvery+w.every)
		for range 3 {
			h.forgets("busy")
			if round := l.during(func() { w.turn(h.t.Context()) }); round.named != 1 || h.asleep("busy") {
				h.t.Errorf("beside an older program, the names were read %d times", round.named)
			}
			time.Sleep(w.every)
		}
		h.must(end(h.t.Context()))
		h.forgets("busy") // its last deed
		named := l.during(func() { h.goes(w, 2*oldEvery) }).named
		if h.asleep("busy") {
			h.t.Error("what it did last was not found")
		}
		if named == 0 || l.during(func() { h.goes(w, 10*time.Second) }).named != 0 {
			h.t.Errorf("the names were read %d times after it had gone, and then still", named)
		}
	})
}

// TestTheWalkFindsWhatTheIndexLost, and no walk takes longer than a few companies a round.
func TestTheWalkFindsWhatTheIndexLost(t *testing.T) {
	inBubble(t, func(h *house) {
		for _, name := range eventIDs("idle-", 200) {
			h.must(h.registry.Touch(h.t.Context(), name))
		}
		h.holding("busy")
		w, l := h.worker(), h.listen()
		w.turn(h.t.Context())
		h.forgets("busy")
		heard := l.during(func() { h.goes(w, 201/walkStep*w.every+2*walkEvery) })
		if h.asleep("busy") || heard.named != 0 {
			h.t.Errorf("it was not found, or the names were read %d times", heard.named)
		}
	})
}

// TestMetricsCountThoseAsleep: what there is of a company is the same awake and asleep, before anybody went over all names and after, and a scrape asks no
// more of Redis with thousands of names.
func TestMetricsCountThoseAsleep(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	inBubble(t, func(h *house) {
		ctx := h.t.Context()
		h.partner.answers(answering(410))
		gone := h.register("payment_proof", "")
		other := h.register("wallet_item_install", "")
		h.send(proof("p-1"))
		h.drain()
		h.must(second(h.registry.Pause(ctx, acme, other.ID)))
		h.must(h.rdb.HSet(ctx, ledger.Key(acme, "buried"), "hold_full", 3).Err())
		h.must(h.rdb.ZRem(ctx, registry.RoomsKey(acme), gone.ID).Err())
		h.must(h.rdb.Del(ctx, ledger.Key(acme, "notices")).Err())
		want := map[string]int64{
			"ringback.dead_letters": 1, "ringback.deliveries.buried hold_full": 3, "ringback.callbacks disabled": 1, "ringback.callbacks paused": 1, "ringback.callbacks enabled": 0,
		}
		check := func(when string) {
			got := counted(h.t, reader)
			for name, n := range want {
				if got[name] != n {
					h.t.Errorf("%s: %s is %d, want %d", when, name, got[name], n)
				}
			}
		}
		check("before the first round")
		w, l := h.worker(), h.listen()
		w.turn(ctx)
		check("awake")
		h.goes(w, lingers+5*time.Second)
		if !h.asleep(acme) {
			h.t.Fatal("it is awake")
		}
		check("asleep")
		few := l.during(func() { counted(h.t, reader) }).commands
		for _, name := range eventIDs("idle-", 2000) {
			h.must(h.rdb.SAdd(ctx, "ringback:companies", name).Err())
		}
		if many := l.during(func() { counted(h.t, reader) }).commands; many > few+3 || few > many+3 { // the clock is looked at beside it
			h.t.Errorf("a scrape sends %d commands, and %d with 2,000 names more", few, many)
		}
		h.must(h.rdb.ZAdd(ctx, ledger.Key("idle-8", "dead"), redis.Z{Score: float64(time.Now().UnixMilli()), Member: "gone/1"}).Err())
		w.rounds.walk = walk{left: []string{"idle-8"}, underWay: true}
		w.step(ctx)
		want["ringback.dead_letters"] = 2
		check("with another's that the walk found")
		h.must(h.rdb.Del(ctx, ledger.Key("idle-8", "dead")).Err()) // an older program erases it
		h.must(h.rdb.SRem(ctx, "ringback:companies", "idle-8").Err())
		w.rounds.walk = walk{}
		w.step(ctx)
		want["ringback.dead_letters"] = 1
		check("without the other")
		h.must(second(h.registry.Resume(ctx, acme, other.ID))) // wakes it
		want["ringback.callbacks paused"], want["ringback.callbacks enabled"] = 0, 1
		check("woken")
		h.goes(w, 2*lingers)
		check("asleep again")
		h.must(second(h.client.EraseCompany(ctx, registry.NewKeys(h.rdb), acme, "")))
		want = map[string]int64{"ringback.dead_letters": 0, "ringback.deliveries.buried hold_full": 3, "ringback.callbacks disabled": 0, "ringback.callbacks enabled": 0}
		check("erased")
		for _, key := range h.keys() {
			if kind, fields := h.content(key); strings.HasPrefix(key, "ringback:") || strings.HasPrefix(key, "{ringback:") {
				for _, f := range fields {
					if strings.Contains(f[0]+" "+f[1], acme) && !strings.Contains(key, "audit") {
						h.t.Errorf("%s %s still has %v", kind, key, f)
					}
				}
			}
		}
		if n := h.rdb.Exists(ctx, registry.AwakeKey(acme)).Val(); n != 0 {
			h.t.Error("the erased company is still known to be awake or asleep")
		}
		h.acked = nil
	}, watched(reader))
}

// TestKillBetweenListingAndAccepting: whoever was woken for an event that its sender did not live to send has no work, and the next event finds it awake or
// asleep. A kill between two steps of putting a company to sleep leaves one that is listed, and asleep.
func TestKillBetweenListingAndAccepting(t *testing.T) {
	t.Parallel()
	h := newHouse(t, unaided)
	h.register("payment_proof", "")
	h.nap()
	h.start(childJob{Send: []string{"p-1"}, KillAt: "listed"}).dies()
	if _, err := h.client.Event(t.Context(), acme, "p-1"); err == nil {
		t.Error("it is accepted already")
	}
	if h.rdb.ZScore(t.Context(), workingKey, acme).Err() != nil || h.rdb.Get(t.Context(), registry.AwakeKey(acme)).Val()[0] != '-' {
		t.Error("the company is not listed, or not asleep")
	}
	h.work()
	h.send(proof("p-1"))
	h.awaitAll(5 * time.Second)
	h.check()
}

// TestKillBetweenSleepAndFiling leaves a company that is asleep and listed. Its next event is delivered, and a later round takes it out.
func TestKillBetweenSleepAndFiling(t *testing.T) {
	t.Parallel()
	h := newHouse(t, unaided)
	h.register("payment_proof", "")
	h.send(proof("p-0"))
	h.drain()
	h.start(childJob{Sleep: true, KillAt: "slept"}).dies()
	if h.rdb.ZScore(t.Context(), workingKey, acme).Err() != nil || h.rdb.Get(t.Context(), registry.AwakeKey(acme)).Val()[0] != '-' {
		t.Error("the company is not listed, or not asleep")
	}
	h.work()
	h.send(proof("p-1"))
	h.awaitAll(5 * time.Second)
	w := h.worker()
	w.rounds.lingers = 0
	h.eventually(10*time.Second, func() bool { w.turn(t.Context()); return h.rdb.ZScore(t.Context(), workingKey, acme).Err() != nil }, func() string { return "it does not fall asleep" })
	if !h.asleep(acme) {
		t.Error("it is awake")
	}
	h.check()
}

// nap puts acme to sleep, as a round does once it has lingered.
func (h *house) nap() {
	h.t.Helper()
	w := h.worker()
	w.rounds.lingers = 0
	for range 2 {
		w.round(h.t.Context(), false)
	}
	if !h.asleep(acme) {
		h.t.Fatal("acme is awake")
	}
}

// TestTheFirstEventOfACompany: nobody has heard of it, and its event is found by a round all the same, should its sender die.
func TestTheFirstEventOfACompany(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	w := h.worker()
	w.turn(t.Context()) // the one that goes over all names
	h.register("payment_proof", "")
	h.start(childJob{Send: []string{"p-1"}, KillAt: "accepted"}).dies()
	h.ack(proof("p-1"))
	h.overdue()
	l := h.listen()
	if round := l.during(func() { w.turn(t.Context()) }); !slices.Contains(round.glanced, acme) || round.named != 0 {
		t.Errorf("a round looked into %v, and read the names %d times", round.glanced, round.named)
	}
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}
