package registry

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/steady"
)

const (
	// announceEvery is how often a process says that it lives.
	announceEvery = 5 * time.Second

	// aliveFor is how long that is believed: for three lost announcements and a slow one.
	aliveFor = 20 * time.Second
)

// Process is a process of an installation.
type Process struct {
	ID      string    `json:"id,omitempty"` // its own choice; empty: it did not announce itself
	Level   int       `json:"level"`
	Version string    `json:"version,omitempty"` // of the program; empty: not known
	Roles   string    `json:"roles,omitempty"`   // such as "api,worker"; empty: not known
	Host    string    `json:"host"`              // its name; if it did not announce itself, perhaps its address
	PID     int       `json:"pid,omitempty"`     // 0: not known
	Since   time.Time `json:"since"`             // alive since, or seen since; zero: not known
	Keys    []string  `json:"keys,omitempty"`    // the ids of its keyset's keys; nil: not known
	Steady  bool      `json:"steady,omitempty"`  // it says so by the installation's time (package steady); versions before go by Redis's clock
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

// announce says that the process ARGV[1] lives, at ARGV[3] (ms) by the installation's time, and forgets those that have not said so for ARGV[2] ms, as
// [recent] has it. What lies ahead by more than ARGV[4] ms is pulled back: the dead would be taken for alive until the clock has caught up.
var announce = redis.NewScript(`
local t = redis.call('TIME')
local steady, wall = tonumber(ARGV[3]), tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
local all = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #all, 2 do
	local clocks, said = {steady, wall}, tonumber(all[i + 1])
	if string.find(all[i], '"steady":true', 1, true) then clocks = {steady} end
	local ahead, recent = true, false
	for _, now in ipairs(clocks) do
		if said <= now + tonumber(ARGV[4]) then
			ahead = false
			recent = recent or said >= now - tonumber(ARGV[2])
		end
	end
	if ahead then
		redis.call('ZADD', KEYS[1], string.format('%.0f', math.max(unpack(clocks))), all[i])
	elseif not recent then
		redis.call('ZREM', KEYS[1], all[i])
	end
end
return ARGV[3]`)

// recent reports whether what a process said at a time is still believed, by the clocks that it may have said it by: it is recent by one of them, or
// ahead of all. Processes say it by the installation's time. Those of versions before say it by Redis's clock, which may have stepped since.
func recent(said time.Time, clocks ...time.Time) bool {
	ahead := true
	for _, now := range clocks {
		if !said.After(now.Add(announceEvery)) {
			ahead = false
			if !said.Before(now.Add(-aliveFor)) {
				return true
			}
		}
	}
	return ahead
}

// Announce makes the process known to the installation, and keeps it known until stop. stop takes its name back, and returns when nothing of
// the announcement runs any more. A process that dies without stop counts as alive for 20 s. The error says that Redis did not take the first
// announcement. Later failures are logged, and tried again within seconds.
//
// clock is the process's own. Nil: the installation's time is what is written down of it.
func Announce(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock, p Process, log *slog.Logger) (stop func(context.Context) error, err error) {
	p.Steady = true
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
		now, err := timeBy(ctx, rdb, clock)
		if err == nil {
			err = announce.Run(ctx, rdb, []string{processesKey}, text, aliveFor.Milliseconds(), now.UnixMilli(), announceEvery.Milliseconds()).Err()
		}
		if err != nil {
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

// timeBy is the installation's time by a process's clock, or as it is written down if that is nil.
func timeBy(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock) (time.Time, error) {
	if clock != nil {
		return clock.Now(ctx)
	}
	now, _, err := steady.Expect(ctx, rdb)
	return now, err
}

// bothTimes are the same time and Redis's clock.
func bothTimes(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock) (now, wall time.Time, err error) {
	if clock == nil {
		return steady.Expect(ctx, rdb)
	}
	if wall, err = rdb.Time(ctx).Result(); err == nil {
		now, err = clock.Now(ctx)
	}
	return now, wall, err
}

// readAnnounced returns the processes that announced themselves, by host and pid, and the installation's time.
func readAnnounced(ctx context.Context, rdb redis.UniversalClient, clock *steady.Clock) (announced []Process, now time.Time, err error) {
	now, wall, err := bothTimes(ctx, rdb, clock)
	if err != nil {
		return nil, now, fmt.Errorf("registry: list the processes: %w", err)
	}
	found, err := rdb.ZRangeWithScores(ctx, processesKey, 0, -1).Result()
	if err != nil {
		return nil, now, fmt.Errorf("registry: list the processes: %w", err)
	}
	for _, said := range found {
		var p Process
		text, _ := said.Member.(string)
		if err := json.Unmarshal([]byte(text), &p); err != nil {
			return nil, now, fmt.Errorf("registry: the announcement of a process is not readable: %w", err)
		}
		clocks := []time.Time{now, wall}
		if p.Steady {
			clocks = clocks[:1]
		}
		if recent(time.UnixMilli(int64(said.Score)), clocks...) {
			announced = append(announced, p)
		}
	}
	slices.SortFunc(announced, func(a, b Process) int {
		return strings.Compare(fmt.Sprintf("%s %10d %s", a.Host, a.PID, a.ID), fmt.Sprintf("%s %10d %s", b.Host, b.PID, b.ID))
	})
	return announced, now.UTC(), nil
}
