package dispatcher

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// Every write, failed and not stored, and failed but stored: a lost request and a lost reply.

// A fault is a go-redis hook that breaks some of the commands it is armed for.
type fault struct {
	matches func(redis.Cmder) bool
	stored  bool          // the command is carried out, its reply lost
	panics  bool          // instead
	slow    time.Duration // instead, it is carried out after this time
	left    atomic.Int64
}

var errFault = errors.New("injected: connection reset by peer")

func (f *fault) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (f *fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !f.matches(cmd) || f.left.Add(-1) < 0 {
			return next(ctx, cmd)
		}
		if f.panics {
			panic("injected")
		}
		if f.slow > 0 {
			time.Sleep(f.slow)
			return next(ctx, cmd)
		}
		if f.stored {
			if err := next(ctx, cmd); err != nil {
				return err // the script was not loaded yet: go-redis comes again
			}
		}
		cmd.SetErr(errFault)
		return errFault
	}
}

func isScript(s *redis.Script) func(redis.Cmder) bool {
	return func(cmd redis.Cmder) bool {
		args := cmd.Args()
		return len(args) > 1 && strings.HasPrefix(cmd.Name(), "eval") && args[1] == s.Hash()
	}
}

// isEnqueue recognises asynq's enqueue of one of our tasks: the two keys are the task and its lane's pending list.
func isEnqueue(cmd redis.Cmder) bool {
	args := cmd.Args()
	if len(args) < 5 || cmd.Name() != "evalsha" {
		return false
	}
	task, _ := args[3].(string)
	pending, _ := args[4].(string)
	return strings.Contains(task, ":t:"+ledger.DeliveryPrefix) && strings.HasSuffix(pending, ":pending")
}

// breaks arms a fault for the next n commands that match. The scripts are loaded first, so that a stored one is.
func (h *house) breaks(matches func(redis.Cmder) bool, stored bool, n int64) {
	h.t.Helper()
	for _, s := range []*redis.Script{acceptScript, beginScript, finishScript, splitScript} {
		h.must(s.Load(h.t.Context(), h.rdb).Err())
	}
	f := &fault{matches: matches, stored: stored}
	f.left.Store(n)
	h.rdb.AddHook(f)
}

func bothWays(t *testing.T, f func(t *testing.T, h *house, stored bool), options ...houseOption) {
	t.Parallel()
	for name, stored := range map[string]bool{"not stored": false, "stored": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newHouse(t, options...), stored)
		})
	}
}

func TestAcceptFails(t *testing.T) {
	bothWays(t, func(t *testing.T, h *house, stored bool) {
		h.register("payment_proof", "")
		h.work()
		h.breaks(isScript(acceptScript), stored, 1)
		if _, err := h.client.Send(t.Context(), proof("p-1")); !errors.Is(err, ErrUnavailable) || strings.Contains(err.Error(), "injected") {
			t.Errorf("the caller must learn that it failed, and no more: %v", err)
		}
		if _, err := h.client.Event(t.Context(), acme, "p-1"); errors.Is(err, ErrNotFound) == stored {
			t.Errorf("stored %t, but reading it says %v", stored, err)
		}
		if r := h.send(proof("p-1")); r.Duplicate != stored {
			t.Errorf("the repeat: %+v", r)
		}
		h.awaitAll(5 * time.Second)
		h.check()
	}, unaided)
}

func TestEnqueueFails(t *testing.T) {
	t.Parallel()
	for name, option := range map[string]houseOption{"stored": unaided, "not stored": impatient} { // only one waits for the reconciler
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, option)
			h.register("payment_proof", "")
			h.work()
			h.breaks(isEnqueue, name == "stored", 1)
			h.send(proof("p-1")) // accepted all the same
			h.awaitAll(patience + reconcileEvery + slack)
			h.check()
			h.awaitIdle(5 * time.Second)
		})
	}
}

func TestBeginFails(t *testing.T) {
	bothWays(t, func(t *testing.T, h *house, stored bool) {
		h.register("payment_proof", `"timeout": "1s"`)
		h.breaks(isScript(beginScript), stored, 1)
		h.work()
		r := h.send(proof("p-1"))
		h.awaitAll(time.Second + ownerGrace + reconcileEvery + slack)
		want := 1
		if stored {
			want = 2 // the attempt that was begun and never heard of
		}
		if d := h.delivery(r.Deliveries[0].DeliveryID); len(d.Attempts) != want {
			t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		h.awaitIdle(5 * time.Second)
	}, impatient)
}

func TestFinishFails(t *testing.T) {
	bothWays(t, func(_ *testing.T, h *house, stored bool) {
		h.register("payment_proof", "")
		h.breaks(isScript(finishScript), stored, 3)
		h.work()
		h.send(proof("p-1"))
		h.awaitAll(5 * time.Second)
		h.check()
		h.awaitIdle(5 * time.Second)
	}, unaided)
}

func TestFinishOfAFailureFails(t *testing.T) {
	bothWays(t, func(_ *testing.T, h *house, stored bool) {
		h.partner.answers(answering(503, 204))
		h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
		h.breaks(isScript(finishScript), stored, 1)
		h.work()
		h.send(proof("p-1"))
		h.awaitAll(10 * time.Second) // by asynq's retry
		h.check()
		h.awaitIdle(5 * time.Second)
	}, unaided)
}

func TestFinishNeverSucceeds(t *testing.T) {
	inBubble(t, func(h *house) {
		h.duplicates = 1
		h.register("payment_proof", `"timeout": "1s"`)
		h.breaks(isScript(finishScript), false, 12) // more than finishWithin allows for
		stop := h.work()
		h.send(proof("p-1"))
		h.awaitAll(finishWithin + time.Second + ownerGrace + reconcileEvery + slack)
		h.check()
		stop()
	}, impatient)
}

// TestRegisteredMeansDelivered: two processes' worth of clients on one Redis; a registration on one, at once an event on the other.
func TestRegisteredMeansDelivered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.work()
	other, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	h.must(err)
	for _, id := range eventIDs("p-", 100) {
		body := `{"callback_type": "payment_proof", "destination": {"url": "` + h.partner.url(id) + `", "method": "POST", "content_type": "application/json"}}`
		cb, err := other.Create(t.Context(), acme, []byte(body))
		h.must(err)
		h.partner.knows(cb)
		r := h.send(proof(id))
		if len(r.Deliveries) != 1 || r.Deliveries[0].CallbackID != cb.ID {
			t.Fatalf("registered as %d, accepted for %+v", cb.ID, r.Deliveries)
		}
		h.must(other.Delete(t.Context(), acme, cb.ID))
		if gone := h.send(proof(id + "-after")); len(gone.Deliveries) != 0 {
			t.Fatalf("deleted, but accepted for %+v", gone.Deliveries)
		}
	}
	h.awaitAll(30 * time.Second)
}

// TestTheOutcomeIsRecordedBeforeAsynqHears: when asynq is told that a task has served, or when to come back, the record knows that already. Else
// a kill in between would lose an outcome that nobody would come back for.
func TestTheOutcomeIsRecordedBeforeAsynqHears(t *testing.T) {
	for status, want := range map[int]ledger.State{204: ledger.Delivered, 500: ledger.Retrying, 410: ledger.Dead} {
		t.Run(string(want), func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(answering(status))
				h.register("payment_proof", "")
				h.drain() // nothing; there is a worker now
				r := h.send(proof("one"))
				slow := &fault{matches: isScript(finishScript), slow: 3 * time.Second}
				slow.left.Store(2) // the script is not there the first time
				h.rdb.AddHook(slow)
				served := 0
				for _, lane := range queues {
					tasks, err := h.inspector().ListPendingTasks(lane)
					h.must(err)
					for _, task := range tasks {
						served++
						_ = h.hand.servers.Process(h.t.Context(), lane, asynq.NewTask(task.Type, task.Payload))
					}
				}
				if d := h.delivery(r.Deliveries[0].DeliveryID); served != 1 || d.State != want {
					t.Errorf("%d tasks served, and then the delivery is %s, want %s", served, d.State, want)
				}
				time.Sleep(time.Minute) // whatever goes on
			})
		})
	}
}
