package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// Level says which features a process knows: each feature that a process without it would ignore or misread belongs to the first level
// whose processes know it. It grows with a release that has such features.
//
//	1  commit 6da24ca, which announces nothing
//	2  processes announce themselves, and know unverified callbacks, anchored seals, quotas and keys that are bound to callbacks
const Level = 2

// announcedLevel is the [Level] that brought all that.
const announcedLevel = 2

const (
	// clientName is what processes of level 1 call their connections to Redis. Later ones add a slash and their level.
	clientName = "ringback"

	// announceEvery is how often a process says that it lives, and aliveFor how long that is believed: three lost announcements and a slow
	// one.
	announceEvery = 5 * time.Second
	aliveFor      = 20 * time.Second

	// lookAgainAfter is how old the answer of KnownEverywhere may be.
	lookAgainAfter = time.Second

	asynqServers = "asynq:servers"
	lanePrefix   = "ringback-" // of asynq's queues that are Ringback's (package dispatcher)
)

// ClientName is the name that the connections of this program's processes to Redis bear: KnownEverywhere tells levels apart by it.
func ClientName() string { return clientName + "/" + strconv.Itoa(Level) }

// LevelOfName returns the level of the processes whose connections bear that name, 0 if they are none of Ringback's, or have a name of
// their own.
func LevelOfName(name string) int {
	if name == clientName {
		return 1
	}
	if text, ok := strings.CutPrefix(name, clientName+"/"); ok {
		if level, err := strconv.Atoi(text); err == nil && level > 1 {
			return level
		}
	}
	return 0
}

// Process is a process of an installation.
type Process struct {
	ID      string    `json:"id,omitempty"` // its own choice; empty: it did not announce itself
	Level   int       `json:"level"`
	Version string    `json:"version,omitempty"` // of the program; empty: not known
	Roles   string    `json:"roles,omitempty"`   // such as "api,worker"; empty: not known
	Host    string    `json:"host"`              // its name, or where it did not announce itself, perhaps its address
	PID     int       `json:"pid,omitempty"`     // 0: not known
	Since   time.Time `json:"since"`             // alive since, or seen since; zero: not known
	Keys    []string  `json:"keys,omitempty"`    // the ids of its keyset's keys; nil: not known
}

// String names the process for whoever has to find it.
func (p Process) String() string {
	var b strings.Builder
	b.WriteString("host " + p.Host)
	if p.PID != 0 {
		fmt.Fprintf(&b, ", pid %d", p.PID)
	}
	if p.Roles != "" {
		b.WriteString(", " + p.Roles)
	}
	if p.Version != "" {
		b.WriteString(", version " + p.Version)
	}
	if !p.Since.IsZero() {
		b.WriteString(", since " + p.Since.UTC().Format(time.RFC3339))
	}
	return b.String() + fmt.Sprintf(", level %d", p.Level)
}

// Self describes this process.
func Self(version, roles string) Process {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host" // as asynq says
	}
	return Process{ID: rand.Text(), Level: Level, Version: version, Roles: roles, Host: host, PID: os.Getpid(), Since: time.Now().UTC().Truncate(time.Second)}
}

// announce says that the process ARGV[1] lives, forgets those that have not said so for ARGV[2] ms, and pulls back what lies ahead: Redis's
// clock went back, and the dead would be taken for alive until it has caught up.
var announce = redis.NewScript(`
local t = redis.call('TIME')
local ms = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local now = string.format('%.0f', ms)
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. string.format('%.0f', ms - tonumber(ARGV[2])))
for _, ahead in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf')) do
	redis.call('ZADD', KEYS[1], now, ahead)
end
return now`)

// Announce makes the process known to the installation, and keeps it known until stop, which takes its name back and returns when nothing of
// it runs any more. A process that dies without stop counts as alive for 20 s. The error says that Redis did not take the first
// announcement; later failures are logged, and tried again within seconds.
func Announce(ctx context.Context, rdb redis.UniversalClient, p Process, log *slog.Logger) (stop func(context.Context) error, err error) {
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("registry: announce the process: %w", err)
	}
	say := func(ctx context.Context) (err error) {
		defer func() { // a fault of ours ends this announcement, not the process
			if cause := recover(); cause != nil {
				err = fmt.Errorf("registry: announce the process: panicked: %v\n%s", cause, debug.Stack())
			}
		}()
		if err := announce.Run(ctx, rdb, []string{processesKey}, text, aliveFor.Milliseconds()).Err(); err != nil {
			return fmt.Errorf("registry: announce the process: %w", err)
		}
		return nil
	}
	if err := say(ctx); err != nil {
		return nil, err
	}
	going, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(announceEvery)
		defer ticker.Stop()
		for {
			select {
			case <-going.Done():
				return
			case <-ticker.C:
				if err := say(going); err != nil && going.Err() == nil {
					log.WarnContext(going, "this process could not say that it lives", "error", err)
				}
			}
		}
	})
	return func(ctx context.Context) error {
		cancel()
		wg.Wait()
		if err := rdb.ZRem(ctx, processesKey, text).Err(); err != nil {
			return fmt.Errorf("registry: take back the announcement of the process: %w", err)
		}
		return nil
	}, nil
}

// Presence is who works on a Redis.
type Presence struct {
	// Processes are those that announced themselves, by host and pid, and then the traces of processes of an older level that did not: asynq's
	// record of a worker, or the name of connections. One process may leave both.
	Processes []Process

	// Unseen is why the names of connections could not be read; nil: they were. Processes of level 1 that only serve the API leave no
	// other trace.
	Unseen error
}

// Older returns the processes that are below a level.
func (p *Presence) Older(level int) []Process {
	var older []Process
	for _, process := range p.Processes {
		if process.Level < level {
			older = append(older, process)
		}
	}
	return older
}

// Look returns who works on a Redis at the moment. It runs no script, for those who only look.
func Look(ctx context.Context, rdb redis.UniversalClient) (*Presence, error) {
	announced, now, err := readAnnounced(ctx, rdb)
	if err != nil {
		return nil, err
	}
	p := &Presence{Processes: announced}
	workers, err := silentWorkers(ctx, rdb, announced, now)
	if err != nil {
		return nil, err
	}
	p.Processes = append(p.Processes, workers...)
	clients, err := listClients(ctx, rdb)
	if _, refused := errors.AsType[redis.Error](err); refused {
		p.Unseen = err
		return p, nil
	}
	if err != nil {
		return nil, fmt.Errorf("registry: list the connections to Redis: %w", err)
	}
	p.Processes = append(p.Processes, silentClients(clients, announced, now)...)
	return p, nil
}

func readAnnounced(ctx context.Context, rdb redis.UniversalClient) (announced []Process, now time.Time, err error) {
	if now, err = rdb.Time(ctx).Result(); err != nil {
		return nil, now, fmt.Errorf("registry: list the processes: %w", err)
	}
	since := strconv.FormatInt(now.Add(-aliveFor).UnixMilli(), 10)
	found, err := rdb.ZRangeByScore(ctx, processesKey, &redis.ZRangeBy{Min: since, Max: "+inf"}).Result()
	if err != nil {
		return nil, now, fmt.Errorf("registry: list the processes: %w", err)
	}
	for _, text := range found {
		var p Process
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, now, fmt.Errorf("registry: the announcement of a process is not readable: %w", err)
		}
		announced = append(announced, p)
	}
	slices.SortFunc(announced, func(a, b Process) int {
		return strings.Compare(fmt.Sprintf("%s %10d %s", a.Host, a.PID, a.ID), fmt.Sprintf("%s %10d %s", b.Host, b.PID, b.ID))
	})
	return announced, now.UTC(), nil
}

// silentWorkers are the live workers in asynq's list that no announced process accounts for.
func silentWorkers(ctx context.Context, rdb redis.UniversalClient, announced []Process, now time.Time) ([]Process, error) {
	keys, err := rdb.ZRangeByScore(ctx, asynqServers, &redis.ZRangeBy{Min: strconv.FormatInt(now.Unix(), 10), Max: "+inf"}).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list asynq's servers: %w", err)
	}
	var silent []Process
	var details map[string]*asynq.ServerInfo
	for _, key := range keys {
		host, pid, id, ok := parseServerKey(key)
		if !ok || slices.ContainsFunc(announced, func(p Process) bool { return p.Host == host && p.PID == pid }) {
			continue
		}
		if details == nil { // rarely: asynq's inspector knows no context
			details = serverDetails(rdb)
		}
		p := Process{Level: 1, Roles: "worker", Host: host, PID: pid}
		if info := details[id]; info != nil {
			if !worksLanes(info) {
				continue
			}
			p.Since = info.Started.UTC()
		}
		silent = append(silent, p)
	}
	return silent, nil
}

// parseServerKey takes asynq:servers:{host:pid:id} apart.
func parseServerKey(key string) (host string, pid int, id string, ok bool) {
	inner, ok := strings.CutPrefix(key, asynqServers+":{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	i := strings.LastIndex(inner, ":")
	if !ok || !ok2 || i < 0 {
		return "", 0, "", false
	}
	j := strings.LastIndex(inner[:i], ":")
	if j < 0 {
		return "", 0, "", false
	}
	pid, err := strconv.Atoi(inner[j+1 : i])
	return inner[:j], pid, inner[i+1:], err == nil
}

// serverDetails is what asynq knows of its servers, by their ids; what cannot be read, less is said about.
func serverDetails(rdb redis.UniversalClient) map[string]*asynq.ServerInfo {
	details := map[string]*asynq.ServerInfo{}
	servers, _ := asynq.NewInspectorFromRedisClient(rdb).Servers()
	for _, info := range servers {
		details[info.ID] = info
	}
	return details
}

func worksLanes(info *asynq.ServerInfo) bool {
	for queue := range info.Queues {
		if strings.HasPrefix(queue, lanePrefix) {
			return true
		}
	}
	return false
}

// listClients returns CLIENT LIST of every node that rdb writes to.
func listClients(ctx context.Context, rdb redis.UniversalClient) (string, error) {
	list := func(ctx context.Context, node redis.Cmdable) (string, error) { return node.ClientList(ctx).Result() }
	cluster, ok := rdb.(*redis.ClusterClient)
	if !ok {
		return list(ctx, rdb)
	}
	var mu sync.Mutex
	var all strings.Builder
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		text, err := list(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		all.WriteString(text)
		return err
	})
	return all.String(), err
}

// silentClients are the processes of an older level, by level and address, whose connections bear its name, unless processes of that level
// announced themselves.
func silentClients(list string, announced []Process, now time.Time) []Process {
	var silent []Process
	for line := range strings.Lines(list) {
		fields := map[string]string{}
		for pair := range strings.FieldsSeq(line) {
			name, value, _ := strings.Cut(pair, "=")
			fields[name] = value
		}
		level := LevelOfName(fields["name"])
		if level == 0 || level >= Level || slices.ContainsFunc(announced, func(p Process) bool { return p.Level == level }) {
			continue
		}
		host, _, err := net.SplitHostPort(fields["addr"])
		if err != nil || strings.HasPrefix(host, "/") { // a Unix socket
			host = "Redis's own"
		}
		age, _ := strconv.Atoi(fields["age"])
		p := Process{Level: level, Host: host, Since: now.Add(-time.Duration(age) * time.Second).Truncate(time.Second)}
		i := slices.IndexFunc(silent, func(q Process) bool { return q.Level == level && q.Host == host })
		if i < 0 {
			silent = append(silent, p)
		} else if p.Since.Before(silent[i].Since) {
			silent[i].Since = p.Since
		}
	}
	return silent
}

// OldProcessError says that something new is refused while a process is alive that would ignore or misread it.
type OldProcessError struct {
	What  string    // that was asked for, such as "a quota"
	Needs int       // the level of all processes
	Old   []Process // that are below it; at least one
}

// Error names the first of the processes.
func (e *OldProcessError) Error() string {
	more := ""
	if n := len(e.Old) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more)", n)
	}
	return fmt.Sprintf("%s has to wait: a process of this installation does not know it, %s%s; upgrade or stop it, then try again (`ringback doctor` lists all processes)", e.What, e.Old[0], more)
}

// Public is Error for who must not learn about the machines inside.
func (e *OldProcessError) Public() string {
	return e.What + " has to wait: a process of an older version is still running here; try again when the operator has upgraded it"
}

// presence is what KnownEverywhere saw last.
type presence struct {
	mu   sync.Mutex
	seen *Presence
	at   time.Time
}

// KnownEverywhere returns an *OldProcessError while a process of the installation is alive whose level is below needs, the level that
// brought what is asked for. Other errors are Redis's. It asks Redis at most once a second; call it before anything new is written.
func (r *Registry) KnownEverywhere(ctx context.Context, what string, needs int) error {
	r.presence.mu.Lock()
	defer r.presence.mu.Unlock()
	if r.presence.seen == nil || time.Since(r.presence.at) >= lookAgainAfter {
		at := time.Now()
		seen, err := Look(ctx, r.redis)
		if err != nil {
			return err
		}
		r.presence.seen, r.presence.at = seen, at
	}
	return r.presence.seen.know(what, needs)
}

// know returns an *OldProcessError if one of the processes is below a level.
func (p *Presence) know(what string, needs int) error {
	if old := p.Older(needs); len(old) > 0 {
		return &OldProcessError{What: what, Needs: needs, Old: old}
	}
	return nil
}
