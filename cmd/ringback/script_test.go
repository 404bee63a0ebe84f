package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestScripts runs testdata/scripts: the command line as its users meet it. Each script finds a ringback dev (of all scripts, but for egress and lanes) in
// RINGBACK_SERVER, and (keys and keyset only) an empty Redis in RINGBACK_REDIS, sample payloads in EVENTS, and in RECEIVER the URL of a partner
// that takes everything.
func TestScripts(t *testing.T) {
	t.Parallel()
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	events, err := filepath.Abs(samples)
	if err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(receiver.Close)
	path := plainPath(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/scripts",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", path)
			env.Setenv("EVENTS", events)
			env.Setenv("RINGBACK_SERVER", server)
			env.Setenv("RECEIVER", receiver.URL)
			if strings.HasSuffix(env.WorkDir, "script-keys") {
				env.Setenv("RINGBACK_REDIS", "redis://"+miniredis.RunT(t).Addr())
			}
			if strings.HasSuffix(env.WorkDir, "script-keyset") {
				env.Setenv("RINGBACK_REDIS", "redis://"+miniredis.RunT(t).Addr())
				env.Setenv("RINGBACK_KEYSET_FILE", filepath.Join(env.WorkDir, "keyset.json"))
			}
			if strings.HasSuffix(env.WorkDir, "script-egress") { // it stops what the others wait for
				env.Setenv("RINGBACK_SERVER", startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1])
			}
			if strings.HasSuffix(env.WorkDir, "script-lanes") { // on a Redis that says who is connected
				env.Setenv("RINGBACK_SERVER", startPlain(t, nil, "dev", "--listen", "127.0.0.1:0", "--redis", redistest.Start(t).URL()).await(`API +(http://\S+)`)[1])
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"usage":    wants(exitUsage),
			"config":   wants(exitConfig),
			"failure":  wants(exitFailure),
			"delivery": idFrom(`dlv_[A-Za-z0-9_.-]+`),
			"replay":   idFrom(`rpl_[A-Za-z0-9_.-]+`),
			"await":    await,
			"claim":    claim,
			"redis":    tellRedis,
		},
	})
}

// wants makes a script command that runs a program which must end with code, nothing on stdout and one line on stderr.
func wants(code int) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		err := ts.Exec(args[0], args[1:]...)
		exit, ok := err.(*exec.ExitError) //nolint:errorlint // it is what Exec returns
		if !ok || exit.ExitCode() != code {
			ts.Fatalf("%s: %v, want exit code %d", strings.Join(args, " "), err, code)
		}
		if stdout := ts.ReadFile("stdout"); stdout != "" {
			ts.Fatalf("%s wrote to stdout: %s", strings.Join(args, " "), stdout)
		}
		if stderr := ts.ReadFile("stderr"); strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "ringback: ") {
			ts.Fatalf("%s: want one line on stderr, got: %s", strings.Join(args, " "), stderr)
		}
	}
}

// idFrom makes a script command that sets the variable that it is given to the first id in stdout.
func idFrom(pattern string) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		id := regexp.MustCompile(pattern).FindString(ts.ReadFile("stdout"))
		if id == "" {
			ts.Fatalf("no %s in stdout", pattern)
		}
		ts.Setenv(args[0], id)
	}
}

// await runs a program until its stdout matches the pattern that is given first.
func await(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	for deadline := time.Now().Add(patience); ; {
		ts.Check(ts.Exec(args[1], args[2:]...))
		stdout := ts.ReadFile("stdout")
		if pattern.MatchString(stdout) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s never matched %s, but was:\n%s", strings.Join(args[1:], " "), args[0], stdout)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// scriptRedis is the Redis of a script.
func scriptRedis(ts *testscript.TestScript) *redis.Client {
	opts, err := redis.ParseURL(ts.Getenv("RINGBACK_REDIS"))
	ts.Check(err)
	rdb := redis.NewClient(opts)
	ts.Defer(func() { _ = rdb.Close() })
	return rdb
}

// claim does what a process does when it starts with the keyset; where a company is named it registers a callback of that.
func claim(ts *testscript.TestScript, _ bool, args []string) {
	keyset, _, err := registry.LoadOrCreateKeyset(ts.Getenv("RINGBACK_KEYSET_FILE"))
	ts.Check(err)
	r, err := registry.New(registry.Config{Redis: scriptRedis(ts), Catalogue: payloads.Builtin(), Keyset: keyset})
	ts.Check(err)
	ts.Check(r.CheckKeyset(context.Background()))
	for _, company := range args {
		_, err := r.Create(context.Background(), company, []byte(`{"callback_type": "payment_proof", "destination": {"url": "https://partner.example/"}}`))
		ts.Check(err)
	}
}

// tellRedis sends a command to Redis.
func tellRedis(ts *testscript.TestScript, _ bool, args []string) {
	words := make([]any, len(args))
	for i, word := range args {
		words[i] = word
	}
	ts.Check(scriptRedis(ts).Do(context.Background(), words...).Err())
}
