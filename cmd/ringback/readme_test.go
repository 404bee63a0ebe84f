package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ringback/ringback/registry/redistest"
)

// TestReadme is the newcomer: it takes a copy of the repository, opens as many terminals as the README says, pastes every block of
// commands into the one it names, presses Ctrl-C where the README does, and waits until each terminal shows what the README shows.
// Only the ports differ, for the usual ones may be taken.
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	redis := redistest.Start(t)
	ports := map[string]string{"6379": port(t, redis.Addr())}
	for _, usual := range []string{"8080", "8081", "9000"} {
		ports[usual] = freePort(t)
	}
	readme := regexp.MustCompile(`127\.0\.0\.1:(\d+)`).ReplaceAllStringFunc(string(text), func(addr string) string {
		other, ok := ports[port(t, addr)]
		if !ok {
			t.Fatalf("the README names %s, which this test does not know", addr)
		}
		return "127.0.0.1:" + other
	})

	desk := newDesk(t, ports)
	desk.build()
	for _, step := range parseReadme(t, readme) {
		terminal := desk.terminal(step.terminal)
		switch step.kind {
		case "sh":
			terminal.paste(step.text)
		case "text":
			terminal.shows(step.text)
		case "go":
			desk.write("hello/main.go", step.text)
			terminal.paste("go run ./hello")
			terminal.shows("evt_x goes to 1 callbacks")
		case "Ctrl-C":
			terminal.interrupt()
		}
		if strings.Contains(step.text, "events get proof-2") && !desk.sawRetry {
			desk.sawRetry = true
			awaitRetryInUI(t, "http://127.0.0.1:"+ports["8080"], "dev")
		}
	}
	if !desk.sawRetry {
		t.Error("the README no longer shows a retry")
	}
	for name, last := range map[string]string{"1": `msg=stopped`, "4": `"msg":"stopped"`} {
		desk.terminal(name).press(syscall.SIGINT)
		desk.terminal(name).await(last)
	}
}

// A step is something the README asks of a terminal, or says of it.
type step struct{ kind, terminal, text string }

var (
	block     = regexp.MustCompile("(?ms)^```(\\w+)(?: terminal=(\\d)| file=main.go)?\n(.*?)^```$")
	interrupt = regexp.MustCompile(`Ctrl-C in terminal (\d)`)
)

// parseReadme finds the steps in the order they stand in. A block of commands that names no terminal fails the test: it would not
// be run.
func parseReadme(t *testing.T, readme string) []step {
	t.Helper()
	var steps []step
	rest := readme
	for {
		at := block.FindStringSubmatchIndex(rest)
		prose := rest
		if at != nil {
			prose = rest[:at[0]]
		}
		for _, m := range interrupt.FindAllStringSubmatch(prose, -1) {
			steps = append(steps, step{kind: "Ctrl-C", terminal: m[1]})
		}
		if at == nil {
			return steps
		}
		m := block.FindStringSubmatch(rest)
		rest = rest[at[1]:]
		switch {
		case m[1] == "mermaid":
		case m[1] == "go":
			steps = append(steps, step{kind: "go", terminal: "3", text: m[3]})
		case m[2] == "":
			t.Errorf("this block of the README names no terminal:\n%s", m[3])
		default:
			steps = append(steps, step{kind: m[1], terminal: m[2], text: m[3]})
		}
	}
}

// A desk has a copy of the repository and terminals open in it.
type desk struct {
	t         *testing.T
	dir       string
	env       []string
	terminals map[string]*terminal
	sawRetry  bool
}

func newDesk(t *testing.T, ports map[string]string) *desk {
	t.Helper()
	goenv, err := exec.Command("go", "env", "GOENV").Output()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir(), terminals: map[string]*terminal{}}
	d.env = append(os.Environ(),
		"XDG_CONFIG_HOME="+t.TempDir(), "GOENV="+strings.TrimSpace(string(goenv)), // keysets go there; Go's settings stay where they are
		"RINGBACK_SERVER=http://127.0.0.1:"+ports["8080"], "RINGBACK_RECEIVER_LISTEN=127.0.0.1:"+ports["9000"])
	copyRepository(t, d.dir)
	return d
}

// build compiles the copy: on a new machine that takes longer than a terminal is waited for.
func (d *desk) build() {
	d.t.Helper()
	plainRingback(d.t) // what it compiles need not be compiled for two copies at a time
	d.run("make", "build")
}

// run runs a command in the copy, however long it takes.
func (d *desk) run(name string, args ...string) {
	d.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = d.dir, d.env
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}

// write puts a file into the copy.
func (d *desk) write(name, text string) {
	d.t.Helper()
	path := filepath.Join(d.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		d.t.Fatal(err)
	}
}

// copyRepository copies what a clone would hold.
func copyRepository(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if rel == ".git" && !e.IsDir() { // a worktree's
			return nil
		}
		if rel == ".git" || rel == "bin" {
			return fs.SkipDir
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// terminal opens the terminal with that name, or returns to it.
func (d *desk) terminal(name string) *terminal {
	d.t.Helper()
	if d.terminals[name] == nil {
		cmd := exec.Command("bash")
		cmd.Dir, cmd.Env = d.dir, d.env
		if name == "1" {
			cmd.Env = append(slices.Clone(cmd.Env), strings.Replace(serverVariable(d.env), "RINGBACK_SERVER=http://", "RINGBACK_LISTEN=", 1))
		}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			d.t.Fatal(err)
		}
		d.terminals[name] = &terminal{process: launch(d.t, cmd), stdin: stdin}
		d.terminals[name].name = "terminal " + name
	}
	return d.terminals[name]
}

func serverVariable(env []string) string {
	i := slices.IndexFunc(env, func(pair string) bool { return strings.HasPrefix(pair, "RINGBACK_SERVER=") })
	return env[i]
}

// A terminal is a shell that commands are pasted into.
type terminal struct {
	*process
	stdin  io.Writer
	pasted int
}

// paste types text, and waits until the shell has come back, unless what it started stays: that is, until it says that it is ready.
func (s *terminal) paste(text string) {
	s.t.Helper()
	s.pasted++
	mark := fmt.Sprintf("[%d pasted]", s.pasted)
	if _, err := fmt.Fprintf(s.stdin, "%s\necho \"%s, exit $?\"\n", strings.TrimSpace(text), mark); err != nil {
		s.t.Fatal(err)
	}
	end := s.await(regexp.QuoteMeta(mark) + `, exit (\d+)|Listening on http\S+(?s:.*)|(?:Watching|Following) the deliveries of|msg=ready|"msg":"ready"`)
	if end[1] != "" && end[1] != "0" {
		s.t.Fatalf("%s: a pasted command failed:\n%s", s.name, s.said)
	}
}

// press sends what a key would to all that runs in the terminal.
func (s *terminal) press(key syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, key); err != nil {
		s.t.Fatal(err)
	}
}

// interrupt presses Ctrl-C and waits for the shell to come back.
func (s *terminal) interrupt() {
	s.t.Helper()
	s.press(syscall.SIGINT)
	s.await(regexp.QuoteMeta(fmt.Sprintf("[%d pasted]", s.pasted)))
}

// changing is what differs from run to run.
var changing = regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d:\d\d:\d\d|\d{4}-\d\d-\d\d|(?:dec|dlv|evt|whsec|rbk)_[A-Za-z0-9_.-]+|\d+(?:\.\d+)?(?:µs|ms|s)\b`)

// shows waits until the terminal has shown every line of text.
func (s *terminal) shows(text string) {
	s.t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		var pattern strings.Builder
		at := 0
		for _, m := range changing.FindAllStringIndex(line, -1) {
			pattern.WriteString(regexp.QuoteMeta(line[at:m[0]]) + `\S+`)
			at = m[1]
		}
		pattern.WriteString(regexp.QuoteMeta(line[at:]))
		s.await(pattern.String())
	}
}

// awaitRetryInUI looks where the README sends people, until asynq's UI counts a retry in one of the lanes. It is there for seconds.
func awaitRetryInUI(t *testing.T, server, key string) {
	t.Helper()
	deadline := time.After(patience)
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for retriesInUI(t, server, key) != 1 {
		select {
		case <-look.C:
		case <-deadline:
			t.Fatal("asynq's UI never counted a retry")
		}
	}
}

func retriesInUI(t *testing.T, server, key string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server+"/monitoring/api/queues", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	status, _, body := send(t, req)
	var lanes struct {
		Queues []struct {
			Retry int `json:"retry"`
		} `json:"queues"`
	}
	if err := json.Unmarshal([]byte(body), &lanes); err != nil || status != http.StatusOK {
		t.Fatalf("asynq's UI: %d, %v", status, err)
	}
	retries := 0
	for _, lane := range lanes.Queues {
		retries += lane.Retry
	}
	return retries
}

func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// lastPort is the last that freePort gave out.
var lastPort atomic.Int32

// freePort is a port that is free now, and likely to stay so until it is used: it is below those that the kernel chooses from by itself,
// for listeners and connections alike.
func freePort(t *testing.T) string {
	t.Helper()
	const first, last = 20_000, 32_000
	lastPort.CompareAndSwap(0, first+rand.Int32N((last-first)/2)) // other processes' tests begin elsewhere
	for n := lastPort.Add(1); n < last; n = lastPort.Add(1) {
		ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n))
		if err == nil {
			_ = ln.Close()
			return strconv.Itoa(int(n))
		}
	}
	t.Fatal("no port is free")
	return ""
}
