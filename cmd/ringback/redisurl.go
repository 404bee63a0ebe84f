package main

import (
	"errors"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

var errRedisURL = usagef("--redis takes redis://HOST:PORT/DB, rediss://… (TLS), unix:///PATH, redis+sentinel://HOST:PORT,HOST:PORT/MASTER/DB or " +
	"redis+cluster://HOST:PORT,HOST:PORT, each with USER:PASSWORD@ before the host if there is one, and go-redis's options after a ?, such as ?pool_size=50")

// refused are the options of go-redis's that a URL must not hold, and why. If an option is neither here nor known to go-redis, go-redis refuses it.
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

// checkUserInfo finds the most frequent fault of a password in a URL: it is not percent-encoded. rest is all that follows the scheme.
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
