package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// promises are settings of serve that Redis has to be good for.
type promises struct {
	replicas int // that confirm each event
	shedAt   int // percent of maxmemory from which on events are refused
}

// examineRedis looks at each Redis that rdb leads to, the one or a cluster's masters, and at what Ringback left there.
func (d *diagnosis) examineRedis(ctx context.Context, rdb redis.UniversalClient, promised promises) {
	usable := true
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		masters := make(chan *redis.Client, 1000) // as many as a cluster may have
		err := cluster.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
			masters <- node
			return nil
		})
		close(masters)
		if err != nil {
			d.add(unreachable("", err))
			return
		}
		for node := range masters {
			usable = d.examineNode(ctx, node, node.Options().Addr, promised) && usable
		}
	} else if node, ok := rdb.(*redis.Client); ok {
		usable = d.examineNode(ctx, node, "", promised)
	}
	if !usable {
		return
	}
	model, err := judgeModel(ctx, rdb)
	if err != nil {
		model.Level, model.Found, model.Cure = levelFault, oneLine(err.Error()), "see that Redis answers GET "+ledger.ModelKey+" to the user of --redis"
	}
	d.add(model)
	d.examineProcesses(ctx, rdb)
	if letters, err := dispatcher.ExpiringLetters(ctx, rdb); err == nil && letters > 0 { // other checks have said what cannot be read
		d.add(finding{
			Check: "dead letters", Level: levelWarn, Found: fmt.Sprintf("%d dead deliveries will soon have been kept for as long as serve --dead-retention says", letters),
			Cure: "replay what is still wanted (the workers' logs name the companies), or give --dead-retention more time",
		})
	}
}

// examineProcesses lists the processes that work on this Redis. While an older one runs, the others refuse requests for what it does not know.
func (d *diagnosis) examineProcesses(ctx context.Context, rdb redis.UniversalClient) {
	present, err := registry.Look(ctx, rdb)
	if err != nil {
		d.add(finding{Check: "processes", Level: levelFault, Found: oneLine(err.Error()), Cure: "see that the user of --redis may do what OPERATORS.md lists"})
		return
	}
	if len(present.Processes) == 0 {
		d.add(finding{Check: "processes", Level: levelOK, Found: "none is running"})
	}
	for _, p := range present.Processes {
		f := finding{Check: "process", Level: levelOK, Found: p.String()}
		if p.Level < registry.Level {
			f.Level, f.Cure = levelWarn, "upgrade or stop it: while it runs, requests for what it does not know are answered 409"
		}
		d.add(f)
	}
	if present.Unseen != nil {
		d.add(finding{
			Check: "connections", Level: levelWarn, Found: "a process of an older version that only serves the API would not be seen: Redis does not list its connections (" + oneLine(present.Unseen.Error()) + ")",
			Cure: "let the user of --redis run CLIENT LIST: ACL SETUSER NAME +client|list",
		})
	}
}

// examineNode looks at one Redis and reports whether it can be asked for data. If there are several, name says which one it is.
func (d *diagnosis) examineNode(ctx context.Context, node *redis.Client, name string, promised promises) (usable bool) {
	begun := time.Now()
	text, err := node.Info(ctx).Result()
	if err != nil {
		d.add(unreachable(name, err))
		return false
	}
	info, command := parseInfo(text), redisCLI(ctx, node)
	settings := readSettings(ctx, node)
	add := func(f finding) {
		f.Node = name
		if strings.HasPrefix(f.Cure, "CONFIG ") {
			f.Cure = command + " " + f.Cure
		}
		d.add(f)
	}
	add(finding{Check: "redis", Level: levelOK, Found: fmt.Sprintf("answered in %s", time.Since(begun).Round(10*time.Microsecond))})
	add(judgeVersion(info))
	add(judgeRole(info))
	if info["loading"] == "1" {
		add(finding{
			Check: "loading", Level: levelFault, Found: fmt.Sprintf("Redis is still reading its data from disk, for another %s s by its own estimate, and refuses writes", cmp.Or(info["loading_eta_seconds"], "?")),
			Cure: "wait, and run doctor again",
		})
		return false
	}
	add(judgePersistence(info))
	if info["aof_enabled"] == "1" {
		add(judgeFsync(settings["appendfsync"]))
	}
	for _, f := range judgeWrites(info) {
		add(f)
	}
	add(judgeEviction(info))
	add(judgeMemory(info, promised.shedAt))
	add(judgeReplicas(info, promised.replicas, command))
	if f, err := measureDrift(ctx, node); err != nil {
		add(finding{Check: "clock", Level: levelFault, Found: oneLine(err.Error()), Cure: "let the user of --redis run TIME"})
	} else {
		add(f)
	}
	d.Durability = durabilityOf(info, settings["appendfsync"], promised.replicas)
	return true
}

func unreachable(node string, err error) finding {
	return finding{
		Node: node, Check: "redis", Level: levelFault, Found: "cannot talk to Redis: " + oneLine(err.Error()),
		Cure: "start it where --redis says, and check the user and password there",
	}
}

// redisCLI is how a person reaches the same Redis, without its password.
func redisCLI(ctx context.Context, node *redis.Client) string {
	o := node.Options()
	words := []string{"redis-cli"}
	addr := o.Addr
	if host, port, err := net.SplitHostPort(addr); o.Network == "unix" {
		words = append(words, "-s", addr)
	} else {
		if err != nil { // go-redis's name for a master that Sentinel finds: ask it where it is
			client, _ := node.ClientInfo(ctx).Result()
			if client != nil {
				host, port, _ = net.SplitHostPort(client.LAddr)
			}
		}
		words = append(words, "-h", cmp.Or(host, "127.0.0.1"), "-p", port)
	}
	if o.TLSConfig != nil {
		words = append(words, "--tls")
	}
	if o.Username != "" {
		words = append(words, "--user", o.Username)
	}
	if o.Password != "" || o.CredentialsProviderContext != nil {
		words = append(words, "--askpass")
	}
	return strings.Join(words, " ")
}

// readSettings reads the settings that INFO does not show. A Redis that somebody else runs may keep them to itself.
func readSettings(ctx context.Context, node *redis.Client) map[string]string {
	settings, err := node.ConfigGet(ctx, "appendfsync").Result()
	if err != nil {
		return nil
	}
	return settings
}
