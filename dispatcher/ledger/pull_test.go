package ledger

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// puller registers a callback whose partner fetches.
func (d *desk) puller() int64 {
	d.t.Helper()
	cb, err := d.registry.Create(d.t.Context(), d.company, []byte(`{"callback_type": "payment_proof", "destination": {"pull": true}}`))
	d.must(err)
	return cb.ID
}

// fetch reads what there is behind a cursor; zero: behind what was acknowledged.
func (d *desk) fetch(cb int64, after Cursor, limit int) Fetched {
	d.t.Helper()
	f, err := d.ledger.Fetch(d.t.Context(), Fetch{Company: d.company, Callback: cb, After: after, Behind: after == 0, Limit: limit})
	d.must(err)
	return f
}

// fetchedIDs are the ids of what was fetched, in its order, which has to be that of its cursors.
func (d *desk) fetchedIDs(f Fetched) (ids []string) {
	d.t.Helper()
	last := Cursor(0)
	for _, w := range f.Deliveries {
		if w.Cursor <= last || w.Cursor > f.Next {
			d.t.Errorf("%s has the cursor %s behind %s, and the next is %s", w.Event, w.Cursor, last, f.Next)
		}
		last = w.Cursor
		ids = append(ids, w.Event)
	}
	return ids
}

func (d *desk) wantFetched(what string, f Fetched, want ...string) {
	d.t.Helper()
	if got := d.fetchedIDs(f); !slices.Equal(got, want) || f.Closed != "" {
		d.t.Errorf("%s: %v (%s); want %v", what, got, f.Closed, want)
	}
}

func (d *desk) acknowledge(cb int64, through Cursor) (n int, m Moved) {
	d.t.Helper()
	for {
		var err error
		m, err = d.ledger.Acknowledge(d.t.Context(), d.company, cb, through)
		d.must(err)
		n += m.Deliveries
		if !m.More {
			return n, m
		}
	}
}

func (d *desk) seek(cb int64, to Cursor) (n int, m Moved) {
	d.t.Helper()
	for line := registry.UniqueAuditLine(d.t.Context(), d.company, "callback.seek", registry.CallbackObject(cb)); ; line = "" {
		var err error
		m, err = d.ledger.Seek(d.t.Context(), d.company, cb, to, line)
		d.must(err)
		n += m.Deliveries
		if !m.More {
			return n, m
		}
	}
}

// TestFetchingAndAcknowledging: what waits is fetched in the order in which it was written, again and again until it is acknowledged, and is delivered then. None
// of it ever comes into a lane.
func TestFetchingAndAcknowledging(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.wantFetched("before anything", d.fetch(cb, 0, 10))
	d.accept([]string{"a", "b", "c"}, cb)
	depths, err := d.ledger.Depths(t.Context(), []string{d.company})
	d.must(err)
	if got := depths[0]; got.Unfetched != 3 || got.Held != 0 || !got.Oldest.IsZero() || time.Since(got.UnfetchedSince) > time.Minute {
		t.Errorf("it is measured as %+v", got)
	}
	if len(d.lane) > 0 {
		t.Errorf("it comes into a lane: %v", d.lane)
	}
	first := d.fetch(cb, 0, 2)
	d.wantFetched("the first", first, "a", "b")
	if !first.More || first.Acknowledged != 0 {
		t.Errorf("more: %v, acknowledged %s", first.More, first.Acknowledged)
	}
	d.wantFetched("again", d.fetch(cb, 0, 2), "a", "b")
	rest := d.fetch(cb, first.Next, 2)
	d.wantFetched("the rest", rest, "c")
	if rest.More || rest.Next != rest.Given {
		t.Errorf("more: %v, next %s of %s", rest.More, rest.Next, rest.Given)
	}
	if w := rest.Deliveries[0]; string(w.Payload) != "{}" || w.Meta.Type != "payment_proof" || w.LogID == "" || StateOf[w.State] != Held {
		t.Errorf("it has %+v", w)
	}

	if n, m := d.acknowledge(cb, first.Next); n != 2 || m.Acknowledged != first.Next || m.Ahead {
		t.Errorf("acknowledged %d, %+v", n, m)
	}
	if n, m := d.acknowledge(cb, first.Next); n != 0 || m.Acknowledged != first.Next {
		t.Errorf("once more: %d, %+v", n, m)
	}
	if n, m := d.acknowledge(cb, first.Deliveries[0].Cursor); n != 0 || m.Acknowledged != first.Next {
		t.Errorf("it goes back: %d, %+v", n, m)
	}
	if got := d.states(cb, "a", "b", "c"); got[Delivered] != 2 || got[Held] != 1 {
		t.Errorf("they are %v", got)
	}
	entries := ParseEntries(d.record("a", cb).Attempts)
	if len(entries) != 1 || entries[0].Number != 1 || entries[0].Started == 0 || entries[0].Detail() != "fetched, and acknowledged: delivered" {
		t.Errorf("it has the attempts %+v", entries)
	}
	d.wantFetched("behind what was acknowledged", d.fetch(cb, 0, 10), "c")
	d.wantFetched("what was acknowledged, by its cursor", d.fetch(cb, first.Deliveries[0].Cursor, 10), "b", "c")
	if h := d.health(cb); h.Held != 1 || h.LastSuccess.IsZero() {
		t.Errorf("its health is %+v", h)
	}
}

// TestNothingIsWrittenBelowACursor: a page of a large fan-out that is written late, and a replay, come behind what was fetched by then.
func TestNothingIsWrittenBelowACursor(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.accept([]string{"a"}, cb)
	other := d.callback("")
	large := &Offer{Company: d.company, ID: "large", Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte("{}"), First: []First{{Callback: other}}, Later: [][]int64{{cb}}}
	for _, want := range []AcceptOutcome{Outdated, Taken} {
		a, err := d.ledger.Accept(t.Context(), large)[0].Answer()
		d.must(err)
		if a.Outcome != want {
			t.Fatalf("it is %v", a.Outcome)
		}
		d.version, large.Version = a.Version, a.Version
	}
	d.accept([]string{"b"}, cb)
	f := d.fetch(cb, 0, 10)
	d.wantFetched("before the page", f, "a", "b")
	_, err := d.ledger.Expand(t.Context(), d.company, "large")
	d.must(err)
	d.wantFetched("behind the cursor", d.fetch(cb, f.Next, 10), "large")
	_, m := d.acknowledge(cb, f.Next)
	d.accept([]string{"c"}, cb)
	got, err := d.ledger.Replay(t.Context(), d.ref("a", cb), registry.AuditLine(t.Context(), d.company, "delivery.replay", ""))
	d.must(err)
	if got.Outcome != Done {
		t.Errorf("the replay is %v", got.Outcome)
	}
	f = d.fetch(cb, m.Acknowledged, 10)
	d.wantFetched("with the replay", f, "large", "c", "a")
	if !f.Deliveries[2].Replayed {
		t.Error("it is not told as replayed")
	}
	d.wantFetched("from the beginning", d.fetch(cb, 1, 10), "b", "large", "c", "a")
	d.acknowledge(cb, f.Next)
	if entries := ParseEntries(d.record("a", cb).Attempts); len(entries) != 2 || entries[1].Number != 2 {
		t.Errorf("it has the attempts %+v", entries)
	}
}

// TestCursorsAfterALostSecond: what Redis wrote last is lost, the cursors that it gave with it. What it writes then is above each of them.
func TestCursorsAfterALostSecond(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.accept([]string{"kept"}, cb)
	key := Key(d.company, "pull:"+strconv.FormatInt(cb, 10))
	before, err := d.rdb.HGetAll(t.Context(), key).Result()
	d.must(err)
	d.accept([]string{"lost"}, cb)
	f := d.fetch(cb, 0, 10)
	d.wantFetched("before the loss", f, "kept", "lost")
	// As the append-only file has it without its end.
	d.must(d.rdb.ZRem(t.Context(), Key(d.company, "room:"+strconv.FormatInt(cb, 10)), d.ref("lost", cb).Member()).Err())
	d.must(d.rdb.HDel(t.Context(), EventKey(d.company, "lost"), RecordField(cb)).Err())
	d.must(d.rdb.Del(t.Context(), key).Err())
	d.must(d.rdb.HSet(t.Context(), key, before).Err())
	d.wantFetched("at the lost cursor", d.fetch(cb, f.Next, 10))
	for CursorAt(time.Now()) <= f.Next { // a Redis that comes back does so later than it went
		runtime.Gosched()
	}
	d.accept([]string{"next"}, cb)
	got := d.fetch(cb, f.Next, 10)
	d.wantFetched("behind the lost cursor", got, "next")
	if _, m := d.acknowledge(cb, f.Next); m.Ahead {
		t.Error("the lost cursor is refused")
	}
	d.wantFetched("acknowledged by the lost cursor", d.fetch(cb, 0, 10), "next")
	if _, m := d.acknowledge(cb, CursorAt(time.Now().Add(time.Hour))); !m.Ahead || m.Acknowledged != got.Next {
		t.Errorf("a cursor of the future: %+v", m)
	}
	future := d.fetch(cb, CursorAt(time.Now().Add(time.Hour)), 10)
	d.wantFetched("behind a cursor of the future", future)
	d.accept([]string{"later"}, cb)
	d.wantFetched("behind where that led", d.fetch(cb, future.Next, 10), "later")
}

// TestOnlyWhatWasFetchedIsAcknowledged: a cursor of another callback, or of now, delivers nothing that no poll of this one gave. Nor does a poll whose place could
// not be noted, as Redis was full: what it gave is fetched again.
func TestOnlyWhatWasFetchedIsAcknowledged(t *testing.T) {
	d := newDesk(t, standard)
	cb, other := d.puller(), d.puller()
	d.accept([]string{"a", "b", "c"}, cb)
	d.accept([]string{"x"}, other)
	strange := d.fetch(other, 0, 10).Next
	wants := func(what string, through Cursor, delivered int, acknowledged Cursor) {
		t.Helper()
		if n, m := d.acknowledge(cb, through); n != delivered || m.Acknowledged != acknowledged || m.Ahead {
			t.Errorf("%s: %d delivered, %+v", what, n, m)
		}
	}
	now := CursorAt(time.Now().Add(time.Second))
	wants("before any poll, by another's cursor", strange, 0, 0)
	wants("before any poll, by the time", now, 0, 0)
	d.must(d.rdb.ConfigSet(t.Context(), "maxmemory", "1").Err())
	d.wantFetched("from a Redis that is full", d.fetch(cb, 0, 1), "a")
	d.must(d.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err())
	wants("what could not be noted", strange, 0, 0)
	f := d.fetch(cb, 0, 1)
	d.wantFetched("again", f, "a")
	wants("after one was fetched, by another's cursor", strange, 1, f.Next)
	wants("after one was fetched, by the time", now, 0, f.Next)
	d.wantFetched("the others", d.fetch(cb, 0, 10), "b", "c")
	if _, m := d.seek(cb, 0); m.Acknowledged != 0 {
		t.Errorf("back: %+v", m)
	}
	d.wantFetched("from the beginning", d.fetch(cb, 0, 1), "a")
	wants("what was fetched before", now, 2, d.fetch(cb, 0, 10).Next)
}

// TestSeeking: back to what was acknowledged, which stays delivered, and on over what waits, which is cancelled and told in the audit trail.
func TestSeeking(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.accept([]string{"a", "b", "c", "d"}, cb)
	all := d.fetch(cb, 0, 10)
	at := func(i int) Cursor { return all.Deliveries[i].Cursor }
	d.acknowledge(cb, at(1))
	if n, m := d.seek(cb, 0); n != 0 || m.Acknowledged != 0 {
		t.Errorf("back: %d, %+v", n, m)
	}
	d.wantFetched("from the beginning", d.fetch(cb, 0, 10), "a", "b", "c", "d")
	if got := d.states(cb, "a", "b"); got[Delivered] != 2 {
		t.Errorf("they are %v", got)
	}
	d.acknowledge(cb, at(0))
	d.wantFetched("a step on", d.fetch(cb, 0, 10), "b", "c", "d")
	if n, m := d.seek(cb, at(2)); n != 1 || m.Acknowledged != at(2) {
		t.Errorf("on: %d, %+v", n, m)
	}
	if n, m := d.seek(cb, LastCursor); n != 1 || m.Acknowledged != at(3) {
		t.Errorf("to the end: %d, %+v", n, m)
	}
	if got := d.states(cb, "a", "b", "c", "d"); got[Delivered] != 2 || got[Cancelled] != 2 {
		t.Errorf("they are %v", got)
	}
	d.accept([]string{"e"}, cb)
	d.wantFetched("behind the end", d.fetch(cb, 0, 10), "e")
	lines, err := d.rdb.XRange(t.Context(), Key(d.company, "audit"), "-", "+").Result()
	d.must(err)
	seeks := 0
	for _, line := range lines {
		text := fmt.Sprint(line.Values)
		if strings.Contains(text, "callback.seek") {
			seeks++
			if seeks == 2 && (!strings.Contains(text, at(2).String()) || !strings.Contains(text, at(0).String())) {
				t.Errorf("the audit trail says %s", text)
			}
		}
	}
	if seeks != 3 {
		t.Errorf("%d lines of the audit trail tell of 3 seeks", seeks)
	}
	// What was acknowledged a day ago is still there for who goes back to that time.
	d.seek(cb, CursorAt(time.Now().Add(-24*time.Hour)))
	d.wantFetched("from a day ago", d.fetch(cb, 0, 10), "a", "b", "e")
}

// TestASeekThatIsRepeated is told once, though the repeat does the next page.
func TestASeekThatIsRepeated(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.puller()
	d.accept(numbered("p-", 250), cb)
	line := registry.UniqueAuditLine(t.Context(), d.company, "callback.seek", registry.CallbackObject(cb))
	for range 2 {
		_, err := d.ledger.Seek(t.Context(), d.company, cb, LastCursor, line)
		d.must(err)
	}
	lines, err := d.rdb.XRange(t.Context(), Key(d.company, "audit"), "-", "+").Result()
	d.must(err)
	if n := strings.Count(fmt.Sprint(lines), "callback.seek"); n != 1 {
		t.Errorf("%d lines tell of one seek", n)
	}
}

// TestAcknowledgingInPages: each page is a step of its own, so that whoever comes back goes on where the last one ended.
func TestAcknowledgingInPages(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	ids := numbered("e-", 2*ackPage+1)
	d.accept(ids, cb)
	end := d.fetch(cb, 0, 500).Next
	m, err := d.ledger.Acknowledge(t.Context(), d.company, cb, end)
	d.must(err)
	if m.Deliveries != ackPage || !m.More || m.Acknowledged >= end {
		t.Errorf("the first page: %+v", m)
	}
	if got := d.fetch(cb, 0, 500); len(got.Deliveries) != ackPage+1 || got.Deliveries[0].Event != "e-"+strconv.Itoa(ackPage) {
		t.Errorf("%d wait", len(got.Deliveries))
	}
	if n, m := d.acknowledge(cb, end); n != ackPage+1 || m.Acknowledged != end {
		t.Errorf("the rest: %d, %+v", n, m)
	}
	if got := d.states(cb, ids...); got[Delivered] != len(ids) {
		t.Errorf("they are %v", got)
	}
}

// TestWhatHoldsOthersHoldsHere: a pull callback that is paused, deleted, or fuller or older than it may be; and what is erased or cancelled is not fetched.
func TestWhatHoldsOthersHoldsHere(t *testing.T) {
	rules := standard
	rules.HoldMaxCount = 3
	d := newDesk(t, rules)
	cb := d.puller()
	d.accept([]string{"a", "b", "c", "d"}, cb)
	d.wantFetched("as many as may wait", d.fetch(cb, 0, 10), "b", "c", "d")
	if d.record("a", cb).State != 'X' {
		t.Error("the oldest is not given up")
	}
	d.pump(cb)
	if len(d.lane) > 0 {
		t.Errorf("the pump lets it out: %v", d.lane)
	}
	f := d.fetch(cb, 0, 1)
	d.pause(cb)
	if got := d.fetch(cb, 0, 10); got.Closed != registry.Paused {
		t.Errorf("paused: %+v", got)
	}
	if n, _ := d.acknowledge(cb, f.Next); n != 1 {
		t.Errorf("what was fetched before the pause is acknowledged: %d", n)
	}
	d.accept([]string{"e"}, cb)
	d.resume(cb)
	d.resume(cb)
	d.wantFetched("resumed", d.fetch(cb, 0, 10), "c", "d", "e")
	_, err := d.ledger.EraseEvent(t.Context(), d.company, "b", "{}")
	d.must(err)
	_, err = d.ledger.EraseEvent(t.Context(), d.company, "d", "{}")
	d.must(err)
	_, err = d.ledger.Cancel(t.Context(), d.ref("c", cb), "{}")
	d.must(err)
	d.wantFetched("erased and cancelled", d.fetch(cb, 0, 10), "e")
	d.wantFetched("the same from the beginning", d.fetch(cb, 1, 10), "e")
	d.must(d.registry.Delete(t.Context(), d.company, cb))
	if got := d.fetch(cb, 0, 10); got.Closed != registry.Deleted {
		t.Errorf("deleted: %+v", got)
	}
	for cursor := ""; cursor != "0"; {
		if cursor == "" {
			cursor = "0"
		}
		cursor, err = d.ledger.Purge(t.Context(), d.company, cb, cursor, "")
		d.must(err)
	}
	if d.record("e", cb).State != 'C' {
		t.Error("what waited is not cancelled")
	}
	left, err := d.rdb.Keys(t.Context(), "*:*:"+strconv.FormatInt(cb, 10)).Result()
	d.must(err)
	if !slices.Equal(left, []string{Key(d.company, "gate:"+strconv.FormatInt(cb, 10))}) {
		t.Errorf("it leaves %v", left)
	}
	other := d.callback("")
	if got := d.fetch(other, 0, 10); got.Closed != registry.Enabled {
		t.Errorf("a callback that is called: %+v", got)
	}
}

// TestWhatIsNotFetchedGrowsOld: what waited for as long as what is held may goes to the book, and what came later stays to be fetched.
func TestWhatIsNotFetchedGrowsOld(t *testing.T) {
	t.Parallel()
	inBubble(t, bounded(100, hour), func(d *desk) {
		cb := d.puller()
		d.accept([]string{"a", "b"}, cb)
		time.Sleep(50 * time.Minute)
		d.accept([]string{"c"}, cb)
		d.pump(cb)
		d.wantFetched("within its time", d.fetch(cb, 0, 10), "a", "b", "c")
		time.Sleep(11 * time.Minute)
		if !d.due(cb) {
			t.Error("nobody looks for what grew old")
		}
		d.pump(cb)
		d.wantFetched("past the time of two", d.fetch(cb, 0, 10), "c")
		for _, event := range []string{"a", "b"} {
			if r := d.record(event, cb); r.State != 'X' || r.Token != string(verdict.ReasonHoldExpired) {
				t.Errorf("%s is %c %s", event, r.State, r.Token)
			}
		}
	})
}

// TestFetchingOverWhatIsGone: what was acknowledged and is no longer kept does not hide what is, however much of it there is.
func TestFetchingOverWhatIsGone(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	gone := numbered("gone-", 7)
	d.accept(append(gone, "kept", "waits"), cb)
	f := d.fetch(cb, 0, 8)
	d.acknowledge(cb, f.Next)
	for _, id := range gone {
		d.must(d.rdb.Del(t.Context(), EventKey(d.company, id)).Err())
	}
	d.seek(cb, 0)
	for _, limit := range []int{1, 2, 3} {
		var got []string
		for after, more := Cursor(1), true; more && len(got) < 5; {
			f := d.fetch(cb, after, limit)
			got = append(got, d.fetchedIDs(f)...)
			after, more = f.Next, f.More
		}
		if fmt.Sprint(got) != "[kept waits]" {
			t.Errorf("%d at a time: %v", limit, got)
		}
	}
	many := make([]redis.Z, 2500)
	for i := range many {
		many[i] = redis.Z{Score: float64(i + 1), Member: d.ref(fmt.Sprint("long-gone-", i), cb).Member()}
	}
	d.must(d.rdb.ZAdd(t.Context(), Key(d.company, "fetched:"+strconv.FormatInt(cb, 10)), many...).Err())
	runs := 0
	for after, more := Cursor(1), true; more && runs < 10; runs++ {
		f := d.fetch(cb, after, 1)
		after, more = f.Next, f.More && len(f.Deliveries) == 0
		if !more {
			d.wantFetched("behind all that is gone", f, "kept")
		}
	}
	if runs != 3 {
		t.Errorf("2500 that are gone took %d looks", runs)
	}
}

// TestAnAnswerIsBounded: by its payloads, but it has one at least.
func TestAnAnswerIsBounded(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.offer("{}", "", []string{"small"}, cb)
	for _, id := range []string{"one", "two"} {
		d.offer(`{"long":"`+strings.Repeat("x", fetchBytes*2/3)+`"}`, "", []string{id}, cb)
	}
	d.offer(`{"long":"`+strings.Repeat("x", fetchBytes)+`"}`, "", []string{"three"}, cb)
	var got [][]string
	for after, more := Cursor(1), true; more && len(got) < 5; {
		f := d.fetch(cb, after, 10)
		got = append(got, d.fetchedIDs(f))
		after, more = f.Next, f.More
	}
	if fmt.Sprint(got) != "[[small one] [two] [three]]" {
		t.Errorf("the answers have %v", got)
	}
}

func TestCursors(t *testing.T) {
	for _, c := range []Cursor{0, 1, 4095, 4096, CursorAt(time.Now()), LastCursor} {
		if got, ok := ParseCursor(c.String()); !ok || got != c {
			t.Errorf("%d is %s, and read as %d, %v", c, c, got, ok)
		}
	}
	for _, text := range []string{"", "-", "1", "1-", "-1", "1-4096", "01-1", "1-01", "1-1 ", "1_0-1", "+1-1", "2199023255552-0", "99999999999999999999-0"} {
		if c, ok := ParseCursor(text); ok {
			t.Errorf("%q is read as %d", text, c)
		}
	}
}

// TestABulkReplayIntoAFullRoomWaits: nothing but an acknowledgement empties the room, so a window bounds it no more than it bounds what is accepted. But a replay
// gives up nothing that waits there.
func TestABulkReplayIntoAFullRoomWaits(t *testing.T) {
	rules := standard
	rules.Window, rules.HoldMaxCount = 2, 6
	d := newDesk(t, rules)
	cb := d.puller()
	old := numbered("old-", 4)
	d.accept(old, cb)
	d.acknowledge(cb, d.fetch(cb, 0, 10).Next)
	d.accept(numbered("new-", 4), cb)
	s := d.sweep(Sweep{States: []State{Delivered}, Callback: cb})
	goOn := func() Swept {
		got, err := d.ledger.GoOnSweeping(t.Context(), d.company, s)
		d.must(err)
		return got
	}
	for range 2 {
		if got := goOn(); got.Wait || len(got.Released) > 0 {
			t.Errorf("with room for it: %+v", got)
		}
		if len(d.fetch(cb, 0, 10).Deliveries) == 6 {
			break
		}
	}
	if got := goOn(); !got.Wait {
		t.Errorf("into the full room: %+v", got)
	}
	f := d.fetch(cb, 0, 10)
	d.wantFetched("the full room", f, "new-0", "new-1", "new-2", "new-3", "old-0", "old-1")
	d.seek(cb, f.Next) // what is acknowledged would be replayed as well
	for tries := 0; ; tries++ {
		if got := goOn(); got.Done || tries == 9 {
			break
		}
	}
	d.wantFetched("the rest", d.fetch(cb, 0, 10), "old-2", "old-3")
	if got := d.states(cb, append(old, numbered("new-", 4)...)...); got[Dead] > 0 {
		t.Errorf("they are %v", got)
	}
}

// TestErasureLeavesNothingFetched: neither of an event that is erased, wherever it stood, nor of a callback that is deleted, nor of a company that is erased.
func TestErasureLeavesNothingFetched(t *testing.T) {
	d := newDesk(t, standard)
	cb := d.puller()
	d.accept([]string{"goes-acknowledged", "stays", "goes-waiting"}, cb)
	d.acknowledge(cb, d.fetch(cb, 0, 2).Next)
	for _, id := range []string{"goes-acknowledged", "goes-waiting"} {
		_, err := d.ledger.EraseEvent(t.Context(), d.company, id, "{}")
		d.must(err)
	}
	if found := d.traces("goes"); len(found) > 0 {
		t.Errorf("of erased events, it is left %v", found)
	}
	d.wantFetched("what is left", d.fetch(cb, 1, 10), "stays")
	left := func() []string {
		names, err := d.rdb.Keys(t.Context(), "*:*:"+strconv.FormatInt(cb, 10)).Result()
		d.must(err)
		return names
	}
	if names := left(); len(names) < 3 {
		t.Errorf("there is only %v", names)
	}
	d.must(d.ledger.EraseTraces(t.Context(), d.company, cb))
	if names := left(); len(names) > 0 {
		t.Errorf("of an erased company, it is left %v", names)
	}

	cb = d.puller()
	d.accept([]string{"a", "b"}, cb)
	d.acknowledge(cb, d.fetch(cb, 0, 1).Next)
	d.must(d.registry.Delete(t.Context(), d.company, cb))
	for cursor, first := "0", true; first || cursor != "0"; first = false {
		var err error
		cursor, err = d.ledger.Purge(t.Context(), d.company, cb, cursor, "")
		d.must(err)
	}
	if names := left(); !slices.Equal(names, []string{Key(d.company, "gate:"+strconv.FormatInt(cb, 10))}) {
		t.Errorf("of a deleted callback, it is left %v", names)
	}
}
