package dispatcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// installPayload is a wallet pass's that was installed in a campaign.
func installPayload(campaign int) []byte {
	return fmt.Appendf(nil, `{"event_date": "2018-05-07T15:27:33.664Z", "wallet_instance": {"registered_at": "2017-01-14T14:30Z", "unregistered_at": null, "provider": "google"},
		"wallet_item": {"uuid": "item-uuid", "tokens": {"first_name": "Calrissian"}}, "wallet_campaign": {"token": "c-%d"}}`, campaign)
}

// town registers callbacks that do in different ways, and sends them so many events. It returns the ids of the callbacks.
func (h *house) town(events int) (callbacks []int64) {
	h.t.Helper()
	h.partner.answers(func(r *http.Request, _ int) reply {
		switch r.URL.Path {
		case "/dead", "/later":
			return reply{status: http.StatusInternalServerError}
		}
		return reply{status: http.StatusNoContent}
	})
	for _, way := range [][2]string{
		{"well"}, {"dead", `"retry": {"max_attempts": 1}`}, {"later", `"retry": {"initial_interval": "1h", "max_interval": "1h"}`}, {"paused"}, {"deleted"},
	} {
		path := way[0]
		cb := h.at(path, way[1])
		callbacks = append(callbacks, cb.ID)
		if path == "paused" || path == "deleted" {
			_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
			h.must(err)
		}
	}
	for campaign := range 2 {
		cb := h.register("wallet_item_install", fmt.Sprintf(`"wallet_item_install": {"campaign_token": "c-%d"}`, campaign))
		callbacks = append(callbacks, cb.ID)
	}
	h.mixed("begin", events)
	return callbacks
}

// mixed sends so many events of different types: the first are of one.
func (h *house) mixed(prefix string, n int) {
	h.t.Helper()
	events := make([]payloads.Event, n)
	for i := range events {
		events[i] = proof(fmt.Sprintf("%s-%d", prefix, i))
		if i > n/3 {
			events[i].Type, events[i].Payload = "wallet_item_install", installPayload(i%7)
		}
	}
	for _, s := range h.client.SendAll(h.t.Context(), events) {
		h.must(s.Err)
	}
}

// listed is a whole list, page by page, each as long as it may be, however slow the machine is; between is called after each page.
func (h *house) listed(q Query, between func()) (all []*Delivery) {
	h.t.Helper()
	for {
		page, next, err := h.client.list(h.t.Context(), acme, q, time.Now().Add(time.Hour))
		h.must(err)
		all = append(all, page...)
		if next == "" {
			return all
		}
		if len(page) < q.Limit {
			h.t.Fatalf("%+v: a page of %d, and more to come", q, len(page))
		}
		between()
		q.Cursor = next
	}
}

// everyDelivery is all that there is, as the events themselves say, in the order of lists.
func (h *house) everyDelivery() (all []*Delivery) {
	h.t.Helper()
	entries, err := h.rdb.XRevRange(h.t.Context(), "{acme}:log", "+", "-").Result()
	h.must(err)
	for _, entry := range entries {
		e, err := h.client.Event(h.t.Context(), acme, entry.Values["e"].(string))
		if err == nil {
			all = append(all, e.Deliveries...)
		}
	}
	return all
}

// brief is what a list is compared by.
func brief(all []*Delivery) (lines []string) {
	for _, d := range all {
		lines = append(lines, fmt.Sprintf("%s/%d %s %s", d.EventID, d.CallbackID, d.State, d.EventType))
	}
	return lines
}

// anyQuery asks for anything.
func anyQuery(r *rand.Rand, callbacks []int64, all []*Delivery) Query {
	q := Query{Limit: 1 + r.IntN(60)}
	for range r.IntN(4) {
		q.States = append(q.States, States[r.IntN(len(States))])
	}
	if r.IntN(3) == 0 {
		q.CallbackID = slices.Concat(callbacks, []int64{999})[r.IntN(len(callbacks)+1)]
	}
	if r.IntN(3) == 0 {
		q.EventType = []string{"payment_proof", "wallet_item_install", "no_such"}[r.IntN(3)]
	}
	if r.IntN(4) == 0 {
		q.Since = all[r.IntN(len(all))].AcceptedAt
	}
	if r.IntN(4) == 0 {
		q.Until = all[r.IntN(len(all))].AcceptedAt.Add(time.Duration(r.IntN(2)) * time.Millisecond)
	}
	return q
}

// naively is what a query selects of all that there is.
func naively(q Query, all []*Delivery) (found []*Delivery) {
	for _, d := range all {
		if q.admits(d) && (q.Since.IsZero() || !d.AcceptedAt.Before(q.Since)) && (q.Until.IsZero() || d.AcceptedAt.Before(q.Until)) {
			found = append(found, d)
		}
	}
	return found
}

// TestAListIsWhatTheEventsSay: any filter, by pages of any size, finds what a look at each event finds, in the order of acceptance. It does so while
// nothing, a part, or all that can be is summed up of the log.
func TestAListIsWhatTheEventsSay(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withWindow(20))
	callbacks := h.town(450)
	stop := h.work()
	h.eventually(20*time.Second, func() bool {
		n, err := h.rdb.SCard(t.Context(), fmt.Sprintf("{acme}:ready:%d", callbacks[0])).Result()
		return err == nil && n == 0
	}, func() string { return "the lanes do not empty" })
	stop()
	all := h.everyDelivery()
	oldest := all[max(0, len(all)-len(callbacks)*200):] // the first block, which may be settled then
	for _, d := range slices.Concat(all[:40], oldest) {
		if !d.State.Final() {
			_, _ = h.client.Cancel(t.Context(), acme, d.DeliveryID)
		}
	}
	h.must(h.registry.Delete(t.Context(), acme, callbacks[4]))
	h.wide()
	all = h.everyDelivery()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(uint64(seed), 1))
	for i := range 60 {
		if i%20 == 19 {
			_, err := h.client.ledger.Summarize(t.Context(), acme)
			h.must(err)
			h.settleNow()
		}
		q := anyQuery(r, callbacks, all)
		got := brief(h.listed(q, func() {}))
		if diff := cmp.Diff(sortedTies(q, brief(naively(q, all))), sortedTies(q, got)); diff != "" {
			t.Fatalf("query %d %+v (-want +got):\n%s", i, q, diff)
		}
	}
}

// settleNow settles what it can, without waiting until that is due.
func (h *house) settleNow() {
	h.t.Helper()
	_, err := h.client.ledger.Settle(h.t.Context(), acme) // it comes to know the new blocks
	h.must(err)
	h.must(h.rdb.ZUnionStore(h.t.Context(), "{acme}:unsettled", &redis.ZStore{Keys: []string{"{acme}:unsettled"}, Weights: []float64{0}}).Err())
	for more := true; more; {
		more, err = h.client.ledger.Settle(h.t.Context(), acme)
		h.must(err)
	}
	notes, err := h.rdb.HLen(h.t.Context(), "{acme}:finals").Result()
	h.must(err)
	h.t.Logf("%d blocks are settled", notes-1)
}

// sortedTies are the lines of a list; of the dead alone, which are in the order of their book, as a set.
func sortedTies(q Query, lines []string) []string {
	if len(q.States) == 1 && q.States[0] == Dead {
		slices.Sort(lines)
	}
	return lines
}

// wide sends an event that goes to so many callbacks that it is written in pages, the last of which nobody has asked for yet.
func (h *house) wide() {
	h.t.Helper()
	limit := int64(2 * fanOutPage)
	_, err := h.registry.SetQuotas(h.t.Context(), acme, map[string]*int64{registry.QuotaCallbacks: &limit})
	h.must(err)
	for range fanOutPage + 10 {
		h.at("wide", "")
	}
	h.send(proof("wide"))
}

// TestAListGoesOnWhileAllMoves: what is there and suits a filter all the time, while events are accepted, attempted, cancelled, replayed and forgotten,
// is in the list once. Nothing is in it twice.
func TestAListGoesOnWhileAllMoves(t *testing.T) {
	t.Parallel()
	h := newHouse(t, withWindow(20))
	callbacks := h.town(150)
	h.work()
	ctx, cancel := context.WithCancel(t.Context())
	var moving sync.WaitGroup
	var cancelled sync.Map
	t.Cleanup(func() { cancel(); moving.Wait() })
	for k := range 2 {
		moving.Go(func() { h.move(ctx, rand.New(rand.NewPCG(uint64(k), 2)), &cancelled) })
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(uint64(seed), 3))
	for i := range 4 {
		before := h.everyDelivery()
		q := anyQuery(r, callbacks, before)
		q.Limit += 10
		if i%2 == 0 {
			q.States = append(q.States, Pending, Active, Retrying, Held, Dead) // what moves stays among them
		}
		n := 0
		got := h.listed(q, func() {
			if n++; n == 3 {
				h.mixed(fmt.Sprintf("more-%d", i), 5)
			}
		})
		h.wantMoving(q, before, got, h.everyDelivery(), &cancelled)
	}
}

// wantMoving: a list holds nothing twice, and all that suited before it began and after it ended, and went through no other states meanwhile.
func (h *house) wantMoving(q Query, before, got, after []*Delivery, cancelled *sync.Map) {
	h.t.Helper()
	seen := map[string]int{}
	for _, d := range got {
		if seen[d.DeliveryID]++; seen[d.DeliveryID] > 1 {
			h.t.Fatalf("%+v: %s/%d is listed twice", q, d.EventID, d.CallbackID)
		}
	}
	still := map[string]*Delivery{}
	for _, d := range after {
		still[d.DeliveryID] = d
	}
	open := func(s State) bool { return s == Pending || s == Active || s == Retrying || s == Held }
	for _, d := range naively(q, before) {
		is := still[d.DeliveryID]
		_, was := cancelled.Load(d.DeliveryID) // and perhaps replayed since
		stayed := is != nil && !was && q.admits(is) && is.State == d.State && len(is.Attempts) == len(d.Attempts) && is.Summary == d.Summary
		// What is unfinished all the time goes from one of these states to another, or is given up.
		moved := is != nil && !was && !deliveredSince(d, is) && open(d.State) && (open(is.State) || is.State == Dead) && !slices.ContainsFunc([]State{Pending, Active, Retrying, Held, Dead},
			func(s State) bool { return !q.wants(s) })
		if (stayed || moved) && seen[d.DeliveryID] == 0 {
			h.t.Fatalf("%+v: %s/%d (%s, then %s) is left out", q, d.EventID, d.CallbackID, d.State, is.State)
		}
	}
}

// deliveredSince: it was delivered meanwhile, which is none of those states, and replayed.
func deliveredSince(before, after *Delivery) bool {
	return slices.ContainsFunc(after.Attempts[min(len(before.Attempts), len(after.Attempts)):], func(a Attempt) bool { return a.Verdict == verdict.Delivered })
}

// move replays, cancels and forgets what it finds, until ctx ends, and notes what it cancels.
func (h *house) move(ctx context.Context, r *rand.Rand, cancelled *sync.Map) {
	for n := 0; ctx.Err() == nil; {
		page, _, err := h.client.Deliveries(ctx, acme, Query{Limit: 500})
		if err != nil || len(page) == 0 {
			continue
		}
		for range 10 {
			d := page[r.IntN(len(page))]
			switch n++; {
			case n%40 == 39 && d.State == Delivered: // it ages
				_ = h.rdb.Del(ctx, ledger.EventKey(acme, d.EventID)).Err()
			case n%10 == 9:
				cancelled.Store(d.DeliveryID, true)
				_, _ = h.client.Cancel(ctx, acme, d.DeliveryID)
			default:
				_, _ = h.client.Replay(ctx, acme, d.DeliveryID)
			}
		}
	}
}

// TestASearchSaysHowFarItCame: a cursor of either kind of list tells the time that it goes on from, and others tell none.
func TestASearchSaysHowFarItCame(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1795949939745).UTC()
	for cursor, want := range map[string]time.Time{
		logPosition{"1795949939745-3", 7}.cursor():                    at,
		bookCursor(ledger.BookEntry{Name: "e/7", At: at.UnixMilli()}): at,
		"":     {},
		"what": {},
	} {
		if got := Reached(cursor); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", cursor, got, want)
		}
	}
}

// TestSummariesGoWithTheirEvents: once nothing of a block is left in the log, its summary goes as well.
func TestSummariesGoWithTheirEvents(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(c *Config) { c.Retention = time.Second })
	h.mixed("old", 450)
	h.must(h.client.summarize(t.Context(), acme, 10))
	blocks := func() int64 {
		n, err := h.rdb.XLen(t.Context(), "{acme}:blocks").Result()
		h.must(err)
		return n
	}
	if n := blocks(); n != 2 {
		t.Fatalf("%d blocks, want 2", n)
	}
	h.checkModel(someKeys)
	h.eventually(10*time.Second, func() bool {
		h.must(h.client.trimLog(t.Context(), acme))
		return blocks() == 0
	}, func() string { return "the summaries stay" })
	if got := brief(h.listed(Query{CallbackID: 3, Limit: 10}, func() {})); len(got) > 0 {
		t.Errorf("listed: %s", got)
	}
}

// TestASummaryKnowsWhatIsStillToBeWritten: a block that is summed up while an event in it expands leaves out none of its callbacks.
func TestASummaryKnowsWhatIsStillToBeWritten(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.registerMany(wide)
	events := make([]payloads.Event, 199)
	for i := range events {
		events[i] = payloads.Event{Company: acme, ID: fmt.Sprintf("e-%d", i), Type: "wallet_item_install", Payload: installPayload(i)}
	}
	for _, s := range h.client.SendAll(t.Context(), events) {
		h.must(s.Err)
	}
	reached, goOn := h.haltAt("expanded")
	h.send(proof("wide"))
	<-reached
	more, err := h.client.ledger.Summarize(t.Context(), acme)
	h.must(err)
	if !more || len(h.listed(Query{CallbackID: wide, Limit: 10}, func() {})) > 0 {
		t.Fatal("the block is not full, or the event is written")
	}
	goOn()
	h.must(h.client.expandFor(t.Context(), ledger.Ref{Company: acme, Event: "wide", Callback: wide}))
	if got := brief(h.listed(Query{CallbackID: wide, Limit: 10}, func() {})); len(got) != 1 {
		t.Errorf("listed: %v", got)
	}
}

// onceBefore is a go-redis hook: it does something before the n-th command that matches.
type onceBefore struct {
	matches func(redis.Cmder) bool
	n       int
	do      func(ctx context.Context)
}

func (o *onceBefore) DialHook(next redis.DialHook) redis.DialHook { return next }
func (o *onceBefore) ProcessPipelineHook(p redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return p
}

func (o *onceBefore) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if o.matches(cmd) {
			if o.n--; o.n == 0 {
				o.do(ctx)
			}
		}
		return next(ctx, cmd)
	}
}

// TestWhatDiesWhileItIsListedIsListed: a delivery that goes from its room to the book, or back, between two looks is in a list of both.
func TestWhatDiesWhileItIsListedIsListed(t *testing.T) {
	t.Parallel()
	isScript := func(cmd redis.Cmder) bool {
		return len(cmd.Args()) > 1 && fmt.Sprint(cmd.Args()[1]) == lua.Script("open").Hash()
	}
	isBook := func(cmd redis.Cmder) bool { return len(cmd.Args()) > 1 && fmt.Sprint(cmd.Args()[1]) == "{acme}:dead" }
	for name, tt := range map[string]struct {
		begin  byte
		before func(redis.Cmder) bool
	}{
		"it dies before its room is read":        {'H', isScript},
		"it is replayed before its room is read": {'X', isScript},
		"it dies after its room was read":        {'H', isBook},
		"it is replayed after its room was read": {'X', isBook},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			cb := h.register("payment_proof", "")
			_, err := h.registry.Pause(t.Context(), acme, cb.ID)
			h.must(err)
			h.send(proof("e"))
			const member, room = "e/1", "{acme}:room:1"
			field := func(ctx context.Context) string { return h.rdb.HGet(ctx, "{acme}:ev:e", "d1").Val() }
			dies := func(ctx context.Context) {
				h.must(h.rdb.ZRem(ctx, room, member).Err())
				h.must(h.rdb.ZAdd(ctx, "{acme}:dead", redis.Z{Score: float64(time.Now().UnixMilli()), Member: member}).Err())
				h.must(h.rdb.HSet(ctx, "{acme}:ev:e", "d1", "X"+field(ctx)[1:]).Err())
			}
			score := h.rdb.ZScore(t.Context(), room, member).Val()
			lives := func(ctx context.Context) {
				h.must(h.rdb.ZRem(ctx, "{acme}:dead", member).Err())
				h.must(h.rdb.ZAdd(ctx, room, redis.Z{Score: score, Member: member}).Err())
				h.must(h.rdb.HSet(ctx, "{acme}:ev:e", "d1", "H"+field(ctx)[1:]).Err())
			}
			moves, n := dies, 1
			if tt.begin == 'X' {
				dies(t.Context())
				moves = lives
			}
			if tt.before(redis.NewCmd(t.Context(), "", "{acme}:dead")) {
				n = 2 // the book's first look comes before the room's
			}
			h.rdb.AddHook(&onceBefore{tt.before, n, moves})
			if got := h.listed(Query{States: []State{Held, Dead}, Limit: 5}, func() {}); len(got) != 1 {
				t.Errorf("listed: %v", brief(got))
			}
		})
	}
}

// TestWhatLeavesTheBookTakesNothingAlong: while the dead are listed, those that were listed leave the book, and all the others are listed still.
func TestWhatLeavesTheBookTakesNothingAlong(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	_, err := h.registry.Pause(t.Context(), acme, cb.ID)
	h.must(err)
	const dead, gone = 2*listPage + 50, listPage / 2
	events := make([]payloads.Event, dead)
	for i := range events {
		events[i] = proof(fmt.Sprintf("e-%d", i))
	}
	for _, s := range h.client.SendAll(t.Context(), events) {
		h.must(s.Err)
	}
	pipe := h.rdb.Pipeline()
	for i := range dead {
		pipe.ZAdd(t.Context(), "{acme}:dead", redis.Z{Score: float64(1000 * (i + 1)), Member: fmt.Sprintf("e-%d/1", i)})
		pipe.HSet(t.Context(), fmt.Sprintf("{acme}:ev:e-%d", i), "d1", "X 1 0 0 1000 hold_full")
	}
	_, err = pipe.Exec(t.Context())
	h.must(err)
	isBook := func(cmd redis.Cmder) bool { return len(cmd.Args()) > 1 && fmt.Sprint(cmd.Args()[1]) == "{acme}:dead" }
	h.rdb.AddHook(&onceBefore{isBook, 2, func(ctx context.Context) {
		h.must(h.rdb.Do(ctx, "zremrangebyrank", "{acme}:dead", -gone, -1).Err())
	}})
	if got := h.listed(Query{States: []State{Dead}, Limit: MaxLimit}, func() {}); len(got) != dead {
		t.Errorf("%d of %d are listed", len(got), dead)
	}
}
