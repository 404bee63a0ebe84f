package main

import (
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/redistest"
	"github.com/ringback/ringback/registry/steady"
)

func TestOpenRedisReadsURLs(t *testing.T) {
	type options struct {
		Addr, Username, Password string
		DB                       int
		TLS                      bool
	}
	for _, tt := range []struct {
		url  string
		want options
	}{
		{"redis://127.0.0.1", options{Addr: "127.0.0.1:6379"}},
		{"redis://me:s3cret@127.0.0.1:7000/3", options{"127.0.0.1:7000", "me", "s3cret", 3, false}},
		{"rediss://:s3cret@redis.example", options{"redis.example:6379", "", "s3cret", 0, true}},
		{"unix:///run/redis.sock?db=2", options{Addr: "/run/redis.sock", DB: 2}},
		{"redis+sentinel://me:s3cret@a:1,b/mymaster/2", options{"FailoverClient", "me", "s3cret", 2, false}},
	} {
		rdb, err := openRedis(tt.url, "", 10)
		if err != nil {
			t.Errorf("%s: %v", tt.url, err)
			continue
		}
		o := rdb.(*redis.Client).Options()
		if diff := cmp.Diff(tt.want, options{o.Addr, o.Username, o.Password, o.DB, o.TLSConfig != nil}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.url, diff)
		}
		if o.ReadTimeout != redisTimeout || !o.ContextTimeoutEnabled || o.MaxRetries != redisRetries || o.DialerRetries != redisDials {
			t.Errorf("%s: read timeout %v, context timeout %v, retries %d, dials %d", tt.url, o.ReadTimeout, o.ContextTimeoutEnabled, o.MaxRetries, o.DialerRetries)
		}
		_ = rdb.Close()
	}

	rdb, err := openRedis("redis+cluster://:s3cret@a:1,b:2,c", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	cluster := rdb.(*redis.ClusterClient).Options()
	if diff := cmp.Diff([]string{"a:1", "b:2", "c:1"}, cluster.Addrs); diff != "" || cluster.Password != "s3cret" || cluster.DialerRetries != redisDials {
		t.Errorf("cluster (-want +got):\n%s, password %t, dials %d", diff, cluster.Password == "s3cret", cluster.DialerRetries)
	}
}

func TestRedisLogIsNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text strings.Builder
		log := &libraryLog{name: "redis client", sparseLog: sparseLog{log: slog.New(slog.NewTextHandler(&text, nil))}}
		for range 3 {
			log.Printf(t.Context(), "failed to dial after %d attempts:\nrefused", 1)
		}
		if got := text.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "failed to dial after 1 attempts") {
			t.Errorf("three at once: %q, want the first", got)
		}
		text.Reset()
		time.Sleep(sparseEvery)
		log.Printf(t.Context(), "sentinel: new master")
		if got := text.String(); !strings.Contains(got, "new master") || !strings.Contains(got, "left_out=2") {
			t.Errorf("later: %q, want it, and that two were left out", got)
		}
	})
}

// TestALostRedisIsNoFlood: go-redis says little while Redis is down, and what we say ourselves stays.
func TestALostRedisIsNoFlood(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	serve := startPlain(t, nil, "serve", "--redis", redis.URL(), "--keyset-file", filepath.Join(t.TempDir(), "k.json"), "--listen", "127.0.0.1:0")
	address(serve)
	redis.Kill()
	serve.await(`(?s)"msg":"redis client: .*("level":"ERROR","msg":"[^r].*){8}`) // others go on trying in vain, and saying so
	if n := strings.Count(serve.said.String(), `"msg":"redis client: `); n != 1 {
		t.Errorf("go-redis wrote %d lines:\n%s", n, serve.said)
	}
}

func TestOpenRedisNeverShowsThePassword(t *testing.T) {
	for _, url := range []string{
		"", "localhost:6379", "http://:s3cret@h", "redis://:s3cret@h:port", "redis://:s3cret@h/db", "redis+sentinel://:s3cret@h:1", "redis+sentinel://:s3cret@h:x/m",
	} {
		_, err := openRedis(url, "", 10)
		if err == nil {
			t.Errorf("%q was accepted", url)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: the password is in %q", url, err)
		}
	}
}

func TestJudgeRedis(t *testing.T) {
	for _, tt := range []struct{ version, policy, want string }{
		{"7.0.15", "noeviction", ""},
		{"6.2.0", "noeviction", ""},
		{"10.1", "", ""},
		{"6.0.16", "noeviction", "6.2"},
		{"5.0.7", "noeviction", "6.2"},
		{"7.2.4", "allkeys-lru", "maxmemory-policy noeviction"},
		{"7.2.4", "volatile-ttl", "maxmemory-policy noeviction"},
		{"unstable", "noeviction", ""},
	} {
		info := map[string]string{"redis_version": tt.version, "maxmemory_policy": tt.policy}
		var faults strings.Builder
		for _, f := range []finding{judgeVersion(info), judgeEviction(info)} {
			if f.Level != levelOK {
				faults.WriteString(f.Found + ": " + f.Cure)
			}
		}
		switch {
		case tt.want == "" && faults.String() != "":
			t.Errorf("%+v: refused: %s", tt, faults.String())
		case !strings.Contains(faults.String(), tt.want):
			t.Errorf("%+v: %q", tt, faults.String())
		}
	}
}

// TestStoresAreNamed by what they say of themselves in INFO, and one that Ringback is not tested with is told so.
func TestStoresAreNamed(t *testing.T) {
	for _, tt := range []struct {
		info, version string
		store         level
		found         string
	}{
		{"redis_version:7.0.15\r\nredis_mode:standalone\r\nexecutable:/usr/bin/redis-server\r\n", "Redis 7.0.15", levelOK, "tested with"},
		{"redis_version:8.0.2\r\nredis_mode:standalone\r\nio_threads_active:0\r\n", "Redis 8.0.2", levelOK, "tested with"},
		{"redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\nvalkey_release_stage:ga\r\n", "Valkey 8.1.1, which takes the place of Redis 7.2.4", levelOK, "tested with"},
		{"redis_version:7.4.0\r\ndragonfly_version:df-v1.40.1\r\nredis_mode:standalone\r\nthread_count:7\r\n", "Dragonfly 1.40.1, which takes the place of Redis 7.4.0", levelFault, "no append-only file"},
		{"dragonfly_version:df-dev\r\nredis_mode:standalone\r\n", "Dragonfly dev, which takes the place of Redis ", levelFault, "undeclared-keys"},
		{"redis_version:6.3.4\r\nexecutable:/data/keydb-server\r\n", "KeyDB 6.3.4", levelWarn, "active-replica"},
		{"redis_version:6.3.4\r\nexecutable:/usr/local/bin/server\r\n# KeyDB\r\nmvcc_depth:0\r\n", "KeyDB 6.3.4", levelWarn, "active-replica"},
		{"redis_version:7.2.4\r\nexecutable:/srv/keydb/redis-server\r\n", "Redis 7.2.4", levelOK, "tested with"},
	} {
		info := parseInfo(tt.info)
		if f := judgeVersion(info); f.Level != levelOK || f.Found != tt.version {
			t.Errorf("%q: %+v, want %s", tt.info, f, tt.version)
		}
		if f := judgeStore(info); f.Level != tt.store || !strings.Contains(f.Found, tt.found) || (f.Cure == "") != (tt.store == levelOK) {
			t.Errorf("%q: %+v, want %s and %s", tt.info, f, tt.store, tt.found)
		}
	}
	if f := judgeVersion(parseInfo("redis_version:6.0.16\r\nmvcc_depth:0\r\n")); f.Level != levelFault || !strings.Contains(f.Found, "this KeyDB is version 6.0.16") {
		t.Errorf("an old one: %+v", f)
	}
}

// TestTheInstallationsTimeIsJudged by how far it is from a Redis's clock.
func TestTheInstallationsTimeIsJudged(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		node  steady.Node
		level level
		found string
	}{
		{steady.Node{}, levelOK, `^it is that of Redis's clock$`},
		{steady.Node{Name: "a:1", Offset: 900 * time.Millisecond}, levelOK, `^it is 900ms ahead of Redis's clock$`},
		{steady.Node{By: -time.Minute, Stepped: at}, levelOK, `^it is that of Redis's clock, which stepped last on 2026-11-29T12:00:00Z, by 1m0s back$`},
		{steady.Node{Offset: -time.Hour, By: time.Hour, Stepped: at}, levelWarn, `^it is 1h0m0s behind Redis's clock, which stepped last on .*, by 1h0m0s forward: deliveries go on by it, .* nearer by 3\.6s in an hour$`},
		{steady.Node{Offset: time.Minute}, levelWarn, `^it is 1m0s ahead of Redis's clock: `},
	} {
		f := judgeSteady(tt.node)
		if f.Level != tt.level || !regexp.MustCompile(tt.found).MatchString(f.Found) || (f.Cure == "") != (tt.level == levelOK) || f.Node != tt.node.Name {
			t.Errorf("%+v: %+v, want %s, %s", tt.node, f, tt.level, tt.found)
		}
	}
}

func TestCheckRedis(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	logger := slog.New(slog.NewTextHandler(&log, nil))
	ctx := t.Context()

	rdb := redistest.Start(t).Client()
	if err := checkRedis(ctx, rdb, logger); err != nil || log.Len() > 0 {
		t.Errorf("a Redis as it should be: %v, logged %q", err, log.String())
	}
	if err := checkRedis(ctx, rdb, logger); err != nil {
		t.Errorf("the second start: %v", err)
	}
	rdb.Set(ctx, ledger.ModelKey, ledger.Model+1, 0)
	if err := checkRedis(ctx, rdb, logger); err == nil || !strings.Contains(err.Error(), "newer Ringback") {
		t.Errorf("a newer data model: %v", err)
	}

	rdb.ConfigSet(ctx, "maxmemory-policy", "allkeys-lru")
	if err := checkRedis(ctx, rdb, logger); err == nil || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("a Redis that evicts: %v", err)
	}

	server := redistest.Start(t, "--appendonly", "no")
	if err := checkRedis(ctx, server.Client(), logger); err != nil || !strings.Contains(log.String(), "appendonly yes") {
		t.Errorf("a Redis without AOF: %v, logged %q", err, log.String())
	}

	other := redis.NewClient(&redis.Options{Addr: lyingProxy(t, server.Addr(), replacing(`redis_version:\S+`, "redis_version:7.4.0\r\ndragonfly_version:df-v1.40.1")), Protocol: 2})
	defer func() { _ = other.Close() }()
	if err := checkRedis(ctx, other, logger); err != nil || !strings.Contains(log.String(), "not tested with Dragonfly") {
		t.Errorf("a Dragonfly: %v, logged %q", err, log.String())
	}
}

// TestServeStartsWhereRedisClockStepped: what the processes have written down tells that from a clock of ours that is off.
func TestServeStartsWhereRedisClockStepped(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	if err := redis.Client().HSet(t.Context(), steady.Key, "", -7000).Err(); err != nil {
		t.Fatal(err)
	}
	url := "redis://" + lyingProxy(t, redis.Addr(), withClock(7*time.Second))
	serve := startPlain(t, nil, "serve", "--redis", url, "--keyset-file", filepath.Join(t.TempDir(), "k.json"), "--listen", "127.0.0.1:0")
	serve.await(`"level":"WARN","msg":"this machine's clock is .* behind Redis's.*it is Redis's clock that stepped`)
}

// TestServeJudgesItsRedis: what serve refuses on sight of Redis is told in TestCheckRedis, but for the clocks; what it warns of it logs.
func TestServeJudgesItsRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendonly", "no")
	args := func(ahead time.Duration) []string {
		url := "redis://" + lyingProxy(t, redis.Addr(), withClock(ahead))
		return []string{"serve", "--redis", url, "--keyset-file", filepath.Join(t.TempDir(), "k.json"), "--listen", "127.0.0.1:0"}
	}
	for ahead, want := range map[time.Duration]string{
		7 * time.Second:  `this machine's clock is (6\.9|7)\S* behind Redis's.*partners refuse signatures.*timedatectl set-ntp true`,
		-7 * time.Second: `this machine's clock is (6\.9|7)\S* ahead of Redis's`,
	} {
		_, stderr, code := try(t, nil, args(ahead)...)
		if code != exitFailure || strings.Count(stderr, "\n") != 1 || !regexp.MustCompile(want).MatchString(stderr) {
			t.Errorf("serve ended with %d, want %d and %s:\n%s", code, exitFailure, want, stderr)
		}
	}
	serve := startPlain(t, nil, args(3*time.Second)...)
	serve.await(`"level":"WARN","msg":"Redis keeps no append-only file: .*CONFIG SET appendonly yes`)
	serve.await(`"level":"WARN","msg":"this machine's clock is off from Redis's: .*"ahead_seconds":-[23]\.`)
}
