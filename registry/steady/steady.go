// Package steady keeps an installation's time. Redis's clock is what all of its processes read, and it may step: somebody sets it, or another machine's
// Redis takes over, whose clock is a different one. Then nothing that waits should wait longer for it, and nothing should age.
//
// The installation's time is Redis's and an offset, which is 0 until a clock steps. Each process follows that time by its own monotonic clock, which no step
// moves. If Redis's clock is suddenly elsewhere, one process writes the offset that makes up for it into Redis, and the others take it over. Scripts
// are told both (see [Clock.Tell]): so one that runs before anybody has noticed the step is not misled either.
//
// The offset goes back to 0 by a thousandth of the time that passes, for times are shown to people.
//
// # In Redis
//
//	ringback:clock  hash  the offset (ms) of each node: "" of a single one, host:port of a cluster's masters; absent: 0;
//	                      seen: the installation's time (ms), some seconds old. Whoever starts after all have ended goes on from there if
//	                      Redis's clock is behind it;
//	                      stepped:<node> when that node's clock stepped last (ms, the installation's time), and by:<node> how far (ms)
package steady

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Key is the hash that the processes of an installation share.
const Key = "ringback:clock"

const (
	// step is how far a node's clock may be off before it counts as stepped. What is less is followed.
	step = time.Second
	// drift is which part of the time since its last look a process's own clock may be off by.
	drift = 5000
	// every is how old a look may be until there is another one.
	every = time.Second
	// noted is how old the time that is written down may be.
	noted = 5 * time.Second
	// slew is which part of the time that passes an offset shrinks by.
	slew = 1000
	// lookFor is how long a look may take that somebody waits for.
	lookFor = time.Second

	seenField     = "seen"
	steppedPrefix = "stepped:"
	byPrefix      = "by:"
)

// A Clock is an installation's time as a process knows it. It is safe for concurrent use. A nil Clock knows nothing, and tells nothing.
type Clock struct {
	rdb redis.UniversalClient
	log *slog.Logger

	looking sync.Mutex // held by who looks
	looks   sync.WaitGroup

	mu      sync.Mutex
	base    time.Time // the time at anchor; zero: it is not known yet
	anchor  time.Time // by the process's clock
	looked  time.Time // the same, when a look went well
	tried   time.Time // when the last one began
	offsets map[string]time.Duration
	ahead   time.Duration // of this machine's clock over Redis's
	steps   int64
	closed  bool
}

// New makes a Clock. It asks Redis for nothing yet.
func New(rdb redis.UniversalClient, log *slog.Logger) *Clock {
	return &Clock{rdb: rdb, log: log, offsets: make(map[string]time.Duration)}
}

// Close waits for looks under way.
func (c *Clock) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.looks.Wait()
}

// now is the time; the caller holds the lock.
func (c *Clock) now() time.Time { return c.base.Add(time.Since(c.anchor)) }

// set makes it that time; the caller holds the lock.
func (c *Clock) set(t time.Time) { c.base, c.anchor = t, time.Now() }

// Now is the installation's time, or Redis's as long as the process does not know that.
//
// Errors: what Redis said.
func (c *Clock) Now(ctx context.Context) (time.Time, error) {
	if c.ready(ctx) != nil {
		return c.rdb.Time(ctx).Result()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(ctx)
	return c.now(), nil
}

// refresh has the clocks looked at if the last look is old; the caller holds the lock, and does not wait for it.
func (c *Clock) refresh(ctx context.Context) {
	if time.Since(c.tried) < every || c.closed {
		return
	}
	c.tried = time.Now()
	ctx = context.WithoutCancel(ctx)
	c.looks.Go(func() { c.lookAgain(ctx) })
}

// Tell is what a script on that key has to know: "@", the time (ms), a space, and the offset of the key's node (ms). It is empty as long as the
// process does not know the time. It looks again, without waiting for that, if the last look is old.
func (c *Clock) Tell(ctx context.Context, key string) string {
	if c == nil || c.ready(ctx) != nil {
		return ""
	}
	node := c.nodeOf(ctx, key)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh(ctx)
	return "@" + strconv.FormatInt(c.now().UnixMilli(), 10) + " " + strconv.FormatInt(c.offsets[node].Milliseconds(), 10)
}

// A State is how Redis's clock does.
type State struct {
	Offset time.Duration // of the installation's time over Redis's; of a cluster, the largest
	Ahead  time.Duration // of this machine's clock over Redis's
	Steps  int64         // of Redis's clock, that this process noticed
}

// Expect is the installation's time for who only looks: that of a node's clock with the node's offset, or what was written down, if that is later. wall
// is that clock.
//
// Errors: what Redis said.
func Expect(ctx context.Context, rdb redis.UniversalClient) (now, wall time.Time, err error) {
	readings, stored, err := readAll(ctx, rdb)
	if err != nil {
		return now, wall, err
	}
	wall = readings[0].at.Add(time.Since(readings[0].read))
	now = wall.Add(milliseconds(stored[readings[0].node]))
	if seen := time.UnixMilli(number(stored[seenField])); seen.After(now) {
		now = seen
	}
	return now, wall, nil
}

// A Node is what is written down of a node's clock.
type Node struct {
	Name    string        // host:port of a cluster's master; empty: there is one Redis
	Offset  time.Duration // of the installation's time over this clock
	Stepped time.Time     // when the clock stepped last, by the installation's time; zero: not known that it ever did
	By      time.Duration // how far that was
}

// Slew is how far an offset shrinks while so much time passes.
func Slew(passes time.Duration) time.Duration { return passes / slew }

// Nodes is what is written down of the clock of each node that answers, in the order of their names. It is for who only looks.
//
// Errors: what Redis said.
func Nodes(ctx context.Context, rdb redis.UniversalClient) ([]Node, error) {
	readings, stored, err := readAll(ctx, rdb)
	if err != nil {
		return nil, err
	}
	nodes := make([]Node, len(readings))
	for i, r := range readings {
		nodes[i] = Node{Name: r.node, Offset: milliseconds(stored[r.node]), By: milliseconds(stored[byPrefix+r.node])}
		if at := number(stored[steppedPrefix+r.node]); at > 0 {
			nodes[i].Stepped = time.UnixMilli(at).UTC()
		}
	}
	return nodes, nil
}

// readAll asks the nodes for their time, and reads what is written down.
func readAll(ctx context.Context, rdb redis.UniversalClient) ([]reading, map[string]string, error) {
	readings, err := (&Clock{rdb: rdb}).read(ctx)
	if err != nil {
		return nil, nil, err
	}
	stored, err := rdb.HGetAll(ctx, Key).Result()
	return readings, stored, err
}

// State tells it as of the last look.
func (c *Clock) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{Ahead: c.ahead, Steps: c.steps}
	for _, offset := range c.offsets {
		if offset.Abs() > s.Offset.Abs() {
			s.Offset = offset
		}
	}
	return s
}

// ready sees to it that the time is known.
func (c *Clock) ready(ctx context.Context) error {
	c.mu.Lock()
	known := !c.base.IsZero()
	c.mu.Unlock()
	if known {
		return nil
	}
	if !c.looking.TryLock() {
		return errUnknown
	}
	defer c.looking.Unlock()
	return c.look(ctx)
}

var errUnknown = errors.New("the installation's time is not known yet")

// lookAgain is Look for nobody who waits.
func (c *Clock) lookAgain(ctx context.Context) {
	defer func() { // a fault of ours ends this look, not the process
		if cause := recover(); cause != nil {
			c.log.ErrorContext(ctx, "panicked while it looked at Redis's clock; it goes on", "panic", cause, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	_ = c.Look(ctx) // it is repeated, and who needs Redis for more says what is wrong
}

// A reading is what a node says.
type reading struct {
	node string
	at   time.Time     // its clock
	read time.Time     // when that was, by the process's: halfway between question and answer
	half time.Duration // how long half of that took: the reading is not exacter
}

// Look compares the clocks of all nodes with the installation's time.
//
// Errors: what Redis said.
func (c *Clock) Look(ctx context.Context) error {
	c.looking.Lock()
	defer c.looking.Unlock()
	return c.look(ctx)
}

// look is Look for one at a time.
func (c *Clock) look(ctx context.Context) error {
	c.mu.Lock()
	c.tried = time.Now()
	c.mu.Unlock()
	readings, err := c.read(ctx)
	if err != nil {
		return err
	}
	stored, err := c.rdb.HGetAll(ctx, Key).Result()
	if _, cluster := c.rdb.(*redis.ClusterClient); err != nil && (!cluster || len(readings) == 0) {
		return err
	}
	c.begin(ctx, readings[0], stored)
	for i, r := range readings {
		if err == nil {
			c.learn(r.node, stored[r.node])
		}
		c.compare(ctx, r, i == 0)
	}
	c.mu.Lock()
	c.looked = time.Now()
	c.mu.Unlock()
	return c.writeDown(ctx, number(stored[seenField]))
}

// read asks the nodes for their time. It returns one of them at least, in the order of their names.
func (c *Clock) read(ctx context.Context) ([]reading, error) {
	ask := func(ctx context.Context, name string, node redis.Cmdable) (reading, error) {
		asked := time.Now()
		at, err := node.Time(ctx).Result()
		half := time.Since(asked) / 2
		return reading{name, at, asked.Add(half), half}, err
	}
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		r, err := ask(ctx, "", c.rdb)
		return []reading{r}, err
	}
	var mu sync.Mutex
	var all []reading
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		r, err := ask(ctx, node.Options().Addr, node)
		if err == nil {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, r)
		}
		return err
	})
	if len(all) > 0 {
		err = nil // the others are looked at when they are back
	} else if err == nil {
		err = errors.New("the cluster has no masters")
	}
	slices.SortFunc(all, func(a, b reading) int { return strings.Compare(a.node, b.node) })
	return all, err
}

// nodeOf is the name of the node that has a key.
func (c *Clock) nodeOf(ctx context.Context, key string) string {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return ""
	}
	node, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return ""
	}
	return node.Options().Addr
}

// begin sets the time of a process that does not know it yet, or whose own clock stood still: then others have written down a later one.
func (c *Clock) begin(ctx context.Context, r reading, stored map[string]string) {
	c.learn(r.node, stored[r.node])
	c.mu.Lock()
	there := r.at.Add(c.offsets[r.node] + time.Since(r.read))
	seen := time.UnixMilli(number(stored[seenField]))
	switch {
	case c.base.IsZero():
		c.set(there)
		if behind := seen.Sub(there); behind > step {
			c.set(seen)
		}
	case seen.Sub(c.now()) > step+c.loose():
		c.set(seen)
		if there.After(seen) {
			c.set(there)
		}
		c.log.WarnContext(ctx, "this process stood still for a while, by its own clock: it goes on by the installation's time")
	}
	c.mu.Unlock()
}

// loose is how far the process's own clock may be off since its last look; the caller holds the lock.
func (c *Clock) loose() time.Duration {
	if c.looked.IsZero() {
		return 0
	}
	return time.Since(c.looked) / drift
}

func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

func milliseconds(text string) time.Duration { return time.Duration(number(text)) * time.Millisecond }

// learn takes over a node's offset as it is in Redis.
func (c *Clock) learn(node, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if text == "" {
		delete(c.offsets, node)
	} else {
		c.offsets[node] = milliseconds(text)
	}
}

// compare looks whether a node's clock has stepped. If it has not, the time follows that of the first node.
func (c *Clock) compare(ctx context.Context, r reading, first bool) {
	c.mu.Lock()
	known := c.offsets[r.node]
	off := r.at.Add(known + time.Since(r.read)).Sub(c.now())
	stepped := off.Abs() > step+r.half+c.loose()
	if first && !stepped && off.Abs() > r.half {
		c.set(c.now().Add(off - r.half*time.Duration(sign(off))))
	}
	if first {
		c.ahead = r.read.Sub(r.at)
	}
	c.mu.Unlock()
	if stepped && r.half < step {
		c.makeUp(ctx, r, known, (known - off).Round(time.Millisecond))
	}
}

func sign(d time.Duration) int {
	if d < 0 {
		return -1
	}
	return 1
}

// claim writes the offset ARGV[3] of the node ARGV[1] if it is ARGV[2], and returns what it is then. If its clock stepped, ARGV[4] is when that was
// and ARGV[5] how far.
var claim = redis.NewScript(`
local found = redis.call('HGET', KEYS[1], ARGV[1]) or '0'
if found ~= ARGV[2] then return found end
if ARGV[3] == '0' then redis.call('HDEL', KEYS[1], ARGV[1]) else redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
if ARGV[4] then redis.call('HSET', KEYS[1], '` + steppedPrefix + `' .. ARGV[1], ARGV[4], '` + byPrefix + `' .. ARGV[1], ARGV[5]) end
return ARGV[3]`)

// makeUp has the installation's time go on where a node's clock stepped. If another process was first, its word counts.
func (c *Clock) makeUp(ctx context.Context, r reading, known, want time.Duration) {
	c.mu.Lock()
	now := c.now().UnixMilli()
	c.mu.Unlock()
	found, err := c.claim(ctx, r.node, known, want, now, (known - want).Milliseconds())
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	if err != nil {
		c.offsets[r.node] = want // it is written when Redis takes it
	} else {
		c.offsets[r.node] = found
	}
	if there := r.at.Add(c.offsets[r.node] + time.Since(r.read)); there.Sub(c.now()).Abs() > step+r.half {
		c.set(there)
	}
	c.log.WarnContext(ctx, "Redis's clock stepped: deliveries go on by the installation's time; let Redis's machines keep time (timedatectl set-ntp true)",
		"node", r.node, "step_seconds", (known - want).Seconds(), "offset_seconds", c.offsets[r.node].Seconds())
}

// claim runs the script. stepped are when the clock stepped and how far, if it did.
func (c *Clock) claim(ctx context.Context, node string, known, want time.Duration, stepped ...any) (time.Duration, error) {
	text, err := claim.Run(ctx, c.rdb, []string{Key}, append([]any{node, known.Milliseconds(), want.Milliseconds()}, stepped...)...).Text()
	return milliseconds(text), err
}

// writeDown writes the time down if what is there is old, and lets the offsets go a little towards 0: so one process does it at a time.
func (c *Clock) writeDown(ctx context.Context, seen int64) error {
	c.mu.Lock()
	now, offsets := c.now(), maps.Clone(c.offsets)
	c.mu.Unlock()
	passed := now.Sub(time.UnixMilli(seen))
	if seen != 0 && passed < noted {
		return nil
	}
	for node, known := range offsets {
		by := min(known.Abs(), Slew(min(passed, 2*noted))).Truncate(time.Millisecond) * time.Duration(sign(known))
		if seen == 0 || by == 0 {
			continue
		}
		found, err := c.claim(ctx, node, known, known-by)
		if err != nil {
			return err
		}
		c.mu.Lock()
		c.offsets[node] = found
		c.mu.Unlock()
	}
	return c.rdb.HSet(ctx, Key, seenField, now.UnixMilli()).Err()
}
