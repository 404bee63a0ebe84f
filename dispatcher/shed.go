package dispatcher

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// forgetAfter is how old Redis's last answer may be before it counts for nothing.
const forgetAfter = 5 * time.Second

// lookEvery is how often a client asks how full Redis is: what it takes meanwhile has to fit into the room that is left.
const lookEvery = 100 * time.Millisecond

// lookWithin is how long a look may take, and lookAgain when the next is after one that got no answer from a node: the caller who looks waits for it.
const lookWithin, lookAgain = 250 * time.Millisecond, time.Second

// memory is what Redis last said of its own.
type memory struct {
	used, limit int64 // bytes; limit 0: none is set
	at          time.Time
}

// share is how full Redis is, in percent, 0 if it has no limit.
func (m memory) share() int64 {
	if m.limit <= 0 {
		return 0
	}
	return m.used * 100 / m.limit
}

// A gauge looks at Redis's memory now and then. One caller asks, the others go on with the last answer.
type gauge struct {
	rdb    redis.UniversalClient
	log    *slog.Logger
	shedAt int64 // percent

	last   atomic.Pointer[memory]
	asking atomic.Bool
	next   atomic.Int64 // when to look again, in ns, if a node did not answer
}

// overloaded reports whether Redis is too full to take more events. If that cannot be known, it is not.
func (g *gauge) overloaded(ctx context.Context) bool {
	last := g.last.Load()
	if (last == nil || time.Since(last.at) >= lookEvery) && time.Now().UnixNano() >= g.next.Load() && g.asking.CompareAndSwap(false, true) {
		ctx, cancel := context.WithTimeout(ctx, lookWithin)
		m, err := g.read(ctx)
		cancel()
		if err != nil {
			g.next.Store(time.Now().Add(lookAgain).UnixNano())
		}
		if !m.at.IsZero() { // of a cluster, some masters may have answered
			g.note(ctx, last, m)
			last = &m
		}
		g.asking.Store(false)
	}
	return last != nil && time.Since(last.at) < forgetAfter && last.share() >= g.shedAt
}

// note keeps m, and logs when shedding begins and ends.
func (g *gauge) note(ctx context.Context, last *memory, m memory) {
	g.last.Store(&m)
	before, after := last != nil && last.share() >= g.shedAt, m.share() >= g.shedAt
	switch {
	case after && !before:
		g.log.ErrorContext(ctx, "redis is too full: events are refused until there is room; raise maxmemory, or find what fills it",
			"used", m.used, "maxmemory", m.limit, "shed_at_percent", g.shedAt)
	case before && !after:
		g.log.InfoContext(ctx, "redis has room again: events are accepted", "used", m.used, "maxmemory", m.limit)
	}
}

// read asks Redis; of a cluster's masters, the fullest counts of those that answer.
func (g *gauge) read(ctx context.Context) (memory, error) {
	cluster, ok := g.rdb.(*redis.ClusterClient)
	if !ok {
		text, err := g.rdb.Info(ctx, "memory").Result()
		if err != nil {
			return memory{}, err
		}
		return parseMemory(text), nil
	}
	var mu sync.Mutex
	var fullest memory
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		text, err := master.Info(ctx, "memory").Result()
		mu.Lock()
		defer mu.Unlock()
		if m := parseMemory(text); err == nil && (fullest.at.IsZero() || m.share() > fullest.share()) {
			fullest = m
		}
		return err
	})
	return fullest, err
}

func parseMemory(text string) memory {
	m := memory{at: time.Now()}
	for line := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case err != nil:
		case name == "used_memory":
			m.used = n
		case name == "maxmemory":
			m.limit = n
		}
	}
	return m
}
