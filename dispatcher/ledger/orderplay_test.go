package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// A linePlay does what many processes do to a callback with an ordering, in any order, and has some of them die between any two steps. It knows what was promised.
type linePlay struct {
	*desk
	rng    *rand.Rand
	cb     int64
	events []*played
	owners []*owned // attempts that are under way
	paused bool
}

// A played is an event of it.
type played struct {
	id, key string
	number  int64
	ended   bool // it was final once: what comes then is a replay
	begun   bool
	erased  bool
}

// TestOrderHoldsWhateverHappens: events, keys, answers, cancels, replays, erasures, pauses, and processes that die, at random. A first attempt never begins before all of its key
// that were accepted earlier have ended. In the end each has, and nothing is left of any line.
func TestOrderHoldsWhateverHappens(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for seed := range uint64(3) {
		d := server.of(t, "play-"+strconv.FormatUint(seed, 10))
		p := &linePlay{desk: d, rng: rand.New(rand.NewPCG(seed, 15)), cb: d.ordered("")}
		for range 300 {
			p.step()
		}
		p.settle()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (p *linePlay) step() {
	switch p.rng.IntN(12) {
	case 0, 1, 2:
		e := &played{id: "e" + strconv.Itoa(len(p.events)), key: []string{"", "a", "b", "c"}[p.rng.IntN(4)]}
		e.number, _ = p.keyed(e.id, e.key, p.cb)
		p.events = append(p.events, e)
	case 3, 4, 5:
		p.beginOne()
	case 6, 7, 8:
		p.endOne()
	case 9:
		p.interfere()
	case 10:
		p.pump(p.cb)
	case 11:
		p.repair(p.rng.IntN(2) == 0)
	}
}

// beginOne begins what stands in the lane, or has whoever should die before.
func (p *linePlay) beginOne() {
	if len(p.lane) == 0 {
		return
	}
	i := p.rng.IntN(len(p.lane))
	t := p.lane[i]
	p.lane = slices.Delete(p.lane, i, i+1)
	if p.rng.IntN(8) == 0 {
		return
	}
	if a, _ := p.begin(p.claim(t)); a != nil {
		p.began(a)
	}
}

// began checks the promise.
func (p *linePlay) began(a *owned) {
	p.owners = append(p.owners, a)
	i := slices.IndexFunc(p.events, func(e *played) bool { return e.id == a.Event })
	e := p.events[i]
	if a.grant.Sequence != e.number {
		p.t.Errorf("%s begins as number %d, and was accepted as %d", e.id, a.grant.Sequence, e.number)
	}
	if e.key == "" || e.begun || e.ended {
		return
	}
	e.begun = true
	for _, before := range p.events[:i] {
		if before.key == e.key && !before.erased && !before.ended && !p.isFinal(before) {
			p.t.Errorf("%s begins while %s of the same key has not ended: %+v", e.id, before.id, p.record(before.id, p.cb))
		}
	}
}

func (p *linePlay) isFinal(e *played) bool {
	return StateOf[p.record(e.id, p.cb).State].Final()
}

// endOne ends an attempt, or has its owner die.
func (p *linePlay) endOne() {
	if len(p.owners) == 0 {
		return
	}
	i := p.rng.IntN(len(p.owners))
	a := p.owners[i]
	p.owners = slices.Delete(p.owners, i, i+1)
	switch p.rng.IntN(6) {
	case 0: // its lease is over at once
		p.must(p.rdb.ZAddXX(p.t.Context(), Key(p.company, "due"), redis.Z{Member: a.Member()}).Err())
	case 1:
		p.finish(a, badly)
	case 2:
		p.finish(a, badly.retried(1))
	default:
		f := finishOf(a, well)
		next := "owner-chained-" + strconv.Itoa(p.owned())
		f.NextToken, f.NextLease = next, lease
		done, err := p.ledger.Finish(p.t.Context(), f)
		p.must(err)
		if done.Next != nil {
			p.began(&owned{done.Released[0].Ref, next, done.Next})
			done.Released = done.Released[1:]
		}
		p.lane = append(p.lane, done.Released...)
	}
}

func (p *linePlay) owned() int {
	p.desk.owners++
	return p.desk.owners
}

// interfere does what people do.
func (p *linePlay) interfere() {
	if len(p.events) == 0 {
		return
	}
	e := p.events[p.rng.IntN(len(p.events))]
	r := p.ref(e.id, p.cb)
	switch p.rng.IntN(7) {
	case 0:
		_, err := p.ledger.Cancel(p.t.Context(), r, `{"by":"x"}`)
		p.must(err)
	case 1:
		final := !e.erased && p.isFinal(e)
		done, err := p.ledger.Replay(p.t.Context(), r, `{"by":"x"}`)
		p.must(err)
		e.ended = e.ended || final
		if done.Outcome == Released {
			p.lane = append(p.lane, done.Ticket)
		}
	case 2:
		done, err := p.ledger.Hasten(p.t.Context(), r, `{"by":"x"}`)
		p.must(err)
		if done.Goes {
			p.lane = append(p.lane, done.Ticket)
		}
	case 3:
		if p.rng.IntN(3) == 0 && !e.erased {
			p.EraseEvent(e)
		}
	case 4, 5:
		if p.paused = !p.paused; p.paused {
			p.pause(p.cb)
		} else {
			p.resume(p.cb)
		}
	case 6: // a step of a program that knows no lines
		if !e.erased && p.record(e.id, p.cb).State == 'R' {
			p.must(p.rdb.HSet(p.t.Context(), EventKey(p.company, e.id), RecordField(p.cb), "X 9 1 1 1 -").Err())
			p.must(p.rdb.ZRem(p.t.Context(), Key(p.company, "due"), r.Member()).Err())
			p.must(p.rdb.ZRem(p.t.Context(), Key(p.company, "retry:"+strconv.FormatInt(p.cb, 10)), r.Member()).Err())
		}
	}
}

// EraseEvent erases one.
func (p *linePlay) EraseEvent(e *played) {
	p.erased(e.id)
	e.erased = true
	p.owners = slices.DeleteFunc(p.owners, func(a *owned) bool { return a.Event == e.id })
}

// repair is the reconciler's, of some or, as if much time had passed, of all.
func (p *linePlay) repair(all bool) {
	if all {
		due, err := p.rdb.ZRange(p.t.Context(), Key(p.company, "due"), 0, -1).Result()
		p.must(err)
		for _, member := range due {
			if !slices.ContainsFunc(p.owners, func(a *owned) bool { return a.Member() == member }) {
				p.must(p.rdb.ZAdd(p.t.Context(), Key(p.company, "due"), redis.Z{Member: member}).Err())
			}
		}
	}
	o, err := p.ledger.Overdue(p.t.Context(), p.company, 1000)
	p.must(err)
	for _, t := range append(o.Check, o.Lost...) {
		if !slices.ContainsFunc(p.lane, func(have Ticket) bool { return have.Ref == t.Ref && have.Generation == t.Generation }) {
			p.lane = append(p.lane, t)
		}
	}
	p.must(p.rdb.HDel(p.t.Context(), Key(p.company, "health:"+strconv.FormatInt(p.cb, 10)), "lc").Err()) // a minute has passed
}

// settle has everything end, and looks what is left.
func (p *linePlay) settle() {
	p.t.Helper()
	p.resume(p.cb)
	for round := 0; ; round++ {
		p.repair(true)
		p.pump(p.cb)
		for len(p.lane) > 0 {
			p.beginOne()
		}
		for len(p.owners) > 0 {
			p.finish(p.owners[0], well)
			p.owners = p.owners[1:]
		}
		for _, e := range p.events {
			if !e.erased && p.record(e.id, p.cb).State == 'R' {
				if done, err := p.ledger.Hasten(p.t.Context(), p.ref(e.id, p.cb), `{"by":"x"}`); err == nil && done.Goes {
					p.lane = append(p.lane, done.Ticket)
				}
			}
		}
		if left := p.unfinished(); len(left) == 0 || round > 100 {
			if len(left) > 0 {
				p.t.Errorf("they never end: %v", left)
			}
			break
		}
	}
	p.noLines()
	cb := strconv.FormatInt(p.cb, 10)
	for _, name := range []string{"due", "room:" + cb, "ready:" + cb, "retry:" + cb, "behind:" + cb} {
		if kind := p.rdb.Exists(p.t.Context(), Key(p.company, name)).Val(); kind != 0 {
			p.t.Errorf("%s is left", name)
		}
	}
	numbers := map[string]int64{}
	for _, e := range p.events {
		if e.key != "" && e.number <= numbers[e.key] {
			p.t.Errorf("%s of %s has number %d after %d", e.id, e.key, e.number, numbers[e.key])
		}
		numbers[e.key] = e.number
	}
}

func (p *linePlay) unfinished() (left []string) {
	for _, e := range p.events {
		if !e.erased && !p.isFinal(e) {
			left = append(left, fmt.Sprintf("%s of %s: %c", e.id, e.key, p.record(e.id, p.cb).State))
		}
	}
	return left
}
