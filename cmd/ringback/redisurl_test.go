package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestRedisOptionsAreHonouredOrRefused goes over all options that go-redis's parsers know, as its source has them, for the three kinds of
// URLs: each becomes the option of the same name, or is refused by its name. None is ignored.
func TestRedisOptionsAreHonouredOrRefused(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/redis/go-redis/v9").Output()
	if err != nil {
		t.Fatal(err)
	}
	known := regexp.MustCompile(`q\.(string|int|duration|bool|strings)\("(\w+)"\)`)
	for _, kind := range []struct{ file, url string }{
		{"options.go", "rediss://me@a:1/3"},
		{"osscluster.go", "redis+cluster://me@a:1"},
		{"sentinel.go", "redis+sentinel://me@a:1/mymaster/3"},
	} {
		source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), kind.file))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, match := range known.FindAllStringSubmatch(string(source), -1) {
			seen++
			typ, name := match[1], match[2]
			value, want := optionSample(typ, name)
			query := url.Values{name: {value}}
			if name == "conn_max_lifetime_jitter" {
				query.Set("conn_max_lifetime", "9s") // which bounds it
			}
			rdb, err := openRedis(kind.url+"?"+query.Encode(), "", 10)
			if err != nil {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%s?%s=%s: refused without its name: %v", kind.url, name, value, err)
				}
				continue
			}
			if got := optionOf(t, rdb, name); got != nil && !reflect.DeepEqual(got, want) {
				t.Errorf("%s?%s=%s: became %v, want %v", kind.url, name, value, got, want)
			}
			_ = rdb.Close()
		}
		if seen < 25 {
			t.Errorf("%s: %d options found, so this test looks in the wrong place", kind.file, seen)
		}
		for _, unknown := range []string{"pool_sise", "Pool_Size"} {
			if _, err := openRedis(kind.url+"?"+unknown+"=7", "", 10); err == nil || !strings.Contains(err.Error(), unknown) {
				t.Errorf("%s?%s=7: %v, want it refused by name", kind.url, unknown, err)
			}
		}
		if _, err := openRedis(kind.url+"?read_timeout=soon", "", 10); err == nil || !strings.Contains(err.Error(), "read_timeout") {
			t.Errorf("%s?read_timeout=soon: %v", kind.url, err)
		}
	}
}

// optionSample is a value of an option for the URL, and what becomes of it.
func optionSample(typ, name string) (value string, want any) {
	switch {
	case name == "addr":
		return "b:2", "b:2"
	case name == "master_name":
		return "mymaster", nil
	case typ == "int", name == "db":
		return "7", 7
	case typ == "duration":
		return "7s", 7 * time.Second
	case typ == "bool":
		return "true", true
	}
	return "x", "x"
}

// optionOf is the field of the client's options that bears an option's name; nil: there is none to see.
func optionOf(t *testing.T, rdb redis.UniversalClient, name string) any {
	t.Helper()
	var options reflect.Value
	var config *tls.Config
	switch client := rdb.(type) {
	case *redis.Client:
		options, config = reflect.ValueOf(client.Options()).Elem(), client.Options().TLSConfig
	case *redis.ClusterClient:
		options, config = reflect.ValueOf(client.Options()).Elem(), client.Options().TLSConfig
		if name == "addr" {
			return client.Options().Addrs[1]
		}
	}
	switch name {
	case "idle_timeout":
		name = "conn_max_idle_time"
	case "max_conn_age":
		name = "conn_max_lifetime"
	case "skip_verify":
		return config.InsecureSkipVerify
	case "addr", "master_name": // go-redis keeps the sentinels to itself
		return nil
	}
	plain := strings.ReplaceAll(name, "_", "")
	field := options.FieldByNameFunc(func(s string) bool { return strings.EqualFold(s, plain) })
	if !field.IsValid() {
		t.Errorf("%s is taken, and no option bears its name", name)
		return nil
	}
	return field.Interface()
}

func TestRedisDefaults(t *testing.T) {
	idles := map[time.Duration]bool{}
	for _, u := range []string{"redis://a", "redis+sentinel://a/m", "unix:///x"} {
		rdb, err := openRedis(u, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		o := rdb.(*redis.Client).Options()
		if o.ConnMaxIdleTime < time.Minute || o.ConnMaxIdleTime > 3*time.Minute || o.ClientName != registry.ClientName() || o.PoolSize != 10 || o.Protocol != 2 {
			t.Errorf("%s: idle %v, name %q, pool %d, protocol %d", u, o.ConnMaxIdleTime, o.ClientName, o.PoolSize, o.Protocol)
		}
		idles[o.ConnMaxIdleTime] = true
		_ = rdb.Close()
	}
	if len(idles) < 2 {
		t.Errorf("all replace their idle connections at the same age: %v", idles)
	}
	if !redisKeepAlive.Enable || redisKeepAlive.Idle > time.Minute {
		t.Errorf("keep-alive: %+v", redisKeepAlive)
	}
	rdb, err := openRedis("redis://a?max_retries=0", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	if got := rdb.(*redis.Client).Options().MaxRetries; got != 0 {
		t.Errorf("max_retries=0 became %d", got)
	}
}

// TestRedisURLFaultsAreNamed: what people get wrong, what the error says of it, and that it shows nothing of the password.
func TestRedisURLFaultsAreNamed(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"redis://:s3@cret@h", "percent-encode"},
		{"redis://:s3/cret@h", "percent-encode"},
		{"redis://:s3#cret@h/0", "percent-encode"},
		{"redis://:s3?cret@h", "percent-encode"},
		{"redis://12:34?cret@h", "percent-encode"},
		{"redis://:s3%cret@h", "percent-encode"},
		{"redis://:s3%zzcret@h", "percent-encode"},
		{`redis://:s3"cret@h`, "percent-encode"},
		{"redis://:s3 cret@h", "percent-encode"},
		{"redis+sentinel://:s3/cret@h/m", "percent-encode"},
		{"redis://:s3cret@h:6379\n", "newline"},
		{" redis://:s3cret@h:6379", "white space"},
		{"redis://:s3cret@h/0#cret", "#"},
		{"redis://:s3cret@h,g/0", "several hosts"},
		{"redis+cluster://:s3cret@h/3", "no numbered databases"},
		{"redis+sentinel://:s3cret@h/m?master_name=n", "names the master"},
		{"redis://:s3cret@h?client_name=ringback", "client_name"},
		{"redis+sentinel://h/m?password=s3cret", "option password"},
	} {
		_, err := openRedis(tt.url, "", 10)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.url, err, tt.want)
		} else if strings.Contains(err.Error(), "cret") || strings.Contains(err.Error(), "s3") {
			t.Errorf("%q: %q shows the password", tt.url, err)
		}
	}
	for _, fine := range []string{"redis://:s3%40cret%2F%23%25%3f@h", "redis://u:a:b@h", "unix:///tmp/a@b.sock", "redis://[::1]:7000"} {
		rdb, err := openRedis(fine, "", 10)
		if err != nil {
			t.Errorf("%q: %v", fine, err)
			continue
		}
		_ = rdb.Close()
	}
}

// TestPasswordFromAFile: a password in a file is as good as one in the URL, and a new one needs no restart.
func TestPasswordFromAFile(t *testing.T) {
	server := redistest.Start(t)
	ctx, admin := t.Context(), server.Client()
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	allow := func(password string) {
		t.Helper()
		if err := admin.Do(ctx, "ACL", "SETUSER", "me", "reset", "on", ">"+password, "~*", "+@all").Err(); err != nil {
			t.Fatal(err)
		}
	}
	allow("one@/#%")
	write("one@/#%\n")
	rdb, err := openRedis("redis://me@"+server.Addr()+"?conn_max_lifetime=1ms", file, 10)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Errorf("with the password of the file: %v", err)
	}
	allow("two")
	write("two")
	time.Sleep(2 * time.Millisecond) // the old connection's time is up
	if err := rdb.Ping(ctx).Err(); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	for text, want := range map[string]string{"": "is empty", "\n": "is empty", "a\nb\n": "several lines", strings.Repeat("x", 5000): "more than 4096 bytes"} {
		write(text)
		if _, err := openRedis("redis://me@"+server.Addr(), file, 10); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a file with %d bytes: %v, want %q", len(text), err, want)
		}
	}
	if _, err := openRedis("redis://me:x@"+server.Addr(), file, 10); err == nil || !strings.Contains(err.Error(), "leave one of them out") {
		t.Errorf("two passwords: %v", err)
	}
	if _, err := openRedis("redis://me@"+server.Addr(), file+".none", 10); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// A forgetful connection is one that something on the way may forget without a word: what is sent then goes nowhere, and nothing comes.
type forgetful struct {
	net.Conn
	mu   sync.Mutex
	real net.Conn
}

func (c *forgetful) inner() net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn
}

func (c *forgetful) forget(t *testing.T) {
	silent, other := net.Pipe()
	t.Cleanup(func() { _, _ = silent.Close(), other.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			if _, err := other.Read(buf); err != nil {
				return
			}
		}
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.real, c.Conn = c.Conn, silent
	_ = c.real.Close()
}

func (c *forgetful) Read(b []byte) (int, error)         { return c.inner().Read(b) }
func (c *forgetful) Write(b []byte) (int, error)        { return c.inner().Write(b) }
func (c *forgetful) SetDeadline(t time.Time) error      { return c.inner().SetDeadline(t) }
func (c *forgetful) SetReadDeadline(t time.Time) error  { return c.inner().SetReadDeadline(t) }
func (c *forgetful) SetWriteDeadline(t time.Time) error { return c.inner().SetWriteDeadline(t) }
func (c *forgetful) Close() error                       { return c.inner().Close() }

// SyscallConn looks well to go-redis, as the socket of a forgotten connection does.
func (c *forgetful) SyscallConn() (syscall.RawConn, error) { return unseen{}, nil }

// TestForgottenConnectionsCostNobodyAnAnswer: after a quiet time that is too short for idle connections to be replaced, all of them are
// forgotten on the way. Every caller of the API gets its answer all the same, within its patience, from a repetition on a fresh connection.
func TestForgottenConnectionsCostNobodyAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		defer m.Close()
		var mu sync.Mutex
		var open []*forgetful
		d := newRedisDialer()
		d.connect = func(context.Context, string, string) (net.Conn, error) {
			conn, err := m.Dial()
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			open = append(open, &forgetful{Conn: conn})
			return open[len(open)-1], nil
		}
		o := &redis.Options{Addr: "a:1", ConnMaxIdleTime: redisIdle}
		var none string
		defaults(nil, redisDefaults{
			&none, &o.Protocol, &o.MaxRetries, &o.DialerRetries, &o.PoolSize, &o.DialTimeout, &o.ReadTimeout, &o.WriteTimeout, &o.ConnMaxIdleTime,
		}, 200) // go-redis's timers for those who wait for a connection would leave the bubble
		o.ContextTimeoutEnabled, o.Dialer = true, d.dial(o.DialTimeout, nil)
		rdb := redis.NewClient(o)
		defer func() { _ = rdb.Close() }()
		rdb.AddHook(newPatienceHook(o.PoolSize))
		ask := func(n int) (failed []error) {
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					ctx := context.WithValue(t.Context(), patienceKey{}, &requestPatience{})
					err := rdb.Set(ctx, fmt.Sprint("k", i), "v", 0).Err()
					if i%2 == 0 && err == nil {
						_, err = rdb.Pipelined(ctx, func(p redis.Pipeliner) error { p.Get(ctx, fmt.Sprint("k", i)); p.Ping(ctx); return nil })
					}
					mu.Lock()
					defer mu.Unlock()
					if err != nil {
						failed = append(failed, err)
					}
				})
			}
			wg.Wait()
			return failed
		}
		if failed := ask(20); failed != nil {
			t.Fatal(failed)
		}
		for _, quiet := range []time.Duration{10 * time.Second, time.Minute} {
			time.Sleep(quiet)
			for _, c := range open {
				c.forget(t)
			}
			before := len(open)
			if failed := ask(1); len(failed) > 0 {
				t.Errorf("after %v of quiet: the first got no answer: %v", quiet, failed[0])
			}
			if failed := ask(80); len(failed) > 0 {
				t.Errorf("after %v of quiet: %d of 80 got no answer, the first: %v", quiet, len(failed), failed[0])
			}
			if len(open) == before {
				t.Error("no connection was forgotten, so this proves nothing")
			}
			open = slices.Delete(open, 0, before)
		}
	})
}

// writesAgain returns a function that says how long after a moment a client's callers could write again. It begins to ask at once.
func writesAgain(t *testing.T, url string) (since func(over time.Time) time.Duration) {
	t.Helper()
	rdb, err := openRedis(url, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rdb.Close() })
	if err := rdb.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	failed, asked := make(chan struct{}), make(chan time.Time, 1)
	go func() { // as callers do
		for done := false; ; <-time.After(20 * time.Millisecond) {
			err := rdb.Set(t.Context(), "k", "v", 0).Err()
			select {
			case <-failed:
				done = true
			default:
			}
			if done && err == nil || t.Context().Err() != nil {
				asked <- time.Now()
				return
			}
		}
	}()
	return func(over time.Time) time.Duration {
		close(failed)
		select {
		case at := <-asked:
			return at.Sub(over)
		case <-time.After(patience): // it will not come back
			return patience
		}
	}
}

// askedWithin is how soon after a failover the new master is asked on a busy machine. Usually it takes seconds; go-redis alone would take a minute.
const askedWithin = 40 * time.Second

// TestAClusterFailsOver: as soon as another node has the slots, it is asked, whether the one before ended or stands still.
func TestAClusterFailsOver(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Kill, "stands still": (*redistest.Server).Stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := redistest.StartCluster(t, 3, 1)
			since := writesAgain(t, nodes.URL())
			master := nodes.MasterOf("k")
			fail(master)
			nodes.AwaitFailover(master)
			took := since(time.Now())
			t.Logf("asked again %s after the failover", took)
			if took > askedWithin {
				t.Errorf("it took %s from the failover until the new master was asked", took)
			}
		})
	}
}

// TestSentinelsFailOver: once they name another master, that is asked, whether the one before ended or stands still.
func TestSentinelsFailOver(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*redistest.Server){"killed": (*redistest.Server).Kill, "stands still": (*redistest.Server).Stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			watched := redistest.StartSentinels(t)
			since := writesAgain(t, watched.URL())
			master := watched.Master()
			fail(master)
			watched.AwaitFailover(master)
			if took := since(time.Now()); took > askedWithin {
				t.Errorf("it took %s from the failover until the new master was asked", took)
			}
		})
	}
}

// TestFailedConnectionsAreTold: a cluster asks anew who has the slots.
func TestFailedConnectionsAreTold(t *testing.T) {
	told := 0
	d := newRedisDialer()
	d.onFailure = func() { told++ }
	d.connect = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") }
	if _, err := d.dial(time.Second, nil)(t.Context(), "tcp", "a:1"); err == nil || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	client, server := net.Pipe()
	defer func() { _ = server.Close() }()
	d.connect = func(context.Context, string, string) (net.Conn, error) { return client, nil }
	silent, err := d.dial(time.Second, nil)(t.Context(), "tcp", "a:1")
	if err != nil || told != 1 {
		t.Fatalf("%v, told %d times", err, told)
	}
	_ = silent.SetReadDeadline(time.Now())
	if _, err := silent.Read(make([]byte, 1)); err == nil || told != 2 {
		t.Errorf("a node that does not answer: %v, told %d times", err, told)
	}
	rdb, err := openRedis("redis+cluster://127.0.0.1:1", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rdb.Close() }()
	if err := rdb.Get(t.Context(), "k").Err(); err == nil {
		t.Error("a cluster that is not there answered")
	}
}

// TestRedisOverTLS: the connection is checked against the host of the URL, and used again.
func TestRedisOverTLS(t *testing.T) {
	server := redistest.Start(t)
	cert := httptest.NewTLSServer(nil)
	defer cert.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: cert.TLS.Certificates, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	var accepted atomic.Int32
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = ln.Close() }()
	wg.Go(func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			inner, err := net.Dial("tcp", server.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			wg.Go(func() { _, _ = io.Copy(inner, client); _ = inner.Close() })
			wg.Go(func() { _, _ = io.Copy(client, inner); _ = client.Close() })
		}
	})
	for query, works := range map[string]bool{"?skip_verify=true": true, "": false} {
		rdb, err := openRedis("rediss://"+ln.Addr().String()+query, "", 10)
		if err != nil {
			t.Fatal(err)
		}
		accepted.Store(0)
		for range 3 {
			if err := rdb.Ping(t.Context()).Err(); (err == nil) != works {
				t.Errorf("%q: %v", query, err)
			}
		}
		if n := accepted.Load(); works && n != 1 {
			t.Errorf("three commands took %d connections", n)
		}
		_ = rdb.Close()
	}
}
