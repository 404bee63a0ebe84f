package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/registry"
)

const (
	// redisTimeout bounds one command, unless the URL says otherwise. A lease in asynq lasts 30 s and is prolonged by commands that wait for
	// each other, so a Redis that hangs has to be noticed well before that.
	redisTimeout = 2 * time.Second
	// redisRetries is how often go-redis itself repeats a command whose answer was lost. A repetition may do it twice, which every command of
	// Ringback's allows: scripts recognise their own earlier run or set what is set already, an event and a task have ids that are taken once,
	// and a number that was counted in vain is left out.
	redisRetries = 1
	// redisDials is how often it tries to connect for one command. Whoever called tries again in its own time, and must not wait.
	redisDials = 1
	// redisIdle is how long a connection may be idle before it is replaced: balancers forget idle ones, some after a few minutes and without
	// a word. Each process adds up to half as much, so that not all come at once.
	redisIdle = 80 * time.Second
)

// redisFlags say which Redis; usage is of the URL.
func redisFlags(usage string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "redis", Usage: usage, EnvVars: []string{"RINGBACK_REDIS"}},
		redisPasswordFlag("RINGBACK_REDIS_PASSWORD_FILE"),
	}
}

func redisPasswordFlag(variable string) cli.Flag {
	return &cli.StringFlag{
		Name: "redis-password-file", Usage: "`FILE` of Redis's password, instead of one in the URL; read anew for each connection", EnvVars: []string{variable},
	}
}

var errRedisURL = usagef("--redis takes redis://HOST:PORT/DB, rediss://… (TLS), unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or " +
	"redis+cluster://HOST:PORT,HOST:PORT (experimental), each with USER:PASSWORD@ before the host if there is one, and go-redis's options after a ?, such as ?pool_size=50")

// refused are the options of go-redis's that a URL must not hold, and why. What is neither here nor known to go-redis is refused by go-redis.
var refused = map[string]string{
	"read_only":                  "Ringback reads what it has just written, so it never asks replicas",
	"route_by_latency":           "Ringback reads what it has just written, so it never asks replicas",
	"route_by_latency_tolerance": "Ringback reads what it has just written, so it never asks replicas",
	"route_randomly":             "Ringback reads what it has just written, so it never asks replicas",
	"replica_only":               "Ringback writes, so it needs the master",
	"use_disconnected_replicas":  "Ringback reads what it has just written, so it never asks replicas",
	"context_timeout_enabled":    "Ringback always bounds its commands",
	"protocol":                   "Ringback speaks RESP2",
	"unstable_resp3":             "Ringback speaks RESP2",
	"username":                   "write USER:PASSWORD@ before the host",
	"password":                   "write USER:PASSWORD@ before the host, or use --redis-password-file",
}

// redisURL is a URL of --redis taken apart, so that go-redis's own parsers can read it.
type redisURL struct {
	scheme  string   // "redis", "rediss" or "unix"
	kind    string   // "", "sentinel" or "cluster"
	address *url.URL // with the first host only
	hosts   []string // the others, each with a port
	query   url.Values
}

// parseRedisURL takes rawURL apart. The URL may hold a password, so errors never show any of it but the names of options.
func parseRedisURL(rawURL string) (*redisURL, error) {
	if strings.TrimSpace(rawURL) != rawURL {
		return nil, usagef("--redis: the URL begins or ends with white space, such as the newline of a file: take it off")
	}
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		return nil, errRedisURL
	}
	u := &redisURL{scheme: scheme}
	switch scheme {
	case "redis", "rediss", "unix":
	case "redis+sentinel", "redis+cluster":
		u.scheme, u.kind, _ = strings.Cut(scheme, "+")
	default:
		return nil, errRedisURL
	}
	if scheme != "unix" {
		if err := checkUserInfo(rest); err != nil {
			return nil, err
		}
	}
	hosts, single := splitHosts(rest)
	if len(hosts) > 1 && u.kind == "" {
		return nil, usagef("--redis: several hosts take redis+sentinel:// or redis+cluster://")
	}
	var err error
	if u.address, err = url.Parse(u.scheme + "://" + single); err != nil { // not wrapped: it quotes
		return nil, errRedisURL
	}
	if u.address.Fragment != "" {
		return nil, usagef("--redis: the URL holds a #, which means nothing here: write it as %%23 if it belongs to a password or a path")
	}
	if u.query, err = url.ParseQuery(u.address.RawQuery); err != nil {
		return nil, usagef("--redis: what follows the ? cannot be read: percent-encode what is special in it")
	}
	for name, why := range refused {
		if u.query.Has(name) {
			return nil, usagef("--redis: leave the option %s out of the URL: %s", name, why)
		}
	}
	if name := u.query.Get("client_name"); registry.LevelOfName(name) != 0 {
		return nil, usagef("--redis: leave the option client_name out of the URL, or give another: this one says which version a process is of")
	}
	if len(hosts) > 1 {
		for _, host := range hosts[1:] {
			u.hosts = append(u.hosts, withPort(host, u.address.Host))
		}
	}
	return u, nil
}

// checkUserInfo names what is most often wrong with a password in a URL: it is not percent-encoded. rest is all that follows the scheme.
func checkUserInfo(rest string) error {
	end := strings.LastIndex(rest, "@")
	if end < 0 {
		return nil
	}
	_, err := url.PathUnescape(rest[:end])
	if err != nil || strings.ContainsFunc(rest[:end], func(r rune) bool { return !strings.ContainsRune(plainInUserInfo, r) }) {
		return usagef("--redis: the user or password holds a character that is special in a URL: percent-encode it (@ as %%40, / as %%2F, # as %%23, ? as %%3F, %% as %%25), or use --redis-password-file")
	}
	return nil
}

// plainInUserInfo are the characters that may stand in the user info of a URL (RFC 3986, section 3.2.1).
const plainInUserInfo = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:%"

// text is the URL for go-redis's parsers, with the path, user and query given.
func (u *redisURL) text(path string, user *url.Userinfo, query url.Values) string {
	out := url.URL{Scheme: u.scheme, User: user, Host: u.address.Host, Path: path, RawQuery: query.Encode()}
	return out.String()
}

// explainOption is an error of go-redis's parsers, which name the option. Their sentences may quote its value, which is no secret.
func explainOption(err error) error {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return errRedisURL
	}
	text := strings.TrimPrefix(err.Error(), "redis: ")
	if strings.Contains(text, "option") || strings.Contains(text, "invalid") && !strings.Contains(text, "URL") {
		return usagef("--redis: %s (the options are those of go-redis)", text)
	}
	return errRedisURL
}

// single are the options for one Redis.
func (u *redisURL) single() (*redis.Options, error) {
	o, err := redis.ParseURL(u.text(u.address.Path, u.address.User, u.query))
	if err != nil {
		return nil, explainOption(err)
	}
	return o, nil
}

// failover are the options for a master that sentinels find. The user before the host is Redis's; the sentinels' is in the query.
func (u *redisURL) failover() (*redis.FailoverOptions, error) {
	master, db, _ := strings.Cut(strings.Trim(u.address.Path, "/"), "/")
	query := u.query
	if given := query.Get("master_name"); master == "" || given != "" && given != master {
		return nil, usagef("--redis: a redis+sentinel:// URL names the master after the hosts: redis+sentinel://HOST:26379/MASTER")
	}
	query.Set("master_name", master)
	query["addr"] = append(u.hosts, query["addr"]...)
	var sentinels *url.Userinfo
	if query.Has("sentinel_username") || query.Has("sentinel_password") {
		sentinels = url.UserPassword(query.Get("sentinel_username"), query.Get("sentinel_password"))
		query.Del("sentinel_username")
		query.Del("sentinel_password")
	}
	if u.address.Port() == "" {
		u.address.Host += ":6379" // as ever, though sentinels mostly listen on 26379
	}
	o, err := redis.ParseFailoverURL(u.text("/"+db, sentinels, query))
	if err != nil {
		return nil, explainOption(err)
	}
	if user := u.address.User; user != nil {
		o.Username = user.Username()
		o.Password, _ = user.Password()
	}
	return o, nil
}

// cluster are the options for a cluster, which has one database.
func (u *redisURL) cluster() (*redis.ClusterOptions, error) {
	if path := strings.Trim(u.address.Path, "/"); path != "" && path != "0" {
		return nil, usagef("--redis: a redis+cluster:// URL ends with its hosts: a cluster has no numbered databases")
	}
	query := u.query
	query["addr"] = append(u.hosts, query["addr"]...)
	o, err := redis.ParseClusterURL(u.text("", u.address.User, query))
	if err != nil {
		return nil, explainOption(err)
	}
	return o, nil
}

// openRedis returns a client for the Redis at rawURL, which the API's requests wait for as patienceHook has it; it does not connect yet. It
// has poolSize connections unless the URL says otherwise, and its password from passwordFile, if that is not empty.
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
		// Another master may have the slots: go-redis by itself would ask after a minute.
		d.onFailure = func() { cluster.ReloadState(context.Background()) }
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

// redisDefaults are the options for which go-redis's defaults would not do; the three kinds of clients have them all.
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

// credentialsFrom returns what reads the password from file for every connection, so that a new one is used without a restart; nil if file is
// empty. The file is read once at once, to find faults.
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

// withPort is host with the port of like, or Redis's, where it has none itself.
func withPort(host, like string) string {
	u, err := url.Parse("redis://" + host)
	if err != nil || u.Port() != "" {
		return host
	}
	port := "6379"
	if v, err := url.Parse("redis://" + like); err == nil && v.Port() != "" {
		port = v.Port()
	}
	return host + ":" + port
}
