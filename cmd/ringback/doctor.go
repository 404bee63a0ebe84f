package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

const (
	// driftWarn and driftFault bound what this machine's clock may be off from Redis's. Retries are due by both, and a partner refuses a
	// request whose timestamp is five minutes off.
	driftWarn, driftFault = time.Second, 5 * time.Second
	// driftSamples is how often Redis is asked for its time: the answer that came fastest says most.
	driftSamples = 5
	// replicaLag is how long ago a replica may have said what it has and still count: Redis's own min-replicas-max-lag.
	replicaLag = 10 * time.Second
	// egressTimeout bounds one connection of --egress-check.
	egressTimeout = 5 * time.Second
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "check Redis, clocks and the way out, and say how to cure what is wrong",
		Description: "Only looks: it changes nothing, in Redis or elsewhere, and sends no request to the URLs of --egress-check, it only connects.\n" +
			"Run it where ringback serve runs, with the same settings. Exit code 0: no fault, though there may be warnings; 1: a fault.\n\n" +
			examples(
				"ringback doctor --redis redis://127.0.0.1:6379 --egress-check https://partner.example/",
				"ringback doctor --redis redis://127.0.0.1:6379 --wait-replicas 1 -o json",
			),
		Flags: slices.Concat(redisFlags("`URL` of the Redis to check, as serve takes it"), []cli.Flag{
			&cli.IntFlag{Name: "wait-replicas", Usage: "check that `N` replicas of Redis can confirm each event, as serve --wait-replicas asks", EnvVars: []string{"RINGBACK_WAIT_REPLICAS"}},
			&cli.IntFlag{Name: "shed-at", Usage: "`PERCENT` of Redis's maxmemory from which on serve refuses events, as serve --shed-at says", Value: dispatcher.DefaultShedAt, EnvVars: []string{"RINGBACK_SHED_AT"}},
			&cli.StringSliceFlag{Name: "egress-check", Usage: "connect to `URL`, as a delivery would, without sending anything (repeatable)"},
			keysetFlag(),
		}, egressFlags()),
		Action: doctor,
	}
}

// promises are what serve is asked to keep, and Redis has to be good for.
type promises struct {
	replicas int // that confirm each event
	shedAt   int // percent of maxmemory from which on events are refused
}

// A diagnosis is all that doctor found.
type diagnosis struct {
	Faults     int         `json:"faults"`
	Warnings   int         `json:"warnings"`
	Durability *durability `json:"durability,omitempty"` // absent if Redis did not answer
	Findings   []finding   `json:"findings"`
}

// durability says, of an event that was accepted, what an accident does to it.
type durability struct {
	RedisCrash string `json:"redis_crash"`
	PowerCut   string `json:"power_cut"`
	Failover   string `json:"failover"`
}

func doctor(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	rawURL, promised := c.String("redis"), promises{c.Int("wait-replicas"), c.Int("shed-at")}
	switch {
	case rawURL == "":
		return usagef("which Redis? say so with --redis or RINGBACK_REDIS, as ringback serve does")
	case promised.replicas < 0:
		return usagef("--wait-replicas must not be negative")
	case promised.replicas > 0 && strings.HasPrefix(rawURL, "redis+cluster://"):
		return usagef("--wait-replicas cannot be kept on a cluster: leave it out, or use redis+sentinel://")
	case promised.shedAt < 1 || promised.shedAt > 100:
		return usagef("--shed-at is a percentage from 1 to 100")
	}
	cfg, err := egressConfig(c)
	if err != nil {
		return err
	}
	door, err := egress.New(cfg)
	if err != nil {
		return err
	}
	defer door.Close()
	rdb, err := openRedis(rawURL, c.String("redis-password-file"), 4)
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()

	d := &diagnosis{Findings: []finding{}}
	d.examineRedis(c.Context, rdb, promised)
	d.examineCallbacks(c.Context, rdb, c.String("keyset-file"), door)
	if cfg.Proxy != nil {
		d.add(checkProxy(c.Context, cfg))
	}
	d.examineEgress(c.Context, door, cfg.Proxy != nil, commaSeparated(c.StringSlice("egress-check")))
	if err := d.print(newPrinter(c)); err != nil {
		return err
	}
	if d.Faults > 0 {
		return fmt.Errorf("%d of %d checks found a fault: cure what is marked so, and run doctor again", d.Faults, len(d.Findings))
	}
	return nil
}

func (d *diagnosis) add(f finding) {
	switch f.Level {
	case levelFault:
		d.Faults++
	case levelWarn:
		d.Warnings++
	}
	d.Findings = append(d.Findings, f)
}

func (d *diagnosis) print(out printer) error {
	if out.json {
		return out.value(d)
	}
	keeps := false
	for _, f := range d.Findings {
		check := f.Check
		if f.Node != "" {
			check += " of " + f.Node
		}
		if err := out.line("%-6s %-18s %s", f.Level, printable(check), printable(f.Found)); err != nil {
			return err
		}
		if f.Cure != "" {
			_ = out.line("       %-18s cure: %s", "", printable(f.Cure))
		}
		keeps = keeps || strings.Contains(f.Cure, " CONFIG SET ")
	}
	if keeps {
		_ = out.line("\nCONFIG SET lasts until Redis restarts: put the setting into redis.conf as well, or run CONFIG REWRITE.")
	}
	if d.Durability != nil {
		_ = out.line("\nAn event that was accepted:\n  Redis crashes or is killed: %s\n  its machine loses power:    %s\n  a replica takes over:       %s",
			d.Durability.RedisCrash, d.Durability.PowerCut, d.Durability.Failover)
	}
	return out.line("\nfaults: %d, warnings: %d", d.Faults, d.Warnings)
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
	if letters, err := dispatcher.ExpiringLetters(ctx, rdb); err == nil && letters > 0 { // what cannot be read, other checks have said
		d.add(finding{
			Check: "dead letters", Level: levelWarn, Found: fmt.Sprintf("%d dead deliveries will soon have been kept for as long as serve --dead-retention says", letters),
			Cure: "replay what is still wanted (the workers' logs name the companies), or give --dead-retention more time",
		})
	}
}

// examineProcesses lists who works on this Redis. A process that does not know what another can be asked for holds that back.
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

// examineNode looks at one Redis, whose name among several is name, and reports whether it can be asked for data.
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

// readSettings reads what INFO does not say. A Redis that somebody else runs may keep it to itself.
func readSettings(ctx context.Context, node *redis.Client) map[string]string {
	settings, err := node.ConfigGet(ctx, "appendfsync").Result()
	if err != nil {
		return nil
	}
	return settings
}

// judgeRole: Ringback writes, so it needs a master.
func judgeRole(info map[string]string) finding {
	f := finding{Check: "role", Level: levelOK, Found: "this is a master"}
	if info["role"] != "master" {
		f.Level, f.Found = levelFault, "this is a replica, which takes no writes"
		f.Cure = fmt.Sprintf("give --redis its master, %s port %s", info["master_host"], info["master_port"])
	}
	return f
}

// judgeFsync says what the append-only file is worth when the power goes.
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

// judgeWrites: Redis says of its files on disk whether the last write went well.
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

// judgeMemory asks for a limit, and for room below the share of it, in percent, from which on events are refused. It warns from three quarters
// of that on: a backlog grows by the minute, and there has to be time to act.
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

// measureDrift compares this machine's clock with Redis's, which is taken to have answered halfway between question and answer. An error of
// half the way is possible and given the benefit of the doubt.
func measureDrift(ctx context.Context, node redis.UniversalClient) (finding, error) {
	var drift time.Duration // this machine is ahead by so much
	best := time.Duration(-1)
	for range driftSamples {
		asked := time.Now()
		theirs, err := node.Time(ctx).Result()
		if err != nil {
			return finding{}, fmt.Errorf("asking Redis for its time: %w", err)
		}
		if way := time.Since(asked); best < 0 || way < best {
			best, drift = way, asked.Add(way/2).Sub(theirs)
		}
	}
	return judgeDrift(drift, best/2), nil
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

// metadataService is where clouds give credentials to whoever asks from one of their machines.
var metadataService = netip.MustParseAddrPort("169.254.169.254:80")

// checkProxy asks the proxy for what Ringback's own guard would never let through: a second wall that has this hole is none.
func checkProxy(ctx context.Context, cfg egress.Config) finding {
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	f := finding{Check: "egress proxy", Level: levelOK}
	switch refused, err := egress.TryProxy(ctx, cfg, metadataService); {
	case err == nil:
		f.Level, f.Found = levelWarn, "the proxy lets connections to 169.254.169.254 through, where clouds keep credentials: only Ringback itself refuses them"
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	case errors.Is(err, egress.ErrProxyTried):
		f.Level, f.Found = levelWarn, fmt.Sprintf("the proxy does not refuse connections to 169.254.169.254, where clouds keep credentials: nothing was there this time (%s)", strings.TrimPrefix(err.Error(), "egress: "))
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	case refused:
		f.Found = fmt.Sprintf("a connection to 169.254.169.254 is not let through (%s)", strings.TrimPrefix(err.Error(), "egress: "))
	case errors.Is(err, context.DeadlineExceeded):
		f.Level, f.Found = levelWarn, fmt.Sprintf("the proxy did not say within %s whether it lets connections to 169.254.169.254 through", egressTimeout)
		f.Cure = "let the proxy deny link-local, private and loopback addresses (smokescreen does by itself)"
	default:
		host, port := hostPort(cfg.Proxy)
		f.Level, f.Found = levelFault, fmt.Sprintf("%s: %s", net.JoinHostPort(host, port), strings.TrimPrefix(oneLine(err.Error()), "egress: "))
		f.Cure = "nc -vz " + host + " " + port + " # then see that the proxy runs, and speaks HTTP and CONNECT"
	}
	return f
}

// proxySettings are what other programs take for the way out. Ringback reads none of them: whoever sets them seldom means a dispatcher of webhooks.
var proxySettings = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"}

// examineEgress connects to each URL as a delivery would.
func (d *diagnosis) examineEgress(ctx context.Context, door *egress.Client, proxied bool, urls []string) {
	if len(urls) == 0 {
		d.add(finding{
			Check: "egress", Level: levelWarn, Found: "whether deliveries get out was not checked",
			Cure: "ringback doctor --egress-check https://HOST/ # a partner's URL",
		})
	}
	for _, raw := range urls {
		d.add(checkEgress(ctx, door, raw))
	}
	for _, name := range proxySettings {
		if os.Getenv(name) != "" && !proxied {
			d.add(finding{
				Check: "proxy", Level: levelWarn, Found: name + " is set, and Ringback does not use it: deliveries go out directly",
				Cure: "ringback serve --egress-proxy URL # or open the firewall for this machine, ports 443, 8443 and 80",
			})
			break
		}
	}
}

// checkEgress connects to raw's host through the guard that every delivery passes. The path of raw is not shown: it may hold a secret.
func checkEgress(ctx context.Context, door *egress.Client, raw string) finding {
	f := finding{Check: "egress", Level: levelFault}
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		f.Found, f.Cure = "the URL of --egress-check is none", "write it like https://partner.example/"
		return f
	}
	if err := door.CheckURL(raw); err != nil {
		f.Found, f.Cure = fmt.Sprintf("%s: the URL %v", u.Host, err), allowance(ctx, u.Hostname())
		if errors.Is(err, egress.ErrNameNotAllowed) {
			f.Cure = "ringback serve --egress-allow-name " + u.Hostname() + " # if that host is one of yours"
		}
		return f
	}
	took, err := connect(ctx, door, raw)
	if err == nil {
		f.Level, f.Found = levelOK, fmt.Sprintf("%s: connected in %s", u.Host, took.Round(10*time.Microsecond))
		return f
	}
	f.Found = fmt.Sprintf("%s: %v", u.Host, err)
	trouble, ok := errors.AsType[*egress.Error](err)
	if !ok {
		return f
	}
	if trouble.Inside { // whoever runs doctor may know
		known := *trouble
		known.Reason, known.Detail = egress.Unmask(trouble.Reason, trouble.Detail)
		trouble, f.Found = &known, fmt.Sprintf("%s: %v", u.Host, &known)
	}
	host, port := hostPort(u)
	switch trouble.Reason {
	case egress.DNS:
		f.Cure = "getent hosts " + host + " # then look at /etc/resolv.conf: no name server knew the name, or none answered"
	case egress.BlockedAddress:
		f.Cure = allowance(ctx, host)
	case egress.EgressProxy:
		f.Cure = "let the proxy connect to that host; its log says why it did not"
	case egress.TLS:
		f.Cure = "openssl s_client -connect " + net.JoinHostPort(host, port) + " -servername " + host + " </dev/null # if others fail too: update-ca-certificates"
	default:
		f.Cure = "nc -vz " + host + " " + port + " # if other hosts fail too: open the firewall for this machine"
	}
	return f
}

// connect opens the connection that a request to raw would use, TLS included, and gives the request up before any of it is sent: the hook
// that hears of the connection cancels, and holds the connection back until Do has returned. The error is an *egress.Error.
func connect(ctx context.Context, door *egress.Client, raw string) (time.Duration, error) {
	begun, arrived, over := time.Now(), make(chan time.Duration, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hold := func(err error) {
		if err != nil {
			return
		}
		select {
		case arrived <- time.Since(begun):
			cancel()
		default: // the second of two addresses that are tried side by side
		}
		<-over
	}
	hooks := &httptrace.ClientTrace{ConnectDone: func(_, _ string, err error) { hold(err) }}
	if strings.HasPrefix(strings.ToLower(raw), "https:") {
		hooks = &httptrace.ClientTrace{TLSHandshakeDone: func(_ tls.ConnectionState, err error) { hold(err) }}
	}
	_, err := door.Do(httptrace.WithClientTrace(ctx, hooks), egress.Request{URL: raw, Timeout: egressTimeout})
	close(over)
	select {
	case took := <-arrived:
		return took, nil
	default:
		return 0, err
	}
}

// hostPort is where a request to u goes.
func hostPort(u *url.URL) (host, port string) {
	port = u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[strings.ToLower(u.Scheme)]
	}
	return u.Hostname(), port
}

// allowance is the flag that lets deliveries reach a host that the guard keeps them from.
func allowance(ctx context.Context, host string) string {
	ctx, cancel := context.WithTimeout(ctx, egressTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return "ringback serve --egress-allow CIDR # if that host is one of yours"
	}
	addr := addrs[0].Unmap()
	return fmt.Sprintf("ringback serve --egress-allow %s # if that host is one of yours", netip.PrefixFrom(addr, addr.BitLen()))
}
