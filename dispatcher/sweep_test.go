package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// Every command that a step sends to Redis, failed or hung, one at a time. Whoever sent it lives, nothing is lost, and at most one delivery
// arrives twice.

// A way is what happens to a command.
type way string

const (
	refused way = "refused" // it fails, and Redis has not heard of it
	lost    way = "lost"    // Redis does it, and the answer is lost
	hung    way = "hung"    // Redis stands still: the caller gives up after 2 s, and then Redis does it all the same
)

// hangs is how long a command may take (cmd/ringback's redisTimeout).
const hangs = 2 * time.Second

// A saboteur is a go-redis hook that counts commands, a pipeline as one, and breaks the n-th.
type saboteur struct {
	way  way
	n    int // 0: none
	late sync.WaitGroup

	mu   sync.Mutex
	seen []string
	runs []string // digests of scripts
}

func (s *saboteur) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *saboteur) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := s.breaks(ctx, []redis.Cmder{cmd}, func(ctx context.Context, cmds []redis.Cmder) error { return next(ctx, cmds[0]) })
		if err != nil && cmd.Err() == nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (s *saboteur) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return s.breaks(ctx, cmds, next) }
}

// books are the commands so far, and the scripts.
func (s *saboteur) books() (seen, runs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen), slices.Clone(s.runs)
}

func asksTheTime(cmd redis.Cmder) bool {
	return cmd.Name() == "time" || slices.ContainsFunc(cmd.Args(), func(arg any) bool { return arg == any(steady.Key) })
}

func (s *saboteur) breaks(ctx context.Context, cmds []redis.Cmder, next func(context.Context, []redis.Cmder) error) error {
	switch cmds[0].Name() {
	case "hello", "client": // a new connection's greeting
		return next(ctx, cmds)
	case "publish": // a word to other processes, without which they look by themselves: TestWithoutTheChannelWorkersLook
		return next(ctx, cmds)
	}
	if asksTheTime(cmds[0]) { // now and then, beside a step: package steady's own tests have what comes of it
		return next(ctx, cmds)
	}
	s.mu.Lock()
	s.seen = append(s.seen, cmds[0].Name())
	for _, cmd := range cmds {
		if cmd.Name() == "evalsha" {
			s.runs = append(s.runs, cmd.Args()[1].(string))
		}
	}
	mine := len(s.seen) == s.n
	s.mu.Unlock()
	if !mine {
		return next(ctx, cmds)
	}
	err := errFault
	switch s.way {
	case lost:
		_ = next(ctx, cmds)
	case hung:
		s.later(ctx, cmds, next)
		err = fmt.Errorf("read: %w", os.ErrDeadlineExceeded)
		select {
		case <-time.After(hangs):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
	return err
}

// later does the commands after their caller has given up, but for a transaction, which ends with its connection.
func (s *saboteur) later(ctx context.Context, cmds []redis.Cmder, next func(context.Context, []redis.Cmder) error) {
	if cmds[0].Name() == "multi" {
		return
	}
	var again []redis.Cmder
	for _, cmd := range cmds {
		again = append(again, redis.NewCmd(ctx, slices.Clone(cmd.Args())...))
	}
	s.late.Go(func() {
		<-time.After(hangs + 500*time.Millisecond)
		_ = next(context.WithoutCancel(ctx), again)
	})
}

// neighbour is a second process on the house's Redis, whose commands the saboteur breaks. It runs no servers and no rounds of its own.
func (h *house) neighbour(s *saboteur) *house {
	h.t.Helper()
	rdb := redis.NewClient(h.rdb.Options())
	h.t.Cleanup(func() { _ = rdb.Close() })
	second := &house{t: h.t, rdb: rdb, keyset: h.keyset, cfg: h.cfg, egress: h.egress, partner: h.partner, acked: h.acked, poll: h.poll}
	var err error
	second.registry, err = registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(h.t)})
	h.must(err)
	second.cfg.Redis, second.cfg.Registry = rdb, second.registry
	second.client, err = New(second.cfg)
	h.must(err)
	h.t.Cleanup(func() { h.must(second.client.Close()) })
	h.must(second.registry.Refresh(h.t.Context(), acme, -1)) // it has worked for a while
	rdb.AddHook(s)
	return second
}

// warm has Redis know the scripts that a step runs (nil: all), and asynq's: else the number of commands would depend on who comes first.
func (h *house) warm(runs []string) {
	h.t.Helper()
	for _, s := range []*redis.Script{
		acceptScript, beginScript, finishScript, overdueScript, reviveScript, pumpScript, purgeScript, easeScript, replayScript, pageScript,
		trimScript, sweepScript, pruneScript, eraseScript, erasedScript, startReplayScript,
	} {
		if runs == nil || slices.Contains(runs, s.Hash()) {
			h.must(s.Load(h.t.Context(), h.rdb).Err())
		}
	}
	_, err := asynq.NewClientFromRedisClient(h.rdb).Enqueue(asynq.NewTask("warm", nil), asynq.TaskID("warm"), asynq.Queue(queues[0]))
	h.must(err)
	_, err = h.inspector().GetTaskInfo(queues[0], "warm")
	h.must(err)
	h.must(h.inspector().DeleteTask(queues[0], "warm"))
}

// A step is what a process does when a command breaks.
type step struct {
	name    string
	options []houseOption
	before  func(h *house)
	do      func(h *house) error
	again   bool           // whoever asked for it hears of the failure, and asks again
	then    func(h *house) // while the house settles
	after   func(h *house) // what must be true once it has
}

func steps() []step {
	task := func(h *house, id string) error {
		return h.worker().servers.Process(h.t.Context(), laneOf(ledger.Ref{Company: acme, Event: id, Callback: 1}), taskOf(h.t, ledger.Ref{Company: acme, Event: id, Callback: 1}, 1))
	}
	registers := func(more string) func(h *house) { return func(h *house) { h.register("payment_proof", more) } }
	dies := func(h *house) string {
		h.partner.answers(answering(400, 204))
		h.register("payment_proof", `"retry": {"max_attempts": 1}`)
		stop := h.work()
		defer stop()
		return h.await(h.send(proof("p-1")).Deliveries[0].DeliveryID, ledger.Dead, time.Minute).DeliveryID
	}
	holds := func(h *house) {
		cb := h.register("payment_proof", "")
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		h.sendAll(eventIDs("p-", 3))
	}
	return []step{
		{name: "accept", before: registers(""), again: true, do: func(h *house) error {
			_, err := h.client.Send(h.t.Context(), proof("p-1"))
			if err == nil {
				h.ack(proof("p-1"))
			}
			return err
		}},
		{
			name: "begin, finish", before: func(h *house) { h.register("payment_proof", `"timeout": "1s"`); h.send(proof("p-1")) },
			do: func(h *house) error { return task(h, "p-1") },
		},
		{name: "begin, finish a failure", before: func(h *house) {
			h.partner.answers(answering(503, 204))
			h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "1s"}`)
			h.send(proof("p-1"))
		}, do: func(h *house) error { return task(h, "p-1") }},
		{name: "finish, go on with the next", options: []houseOption{withWindow(1)}, before: func(h *house) {
			h.register("payment_proof", `"timeout": "1s"`)
			h.sendAll(eventIDs("p-", 2))
		}, do: func(h *house) error { return task(h, "p-0") }},
		{name: "reconcile", before: func(h *house) {
			cb := h.register("payment_proof", `"timeout": "1s"`)
			h.sendAll(eventIDs("p-", 2))
			a, err := h.worker().begin(h.t.Context(), ticket("p-0", cb.ID, 1), true, 0) // an owner who is gone
			h.must(err)
			h.client.lanes.Forget(h.t.Context(), ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}, 1) // and a task that is lost
			if a == nil {
				h.t.Fatal("nothing began")
			}
			h.overdue()
		}, do: func(h *house) error { h.worker().round(h.t.Context(), true); return nil }},
		{name: "pump", before: holds, again: true, do: func(h *house) error {
			_, err := h.client.Resume(h.t.Context(), acme, 1, false)
			return err
		}},
		{name: "skip what is held", before: holds, again: true, do: func(h *house) error {
			_, err := h.client.Resume(h.t.Context(), acme, 1, true)
			return err
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Cancelled, time.Second)
		}},
		{name: "cancel", before: holds, again: true, do: func(h *house) error {
			_, err := h.client.Cancel(h.t.Context(), acme, ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID())
			if _, over := errors.AsType[*StateError](err); over { // a repeat finds it cancelled
				return nil
			}
			return err
		}, then: func(h *house) {
			_, err := h.client.Resume(h.t.Context(), acme, 1, false)
			h.must(err)
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Cancelled, time.Second)
		}},
		{name: "pause egress", before: registers(""), again: true, do: func(h *house) error {
			_, err := h.client.PauseEgress(h.t.Context())
			return err
		}, then: func(h *house) {
			h.send(proof("p-1"))
			<-time.After(10 * time.Second)
			if n := len(h.partner.requests()); n != 0 {
				h.t.Errorf("%d requests went out", n)
			}
			_, err := h.client.ResumeEgress(h.t.Context())
			h.must(err)
		}},
		{name: "resume egress", before: func(h *house) {
			registers("")(h)
			_, err := h.client.PauseEgress(h.t.Context())
			h.must(err)
			h.send(proof("p-1"))
		}, again: true, do: func(h *house) error {
			_, err := h.client.ResumeEgress(h.t.Context())
			return err
		}},
		{name: "ask", before: func(h *house) { h.register(verify, "") }, do: func(h *house) error {
			_, err := h.client.Ask(h.t.Context(), question())
			return err
		}},
		{name: "replay", before: func(h *house) { dies(h) }, again: true, do: func(h *house) error {
			_, err := h.client.Replay(h.t.Context(), acme, ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID())
			if _, on := errors.AsType[*StateError](err); on { // a repeat finds it on its way
				return nil
			}
			return err
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Delivered, time.Second)
		}},
		{name: "hasten", before: func(h *house) {
			h.partner.answers(answering(503, 204))
			h.register("payment_proof", `"retry": {"initial_interval": "1m"}`)
			stop := h.work()
			defer stop()
			h.await(h.send(proof("p-1")).Deliveries[0].DeliveryID, ledger.Retrying, time.Minute)
		}, again: true, do: func(h *house) error {
			_, err := h.client.Hasten(h.t.Context(), acme, ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID())
			if _, over := errors.AsType[*StateError](err); over { // a repeat finds it delivered
				return nil
			}
			return err
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Delivered, time.Second)
		}},
		{name: "replay many", before: func(h *house) { dies(h) }, again: true, do: func(h *house) error {
			_, err := h.client.ReplayCallback(h.t.Context(), acme, 1, ReplayQuery{})
			return errors.Join(err, h.client.sweep(h.t.Context(), acme, time.Now().Add(sweepFor)))
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Delivered, time.Second)
		}},
		{name: "replay over companies", before: func(h *house) {
			dies(h)
			_, err := h.client.ReplayAll(h.t.Context(), "", BulkQuery{})
			h.must(err)
		}, again: true, do: func(h *house) error {
			err := h.client.goOnBulks(h.t.Context(), func(string) bool { return true }, soon())
			return errors.Join(err, h.client.sweep(h.t.Context(), acme, time.Now().Add(sweepFor)))
		}, after: func(h *house) {
			h.await(ledger.Ref{Company: acme, Event: "p-1", Callback: 1}.DeliveryID(), ledger.Delivered, time.Second)
		}},
		{name: "prune", options: []houseOption{func(c *Config) { c.DeadRetention = 10 * time.Second }}, before: func(h *house) {
			dies(h)
			<-time.After(15 * time.Second)
			h.must(h.client.prune(h.t.Context(), acme)) // announced
			<-time.After(2 * time.Second)
		}, do: func(h *house) error { return h.client.prune(h.t.Context(), acme) }, after: func(h *house) {
			h.must(h.client.prune(h.t.Context(), acme))
			if n := h.rdb.ZCard(h.t.Context(), ledger.Key(acme, "dead")).Val(); n != 0 {
				h.t.Errorf("%d are left in the book", n)
			}
			if ttl := h.rdb.TTL(h.t.Context(), ledger.EventKey(acme, "p-1")).Val(); ttl <= 0 {
				h.t.Errorf("the pruned one's event does not age: %s", ttl)
			}
			h.acked = nil // what is pruned is dead, and counted nowhere: not check's to know
			h.partner.forget()
		}},
		{name: "erase an event", before: holds, again: true, do: func(h *house) error {
			_, err := h.client.EraseEvent(h.t.Context(), acme, "p-1", "")
			if errors.Is(err, ErrNotFound) {
				err = nil
			}
			if err == nil {
				h.forget("p-1")
			}
			return err
		}, then: func(h *house) {
			_, err := h.client.Event(h.t.Context(), acme, "p-1")
			if !errors.Is(err, ErrNotFound) {
				h.t.Errorf("the erased event: %v", err)
			}
			_, err = h.client.Resume(h.t.Context(), acme, 1, false)
			h.must(err)
		}},
		{name: "erase a company", before: holds, again: true, do: func(h *house) error {
			said, err := h.client.EraseCompany(h.t.Context(), registry.NewKeys(h.rdb), acme, "")
			switch {
			case errors.Is(err, ErrNotFound):
				err = nil
			case err == nil && !said.Done:
				err = errors.New("not done")
			}
			if err == nil {
				h.forget(eventIDs("p-", 3)...)
			}
			return err
		}, after: func(h *house) {
			for _, key := range h.keys() {
				name, ours := strings.CutPrefix(key, "{"+acme+"}:")
				if ours && !slices.Contains([]string{"ver", "cbver", "cbseq"}, name) { // what keeps numbers from coming twice
					h.t.Errorf("%s is left of the company", key)
				}
			}
		}},
	}
}

// forget takes events out of the books, for they were erased.
func (h *house) forget(ids ...string) {
	h.ackedMu.Lock()
	defer h.ackedMu.Unlock()
	for _, id := range ids {
		delete(h.acked, id)
	}
}

// forget takes everything out of the books.
func (p *partner) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = nil
}

// try runs a step while its n-th command breaks (0: none does), lets the house settle, and checks everything. It returns the step's commands,
// and which scripts it runs: given those, no others are loaded beforehand.
func (s step) try(t *testing.T, n int, way way, scripts []string) (commands, runs []string) {
	t.Helper()
	inBubble(t, func(h *house) {
		h.warm(scripts)
		s.before(h)
		saboteur := &saboteur{way: way, n: n}
		other := h.neighbour(saboteur)
		err := s.do(other)
		commands, runs = saboteur.books()
		// Of enqueues at the same time each may find asynq's script missing, or the first only: each of them is a command more, or not.
		if n > len(commands)+2 {
			h.t.Errorf("there are %d commands only", len(commands))
		}
		for tries := 0; s.again && err != nil && tries < 5; tries++ {
			<-time.After(time.Second)
			err = s.do(other)
		}
		if s.again && err != nil {
			h.t.Errorf("asked again and again, and still: %v", err)
		}
		saboteur.late.Wait()
		h.duplicates = 1
		stop := h.work()
		if s.then != nil {
			s.then(h)
		}
		h.awaitAll(2 * time.Minute)
		if s.after != nil {
			s.after(h)
		}
		h.check()
		h.awaitIdle(2 * time.Minute)
		stop()
	}, append([]houseOption{impatient}, s.options...)...)
	return commands, runs
}

// TestEveryCommandFailsOnce goes through all commands and all ways, each command of a step in a way of its own; with RINGBACK_SWEEP=full in
// all of them (make test-sweep).
func TestEveryCommandFailsOnce(t *testing.T) {
	ways := []way{refused, lost, hung}
	full := os.Getenv("RINGBACK_SWEEP") == "full"
	for i, s := range steps() {
		t.Run(s.name, func(t *testing.T) {
			commands, scripts := s.try(t, 0, refused, nil)
			runs := 0
			for n := 1; n <= len(commands); n++ {
				for j, way := range ways {
					if !full && j != (n+i)%len(ways) {
						continue
					}
					runs++
					t.Run(strconv.Itoa(n)+" "+commands[n-1]+" "+string(way), func(t *testing.T) { s.try(t, n, way, scripts) })
				}
			}
			t.Logf("%s: %d commands, %d runs: %s", s.name, len(commands), runs, strings.Join(commands, " "))
		})
	}
}
