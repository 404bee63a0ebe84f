package redistest

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	slots = 16384

	// nodeTimeout is after how many milliseconds of silence a node counts as failed while a test waits for that. Its replica takes over a second or two later.
	nodeTimeout = 1000

	// restTimeout is the same, of nodes and of what sentinels watch, while no test waits for it. A busy machine may keep any of them silent for seconds.
	restTimeout = 60_000

	// agreeTimeout is how long the nodes of a cluster may take to agree on a change, on a loaded machine.
	agreeTimeout = 2 * time.Minute

	// meetAgain is how long two nodes may take to know each other until they are introduced anew: what a busy node does not answer in time is forgotten.
	meetAgain = 5 * time.Second
)

// Cluster is one Redis Cluster of one test: masters that share the slots evenly, and
// replicas. Its methods fail the test instead of returning errors, and are for the
// test's own goroutine. It needs Redis 7.0 or newer, which lets the port of the
// cluster's bus be chosen.
type Cluster struct {
	t       testing.TB
	args    []string
	timeout int // the cluster-node-timeout while a test waits for failures
	nodes   []*Server
}

// StartCluster starts a cluster of so many masters, each with so many replicas, and
// returns once every node serves and every replica has caught up. args are added to
// each node's command line. No node counts as failed but while a test waits for that:
// a --cluster-node-timeout among args is of these waits.
func StartCluster(t testing.TB, masters, replicas int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t, timeout: nodeTimeout, args: append([]string{
		"--cluster-node-timeout", strconv.Itoa(nodeTimeout), "--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0",
	}, args...)}
	if i := slices.Index(args, "--cluster-node-timeout"); i >= 0 {
		c.timeout, _ = strconv.Atoi(args[i+1])
	}
	for i := range masters {
		from, to := slots*i/masters, slots*(i+1)/masters-1
		node := c.start()
		c.do(node, "CLUSTER", "SET-CONFIG-EPOCH", i+1)
		c.do(node, "CLUSTER", "ADDSLOTSRANGE", from, to)
	}
	for range masters * replicas {
		c.start()
	}
	c.introduce(c.nodes[1:]...)
	for i, node := range c.nodes[masters:] {
		c.do(node, "CLUSTER", "REPLICATE", c.id(c.nodes[i%masters]))
	}
	c.AwaitWhole()
	return c
}

func (c *Cluster) start() *Server {
	s := start(c.t, ofCluster, nil, c.args)
	c.nodes = append(c.nodes, s)
	return s
}

// introduce introduces nodes to the first one, which introduces them to the others, until all know each other.
func (c *Cluster) introduce(nodes ...*Server) {
	c.t.Helper()
	var again time.Time
	c.await("know each other", func() bool {
		if time.Now().After(again) {
			for _, node := range nodes {
				c.do(node, "CLUSTER", "MEET", "127.0.0.1", c.nodes[0].port, c.nodes[0].bus)
			}
			again = time.Now().Add(meetAgain)
		}
		return c.acquainted()
	})
}

// patience is after how many milliseconds of silence the nodes that run take another for failed from now on.
func (c *Cluster) patience(milliseconds int) {
	c.t.Helper()
	for _, node := range c.running() {
		c.do(node, "CONFIG", "SET", "cluster-node-timeout", milliseconds)
	}
}

// Nodes are all that were started.
func (c *Cluster) Nodes() []*Server { return c.nodes }

// Addrs are the hosts and ports of all nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, node := range c.nodes {
		addrs[i] = node.Addr()
	}
	return addrs
}

// URL is the cluster's address as --redis takes it.
func (c *Cluster) URL() string { return "redis+cluster://" + strings.Join(c.Addrs(), ",") }

// Client returns a new client of the cluster, which sees within seconds who has the
// slots. It is closed when the test ends.
func (c *Cluster) Client() *redis.ClusterClient {
	client := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: c.Addrs(), ContextTimeoutEnabled: true, Protocol: 2, ClusterStateReloadInterval: time.Second,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	c.t.Cleanup(func() { _ = client.Close() })
	return client
}

// MasterOf returns the node that has a key's slot, as those that run see it.
func (c *Cluster) MasterOf(key string) *Server {
	c.t.Helper()
	for _, node := range c.running() {
		slot, err := node.ask("CLUSTER", "KEYSLOT", key)
		if err != nil {
			continue
		}
		for _, m := range c.masters(node) {
			if m.has(int(slot.(int64))) { //nolint:forcetypeassert // as CLUSTER KEYSLOT has it
				return m.server
			}
		}
	}
	c.t.Fatalf("redistest: no node has the slot of %s", key)
	return nil
}

// Masters returns the nodes that have slots.
func (c *Cluster) Masters() []*Server {
	c.t.Helper()
	var all []*Server
	for _, m := range c.masters(c.running()[0]) {
		if len(m.slots) > 0 {
			all = append(all, m.server)
		}
	}
	return all
}

// AwaitWhole returns once every node that runs serves all slots, knows no failed node
// that runs, and every replica that runs has caught up with its master.
func (c *Cluster) AwaitWhole() {
	c.t.Helper()
	c.await("serve", func() bool {
		return !slices.ContainsFunc(c.running(), func(node *Server) bool { return !c.whole(node) })
	})
	c.patience(restTimeout)
}

// AwaitServed returns once every node that runs serves all slots, whoever else is gone.
func (c *Cluster) AwaitServed() {
	c.t.Helper()
	c.await("serve", func() bool {
		return !slices.ContainsFunc(c.running(), func(node *Server) bool { return !c.serves(node) })
	})
	c.patience(restTimeout)
}

// AwaitFailover returns once another node than the one that is gone has its slots, and
// the cluster serves.
func (c *Cluster) AwaitFailover(gone *Server) {
	c.t.Helper()
	c.patience(c.timeout)
	c.await("put another in its place", func() bool {
		for _, node := range c.running() {
			if !c.serves(node) || slices.ContainsFunc(c.masters(node), func(m master) bool { return m.server == gone && len(m.slots) > 0 }) {
				return false
			}
		}
		return true
	})
	c.patience(restTimeout)
}

// AwaitSeenAway returns once every node that runs takes another for failed, and none that runs.
func (c *Cluster) AwaitSeenAway(gone *Server) {
	c.t.Helper()
	c.patience(c.timeout)
	c.await("see one gone", func() bool {
		for _, node := range c.running() {
			for _, fields := range c.known(node) {
				other, failed := c.at(fields[1]), slices.Contains(strings.Split(fields[2], ","), "fail")
				if other == gone && !failed || other != nil && other.runs() && strings.Contains(fields[2], "fail") {
					return false
				}
			}
		}
		return true
	})
	c.patience(restTimeout)
}

// Add starts one more node, a master without slots.
func (c *Cluster) Add() *Server {
	c.t.Helper()
	node := c.start()
	c.introduce(node)
	c.AwaitServed()
	return node
}

// Move gives slots from one master to another, key by key, as redis-cli --cluster reshard does.
func (c *Cluster) Move(from, to *Server, first, last int) {
	c.t.Helper()
	target := c.id(to)
	for slot := first; slot <= last; slot++ {
		c.BeginMove(from, to, slot)
		for {
			keys, _ := c.do(from, "CLUSTER", "GETKEYSINSLOT", slot, 10).([]any)
			if len(keys) == 0 {
				break
			}
			c.do(from, append([]any{"MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS"}, keys...)...)
		}
		c.do(to, "CLUSTER", "SETSLOT", slot, "NODE", target)
		for _, m := range c.Masters() {
			if m != to {
				c.do(m, "CLUSTER", "SETSLOT", slot, "NODE", target)
			}
		}
	}
}

// BeginMove begins to give a slot from one master to another, and leaves all keys where they are. Move goes on with it.
func (c *Cluster) BeginMove(from, to *Server, slot int) {
	c.t.Helper()
	c.do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.id(from))
	c.do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.id(to))
}

// Slot is the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.t.Helper()
	return int(c.do(c.running()[0], "CLUSTER", "KEYSLOT", key).(int64)) //nolint:forcetypeassert // as CLUSTER KEYSLOT has it
}

func (c *Cluster) running() []*Server {
	return slices.DeleteFunc(slices.Clone(c.nodes), func(s *Server) bool { return !s.runs() })
}

// A master is one as a node sees it.
type master struct {
	server *Server
	slots  [][2]int // first and last
}

func (m master) has(slot int) bool {
	return slices.ContainsFunc(m.slots, func(r [2]int) bool { return r[0] <= slot && slot <= r[1] })
}

// masters are those that a node knows.
func (c *Cluster) masters(node *Server) (all []master) {
	for _, fields := range c.known(node) {
		if !strings.Contains(fields[2], "master") {
			continue
		}
		m := master{server: c.at(fields[1])}
		for _, text := range fields[8:] {
			first, last, isRange := strings.Cut(text, "-")
			if !isRange {
				last = first
			}
			from, errFrom := strconv.Atoi(first)
			to, errTo := strconv.Atoi(last)
			if errFrom == nil && errTo == nil { // else it is on its way
				m.slots = append(m.slots, [2]int{from, to})
			}
		}
		all = append(all, m)
	}
	return all
}

// known are the lines of CLUSTER NODES, in fields.
func (c *Cluster) known(node *Server) (lines [][]string) {
	v, err := node.ask("CLUSTER", "NODES")
	text, _ := v.(string)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) >= 8 {
			lines = append(lines, fields)
		}
	}
	return lines
}

// at is the node of an address such as 127.0.0.1:6379@16379.
func (c *Cluster) at(address string) *Server {
	addr, _, _ := strings.Cut(address, "@")
	i := slices.IndexFunc(c.nodes, func(s *Server) bool { return s.Addr() == addr })
	if i < 0 {
		return nil
	}
	return c.nodes[i]
}

func (c *Cluster) id(node *Server) string {
	id, _ := c.do(node, "CLUSTER", "MYID").(string)
	return id
}

func (c *Cluster) acquainted() bool {
	for _, node := range c.nodes {
		known := c.known(node)
		if len(known) != len(c.nodes) || slices.ContainsFunc(known, func(fields []string) bool { return strings.Contains(fields[2], "handshake") }) {
			return false
		}
	}
	return true
}

func (c *Cluster) serves(node *Server) bool {
	info, _ := node.ask("CLUSTER", "INFO")
	text, _ := info.(string)
	return strings.Contains(text, "cluster_state:ok") && strings.Contains(text, "cluster_slots_ok:"+strconv.Itoa(slots))
}

func (c *Cluster) whole(node *Server) bool {
	for _, fields := range c.known(node) {
		other := c.at(fields[1])
		if other != nil && other.runs() && strings.Contains(fields[2], "fail") {
			return false
		}
	}
	info, err := node.ask("INFO", "replication")
	text, _ := info.(string)
	return err == nil && c.serves(node) && (strings.Contains(text, "role:master") || strings.Contains(text, "master_link_status:up"))
}

// await waits until all nodes agree.
func (c *Cluster) await(what string, reached func() bool) {
	c.t.Helper()
	for end := time.Now().Add(agreeTimeout); !reached(); pause() {
		if time.Now().After(end) {
			v, err := c.running()[0].ask("CLUSTER", "NODES")
			c.t.Fatalf("redistest: the nodes of the cluster do not %s within %s: %v, %v", what, agreeTimeout, v, err)
		}
	}
}

func (c *Cluster) do(node *Server, args ...any) any {
	c.t.Helper()
	v, err := node.ask(args...)
	if err != nil {
		c.t.Fatalf("redistest: %v: %v", args[:min(len(args), 3)], err)
	}
	return v
}
