package dispatcher

import (
	"log/slog"
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
	g := &gauge{rdb: nodes.Client(), log: slog.New(slog.DiscardHandler), shedAt: 80}
	if g.overloaded(t.Context()) {
		t.Fatal("an empty cluster is too full")
	}
	masters[0].Stop()
	if err := masters[1].Client().ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	var longest, waited time.Duration
	seen, asked := false, 0
	for from := time.Now(); !seen && time.Since(from) < 15*time.Second; asked++ { // go-redis may ask the one that hangs who the masters are
		begun := time.Now()
		seen = g.overloaded(t.Context())
		longest, waited = max(longest, time.Since(begun)), waited+time.Since(begun)
		<-time.After(5 * time.Millisecond)
	}
	if !seen {
		t.Error("a master is full, and that is not seen while another hangs")
	}
	if longest > time.Second || waited > 8*time.Second {
		t.Errorf("%d callers waited %s for a master that hangs, one of them %s", asked, waited, longest)
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
