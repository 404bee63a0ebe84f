package dispatcher

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestTheFullestMasterCounts of those that answer, and a master that hangs is waited for now and then, and not for long.
func TestTheFullestMasterCounts(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 0)
	masters := nodes.Masters()
	rdb, asked := nodes.Client(), &askedMaster{t: t}
	rdb.OnNewNode(func(node *redis.Client) {
		if node.Options().Addr == masters[0].Addr() {
			node.AddHook(asked)
		}
	})
	g := &gauge{rdb: rdb, log: slog.New(slog.DiscardHandler), shedAt: 80}
	if g.overloaded(t.Context()) {
		t.Fatal("an empty cluster is too full")
	}
	masters[0].Stop()
	if err := masters[1].Client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	asked.n.Store(0)
	from := time.Now()
	for seen := false; !seen || time.Since(from) < 3*lookAgain; seen = g.overloaded(t.Context()) || seen { // go-redis may ask the one that hangs who the masters are
		if !seen && time.Since(from) > leastWait {
			t.Fatal("a master is full, and that is not seen while another hangs")
		}
		<-time.After(5 * time.Millisecond)
	}
	if n, took := asked.n.Load(), time.Since(from); n > 1+int64(took/lookAgain) {
		t.Errorf("a master that hangs was asked, and waited for, %d times in %s", n, took)
	}
}

// askedMaster counts how often a master is asked how full it is, and sees that nobody waits for it for long.
type askedMaster struct {
	t *testing.T
	n atomic.Int64
}

func (a *askedMaster) DialHook(next redis.DialHook) redis.DialHook { return next }
func (a *askedMaster) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *askedMaster) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "info" {
			a.n.Add(1)
			if end, ok := ctx.Deadline(); !ok || time.Until(end) > lookWithin {
				a.t.Errorf("the caller who looks waits until %s, and that has an end: %t", end, ok)
			}
		}
		return next(ctx, cmd)
	}
}

// TestARoundPaysWhatIsOwed to the index: companies that woke while its master was away are listed before the round goes over it.
func TestARoundPaysWhatIsOwed(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	rdb := redistest.StartCluster(t, 3, 0).Client()
	r, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: h.keyset, Logger: testLog(t)})
	h.must(err)
	cfg := h.cfg
	cfg.Redis, cfg.Registry = rdb, r
	client, err := New(cfg)
	h.must(err)
	t.Cleanup(func() { h.must(client.Close()) })
	w, err := NewWorker(client, workerConfig(cfg.Patience, h.poll))
	h.must(err)
	h.must(rdb.ZAdd(t.Context(), "ringback:owed", redis.Z{Score: 7, Member: acme}).Err())
	round := &tour{Worker: w, ok: true}
	w.open(t.Context(), round)
	if left := rdb.ZCard(t.Context(), "ringback:owed").Val(); round.epochs[acme] < 7 || left != 0 {
		t.Errorf("in the index at %d, %d are owed", round.epochs[acme], left)
	}
}
