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
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
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

// announce says that the process ARGV[1] lives, and forgets those that have not said so for ARGV[2] ms. If Redis's clock went back, it pulls
// back what lies ahead: the dead would be taken for alive until the clock has caught up.
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

// Announce makes the process known to the installation, and keeps it known until stop. stop takes its name back, and returns when nothing of
// the announcement runs any more. A process that dies without stop counts as alive for 20 s. The error says that Redis did not take the first
// announcement. Later failures are logged, and tried again within seconds.
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

// readAnnounced returns the processes that announced themselves, by host and pid, and Redis's time.
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
