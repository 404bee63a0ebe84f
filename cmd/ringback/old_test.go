//go:build old

package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// TestOldProgramIsSeen runs a program of level 1 (commit 6da24ca, whose path OLD_RINGBACK gives) on a Redis beside processes of this one:
// as long as it lives, whatever its role, doctor names it and what is new is refused; once it has ended, no longer.
func TestOldProgramIsSeen(t *testing.T) {
	program := os.Getenv("OLD_RINGBACK")
	if program == "" {
		t.Fatal("say where the old program is: OLD_RINGBACK=/path/to/ringback")
	}
	server := redistest.Start(t, healthy...)
	env := []string{"RINGBACK_REDIS=" + server.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "k.json")}
	address(start(t, env, "serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"))

	var old []registry.Process
	refused := func() error {
		present, err := registry.Look(t.Context(), server.Client())
		if err != nil {
			t.Fatal(err)
		}
		if old = present.Older(registry.Level); len(old) == 0 {
			return nil
		}
		return errors.New(old[0].String())
	}
	if err := refused(); err != nil {
		t.Fatalf("before the old program: %v", err)
	}
	for _, role := range []string{"api", "worker"} {
		cmd := exec.Command(program, "serve", "--roles", role, "--listen", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), env...)
		p := launch(t, cmd)
		address(p)
		for end := time.Now().Add(patience); role == "worker" && refused() != nil && old[0].PID == 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // asynq's first word of a worker follows its start
		}
		err := refused()
		if err == nil {
			t.Errorf("an old %s was not seen", role)
		} else {
			t.Logf("an old %s: %v", role, err)
		}
		if role == "worker" && old[0].PID != cmd.Process.Pid {
			t.Errorf("the old worker is process %d, and %v was seen", cmd.Process.Pid, err)
		}
		stdout, stderr, code := try(t, env, "doctor", "-o", "json")
		var d diagnosis
		if err := json.Unmarshal([]byte(stdout), &d); err != nil || code != exitOK {
			t.Fatalf("doctor: exit %d, %v: %s", code, err, stderr)
		}
		if !regexp.MustCompile(`"process",\s*"level": "warn",\s*"found": "host [^"]* level 1"`).MatchString(stdout) || !strings.Contains(stdout, "api,worker, version") {
			t.Errorf("doctor does not list the old process and the new one:\n%s", stdout)
		}
		if code := p.end(syscall.SIGTERM); code != exitOK {
			t.Errorf("the old program ended with %d", code)
		}
		if err := refused(); err != nil {
			t.Errorf("an old %s that has ended: %v", role, err)
		}
	}
}

// TestOldProgramReadsOn: what a program of level 1 would misread is not written while it lives: it reads on what is registered meanwhile, and
// nothing is unverified. Once it has ended, callbacks are anchored, and it refuses those with a word if it is started all the same.
func TestOldProgramReadsOn(t *testing.T) {
	program := os.Getenv("OLD_RINGBACK")
	if program == "" {
		t.Fatal("say where the old program is: OLD_RINGBACK=/path/to/ringback")
	}
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t, healthy...).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "k.json"), "RINGBACK_LISTEN=127.0.0.1:0", "RINGBACK_EGRESS_ALLOW=127.0.0.0/8"}
	key := []string{"RINGBACK_COMPANY=acme", "RINGBACK_KEY=" + strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))}
	at := func(p *process) []string { return append([]string{"RINGBACK_SERVER=http://" + address(p)}, key...) }
	veteran := func() *process {
		cmd := exec.Command(program, "serve", "--roles", "api")
		cmd.Env = append(os.Environ(), env...)
		return launch(t, cmd)
	}
	create := []string{"callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/"}

	plainly := at(start(t, env, "serve", "--roles", "api"))
	strict := at(start(t, append(env, "RINGBACK_VERIFY_DESTINATIONS=on"), "serve", "--roles", "api"))
	old := veteran()
	before := at(old)
	ringback(t, plainly, create...)
	if said := ringback(t, before, "callbacks", "get", "1"); !strings.Contains(said, "http://127.0.0.1:1/") {
		t.Errorf("the old program reads\n%s", said)
	}
	if _, stderr, code := try(t, strict, create...); code == exitOK || !strings.Contains(stderr, "level 1") {
		t.Errorf("unverified beside an old program: exit %d, %s", code, stderr)
	}
	if code := old.end(syscall.SIGTERM); code != exitOK {
		t.Errorf("the old program ended with %d", code)
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		_, stderr, code := try(t, strict, create...)
		if code == exitOK && strings.Contains(stderr, "unverified") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after the old program's end: exit %d, %s", code, stderr)
		}
	}
	_, stderr, code := try(t, at(veteran()), "callbacks", "get", "2")
	t.Logf("the old program says of a callback that it does not know: exit %d, %s", code, stderr)
	if code == exitOK || !strings.Contains(stderr, "500") {
		t.Errorf("the old program reads what it does not know: exit %d, %s", code, stderr)
	}
}
