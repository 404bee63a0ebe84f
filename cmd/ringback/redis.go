package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/registry"
)

const (
	// modelVersion is the version of the data model this program reads and writes. It grows when a program of the version before
	// could no longer run beside this one.
	modelVersion = 1
	// modelKey holds the model version that a Redis was last written with.
	modelKey = "ringback:model"

	// redisTimeout bounds one command. A lease in asynq lasts 30 s and is prolonged by commands that wait for each other, so a
	// Redis that hangs has to be noticed well before that.
	redisTimeout = 2 * time.Second
	// redisRetries is how often go-redis itself repeats a command whose answer was lost; each repetition may do it twice.
	redisRetries = 1
	// redisDials is how often it tries to connect for one command. Whoever called tries again in its own time, and must not wait.
	redisDials = 1
	// redisLogEvery is how often it may write to the log: while Redis is down it says the same several times within milliseconds.
	redisLogEvery = 10 * time.Second
)

func redisFlag(usage string) cli.Flag {
	return &cli.StringFlag{Name: "redis", Usage: usage, EnvVars: []string{"RINGBACK_REDIS"}}
}

var errRedisURL = usagef("--redis takes redis://HOST:PORT/DB, rediss://… (TLS), redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or " +
	"redis+cluster://HOST:PORT,HOST:PORT (experimental), each with USER:PASSWORD@ before the host if there is one")

// openRedis returns a client for the Redis at rawURL with poolSize connections, which the API's requests wait for as patienceHook has it; it
// does not connect yet. The URL may hold a
// password, so errors never show it.
func openRedis(rawURL string, poolSize int) (redis.UniversalClient, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return nil, errRedisURL
	}
	hosts, single := splitHosts(rest)
	opts := &redis.UniversalOptions{}
	switch scheme {
	case "redis", "rediss", "unix":
		single, hosts = rawURL, nil
	case "redis+sentinel":
		u, err := url.Parse("redis://" + single)
		if err != nil {
			return nil, errRedisURL
		}
		master, db, _ := strings.Cut(strings.Trim(u.Path, "/"), "/")
		if master == "" {
			return nil, usagef("--redis: a redis+sentinel:// URL names the master after the hosts: redis+sentinel://HOST:26379/MASTER")
		}
		query := u.Query()
		opts.MasterName, opts.SentinelUsername, opts.SentinelPassword = master, query.Get("sentinel_username"), query.Get("sentinel_password")
		query.Del("sentinel_username")
		query.Del("sentinel_password")
		u.Path, u.RawQuery = "/"+db, query.Encode()
		single = u.String()
	case "redis+cluster":
		opts.IsClusterMode = true
		single = "redis://" + single
	default:
		return nil, errRedisURL
	}
	one, err := redis.ParseURL(single)
	if err != nil {
		return nil, errRedisURL
	}
	for _, host := range hosts {
		opts.Addrs = append(opts.Addrs, withPort(host, one.Addr))
	}
	if len(opts.Addrs) == 0 {
		opts.Addrs = []string{one.Addr}
	}
	opts.DB = one.DB
	opts.Username, opts.Password, opts.TLSConfig = one.Username, one.Password, one.TLSConfig
	opts.ClientName = registry.ClientName()
	opts.Protocol = 2 // all that asynq and we need; spares the handshake of what RESP3 adds
	opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = redisRetries, redisDials, true
	opts.DialTimeout, opts.ReadTimeout, opts.WriteTimeout = redisTimeout, redisTimeout, redisTimeout
	opts.PoolSize = poolSize
	if scheme == "unix" {
		socket := opts.Simple()
		socket.Network = "unix"
		rdb := redis.NewClient(socket)
		rdb.AddHook(newPatienceHook(poolSize))
		return rdb, nil
	}
	rdb := redis.NewUniversalClient(opts)
	rdb.AddHook(newPatienceHook(poolSize))
	return rdb, nil
}

// splitHosts takes "user:pass@h1:1,h2:2/path" apart: the hosts, and the same with the first of them only, which is a URL's form.
func splitHosts(rest string) (hosts []string, single string) {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	user, list := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, list = authority[:i+1], authority[i+1:]
	}
	for host := range strings.SplitSeq(list, ",") {
		if host != "" {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil, rest
	}
	return hosts, user + hosts[0] + tail
}

// withPort is host with the port of like where it has none itself.
func withPort(host, like string) string {
	if u, err := url.Parse("redis://" + host); err == nil && u.Port() == "" {
		if i := strings.LastIndex(like, ":"); i >= 0 {
			return host + like[i:]
		}
	}
	return host
}

// checkRedis makes sure that the Redis behind rdb can be trusted with events, and says what to do if it cannot. Of a clock that is
// a little off a worker warns by itself, as long as it runs. `ringback doctor` looks further.
func checkRedis(ctx context.Context, rdb redis.UniversalClient, log *slog.Logger) error {
	if err := pingRedis(ctx, rdb); err != nil {
		return err
	}
	text, err := rdb.Info(ctx).Result()
	if err != nil {
		return fmt.Errorf("asking Redis about itself (INFO): %w", err)
	}
	info := parseInfo(text)
	for _, f := range []finding{judgeVersion(info), judgeEviction(info)} {
		if f.Level == levelFault {
			return misconfigured(errors.New(f.Found + ": " + f.Cure))
		}
	}
	clock, err := measureDrift(ctx, rdb)
	switch {
	case err != nil:
		return err
	case clock.Level == levelFault:
		return errors.New(clock.Found + ": " + clock.Cure)
	}
	if f := judgePersistence(info); f.Level != levelOK {
		log.WarnContext(ctx, f.Found+": "+f.Cure)
	}
	return checkModel(ctx, rdb)
}

// pingRedis answers an error that a person can act on if nothing answers there.
func pingRedis(ctx context.Context, rdb redis.UniversalClient) error {
	err := rdb.Ping(ctx).Err()
	if err == nil {
		return nil
	}
	refused := slices.ContainsFunc([]string{"WRONGPASS", "NOAUTH", "NOPERM"}, func(prefix string) bool { return redis.HasErrorPrefix(err, prefix) })
	err = fmt.Errorf("cannot talk to Redis: is it running where --redis says, and are its user and password right? (%w)", err)
	if refused {
		return misconfigured(err)
	}
	return err
}

func parseInfo(text string) map[string]string {
	info := map[string]string{}
	for s := bufio.NewScanner(strings.NewReader(text)); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok {
			info[name] = strings.TrimSpace(value)
		}
	}
	return info
}

// A finding is one thing about an installation that was looked at.
type finding struct {
	Node  string `json:"node,omitempty"` // which Redis, where there are several
	Check string `json:"check"`          // what was looked at, in a word or two
	Level level  `json:"level"`
	Found string `json:"found"`          // a sentence without a full stop
	Cure  string `json:"cure,omitempty"` // what to do: a command, one of Redis's where it begins with CONFIG, or where there is none, a sentence
}

// A level says how bad a finding is.
type level string

const (
	levelOK    level = "ok"
	levelWarn  level = "warn"  // works, and may hurt
	levelFault level = "fault" // a promise does not hold
)

// judgeVersion: asynq needs ZRANGE BYSCORE, which came with 6.2. Valkey counts by the Redis version it says it is compatible with.
func judgeVersion(info map[string]string) finding {
	v := info["redis_version"]
	f := finding{Check: "version", Level: levelOK, Found: "Redis " + v}
	if valkey := info["valkey_version"]; valkey != "" {
		f.Found = "Valkey " + valkey + ", which takes the place of Redis " + v
	}
	if v != "" && versionLess(v, 6, 2) {
		f.Level, f.Found, f.Cure = levelFault, "this Redis is version "+v+", and Ringback needs 6.2 or newer", "upgrade Redis; its append-only file can be taken along"
	}
	return f
}

// judgeEviction: a Redis that is full must refuse, not throw accepted events away.
func judgeEviction(info map[string]string) finding {
	policy := cmp.Or(info["maxmemory_policy"], "noeviction")
	f := finding{Check: "eviction", Level: levelOK, Found: "a full Redis refuses writes and forgets nothing (maxmemory-policy noeviction)"}
	if policy != "noeviction" {
		f.Level, f.Found, f.Cure = levelFault, "this Redis may throw accepted events away when it is full (maxmemory-policy "+policy+")", "CONFIG SET maxmemory-policy noeviction"
	}
	return f
}

// judgePersistence: without an append-only file, a Redis that ends takes with it what was accepted.
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

// checkModel refuses data that a newer Ringback wrote, and marks an empty Redis with this program's version.
func checkModel(ctx context.Context, rdb redis.UniversalClient) error {
	if err := rdb.SetNX(ctx, modelKey, modelVersion, 0).Err(); err != nil {
		return fmt.Errorf("marking Redis with the data model's version: %w", err)
	}
	f, err := judgeModel(ctx, rdb)
	if err == nil && f.Level == levelFault {
		err = misconfigured(errors.New(f.Found + ": " + f.Cure))
	}
	return err
}

// judgeModel reads which data model Redis was last written with.
func judgeModel(ctx context.Context, rdb redis.UniversalClient) (finding, error) {
	f := finding{Check: "data model", Level: levelOK}
	got, err := rdb.Get(ctx, modelKey).Int()
	switch {
	case errors.Is(err, redis.Nil):
		f.Found = "no Ringback has written to this Redis yet"
	case err != nil:
		return f, fmt.Errorf("reading the data model's version from %s: %w", modelKey, err)
	case got > modelVersion:
		f.Level, f.Found = levelFault, fmt.Sprintf("a newer Ringback has written this Redis (data model %d, this program knows %d)", got, modelVersion)
		f.Cure = "start that version instead"
	default:
		f.Found = fmt.Sprintf("data model %d, and this program knows %d", got, modelVersion)
	}
	return f, nil
}

// redisFromFlags opens the Redis that --redis names, for a command that needs a few answers from it.
func redisFromFlags(c *cli.Context) (redis.UniversalClient, error) {
	rawURL := c.String("redis")
	if rawURL == "" {
		return nil, usagef("which Redis? say so with --redis or RINGBACK_REDIS, as ringback serve does")
	}
	rdb, err := openRedis(rawURL, 4)
	if err != nil {
		return nil, err
	}
	if err := pingRedis(c.Context, rdb); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return rdb, nil
}

// redisLog gives what go-redis has to say to slog, one line in redisLogEvery. Errors reach callers besides, and are not its business.
type redisLog struct {
	log *slog.Logger

	mu      sync.Mutex
	next    time.Time // not before then
	leftOut int       // since the last line
}

// Printf implements go-redis's logging interface.
func (l *redisLog) Printf(ctx context.Context, format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.next) {
		l.leftOut++
		return
	}
	l.log.WarnContext(ctx, "redis client: "+oneLine(fmt.Sprintf(format, v...)), "left_out", l.leftOut)
	l.next, l.leftOut = time.Now().Add(redisLogEvery), 0
}
