package main

import (
	"bufio"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/registry/steady"
)

const (
	// driftWarn and driftFault bound what this machine's clock may be off from Redis's. Retries are due by both, and a partner refuses a
	// request whose timestamp is five minutes off.
	driftWarn, driftFault = time.Second, 5 * time.Second
	// replicaLag is how long ago a replica may have said what it has and still count: Redis's own min-replicas-max-lag.
	replicaLag = 10 * time.Second
)

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok {
			info[name] = strings.TrimSpace(value)
		}
	}
	return info
}

// A store is what answers as Redis does.
type store struct {
	name, version string // its own
	like          string // the version of Redis whose commands it has, by its own word
	doubt         string // why it is none that Ringback is tested with; empty: it is one
}

func storeOf(info map[string]string) store {
	like := info["redis_version"]
	executable := info["executable"][strings.LastIndex(info["executable"], "/")+1:]
	switch {
	case info["valkey_version"] != "":
		return store{name: "Valkey", version: info["valkey_version"], like: like}
	case info["dragonfly_version"] != "":
		return store{
			name: "Dragonfly", version: strings.TrimPrefix(strings.TrimPrefix(info["dragonfly_version"], "df-"), "v"), like: like,
			doubt: "it keeps no append-only file, so a crash loses what was accepted since its last snapshot, and it refuses scripts that find their keys by other keys, " +
				"as Ringback's and asynq's do, unless it is started with --default_lua_flags=allow-undeclared-keys",
		}
	case info["mvcc_depth"] != "" || strings.Contains(executable, "keydb"):
		return store{name: "KeyDB", version: like, like: like, doubt: "with active-replica two of it take writes at the same time, and both hand out the same deliveries"}
	}
	return store{name: "Redis", version: like, like: like}
}

// String is the store by its own name, and by Redis's version where that is another.
func (s store) String() string {
	if s.version == s.like {
		return s.name + " " + s.version
	}
	return s.name + " " + s.version + ", which takes the place of Redis " + s.like
}

// judgeVersion asks for Redis 6.2: asynq needs ZRANGE BYSCORE, which came with it. Others count by the Redis version they say they are compatible with.
func judgeVersion(info map[string]string) finding {
	s := storeOf(info)
	f := finding{Check: "version", Level: levelOK, Found: s.String()}
	if s.like != "" && versionLess(s.like, 6, 2) {
		f.Level, f.Found, f.Cure = levelFault, "this "+s.name+" is version "+s.like+", and Ringback needs 6.2 or newer", "upgrade Redis; its append-only file can be taken along"
	}
	return f
}

// judgeStore asks for a store that Ringback is tested with. Without an append-only file, a promise does not hold.
func judgeStore(info map[string]string) finding {
	s := storeOf(info)
	f := finding{Check: "store", Level: levelOK, Found: s.name + " is one that Ringback is tested with"}
	if s.doubt != "" {
		f.Level, f.Found, f.Cure = levelWarn, "Ringback is not tested with "+s.name+": "+s.doubt, "use Redis 6.2 or newer, or Valkey"
	}
	if s.name == "Dragonfly" {
		f.Level = levelFault
	}
	return f
}

func versionLess(v string, major, minor int) bool {
	a, rest, _ := strings.Cut(v, ".")
	b, _, _ := strings.Cut(rest, ".")
	x, errX := strconv.Atoi(a)
	y, errY := strconv.Atoi(b)
	if errX != nil || errY != nil {
		return false // a build of its own; it says what it is good for when it is used
	}
	return x < major || (x == major && y < minor)
}

// judgeRole asks for a master, because Ringback writes.
func judgeRole(info map[string]string) finding {
	f := finding{Check: "role", Level: levelOK, Found: "this is a master"}
	if info["role"] != "master" {
		f.Level, f.Found = levelFault, "this is a replica, which takes no writes"
		f.Cure = fmt.Sprintf("give --redis its master, %s port %s", info["master_host"], info["master_port"])
	}
	return f
}

// judgeEviction asks that a full Redis refuses writes and throws no accepted events away.
func judgeEviction(info map[string]string) finding {
	policy := cmp.Or(info["maxmemory_policy"], "noeviction")
	f := finding{Check: "eviction", Level: levelOK, Found: "a full Redis refuses writes and forgets nothing (maxmemory-policy noeviction)"}
	if policy != "noeviction" {
		f.Level, f.Found, f.Cure = levelFault, "this Redis may throw accepted events away when it is full (maxmemory-policy "+policy+")", "CONFIG SET maxmemory-policy noeviction"
	}
	return f
}

// judgePersistence asks for an append-only file. If a Redis without one crashes, it loses the events that it accepted last.
func judgePersistence(info map[string]string) finding {
	f := finding{Check: "append-only file", Level: levelOK, Found: "Redis keeps an append-only file"}
	switch {
	case info["aof_enabled"] == "0":
		f.Level, f.Found, f.Cure = levelFault, "Redis keeps no append-only file: what it accepted since its last snapshot is lost if it crashes", "CONFIG SET appendonly yes"
	case info["aof_enabled"] != "1":
		f.Level, f.Found, f.Cure = levelWarn, "Redis does not say whether it keeps an append-only file", "ask whoever runs it"
	}
	return f
}

// judgeFsync says how much of the append-only file survives a power cut.
func judgeFsync(policy string) finding {
	f := finding{Check: "appendfsync", Level: levelOK, Found: "the append-only file is on disk " + map[string]string{
		"always": "before an event is accepted (appendfsync always)", "everysec": "within a second (appendfsync everysec)",
	}[policy]}
	switch policy {
	case "always", "everysec":
	case "":
		f.Level, f.Found, f.Cure = levelWarn, "Redis does not say when its append-only file is on disk (CONFIG GET is not allowed)", "ask whoever runs it for appendfsync everysec or always"
	default:
		f.Level, f.Found = levelWarn, "the operating system decides when the append-only file is on disk (appendfsync "+policy+"): a power cut may lose half a minute"
		f.Cure = "CONFIG SET appendfsync everysec"
	}
	return f
}

// judgeWrites asks that Redis's last write of each of its files on disk went well.
func judgeWrites(info map[string]string) []finding {
	var found []finding
	for _, w := range []struct{ field, name, cure string }{
		{"aof_last_write_status", "the append-only file", "df -h"},
		{"aof_last_bgrewrite_status", "a new, shorter append-only file", "df -h"},
		{"rdb_last_bgsave_status", "a snapshot", "df -h"},
	} {
		if status := info[w.field]; status != "" && status != "ok" {
			found = append(found, finding{
				Check: "writes to disk", Level: levelFault, Found: fmt.Sprintf("Redis could not write %s (%s is %s)", w.name, w.field, status),
				Cure: w.cure + " # on Redis's machine: make room where CONFIG GET dir says, and read Redis's log",
			})
		}
	}
	if found == nil {
		found = []finding{{Check: "writes to disk", Level: levelOK, Found: "Redis's last writes to disk went well"}}
	}
	return found
}

// judgeMemory asks for a limit, and for room below shedAt, the percentage of it from which on events are refused. It warns from three quarters of
// shedAt on: a backlog grows by the minute, and there has to be time to act.
func judgeMemory(info map[string]string, shedAt int) finding {
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(info[field], 10, 64)
		return n
	}
	used, limit, machine := number("used_memory"), number("maxmemory"), number("total_system_memory")
	enough := used * 100 / int64(shedAt) * 2 // half of what shedAt lets be
	f := finding{Check: "memory", Level: levelOK}
	if limit == 0 {
		f.Level, f.Found = levelWarn, fmt.Sprintf("%s are used and there is no maxmemory: on a full machine the kernel ends Redis", mebibytes(used))
		f.Cure = fmt.Sprintf("CONFIG SET maxmemory %dmb", max(machine/4*3, enough)>>20+1)
		return f
	}
	share := int(used * 100 / limit)
	f.Found = fmt.Sprintf("%d %% of maxmemory are used (%s of %s), and events are refused from %d %% on", share, mebibytes(used), mebibytes(limit), shedAt)
	switch {
	case share >= shedAt:
		f.Level = levelFault
	case 4*share >= 3*shedAt:
		f.Level = levelWarn
	default:
		return f
	}
	if machine == 0 || enough <= machine/4*3 {
		f.Cure = fmt.Sprintf("CONFIG SET maxmemory %dmb", enough>>20+1)
	} else {
		f.Cure = "move Redis to a machine with more memory; until then, a shorter serve --retention makes room"
	}
	return f
}

func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// judgeReplicas counts the replicas that keep up.
func judgeReplicas(info map[string]string, wanted int, command string) finding {
	online, behind := 0, 0
	for i := range 1000 { // as many as INFO may list
		line, ok := info["slave"+strconv.Itoa(i)]
		if !ok {
			break
		}
		fields := map[string]string{}
		for pair := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(pair, "=")
			fields[name] = value
		}
		lag, err := strconv.Atoi(fields["lag"])
		if fields["state"] == "online" && err == nil && time.Duration(lag)*time.Second <= replicaLag {
			online++
		} else {
			behind++
		}
	}
	f := finding{Check: "replicas", Level: levelOK, Found: fmt.Sprintf("%d keep up", online)}
	if behind > 0 {
		f.Level = levelWarn
		f.Found += fmt.Sprintf(", %d do not: not online, or silent for more than %s", behind, replicaLag)
		f.Cure = command + " INFO replication # then look at the replica that is named there"
	}
	if online < wanted {
		f.Level = levelFault
		f.Found += fmt.Sprintf(", and --wait-replicas %d wants %d: every event would be answered 503", wanted, wanted)
		words := strings.Fields(command)
		if i := slices.Index(words, "-p"); i > 0 {
			f.Cure = fmt.Sprintf("redis-cli -h REPLICA REPLICAOF %s %s", words[i-1], words[i+1])
		} else {
			f.Cure = "redis-cli -h REPLICA REPLICAOF MASTER " + info["tcp_port"]
		}
	}
	return f
}

func judgeDrift(drift, uncertain time.Duration) finding {
	f := finding{Check: "clock", Level: levelOK}
	off, direction := drift, "ahead of"
	if drift < 0 {
		off, direction = -drift, "behind"
	}
	f.Found = fmt.Sprintf("this machine's clock is %s %s Redis's (± %s)", off.Round(time.Millisecond), direction, uncertain.Round(time.Microsecond))
	certain := off - uncertain
	if certain <= driftWarn {
		return f
	}
	f.Level = levelWarn
	if certain > driftFault {
		f.Level = levelFault
		f.Found += ": retries come at the wrong time, and partners refuse signatures that seem old"
	}
	f.Cure = "timedatectl set-ntp true # on this machine and on Redis's"
	return f
}

// judgeSteady tells of a step of Redis's clock that is being made up for: until that is over, times are the installation's.
func judgeSteady(n steady.Node) finding {
	f := finding{Node: n.Name, Check: "installation time", Level: levelOK, Found: "it is that of Redis's clock"}
	if n.Offset != 0 {
		off, direction := n.Offset.Abs(), "ahead of"
		if n.Offset < 0 {
			direction = "behind"
		}
		f.Found = fmt.Sprintf("it is %s %s Redis's clock", off, direction)
	}
	if !n.Stepped.IsZero() {
		by, direction := n.By.Abs(), "forward"
		if n.By < 0 {
			direction = "back"
		}
		f.Found += fmt.Sprintf(", which stepped last on %s, by %s %s", n.Stepped.Format(time.RFC3339), by.Round(time.Millisecond), direction)
	}
	if n.Offset.Abs() > driftWarn {
		f.Level = levelWarn
		f.Found += fmt.Sprintf(": deliveries go on by it, the times that are shown are its own, and it comes nearer by %s in an hour", steady.Slew(time.Hour))
		f.Cure = "timedatectl set-ntp true # on Redis's machines; the rest passes by itself"
	}
	return f
}

// durability says what each accident does to an event that was accepted.
type durability struct {
	RedisCrash string `json:"redis_crash"`
	PowerCut   string `json:"power_cut"`
	Failover   string `json:"failover"`
}

// durabilityOf says which of the promises about accidents hold, by the settings of Redis.
func durabilityOf(info map[string]string, fsync string, replicas int) *durability {
	d := &durability{RedisCrash: "is kept", PowerCut: "is kept (appendfsync always)", Failover: "may be lost with what the replica did not have yet (serve --wait-replicas N narrows that)"}
	switch {
	case info["aof_enabled"] == "0":
		d.RedisCrash = "may be lost, if it came after the last snapshot (appendonly no)"
		d.PowerCut = d.RedisCrash
	case fsync == "everysec":
		d.RedisCrash = "is kept, if the disk keeps up: Redis puts writes off by up to 2 s on one that does not (appendfsync everysec; always closes that)"
		d.PowerCut = "may be lost, if it came in the last second (appendfsync everysec; always closes that)"
	case fsync != "always":
		d.PowerCut = "may be lost, if it came in the last half minute (appendfsync " + cmp.Or(fsync, "is not known") + ")"
	}
	if replicas > 0 {
		d.Failover = fmt.Sprintf("is kept, if the replica is one of the %d that had confirmed it (--wait-replicas %d)", replicas, replicas)
	}
	return d
}
