package lanes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// Channel is where processes tell each other of lanes that have work. A message is who says so, and the lane, with a space between.
	Channel = "ringback:work"
	// movedLanes stands for the lane where there are more, or fewer, than before. Older programs know no lane of that name.
	movedLanes = "*"

	// DefaultLook is how often an idle lane is looked at of which nobody told: who enqueues may be of an older version, or asynq's own.
	DefaultLook = 250 * time.Millisecond
	// deafLook is how often it is looked at while other processes cannot be heard.
	deafLook = 10 * time.Millisecond
	// tellEvery is how often other processes are told of the same lane, at most.
	tellEvery = 5 * time.Millisecond
	// tellWithin is how long telling them may take: they look by themselves.
	tellWithin = time.Second
	// hearAgain is how long a process waits that could not hear the others before it tries again.
	hearAgain = time.Second
	// forwardEvery is how often a lane's retries are looked through for those whose time has come, however many servers of the process do.
	forwardEvery = 450 * time.Millisecond
)

// A bell is rung by who brings a task to a lane, and heard by the servers that wait for one, in all processes.
//
// asynq's servers ask Redis for a task again and again. Through [Bell.Client] they ask once, and when a lane has none, the question is not asked
// again, and not answered, until the bell rings or it is time to look. Nothing hangs on its being heard but time.
type bell struct {
	rdb     redis.UniversalClient
	log     *slog.Logger
	contain func(ctx context.Context, do func() error) error

	id      string           // names this one among the Bells of all processes
	lanes   map[string]*lane // by name
	telling sync.WaitGroup
	deaf    atomic.Bool               // other processes cannot be heard
	moved   func(ctx context.Context) // another process says that there are more lanes, or fewer; nil: nobody minds
}

// A lane is what a process knows of one.
type lane struct {
	name string

	mu        sync.Mutex
	rings     uint64               // how often the bell rang
	rung      chan struct{}        // closed by the next ring
	empty     bool                 // a look since the last ring found nothing
	looked    time.Time            // when the last look began that found nothing
	looking   bool                 // a server looks, since it was time to
	forwarded map[string]time.Time // by key, when its retries, or what is scheduled, were looked through last
	told      bool                 // other processes are being told, and will be told once more if news is true then
	news      bool
}

// newBell makes a Bell for lanes. contain runs do and survives its panic.
func newBell(rdb redis.UniversalClient, names []string, log *slog.Logger, contain func(ctx context.Context, do func() error) error) *bell {
	b := &bell{id: rand.Text()[:10], rdb: rdb, log: log, contain: contain, lanes: make(map[string]*lane, len(names))}
	for _, name := range names {
		b.lanes[name] = &lane{name: name, rung: make(chan struct{}), forwarded: make(map[string]time.Time)}
	}
	b.deaf.Store(true)
	return b
}

// Ring tells this process and all others that a lane has work. It does not wait, and goes on when ctx ends.
func (b *bell) Ring(ctx context.Context, name string) {
	if l := b.lanes[name]; l != nil {
		l.ring()
		b.tell(context.WithoutCancel(ctx), l)
	}
}

func (l *lane) ring() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rings++
	l.empty = false
	close(l.rung)
	l.rung = make(chan struct{})
}

// tell tells the other processes: at once, or as soon as it is not too often.
func (b *bell) tell(ctx context.Context, l *lane) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.news = true
	if l.told {
		return
	}
	l.told = true
	b.telling.Go(func() {
		for l.takeNews() {
			_ = b.contain(ctx, func() error {
				ctx, cancel := context.WithTimeout(ctx, tellWithin)
				defer cancel()
				return b.rdb.Publish(ctx, Channel, b.id+" "+l.name).Err() // if it fails, they look by themselves
			})
			time.Sleep(tellEvery)
		}
	})
}

// takeNews reports whether there is something to tell; if not, nobody is telling any more.
func (l *lane) takeNews() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told, l.news = l.news, false
	return l.told
}

// Close waits for the last to be told.
func (b *bell) Close() { b.telling.Wait() }

// Listen hears the other processes until ctx ends.
func (b *bell) Listen(ctx context.Context) {
	for said := false; ctx.Err() == nil; {
		err := b.contain(ctx, func() error { return b.hear(ctx) })
		if heard := !b.deaf.Swap(true); (heard || !said) && ctx.Err() == nil {
			b.log.WarnContext(ctx, "what other processes enqueue is not heard of: idle lanes are looked at more often until it is", "channel", Channel, "error", err)
			said = true
		}
		select {
		case <-time.After(hearAgain):
		case <-ctx.Done():
		}
	}
}

// hear hears them until that fails.
func (b *bell) hear(ctx context.Context) error {
	sub := b.rdb.Subscribe(ctx, Channel)
	defer func() { _ = sub.Close() }()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })() // which its reading does not see
	if _, err := sub.Receive(ctx); err != nil {
		return err
	}
	if b.deaf.Swap(false) {
		for _, l := range b.lanes { // what was told before was not heard
			l.ring()
		}
	}
	for {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil {
			return err
		}
		who, name, _ := strings.Cut(m.Payload, " ")
		if l := b.lanes[name]; l != nil && who != b.id {
			l.ring()
		} else if name == movedLanes && b.moved != nil {
			b.moved(ctx)
		}
	}
}

// News tells all processes that there are more lanes, or fewer. Whoever does not hear it finds out.
func (b *bell) News(ctx context.Context) error {
	return b.rdb.Publish(ctx, Channel, b.id+" "+movedLanes).Err()
}

// Client is for the asynq servers of a lane: they wait by it.
func (b *bell) Client(p patience) redis.UniversalClient {
	return &patient{UniversalClient: b.rdb, bell: b, patience: p}
}

// A patience says for what the servers of a lane wait before they ask for a task.
type patience struct {
	look   time.Duration                  // how often they look at it while it is idle and nobody told of it
	stop   <-chan struct{}                // once it is closed they get no task any more, and nobody waits
	full   func() <-chan struct{}         // nil as long as the process can do with tasks, else what is closed when it can again
	places *places                        // of the lane: each task takes one
	halts  func(ctx context.Context) bool // nothing goes out, whatever asynq would give
}

// patient is a client whose question for a task waits until there may be one.
type patient struct {
	redis.UniversalClient
	bell *bell
	patience
}

// EvalSha is how asynq runs its scripts. Two are known by their keys: the one that takes a task from a lane, and the one that moves what is due
// back into it. Whatever else there is runs as ever; so would these if asynq changed them, and idle lanes would be asked as often as before.
func (p *patient) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return p.script(ctx, keys, args, func() *redis.Cmd { return p.UniversalClient.EvalSha(ctx, sha, keys, args...) })
}

// Eval is how asynq runs a script that Redis does not have yet, or no longer: the first time, and after Redis was started anew. EvalSha came before, and gave
// back the place that it took.
func (p *patient) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return p.script(ctx, keys, args, func() *redis.Cmd { return p.UniversalClient.Eval(ctx, script, keys, args...) })
}

// script runs a script of asynq's when its time has come.
func (p *patient) script(ctx context.Context, keys []string, args []any, run func() *redis.Cmd) *redis.Cmd {
	if l := p.bell.laneOf(keys, ":pending", ":paused", ":active", ":lease"); l != nil {
		return p.take(ctx, l, keys[0], run)
	}
	l := p.bell.laneOf(keys, ":retry", ":pending")
	if l == nil {
		l = p.bell.laneOf(keys, ":scheduled", ":pending")
	}
	if l != nil {
		return p.forward(ctx, l, keys[0], args, run)
	}
	return run()
}

// laneOf is the lane whose keys these are, in this order; nil if they are not.
func (b *bell) laneOf(keys []string, ends ...string) *lane {
	if len(keys) != len(ends) {
		return nil
	}
	var name string
	for i, key := range keys {
		rest, isAsynqs := strings.CutPrefix(key, "asynq:{")
		inner, isThis := strings.CutSuffix(rest, "}"+ends[i])
		if !isAsynqs || !isThis || i > 0 && inner != name {
			return nil
		}
		name = inner
	}
	return b.lanes[name]
}

// take asks for a task once there may be one.
func (p *patient) take(ctx context.Context, l *lane, pending string, run func() *redis.Cmd) *redis.Cmd {
	p.untilThereIsRoom()
	rings, mine := p.wait(l)
	began, cmd := time.Now(), answered(ctx, nil, redis.Nil)
	if p.untilThereIsAPlace() {
		// Who looks because it is time to asks for less first, for most often there is nothing.
		if n, err := p.waiting(ctx, pending, mine); (n > 0 || err != nil) && !p.halts(ctx) {
			cmd = run()
		}
		if cmd.Err() != nil {
			p.places.giveBack()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if mine {
		l.looking = false
	}
	if l.empty = errors.Is(cmd.Err(), redis.Nil) && l.rings == rings; l.empty {
		l.looked = began
	}
	return cmd
}

// untilThereIsRoom waits as long as the process has enough to do, or of this lane.
func (p *patient) untilThereIsRoom() {
	for {
		room := p.full()
		if room == nil {
			room = p.places.full()
		}
		if room == nil {
			return
		}
		select {
		case <-room:
		case <-time.After(lostAfter): // a place whose task was lost on its way comes back by a look
		case <-p.stop:
			return
		}
	}
}

// untilThereIsAPlace takes one of the lane's places, once there is one, and reports false at the end.
func (p *patient) untilThereIsAPlace() bool {
	for {
		freed := p.places.take()
		if freed == nil {
			break
		}
		select {
		case <-freed:
		case <-time.After(lostAfter):
		case <-p.stop:
			return false
		}
	}
	select {
	case <-p.stop:
		p.places.giveBack()
		return false
	default:
		return true
	}
}

// waiting is how many tasks are in a lane, where that is asked for; else there may be one.
func (p *patient) waiting(ctx context.Context, pending string, ask bool) (int64, error) {
	if !ask {
		return 1, nil
	}
	return p.LLen(ctx, pending).Result()
}

// wait returns when there may be a task in the lane: nobody has looked since the bell rang last, or it is time to look, which is for one of the
// lane's servers, and mine then. rings are those that were heard.
func (p *patient) wait(l *lane) (rings uint64, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.empty {
		left := time.Until(l.looked.Add(p.every()))
		if left <= 0 && !l.looking {
			l.looking = true
			return l.rings, true
		}
		if !p.sleep(l, max(left, deafLook)) {
			break
		}
	}
	return l.rings, false
}

// sleep waits for the next ring, without the lane's lock. It reports whether there is something to wait for.
func (p *patient) sleep(l *lane, longest time.Duration) bool {
	rung := l.rung
	l.mu.Unlock()
	defer l.mu.Lock()
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-rung:
	case <-timer.C:
	case <-p.stop:
		return false
	}
	return true
}

func (p *patient) every() time.Duration {
	if p.bell.deaf.Load() {
		return min(p.look, deafLook)
	}
	return p.look
}

// forward moves what is due into the lane, unless another server of this process has just done so, and rings where something was.
func (p *patient) forward(ctx context.Context, l *lane, from string, args []any, run func() *redis.Cmd) *redis.Cmd {
	now := time.Now()
	l.mu.Lock()
	recent := now.Sub(l.forwarded[from]) < forwardEvery
	if !recent {
		l.forwarded[from] = now
	}
	l.mu.Unlock()
	if recent {
		return answered(ctx, int64(0), nil)
	}
	if due, err := p.ZCount(ctx, from, "-inf", fmt.Sprint(args[0])).Result(); err == nil && due == 0 { // asynq gives its script the time first
		return answered(ctx, int64(0), nil)
	}
	cmd := run()
	if moved, err := cmd.Int64(); err != nil || moved > 0 {
		l.mu.Lock()
		delete(l.forwarded, from) // there may be more
		l.mu.Unlock()
		if moved > 0 {
			p.bell.Ring(ctx, l.name)
		}
	}
	return cmd
}

// answered is a command that was not sent.
func answered(ctx context.Context, value any, err error) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(value)
	cmd.SetErr(err)
	return cmd
}
