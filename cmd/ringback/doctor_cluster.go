package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// examineMasters looks at a cluster as a whole, and at each of its masters. It reports whether it can be asked for data.
func (d *diagnosis) examineMasters(ctx context.Context, cluster *redis.ClusterClient, promised promises) (usable bool) {
	var mu sync.Mutex
	var masters []*redis.Client
	err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, node)
		return nil
	})
	if err != nil {
		d.add(unreachable("", err))
		return false
	}
	slices.SortFunc(masters, func(a, b *redis.Client) int { return strings.Compare(a.Options().Addr, b.Options().Addr) })
	usable = d.examineCluster(ctx, masters)
	for _, node := range masters {
		usable = d.examineNode(ctx, node, node.Options().Addr, promised) && usable
	}
	return usable
}

// examineCluster asks the first master that answers what it knows of the cluster, and reports whether that serves all slots.
func (d *diagnosis) examineCluster(ctx context.Context, masters []*redis.Client) (serves bool) {
	var err error
	for _, node := range masters {
		var info, nodes string
		if info, err = node.ClusterInfo(ctx).Result(); err != nil {
			continue
		}
		if nodes, err = node.ClusterNodes(ctx).Result(); err != nil {
			continue
		}
		state := judgeClusterState(parseInfo(info), redisCLI(ctx, node))
		d.add(state)
		for _, f := range judgeNodes(parseNodes(nodes)) {
			d.add(f)
		}
		if coverage, err := node.ConfigGet(ctx, fullCoverage).Result(); err == nil && coverage[fullCoverage] == "yes" {
			d.add(finding{
				Check: "coverage", Level: levelWarn, Found: "while one master is away and its replica has not taken over, the whole cluster refuses (" + fullCoverage + " yes), companies on the other masters too",
				Cure: "CONFIG SET " + fullCoverage + " no, on every node and in its configuration",
			})
		}
		return state.Level == levelOK
	}
	d.add(finding{
		Check: "cluster", Level: levelWarn, Found: "cannot ask the cluster about itself: " + oneLine(fmt.Sprint(err)),
		Cure: "let the user of --redis run CLUSTER INFO and CLUSTER NODES: ACL SETUSER NAME +cluster|info +cluster|nodes",
	})
	return true
}

// fullCoverage is Redis's setting of whether a cluster refuses everything while a slot has no master.
const fullCoverage = "cluster-require-full-coverage"

// judgeClusterState asks that all slots are served.
func judgeClusterState(info map[string]string, command string) finding {
	f := finding{Check: "cluster", Level: levelOK, Found: fmt.Sprintf("all slots are served, by %s masters of %s nodes", info["cluster_size"], info["cluster_known_nodes"])}
	if info["cluster_state"] != "ok" || info["cluster_slots_ok"] != "16384" {
		f.Level = levelFault
		f.Found = fmt.Sprintf("the cluster's state is %s, and %s of 16384 slots are served: requests for the others are answered 503", info["cluster_state"], info["cluster_slots_ok"])
		f.Cure = strings.Replace(command, "redis-cli", "redis-cli --cluster check", 1) + " # then start the node that is missing, or see its log for why no replica took over"
	}
	return f
}

// A clusterNode is a line of CLUSTER NODES.
type clusterNode struct {
	id, addr, master string // master: the id of the one it copies; empty: it is one
	away             bool
	slots            int // how many entries: ranges and single ones
}

func parseNodes(text string) (nodes []clusterNode) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], "@")
		flags := strings.Split(fields[2], ",")
		n := clusterNode{id: fields[0], addr: addr, slots: len(fields) - 8}
		if slices.Contains(flags, "slave") {
			n.master = fields[3]
		}
		n.away = slices.Contains(flags, "fail") || slices.Contains(flags, "fail?") || fields[7] == "disconnected"
		nodes = append(nodes, n)
	}
	return nodes
}

// judgeNodes asks that every node answers, and that each master with slots has a replica to take its place.
func judgeNodes(nodes []clusterNode) (findings []finding) {
	replicas := map[string]int{}
	for _, n := range nodes {
		if n.master != "" && !n.away {
			replicas[n.master]++
		}
	}
	for _, n := range nodes {
		switch {
		case n.away && n.master == "" && n.slots > 0:
			findings = append(findings, finding{Node: n.addr, Check: "node", Level: levelFault, Found: "a master with slots does not answer the others", Cure: "start it, or see why no replica takes over"})
		case n.away:
			findings = append(findings, finding{
				Node: n.addr, Check: "node", Level: levelWarn, Found: "it does not answer the others",
				Cure: "start it; if it is gone for good, redis-cli CLUSTER FORGET " + n.id + " on every other node",
			})
		case n.master == "" && n.slots > 0 && replicas[n.id] == 0:
			findings = append(findings, finding{
				Node: n.addr, Check: "replica", Level: levelWarn, Found: "this master has slots and no replica: if it ends, its companies are refused until it is back",
				Cure: "add a node, and run there: redis-cli CLUSTER REPLICATE " + n.id,
			})
		}
	}
	return findings
}
