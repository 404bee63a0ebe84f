package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// knows asks as a request would that uses something of this program's level.
func (h *house) knows() *registry.OldProcessError {
	h.t.Helper()
	// Another process each time: a registry remembers its answer for a second.
	err := h.neighbour().KnownEverywhere(h.t.Context(), "a quota", registry.Level)
	old, ok := errors.AsType[*registry.OldProcessError](err)
	if err != nil && !ok {
		h.t.Fatal(err)
	}
	return old
}

func (h *house) announce(p registry.Process) (stop func()) {
	h.t.Helper()
	end, err := registry.Announce(h.t.Context(), h.redis, nil, p, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	return func() {
		if err := end(context.WithoutCancel(h.t.Context())); err != nil {
			h.t.Error(err)
		}
	}
}

// TestOldProcessesAreSeenByTheirTraces: commit 6da24ca announces nothing, but names its connections, and its workers stand in asynq's list.
func TestOldProcessesAreSeenByTheirTraces(t *testing.T) {
	server := redistest.Start(t)
	for _, tt := range []struct {
		name  string
		start func(*house) (stop func())
		want  string // what the refusal says of the process; empty: there is none
	}{
		{"nobody", func(*house) func() { return func() {} }, ""},
		{"this program's process", func(h *house) func() { return h.announce(registry.Self("v2", "api")) }, ""},
		{"this program's command", func(h *house) func() { return connect(t, server, registry.ClientName()) }, ""},
		{"a stranger", func(h *house) func() { return connect(t, server, "ringbackup") }, ""},
		{"an old process", func(h *house) func() { return connect(t, server, "ringback") }, "host 127.0.0.1, since 20"},
		{"an old process beside a new one", func(h *house) func() {
			stop := h.announce(registry.Self("v2", "api"))
			end := connect(t, server, "ringback")
			return func() { end(); stop() }
		}, "host 127.0.0.1, since 20"},
		{"an old worker whose connections nobody sees", func(h *house) func() { return work(t, server, "ringback-0") }, "host " + hostname(t) + ", pid "},
		{"a worker of this program", func(h *house) func() {
			stop := h.announce(registry.Self("v2", "worker"))
			end := work(t, server, "ringback-0")
			return func() { end(); stop() }
		}, ""},
		{"another program's worker", func(h *house) func() { return work(t, server, "mails") }, ""},
		{"an announced process of an older level", func(h *house) func() {
			return h.announce(registry.Process{ID: "x", Level: registry.Level - 1, Version: "v1.9", Roles: "api", Host: "web-7", PID: 12})
		}, fmt.Sprintf("host web-7, pid 12, api, version v1.9, level %d", registry.Level-1)},
	} {
		h := openHouse(t, server, newKeyset(t))
		stop := tt.start(h)
		old := h.knows()
		switch {
		case tt.want == "" && old != nil:
			t.Errorf("%s: refused: %v", tt.name, old)
		case tt.want != "" && old == nil:
			t.Errorf("%s: not refused", tt.name)
		case tt.want != "" && !strings.Contains(old.Error(), tt.want):
			t.Errorf("%s: %q, want %q", tt.name, old, tt.want)
		case old != nil && strings.Contains(old.Public(), "host"):
			t.Errorf("%s: the public sentence names a machine: %s", tt.name, old.Public())
		}
		stop()
		if old := h.knows(); old != nil {
			t.Errorf("%s: still refused when it had ended: %v", tt.name, old)
		}
	}

	// A request that uses nothing new never asks.
	end := connect(t, server, "ringback")
	defer end()
	h := openHouse(t, server, newKeyset(t))
	if err := h.KnownEverywhere(t.Context(), "everything before", 1); err != nil {
		t.Error(err)
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// connect leaves the trace of a process whose connections bear a name.
func connect(t *testing.T, server *redistest.Server, name string) (end func()) {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: server.Addr(), ClientName: name, Protocol: 2})
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	return func() { _ = rdb.Close() }
}

// work leaves the trace of an asynq server on a queue.
func work(t *testing.T, server *redistest.Server, queue string) (end func()) {
	t.Helper()
	rdb := server.Client()
	w := asynq.NewServerFromRedisClient(rdb, asynq.Config{Concurrency: 1, Queues: map[string]int{queue: 1}, TaskCheckInterval: time.Millisecond, LogLevel: asynq.FatalLevel})
	if err := w.Start(asynq.NewServeMux()); err != nil {
		t.Fatal(err)
	}
	for rdb.ZCard(t.Context(), "asynq:servers").Val() == 0 || len(rdb.Keys(t.Context(), "asynq:servers:*").Val()) == 0 {
		time.Sleep(time.Millisecond)
	}
	return w.Shutdown
}

// TestWhereConnectionsAreNotListed: a Redis that refuses CLIENT LIST leaves asynq's list, and says so.
func TestWhereConnectionsAreNotListed(t *testing.T) {
	server := redistest.Start(t)
	ctx := t.Context()
	defer connect(t, server, "ringback")()
	if err := server.Client().Do(ctx, "ACL", "SETUSER", "default", "-client|list").Err(); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, server, newKeyset(t))
	present, err := registry.Look(ctx, h.redis)
	if err != nil || present.Unseen == nil || len(present.Processes) != 0 {
		t.Errorf("%+v, %v: want that connections are not seen", present, err)
	}
	defer work(t, server, "ringback-slow")()
	if old := h.knows(); old == nil {
		t.Error("an old worker was not seen")
	}
}

// TestAnnouncementsRunOut: a process that dies without a word counts as alive for 20 s. One that lives counts for as long as it does. One that
// ends in order does not count any more. If Redis's clock goes back, nobody is alive for longer.
func TestAnnouncementsRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		defer m.Close()
		h := &house{t: t, redis: redis.NewClient(&redis.Options{
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }, Protocol: 2,
		})}
		defer func() { _ = h.redis.Close() }()
		want := func(when, ids string) {
			t.Helper()
			present, err := registry.Look(t.Context(), h.redis)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			for _, p := range present.Processes {
				got.WriteString(p.ID)
			}
			if got.String() != ids {
				t.Errorf("%s: %q live, want %q", when, got.String(), ids)
			}
		}
		named := func(id string) registry.Process {
			return registry.Process{ID: id, Level: registry.Level, Host: id}
		}
		stopA, stopB := h.announce(named("a")), h.announce(named("b"))
		want("at first", "ab")
		time.Sleep(2 * time.Minute)
		want("after two minutes", "ab")
		stopB()
		want("b ended", "a")

		died := func(id string) { // it said so, and nothing renews it
			text, err := json.Marshal(named(id))
			if err != nil {
				t.Fatal(err)
			}
			h.redis.ZAdd(t.Context(), "ringback:processes", redis.Z{Score: float64(time.Now().UnixMilli()), Member: text})
		}
		died("c")
		want("c was killed", "ac")
		time.Sleep(19 * time.Second)
		want("19 s later", "ac")
		time.Sleep(7 * time.Second)
		want("26 s later", "a")

		died("d")
		back := time.Now().Add(-2 * time.Minute)
		m.SetTime(back)
		time.Sleep(6 * time.Second)
		want("Redis's clock went back", "ad")
		m.SetTime(back.Add(21 * time.Second))
		time.Sleep(6 * time.Second)
		want("21 s later, by that clock", "a")
		stopA()
		want("all ended", "")
	})
}

// A panic in an announcement ends that one: it is logged, and the process goes on and says again that it lives.
func TestAnnouncementsOutliveAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		defer m.Close()
		rdb := redis.NewClient(&redis.Options{
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }, Protocol: 2,
		})
		defer func() { _ = rdb.Close() }()
		var log strings.Builder
		stop, err := registry.Announce(t.Context(), rdb, nil, registry.Self("v2", "api"), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		rdb.AddHook(&panicky{})
		time.Sleep(time.Minute)
		present, err := registry.Look(t.Context(), rdb)
		if err != nil || len(present.Processes) != 1 {
			t.Errorf("a minute later: %+v, %v", present, err)
		}
		if err := stop(t.Context()); err != nil {
			t.Error(err)
		}
		if said := log.String(); strings.Count(said, "panicked: broken on purpose") != 1 {
			t.Errorf("the log: %s", said)
		}
	})
}

// panicky panics at the first command.
type panicky struct{ once sync.Once }

func (*panicky) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*panicky) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (p *panicky) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		p.once.Do(func() { panic("broken on purpose") })
		return next(ctx, cmd)
	}
}
