package dispatcher

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// wide is how many callbacks a fan-out of three pages has.
const wide = 2*fanOutPage + 30

// registerMany registers so many callbacks for payment proofs.
func (h *house) registerMany(n int) {
	h.t.Helper()
	limit := int64(n)
	_, err := h.registry.SetQuotas(h.t.Context(), acme, map[string]*int64{registry.QuotaCallbacks: &limit})
	h.must(err)
	for i := range n {
		h.at("many/"+strconv.Itoa(i), "")
	}
}

// haltAt has the client stand still the first time that it comes to a place, until it is let go.
func (h *house) haltAt(name string) (reached <-chan struct{}, goOn func()) {
	halt, there := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h.client.failpoint = func(at string) {
		if at == name {
			once.Do(func() {
				close(there)
				<-halt
			})
		}
	}
	return there, sync.OnceFunc(func() { close(halt) })
}

// received are how many of an event's deliveries came to the partner.
func (h *house) received(event string, callbacks int) (n int) {
	h.t.Helper()
	came := make(map[string]bool)
	for _, r := range h.partner.requests() {
		came[r.id] = true
	}
	for id := range int64(callbacks) {
		if came[ledger.Ref{Company: acme, Event: event, Callback: id + 1}.DeliveryID()] {
			n++
		}
	}
	return n
}

// TestALargeFanOutIsWrittenInPages: its receipt has the first page, and says that more comes; what became of the others can be asked for all along;
// a repeat is answered as the first time; and each is delivered once.
func TestALargeFanOutIsWrittenInPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.registerMany(wide)
	reached, goOn := h.haltAt("expanded")
	defer goOn()
	r := h.send(proof("wide"))
	if !r.Expanding || len(r.Deliveries) != fanOutPage || r.Deliveries[0].CallbackID != 1 || r.Deliveries[fanOutPage-1].CallbackID != fanOutPage {
		t.Fatalf("%d deliveries, expanding %v", len(r.Deliveries), r.Expanding)
	}
	<-reached // a page is written, and not yet in the lanes
	e, err := h.client.Event(t.Context(), acme, "wide")
	h.must(err)
	if !e.Expanding || len(e.Deliveries) != 2*fanOutPage {
		t.Errorf("between pages: %d deliveries, expanding %v", len(e.Deliveries), e.Expanding)
	}
	x, err := h.client.Explain(t.Context(), acme, "wide", ExplainQuery{CallbackID: wide})
	h.must(err)
	if !x.Expanding || len(x.Callbacks) != 1 || x.Callbacks[0].Decision != "matched" || x.Callbacks[0].Delivery != nil || !strings.Contains(x.Callbacks[0].Why, "written in pages") {
		t.Errorf("what is not written yet: %+v", x.Callbacks)
	}
	if want := fmt.Sprintf("went to %d callbacks: %d pending, %d deliveries still to be written.", wide, 2*fanOutPage, wide-2*fanOutPage); !strings.Contains(x.Summary, want) {
		t.Errorf("%q does not say %q", x.Summary, want)
	}
	again := h.send(proof("wide"))
	if !again.Duplicate {
		t.Error("the repeat is no duplicate")
	}
	again.Duplicate = false
	if diff := cmp.Diff(r, again); diff != "" {
		t.Errorf("the repeat's answer is another: %s", diff)
	}
	goOn()
	h.work()
	h.awaitAll(20 * time.Second)
	if n := h.received("wide", wide); n != wide {
		t.Errorf("%d of %d callbacks have it", n, wide)
	}
	if e, err = h.client.Event(t.Context(), acme, "wide"); err != nil || e.Expanding || len(e.Deliveries) != wide {
		t.Errorf("at the end: %v, %v", e, err)
	}
	h.check()
	again = h.send(proof("wide"))
	if again.Duplicate = false; cmp.Diff(r.Deliveries, again.Deliveries) != "" {
		t.Error("a repeat after the end has another answer")
	}
	h.eventually(5*time.Second, func() bool { return h.rdb.Exists(t.Context(), ledger.Key(acme, "paged")).Val() == 0 }, func() string { return "it stands where events stand that expand" })
}

// TestKillWhileExpanding: wherever the process that accepted it is killed, an event comes to all of its callbacks.
func TestKillWhileExpanding(t *testing.T) {
	t.Parallel()
	for name, job := range map[string]childJob{
		"before the second page":    {KillAt: "accepted"},
		"a page, and not its tasks": {KillAt: "expanded"},
		"the last, not its tasks":   {KillAt: "expanded", After: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			h.registerMany(wide)
			job.Send, job.Stay = []string{"wide"}, true
			h.start(job).dies()
			h.ack(proof("wide"))
			h.work()
			h.awaitAll(2*patience + reconcileEvery + slack)
			h.check()
			if n := h.received("wide", wide); n != wide {
				t.Errorf("%d of %d callbacks have it", n, wide)
			}
		})
	}
}

// TestRedisFailsWhileExpanding: a page whose step fails is written by a later round, and what of it was written stays as it is.
func TestRedisFailsWhileExpanding(t *testing.T) {
	inBubble(t, func(h *house) {
		h.registerMany(wide)
		strike := &fault{matches: isScript(expandScript)}
		strike.left.Store(3)
		h.rdb.AddHook(strike)
		stop := h.work()
		h.must(h.rdb.Set(h.t.Context(), ledger.Key(acme, "ready:"+strconv.Itoa(wide-1)), "no set", 0).Err())
		h.send(proof("wide"))
		time.Sleep(2 * DefaultPatience) // of the bubble
		h.eventually(3*DefaultPatience, func() bool { return h.received("wide", wide) == wide-2 }, func() string { return "what was written does not go out" })
		if e, err := h.client.Event(h.t.Context(), acme, "wide"); err != nil || !e.Expanding {
			h.t.Errorf("a page that cannot be written counts as written: %v", err)
		}
		h.must(h.rdb.Del(h.t.Context(), ledger.Key(acme, "ready:"+strconv.Itoa(wide-1))).Err())
		h.awaitAll(2 * DefaultPatience)
		h.check()
		stop()
	})
}

// TestWhatIsYetToBeWrittenCanBeActedOn: cancel and replay find a delivery that stands in a later page.
func TestWhatIsYetToBeWrittenCanBeActedOn(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.registerMany(wide)
	h.client.expander.close() // nobody writes
	h.send(proof("wide"))
	last := ledger.Ref{Company: acme, Event: "wide", Callback: wide}.DeliveryID()
	if _, err := h.client.Cancel(t.Context(), acme, last); err != nil {
		t.Errorf("cancel: %v", err)
	}
	h.send(proof("other"))
	state := (*StateError)(nil)
	if _, err := h.client.Replay(t.Context(), acme, ledger.Ref{Company: acme, Event: "other", Callback: wide}.DeliveryID()); !errors.As(err, &state) || state.Delivery.State != ledger.Pending {
		t.Errorf("replay: %v", err)
	}
	h.work()
	h.awaitAll(20 * time.Second)
	if d := h.delivery(last); d.State != ledger.Cancelled {
		t.Errorf("it is %s", d.State)
	}
	h.check()
}

// TestDeletedWhileExpanding: a callback that is deleted before its delivery is written gets none.
func TestDeletedWhileExpanding(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.registerMany(wide)
	reached, goOn := h.haltAt("expanded")
	defer goOn()
	h.send(proof("wide"))
	<-reached
	h.must(h.registry.Delete(t.Context(), acme, wide))
	goOn()
	h.work()
	h.awaitAll(20 * time.Second)
	if d := h.delivery(ledger.Ref{Company: acme, Event: "wide", Callback: wide}.DeliveryID()); d.State != ledger.Cancelled || len(d.Attempts) > 0 {
		t.Errorf("it is %s: %s", d.State, d.Summary)
	}
	h.eventually(20*time.Second, func() bool { return h.rdb.HGet(t.Context(), ledger.EventKey(acme, "wide"), "n").Val() == "0" }, func() string { return "nobody cancels what has no callback" })
	h.check()
}

// TestEraseWhileExpanding: what was not written yet never is, and nothing of the event is left.
func TestEraseWhileExpanding(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.registerMany(wide)
	reached, goOn := h.haltAt("expanded")
	defer goOn()
	_, err := h.client.Send(t.Context(), telltale("e-goes"))
	h.must(err)
	<-reached
	got, err := h.client.EraseEvent(t.Context(), acme, "e-goes", "rbk_me")
	h.must(err)
	if diff := cmp.Diff(&ErasedEvent{"e-goes", wide, wide, 0, 0}, got); diff != "" {
		t.Error(diff)
	}
	goOn()
	h.work()
	h.wantNothingOf(canary)
	h.send(proof("stays"))
	h.awaitAll(20 * time.Second)
	h.check()
	for _, r := range h.partner.requests() {
		if strings.Contains(r.body, canary) {
			t.Fatal("the partner has what was erased before it was sent")
		}
	}
	for _, key := range h.keys() {
		if strings.Contains(key, "e-goes") {
			t.Errorf("%s is left", key)
		}
	}
}

// TestKillBetweenPagesOfAnErasure: from the first page on nothing of the event is seen; workers erase the rest, and leave the one line. What is sent
// anew under the id meanwhile is another event, of which all arrives.
func TestKillBetweenPagesOfAnErasure(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.registerMany(wide)
	expands := func(does bool) {
		x := h.client.expander
		x.mu.Lock()
		x.closed = !does
		x.mu.Unlock()
	}
	expands(false)
	_, err := h.client.Send(t.Context(), telltale("again"))
	h.must(err)
	h.must(h.client.expandFor(t.Context(), ledger.Ref{Company: acme, Event: "again", Callback: wide}))
	h.start(childJob{EraseOne: "again", KillAt: "erased", After: 1}).dies()
	if _, err := h.client.Event(t.Context(), acme, "again"); !errors.Is(err, ErrNotFound) {
		t.Errorf("half erased: %v", err)
	}
	left, err := h.rdb.HLen(t.Context(), ledger.Key(acme, "gone:again")).Result()
	if h.must(err); left < 20 {
		t.Fatalf("%d fields are left: nothing was cut off", left)
	}
	h.send(proof("again"))
	h.must(h.client.expandFor(t.Context(), ledger.Ref{Company: acme, Event: "again", Callback: wide}))
	expands(true)
	_, err = h.client.eraseRest(t.Context(), acme, "again")
	h.must(err)
	if n := h.rdb.ZCard(t.Context(), ledger.Key(acme, "due")).Val(); n != wide {
		t.Errorf("%d of %d new deliveries are due", n, wide)
	}
	h.work()
	h.awaitAll(2*patience + slack)
	h.check()
	if n := h.received("again", wide); n != wide {
		t.Errorf("%d of %d callbacks have what was sent anew", n, wide)
	}
	lines := slices.DeleteFunc(h.trail(acme), func(e registry.AuditEntry) bool { return e.Action != "event.erase" })
	if len(lines) != 1 || fmt.Sprint(lines[0].Changes[0].Old) != strconv.Itoa(wide) {
		t.Errorf("the audit trail has %+v", lines)
	}
	h.wantNothingOf(canary)
}

// TestWorkersEraseTheRest of an event whose erasure was cut off.
func TestWorkersEraseTheRest(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.registerMany(wide)
	_, err := h.client.Send(t.Context(), telltale("goes"))
	h.must(err)
	h.must(h.client.expandFor(t.Context(), ledger.Ref{Company: acme, Event: "goes", Callback: wide}))
	h.start(childJob{EraseOne: "goes", KillAt: "erased", After: 1}).dies()
	h.work()
	h.wantNothingOf(canary, "{acme}:gone:", "{acme}:paged")
	h.check()
}

// TestALargeEventIsListedInPages: each of its deliveries once, in their order, beside others.
func TestALargeEventIsListedInPages(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.send(proof("none"))
	const many = 520 // more than one run reads
	h.registerMany(many)
	for _, id := range []string{"first", "second"} {
		h.send(proof(id))
		h.must(h.client.expandFor(t.Context(), ledger.Ref{Company: acme, Event: id, Callback: many}))
	}
	var got []string
	q := Query{Limit: 333}
	for {
		page, next, err := h.client.Deliveries(t.Context(), acme, q)
		h.must(err)
		for _, d := range page {
			got = append(got, d.EventID+" "+strconv.FormatInt(d.CallbackID, 10))
		}
		if q.Cursor = next; next == "" {
			break
		}
	}
	var want []string
	for _, id := range []string{"second", "first"} {
		for cb := range many {
			want = append(want, id+" "+strconv.Itoa(cb+1))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestCompaniesExpandByTurns: one with many large events keeps another waiting for a page, and no longer.
func TestCompaniesExpandByTurns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var order []string
	left := map[string]int{"big 1": 3, "big 2": 3, "small 1": 1, "failing 1": 2}
	begin, ended := make(chan struct{}), make(chan struct{})
	x := newExpander(nil, func(string) bool { return false }, nil)
	x.page = func(_ context.Context, company, event string) (int, error) {
		<-begin
		mu.Lock()
		defer mu.Unlock()
		name := company + " " + event
		order = append(order, name)
		if left[name]--; left["big 2"] == 0 {
			close(ended)
		}
		if company == "failing" {
			return 0, ledger.ErrBadRecord
		}
		return left[name], nil
	}
	x.failed = func(context.Context, string, string, error) {}
	for _, name := range [][2]string{{"big", "1"}, {"big", "2"}, {"big", "1"}, {"small", "1"}, {"failing", "1"}} {
		x.add(name[0], name[1])
	}
	close(begin)
	<-ended
	x.close()
	want := []string{"big 1", "small 1", "failing 1", "big 1", "big 1", "big 2", "big 2", "big 2"}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Error(diff)
	}
	if len(x.known)+len(x.events)+len(x.turns) != 0 {
		t.Errorf("it remembers %v, %v, %v", x.known, x.events, x.turns)
	}
}

// TestAnExpanderRunsOnce: however many add to it as it ends, each page is written once, by one at a time.
func TestAnExpanderRunsOnce(t *testing.T) {
	t.Parallel()
	var running, pages atomic.Int64
	x := newExpander(nil, func(string) bool { return false }, nil)
	x.page = func(context.Context, string, string) (int, error) {
		if running.Add(1) > 1 {
			t.Error("two write at a time")
		}
		defer running.Add(-1)
		pages.Add(1)
		return 0, nil
	}
	var wg sync.WaitGroup
	const each = 2000
	for i := range 4 {
		wg.Go(func() {
			for n := range each {
				x.add(strconv.Itoa(n%3), strconv.Itoa(i)+"/"+strconv.Itoa(n))
				if n%7 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	wg.Wait()
	x.wg.Wait()
	x.close()
	if n := pages.Load(); n != 4*each {
		t.Errorf("%d pages of %d were written", n, 4*each)
	}
}

// mostCommands is how many commands a step may give Redis in one run: some milliseconds, in which nobody else has an answer.
const mostCommands = 1500

var monitored = regexp.MustCompile(`^\+\d+\.\d+ \[\d+ \S+\] "\w+"(?: "([0-9a-f]{40})")?`)

// TestNoStepTakesLong: whatever a customer with thousands of callbacks does, no run of a script gives Redis more than so many commands.
func TestNoStepTakesLong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	const many = 1500
	h.registerMany(many)
	names, most := lua.Names(), make(map[string]int)
	for _, name := range names {
		h.must(lua.Script(name).Load(t.Context(), h.rdb).Err())
	}
	conn, err := net.Dial(h.rdb.Options().Network, h.rdb.Options().Addr)
	h.must(err)
	defer func() { _ = conn.Close() }()
	_, err = io.WriteString(conn, "MONITOR\r\n")
	h.must(err)
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("Redis cannot be monitored: %q, %v", lines.Text(), lines.Err())
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		name, n := "", 0
		for lines.Scan() {
			if address, _, _ := strings.Cut(lines.Text(), "]"); strings.HasSuffix(address, " lua") { // nearly all are
				n++
				most[name] = max(most[name], n)
				continue
			}
			m := monitored.FindStringSubmatch(lines.Text())
			switch {
			case m == nil:
			case strings.Contains(lines.Text(), "the end of it"):
				return
			default:
				name, n = names[m[1]], 0
			}
		}
	}()
	fail := h.must
	for _, id := range []string{"one", "two", "three"} {
		h.send(proof(id))
	}
	_, _, err = h.client.Deliveries(t.Context(), acme, Query{Limit: 500})
	fail(err)
	_, err = h.client.Explain(t.Context(), acme, "one", ExplainQuery{})
	fail(err)
	w := h.worker()
	for left := true; left; { // pages are the expander's; the rest is done by hand
		fail(h.client.repair(t.Context(), acme))
		n, err := h.rdb.Exists(t.Context(), ledger.Key(acme, "paged")).Result()
		fail(err)
		left = n > 0
	}
	h.overdue()
	fail(h.client.repair(t.Context(), acme))
	fail(w.pumpRooms(t.Context(), acme, time.Now()))
	fail(h.client.prune(t.Context(), acme))
	fail(h.client.trimLog(t.Context(), acme))
	fail(h.client.recount(t.Context(), acme))
	_, err = h.client.EraseEvent(t.Context(), acme, "two", "")
	fail(err)
	fail(h.registry.Delete(t.Context(), acme, 7))
	fail(h.client.purge(t.Context(), acme, 7, ""))
	for done := false; !done; {
		e, err := h.client.EraseCompany(t.Context(), registry.NewKeys(h.rdb), acme, "")
		fail(err)
		done = e.Done
	}
	clear(h.acked)
	fail(h.rdb.Echo(t.Context(), "the end of it").Err())
	<-done
	for _, name := range slices.Sorted(maps.Keys(most)) {
		t.Logf("%s: %d commands at most in a run", name, most[name])
		if most[name] > mostCommands {
			t.Errorf("a run of %s gave Redis %d commands, want %d at most", name, most[name], mostCommands)
		}
	}
	for _, name := range []string{"accept", "expand", "erase", "overdue", "page", "purge"} {
		if most[name] == 0 {
			t.Errorf("%s was not seen", name)
		}
	}
}

// TestTrimLeavesWhatIsBeingErased: the log's entry is what a company's erasure finds a half erased event by, however old that is.
func TestTrimLeavesWhatIsBeingErased(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ctx, log := t.Context(), ledger.Key(acme, "log")
	for _, event := range []string{"half", "whole"} {
		h.must(h.rdb.XAdd(ctx, &redis.XAddArgs{Stream: log, ID: "1-*", Values: []string{"e", event}}).Err())
	}
	h.must(h.rdb.HSet(ctx, ledger.Key(acme, "gone:half"), "n", 1).Err())
	h.must(h.client.trimLog(ctx, acme))
	left, err := h.rdb.XRange(ctx, log, "-", "+").Result()
	h.must(err)
	if len(left) != 1 || left[0].Values["e"] != "half" {
		t.Errorf("the log has %v, want the half erased event alone", left)
	}
}

// TestACrowdExpandsAsItGoesOut: as long as much of a company waits to come into the lanes, its events expand slowly, and others' at once. A company that
// is alone is not kept from anything.
func TestACrowdExpandsAsItGoesOut(t *testing.T) {
	inBubble(t, func(h *house) {
		const many = 600
		h.registerMany(many)
		event := h.other()
		written := func(id string) int { return len(h.deliveriesOf(id)) }
		h.send(proof("alone")) // and no worker takes any of it
		h.eventually(time.Second, func() bool { return written("alone") == many }, func() string {
			return fmt.Sprintf("%d deliveries of one company alone are written", written("alone"))
		})
		h.must(second(h.client.Send(h.t.Context(), event("o-1")))) // from here on there are two
		h.send(proof("beside"))
		time.Sleep(mostPaced / 2) // of the bubble
		if n := written("beside"); n > 2*fanOutPage {
			h.t.Errorf("%d deliveries are written while %d wait", n, h.client.lanes.Waiting(acme))
		}
		h.eventually(many/fanOutPage*2*mostPaced, func() bool { // though nothing goes out
			h.client.lanes.Lone().Note("other")
			return written("beside") == many
		}, func() string {
			return fmt.Sprintf("%d deliveries are written", written("beside"))
		})
		for _, id := range []string{"alone", "beside"} { // other tests see to what becomes of them
			h.must(second(h.client.EraseEvent(h.t.Context(), acme, id, "")))
			h.forget(id)
		}
		stop := h.work()
		h.awaitAll(2 * time.Minute)
		h.eventually(time.Minute, func() bool { return len(h.arrivals("/other")) == 1 }, func() string { return "the other company's event does not arrive" })
		h.partner.strike("/other")
		h.check()
		stop()
	})
}

// TestALargeEventWithTwoEntriesIsListedToItsEnd: a large event that was sent anew while it was erased stands twice in the log. A list goes past both.
func TestALargeEventWithTwoEntriesIsListedToItsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.send(proof("first"))
	h.send(proof("large"))
	key, ctx := ledger.EventKey(acme, "large"), t.Context()
	for id := range 600 {
		h.must(h.rdb.HSet(ctx, key, ledger.RecordField(int64(1000+id)), "C 1 0 0 1764000000000 -").Err())
	}
	anew, err := h.rdb.XAdd(ctx, &redis.XAddArgs{Stream: ledger.Key(acme, "log"), Values: []string{"e", "large"}}).Result()
	h.must(err)
	h.must(h.rdb.HSet(ctx, key, "a", anew).Err())
	cursor, last := "", ""
	for range 10 {
		page, next, err := h.client.Deliveries(ctx, acme, Query{Limit: 500, Cursor: cursor})
		h.must(err)
		if len(page) > 0 {
			last = page[len(page)-1].EventID
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	if cursor != "" || last != "first" {
		t.Errorf("the list has no end, or ends with %s", last)
	}
}

// TestAnEventThatWasHalfAcceptedCountsAnew: an earlier run of the accepting step failed after it had counted more deliveries than there are now.
func TestAnEventThatWasHalfAcceptedCountsAnew(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.register("payment_proof", "")
	h.must(h.rdb.HSet(t.Context(), ledger.EventKey(acme, "p-1"), "b", "{}", "a", "1-1", "n", 2).Err())
	h.send(proof("p-1"))
	h.drain()
	h.check()
}
