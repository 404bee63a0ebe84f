package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
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
	if usable {
		d.examineLanes(ctx, cluster, masters)
	}
	for _, node := range masters {
		usable = d.examineNode(ctx, node, node.Options().Addr, promised) && usable
	}
	return usable
}

// examineLanes looks how the lanes are spread over the masters.
func (d *diagnosis) examineLanes(ctx context.Context, cluster *redis.ClusterClient, masters []*redis.Client) {
	count, owners, err := dispatcher.LaneMasters(ctx, cluster)
	if err != nil {
		d.add(finding{Check: "lanes", Level: levelWarn, Found: "cannot see where the lanes lie: " + oneLine(err.Error()), Cure: "see that every master answers"})
		return
	}
	addrs := make([]string, len(masters))
	for i, node := range masters {
		addrs[i] = node.Options().Addr
	}
	d.add(judgeLanes(count, owners, addrs))
}

// judgeLanes asks that each master has a lane, and none more than twice its share. owners are the masters of all lanes that there may be, by their number.
func judgeLanes(count int, owners, masters []string) finding {
	f := finding{Check: "lanes", Level: levelOK, Found: fmt.Sprintf("%d lanes, on %d masters", count, len(masters))}
	without, most := spreadOf(owners[:count], masters)
	switch {
	case len(without) > 0:
		f.Level, f.Found = levelWarn, fmt.Sprintf("none of %d lanes lies on %s: the other masters do its part of the deliveries' tasks", count, strings.Join(without, ", "))
	case most*len(masters) > 2*count:
		f.Level, f.Found = levelWarn, fmt.Sprintf("%d of %d lanes lie on one of %d masters", most, count, len(masters))
	default:
		return f
	}
	f.Cure = "spread the slots of the masters more evenly: no number of lanes would do better"
	for off := range owners {
		for _, n := range []int{count + off, count - off} {
			if n < 1 || n > len(owners) {
				continue
			}
			if without, most := spreadOf(owners[:n], masters); len(without) == 0 && most*len(masters) <= 2*n {
				f.Cure = fmt.Sprintf("ringback lanes set %d", n)
				return f
			}
		}
	}
	return f
}

// spreadOf is which masters have none of the lanes, and how many the one has that has most.
func spreadOf(owners, masters []string) (without []string, most int) {
	has := map[string]int{}
	for _, owner := range owners {
		has[owner]++
		most = max(most, has[owner])
	}
	for _, master := range masters {
		if has[master] == 0 {
			without = append(without, master)
		}
	}
	return without, most
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
