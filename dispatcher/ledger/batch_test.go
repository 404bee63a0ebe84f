package ledger

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// A convoy is a callback whose deliveries travel in batches, and what was sent to it.
type convoy struct {
	*desk
	cb    int64
	posts map[string]string // by webhook-id: the members
	sent  map[string]int    // by event: how often
}

// convoy registers a callback with batches.
func (d *desk) convoy(events, bytes int, wait time.Duration) *convoy {
	d.t.Helper()
	c := &convoy{desk: d, posts: make(map[string]string), sent: make(map[string]int)}
	if bytes < 1024 { // fewer than may be registered
		c.cb = d.callback("")
		c.travels(fmt.Sprintf("batch %d %d %d payload", events, bytes, wait.Milliseconds()))
		return c
	}
	c.cb = d.callback(fmt.Sprintf(`"batch": {"max_events": %d, "max_bytes": %d, "max_wait": %q}`, events, bytes, wait))
	return c
}

// travels says how a callback's deliveries travel, as the registry does.
func (c *convoy) travels(how string) {
	c.t.Helper()
	health := Key(c.company, fmt.Sprintf("health:%d", c.cb))
	c.must(c.rdb.Set(c.t.Context(), registry.SpecialKey(c.company), 1, 0).Err())
	c.must(c.rdb.HSet(c.t.Context(), health, "by", how).Err())
}

// post is what the partner gets. A webhook-id always comes with the same members.
func (c *convoy) post(a *owned) (members []string) {
	c.t.Helper()
	b := a.grant.Batch
	if b == nil {
		c.t.Fatalf("%s is sent by itself", a.Event)
	}
	for _, m := range b.Members {
		members = append(members, m.Event)
		c.sent[m.Event]++
	}
	text := strings.Join(members, " ")
	if was, ok := c.posts[b.WebhookID]; ok && was != text {
		c.t.Errorf("%s came with %q, and then with %q", b.WebhookID, was, text)
	}
	c.posts[b.WebhookID] = text
	return members
}

// hold verifies where each delivery stands: in the room, or in one batch that is looked after, or at its end. Nothing else stands anywhere.
func (c *convoy) hold(events ...string) {
	c.t.Helper()
	ctx := c.t.Context()
	room, err := c.rdb.ZRange(ctx, Key(c.company, fmt.Sprintf("room:%d", c.cb)), 0, -1).Result()
	c.must(err)
	due, err := c.rdb.ZRange(ctx, Key(c.company, "due"), 0, -1).Result()
	c.must(err)
	for _, event := range events {
		rec, err := ParseRecord(c.rdb.HGet(ctx, EventKey(c.company, event), RecordField(c.cb)).Val())
		c.must(err)
		member := c.ref(event, c.cb).Member()
		name, in := rec.batched()
		if got, want := slices.Contains(room, member), rec.State == 'H'; got != want {
			c.t.Errorf("%s (%c) is in the room: %t", event, rec.State, got)
		}
		if slices.Contains(due, member) && (in || rec.State == 'H' || StateOf[rec.State].Final()) {
			c.t.Errorf("%s (%c) is due by itself", event, rec.State)
		}
		if !in {
			continue
		}
		batch := c.rdb.HGetAll(ctx, Key(c.company, "batch:"+name)).Val()
		if !slices.Contains(strings.Fields(batch["e"]), event) {
			c.t.Errorf("%s is in batch %s, which has %q", event, name, batch["e"])
		}
		whole := "~" + name + "/" + fmt.Sprint(c.cb)
		if !slices.Contains(due, whole) && !slices.Contains(room, whole) {
			c.t.Errorf("nobody looks after batch %s: %v", name, batch)
		}
	}
	for _, member := range append(due, room...) {
		if r, ok := ParseMember(c.company, member); ok && r.IsBatch() && c.rdb.Exists(ctx, Key(c.company, "batch:"+r.Event[1:])).Val() == 0 {
			c.t.Errorf("%s is looked after, and there is none", member)
		}
	}
}

// brief is a claim whose owner counts as gone at once.
func (d *desk) brief(t Ticket) Claim {
	c := d.claim(t)
	c.Lease = 0
	return c
}

// take begins a ticket.
func (c *convoy) take(claim Claim) *owned {
	c.t.Helper()
	a, why := c.begin(claim)
	if a == nil {
		c.t.Fatalf("it does not begin: %+v", why)
	}
	return a
}

// recover does what the next processes do, until nothing is left to do.
func (c *convoy) recover(events ...string) {
	c.t.Helper()
	for range 200 {
		c.hold(events...)
		c.pump(c.cb)
		o, err := c.ledger.Overdue(c.t.Context(), c.company, Page)
		c.must(err)
		c.lane = append(append(c.lane, o.Check...), o.Lost...)
		for len(c.lane) > 0 {
			t := c.lane[0]
			c.lane = c.lane[1:]
			if a, _ := c.begin(c.claim(t)); a != nil {
				c.post(a)
				c.finish(a, well)
			}
		}
		if n := c.states(c.cb, events...); n[Delivered]+n[Dead]+n[Cancelled] == len(events) {
			c.hold(events...)
			return
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("they stand as %v", c.states(c.cb, events...))
}

// impatient are rules under which what nobody goes on with is looked at soon.
func impatient() Rules {
	r := standard
	r.Patience = time.Millisecond
	return r
}

// TestABatchSurvivesAKill between any two of its steps: each member is delivered, and those that may come twice come under the same webhook-id.
func TestABatchSurvivesAKill(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	for name, tt := range map[string]struct {
		until func(c *convoy) // the steps before the kill
		twice bool            // the first members
	}{
		"accept / pump":      {func(*convoy) {}, false},
		"pump / enqueue":     {func(c *convoy) { c.pump(c.cb); c.lane = nil }, false},
		"begin / POST":       {func(c *convoy) { c.pump(c.cb); c.take(c.brief(c.lane[0])); c.lane = nil }, false},
		"POST / finish":      {func(c *convoy) { c.pump(c.cb); c.post(c.take(c.brief(c.lane[0]))); c.lane = nil }, true},
		"unbegin / enqueue":  {killedAfterUnbegin, false},
		"finish(R) / task":   {killedAfterRetry, true},
		"finish(D) / answer": {func(c *convoy) { c.pump(c.cb); c.repeated(c.take(c.claim(c.lane[0]))); c.lane = nil }, false},
		"finish begins the next / its POST": {func(c *convoy) {
			a := c.ahead()
			if done := c.chained(a, "next", time.Millisecond); done.Next == nil {
				c.t.Errorf("it begins nothing: %+v", done)
			}
			c.lane = nil
		}, false},
		"the same / its answer, which is lost": {func(c *convoy) {
			a := c.ahead()
			first, again := c.chained(a, "next", lease), c.chained(a, "next", 0)
			if first.Next == nil || again.Next == nil || first.Next.Batch.WebhookID != again.Next.Batch.WebhookID {
				c.t.Errorf("the repeat finds %+v, not %+v", again.Next, first.Next)
			}
			next := &owned{first.Released[0].Ref, "next", again.Next}
			c.post(next)
			c.finish(next, well)
			c.lane = nil
		}, false},
	} {
		t.Run(strings.ReplaceAll(strings.ReplaceAll(name, "/", "-"), " ", "_"), func(t *testing.T) {
			c := d.of(t, "kill-"+strings.ToLower(strings.Map(lettersOnly, name))).convoy(3, 1<<20, 0)
			events := numbered("p-", 8)
			c.accept(events[:3], c.cb)
			tt.until(c)
			c.accept(events[3:], c.cb)
			c.recover(events...)
			for i, event := range events {
				want := 1
				if tt.twice && i < 3 {
					want = 2
				}
				if c.sent[event] != want {
					t.Errorf("%s was sent %d times, want %d", event, c.sent[event], want)
				}
			}
			if n := len(c.posts); n != 3 && n != 4 {
				t.Errorf("there were %d batches: %v", n, c.posts)
			}
		})
	}
}

func lettersOnly(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return -1
}

func killedAfterUnbegin(c *convoy) {
	c.pump(c.cb)
	a := c.take(c.claim(c.lane[0]))
	c.must(c.ledger.Unbegin(c.t.Context(), a.Ref, a.token))
	c.lane = nil
}

func killedAfterRetry(c *convoy) {
	c.pump(c.cb)
	a := c.take(c.claim(c.lane[0]))
	c.post(a)
	c.retry(a)
	c.lane = nil
}

// retry records that an attempt failed, and is to be made again at once.
func (c *convoy) retry(a *owned) {
	f := finishOf(a, badly.retried(time.Millisecond))
	f.Least = -time.Second // it is not rounded up
	done, err := c.ledger.Finish(c.t.Context(), f)
	c.must(err)
	if done.State != Retrying {
		c.t.Errorf("it is %s", done.State)
	}
}

// ahead makes the first batch. Others are waiting by then.
func (c *convoy) ahead() *owned {
	c.pump(c.cb)
	a := c.take(c.claim(c.lane[0]))
	c.post(a)
	c.accept(numbered("more-", 3), c.cb)
	return a
}

// repeated records an outcome twice, as if the first answer was lost.
func (c *convoy) repeated(a *owned) {
	c.post(a)
	f := finishOf(a, well)
	for i := range 2 {
		done, err := c.ledger.Finish(c.t.Context(), f)
		c.must(err)
		if want := []FinishOutcome{Recorded, NotOurs}[i]; done.Outcome != want {
			c.t.Errorf("run %d ends with %d", i, done.Outcome)
		}
	}
}

// chained records that an attempt delivered, and has the next batch begin in the same step.
func (c *convoy) chained(a *owned, token string, lease time.Duration) Finished {
	f := finishOf(a, well)
	f.NextToken, f.NextLease = token, lease
	done, err := c.ledger.Finish(c.t.Context(), f)
	c.must(err)
	return done
}

// TestWhoLeavesABatch between two of its attempts is not in it any more, and the others go on under another webhook-id. Whoever is cancelled under way counts
// if the batch is delivered.
func TestWhoLeavesABatch(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	cancel := func(c *convoy) {
		_, err := c.ledger.Cancel(c.t.Context(), c.ref("p-1", c.cb), "{}")
		c.must(err)
	}
	for name, tt := range map[string]struct {
		leave func(c *convoy, a *owned) // and end the first attempt
		state State                     // of who left, in the end
		posts []string
	}{
		"cancelled between":              {func(c *convoy, a *owned) { c.retry(a); cancel(c) }, Cancelled, []string{"p-0 p-1 p-2", "p-0 p-2"}},
		"cancelled under way":            {func(c *convoy, a *owned) { cancel(c); c.retry(a) }, Cancelled, []string{"p-0 p-1 p-2", "p-0 p-2"}},
		"cancelled under way, delivered": {func(c *convoy, a *owned) { cancel(c); c.finish(a, well) }, Delivered, []string{"p-0 p-1 p-2"}},
		"replayed": {func(c *convoy, a *owned) {
			c.retry(a)
			done, err := c.ledger.Replay(c.t.Context(), c.ref("p-1", c.cb), "{}")
			c.must(err)
			if done.Outcome != Done {
				c.t.Errorf("the replay ended with %d", done.Outcome)
			}
		}, Delivered, []string{"p-0 p-1 p-2", "p-0 p-2", "p-1"}},
		"replayed under way": {func(c *convoy, a *owned) {
			if done, err := c.ledger.Replay(c.t.Context(), c.ref("p-1", c.cb), "{}"); err != nil || done.Outcome != WrongState {
				c.t.Errorf("the replay ended with %d, %v", done.Outcome, err)
			}
			c.finish(a, well)
		}, Delivered, []string{"p-0 p-1 p-2"}},
		"all cancelled": {func(c *convoy, a *owned) {
			c.retry(a)
			for _, event := range numbered("p-", 3) {
				_, err := c.ledger.Cancel(c.t.Context(), c.ref(event, c.cb), "{}")
				c.must(err)
			}
		}, Cancelled, []string{"p-0 p-1 p-2"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			c := d.of(t, "leave-"+strings.ToLower(strings.Map(lettersOnly, name))).convoy(3, 1<<20, 0)
			events := numbered("p-", 3)
			c.accept(events, c.cb)
			c.pump(c.cb)
			a := c.take(c.claim(c.lane[0]))
			c.lane = nil
			c.post(a)
			tt.leave(c, a)
			c.recover(events...)
			if diff := cmp.Diff(tt.posts, c.posted()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if got := StateOf[c.record("p-1", c.cb).State]; got != tt.state {
				t.Errorf("who left is %s", got)
			}
			if left, err := c.rdb.ZCard(t.Context(), Key(c.company, "due")).Result(); err != nil || left > 0 {
				t.Errorf("%d are due yet, %v", left, err)
			}
		})
	}
}

// TestWhenABatchGoes: once enough events or bytes wait, or the first has waited for long enough. The accepting step says when to look.
func TestWhenABatchGoes(t *testing.T) {
	for name, tt := range map[string]struct {
		events, bytes int
		accepted      int
		told          []time.Duration // by the accepting steps
		at            time.Duration   // when the room is pumped
		batches       []int           // that begin then, by how many members they have
		wait          time.Duration   // that the pump answers
	}{
		"too few, too early":   {10, 1 << 20, 4, []time.Duration{5 * time.Second}, 4 * time.Second, nil, time.Second},
		"long enough":          {10, 1 << 20, 4, []time.Duration{5 * time.Second}, 5 * time.Second, []int{4}, 0},
		"as many as it takes":  {4, 1 << 20, 4, []time.Duration{5 * time.Second, 0}, 0, []int{4}, 0},
		"more":                 {4, 1 << 20, 9, []time.Duration{5 * time.Second, 0, 0}, 0, []int{4, 4}, 5 * time.Second},
		"more, long enough":    {4, 1 << 20, 9, []time.Duration{5 * time.Second, 0, 0}, 5 * time.Second, []int{4, 4, 1}, 0},
		"as many bytes":        {100, 6, 3, []time.Duration{5 * time.Second, 0}, 0, []int{3}, 0}, // {} each
		"one by one":           {1, 1 << 20, 2, []time.Duration{0, 0}, 0, []int{1, 1}, 0},
		"none larger than all": {100, 1, 2, []time.Duration{5 * time.Second, 0}, 0, []int{1, 1}, 0},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				c := d.convoy(tt.events, tt.bytes, 5*time.Second)
				var told []time.Duration
				for _, event := range numbered("p-", tt.accepted) {
					for _, p := range c.offer("{}", "", []string{event}, c.cb)[0].Pumps {
						told = append(told, p.Wait)
					}
				}
				if diff := cmp.Diff(tt.told, told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				time.Sleep(tt.at)
				p := c.pump(c.cb)
				if p.Wait.Round(10*time.Millisecond) != tt.wait {
					t.Errorf("the next look is in %s", p.Wait)
				}
				var batches []int
				for _, a := range c.beginLane() {
					batches = append(batches, len(c.post(a)))
				}
				if diff := cmp.Diff(tt.batches, batches); diff != "" {
					t.Errorf("batches (-want +got):\n%s", diff)
				}
				c.hold(numbered("p-", tt.accepted)...)
			})
		})
	}
}

// TestWhatATokenIsFor: an attempt of a batch takes one token of the rate limit, or one for each of its events. Those it takes beyond what there is are made up for
// before the next goes.
func TestWhatATokenIsFor(t *testing.T) {
	for of, tt := range map[string]struct {
		now   []int         // batches that begin at once
		wait  time.Duration // that the pump answers then
		again bool          // the first begins again at once
		later []int         // batches that begin then
		left  string        // tokens, once one begins in the step that ends another, out of a full bucket
	}{
		"requests": {[]int{4, 4, 4, 4}, 0, true, nil, "9.0000"},
		"events":   {[]int{4, 4, 4}, 3 * time.Second, false, []int{4, 4}, "6.0000"},
	} {
		t.Run(of, func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				c := d.convoy(4, 1<<20, 0)
				c.patch(c.cb, fmt.Sprintf(`{"rate_limit": {"per_second": 1, "burst": 10}, "batch": {"max_events": 4, "max_wait": "0s", "rate_limit": %q}}`, of))
				begun := func() (sizes []int, all []*owned) {
					all = c.beginLane()
					for _, a := range all {
						sizes = append(sizes, len(c.post(a)))
					}
					return sizes, all
				}
				events := numbered("p-", 16)
				c.offer("{}", "", events, c.cb)
				c.pump(c.cb)
				sizes, all := begun()
				if p := c.pump(c.cb); p.Wait.Round(10*time.Millisecond) != tt.wait || !slices.Equal(sizes, tt.now) {
					t.Errorf("batches of %v begin, and the next in %s", sizes, p.Wait)
				}
				for _, a := range all[2:] {
					c.finish(a, well)
				}
				c.retry(all[0])
				time.Sleep(time.Millisecond)
				if a, why := c.begin(c.claim(Ticket{Ref: all[0].Ref, Generation: 1})); (a != nil) != tt.again {
					t.Errorf("it is tried again: %t, %+v", a != nil, why)
				}
				time.Sleep(10 * time.Second)
				c.pump(c.cb)
				if sizes, _ = begun(); !slices.Equal(sizes, tt.later) {
					t.Errorf("batches of %v begin, 10 tokens later", sizes)
				}
				more := numbered("more-", 4)
				c.offer("{}", "", more, c.cb)
				time.Sleep(20 * time.Second)
				if done := c.chained(all[1], "next", time.Minute); done.Next == nil {
					t.Errorf("nothing begins in the step that ends another: %+v", done)
				}
				if left := c.rdb.HGet(c.t.Context(), Key(c.company, fmt.Sprintf("health:%d", c.cb)), "tk").Val(); left != tt.left {
					t.Errorf("%s tokens are left of 10, want %s", left, tt.left)
				}
				c.hold(append(events, more...)...)
			})
		})
	}
}

// TestADebtIsLookedAt: a room whose callback has to make up for tokens for hours is looked at every minute all the same: the limit may be another by then.
func TestADebtIsLookedAt(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		c := d.convoy(40, 1<<20, 0)
		limit := func(perSecond float64) {
			c.patch(c.cb, fmt.Sprintf(`{"rate_limit": {"per_second": %g, "burst": 1}, "batch": {"max_events": 40, "max_wait": "0s", "rate_limit": "events"}}`, perSecond))
		}
		limit(0.01)
		c.accept(numbered("p-", 60), c.cb)
		c.pump(c.cb)
		c.finish(c.beginLane()[0], well)
		if p := c.pump(c.cb); p.Wait < time.Hour {
			t.Errorf("the next goes in %s", p.Wait)
		}
		limit(1000)
		time.Sleep(time.Minute)
		if !c.due(c.cb) {
			t.Error("nobody looks at the room")
		}
		c.pump(c.cb)
		if begun := c.beginLane(); len(begun) != 1 || len(c.post(begun[0])) != 20 {
			t.Errorf("%d batches begin", len(begun))
		}
	})
}

// TestBatchesGoWithTheLog: what is known of batches goes once they have had their time, also where none ends any more.
func TestBatchesGoWithTheLog(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		c := d.convoy(2, 1<<20, 0)
		c.accept(numbered("p-", 12), c.cb)
		c.pump(c.cb)
		for _, a := range c.beginLane() {
			c.finish(a, well)
		}
		c.patch(c.cb, `{"batch": null}`)
		trim := func(want int64) {
			t.Helper()
			next, err := c.ledger.TrimLog(c.t.Context(), c.company, "-")
			c.must(err)
			names, err := c.rdb.Keys(c.t.Context(), Key(c.company, "batch:*")).Result()
			c.must(err)
			if n := c.rdb.ZCard(c.t.Context(), Key(c.company, "batches")).Val(); n != want || int64(len(names)) != want || next != "-" {
				t.Errorf("%d batches are known, %d kept, want %d; the sweep goes on at %s", n, len(names), want, next)
			}
		}
		time.Sleep(standard.Retention - time.Second)
		trim(6)
		time.Sleep(2 * time.Second)
		trim(0)
	})
}

// commands are how many Redis has done.
func (d *desk) commands() (n int64) {
	d.t.Helper()
	info, err := d.rdb.InfoMap(d.t.Context(), "commandstats").Result()
	d.must(err)
	for _, line := range info["Commandstats"] {
		var calls int64
		_, _ = fmt.Sscanf(line, "calls=%d,", &calls)
		n += calls
	}
	return n
}

// TestWhatABatchCostsInRedis: two commands a member as it begins, and three as it ends.
func TestWhatABatchCostsInRedis(t *testing.T) {
	t.Parallel()
	const members = 100
	c := newDesk(t, standard).convoy(members, 1<<20, 0)
	c.accept(numbered("p-", members), c.cb)
	c.pump(c.cb)
	before := c.commands()
	a := c.take(c.claim(c.lane[0]))
	begun := c.commands()
	c.finish(a, well)
	ended := c.commands()
	if len(a.grant.Batch.Members) != members {
		t.Fatalf("it has %d members", len(a.grant.Batch.Members))
	}
	if n := begun - before; n < 2*members || n > 2*members+40 {
		t.Errorf("to begin takes %d commands", n)
	}
	if n := ended - begun; n < 3*members || n > 3*members+40 {
		t.Errorf("to end takes %d commands", n)
	}
}

// TestABatchHasARunOfItsOwn: what begins or ends at the same time does so in one run of Redis, but for batches.
func TestABatchHasARunOfItsOwn(t *testing.T) {
	for how, want := range map[string]int64{"batch 2 1000000 0 payload": 4, "": 1} {
		inBubble(t, standard, func(d *desk) {
			c := &convoy{desk: d, cb: d.callback("")}
			if how != "" {
				c.travels(how)
			}
			c.accept(numbered("p-", 12), c.cb)
			c.pump(c.cb)
			c.finish(c.take(c.claim(c.lane[0])), well) // Redis knows the scripts
			begun := make([]*owned, 5)
			g := &gate{}
			c.rdb.AddHook(g)
			if n := g.together(func(i int) {
				begun[i], _ = c.begin(Claim{Ref: c.lane[1+i].Ref, Generation: 1, Token: fmt.Sprint("owner-", i), Lease: lease})
			}); n != want {
				t.Errorf("travelling as %q, four begin in %d runs, want %d", how, n, want)
			}
			if n := g.together(func(i int) { _, _ = c.ledger.Finish(d.t.Context(), finishOf(begun[i], well)) }); n != want {
				t.Errorf("travelling as %q, four end in %d runs, want %d", how, n, want)
			}
		})
	}
}

// together does five steps, of which the first is held up until the others are asked for, in a bubble. It returns how many runs the others took.
func (g *gate) together(step func(i int)) int64 {
	var steps sync.WaitGroup
	before, asked := g.runs.Load(), make(chan struct{})
	g.hold = func(int64) { <-asked }
	for i := range 5 {
		steps.Go(func() { step(i) })
		synctest.Wait()
	}
	close(asked)
	steps.Wait()
	return g.runs.Load() - before - 1
}

// TestRunsAreBoundedInMembers: one that ends what waits stops once enough deliveries have, however many batches those are, and says that there is more.
func TestRunsAreBoundedInMembers(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	const members = 60
	sent := func(t *testing.T, name string) (*convoy, []string) {
		c, events := d.of(t, name).convoy(members, 1<<20, 0), numbered("p-", 4*members)
		c.accept(events, c.cb)
		c.pump(c.cb)
		for _, a := range c.beginLane() {
			c.retry(a)
			c.lane = append(c.lane, Ticket{Ref: a.Ref, Generation: 1})
		}
		return c, events
	}
	whole := func(c *convoy) {
		c.pause(c.cb)
		for _, ticket := range c.lane {
			claim := c.claim(ticket)
			claim.Early = time.Minute
			if _, why := c.begin(claim); why.Outcome != WaitsInRoom {
				c.t.Errorf("it ends with %+v", why)
			}
		}
	}
	bounded := func(c *convoy, events []string, state State, run func() (more bool)) {
		c.t.Helper()
		for before := 0; ; {
			more := run()
			n := c.states(c.cb, events...)[state]
			if n-before > 2*members || !more && n != len(events) || more && n == before {
				c.t.Fatalf("a run ends %d deliveries, and %d others are left; more: %t", n-before, len(events)-n, more)
			}
			if before = n; !more {
				return
			}
		}
	}
	purged := func(c *convoy, events []string) {
		c.must(c.registry.Delete(c.t.Context(), c.company, c.cb))
		cursor := "0"
		bounded(c, events, Cancelled, func() bool {
			var err error
			cursor, err = c.ledger.Purge(c.t.Context(), c.company, c.cb, cursor, "")
			c.must(err)
			return cursor != "0"
		})
	}
	t.Run("purge of the room", func(t *testing.T) {
		c, events := sent(t, "purge-room")
		whole(c)
		purged(c, events)
	})
	t.Run("purge of what is due", func(t *testing.T) {
		c, events := sent(t, "purge-due")
		purged(c, events)
	})
	t.Run("held for too long", func(t *testing.T) {
		c, events := sent(t, "too-long")
		whole(c)
		short := impatient()
		short.HoldMaxAge = 0
		c.rule(short)
		time.Sleep(2 * time.Millisecond)
		bounded(c, events, Dead, func() bool { c.pump(c.cb); return c.due(c.cb) })
	})
	t.Run("too many", func(t *testing.T) {
		c, events := sent(t, "too-many")
		whole(c)
		few := impatient()
		few.HoldMaxCount = 0
		c.rule(few)
		bounded(c, events, Dead, func() bool { c.pump(c.cb); return c.due(c.cb) })
	})
	t.Run("lost, and the callback deleted", func(t *testing.T) {
		c, events := d.of(t, "lost").convoy(members, 1<<20, 0), numbered("p-", 4*members)
		c.accept(events, c.cb)
		c.pump(c.cb)
		for _, ticket := range c.lane {
			c.take(c.brief(ticket))
		}
		c.must(c.registry.Delete(t.Context(), c.company, c.cb))
		bounded(c, events, Cancelled, func() bool {
			o, err := c.ledger.Overdue(t.Context(), c.company, Page)
			c.must(err)
			return o.More
		})
	})
}

// TestASplitBatch goes on in halves, each under a webhook-id of its own, until one is small enough or cannot be split.
func TestASplitBatch(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	for members, want := range map[int][]string{
		1: {"p-0"},
		2: {"p-0", "p-0 p-1", "p-1"},
		5: {"p-0 p-1 p-2", "p-0 p-1 p-2 p-3 p-4", "p-3 p-4"},
	} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprint(members, killed), func(t *testing.T) {
				c := d.of(t, fmt.Sprintf("split-%d-%t", members, killed)).convoy(10, 1<<20, 0)
				events := numbered("p-", members)
				c.accept(events, c.cb)
				c.pump(c.cb)
				a := c.take(c.claim(c.lane[0]))
				c.lane = nil
				c.post(a)
				halves, err := c.ledger.Split(t.Context(), finishOf(a, badly))
				c.must(err)
				if want := map[bool]int{true: 2}[members > 1]; len(halves) != want {
					t.Errorf("it is split into %v", halves)
				}
				if again, err := c.ledger.Split(t.Context(), finishOf(a, badly)); err != nil || len(again) > 0 {
					t.Errorf("a repeat has it split into %v, %v", again, err)
				}
				if members == 1 {
					c.finish(a, well)
				}
				if !killed {
					c.lane = halves
				}
				c.recover(events...)
				if diff := cmp.Diff(want, c.posted()); diff != "" {
					t.Errorf("sent (-want +got):\n%s", diff)
				}
				if rec := c.record("p-0", c.cb); len(ParseEntries(rec.Attempts)) != min(2, members) || rec.Number != min(2, members) {
					t.Errorf("a member tells of %q", rec.Attempts)
				}
			})
		}
	}
}

// TestASplitOfNobody: a batch that all have left is not split, and no other comes of it.
func TestASplitOfNobody(t *testing.T) {
	t.Parallel()
	c := newDesk(t, standard).convoy(4, 1<<20, 0)
	events := numbered("p-", 4)
	c.accept(events, c.cb)
	c.pump(c.cb)
	a := c.take(c.claim(c.lane[0]))
	for _, event := range events {
		_, err := c.ledger.Cancel(t.Context(), c.ref(event, c.cb), "{}")
		c.must(err)
	}
	halves, err := c.ledger.Split(t.Context(), finishOf(a, badly))
	c.must(err)
	if n := c.rdb.ZCard(t.Context(), Key(c.company, "batches")).Val(); len(halves) != 0 || n != 1 {
		t.Errorf("it is split into %v, and there are %d batches", halves, n)
	}
}

// posted are the members of each batch that was sent.
func (c *convoy) posted() (posts []string) {
	for _, members := range c.posts {
		posts = append(posts, members)
	}
	slices.Sort(posts)
	return posts
}

// TestOutcomesOfElements: what the partner took is delivered, and the rest goes on under another webhook-id, also if the owner is gone before it has said so
// for the rest.
func TestOutcomesOfElements(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	for name, killed := range map[string]bool{"finished": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			c := d.of(t, "outcomes-"+name).convoy(4, 1<<20, 0)
			events := numbered("p-", 4)
			c.accept(events, c.cb)
			c.pump(c.cb)
			a := c.take(c.brief(c.lane[0]))
			c.lane = nil
			c.post(a)
			for range 2 {
				ok, err := c.ledger.Arrive(t.Context(), finishOf(a, well), []string{"p-1", "p-3"})
				c.must(err)
				if !ok {
					t.Error("who owns it is not heard")
				}
			}
			if diff := cmp.Diff(map[State]int{Delivered: 2, Active: 2}, c.states(c.cb, events...)); diff != "" {
				t.Errorf("states (-want +got):\n%s", diff)
			}
			if !killed {
				c.retry(a)
			}
			c.recover(events...)
			if diff := cmp.Diff([]string{"p-0 p-1 p-2 p-3", "p-0 p-2"}, c.posted()); diff != "" {
				t.Errorf("sent (-want +got):\n%s", diff)
			}
			if ok, err := c.ledger.Arrive(t.Context(), finishOf(a, well), []string{"p-0"}); ok || err != nil {
				t.Errorf("who does not own it any more is heard: %v", err)
			}
		})
	}
}

// TestAMemberStandsAsItsBatch: whoever reads a delivery finds its batch's state and attempts, numbered on from its own, while it travels and after.
func TestAMemberStandsAsItsBatch(t *testing.T) {
	t.Parallel()
	c := newDesk(t, impatient()).convoy(2, 1<<20, 0)
	events := numbered("p-", 2)
	look := func(state State, attempts int) {
		t.Helper()
		for _, event := range events {
			rec := c.record(event, c.cb)
			entries := ParseEntries(rec.Attempts)
			if StateOf[rec.State] != state || len(entries) != attempts || state == Retrying && rec.Batch == "" {
				t.Errorf("%s is %c, of batch %q, with %q", event, rec.State, rec.Batch, rec.Attempts)
			}
			for i, e := range entries {
				if e.Number != i+1 {
					t.Errorf("%s has attempt %d in place %d", event, e.Number, i+1)
				}
			}
			found, _, err := c.ledger.Search(t.Context(), c.company, "", Search{States: []State{state}}, 10)
			c.must(err)
			if len(found) != len(events) || StateOf[found[0].Records[c.cb].State] != state {
				t.Errorf("a list of those that are %s has %d", state, len(found))
			}
		}
	}
	c.accept(events, c.cb)
	look(Held, 0)
	c.pump(c.cb)
	a := c.take(c.claim(c.lane[0]))
	look(Active, 0)
	c.retry(a)
	look(Retrying, 1)
	halves, err := c.ledger.Overdue(t.Context(), c.company, Page)
	c.must(err)
	for len(halves.Check) == 0 {
		time.Sleep(time.Millisecond)
		halves, err = c.ledger.Overdue(t.Context(), c.company, Page)
		c.must(err)
	}
	c.finish(c.take(c.claim(halves.Check[0])), badly)
	look(Dead, 2)
	for _, event := range events { // a batch of its own, or of both
		_, err := c.ledger.Replay(t.Context(), c.ref(event, c.cb), "{}")
		c.must(err)
	}
	c.recover(events...)
	look(Delivered, 3)
}

// TestTheSwitch: with batches taken away, what was never sent goes one by one, and what was goes on as the batch that it was. With batches set, what is on its way
// singly and has not begun comes back for the next batch.
func TestTheSwitch(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	t.Run("off", func(t *testing.T) {
		c := d.of(t, "off").convoy(2, 1<<20, 0)
		events := numbered("p-", 6)
		c.accept(events, c.cb)
		c.pump(c.cb)
		c.retry(c.take(c.claim(c.lane[0])))
		empty := c.lane[1:]
		c.lane = nil
		c.patch(c.cb, `{"batch": null}`)
		for _, ticket := range empty {
			if _, why := c.begin(c.claim(ticket)); why.Outcome != WaitsInRoom {
				t.Errorf("an empty batch ends with %+v", why)
			}
		}
		c.pump(c.cb)
		single := 0
		for _, a := range c.beginLane() {
			if a.grant.Batch == nil {
				single++
			}
			c.finish(a, well)
		}
		if single != 4 {
			t.Errorf("%d go one by one", single)
		}
		c.recover(events...)
		if diff := cmp.Diff([]string{"p-0 p-1"}, c.posted()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
	t.Run("on", func(t *testing.T) {
		c := &convoy{desk: d.of(t, "on"), posts: make(map[string]string), sent: make(map[string]int)}
		c.cb = c.callback("")
		events := numbered("p-", 3)
		c.accept(events, c.cb)
		under, _ := c.begin(c.claim(c.lane[0]))
		c.patch(c.cb, `{"batch": {"max_wait": "0s"}}`)
		if begun := c.beginLane(); len(begun) > 0 {
			t.Errorf("%d begin singly", len(begun))
		}
		c.finish(under, well)
		c.recover(events...)
		if diff := cmp.Diff([]string{"p-1 p-2"}, c.posted()); diff != "" {
			t.Errorf("batches (-want +got):\n%s", diff)
		}
	})
}

// TestABatchBehindAGate waits as a whole once it was sent, and its members in the room if it was not. What is held for too long, too many, or for a callback
// that was deleted comes to its end with all its members.
func TestABatchBehindAGate(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	begun := func(t *testing.T, name string) (*convoy, []string) {
		c, events := d.of(t, name).convoy(2, 1<<20, 0), numbered("p-", 4)
		c.accept(events, c.cb)
		c.pump(c.cb)
		a := c.take(c.brief(c.lane[0]))
		c.post(a)
		c.pause(c.cb)
		for _, ticket := range c.lane[1:] {
			c.begin(c.claim(ticket))
		}
		c.lane = nil
		_, err := c.ledger.Overdue(t.Context(), c.company, Page) // its owner is gone
		c.must(err)
		c.hold(events...)
		if diff := cmp.Diff(map[State]int{Held: 4}, c.states(c.cb, events...)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		return c, events
	}
	t.Run("resumed", func(t *testing.T) {
		c, events := begun(t, "resumed")
		c.resume(c.cb)
		c.recover(events...)
		if diff := cmp.Diff([]string{"p-0 p-1", "p-2 p-3"}, c.posted()); diff != "" || c.sent["p-0"] != 2 {
			t.Errorf("sent %v (-want +got):\n%s", c.sent, diff)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		c, events := begun(t, "deleted")
		c.must(c.registry.Delete(t.Context(), c.company, c.cb))
		for cursor := "0"; ; {
			var err error
			cursor, err = c.ledger.Purge(t.Context(), c.company, c.cb, cursor, "")
			c.must(err)
			if cursor == "0" {
				break
			}
		}
		if diff := cmp.Diff(map[State]int{Cancelled: 4}, c.states(c.cb, events...)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
	})
	t.Run("held for too long", func(t *testing.T) {
		c, events := begun(t, "too-long")
		short := impatient()
		short.HoldMaxAge = 0
		c.rule(short)
		for range 100 {
			time.Sleep(time.Millisecond)
			if c.pump(c.cb); c.states(c.cb, events...)[Dead] == 4 {
				break
			}
		}
		if diff := cmp.Diff(map[State]int{Dead: 4}, c.states(c.cb, events...)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		if got := c.health(c.cb).Dead; got != 4 {
			t.Errorf("%d are in the book", got)
		}
		if got := c.buried()["hold_expired"]; got != 4 {
			t.Errorf("%d were given up", got)
		}
	})
}

// TestHalfAStep: a step that failed in Redis half-way leaves a batch and members that do not agree. What each member's record says counts.
func TestHalfAStep(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	begun := func(t *testing.T, name string) (*convoy, *owned, []string) {
		c, events := d.of(t, name).convoy(3, 1<<20, 0), numbered("p-", 3)
		c.accept(events, c.cb)
		c.pump(c.cb)
		a := c.take(c.brief(c.lane[0]))
		c.lane = nil
		return c, a, events
	}
	t.Run("filled", func(t *testing.T) { // one was not taken yet, and none out of the room
		c, _, events := begun(t, "filled")
		ctx, last := t.Context(), EventKey(c.company, "p-2")
		c.must(c.rdb.HSet(ctx, last, RecordField(c.cb), fmt.Sprintf("H 1 0 0 %d -", time.Now().UnixMilli())).Err())
		for i, event := range events {
			c.must(c.rdb.ZAdd(ctx, Key(c.company, fmt.Sprintf("room:%d", c.cb)), redis.Z{Score: float64(i), Member: c.ref(event, c.cb).Member()}).Err())
		}
		c.must(c.rdb.ZAdd(ctx, registry.RoomsKey(c.company), redis.Z{Member: c.cb}).Err())
		c.pump(c.cb)
		c.settle(events)
		if diff := cmp.Diff([]string{"p-0 p-1", "p-2"}, c.posted()); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
	})
	t.Run("ended", func(t *testing.T) { // the batch is, and its members are not
		c, a, events := begun(t, "ended")
		c.must(c.rdb.HSet(t.Context(), Key(c.company, "batch:"+a.Event[1:]), RecordField(c.cb), "D 1 1 1 1 -").Err())
		_, err := c.ledger.Overdue(t.Context(), c.company, Page)
		c.must(err)
		if diff := cmp.Diff(map[State]int{Delivered: 3}, c.states(c.cb, events...)); diff != "" {
			t.Errorf("states (-want +got):\n%s", diff)
		}
		c.hold(events...)
	})
}

// settle goes on until all is at its end, from a state that no step leaves.
func (c *convoy) settle(events []string) {
	c.t.Helper()
	for range 100 {
		c.pump(c.cb)
		o, err := c.ledger.Overdue(c.t.Context(), c.company, Page)
		c.must(err)
		c.lane = append(append(c.lane, o.Check...), o.Lost...)
		for _, a := range c.beginLane() {
			c.post(a)
			c.finish(a, well)
		}
		if c.states(c.cb, events...)[Delivered] == len(events) {
			c.hold(events...)
			return
		}
		time.Sleep(time.Millisecond)
	}
	c.t.Fatalf("they stand as %v", c.states(c.cb, events...))
}

// TestMembersAreCounted: health, surveys and lists have a batch's members, and not the batch, wherever it stands, and lists name each once.
func TestMembersAreCounted(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	for name, tt := range map[string]struct {
		until                 func(c *convoy)
		lanes, retrying, held int
	}{
		"in the room":     {func(*convoy) {}, 0, 0, 6},
		"out and empty":   {func(c *convoy) { c.pump(c.cb) }, 0, 0, 6},
		"one under way":   {func(c *convoy) { c.pump(c.cb); c.take(c.claim(c.lane[0])) }, 3, 0, 3},
		"both under way":  {func(c *convoy) { c.pump(c.cb); c.take(c.claim(c.lane[0])); c.take(c.claim(c.lane[1])) }, 6, 0, 0},
		"one tried again": {func(c *convoy) { c.pump(c.cb); c.retry(c.take(c.claim(c.lane[0]))) }, 0, 3, 3},
		"one in the room as a whole": {func(c *convoy) {
			c.pump(c.cb)
			c.take(c.brief(c.lane[0]))
			c.pause(c.cb)
			_, err := c.ledger.Overdue(c.t.Context(), c.company, Page)
			c.must(err)
		}, 0, 0, 6},
		"one cancelled before it is tried again": {func(c *convoy) {
			c.pump(c.cb)
			c.retry(c.take(c.claim(c.lane[0])))
			_, err := c.ledger.Cancel(c.t.Context(), c.ref("p-1", c.cb), "{}")
			c.must(err)
		}, 0, 2, 3},
	} {
		t.Run(name, func(t *testing.T) {
			c := d.of(t, "counted-"+strings.ReplaceAll(name, " ", "-")).convoy(3, 1<<20, 0)
			events := numbered("p-", 6)
			c.accept(events, c.cb)
			tt.until(c)
			c.hold(events...)
			all, err := c.ledger.Health(t.Context(), c.company, c.cb)
			c.must(err)
			if h := all[0]; h.Pending != int64(tt.lanes+tt.retrying) || h.Held != int64(tt.held) || h.OldestWaiting.IsZero() {
				t.Errorf("health: %d pending, %d held, the oldest of %v", h.Pending, h.Held, h.OldestWaiting)
			}
			depths, err := c.ledger.Depths(t.Context(), []string{c.company})
			c.must(err)
			if got := depths[0].Held; got != int64(tt.held) {
				t.Errorf("the metric has %d held", got)
			}
			u := Unfinished{Retrying: true, Held: true, InLanes: true, Newest: -1}
			heads, err := c.ledger.Heads(t.Context(), c.company, u, []int64{c.cb})
			c.must(err)
			found, err := c.ledger.Waiting(t.Context(), c.company, u, 100, heads)
			c.must(err)
			var names []string
			for _, w := range found {
				for _, e := range w.Entries {
					names = append(names, e.Name)
				}
			}
			slices.Sort(names)
			n := c.states(c.cb, events...)
			if want := n[Held] + n[Active] + n[Pending] + n[Retrying]; len(slices.Compact(slices.Clone(names))) != len(names) || len(names) != want || strings.Contains(strings.Join(names, " "), "~") {
				t.Errorf("%q are listed, want %d: %v", names, want, n)
			}
		})
	}
}

// TestListsLeaveBatchesAlone whose members stand somewhere themselves, or are not asked for; and how many they are to read is known before. Of a room where
// batches wait as a whole, they have each member that was accepted by then, though it stands behind an older one.
func TestListsLeaveBatchesAlone(t *testing.T) {
	t.Parallel()
	c := newDesk(t, impatient()).convoy(3, 1<<20, 0)
	list := func(u Unfinished, most int) (unordered int64, names []string) {
		t.Helper()
		heads, err := c.ledger.Heads(t.Context(), c.company, u, []int64{c.cb})
		c.must(err)
		before := c.commands()
		found, err := c.ledger.Waiting(t.Context(), c.company, u, most, heads)
		c.must(err)
		for _, w := range found {
			for _, e := range w.Entries {
				names = append(names, e.Name)
			}
		}
		if n := c.commands() - before; n > int64(20+3*len(names)) {
			t.Errorf("to list %d of %+v takes %d commands", len(names), u, n)
		}
		for _, h := range heads {
			unordered = h.NoOrder
		}
		return unordered, names
	}
	events := numbered("p-", 24)
	c.accept(events, c.cb)
	c.pump(c.cb)
	retrying := c.lane
	for _, a := range c.beginLane() {
		c.retry(a)
	}
	if n := c.states(c.cb, events...)[Retrying]; n != len(events) {
		t.Fatalf("%d are retrying", n)
	}
	if n, names := list(Unfinished{Retrying: true, Held: true, InLanes: true, Newest: -1}, 100); n != 0 || len(names) != len(events) {
		t.Errorf("of those that are tried again, %d stand in no order, and %d are listed", n, len(names))
	}
	for _, name := range numbered("other-", 100) { // batches that are tried again
		c.must(c.rdb.ZAdd(t.Context(), Key(c.company, "batches"), redis.Z{Score: 9e15, Member: "~" + name + "/" + fmt.Sprint(c.cb)}).Err())
	}
	begin := func(t Ticket) *owned {
		claim := c.claim(t)
		claim.Early = time.Minute
		a, _ := c.begin(claim)
		return a
	}
	begin(retrying[0])
	c.pause(c.cb)
	begin(retrying[1])
	begin(retrying[2])
	c.hold(events...)
	c.accept([]string{"later-0", "later-1"}, c.cb)
	if n, names := list(Unfinished{Held: true, InLanes: true, Newest: -1}, 1); n != 3+1+6+2 || len(names) != 3+6+2 {
		t.Errorf("%d stand in no order, and %q are listed", n, names)
	}
	if n, names := list(Unfinished{Held: true}, 1); n != 6+2 || len(names) != 0 {
		t.Errorf("%d stand in no order, and %q are listed of before", n, names)
	}
}

// TestALateDeliveryOfABatchThatIsDead: whoever was taken for gone changes nothing any more, neither the batch nor for how long it is kept.
func TestALateDeliveryOfABatchThatIsDead(t *testing.T) {
	t.Parallel()
	c := newDesk(t, impatient()).convoy(2, 1<<20, 0)
	events := numbered("p-", 2)
	c.accept(events, c.cb)
	c.pump(c.cb)
	late := c.take(c.brief(c.lane[0]))
	time.Sleep(2 * time.Millisecond)
	o, err := c.ledger.Overdue(t.Context(), c.company, Page)
	c.must(err)
	c.finish(c.take(c.claim(o.Lost[0])), badly)
	key := Key(c.company, "batch:"+late.Event[1:])
	before, until := c.rdb.HGetAll(t.Context(), key).Val(), c.rdb.PExpireTime(t.Context(), key).Val()
	time.Sleep(2 * time.Millisecond)
	done := c.finish(late, well)
	if done.Outcome != NotOurs || done.State != Dead || c.states(c.cb, events...)[Dead] != 2 {
		t.Errorf("it ends as %+v, and its members as %v", done, c.states(c.cb, events...))
	}
	if diff := cmp.Diff(before, c.rdb.HGetAll(t.Context(), key).Val()); diff != "" || until <= 0 || c.rdb.PExpireTime(t.Context(), key).Val() != until {
		t.Errorf("the batch is kept until %d, and was until %d (-before +after):\n%s", c.rdb.PExpireTime(t.Context(), key).Val(), until, diff)
	}
}

// TestWhatABatchHasUnderWay: of what was cancelled or is erased, only what an attempt is being made of is in flight. Else it may be replayed at once.
func TestWhatABatchHasUnderWay(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	for name, tt := range map[string]struct {
		between  bool // two attempts
		replay   ActOutcome
		inFlight int64
	}{"under way": {false, WrongState, 2}, "between": {true, Done, 0}} {
		c := d.of(t, strings.ReplaceAll(name, " ", "-")).convoy(3, 1<<20, 0)
		c.accept(numbered("p-", 3), c.cb)
		c.pump(c.cb)
		a := c.take(c.claim(c.lane[0]))
		for _, event := range []string{"p-0", "p-1"} {
			_, err := c.ledger.Cancel(t.Context(), c.ref(event, c.cb), "{}")
			c.must(err)
		}
		if tt.between {
			c.retry(a)
		}
		var inFlight int64
		for _, event := range []string{"p-0", "p-2"} {
			e, err := c.ledger.EraseEvent(t.Context(), c.company, event, "{}")
			c.must(err)
			inFlight += e.InFlight
		}
		done, err := c.ledger.Replay(t.Context(), c.ref("p-1", c.cb), "{}")
		c.must(err)
		if done.Outcome != tt.replay || inFlight != tt.inFlight {
			t.Errorf("%s: the replay ends with %d, and %d of two that are erased are in flight", name, done.Outcome, inFlight)
		}
	}
}

// TestHasteningABatch names it, whether it goes at once or waits in the room.
func TestHasteningABatch(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	for _, goes := range []bool{true, false} {
		c := d.of(t, fmt.Sprint("hasten-", goes)).convoy(2, 1<<20, 0)
		c.accept(numbered("p-", 2), c.cb)
		c.pump(c.cb)
		a := c.take(c.claim(c.lane[0]))
		c.retry(a)
		if !goes {
			c.accept(numbered("others-", 2), c.cb)
		}
		h, err := c.ledger.Hasten(t.Context(), c.ref("p-1", c.cb), "{}")
		c.must(err)
		if h.Outcome != Hastened || h.Goes != goes || h.Ticket != (Ticket{Ref: a.Ref, Generation: 2}) || h.Old != 1 {
			t.Errorf("it ends as %+v", h)
		}
	}
}

// TestASweepHastensBatches: whoever has retrying deliveries go out now has their batches go, once each, and is told of each delivery.
func TestASweepHastensBatches(t *testing.T) {
	t.Parallel()
	c := newDesk(t, standard).convoy(3, 1<<20, 0)
	events := numbered("p-", 6)
	c.accept(events, c.cb)
	c.pump(c.cb)
	for _, ticket := range c.lane {
		c.retry(c.take(c.claim(ticket)))
	}
	what := Sweep{Callback: c.cb, States: []State{Retrying}}
	n, _, _, err := c.ledger.CountSweep(t.Context(), c.company, &what, "")
	c.must(err)
	swept, err := c.ledger.GoOnSweeping(t.Context(), c.company, c.sweep(what))
	c.must(err)
	now, err := c.ledger.Sweep(t.Context(), c.company, "sweep")
	c.must(err)
	if n != 6 || now.Replayed != 6 || len(swept.Released) != 2 {
		t.Errorf("%d match, %d are replayed, as %v", n, now.Replayed, swept.Released)
	}
	c.lane = swept.Released
	c.recover(events...)
	if len(c.posts) != 2 {
		t.Errorf("sent: %v", c.posts)
	}
}

// TestWhoWasAboard of an attempt that delivered late is not known if somebody left the batch before it was recorded, and else the batch's list has them.
func TestWhoWasAboard(t *testing.T) {
	t.Parallel()
	d := newDesk(t, impatient())
	for name, want := range map[string][]string{"stayed": {"p-0", "p-1", "p-2"}, "left": nil} {
		c := d.of(t, name).convoy(3, 1<<20, 0)
		c.accept(numbered("p-", 3), c.cb)
		c.pump(c.cb)
		late := c.take(c.brief(c.lane[0]))
		time.Sleep(2 * time.Millisecond)
		o, err := c.ledger.Overdue(t.Context(), c.company, Page)
		c.must(err)
		if name == "left" {
			_, err := c.ledger.Cancel(t.Context(), c.ref("p-1", c.cb), "{}")
			c.must(err)
		}
		c.take(c.claim(o.Lost[0]))
		f := finishOf(late, well)
		f.Sent = &Sent{Number: 1, Sums: make([]byte, 3*SumLength)}
		done, err := c.ledger.Finish(t.Context(), f)
		c.must(err)
		b, err := c.ledger.Aboard(t.Context(), c.company, c.cb, late.grant.Batch.WebhookID, f.Sent)
		c.must(err)
		if got := strings.Fields(b.Events()); done.Outcome != RecordedLate || !slices.Equal(got, want) || b.Element != "payload" {
			t.Errorf("%s: recorded as %d, aboard %q, written as %q", name, done.Outcome, got, b.Element)
		}
	}
}
