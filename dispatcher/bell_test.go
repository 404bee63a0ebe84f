package dispatcher

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
)

// TestIdleWorkersAskForLittle: what a worker at rest asks of Redis, by the command, those in scripts included.
func TestIdleWorkersAskForLittle(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		h.send(proof("first"))
		w, err := NewWorker(h.client, WorkerConfig{}) // as in production
		h.must(err)
		h.must(w.Start())
		defer w.Shutdown()
		h.awaitAll(time.Minute)
		time.Sleep(10 * time.Second)
		const seconds = 20
		before := h.mini.CommandCount()
		time.Sleep(seconds * time.Second)
		if got := (h.mini.CommandCount() - before) / seconds; got > 100 {
			t.Errorf("%d commands a second, want 100 at most", got)
		} else {
			t.Logf("%d commands a second", got)
		}
	})
}

// delivers sends a proof by a client, and returns how long that took until it was delivered, or a minute.
func (h *house) delivers(client *Client, id string) time.Duration {
	h.t.Helper()
	began := time.Now()
	r, err := client.Send(h.t.Context(), proof(id))
	h.must(err)
	h.ack(proof(id))
	for h.delivery(r.Deliveries[0].DeliveryID).State != ledger.Delivered && time.Since(began) < time.Minute {
		time.Sleep(time.Millisecond)
	}
	return time.Since(began)
}

// TestWhatIsToldIsTakenAtOnce: by whichever process it is enqueued, and whenever: no look at an idle lane is needed.
func TestWhatIsToldIsTakenAtOnce(t *testing.T) {
	inBubble(t, func(h *house) {
		h.poll = time.Hour
		h.register("payment_proof", "")
		defer h.work()()
		other, err := New(h.cfg) // which has no worker
		h.must(err)
		defer func() { h.must(other.Close()) }()
		time.Sleep(time.Second)
		for i := range 200 {
			time.Sleep(time.Duration(rand.IntN(20_000)) * time.Microsecond)
			client, id := h.client, fmt.Sprintf("e-%d", i)
			if i%2 == 1 {
				client = other
			}
			if took := h.delivers(client, id); took > 15*time.Millisecond {
				t.Errorf("%s was delivered after %s", id, took)
			}
		}
		h.check()
	})
}

// TestManyTellAtOnce: nothing that is enqueued while a lane is found empty is left there.
func TestManyTellAtOnce(t *testing.T) {
	inBubble(t, func(h *house) {
		h.poll = time.Hour
		for range 3 {
			h.register("payment_proof", "")
		}
		defer h.work()()
		time.Sleep(time.Second)
		began := time.Now()
		var senders sync.WaitGroup
		for s := range 16 {
			senders.Go(func() {
				for i := range 6 {
					time.Sleep(time.Duration(rand.IntN(5_000)) * time.Microsecond)
					h.send(proof(fmt.Sprintf("s-%d-%d", s, i)))
				}
			})
		}
		senders.Wait()
		h.awaitAll(time.Minute)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("all were delivered after %s", took)
		}
		h.check()
	})
}

// TestWithoutTheChannelWorkersLook: where nobody may subscribe, work of other processes is found as soon as when all looked all the time.
func TestWithoutTheChannelWorkersLook(t *testing.T) {
	inBubble(t, func(h *house) {
		h.poll = time.Hour
		h.register("payment_proof", "")
		h.mini.Server().SetPreHook(func(peer *server.Peer, cmd string, args ...string) bool {
			refused := (strings.EqualFold(cmd, "SUBSCRIBE") || strings.EqualFold(cmd, "PUBLISH")) && args[0] == lanes.Channel
			if refused {
				peer.WriteError("NOPERM this user has no permissions to access one of the channels used as arguments")
			}
			return refused
		})
		defer h.work()()
		other, err := New(h.cfg)
		h.must(err)
		defer func() { h.must(other.Close()) }()
		time.Sleep(time.Second)
		if took := h.delivers(other, "e"); took > 30*time.Millisecond {
			t.Errorf("delivered after %s", took)
		}
		h.check()
	})
}

// TestWhatNobodyTellsIsFound: a task that somebody else put into a lane, an older version or asynq's own tools, is found by looking.
func TestWhatNobodyTellsIsFound(t *testing.T) {
	inBubble(t, func(h *house) {
		h.poll = 250 * time.Millisecond
		h.register("payment_proof", "")
		defer h.work()()
		time.Sleep(time.Second)
		mute := redis.NewClient(h.rdb.Options())
		defer func() { h.must(mute.Close()) }()
		mute.AddHook(unheard{})
		cfg := h.cfg
		cfg.Redis = mute
		silent, err := New(cfg)
		h.must(err)
		defer func() { h.must(silent.Close()) }()
		for i := range 5 {
			if took := h.delivers(silent, fmt.Sprintf("e-%d", i)); took > 270*time.Millisecond {
				t.Errorf("delivered after %s", took)
			}
		}
		h.check()
	})
}

// unheard is a Redis hook that keeps what is told to other processes.
type unheard struct{}

func (unheard) DialHook(next redis.DialHook) redis.DialHook { return next }

func (unheard) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "publish" {
			return nil
		}
		return next(ctx, cmd)
	}
}

func (unheard) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
