package ledger

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

const (
	acme = "acme"
	// destination is where callbacks go.
	destination = "https://partner.example/hook"
	// lease is how long a desk's attempts may take.
	lease = 75 * time.Second
)

// host is what destination's is called in Redis.
var host = registry.Destination{URL: destination}.Host()

// A desk is a ledger with nobody around it. The test accepts, attempts, pumps and repairs, one step after the other, where else client, worker and
// reconciler do. Callbacks, gates, rates and quotas are the registry's own. Nothing is sent, and no task is kept but in the desk's lane.
type desk struct {
	t        *testing.T
	rdb      *redis.Client
	mini     *miniredis.Miniredis // nil outside a bubble
	registry *registry.Registry
	ledger   *Ledger
	company  string

	version int64    // of the registry, as the last accepting step knew it
	lane    []Ticket // what may go, in the order in which it was let out
	owners  int      // of attempts so far: each has a token of its own
}

// standard are the rules that an installation has by default, but for a window that is small enough to be filled.
var standard = Rules{
	Window: window, Retention: 72 * time.Hour, HoldMaxCount: 100_000, HoldMaxAge: 72 * time.Hour, DisableAfter: 120 * time.Hour, Patience: 25 * time.Second,
}

// newDesk is a desk on a real Redis.
func newDesk(t *testing.T, rules Rules) *desk {
	t.Helper()
	return furnish(t, redistest.Start(t).Client(), rules)
}

// of is a desk of a company's own on the same Redis, for a test below.
func (d *desk) of(t *testing.T, company string) *desk {
	return &desk{t: t, rdb: d.rdb, registry: d.registry, ledger: d.ledger, company: company}
}

// inBubble has a desk where time is free: miniredis tells the bubble's time.
func inBubble(t *testing.T, rules Rules, f func(d *desk)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		rdb := redis.NewClient(&redis.Options{
			Dialer:   func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
			Addr:     "127.0.0.1:6379", // never dialled; a name would be looked up
			Protocol: 2, DisableIdentity: true, PoolSize: 4,
			ReadBufferSize: 4096, WriteBufferSize: 4096, // little goes over each connection
		})
		defer m.Close()
		defer func() { _ = rdb.Close() }()
		d := furnish(t, rdb, rules)
		d.mini = m
		f(d)
	})
}

func furnish(t *testing.T, rdb *redis.Client, rules Rules) *desk {
	t.Helper()
	d := &desk{t: t, rdb: rdb, company: acme}
	keyset, err := registry.NewKeyset()
	d.must(err)
	d.registry, err = registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset})
	d.must(err)
	d.rule(rules)
	return d
}

// rule has the installation's rules changed, as by processes that start with others.
func (d *desk) rule(rules Rules) {
	d.ledger = New(Config{Redis: d.rdb, Logger: slog.New(slog.NewTextHandler(d.t.Output(), nil)), Rules: rules, Contain: contained})
	d.t.Cleanup(d.ledger.Close)
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// callback registers one, with more members of the registration as JSON, or none.
func (d *desk) callback(more string) int64 {
	d.t.Helper()
	if more != "" {
		more = ", " + more
	}
	cb, err := d.registry.Create(d.t.Context(), d.company, fmt.Appendf(nil, `{"callback_type": "payment_proof", "destination": {"url": %q}%s}`, destination, more))
	d.must(err)
	return cb.ID
}

// patch changes a callback's registration.
func (d *desk) patch(cb int64, change string) {
	d.t.Helper()
	_, err := d.registry.Patch(d.t.Context(), d.company, cb, []byte(change))
	d.must(err)
}

func (d *desk) pause(cb int64) {
	d.t.Helper()
	_, err := d.registry.Pause(d.t.Context(), d.company, cb)
	d.must(err)
}

func (d *desk) resume(cb int64) {
	d.t.Helper()
	_, err := d.registry.Resume(d.t.Context(), d.company, cb)
	d.must(err)
}

// ref names a delivery.
func (d *desk) ref(event string, cb int64) Ref { return Ref{d.company, event, cb} }

// offer asks for events to be accepted for callbacks, all in one flight. Of the first event, a first attempt begins under the token, if there is one.
func (d *desk) offer(payload, token string, events []string, callbacks ...int64) []Accepted {
	d.t.Helper()
	var offers []*Offer
	for _, event := range events {
		o := &Offer{Company: d.company, ID: event, Version: d.version, Meta: Meta{Type: "payment_proof"}, Payload: []byte(payload)}
		for _, cb := range callbacks {
			o.First = append(o.First, First{Callback: cb, Token: token, Lease: lease})
		}
		offers, token = append(offers, o), ""
	}
	all := make([]Accepted, len(offers))
	for i, a := range d.ledger.Accept(d.t.Context(), offers...) {
		var err error
		all[i], err = a.Answer()
		d.must(err)
	}
	if all[0].Outcome == Outdated {
		d.version = all[0].Version
		return d.offer(payload, offers[0].First[0].Token, events, callbacks...)
	}
	return all
}

// accept takes events for callbacks. What is not held comes into the lane.
func (d *desk) accept(events []string, callbacks ...int64) {
	d.t.Helper()
	for page := range slices.Chunk(events, max(1, 60/len(callbacks))) { // a flight has one run of the script: a pipe in a bubble holds no more
		for i, a := range d.offer("{}", "", page, callbacks...) {
			if a.Outcome != Taken {
				d.t.Fatalf("%s is not taken: %+v", page[i], a)
			}
			for _, cb := range callbacks {
				if !slices.Contains(a.Held, cb) {
					d.lane = append(d.lane, Ticket{Ref: d.ref(page[i], cb), Generation: 1, Slow: slices.Contains(a.Slow, cb)})
				}
			}
		}
	}
}

// numbered are n events' ids.
func numbered(prefix string, n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = prefix + strconv.Itoa(i)
	}
	return ids
}

// An owned is an attempt that has begun. The test is its owner.
type owned struct {
	Ref
	token string
	grant *Grant
}

// claim asks for the next attempt of a delivery.
func (d *desk) claim(t Ticket) Claim {
	d.owners++
	return Claim{Ref: t.Ref, Generation: t.Generation, Token: "owner-" + strconv.Itoa(d.owners), Lease: lease}
}

// begin begins an attempt. It is nil if the attempt may not begin, and the claim's answer says why.
func (d *desk) begin(c Claim) (*owned, Claimed) {
	d.t.Helper()
	claimed, err := d.ledger.Begin(d.t.Context(), c)
	d.must(err)
	if claimed.Outcome != Begun {
		return nil, claimed
	}
	return &owned{c.Ref, c.Token, claimed.Grant}, claimed
}

// beginLane begins what is in the lane. What may not begin is in its room then.
func (d *desk) beginLane() (begun []*owned) {
	d.t.Helper()
	lane := d.lane
	d.lane = nil
	for _, t := range lane {
		if a, _ := d.begin(d.claim(t)); a != nil {
			begun = append(begun, a)
		}
	}
	return begun
}

// An ending is how an attempt ends.
type ending struct {
	verdict.Judgement
	again  time.Duration // 0: a failure is the delivery's last
	outage bool          // it is our own outage
	host   string        // that was called; empty: host
}

// finish records how an attempt ended. What that lets out of the room comes into the lane.
func (d *desk) finish(a *owned, how ending) Finished {
	d.t.Helper()
	f := finishOf(a, how)
	done, err := d.ledger.Finish(d.t.Context(), f)
	d.must(err)
	d.lane = append(d.lane, done.Released...)
	return done
}

// finishOf is what is recorded of an attempt that ended.
func finishOf(a *owned, how ending) Finish {
	blame := how.Blame()
	entry := Entry{Number: a.grant.Number, Started: a.grant.At.UnixMilli(), Verdict: how.Verdict, Reason: how.Reason, Status: how.Status}
	f := Finish{
		Ref: a.Ref, Token: a.token, LogID: a.grant.LogID, Attempt: entry, Attempts: AppendEntry(a.grant.Attempts, entry), Spent: a.grant.Spent + 1, At: time.Now(),
		Health: blame.Health(), Breaker: blame.Breaker(), Pause: how.RetryAfter, HostMeans: blame.Host(), Host: host,
		CallbackType: "payment_proof", Version: a.grant.Version, Turns: 64,
	}
	switch {
	case how.Verdict == verdict.Delivered:
		f.Result = ResultDelivered
	case how.Verdict == verdict.Gone:
		f.Result = ResultGone
	case how.again > 0:
		f.Result, f.Delay = ResultRetry, how.again
	default:
		f.Result = ResultDead
	}
	if blame.Counts() {
		f.Run = map[bool]Run{true: RunSkips, false: RunCounts}[how.outage]
	}
	if how.host != "" {
		f.Host = how.host
	}
	return f
}

// pump lets a page out of a callback's room into the lane.
func (d *desk) pump(cb int64) Pumped {
	d.t.Helper()
	p, err := d.ledger.Pump(d.t.Context(), d.company, cb, false)
	d.must(err)
	d.lane = append(d.lane, p.Released...)
	return p
}

// due reports whether the reconciler would pump a callback's room now.
func (d *desk) due(cb int64) bool {
	d.t.Helper()
	now, err := d.ledger.Now(d.t.Context())
	d.must(err)
	rooms, err := d.ledger.DueRooms(d.t.Context(), d.company, now)
	d.must(err)
	return slices.Contains(rooms, strconv.FormatInt(cb, 10))
}

// attempt accepts an event for a callback with an empty lane, and makes its only attempt as soon as that may begin. The attempt takes a moment.
func (d *desk) attempt(cb int64, how ending) Finished {
	d.t.Helper()
	d.owners++
	r, token := d.ref("event-"+strconv.Itoa(d.owners), cb), "owner-"+strconv.Itoa(d.owners)
	a := d.offer("{}", token, []string{r.Event}, cb)[0]
	o := &owned{r, token, &Grant{Number: 1, LogID: a.LogID, Version: d.version, At: time.Now()}}
	if a.BegunUnder(cb, token) == "" {
		t := Ticket{Ref: r, Generation: 1}
		for slices.Contains(a.Held, cb) {
			p := d.pump(cb)
			if len(p.Released) == 1 {
				d.lane, t = nil, p.Released[0]
				break
			}
			if p.Wait == 0 {
				d.t.Fatalf("nothing goes out, and time lets nothing out: %+v", p)
			}
			time.Sleep(p.Wait)
		}
		var why Claimed
		if o, why = d.begin(d.claim(t)); o == nil {
			d.t.Fatalf("it does not begin: %+v", why)
		}
	}
	time.Sleep(10 * time.Millisecond)
	return d.finish(o, how)
}

// health is how a callback does.
func (d *desk) health(cb int64) Health {
	d.t.Helper()
	all, err := d.ledger.Health(d.t.Context(), d.company, cb)
	d.must(err)
	return all[0]
}

// record is a delivery as it stands.
func (d *desk) record(event string, cb int64) Record {
	d.t.Helper()
	e, err := d.ledger.Event(d.t.Context(), d.company, event)
	d.must(err)
	if e == nil {
		d.t.Fatalf("there is no event %s", event)
	}
	return e.Records[cb]
}

// states are how many of an event's or events' deliveries to a callback are in each state.
func (d *desk) states(cb int64, events ...string) map[State]int {
	d.t.Helper()
	n := make(map[State]int)
	for _, event := range events {
		n[StateOf[d.record(event, cb).State]]++
	}
	return n
}
