package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

const (
	// redisRetries is how often go-redis itself repeats a command whose answer was lost. The repetition may do the command twice. Every command
	// of Ringback's allows that: scripts recognise their own earlier run or set what is set already, an event and a task have ids that are taken
	// once, and a number that was counted in vain is left out.
	redisRetries = 1
	// redisDials is how often it tries to connect for one command. The caller tries again in its own time, and must not wait.
	redisDials = 1
	// redisIdle is how long a connection may be idle before it is replaced: balancers forget idle ones, some after a few minutes and without
	// a word. Each process adds up to half as much, so that not all come at once.
	redisIdle = 80 * time.Second
)

// openRedis returns a client for the Redis at rawURL, and does not connect yet. The API's requests wait for it as patienceHook has it. The client has
// poolSize connections, unless the URL says otherwise. If passwordFile is not empty, the password comes from there.
func openRedis(rawURL, passwordFile string, poolSize int) (redis.UniversalClient, error) {
	u, err := parseRedisURL(rawURL)
	if err != nil {
		return nil, err
	}
	credentials, err := credentialsFrom(passwordFile, u.address.User)
	if err != nil {
		return nil, err
	}
	d := newRedisDialer()
	var rdb redis.UniversalClient
	switch u.kind {
	case "sentinel":
		o, err := u.failover()
		if err != nil {
			return nil, err
		}
		defaults(u.query, redisDefaults{&o.ClientName, &o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.ConnMaxIdleTime}, poolSize)
		o.ContextTimeoutEnabled, o.CredentialsProviderContext = true, credentials
		o.Dialer = d.dial(o.DialTimeout, o.TLSConfig)
		rdb, poolSize = redis.NewFailoverClient(o), o.PoolSize
	case "cluster":
		o, err := u.cluster()
		if err != nil {
			return nil, err
		}
		defaults(u.query, redisDefaults{&o.ClientName, &o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.ConnMaxIdleTime}, poolSize)
		o.ContextTimeoutEnabled, o.CredentialsProviderContext = true, credentials
		o.Dialer = d.dial(o.DialTimeout, o.TLSConfig)
		cluster := redis.NewClusterClient(o)
		ledger.WaitOnNodes(cluster)
		d.onFailure = reloadSlots(cluster)
		rdb, poolSize = cluster, o.PoolSize
	default:
		o, err := u.single()
		if err != nil {
			return nil, err
		}
		defaults(u.query, redisDefaults{&o.ClientName, &o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.ConnMaxIdleTime}, poolSize)
		o.ContextTimeoutEnabled, o.CredentialsProviderContext = true, credentials
		o.Dialer = d.dial(o.DialTimeout, o.TLSConfig)
		rdb, poolSize = redis.NewClient(o), o.PoolSize
	}
	rdb.AddHook(newPatienceHook(poolSize))
	rdb.AddHook(unquotedHook{})
	return rdb, nil
}

// reloadEvery is how often a cluster is asked who has the slots, at most, while nodes do not answer.
const reloadEvery = 200 * time.Millisecond

// reloadSlots returns a function that is called when a node does not answer, and asks the cluster who has the slots now: another may have taken that
// node's over. go-redis by itself asks when a node sends it to another, and each minute.
func reloadSlots(cluster *redis.ClusterClient) func() {
	often := &rate.Sometimes{Interval: reloadEvery}
	return func() { often.Do(func() { cluster.ReloadState(context.Background()) }) }
}

// redisDefaults are the options for which go-redis's defaults would not do. The three kinds of clients have them all.
type redisDefaults struct {
	clientName                                      *string
	protocol, maxRetries, dialerRetries, poolSize   *int
	dialTimeout, readTimeout, writeTimeout, maxIdle *time.Duration
}

// defaults fills in what the URL does not say.
func defaults(query url.Values, o redisDefaults, poolSize int) {
	*o.protocol = 2 // all that asynq and we need; spares the handshake of what RESP3 adds
	if *o.clientName == "" {
		*o.clientName = registry.ClientName()
	}
	for _, d := range []struct {
		option *int
		value  int
	}{{o.maxRetries, redisRetries}, {o.dialerRetries, redisDials}, {o.poolSize, poolSize}} {
		if *d.option == 0 {
			*d.option = d.value
		}
	}
	if query.Get("max_retries") == "0" {
		*o.maxRetries = -1 // go-redis's word for none
	}
	for _, d := range []struct {
		option *time.Duration
		value  time.Duration
	}{
		{o.dialTimeout, redisTimeout},
		{o.readTimeout, redisTimeout},
		{o.writeTimeout, redisTimeout},
		{o.maxIdle, redisIdle + rand.N(redisIdle/2)}, //nolint:gosec // no secret
	} {
		if *d.option == 0 {
			*d.option = d.value
		}
	}
}

// maxPasswordFile bounds a file that holds a password.
const maxPasswordFile = 4096

// credentialsFrom returns a function that reads the password from file for every connection, so that a new password is used without a restart. If file
// is empty, it returns nil. It reads the file once itself, to find faults.
func credentialsFrom(file string, user *url.Userinfo) (func(context.Context) (string, string, error), error) {
	if file == "" {
		return nil, nil
	}
	if _, inURL := user.Password(); inURL {
		return nil, usagef("the URL of --redis holds a password, and --redis-password-file another: leave one of them out")
	}
	read := func(context.Context) (username, password string, err error) {
		f, err := os.Open(file) //nolint:gosec // the operator's own choice of a file
		if err != nil {
			return "", "", fmt.Errorf("reading Redis's password: %w", err)
		}
		defer func() { _ = f.Close() }()
		text, err := io.ReadAll(io.LimitReader(f, maxPasswordFile+1))
		if err != nil {
			return "", "", fmt.Errorf("reading Redis's password: %w", err)
		}
		password = strings.TrimRight(string(text), "\r\n")
		switch {
		case len(text) > maxPasswordFile:
			return "", "", usagef("--redis-password-file %s has more than %d bytes: it holds nothing but the password", file, maxPasswordFile)
		case password == "":
			return "", "", usagef("--redis-password-file %s is empty", file)
		case strings.ContainsAny(password, "\r\n"):
			return "", "", usagef("--redis-password-file %s has several lines: it holds nothing but the password", file)
		}
		return user.Username(), password, nil
	}
	_, _, err := read(context.Background())
	return read, err
}
