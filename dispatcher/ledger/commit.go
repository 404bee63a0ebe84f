package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

const (
	// mostCalls is how many calls one run of a script takes, and mostDeliveries how many deliveries they may touch together: some milliseconds of
	// Redis's time, in which nobody else has an answer.
	mostCalls, mostDeliveries = 64, 100
	// mostBytes bounds what one flight carries.
	mostBytes = 1 << 20
	// patience is how long calls wait for those under way. A flight that takes longer, since a replica is waited for or a node hangs, holds up nobody else.
	patience = 20 * time.Millisecond
)

// A Committer brings to Redis together what many callers ask for at the same time: the first call goes at once. Calls that come while it is under
// way go with the next flight. So a caller who is alone waits for nobody, and a busy process makes a few round trips for many calls, and a run of a script
// for all calls of a company.
//
// Each call has its own answer and its own error, and its caller its own deadline. A flight makes a company's calls of one script in the order in which
// they came. Other scripts' calls, and other flights, may overtake them: if a caller needs an order, it waits for the answer.
type Committer struct {
	rdb      redis.UniversalClient
	settings func(ctx context.Context, key string) string
	replicas int // that have to have what was written before there is an answer
	patience time.Duration
	contain  func(ctx context.Context, do func() error) error
	wake     func(ctx context.Context, company string, nap registry.Nap) (may string, err error)

	mu      sync.Mutex
	waiting []*Call
	flying  int
	began   time.Time   // of the youngest flight
	alarm   *time.Timer // for those that wait too long; nil: it is not set
	flights sync.WaitGroup
}

// NewCommitter makes a Committer, whose scripts take the settings for their key before all else. contain runs a flight, and makes an error of its
// panic. replicas is WAIT's number; 0 is none.
func NewCommitter(rdb redis.UniversalClient, settings func(ctx context.Context, key string) string, replicas int, contain func(ctx context.Context, do func() error) error) *Committer {
	return &Committer{rdb: rdb, settings: settings, replicas: replicas, patience: patience, contain: contain, wake: func(ctx context.Context, company string, nap registry.Nap) (string, error) {
		return registry.Wake(ctx, rdb, company, nap)
	}}
}

// A Call is one step of one caller.
type Call struct {
	Script     *redis.Script // which takes calls together: it is one of lua's with each
	Key        string        // the script's, of its company
	Deliveries int           // that the step may touch, about
	Args       []any         // strings, bytes and numbers

	ctx    context.Context //nolint:containedctx // its caller's, whose end takes it out as long as it waits
	done   chan struct{}
	sent   bool
	answer []string
	err    error
}

// size is about how many bytes it sends.
func (c *Call) size() (n int) {
	for _, arg := range c.Args {
		switch arg := arg.(type) {
		case string:
			n += len(arg)
		case []byte:
			n += len(arg)
		default:
			n += 8
		}
	}
	return n
}

// Answer waits for the step's answer, or for the end of its caller: then the step may be done or not. Errors: ctx's, what Redis said, and
// [ErrBadAnswer].
func (c *Call) Answer() ([]string, error) {
	select {
	case <-c.done:
		if c.err != nil {
			return nil, c.err
		}
		return c.answer, nil
	case <-c.ctx.Done():
		return nil, c.ctx.Err()
	}
}

// End waits for the step even beyond the end of its caller. It tells whether the call was sent, and what was answered, if anything was: also where
// Answer has an error because too few replicas have it.
func (c *Call) End() (answer []string, sent bool) {
	<-c.done
	return c.answer, c.sent
}

// Close waits for the flights under way.
func (c *Committer) Close() { c.flights.Wait() }

// Do asks for steps, each of which has its own answer, and returns at once.
func (c *Committer) Do(ctx context.Context, calls ...*Call) {
	for _, call := range calls {
		call.ctx, call.done = ctx, make(chan struct{})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, calls...)
	c.next() //nolint:contextcheck // a flight has what those know that wait for it
}

// next lets a flight go if there is something to go, and none under way or too slow. The caller holds the lock.
func (c *Committer) next() {
	for len(c.waiting) > 0 {
		if since := time.Since(c.began); c.flying > 0 && since < c.patience {
			if c.alarm == nil {
				ctx := context.WithoutCancel(c.waiting[0].ctx)
				c.alarm = time.AfterFunc(c.patience-since, func() { _ = c.contain(ctx, c.late) })
			}
			return
		}
		load := c.load()
		if len(load) == 0 {
			return
		}
		c.began = time.Now()
		for _, part := range c.parts(load) {
			c.flying++
			ctx := flightContext(part)
			c.flights.Go(func() { _ = c.contain(ctx, func() error { c.fly(ctx, part); return nil }) })
		}
	}
}

// parts are the flights that a load makes: on a cluster one to each node, so that a node that hangs holds up nobody whose company is elsewhere.
func (c *Committer) parts(load []*Call) [][]*Call {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return [][]*Call{load}
	}
	var parts [][]*Call
	at := make(map[*redis.Client]int)
	for _, call := range load {
		node, _ := cluster.MasterForKey(context.WithoutCancel(call.ctx), call.Key) // nil: the cluster has none just now, as the flight will tell
		i, known := at[node]
		if !known {
			i, at[node] = len(parts), len(parts)
			parts = append(parts, nil)
		}
		parts[i] = append(parts[i], call)
	}
	return parts
}

// late lets go what has waited too long for a flight under way.
func (c *Committer) late() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm = nil
	c.next()
	return nil
}

// load takes out of those that wait what goes with the next flight. The caller holds the lock.
func (c *Committer) load() []*Call {
	var load []*Call
	size, n := 0, 0
	for n < len(c.waiting) {
		call := c.waiting[n]
		if len(load) > 0 && size+call.size() > mostBytes {
			break
		}
		n++
		if call.ctx.Err() != nil { // nobody waits for it, and nothing of it was sent
			call.err = call.ctx.Err()
			close(call.done)
			continue
		}
		size += call.size()
		call.sent = true
		load = append(load, call)
	}
	c.waiting = append([]*Call(nil), c.waiting[n:]...)
	return load
}

// fly makes the calls of a flight, answers them, and lets the next one go.
func (c *Committer) fly(ctx context.Context, load []*Call) {
	err := c.contain(ctx, func() error { c.run(ctx, c.groups(ctx, load)); return nil })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, call := range load {
		if call.answer == nil && call.err == nil {
			call.err = err
		}
		close(call.done)
	}
	c.flying--
	c.next() //nolint:contextcheck // a flight has what those know that wait for it
}

// A group is what one run of a script does.
type group struct {
	script     *redis.Script
	keys       []string
	args       []any
	calls      []*Call
	deliveries int // of the calls together
	cmd        *redis.Cmd
	err        error // too few replicas have what it wrote
}

// groups are a flight's runs: each of one script and one key, in the order of the calls.
func (c *Committer) groups(ctx context.Context, load []*Call) []*group {
	type name struct {
		script *redis.Script
		key    string
	}
	var all []*group
	open := make(map[name]*group)
	for _, call := range load {
		name := name{call.Script, call.Key}
		g := open[name]
		if g == nil || len(g.calls) == mostCalls || g.deliveries+call.Deliveries > mostDeliveries {
			g = &group{script: call.Script, keys: declared(c.rdb, call.Key), args: []any{c.settings(ctx, call.Key)}}
			open[name] = g
			all = append(all, g)
		}
		g.add(call)
	}
	return all
}

// add has a group make one more call.
func (g *group) add(call *Call) {
	g.args = append(append(g.args, len(call.Args)), call.Args...)
	g.calls = append(g.calls, call)
	g.deliveries += call.Deliveries
}

// fail gives all calls of a group an error.
func (g *group) fail(err error) {
	for _, call := range g.calls {
		call.answer, call.err = nil, err
	}
}

// run makes the calls of the groups. Calls that find their company asleep are made again once it is woken.
func (c *Committer) run(ctx context.Context, all []*group) {
	for range registry.WakeTries {
		c.try(ctx, all)
		if all = c.woken(ctx, all); len(all) == 0 {
			return
		}
	}
	for _, g := range all {
		g.fail(registry.ErrRestless)
	}
}

// woken wakes the companies that were found asleep, and returns what is to be done for them again, in its order.
func (c *Committer) woken(ctx context.Context, all []*group) (again []*group) {
	leaves := make(map[string]string) // by key
	for _, g := range all {
		rest := &group{script: g.script, keys: g.keys}
		var nap registry.Nap
		for _, call := range g.calls {
			if n, asleep := registry.ReadNap(call.answer); asleep {
				nap = n
				rest.add(call)
				call.answer, call.err = nil, nil
			}
		}
		if len(rest.calls) == 0 {
			continue
		}
		may, ok := leaves[g.keys[0]]
		if !ok {
			var err error
			if may, err = c.wake(ctx, companyOf(g.keys[0]), nap); err != nil {
				rest.fail(err)
				continue
			}
			leaves[g.keys[0]] = may
		}
		rest.args = append([]any{leave(c.settings(ctx, g.keys[0]), may)}, rest.args...)
		again = append(again, rest)
	}
	return again
}

// leave is a run's settings with the leave to wake its company, if there is one. What time it is stands last.
func leave(settings, may string) string {
	if may == "" {
		return settings
	}
	rules, clock, told := strings.Cut(settings, "@")
	if told {
		clock = " @" + clock
	}
	return strings.TrimSuffix(rules, " ") + lua.Awake + may + clock
}

// companyOf is the company of a script's key.
func companyOf(key string) string {
	company, _, _ := strings.Cut(strings.TrimPrefix(key, "{"), "}")
	return company
}

// try sends the groups in one round trip, and again those whose script Redis did not know.
func (c *Committer) try(ctx context.Context, all []*group) {
	c.send(ctx, all, (*redis.Script).EvalSha)
	known := func(g *group) bool { return !redis.HasErrorPrefix(g.cmd.Err(), "NOSCRIPT") }
	if unknown := slices.DeleteFunc(slices.Clone(all), known); len(unknown) > 0 {
		c.send(ctx, unknown, (*redis.Script).Eval)
	}
	for _, g := range all {
		g.settle()
	}
}

type eval = func(s *redis.Script, ctx context.Context, rdb redis.Scripter, keys []string, args ...any) *redis.Cmd

// send runs each group's script. A group has an error of its own if too few replicas have what it wrote.
func (c *Committer) send(ctx context.Context, all []*group, how eval) {
	if len(all) == 1 && c.replicas == 0 {
		all[0].run(ctx, c.rdb, how)
		return
	}
	var waited *redis.IntCmd
	_, cluster := c.rdb.(*redis.ClusterClient)
	ctx, nodes := confirming(ctx, c.replicas)
	_, _ = c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, g := range all {
			g.run(ctx, p, how)
		}
		if c.replicas > 0 && !cluster { // on the connection that wrote
			waited = wait(ctx, c.replicas)
			return p.Process(ctx, waited)
		}
		return nil
	})
	for _, g := range all {
		switch {
		case c.replicas == 0:
		case cluster:
			g.err = nodes.err(g.cmd)
		default:
			g.err = confirmed(waited, c.replicas)
		}
	}
}

// run has the group's script run.
func (g *group) run(ctx context.Context, rdb redis.Scripter, how eval) {
	g.cmd = how(g.script, ctx, rdb, g.keys, g.args...)
}

// settle hands the run's answers to its calls.
func (g *group) settle() {
	v, err := g.cmd.Result()
	answers, _ := v.([]any)
	switch {
	case err != nil:
	case len(answers) != len(g.calls):
		err = fmt.Errorf("%d calls have %d answers: %w", len(g.calls), len(answers), ErrBadAnswer)
	}
	for i, call := range g.calls {
		if call.err = err; err != nil {
			continue
		}
		if call.answer, call.err = readAnswer(answers[i]); call.err == nil {
			call.err = g.err
		}
	}
}

// readAnswer reads what a step answered, or what Redis said against it.
func readAnswer(v any) ([]string, error) {
	answer := Strings(v)
	switch {
	case len(answer) == 0:
		return nil, ErrBadAnswer
	case answer[0] == "error":
		return nil, errors.New("a step failed in Redis: " + strings.Join(answer[1:], " "))
	}
	return answer, nil
}

// ErrBadAnswer says that Redis's answer is none that our scripts give.
var ErrBadAnswer = errors.New("the answer of a script cannot be read")

type callersKey struct{}

// flightContext is a flight's context: it has what the first of its callers knows, and ends with none of them.
func flightContext(load []*Call) context.Context {
	callers := make([]context.Context, len(load))
	for i, call := range load {
		callers[i] = call.ctx
	}
	return context.WithValue(context.WithoutCancel(load[0].ctx), callersKey{}, callers)
}

// Callers are the contexts of those for whom a command goes to Redis, where it goes for several: a hook that bounds how long a caller waits finds
// them here.
func Callers(ctx context.Context) []context.Context {
	callers, _ := ctx.Value(callersKey{}).([]context.Context)
	return callers
}

// Strings reads a script's flat answer.
func Strings(v any) []string {
	items, _ := v.([]any)
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = String(item)
	}
	return out
}

// String reads a string or a number of a script's answer; what is neither is empty.
func String(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	default:
		return ""
	}
}
