package ledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// leastWait is how long a test waits at least for what should take moments: other tests share the machine, and it may be a slow one.
const leastWait = 90 * time.Second

// companiesOn are names of companies whose keys lie on different masters, one on each.
func companiesOn(t *testing.T, c *redistest.Cluster) map[*redistest.Server]string {
	t.Helper()
	names := make(map[*redistest.Server]string)
	for i := 0; len(names) < len(c.Masters()); i++ {
		name := fmt.Sprintf("company-%d", i)
		names[c.MasterOf(Key(name, "due"))] = name
	}
	return names
}

// TestReplicasOfACluster: each node that took something of a flight is asked for its own replicas, and where these are missing, the neighbours on other
// nodes do not notice.
func TestReplicasOfACluster(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 1)
	rdb := nodes.Client()
	WaitOnNodes(rdb)
	c := NewCommitter(rdb, given, 1, contained)
	t.Cleanup(c.Close)
	names := companiesOn(t, nodes)
	for round := range 3 {
		var calls []*Call
		for _, name := range names {
			calls = append(calls, callFor(name, fmt.Sprintf("round %d", round)))
		}
		c.Do(t.Context(), calls...)
		for _, call := range calls {
			wantAnswer(t, call, fmt.Sprintf("round %d", round))
		}
	}
	lone := nodes.Masters()[0]
	replicaOf(t, nodes, lone).Kill()
	var calls []*Call
	for _, name := range names {
		calls = append(calls, callFor(name, "late"))
	}
	c.Do(t.Context(), calls...)
	for _, call := range calls {
		_, err := call.Answer()
		if missing := call.Key == Key(names[lone], "due"); missing && (err == nil || !strings.Contains(err.Error(), "0 of 1 replicas")) || !missing && err != nil {
			t.Errorf("%s, without the replica of %s: %v", call.Key, names[lone], err)
		}
	}
}

// replicaOf is the replica of a node.
func replicaOf(t *testing.T, c *redistest.Cluster, master *redistest.Server) *redistest.Server {
	t.Helper()
	for _, node := range c.Nodes() {
		info, err := node.Client().InfoMap(t.Context(), "replication").Result()
		if err != nil {
			t.Fatal(err)
		}
		if about := info["Replication"]; about["role"] == "slave" && master.Addr() == about["master_host"]+":"+about["master_port"] {
			return node
		}
	}
	t.Fatal("no node is its replica")
	return nil
}

// TestANodeThatHangsHoldsUpNobody whose company is on another, though all were asked for at the same time.
func TestANodeThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 2, 0)
	options := *nodes.Client().Options()
	options.ReadTimeout, options.MaxRedirects = 30*time.Second, -1 // what waits for the one that hangs waits until the others were answered
	rdb := redis.NewClusterClient(&options)
	t.Cleanup(func() { _ = rdb.Close() })
	c := NewCommitter(rdb, given, 0, contained)
	t.Cleanup(c.Close)
	names := companiesOn(t, nodes)
	hung := nodes.Masters()[0]
	ask := func() (calls []*Call) {
		for _, name := range names {
			calls = append(calls, callFor(name, "one"))
		}
		c.Do(t.Context(), calls...)
		return calls
	}
	for _, call := range ask() {
		wantAnswer(t, call, "one")
	}
	hung.Stop()
	calls := ask()
	for _, call := range calls {
		if call.Key != Key(names[hung], "due") {
			wantAnswer(t, call, "one")
		}
	}
	for _, call := range calls {
		if call.Key == Key(names[hung], "due") && isDone(call) {
			t.Error("a company on another node waited for the one that hangs")
		}
	}
	hung.Cont()
	for _, call := range calls {
		wantAnswer(t, call, "one")
	}
}

func isDone(call *Call) bool {
	select {
	case <-call.done:
		return true
	default:
		return false
	}
}

// TestUnaskedReplicas: a client that was not told to ask them counts as one without.
func TestUnaskedReplicas(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 1, 0)
	c := NewCommitter(nodes.Client(), given, 1, contained)
	t.Cleanup(c.Close)
	call := callFor("a", "one")
	c.Do(t.Context(), call)
	if _, err := call.Answer(); err == nil || !strings.Contains(err.Error(), "no replica was asked") {
		t.Errorf("%v", err)
	}
}

// TestNoScriptSeesHalfACompany: while a slot moves, a step is refused on both nodes, and done as soon as it has moved.
func TestNoScriptSeesHalfACompany(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 2, 0)
	rdb := nodes.Client()
	c := NewCommitter(rdb, given, 0, contained)
	t.Cleanup(c.Close)
	ask := func(word string) error {
		call := callFor("a", word)
		c.Do(t.Context(), call)
		_, err := call.Answer()
		return err
	}
	for i := range 3 {
		if err := ask(fmt.Sprint("before ", i)); err != nil {
			t.Fatal(err)
		}
	}
	slot, from := nodes.Slot("{a}:count"), nodes.MasterOf("{a}:count")
	to := nodes.Masters()[0]
	if to == from {
		to = nodes.Masters()[1]
	}
	nodes.BeginMove(from, to, slot)
	if err := ask("while it moves"); !redis.HasErrorPrefix(err, "TRYAGAIN") {
		t.Errorf("while the slot moves: %v", err)
	}
	nodes.Move(from, to, slot, slot)
	ctx, cancel := context.WithTimeout(t.Context(), leastWait)
	defer cancel()
	for err := ask("after"); err != nil; err = ask("after") {
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
	if n, err := rdb.Get(ctx, "{a}:count").Int(); err != nil || n != 4 {
		t.Errorf("counted %d of 4 steps, %v", n, err)
	}
}

// TestNobodyWaitsForTheIndex: while the master of the index is away, a company that is asleep on another one wakes, and is owed to the index. The next round
// lists it.
func TestNobodyWaitsForTheIndex(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	rdb, ctx := nodes.Client(), t.Context()
	r, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: mustKeyset(t)})
	if err != nil {
		t.Fatal(err)
	}
	l := New(Config{Redis: rdb, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)), Rules: standard, Contain: contained})
	t.Cleanup(l.Close)
	away := nodes.MasterOf(index)
	if away == nodes.MasterOf(owed) {
		t.Fatal("the index, and what is owed to it, lie on one master")
	}
	if owed, err := r.Owed(ctx); err != nil || len(owed) > 0 {
		t.Fatalf("owed at first: %v, %v", owed, err)
	}
	company := companiesOn(t, nodes)[nodes.MasterOf(owed)]
	away.Stop()
	stored, cancel := context.WithTimeout(ctx, leastWait)
	defer cancel()
	for err = errors.New("not tried"); err != nil && stored.Err() == nil; { // go-redis may ask the one that hangs who the masters are
		err = l.StoreSweep(stored, company, &Sweep{ID: "sweep", State: "running", Created: time.Now()}, `{"by":"x"}`)
	}
	if err != nil {
		t.Fatalf("while the index is away: %v", err)
	}
	found, err := r.Owed(ctx)
	if err != nil || found[company] == 0 {
		t.Errorf("owed then: %v, %v", found, err)
	}
	away.Cont()
	for err = errors.New("not tried"); err != nil && stored.Err() == nil; {
		err = r.PayAll(stored)
	}
	working, other := r.Working(ctx)
	found, third := r.Owed(ctx)
	if err := errors.Join(err, other, third); err != nil || working[company] == 0 || len(found) > 0 {
		t.Errorf("once it is back: %v in the index, %v owed, %v", working, found, err)
	}
}

func mustKeyset(t *testing.T) *registry.Keyset {
	t.Helper()
	keyset, err := registry.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	return keyset
}
