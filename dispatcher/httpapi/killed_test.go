package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// killedEnv holds a killedJob as JSON, and makes this test binary an API that takes one request and dies over it, by SIGKILL to itself.
const killedEnv = "RINGBACK_TEST_KILLED"

type killedJob struct {
	Socket          string
	Keyset          []byte
	Key, Path, Body string
	Before, After   string // the script that it dies over
}

// dying kills its process before a script runs, or after.
type dying struct{ before, after string }

func (d dying) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d dying) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d dying) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		script := ""
		if args := cmd.Args(); len(args) > 1 && strings.HasPrefix(cmd.Name(), "eval") {
			if script, _ = args[1].(string); cmd.Name() == "eval" {
				script = redis.NewScript(script).Hash()
			}
		}
		if d.before != "" && script == lua.Script(d.before).Hash() {
			die()
		}
		err := next(ctx, cmd)
		if d.after != "" && script == lua.Script(d.after).Hash() && err == nil {
			die()
		}
		return err
	}
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal comes
}

// killed is the life of such an API.
func killed() int {
	var job killedJob
	fail := func(err error) int {
		_, _ = fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := json.Unmarshal([]byte(os.Getenv(killedEnv)), &job); err != nil {
		return fail(err)
	}
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: job.Socket})
	rdb.AddHook(dying{job.Before, job.After})
	keyset, err := registry.ParseKeyset(job.Keyset)
	if err != nil {
		return fail(err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	reg, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset, Logger: logger})
	if err != nil {
		return fail(err)
	}
	out, err := egress.New(egress.Config{})
	if err != nil {
		return fail(err)
	}
	client, err := dispatcher.New(dispatcher.Config{Redis: rdb, Registry: reg, Egress: out, Logger: logger})
	if err != nil {
		return fail(err)
	}
	api, err := New(Config{
		Client: client, Registry: reg, Keys: registry.NewKeys(rdb), Redis: rdb, Logger: logger, Version: "1.2.3", PublicURL: "https://ringback.example.com",
		Metrics: http.NotFoundHandler(),
	})
	if err != nil {
		return fail(err)
	}
	r := httptest.NewRequestWithContext(context.Background(), "POST", job.Path, strings.NewReader(job.Body))
	r.Header.Set("Authorization", "Bearer "+job.Key)
	r.Header.Set("Idempotency-Key", "killed")
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return fail(fmt.Errorf("not killed: %d %s", w.Code, w.Body))
}

// TestAKillLosesNoAnswer: wherever a process is killed over a request with an Idempotency-Key, its repeat finds it done once, and hears its secret.
func TestAKillLosesNoAnswer(t *testing.T) {
	h := newHouse(t)
	keyset, err := h.keyset.Marshal()
	h.must(err)
	for name, at := range map[string]struct {
		before, after string
		acted         int // callbacks that the killed one left
	}{
		"claimed, and not done":             {after: "claim"},
		"done, and its answer not kept":     {before: "answered", acted: 1},
		"its answer kept, and not answered": {after: "answered", acted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			h := h.in(t)
			h.call("operator", "DELETE", "/companies/other?confirm=other", "")
			h.newKey("other operator")
			const path = "/companies/other/config/callbacks"
			job, err := json.Marshal(killedJob{
				Socket: h.redis.Socket(), Keyset: keyset, Key: h.keys["other operator"], Path: path, Body: hook, Before: at.before, After: at.after,
			})
			h.must(err)
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), killedEnv+"="+string(job), "GOCOVERDIR=")
			output, err := cmd.CombinedOutput()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
				t.Fatalf("it was not killed: %v %s", err, output)
			}
			there := func() int {
				t.Helper()
				return len(h.call("operator", "GET", path, "").want(http.StatusOK).json()["callbacks"].([]any))
			}
			if n := there(); n != at.acted {
				t.Fatalf("the killed one left %d callbacks, want %d", n, at.acted)
			}
			repeat := func() answer {
				return h.call("other operator", "POST", path, hook, header{"Idempotency-Key": "killed"})
			}
			if at.after != "answered" {
				repeat().wantProblem(http.StatusConflict)
				h.endLeases()
			}
			made := repeat().want(http.StatusCreated)
			repeat().want(http.StatusCreated).same(made)
			if n := there(); n != 1 {
				t.Errorf("there are %d callbacks, want one", n)
			}
			cb, err := h.api.Registry.Get(t.Context(), "other", int64(made.json()["callback_id"].(float64)))
			h.must(err)
			if told := made.json()["secret"]; told != cb.Secrets[0].Secret.Reveal() {
				t.Errorf("the secret told is %v, and another one signs", told)
			}
		})
	}
}
