package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/steady"
)

const (
	// lookAgainAfter is how old a remembered look may be.
	lookAgainAfter = time.Second

	asynqServers = "asynq:servers"
	lanePrefix   = "ringback-" // of asynq's queues that are Ringback's (package dispatcher)
)

// Presence is the processes that work on a Redis.
type Presence struct {
	// Processes are those that announced themselves, by host and pid, and then the traces of processes of an older level that did not: asynq's
	// record of a worker, or the name of connections. One process may leave both.
	Processes []Process

	// Unseen is why the names of connections could not be read. Nil: they were read. Processes of level 1 that only serve the API leave
	// no other trace.
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

// Look returns the processes that work on a Redis at the moment. It runs no script, for callers that only look. Time is the installation's, as it is
// written down.
func Look(ctx context.Context, rdb redis.UniversalClient) (*Presence, error) {
	return LookBy(ctx, rdb, nil)
}

// LookBy is Look by a process's clock, unless that is nil. A step of Redis's clock that nobody has noticed yet does not mislead it.
func LookBy(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock) (*Presence, error) {
	announced, now, err := readAnnounced(ctx, rdb, clock)
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

// silentWorkers are the live workers in asynq's list that no announced process accounts for. asynq writes by each worker's own clock until when its word
// is good. The installation's time is held against that, or this machine's if it is earlier: while the installation's comes back to that of a clock
// that is wrong, no live worker counts as gone.
func silentWorkers(ctx context.Context, rdb redis.UniversalClient, announced []Process, now time.Time) ([]Process, error) {
	if own := time.Now(); own.Before(now) {
		now = own
	}
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

// serverDetails is what asynq knows of its servers, by their ids. If a server cannot be read, it is left out, and less is said about it.
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

// silentClients are the processes of an older level, by level and address, whose connections bear its name. If processes of that level
// announced themselves, it leaves out the level.
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

// Public is Error for readers that must not learn about the machines inside.
func (e *OldProcessError) Public() string {
	return e.What + " has to wait: a process of an older version is still running here; try again when the operator has upgraded it"
}

// presence is a Look that is remembered.
type presence struct {
	mu   sync.Mutex
	seen *Presence
	at   time.Time
}

// look looks again if the last look is too old.
func (p *presence) look(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock) (*Presence, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.seen == nil || time.Since(p.at) >= lookAgainAfter {
		at := time.Now()
		seen, err := LookBy(ctx, rdb, clock)
		if err != nil {
			return nil, err
		}
		p.seen, p.at = seen, at
	}
	return p.seen, nil
}

// know returns an *OldProcessError if one of the processes is below a level.
func (p *Presence) know(what string, needs int) error {
	if old := p.Older(needs); len(old) > 0 {
		return &OldProcessError{What: what, Needs: needs, Old: old}
	}
	return nil
}
