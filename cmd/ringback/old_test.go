//go:build old

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// oldCommit is the last of level 1, and of what these tests call the old program.
const oldCommit = "6da24ca"

// oldProgram is its path: what OLD_RINGBACK says, or a build of that commit.
func oldProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("OLD_RINGBACK"); program != "" {
		return program
	}
	dir := t.TempDir()
	build := exec.Command("sh", "-ec", `git -C "$(git rev-parse --show-toplevel)" archive `+oldCommit+` | tar -x -C "$1" && cd "$1" && CGO_ENABLED=0 go build -o ringback ./cmd/ringback`, "sh", dir)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", oldCommit, err, out)
	}
	return filepath.Join(dir, "ringback")
}

// TestOldProgramIsSeen runs a program of level 1 on a Redis beside processes of this one:
// as long as it lives, whatever its role, doctor names it and what is new is refused; once it has ended, no longer.
func TestOldProgramIsSeen(t *testing.T) {
	program := oldProgram(t)
	server := redistest.Start(t, healthy...)
	env := []string{"RINGBACK_REDIS=" + server.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "k.json")}
	between := registry.Process{ID: "between", Level: registry.ModelLevel - 1, Roles: "api", Host: "web-7"} // else the old program starts once and never again
	end, err := registry.Announce(t.Context(), server.Client(), nil, between, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = end(context.WithoutCancel(t.Context())) }()
	address(start(t, env, "serve", "--listen", "127.0.0.1:0", "--egress-allow", "127.0.0.0/8"))

	var old []registry.Process
	refused := func() error {
		present, err := registry.Look(t.Context(), server.Client())
		if err != nil {
			t.Fatal(err)
		}
		if old = present.Older(between.Level); len(old) == 0 {
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

// TestOldProgramKeepsOut: where a later data model was written, the old program says so and does not start, and leaves the number as it is.
func TestOldProgramKeepsOut(t *testing.T) {
	server := redistest.Start(t, healthy...)
	later := ledger.Model + 1
	server.Client().Set(t.Context(), ledger.ModelKey, later, 0)
	p := veteran(t, oldProgram(t), []string{"RINGBACK_REDIS=" + server.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "k.json"), "RINGBACK_LISTEN=127.0.0.1:0"})
	t.Log(strings.TrimSpace(p.await(`ringback: .*newer Ringback.*`)[0]))
	if <-p.done; p.cmd.ProcessState.Success() {
		t.Error("it ended as if all were well")
	}
	if got, err := ledger.Written(t.Context(), server.Client()); err != nil || got != later {
		t.Errorf("the number is %d: %v", got, err)
	}
}

// TestOldProgramReadsOn: what a program of level 1 would misread is not written while it lives: it reads on what is registered meanwhile, and
// nothing is unverified. Once it has ended, callbacks are anchored, and it refuses those with a word if it is started all the same.
func TestOldProgramReadsOn(t *testing.T) {
	program := oldProgram(t)
	env := []string{"RINGBACK_REDIS=" + redistest.Start(t, healthy...).URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "k.json"), "RINGBACK_LISTEN=127.0.0.1:0", "RINGBACK_EGRESS_ALLOW=127.0.0.0/8"}
	key := []string{"RINGBACK_COMPANY=acme", "RINGBACK_KEY=" + strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))}
	at := func(p *process) []string { return append([]string{"RINGBACK_SERVER=http://" + address(p)}, key...) }
	create := []string{"callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/"}

	plainly := at(start(t, env, "serve", "--roles", "api"))
	strict := at(start(t, append(env, "RINGBACK_VERIFY_DESTINATIONS=on"), "serve", "--roles", "api"))
	old := veteran(t, program, env, "--roles", "api")
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
	_, stderr, code := try(t, at(veteran(t, program, env, "--roles", "api")), "callbacks", "get", "2")
	t.Logf("the old program says of a callback that it does not know: exit %d, %s", code, stderr)
	if code == exitOK || !strings.Contains(stderr, "500") {
		t.Errorf("the old program reads what it does not know: exit %d, %s", code, stderr)
	}
}

// TestOldProgramHoldsTheModelBack: while a program of level 1 lives, bodies are stored as it reads them, and the data model's number stays 1, so that a roll-out
// can be rolled back. Once it has ended, long bodies are compressed, the number is 2, and it does not start any more. Nothing is lost on the way.
func TestOldProgramHoldsTheModelBack(t *testing.T) {
	program := oldProgram(t)
	partner := newBystander(t, oldPartner, map[string]int{"/fine": 204})
	server := redistest.Start(t, healthy...)
	rdb := server.Client()
	env := append(slices.Clone(ages), "RINGBACK_REDIS="+server.URL(), "RINGBACK_KEYSET_FILE="+filepath.Join(t.TempDir(), "k.json"))
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	body := `{"requestId":"e","status":"OK","issuerName":"` + strings.Repeat("Nómina del mes ", 200) + `"}`
	sent := 0
	send := func(p *process) (stored string, length int) {
		t.Helper()
		sent++
		id := fmt.Sprintf("e-%d", sent)
		status := apiCaller{t, "http://" + address(p), key}.call(http.MethodPost, "/companies/fine/events",
			map[string]any{"event_type": "payment_proof", "event_id": id, "payload": json.RawMessage(body)}, nil)
		if status != http.StatusAccepted {
			t.Fatalf("%s: %d", id, status)
		}
		length, _ = rdb.HGet(t.Context(), ledger.EventKey("fine", id), "z").Int()
		return rdb.HGet(t.Context(), ledger.EventKey("fine", id), "b").Val(), length
	}
	number := func() int {
		t.Helper()
		n, err := ledger.Written(t.Context(), rdb)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	wantPlain := func(when string, p *process) {
		t.Helper()
		if stored, length := send(p); stored != body || length != 0 || number() != 1 {
			t.Errorf("%s: %d bytes are stored as %d, with length %d, and the data model's number is %d", when, len(body), len(stored), length, number())
		}
	}

	old := veteran(t, program, env)
	serving := startPlain(t, env, "serve")
	if status := (apiCaller{t, "http://" + address(serving), key}).call(http.MethodPost, "/companies/fine/config/callbacks", hook("payment_proof", "/fine", nil), nil); status != http.StatusCreated {
		t.Fatalf("registering: %d", status)
	}
	for range 10 {
		wantPlain("beside the old program", serving)
		wantPlain("by the old program", old)
	}
	serving.end(syscall.SIGTERM)
	old.end(syscall.SIGTERM)
	old = veteran(t, program, env) // the roll-out is rolled back
	wantPlain("rolled back", old)
	serving = startPlain(t, env, "serve")
	old.end(syscall.SIGTERM)
	for end := time.Now().Add(patience); number() != ledger.Model; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("after the old program's end the data model's number stays 1")
		}
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		if stored, length := send(serving); length > 0 {
			if length != len(body) || len(stored) > len(body)/4 {
				t.Errorf("%d bytes are stored as %d, with length %d", len(body), len(stored), length)
			}
			break
		}
		if time.Now().After(end) {
			t.Fatal("after the old program's end bodies are stored as ever")
		}
	}
	late := veteran(t, program, env)
	t.Log(strings.TrimSpace(late.await(`ringback: .*newer Ringback.*`)[0]))
	if <-late.done; late.cmd.ProcessState.Success() {
		t.Error("the old program ended as if all were well")
	}
	apiCaller{t, "http://" + address(serving), key}.await("fine", "all delivered", all(sent, "delivered"))
	distinct := make(map[string]bool)
	for _, id := range partner.got("/fine") {
		distinct[id] = true
	}
	if len(distinct) != sent {
		t.Errorf("%d different events arrived, want %d", len(distinct), sent)
	}
}

// A veteran is the old program as a process, with API and worker or one of them.
func veteran(t *testing.T, program string, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(program, append([]string{"serve"}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return launch(t, cmd)
}

// hook is a registration of a callback of the old partner's.
func hook(kind, path string, more map[string]any) map[string]any {
	body := map[string]any{"callback_type": kind, "destination": map[string]any{"url": "http://" + oldPartner + path}, "timeout": "60s"}
	maps.Copy(body, more)
	return body
}

// send sends a company payment proofs, from the first to the last number.
func (a apiCaller) send(company string, first, last int) {
	a.t.Helper()
	for n := first; n <= last; n++ {
		id := fmt.Sprintf("e-%d", n)
		status := a.call(http.MethodPost, "/companies/"+company+"/events", map[string]any{
			"event_type": "payment_proof", "event_id": id, "payload": map[string]any{"requestId": id, "status": "OK"},
		}, nil)
		if status != http.StatusAccepted {
			a.t.Fatalf("%s of %s: %d", id, company, status)
		}
	}
}

// TestOldDataIsWritten has the old program leave work of every kind behind, as it is killed, and writes that where TestDataOfModelOne finds it.
func TestOldDataIsWritten(t *testing.T) {
	if os.Getenv("OLD_DATA") == "" {
		t.Skip("OLD_DATA=write writes " + oldData + " anew")
	}
	program := oldProgram(t)
	if err := os.MkdirAll(oldData, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(oldKeys)
	partner := newBystander(t, oldPartner, map[string]int{
		"/fine": 204, "/limited": 204, "/retrying": 500, "/hanging": 0, "/paused": 204, "/dead": 500, "/gone": 410, "/warned": 500, "/notices": 204, "/asked": 200,
	})
	server := redistest.Start(t, healthy...)
	rdb := server.Client()
	ctx := t.Context()
	env := append(slices.Clone(ages), "RINGBACK_REDIS="+server.URL(), "RINGBACK_KEYSET_FILE="+oldKeys, "RINGBACK_DISABLE_AFTER=20s")
	key, err := exec.Command(program, "keys", "create", "--role", "operator", "--redis", server.URL()).Output()
	if err != nil {
		t.Fatal(err)
	}
	key = bytes.TrimSpace(key)
	key = key[bytes.LastIndexByte(key, '\n')+1:]
	serving := veteran(t, program, env)
	api := apiCaller{t, "http://" + address(serving), string(key)}

	slowly := map[string]any{"retry": map[string]any{"initial_interval": "40s"}}
	for company, body := range map[string]map[string]any{
		"fine": hook("payment_proof", "/fine", nil), "retrying": hook("payment_proof", "/retrying", slowly), "hanging": hook("payment_proof", "/hanging", nil),
		"paused": hook("payment_proof", "/paused", nil), "gone": hook("payment_proof", "/gone", nil), "asked": hook("entry_code.verify", "/asked", nil),
		"dead":    hook("payment_proof", "/dead", map[string]any{"retry": map[string]any{"max_attempts": 1}}),
		"limited": hook("payment_proof", "/limited", map[string]any{"rate_limit": map[string]any{"per_second": 0.2, "burst": 1}}),
		"warned":  hook("payment_proof", "/warned", map[string]any{"retry": map[string]any{"initial_interval": "1s", "multiplier": 1, "max_attempts": 100}}),
	} {
		if status := api.call(http.MethodPost, "/companies/"+company+"/config/callbacks", body, nil); status != http.StatusCreated {
			t.Fatalf("registering for %s: %d", company, status)
		}
	}
	api.call(http.MethodPost, "/companies/warned/config/callbacks", hook("callback.failing", "/notices", nil), nil)
	api.call(http.MethodPost, "/companies/paused/config/callbacks/1/pause", map[string]any{}, nil)
	api.call(http.MethodPost, "/companies/asked/decisions", question, nil)

	api.send("fine", 1, 3)
	api.send("dead", 1, 3)
	api.send("paused", 1, 3)
	api.send("gone", 1, 1)
	api.await("fine", "delivered", all(3, "delivered"))
	api.await("dead", "dead", all(3, "dead"))
	api.await("gone", "dead", all(1, "dead"))
	api.send("gone", 2, 3)

	// A notice that is not accepted, since nothing is: its company's log may not be written.
	api.send("warned", 1, 12)
	api.send("retrying", 1, 3)
	api.await("retrying", "retrying", all(3, "retrying"))
	api.send("hanging", 1, 2)
	if err := rdb.Do(ctx, "ACL", "SETUSER", "default", "-xadd").Err(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * patience); rdb.HLen(ctx, "{warned}:notices").Val() == 0 || len(partner.got("/hanging")) < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no notice waits")
		}
	}
	serving.end(syscall.SIGKILL)
	if err := rdb.Do(ctx, "ACL", "SETUSER", "default", "+xadd").Err(); err != nil {
		t.Fatal(err)
	}

	partner.mu.Lock()
	partner.answers["/asked"] = 0
	partner.mu.Unlock()
	serving = veteran(t, program, env, "--roles", "api")
	api.server = "http://" + address(serving)
	api.send("fine", 4, 8)
	api.send("limited", 1, 3)
	var list struct {
		Deliveries []struct {
			ID    string `json:"delivery_id"`
			Event string `json:"event_id"`
		} `json:"deliveries"`
	}
	api.call(http.MethodGet, "/companies/retrying/deliveries", nil, &list)
	for _, d := range list.Deliveries {
		if d.Event == "e-3" {
			api.call(http.MethodPost, "/companies/retrying/deliveries/"+d.ID+"/cancel", map[string]any{}, nil)
		}
	}
	if status := api.call(http.MethodPost, "/companies/dead/config/callbacks/1/replay", map[string]any{"since": "2020-01-01T00:00:00Z", "states": []string{"dead"}}, nil); status != http.StatusAccepted {
		t.Fatalf("replay: %d", status)
	}
	asked := make(chan struct{})
	go func() {
		_, _, _ = api.try(http.MethodPost, "/companies/asked/decisions", question)
		close(asked)
	}()
	for end := time.Now().Add(patience); len(partner.got("/asked")) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nobody was asked")
		}
	}
	serving.end(syscall.SIGKILL)
	<-asked

	for _, k := range rdb.Keys(ctx, "{*").Val() {
		rdb.Persist(ctx, k) // Redis would not load what its dump says is over
	}
	if err := rdb.Save(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	dump, err := os.ReadFile(filepath.Join(server.Dir(), "dump.rdb"))
	if err == nil {
		err = errors.Join(os.WriteFile(oldDump, dump, 0o644), os.WriteFile(oldKey, append(key, '\n'), 0o644), os.Chmod(oldKeys, 0o644))
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range slices.Sorted(slices.Values(rdb.Keys(ctx, "*").Val())) {
		t.Log(rdb.Type(ctx, k).Val(), k)
	}
}

// TestOldRunsBeside: an old program and this one, API and worker each, share a Redis while events come to both, attempts fail, callbacks are paused
// and resumed, and each of them is killed and started again. Nothing is lost, and nothing stands still.
func TestOldRunsBeside(t *testing.T) {
	program := oldProgram(t)
	partner := newBystander(t, oldPartner, map[string]int{"/fine": 204, "/limited": 204, "/retrying": 500, "/paused": 204})
	server := redistest.Start(t, healthy...)
	env := append(slices.Clone(ages), "RINGBACK_REDIS="+server.URL(), "RINGBACK_KEYSET_FILE="+filepath.Join(t.TempDir(), "k.json"))
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	starts := []func() *process{
		func() *process { return veteran(t, program, env) },
		func() *process { return startPlain(t, env, "serve") },
	}
	serving := make([]*process, len(starts))
	apis := make([]apiCaller, len(starts))
	for i, begin := range starts {
		serving[i] = begin()
		apis[i] = apiCaller{t, "http://" + address(serving[i]), key}
	}
	often := map[string]any{"initial_interval": "1s", "multiplier": 1, "max_attempts": 100}
	for company, body := range map[string]map[string]any{
		"fine": hook("payment_proof", "/fine", map[string]any{"timeout": "2s"}), "retrying": hook("payment_proof", "/retrying", map[string]any{"retry": often, "timeout": "2s"}),
		"paused":  hook("payment_proof", "/paused", map[string]any{"timeout": "2s"}),
		"limited": hook("payment_proof", "/limited", map[string]any{"rate_limit": map[string]any{"per_second": 20, "burst": 5}, "timeout": "2s"}),
	} {
		if status := apis[1].call(http.MethodPost, "/companies/"+company+"/config/callbacks", body, nil); status != http.StatusCreated {
			t.Fatalf("registering for %s: %d", company, status)
		}
	}
	const each = 40
	for round := range 4 {
		apis[round%2].call(http.MethodPost, "/companies/paused/config/callbacks/1/pause", map[string]any{}, nil)
		for company := range partner.answers {
			for i, api := range apis {
				first := round*2*each + i*each + 1
				api.send(company[1:], first, first+each-1)
			}
		}
		i := round % 2
		serving[i].end(syscall.SIGKILL)
		apis[1-i].call(http.MethodPost, "/companies/paused/config/callbacks/1/resume", map[string]any{}, nil)
		serving[i] = starts[i]()
		apis[i].server = "http://" + address(serving[i])
	}
	partner.mu.Lock()
	partner.answers["/retrying"] = 204
	partner.mu.Unlock()
	for company := range partner.answers {
		apis[1].await(company[1:], "all delivered", all(8*each, "delivered"))
		distinct := make(map[string]bool)
		got := partner.got(company)
		for _, id := range got {
			distinct[id] = true
		}
		if len(distinct) != 8*each {
			t.Errorf("%s: %d different events arrived, want %d", company, len(distinct), 8*each)
		}
		if company != "/retrying" {
			t.Logf("%s: %d arrived again", company, len(got)-len(distinct))
		}
	}
	wantAtRest(t, server.Client())
}
