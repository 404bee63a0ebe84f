package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher/ledger"
)

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

// checkModel makes sure that this program knows the data model that Redis is written in.
func checkModel(ctx context.Context, rdb redis.UniversalClient) error {
	err := ledger.Enter(ctx, rdb)
	if newer, ok := errors.AsType[*ledger.NewerModelError](err); ok {
		return misconfigured(fmt.Errorf("%w: %s", newer, cureNewer))
	}
	return err
}

const cureNewer = "start that version instead"

// judgeModel reads which data model Redis is written in.
func judgeModel(ctx context.Context, rdb redis.UniversalClient) (finding, error) {
	f := finding{Check: "data model", Level: levelOK}
	switch got, err := ledger.Written(ctx, rdb); {
	case err != nil:
		return f, fmt.Errorf("reading the data model's number from %s: %w", ledger.ModelKey, err)
	case got == 0:
		f.Found = "no Ringback has written to this Redis yet"
	case got > ledger.Model:
		f.Level, f.Found, f.Cure = levelFault, (&ledger.NewerModelError{Found: got}).Error(), cureNewer
	default:
		f.Found = fmt.Sprintf("data model %d, and this program knows %d", got, ledger.Model)
	}
	return f, nil
}

// onRedis is a command that takes arguments of these names, and needs a few answers from the Redis that --redis names.
func onRedis(action func(c *cli.Context, rdb redis.UniversalClient, args []string) error, names ...string) cli.ActionFunc {
	return func(c *cli.Context) error {
		args, err := arguments(c, names...)
		if err != nil {
			return err
		}
		rdb, err := redisFromFlags(c)
		if err != nil {
			return err
		}
		defer func() { _ = rdb.Close() }()
		return action(c, rdb, args)
	}
}

// redisFromFlags opens the Redis that --redis names, for a command that needs a few answers from it.
func redisFromFlags(c *cli.Context) (redis.UniversalClient, error) {
	rawURL := c.String("redis")
	if rawURL == "" {
		return nil, usagef("which Redis? say so with --redis or RINGBACK_REDIS, as ringback serve does")
	}
	rdb, err := openRedis(rawURL, c.String("redis-password-file"), 4)
	if err != nil {
		return nil, err
	}
	if err := pingRedis(c.Context, rdb); err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return rdb, nil
}

// unquotedHook takes the arguments out of the error for a command that Redis, or a proxy before it, does not know: those of AUTH are a user and
// a password, and errors go to logs and callers.
type unquotedHook struct{}

// DialHook changes nothing.
func (unquotedHook) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook changes a command's error.
func (unquotedHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		cmd.SetErr(unquoted(cmd.Err()))
		return unquoted(err)
	}
}

// ProcessPipelineHook changes the errors of a pipeline's commands.
func (unquotedHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			cmd.SetErr(unquoted(cmd.Err()))
		}
		return unquoted(err)
	}
}

// redisError is an answer of Redis's, as go-redis has them.
type redisError string

func (e redisError) Error() string { return string(e) }

// RedisError implements [redis.Error].
func (redisError) RedisError() {}

func unquoted(err error) error {
	if err == nil {
		return nil
	}
	if said, _, quotes := strings.Cut(err.Error(), ", with args beginning with"); quotes {
		return redisError(said)
	}
	return err
}
