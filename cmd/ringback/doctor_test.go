package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
	"github.com/ringback/ringback/registry/steady"
)

// healthy are settings of a Redis that doctor has nothing to say against.
var healthy = []string{"--maxmemory", "64mb", "--maxmemory-policy", "noeviction"}

// TestDoctorFindsPlantedFaults: each fault alone, on a Redis that is healthy otherwise. Doctor names it, and only it, and where the cure is a
// command of Redis's, running it cures.
func TestDoctorFindsPlantedFaults(t *testing.T) {
	t.Parallel()
	reached := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("doctor sent a request") }))
	t.Cleanup(reached.Close)
	secret, err := registry.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	keyset, err := secret.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	registerInside := func(t *testing.T, rdb *redis.Client) { // as a version did that let those names through
		t.Helper()
		r, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: secret, Logger: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = r.CheckKeyset(t.Context())
		}
		for _, body := range []string{
			`{"callback_type": "*", "destination": {"url": "https://partner.example/?token=canary"}}`,
			`{"callback_type": "*", "destination": {"url": "http://receiver/?token=canary"},
			  "auth": {"type": "oauth2", "token_url": "https://id.internal/", "client_id": "me", "client_secret": "canary"}}`,
		} {
			if err == nil {
				_, err = r.Create(t.Context(), "acme", []byte(body))
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	proxying := func(metadata int) *httptest.Server {
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Host == "169.254.169.254:80" {
				w.WriteHeader(metadata)
				return
			}
			hijacked, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer func() { _ = hijacked.Close() }()
			to, err := net.Dial("tcp", r.Host)
			if err != nil {
				return
			}
			defer func() { _ = to.Close() }()
			_, _ = io.WriteString(hijacked, "HTTP/1.1 200 OK\r\n\r\n")
			go func() { _, _ = io.Copy(to, hijacked) }()
			_, _ = io.Copy(hijacked, to)
		}))
		t.Cleanup(proxy.Close)
		return proxy
	}
	openProxy, closedProxy := proxying(http.StatusOK), proxying(http.StatusProxyAuthRequired)
	for _, tt := range []struct {
		name    string
		redis   []string                        // settings of Redis beside the healthy ones
		plant   func(*testing.T, *redis.Client) // or a fault that comes later
		lie     func(string) string             // or what a proxy makes of Redis's answers
		args    []string                        // of doctor
		env     []string
		check   string // the finding at fault
		level   level
		found   string
		cure    string
		curable bool // by running the cure
	}{
		{name: "nothing", args: []string{"--egress-check", reached.URL + "/hook?token=canary", "--egress-allow", "127.0.0.1"}},
		{
			name: "evicting policy", redis: []string{"--maxmemory-policy", "allkeys-lru"},
			check: "eviction", level: levelFault, found: `may throw accepted events away.*allkeys-lru`, cure: `CONFIG SET maxmemory-policy noeviction$`, curable: true,
		},
		{
			name: "a process of an older level", plant: func(t *testing.T, rdb *redis.Client) {
				t.Helper()
				old := redis.NewClient(&redis.Options{Network: rdb.Options().Network, Addr: rdb.Options().Addr, ClientName: "ringback", Protocol: 2})
				t.Cleanup(func() { _ = old.Close() })
				if err := old.Ping(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
			},
			check: "process", level: levelWarn, found: `^host .*, since 20.*, level 1$`, cure: `upgrade or stop it`,
		},
		{
			name: "connections nobody may list", plant: func(t *testing.T, rdb *redis.Client) {
				t.Helper()
				if err := rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-client|list").Err(); err != nil {
					t.Fatal(err)
				}
			},
			check: "connections", level: levelWarn, found: `would not be seen`, cure: `\+client\|list`,
		},
		{
			name: "no append-only file", redis: []string{"--appendonly", "no"},
			check: "append-only file", level: levelFault, found: `no append-only file`, cure: `CONFIG SET appendonly yes$`, curable: true,
		},
		{
			name: "fsync left to the system", redis: []string{"--appendfsync", "no"},
			check: "appendfsync", level: levelWarn, found: `appendfsync no`, cure: `CONFIG SET appendfsync everysec$`, curable: true,
		},
		{
			name: "memory nearly full", plant: fillTo(0.75),
			check: "memory", level: levelFault, found: `^7[2-7] % of maxmemory.*refused from 70 % on`, cure: `CONFIG SET maxmemory \d+mb$`, curable: true,
		},
		{
			name: "memory filling up", plant: fillTo(0.6),
			check: "memory", level: levelWarn, found: `^(5[7-9]|6[0-3]) % of maxmemory`, cure: `CONFIG SET maxmemory \d+mb$`, curable: true,
		},
		{
			name: "memory over the share that serve was told", plant: fillTo(0.4), args: []string{"--shed-at", "30"},
			check: "memory", level: levelFault, found: `refused from 30 % on`, cure: `CONFIG SET maxmemory \d+mb$`, curable: true,
		},
		{
			name: "no memory limit", redis: []string{"--maxmemory", "0"},
			check: "memory", level: levelWarn, found: `no maxmemory`, cure: `CONFIG SET maxmemory \d+mb$`, curable: true,
		},
		{
			name: "too few replicas", args: []string{"--wait-replicas", "2"},
			check: "replicas", level: levelFault, found: `^0 keep up, and --wait-replicas 2 wants 2`, cure: `REPLICAOF 127.0.0.1 \d+$`,
		},
		{
			name: "clock far behind", lie: withClock(7 * time.Minute),
			check: "clock", level: levelFault, found: `is (6m59|7m0)\S* behind Redis's`, cure: `timedatectl set-ntp true`,
		},
		{
			name: "clock a little ahead", lie: withClock(-3 * time.Second),
			check: "clock", level: levelWarn, found: `is (2\.9|3|3\.0\d*)\S* ahead of Redis's`, cure: `timedatectl set-ntp true`,
		},
		{
			name: "old version", lie: replacing(`redis_version:\S+`, `redis_version:5.0.14`),
			check: "version", level: levelFault, found: `version 5.0.14`, cure: `upgrade`,
		},
		{
			name: "a Dragonfly", lie: replacing(`redis_version:\S+`, "redis_version:7.4.0\r\ndragonfly_version:df-v1.40.1"),
			check: "store", level: levelFault, found: `not tested with Dragonfly`, cure: `or Valkey`,
		},
		{
			name: "a KeyDB", lie: replacing(`redis_version:\S+`, "redis_version:6.3.4\r\nmvcc_depth:0"),
			check: "store", level: levelWarn, found: `not tested with KeyDB`, cure: `or Valkey`,
		},
		{
			name: "a step of Redis's clock", plant: func(t *testing.T, rdb *redis.Client) {
				t.Helper()
				if err := rdb.HSet(t.Context(), steady.Key, "", -59*60*1000, "stepped:", time.Now().UnixMilli(), "by:", 3600*1000).Err(); err != nil {
					t.Fatal(err)
				}
			},
			check: "installation time", level: levelWarn, found: `^it is 59m0s behind Redis's clock, which stepped last on 20\S+, by 1h0m0s forward`, cure: `timedatectl`,
		},
		{
			name: "append-only file cannot be written", lie: replacing(`aof_last_write_status:ok`, `aof_last_write_status:err`),
			check: "writes to disk", level: levelFault, found: `aof_last_write_status is err`, cure: `df -h`,
		},
		{
			name: "snapshot cannot be written", lie: replacing(`rdb_last_bgsave_status:ok`, `rdb_last_bgsave_status:err`),
			check: "writes to disk", level: levelFault, found: `rdb_last_bgsave_status is err`, cure: `df -h`,
		},
		{
			name: "loading", lie: replacing(`loading:0\r\n`, "loading:1\r\nloading_eta_seconds:42\r\n"),
			check: "loading", level: levelFault, found: `another 42 s`, cure: `wait`,
		},
		{
			name: "a replica gone silent", lie: replacing(`connected_slaves:0\r\n`, "connected_slaves:1\r\nslave0:ip=127.0.0.1,port=7001,state=online,offset=1,lag=60\r\n"),
			check: "replicas", level: levelWarn, found: `^0 keep up, 1 do not`, cure: `INFO replication`,
		},
		{
			name: "newer data model", plant: func(t *testing.T, rdb *redis.Client) { rdb.Set(t.Context(), ledger.ModelKey, ledger.Model+1, 0) },
			check: "data model", level: levelFault, found: `newer Ringback`, cure: `start that version`,
		},
		{
			name: "egress refused", args: []string{"--egress-check", "http://127.0.0.1:1/?token=canary", "--egress-allow", "127.0.0.0/8"},
			check: "egress", level: levelFault, found: `^127.0.0.1:1: refused`, cure: `nc -vz 127.0.0.1 1 `,
		},
		{
			name: "egress to a name that there is not", args: []string{"--egress-check", "https://nowhere.invalid/?token=canary"},
			check: "egress", level: levelFault, found: `^nowhere.invalid: dns`, cure: `getent hosts nowhere.invalid `,
		},
		{
			name: "egress to an inner address", args: []string{"--egress-check", "http://127.0.0.1:1/"},
			check: "egress", level: levelFault, found: `address as its host`, cure: `--egress-allow 127.0.0.1/32 `,
		},
		{
			name: "egress to an inner name", args: []string{"--egress-check", "http://vault.service.consul/"},
			check: "egress", level: levelFault, found: `internal network`, cure: `--egress-allow-name vault.service.consul `,
		},
		{
			name: "a proxy that lets everything through", args: []string{"--egress-proxy", openProxy.URL},
			check: "egress proxy", level: levelWarn, found: `lets connections to 169.254.169.254 through`, cure: `let the proxy deny`,
		},
		{name: "a proxy that does not", args: []string{"--egress-proxy", strings.Replace(closedProxy.URL, "//", "//me:canary@", 1)}, env: []string{"HTTPS_PROXY=http://127.0.0.1:1"}},
		{
			name: "callbacks that could no longer be registered", plant: registerInside, env: []string{"RINGBACK_KEYSET=" + string(keyset)},
			check: "callback names", level: levelWarn, found: `is held: acme/2 \(receiver, id\.internal\)$`, cure: `--egress-allow-name receiver,id\.internal `,
		},
		{
			name: "callbacks whose names are allowed", plant: registerInside, env: []string{"RINGBACK_KEYSET=" + string(keyset)}, args: []string{"--egress-allow-name", "receiver,.internal"},
		},
		{
			name: "callbacks without their keyset", plant: registerInside, args: []string{"--keyset-file", "nowhere.json"},
			check: "callbacks", level: levelWarn, found: `was not checked: there is no keyset`, cure: `--keyset-file`,
		},
		{
			name: "egress without TLS", args: []string{"--egress-check", strings.Replace(reached.URL, "http:", "https:", 1), "--egress-allow", "127.0.0.0/8"},
			check: "egress", level: levelFault, found: `tls`, cure: `openssl s_client -connect 127.0.0.1:\d+ `,
		},
		{
			name: "egress not checked", args: []string{"--egress-check", ""},
			check: "egress", level: levelWarn, found: `not checked`, cure: `--egress-check`,
		},
		{
			name: "proxy", env: []string{"HTTPS_PROXY=http://me:canary@127.0.0.1:1"},
			check: "proxy", level: levelWarn, found: `HTTPS_PROXY is set, and Ringback does not use it`, cure: `firewall`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, append(slices.Clone(healthy), tt.redis...)...)
			if tt.plant != nil {
				tt.plant(t, server.Client())
			}
			addr := server.Addr()
			if tt.lie != nil {
				addr = lyingProxy(t, addr, tt.lie)
			}
			args := []string{"--redis", "redis://" + addr}
			if !slices.Contains(tt.args, "--egress-check") {
				args = append(args, "--egress-check", reached.URL, "--egress-allow", "127.0.0.1")
			}
			args = append(args, tt.args...)
			cure := wantFinding(t, examine(t, tt.env, args...), tt.check, tt.level, tt.found, tt.cure)
			if !tt.curable {
				return
			}
			if out, err := exec.Command("sh", "-c", cure).CombinedOutput(); err != nil || !bytes.HasPrefix(out, []byte("OK")) {
				t.Fatalf("the cure %q: %v: %s", cure, err, out)
			}
			wantFinding(t, examine(t, tt.env, args...), "", "", "", "")
		})
	}
}

// TestDoctorNamesTheStore: by its own name and version, whichever the tests run on.
func TestDoctorNamesTheStore(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, healthy...)
	info := parseInfo(server.Client().Info(t.Context(), "server").Val())
	want := "Redis " + info["redis_version"]
	if v := info["valkey_version"]; v != "" {
		want = "Valkey " + v + ", which takes the place of Redis " + info["redis_version"]
	}
	d := examine(t, nil, "--redis", server.URL())
	i := slices.IndexFunc(d.Findings, func(f finding) bool { return f.Check == "version" })
	if i < 0 || d.Findings[i].Level != levelOK || d.Findings[i].Found != want {
		t.Errorf("want %q: %+v", want, d.Findings)
	}
}

// TestDoctorMissesTheProxy: nobody listens where --egress-proxy says.
func TestDoctorMissesTheProxy(t *testing.T) {
	t.Parallel()
	f := checkProxy(t.Context(), egress.Config{Proxy: &url.URL{Scheme: "http", Host: "127.0.0.1:1", User: url.UserPassword("me", "canary")}})
	if f.Level != levelFault || f.Found != "127.0.0.1:1: the egress proxy cannot be reached" || !strings.HasPrefix(f.Cure, "nc -vz 127.0.0.1 1 ") {
		t.Errorf("%+v", f)
	}
}

// TestDoctorListsWhatCouldNoLongerBeRegistered: hosts and headers, by callback, up to so many.
func TestDoctorListsWhatCouldNoLongerBeRegistered(t *testing.T) {
	t.Parallel()
	door, err := egress.New(egress.Config{})
	if err != nil {
		t.Fatal(err)
	}
	all := []*registry.Callback{
		{Company: "acme", ID: 1, Destination: registry.Destination{URL: "https://partner.example/"}, Headers: map[string]string{"X-Own": "canary"}},
		{Company: "acme", ID: 2, Destination: registry.Destination{URL: "https://partner.example/"}, Headers: map[string]string{"X-Forwarded-For": "canary", "x_real_ip": "canary"}},
		{Company: "acme", ID: 3, Destination: registry.Destination{URL: "http://10.0.0.1/"}}, // another matter
	}
	for id := range int64(23) {
		all = append(all, &registry.Callback{Company: "other", ID: id + 1, Destination: registry.Destination{URL: "https://hook.prod.svc/canary"}})
	}
	found := judgeCallbacks(all, door)
	if len(found) != 2 || found[0].Check != "callback names" || found[1].Check != "callback headers" {
		t.Fatalf("%+v", found)
	}
	if f := found[0].Found; !strings.Contains(f, "other/1 (hook.prod.svc), ") || !strings.HasSuffix(f, "other/20 (hook.prod.svc) and 3 more") || strings.Contains(f, "acme") {
		t.Error(f)
	}
	if f := found[1].Found; !strings.HasSuffix(f, "registered: acme/2 (X-Forwarded-For, x_real_ip)") {
		t.Error(f)
	}
	if text := fmt.Sprint(found); strings.Contains(text, "canary") {
		t.Errorf("a secret is in %s", text)
	}
	odd := &registry.Callback{Company: "acme", ID: 4, Destination: registry.Destination{URL: "https://partner.example/"}, Headers: map[string]string{"X-Forwarded-'`id`'": ""}}
	if cure := judgeCallbacks([]*registry.Callback{odd}, door)[1].Cure; strings.ContainsAny(cure, "`'") {
		t.Errorf("a partner writes what an operator is told to run: %s", cure)
	}
	if cure := judgeCallbacks([]*registry.Callback{odd, all[1]}, door)[1].Cure; !strings.Contains(cure, `{"X-Forwarded-For": null}`) {
		t.Error(cure)
	}
	if found = judgeCallbacks(all[:1], door); len(found) != 1 || found[0].Level != levelOK {
		t.Errorf("%+v", found)
	}
}

// TestDoctorKnowsCertificatesThatExpire within a month: a callback's, and a company's, each with the command that renews it.
func TestDoctorKnowsCertificatesThatExpire(t *testing.T) {
	t.Parallel()
	a := egresstest.NewAuthority(t, "authority")
	owner := func(company string, id int64, left time.Duration) *registry.Callback {
		cert, key := a.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(left) })
		return &registry.Callback{Company: company, ID: id, TLS: &registry.TLS{ClientCertificate: cert, ClientKey: key}}
	}
	const day = 24 * time.Hour
	callbacks := []*registry.Callback{{Company: "acme", ID: 1}, owner("acme", 5, 3*day+time.Hour), owner("acme", 6, 40*day)}
	companies := []*registry.Callback{owner("acme", 0, 40*day), owner("other", 0, 20*day+time.Hour)}
	found := judgeCertificates(callbacks, companies, time.Now())
	if len(found) != 2 || found[0].Level != levelWarn || found[1].Level != levelWarn {
		t.Fatalf("%+v", found)
	}
	if f := found[0]; !strings.Contains(f.Found, "of callbacks expire within a month: acme/5 (expires in 3 days, at 20") || !strings.Contains(f.Cure, "callbacks update ID --company COMPANY --tls ") {
		t.Errorf("%+v", f)
	}
	if f := found[1]; !strings.Contains(f.Found, "of companies expire within a month: other (expires in 20 days, at 20") || !strings.Contains(f.Cure, "companies tls COMPANY --tls ") {
		t.Errorf("%+v", f)
	}
	if strings.Contains(fmt.Sprint(found), "acme/6") || len(judgeCertificates(callbacks[:1], companies[:1], time.Now())) != 0 {
		t.Errorf("one that is good for longer expires: %+v", found)
	}
}

// examine runs doctor and makes sure that its exit code is right and that it shows no secret, as a table as well.
func examine(t *testing.T, env []string, args ...string) diagnosis {
	t.Helper()
	stdout, stderr, code := try(t, env, append([]string{"doctor", "-o", "json"}, args...)...)
	var d diagnosis
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatalf("doctor: exit %d, %v: %s%s", code, err, stdout, stderr)
	}
	if want := min(d.Faults, 1); code != want || (stderr == "") != (want == 0) {
		t.Errorf("%d faults: exit %d, and on stderr: %s", d.Faults, code, stderr)
	}
	table, _, _ := try(t, env, append([]string{"doctor"}, args...)...)
	round := func(s string) string { return regexp.MustCompile(`\d+mb`).ReplaceAllString(s, "mb") } // one look costs Redis some memory, too
	for _, f := range d.Findings {
		if !regexp.MustCompile(`(?m)^`+string(f.Level)+` +`+f.Check).MatchString(table) || !strings.Contains(round(table), round(f.Cure)) {
			t.Errorf("the table lacks %+v:\n%s", f, table)
		}
	}
	if strings.Contains(stdout+stderr+table, "canary") {
		t.Errorf("a secret is in %s%s%s", stdout, stderr, table)
	}
	return d
}

// wantFinding makes sure that one check, and no other, found something, and returns its cure. An empty check means: none.
func wantFinding(t *testing.T, d diagnosis, check string, l level, found, cure string) string {
	t.Helper()
	command := ""
	for _, f := range d.Findings {
		switch {
		case f.Check != check && f.Level == levelOK && f.Cure == "":
		case f.Check != check:
			t.Errorf("%s besides: %+v", f.Check, f)
		case f.Level != l || !regexp.MustCompile(found).MatchString(f.Found) || !regexp.MustCompile(cure).MatchString(f.Cure):
			t.Errorf("%+v, want %s, %s, cure %s", f, l, found, cure)
		default:
			command = f.Cure
		}
	}
	if check != "" && command == "" {
		t.Errorf("no finding of %s", check)
	}
	return command
}

// fillTo sets maxmemory so that a share of it is used.
func fillTo(share float64) func(*testing.T, *redis.Client) {
	return func(t *testing.T, rdb *redis.Client) {
		t.Helper()
		ctx := t.Context()
		rdb.SetRange(ctx, "filler", 16<<20, "x") // or a connection more or less would count
		info := parseInfo(rdb.Info(ctx, "memory").Val())
		used, err := strconv.ParseInt(info["used_memory"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if err := rdb.ConfigSet(ctx, "maxmemory", strconv.FormatInt(int64(float64(used)/share), 10)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func replacing(pattern, with string) func(string) string {
	re := regexp.MustCompile(pattern)
	return func(answer string) string { return re.ReplaceAllString(answer, with) }
}

// withClock changes what TIME answers: its seconds are the only answer of ten digits near to now.
func withClock(by time.Duration) func(string) string {
	return func(answer string) string {
		seconds, err := strconv.ParseInt(answer, 10, 64)
		if d := time.Until(time.Unix(seconds, 0)); err != nil || d < -time.Minute || d > time.Minute {
			return answer
		}
		return strconv.FormatInt(seconds+int64(by/time.Second), 10)
	}
}

// lyingProxy stands before a Redis and changes the strings in its answers.
func lyingProxy(t *testing.T, addr string, lie func(string) string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	serve := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		server, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		answers := bufio.NewReader(server)
		for {
			line, err := answers.ReadString('\n')
			if err != nil {
				return
			}
			if n, err := strconv.Atoi(strings.TrimSpace(line[1:])); err == nil && line[0] == '$' && n >= 0 {
				text := make([]byte, n+2)
				if _, err := io.ReadFull(answers, text); err != nil {
					return
				}
				answer := lie(string(text[:n]))
				line = fmt.Sprintf("$%d\r\n%s\r\n", len(answer), answer)
			}
			if _, err := io.WriteString(client, line); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			client, err := ln.Accept()
			if err != nil {
				return
			}
			go serve(client)
		}
	}()
	return ln.Addr().String()
}

// TestDoctorSaysWhichPromisesHold about an event that was accepted, by the settings of Redis.
func TestDoctorSaysWhichPromisesHold(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name                   string
		settings, args         []string
		crash, power, failover string
	}{
		{"everysec", nil, nil, `^is kept, if the disk keeps up`, `last second`, `may be lost`},
		{"always", []string{"--appendfsync", "always"}, nil, `^is kept$`, `^is kept`, `may be lost`},
		{"no", []string{"--appendfsync", "no"}, nil, `^is kept$`, `half minute`, `may be lost`},
		{"no file", []string{"--appendonly", "no"}, nil, `^may be lost`, `^may be lost`, `may be lost`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := examine(t, nil, append([]string{"--redis", redistest.Start(t, append(slices.Clone(healthy), tt.settings...)...).URL()}, tt.args...)...)
			for _, line := range []struct{ got, want string }{
				{d.Durability.RedisCrash, tt.crash}, {d.Durability.PowerCut, tt.power}, {d.Durability.Failover, tt.failover},
			} {
				if !regexp.MustCompile(line.want).MatchString(line.got) {
					t.Errorf("%q, want %s", line.got, line.want)
				}
			}
		})
	}
}

// TestDoctorCountsReplicas: a replica that keeps up counts, one that hangs does not for long; a replica itself is no place for Ringback.
func TestDoctorCountsReplicas(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, append(slices.Clone(healthy), "--repl-diskless-sync-delay", "0")...)
	host, port, err := net.SplitHostPort(master.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for rdb := master.Client(); ; { // WAIT returns once the replica has what was written
		rdb.Set(ctx, "written", "x", 0)
		if n, err := rdb.Wait(ctx, 1, time.Second).Result(); err != nil {
			t.Fatal(err)
		} else if n == 1 {
			break
		}
	}
	d := examine(t, nil, "--redis", master.URL(), "--wait-replicas", "1")
	wantFinding(t, d, "egress", levelWarn, `not checked`, ``)
	if !strings.Contains(d.Durability.Failover, "is kept") {
		t.Errorf("failover: %s", d.Durability.Failover)
	}
	d = examine(t, nil, "--redis", replica.URL())
	if f := d.Findings[2]; f.Check != "role" || f.Level != levelFault || !strings.Contains(f.Cure, host+" port "+port) {
		t.Errorf("on a replica: %+v", f)
	}
}

// TestDoctorWithoutRedis still says what it can.
func TestDoctorWithoutRedis(t *testing.T) {
	t.Parallel()
	d := examine(t, nil, "--redis", "redis://:canary@127.0.0.1:1")
	if len(d.Findings) != 2 || d.Findings[0].Check != "redis" || d.Findings[0].Level != levelFault || d.Durability != nil {
		t.Errorf("%+v", d)
	}
	locked := redistest.Start(t, healthy...)
	if err := locked.Client().ConfigSet(t.Context(), "requirepass", "canary").Err(); err != nil {
		t.Fatal(err)
	}
	d = examine(t, nil, "--redis", locked.URL())
	if len(d.Findings) != 2 || !strings.Contains(d.Findings[0].Found, "NOAUTH") || !strings.Contains(d.Findings[0].Cure, "password") {
		t.Errorf("without a password: %+v", d)
	}
	d = examine(t, nil, "--redis", "redis://:canary@"+locked.Addr())
	wantFinding(t, d, "egress", levelWarn, `not checked`, ``)
}

// TestLanesAreSpreadOverMasters: a master without lanes is warned of, and one with more than twice its share, and the number that does better is the nearest.
func TestLanesAreSpreadOverMasters(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, owners string // the masters of all lanes that there may be
		count        int
		level        level
		found, cure  string
	}{
		{"even", "abcabc", 3, levelOK, `^3 lanes, on 3 masters$`, ``},
		{"twice its share", "aabbbbc", 7, levelOK, ``, ``},
		{"more than that", "aaaaaaabccccccccccc", 9, levelWarn, `^7 of 9 lanes lie on one of 3 masters$`, `^ringback lanes set 11$`},
		{"none", "aabbaac", 4, levelWarn, `^none of 4 lanes lies on c: `, `^ringback lanes set 7$`},
		{"fewer do better", "abcaaaaaaa", 9, levelWarn, `^7 of 9 `, `^ringback lanes set 6$`},
		{"none of any number", "aaaabbbb", 4, levelWarn, `^none of 4 lanes lies on b, c: `, `^spread the slots`},
		{"one master", "aaaa", 4, levelOK, ``, ``},
	} {
		masters := strings.Split("abc", "")
		if tt.name == "one master" {
			masters = masters[:1]
		}
		f := judgeLanes(tt.count, strings.Split(tt.owners, ""), masters)
		if f.Check != "lanes" || f.Level != tt.level || !regexp.MustCompile(tt.found).MatchString(f.Found) || !regexp.MustCompile(tt.cure).MatchString(f.Cure) || (f.Cure == "") != (tt.cure == "") {
			t.Errorf("%s: %+v", tt.name, f)
		}
	}
}

// TestDoctorOnACluster looks at every master, and at what holds them together. It does so as the user that OPERATORS.md makes.
func TestDoctorOnACluster(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 1, healthy...)
	for _, node := range nodes.Nodes() {
		if err := node.Client().Do(t.Context(), "ACL", "SETUSER", "ringback", "reset", "on", ">canary", "~ringback:*", "~asynq:*", "~{*}:*", "&ringback:*", "&asynq:*",
			"-@all", "+@read", "+@write", "+@connection", "-@dangerous", "-scan", "-randomkey", "-dbsize", "+eval", "+evalsha", "+multi", "+exec", "+publish", "+subscribe",
			"+info", "+time", "+wait", "+client|list", "+client|setname", "+config|get", "+cluster|slots", "+cluster|info", "+cluster|nodes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	url := strings.Replace(nodes.URL(), "redis+cluster://", "redis+cluster://ringback:canary@", 1)
	look := func() diagnosis { return examine(t, nil, "--redis", url, "--wait-replicas", "1") }
	d := look()
	if slices.ContainsFunc(d.Findings, func(f finding) bool { return f.Level == levelFault }) {
		t.Errorf("a healthy cluster: %+v", d.Findings)
	}
	want := func(check string, l level, node, found string) {
		t.Helper()
		if !slices.ContainsFunc(d.Findings, func(f finding) bool {
			return f.Check == check && f.Level == l && f.Node == node && strings.Contains(f.Found, found)
		}) {
			t.Errorf("no %s on %s of %q that says %s: %+v", l, check, node, found, d.Findings)
		}
	}
	want("cluster", levelOK, "", "by 3 masters of 6 nodes")
	want("coverage", levelWarn, "", "whole cluster refuses")
	want("data model", levelOK, "", "")
	for _, master := range nodes.Masters() {
		want("installation time", levelOK, master.Addr(), "that of Redis's clock")
	}
	want("lanes", levelOK, "", "4 lanes, on 3 masters")
	if err := nodes.Client().HSet(t.Context(), "ringback:lanes", "count", 2, "high", 2, "epoch", 1).Err(); err != nil {
		t.Fatal(err)
	}
	d = look()
	want("lanes", levelWarn, "", "none of 2 lanes lies on "+nodes.MasterOf("{ringback-2}").Addr())

	masters := nodes.Masters()
	client := masters[1].Client()
	if err := errors.Join(client.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-lru").Err(), client.ConfigSet(t.Context(), "appendonly", "no").Err()); err != nil {
		t.Fatal(err)
	}
	var lone *redistest.Server
	for _, node := range nodes.Nodes() {
		info := node.Client().InfoMap(t.Context(), "replication").Val()["Replication"]
		if info["master_host"]+":"+info["master_port"] == masters[0].Addr() {
			lone = node
		}
	}
	lone.Kill()
	nodes.AwaitSeenAway(lone)
	d = look()
	want("eviction", levelFault, masters[1].Addr(), "allkeys-lru")
	want("append-only file", levelFault, masters[1].Addr(), "")
	want("replicas", levelFault, masters[0].Addr(), "--wait-replicas 1")
	want("replica", levelWarn, masters[0].Addr(), "no replica")
	want("node", levelWarn, lone.Addr(), "does not answer")
	masters[0].Kill()
	nodes.AwaitSeenAway(masters[0])
	d = look()
	want("cluster", levelFault, "", "state is fail")
	want("node", levelFault, masters[0].Addr(), "master with slots")
}
