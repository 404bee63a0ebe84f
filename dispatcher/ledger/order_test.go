package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// ordered registers a callback with an ordering.
func (d *desk) ordered(more string) int64 {
	d.t.Helper()
	return d.callback(`"ordering": {"key": "/customerId"` + more + `}`)
}

// keyed accepts an event for a callback, whose payload has a key of that name; empty: none. -> its number, and whether it is held
func (d *desk) keyed(event, key string, cb int64) (number int64, held bool) {
	d.t.Helper()
	name := ""
	if key != "" {
		name = fmt.Sprintf("%x", key)
	}
	a, err := d.ledger.Accept(d.t.Context(), &Offer{
		Company: d.company, ID: event, Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte("{}"), First: []First{{Callback: cb, Key: name}},
	})[0].Answer()
	d.must(err)
	if a.Outcome == Outdated {
		d.version = a.Version
		return d.keyed(event, key, cb)
	}
	if a.Outcome != Taken {
		d.t.Fatalf("%s is not taken: %+v", event, a)
	}
	if held = slices.Contains(a.Held, cb); !held {
		d.lane = append(d.lane, Ticket{Ref: d.ref(event, cb), Generation: 1})
	}
	return a.Numbers[cb], held
}

// out begins the one delivery in the lane, which must be that of an event.
func (d *desk) out(event string) *owned {
	d.t.Helper()
	begun := d.beginLane()
	if len(begun) != 1 || begun[0].Event != event {
		d.t.Fatalf("%v begin, want %s", refsOf(begun), event)
	}
	return begun[0]
}

func refsOf(begun []*owned) (events []string) {
	for _, a := range begun {
		events = append(events, a.Event)
	}
	return events
}

// lineKeys are the keys of lines that there are, beside the counters.
func (d *desk) lineKeys() (names []string) {
	d.t.Helper()
	for _, pattern := range []string{"line:*", "heads:*", "behind:*"} {
		found, err := d.rdb.Keys(d.t.Context(), Key(d.company, pattern)).Result()
		d.must(err)
		names = append(names, found...)
	}
	return names
}

// noLines fails the test if there is a line left.
func (d *desk) noLines() {
	d.t.Helper()
	if left := d.lineKeys(); len(left) > 0 {
		d.t.Errorf("left of lines: %v", left)
	}
}

func (d *desk) cancelled(r Ref) {
	d.t.Helper()
	if done, err := d.ledger.Cancel(d.t.Context(), r, `{"by":"x"}`); err != nil || done != Done {
		d.t.Fatalf("cancelling ended as %d, %v", done, err)
	}
}

func (d *desk) erased(event string) {
	d.t.Helper()
	if _, err := d.ledger.EraseEvent(d.t.Context(), d.company, event, `{"by":"x"}`); err != nil {
		d.t.Fatal(err)
	}
}

// TestALineGoesOneByOne: the second of a key waits until the first has ended, the other keys and what has none do not, and numbers count up with gaps for what died.
func TestALineGoesOneByOne(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.ordered("")
	for i, tt := range []struct {
		event, key string
		number     int64
		held       bool
	}{{"a1", "a", 1, false}, {"a2", "a", 2, true}, {"b1", "b", 1, false}, {"none", "", 0, false}, {"a3", "a", 3, true}, {"b2", "b", 2, true}} {
		if number, held := d.keyed(tt.event, tt.key, cb); number != tt.number || held != tt.held {
			t.Errorf("%d: %s has number %d, held: %t", i, tt.event, number, held)
		}
	}
	if h := d.health(cb); h.Held != 3 || h.Pending != 3 {
		t.Errorf("%d held, %d pending", h.Held, h.Pending)
	}
	begun := d.beginLane()
	if got := refsOf(begun); fmt.Sprint(got) != "[a1 b1 none]" {
		t.Fatalf("%v begin", got)
	}
	for i, want := range []int64{1, 1, 0} {
		if begun[i].grant.Sequence != want {
			t.Errorf("%s begins with number %d", begun[i].Event, begun[i].grant.Sequence)
		}
	}
	if r := d.record("a2", cb); r.State != 'H' || r.Token != InLine {
		t.Errorf("what waits is %c %s", r.State, r.Token)
	}
	d.finish(begun[0], badly.retried(hour)) // a head that fails keeps its key waiting, and no other
	d.finish(begun[2], well)
	if len(d.lane) != 0 {
		t.Errorf("%v goes beside a head that retries", d.lane)
	}
	d.finish(begun[1], badly)
	b2 := d.out("b2")
	if b2.grant.Sequence != 2 {
		t.Errorf("b2 has number %d", b2.grant.Sequence)
	}
	if h, err := d.ledger.Hasten(t.Context(), d.ref("a1", cb), "{}"); err != nil || h.Outcome != Hastened {
		t.Fatalf("%+v, %v", h, err)
	} else {
		d.lane = append(d.lane, h.Ticket)
	}
	a1 := d.out("a1")
	d.finish(b2, well)
	d.finish(a1, well)
	d.finish(d.out("a2"), well)
	d.finish(d.out("a3"), well)
	if number, held := d.keyed("a4", "a", cb); number != 4 || held {
		t.Errorf("a4 has number %d, held: %t", number, held)
	}
	d.finish(d.out("a4"), well)
	d.noLines()
	if n := d.rdb.ZCard(t.Context(), Key(acme, "due")).Val(); n != 0 {
		t.Errorf("%d are due", n)
	}
}

// TestHowAHeadMakesWay: whatever ends a head, the next one is let out, by the pump at the latest, and the line goes with its last.
func TestHowAHeadMakesWay(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for name, end := range map[string]func(d *desk, head *owned, cb int64){
		"delivered": func(d *desk, head *owned, cb int64) { d.finish(head, well) },
		"dead":      func(d *desk, head *owned, cb int64) { d.finish(head, badly) },
		"late": func(d *desk, head *owned, cb int64) {
			d.rdb.ZAdd(d.t.Context(), Key(d.company, "due"), redis.Z{Member: head.Member()})
			o, err := d.ledger.Overdue(d.t.Context(), d.company, 10)
			d.must(err)
			if len(o.Lost) != 1 {
				d.t.Fatalf("%+v", o)
			}
			d.finish(head, well)
		},
		"cancelled under way": func(d *desk, head *owned, cb int64) { d.cancelled(head.Ref) },
		"cancelled while it retries": func(d *desk, head *owned, cb int64) {
			d.finish(head, badly.retried(hour))
			d.cancelled(head.Ref)
		},
		"erased": func(d *desk, head *owned, cb int64) { d.erased(head.Event) },
		"by nobody": func(d *desk, head *owned, cb int64) { // as after a program of before, or a step that failed half-way
			d.must(d.rdb.HSet(d.t.Context(), EventKey(d.company, head.Event), RecordField(cb), "D 1 1 1 1 -").Err())
			d.must(d.rdb.ZRem(d.t.Context(), Key(d.company, "due"), head.Member()).Err())
			d.must(d.rdb.SRem(d.t.Context(), Key(d.company, "ready:"+strconv.FormatInt(cb, 10)), head.Member()).Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.ReplaceAll(name, " ", "-"))
			cb := d.ordered("")
			d.keyed("first", "k", cb)
			head := d.out("first")
			for i := 2; i < 5; i++ {
				if n, held := d.keyed("e"+strconv.Itoa(i), "k", cb); n != int64(i) || !held {
					t.Errorf("e%d has number %d, held: %t", i, n, held)
				}
			}
			end(d, head, cb)
			if name != "by nobody" { // the step that ends it has the next one be the head: nobody has to look after the line
				d.waitsInLine(cb, "e3", "e4")
			}
			if len(d.lane) == 0 {
				d.pump(cb)
			}
			d.finish(d.out("e2"), well)
			d.finish(d.out("e3"), well)
			d.finish(d.out("e4"), well)
			d.noLines()
			if n, _ := d.keyed("e5", "k", cb); n != 5 {
				t.Errorf("the next has number %d", n)
			}
		})
	}
}

// TestWhoComesIntoALineLeavesItsOldPlaces: an event whose acceptance failed half-way is accepted again, and one that is being erased in pages is sent anew, in
// order with others than before, or with none. Its delivery stands in one place alone, and whom the old one kept waiting goes on.
func TestWhoComesIntoALineLeavesItsOldPlaces(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	for _, was := range []string{"head", "head-that-is-held", "behind", "in-no-line"} {
		for _, again := range []string{"same", "other", "none"} {
			for _, how := range []string{"half", "erased"} {
				if again == "none" && how == "half" { // it has its event's number, and stands in the line that this names
					continue
				}
				t.Run(was+"-"+again+"-"+how, func(t *testing.T) {
					t.Parallel()
					d := server.of(t, was+"-"+again+"-"+how)
					callbacks := make([]int64, 20)
					for i := range callbacks {
						callbacks[i] = d.ordered("")
						if was == "head-that-is-held" {
							d.pause(callbacks[i])
						}
					}
					key := "k"
					switch was {
					case "in-no-line":
						key = ""
					case "behind":
						d.keyedFor("before", "k", callbacks)
					}
					d.keyedFor("e", key, callbacks, 200)
					d.keyedFor("after", "k", callbacks)
					d.keyedFor("else", "l", callbacks)
					left := callbacks
					if how == "half" {
						d.must(d.rdb.HDel(t.Context(), EventKey(d.company, "e"), "m").Err()) // which is what is written last
					} else {
						left = d.erasedInPart("e", callbacks)
					}
					key = map[string]string{"same": "k", "other": "l"}[again]
					d.keyedFor("e", key, callbacks)
					if key != "" {
						d.wantOnePlace("e", key, left)
					}
					for how == "erased" && d.rdb.Exists(t.Context(), Key(d.company, "gone:e")).Val() > 0 {
						_, err := d.ledger.EraseEvent(t.Context(), d.company, "e", "")
						d.must(err)
					}
					d.wantOnePlace("e", key, left)
				})
			}
		}
	}
}

// keyedFor accepts an event for callbacks, whose payload has a key of that name, and for so many more callbacks.
func (d *desk) keyedFor(event, key string, callbacks []int64, more ...int64) {
	d.t.Helper()
	payload := `{"of": "` + strings.Repeat("x", 100) + `"}` // Redis lists a short hash whole, and one of short values
	o := &Offer{Company: d.company, ID: event, Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte(payload)}
	for _, cb := range callbacks {
		first := First{Callback: cb}
		if key != "" {
			first.Key = fmt.Sprintf("%x", key)
		}
		o.First = append(o.First, first)
	}
	for _, n := range more {
		for cb := range n {
			o.First = append(o.First, First{Callback: 1000 + cb})
		}
	}
	a, err := d.ledger.Accept(d.t.Context(), o)[0].Answer()
	d.must(err)
	if a.Outcome == Outdated {
		d.version = a.Version
		d.keyedFor(event, key, callbacks, more...)
		return
	}
	if a.Outcome != Taken {
		d.t.Fatalf("%s is not taken: %+v", event, a)
	}
}

// erasedInPart erases a page of an event, and returns the callbacks whose deliveries are still to be erased.
func (d *desk) erasedInPart(event string, callbacks []int64) (left []int64) {
	d.t.Helper()
	if e, err := d.ledger.EraseEvent(d.t.Context(), d.company, event, `{"by":"x"}`); err != nil || e.Done {
		d.t.Fatalf("of %d deliveries, one page is all: %t, %v", e.Deliveries, e.Done, err)
	}
	for _, cb := range callbacks {
		if d.rdb.HExists(d.t.Context(), Key(d.company, "gone:"+event), RecordField(cb)).Val() {
			left = append(left, cb)
		}
	}
	if len(left) == 0 {
		d.t.Fatal("nothing of them is left to be erased")
	}
	return left
}

// wantOnePlace fails the test unless an event's deliveries stand in the line of a key alone, empty: in none, and where their records say. The first of each line is its head.
func (d *desk) wantOnePlace(event, key string, callbacks []int64) {
	d.t.Helper()
	for _, cb := range callbacks {
		in := func(name string) bool {
			return d.rdb.ZScore(d.t.Context(), Key(d.company, name), event+"/"+strconv.FormatInt(cb, 10)).Err() == nil
		}
		id, r := strconv.FormatInt(cb, 10), d.record(event, cb)
		stands := r.State == 'H' && r.Token == InLine
		for name, want := range map[string]bool{
			"line:" + id + ":" + fmt.Sprintf("%x", "k"): key == "k", "line:" + id + ":" + fmt.Sprintf("%x", "l"): key == "l",
			"behind:" + id: stands, "room:" + id: r.State == 'H' && !stands, "due": r.State == 'P',
		} {
			if in(name) != want {
				d.t.Errorf("callback %d: it is in %s: %t, want %t: %c %s", cb, name, !want, want, r.State, r.Token)
			}
		}
		for _, key := range []string{"k", "l"} {
			first := d.rdb.ZRange(d.t.Context(), Key(d.company, fmt.Sprintf("line:%d:%x", cb, key)), 0, 0).Val()
			if len(first) == 0 {
				continue
			}
			head, _, _ := strings.Cut(first[0], "/")
			if h := d.record(head, cb); h.State == 'H' && h.Token == InLine {
				d.t.Errorf("callback %d: %s is the first of %s, and stands behind others", cb, head, key)
			}
		}
	}
}

// waitsInLine fails the test unless these, and no others, wait behind others.
func (d *desk) waitsInLine(cb int64, events ...string) {
	d.t.Helper()
	got, err := d.rdb.ZRange(d.t.Context(), Key(d.company, "behind:"+strconv.FormatInt(cb, 10)), 0, -1).Result()
	d.must(err)
	for i := range got {
		got[i], _, _ = strings.Cut(got[i], "/")
	}
	if fmt.Sprint(got) != fmt.Sprint(events) {
		d.t.Errorf("%v wait behind others, want %v", got, events)
	}
}

// TestAHeadThatIsSkipped: once it was attempted and has kept the others waiting for skip_after, the next one goes. It goes on by itself, and blocks nobody any more. One
// that nobody attempted, or that may not go, is not skipped.
func TestAHeadThatIsSkipped(t *testing.T) {
	t.Parallel()
	inBubble(t, standard, func(d *desk) {
		cb := d.ordered(`, "skip_after": "10m"`)
		d.keyed("e1", "k", cb)
		d.keyed("e2", "k", cb)
		d.keyed("e3", "k", cb)
		head := d.out("e1")
		time.Sleep(5 * time.Minute)
		d.finish(head, badly.retried(hour))
		if !d.due(cb) {
			t.Error("nobody looks after the line")
		}
		d.pump(cb)
		d.waitsInLine(cb, "e2", "e3")
		for range 5 {
			time.Sleep(time.Minute + time.Second)
			if !d.due(cb) {
				t.Error("nobody looks after the line once its time is over")
			}
			d.pump(cb)
		}
		second := d.out("e2")
		d.waitsInLine(cb, "e3")
		h, err := d.ledger.Hasten(d.t.Context(), d.ref("e1", cb), "{}")
		d.must(err)
		d.lane = append(d.lane, h.Ticket)
		head = d.out("e1")
		if head.grant.Sequence != 1 || head.grant.Number != 2 {
			t.Errorf("it goes on as %+v", head.grant)
		}
		d.finish(head, badly)
		if len(d.lane) > 0 {
			t.Errorf("who was skipped lets %v go", d.lane)
		}
		d.finish(second, well)
		d.finish(d.out("e3"), well)
		d.noLines()

		d.keyed("e4", "k", cb) // in the lanes, and nobody begins it
		d.keyed("e5", "k", cb)
		waiting := d.lane
		time.Sleep(15 * time.Minute)
		d.pump(cb)
		d.waitsInLine(cb, "e5")
		d.lane = waiting
		d.finish(d.out("e4"), badly.retried(hour))
		d.pause(cb)
		time.Sleep(15 * time.Minute)
		d.pump(cb)
		d.waitsInLine(cb, "e5")
		d.resume(cb)
		d.pump(cb)
		d.waitsInLine(cb, "e5") // its time began anew while nothing could go
		time.Sleep(11 * time.Minute)
		d.pump(cb)
		d.finish(d.out("e5"), well)
		d.cancelled(d.ref("e4", cb))
		d.noLines()
	})
}

// TestTheBoundsOfLines: one key takes a part of what may be held, all of a callback's no more than that, and each for as long as what is held may. The oldest go to the
// book, and their numbers are gaps.
func TestTheBoundsOfLines(t *testing.T) {
	t.Parallel()
	dead := func(d *desk, cb int64, reason verdict.Reason, events ...string) {
		d.t.Helper()
		for _, event := range events {
			if r := d.record(event, cb); r.State != 'X' || r.Token != string(reason) {
				d.t.Errorf("%s is %c %s, want it dead: %s", event, r.State, r.Token, reason)
			}
		}
		if h := d.health(cb); h.Dead != int64(len(events)) {
			d.t.Errorf("%d are dead, want %v", h.Dead, events)
		}
	}
	t.Run("of one key", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, bounded(30, hour))
		cb := d.ordered("")
		for i := range 5 {
			d.keyed("e"+strconv.Itoa(i), "k", cb)
		}
		d.keyed("other", "l", cb)
		d.waitsInLine(cb, "e2", "e3", "e4") // a tenth of 30, behind the head
		dead(d, cb, verdict.ReasonHoldFull, "e1")
		begun := d.beginLane()
		d.finish(begun[0], well)
		d.finish(begun[1], well)
		for i := 2; i < 5; i++ {
			a := d.out("e" + strconv.Itoa(i))
			if a.grant.Sequence != int64(i+1) {
				t.Errorf("%s has number %d", a.Event, a.grant.Sequence)
			}
			d.finish(a, well)
		}
		d.noLines()
	})
	t.Run("of a callback", func(t *testing.T) {
		t.Parallel()
		d := newDesk(t, bounded(3, hour))
		cb := d.ordered("")
		for _, key := range []string{"a", "b", "c"} {
			d.keyed(key+"1", key, cb)
			d.keyed(key+"2", key, cb)
		}
		d.pause(cb)
		d.keyed("d1", "d", cb) // the fourth that is held
		dead(d, cb, verdict.ReasonHoldFull, "a2")
		d.waitsInLine(cb, "b2", "c2")
		d.rule(bounded(1, hour)) // fewer than there are
		d.pump(cb)
		dead(d, cb, verdict.ReasonHoldFull, "a2", "b2", "c2")
		if h := d.health(cb); h.Held != 1 {
			t.Errorf("%d are held", h.Held)
		}
	})
	t.Run("of time", func(t *testing.T) {
		t.Parallel()
		inBubble(t, bounded(100, hour), func(d *desk) {
			cb := d.ordered("")
			d.keyed("e1", "k", cb)
			head := d.out("e1")
			d.keyed("e2", "k", cb)
			time.Sleep(50 * time.Minute)
			d.keyed("e3", "k", cb)
			time.Sleep(11 * time.Minute)
			if !d.due(cb) {
				t.Error("nobody looks after the line")
			}
			d.pump(cb)
			dead(d, cb, verdict.ReasonHoldExpired, "e2")
			d.waitsInLine(cb, "e3")
			d.finish(head, well)
			d.finish(d.out("e3"), well)
			d.noLines()
		})
	})
}

// TestTheLifeOfNumbers: a key's goes on for 30 days after its last, and then begins anew, unless something of it still waits. Of too many keys, idle ones give theirs up.
func TestTheLifeOfNumbers(t *testing.T) {
	t.Parallel()
	inBubble(t, standard, func(d *desk) {
		const day = 24 * time.Hour
		cb := d.ordered("")
		next := func(key string, want int64) {
			t.Helper()
			d.owners++
			if n, _ := d.keyed("e"+strconv.Itoa(d.owners), key, cb); n != want {
				t.Errorf("%s after %s has number %d, want %d", key, time.Since(time.Time{}), n, want)
			}
			for _, a := range d.beginLane() {
				d.finish(a, well)
			}
		}
		next("k", 1)
		next("k", 2)
		time.Sleep(29 * day)
		next("k", 3)
		time.Sleep(31 * day)
		next("k", 1)
		d.keyed("stays", "l", cb)
		d.finish(d.out("stays"), badly.retried(hour))
		time.Sleep(31 * day)
		if n, held := d.keyed("next", "l", cb); n != 2 || !held {
			t.Errorf("behind one that retries comes number %d, held: %t", n, held)
		}
		next("m", 1) // some look after others: k's time is over
		if left, err := d.rdb.HKeys(d.t.Context(), Key(acme, "seq:1")).Result(); err != nil || slices.Contains(left, fmt.Sprintf("%x", "k")) || len(left) != 2 {
			t.Errorf("numbers are kept of %v, %v", left, err)
		}
	})
	inBubble(t, standard, func(d *desk) {
		cb := d.ordered("")
		for i := range 6 { // for as long as any is given, they stay
			if n, _ := d.keyed("e"+strconv.Itoa(i), "k", cb); n != int64(i+1) {
				t.Errorf("event %d has number %d", i, n)
			}
			time.Sleep(20 * 24 * time.Hour)
		}
		d.patch(cb, `{"ordering": null}`)
		time.Sleep(60 * 24 * time.Hour)
		if n, err := d.rdb.Exists(d.t.Context(), Key(acme, "seq:1")).Result(); err != nil || n > 0 {
			t.Errorf("the numbers are kept of a callback without an ordering, %v", err)
		}
	})
	d := newDesk(t, standard)
	cb := d.ordered("")
	const fill = `for i = 1, 100000 do redis.call('HSET', KEYS[1], string.format('%016x', i), '5 ' .. ARGV[1]) end redis.call('HSET', KEYS[1], 'feed', '7 ' .. ARGV[1]) return 1`
	seq := Key(acme, "seq:1")
	d.must(d.rdb.Eval(t.Context(), fill, []string{seq}, time.Now().UnixMilli()).Err())
	for i := range 20 {
		d.keyed("e"+strconv.Itoa(i), "key"+strconv.Itoa(i), cb)
	}
	if n := d.rdb.HLen(t.Context(), seq).Val(); n > 100_001 {
		t.Errorf("numbers are kept of %d keys", n)
	}
}

// TestReplaysStandInNoLine: they neither wait nor keep others waiting, and have the number that they had. One that retries stays the head that it is.
func TestReplaysStandInNoLine(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.ordered("")
	replay := func(event string) {
		t.Helper()
		r, err := d.ledger.Replay(t.Context(), d.ref(event, cb), `{"by":"x"}`)
		d.must(err)
		if r.Outcome != Released {
			t.Fatalf("%s: %+v", event, r)
		}
		d.lane = append(d.lane, r.Ticket)
	}
	d.keyed("e1", "k", cb)
	d.finish(d.out("e1"), badly)
	d.keyed("e2", "k", cb)
	head := d.out("e2")
	d.keyed("e3", "k", cb)
	replay("e1")
	again := d.out("e1")
	if again.grant.Sequence != 1 || !again.grant.Replayed {
		t.Errorf("it is replayed as %+v", again.grant)
	}
	d.finish(again, well)
	d.waitsInLine(cb, "e3")
	d.finish(head, badly.retried(hour))
	replay("e2")
	d.waitsInLine(cb, "e3")
	head = d.out("e2")
	replay("e1")
	if n, held := d.keyed("e4", "k", cb); n != 4 || !held {
		t.Errorf("e4 has number %d, held: %t", n, held)
	}
	d.finish(head, well)
	if begun := d.beginLane(); fmt.Sprint(refsOf(begun)) != "[e1 e3]" {
		t.Errorf("%v begin", refsOf(begun))
	} else {
		d.finish(begun[1], well)
	}
	d.finish(d.out("e4"), well)
	d.noLines()
}

// TestLinesOfACallbackThatChanges: what waits when it is paused, emptied, deleted, or has no ordering or batches any more.
func TestLinesOfACallbackThatChanges(t *testing.T) {
	t.Parallel()
	server := newDesk(t, standard)
	purge := func(d *desk, cb int64) {
		cursor := "0"
		for range 20 {
			next, err := d.ledger.Purge(d.t.Context(), d.company, cb, cursor, "")
			d.must(err)
			if cursor = next; cursor == "0" {
				return
			}
		}
		d.t.Fatalf("purging goes on and on, at %q", cursor)
	}
	for name, change := range map[string]func(d *desk, head *owned, cb int64){
		"paused": func(d *desk, head *owned, cb int64) {
			d.pause(cb)
			d.finish(head, well)
			d.pump(cb)
			d.waitsInLine(cb, "e3", "e4")
			if h := d.health(cb); h.Held != 3 || len(d.lane) != 0 {
				d.t.Errorf("%d are held, and %v may go", h.Held, d.lane)
			}
			d.resume(cb)
			d.pump(cb)
			for _, event := range []string{"e2", "e3", "e4"} {
				d.finish(d.out(event), well)
			}
		},
		"paused, and the head comes back": func(d *desk, head *owned, cb int64) {
			d.finish(head, badly.retried(hour))
			h, err := d.ledger.Hasten(d.t.Context(), head.Ref, "{}")
			d.must(err)
			d.pause(cb)
			if a, _ := d.begin(d.claim(h.Ticket)); a != nil {
				d.t.Error("it begins")
			}
			d.keyed("e5", "k", cb)
			d.resume(cb)
			d.pump(cb)
			for _, event := range []string{"e1", "e2", "e3", "e4", "e5"} {
				d.finish(d.out(event), well)
			}
		},
		"emptied": func(d *desk, head *owned, cb int64) {
			purge(d, cb)
			if got := d.states(cb, "e1", "e2", "e3", "e4"); got[Cancelled] != 3 || got[Active] != 1 {
				d.t.Errorf("%v", got)
			}
			d.finish(head, well)
		},
		"deleted": func(d *desk, head *owned, cb int64) {
			d.must(d.registry.Delete(d.t.Context(), d.company, cb))
			purge(d, cb)
			d.finish(head, well)
			if got := d.states(cb, "e1", "e2", "e3", "e4"); got[Cancelled] != 3 || got[Delivered] != 1 {
				d.t.Errorf("%v", got)
			}
			if left, err := d.rdb.Keys(d.t.Context(), Key(d.company, "seq:*")).Result(); err != nil || len(left) > 0 {
				d.t.Errorf("left of numbers: %v, %v", left, err)
			}
		},
		"deleted, and nobody let the next one go": func(d *desk, head *owned, cb int64) { // as after a step that failed half-way
			d.must(d.rdb.HSet(d.t.Context(), EventKey(d.company, head.Event), RecordField(cb), "D 1 1 1 1 -").Err())
			d.must(d.rdb.ZRem(d.t.Context(), Key(d.company, "due"), head.Member()).Err())
			d.must(d.registry.Delete(d.t.Context(), d.company, cb))
			purge(d, cb)
			if got := d.states(cb, "e2", "e3", "e4"); got[Cancelled] != 3 {
				d.t.Errorf("%v", got)
			}
		},
		"without ordering": func(d *desk, head *owned, cb int64) {
			d.patch(cb, `{"ordering": null}`)
			if n, held := d.keyed("e5", "", cb); n != 0 || held {
				d.t.Errorf("what comes then has number %d, held: %t", n, held)
			}
			d.finish(d.out("e5"), well)
			d.finish(head, well)
			for _, event := range []string{"e2", "e3", "e4"} {
				d.finish(d.out(event), well)
			}
		},
		"batches instead": func(d *desk, head *owned, cb int64) {
			d.patch(cb, `{"ordering": null, "batch": {"max_wait": "0s"}}`)
			d.finish(head, well)
			for _, event := range []string{"e2", "e3", "e4"} {
				if len(d.lane) == 0 {
					d.pump(cb)
				}
				begun := d.beginLane()
				if len(begun) != 1 || begun[0].grant.Batch == nil || len(begun[0].grant.Batch.Members) != 1 || begun[0].grant.Batch.Members[0].Event != event {
					d.t.Fatalf("%v begin, want a batch of %s", refsOf(begun), event)
				}
				d.finish(begun[0], well)
			}
		},
		"batches, while a line waits": func(d *desk, head *owned, cb int64) {
			d.patch(cb, `{"ordering": null, "batch": {"max_wait": "0s"}}`)
			d.keyed("e5", "", cb)
			depths, err := d.ledger.Depths(d.t.Context(), []string{d.company})
			d.must(err)
			if depths[0].Held != 4 {
				d.t.Errorf("the metric has %d held", depths[0].Held)
			}
			d.pump(cb)
			d.finish(d.beginLane()[0], well)
			if err := d.rdb.ZScore(d.t.Context(), registry.RoomsKey(d.company), strconv.FormatInt(cb, 10)).Err(); err != nil {
				d.t.Errorf("nobody looks at the line: %v", err)
			}
			d.finish(head, well)
			for range 3 {
				for d.pump(cb); len(d.lane) > 0; {
					for _, a := range d.beginLane() {
						d.finish(a, well)
					}
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := server.of(t, strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", ""))
			cb := d.ordered("")
			d.keyed("e1", "k", cb)
			head := d.out("e1")
			for _, event := range []string{"e2", "e3", "e4"} {
				d.keyed(event, "k", cb)
			}
			change(d, head, cb)
			d.noLines()
		})
	}
}

// TestLinesThatAreLeftOver go with their callback, however many there are.
func TestLinesThatAreLeftOver(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.ordered("")
	heads := Key(d.company, fmt.Sprintf("heads:%d", cb))
	for i := range 450 { // as of steps that failed half-way
		d.must(d.rdb.ZAdd(t.Context(), heads, redis.Z{Score: float64(i), Member: fmt.Sprintf("%x", i)}).Err())
	}
	d.must(d.registry.Delete(t.Context(), d.company, cb))
	for cursor := "0"; ; {
		next, err := d.ledger.Purge(t.Context(), d.company, cb, cursor, "")
		d.must(err)
		if cursor = next; cursor == "0" {
			break
		}
	}
	if left := d.rdb.ZCard(t.Context(), heads).Val(); left > 0 {
		t.Errorf("%d are left", left)
	}
}

// TestNothingIsPaidWithoutOrder: as many commands of each kind as before there were lines, for a company that has no callback with an ordering.
func TestNothingIsPaidWithoutOrder(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	const n = 20
	run := func(prefix string) map[string]int64 {
		d.must(d.rdb.ConfigResetStat(t.Context()).Err())
		for _, event := range numbered(prefix, n) {
			d.accept([]string{event}, cb)
			d.finish(d.beginLane()[0], well)
		}
		return d.calls()
	}
	run("warm")
	calls := run("cold")
	want := map[string]int64{
		"get": 5, "mget": 3, "hget": 5, "hmget": 6, "hset": 6, "hdel": 1, "hexists": 1, "exists": 1, "zadd": 2, "zrem": 1, "zcard": 2, "sadd": 1, "srem": 1, "scard": 1, "xadd": 1,
		"zrange": 0, "zscore": 0,
	}
	for name, each := range want {
		if calls[name] != each*n {
			t.Errorf("%s is called %d times for %d deliveries, want %d each", name, calls[name], n, each)
		}
	}
	if found := append(d.lineKeys(), d.traces("order ")...); len(found) > 0 {
		t.Errorf("it has %v", found)
	}
}
