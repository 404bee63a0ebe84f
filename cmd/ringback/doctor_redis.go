package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// promises are settings of serve that Redis has to be good for.
type promises struct {
	replicas int // that confirm each event
	shedAt   int // percent of maxmemory from which on events are refused
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
	if f := judgeStore(info); f.Level != levelOK {
		add(f)
	}
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
