package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/urfave/cli/v2"
)

// TestMain makes this test binary a `ringback` on PATH as well, race detector included, for scripts and for processes of their own.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) != "ringback" {
		for _, pair := range os.Environ() { // what the developer has exported is none of the tests' business
			if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "RINGBACK_") {
				_ = os.Unsetenv(name)
			}
		}
		_ = os.Setenv("GORACE", raceOptions)
		// Who runs the tests may ignore hangups, as nohup does, and the processes that tests start would ignore them, too. A handler is not handed on.
		signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP)
		// What package net locks its resolver with is made by the first lookup. If that is a bubble's, no lookup outside may use it.
		_, _ = net.DefaultResolver.LookupHost(context.Background(), "localhost")
		var err error
		if plainDir, err = os.MkdirTemp("", "ringback"); err != nil {
			panic(err)
		}
	}
	testscript.Main(tests{m}, map[string]func(){"ringback": main})
}

// raceOptions spare every command the second that the race detector waits at the end.
const raceOptions = "atexit_sleep_ms=0"

// patience is how long a test waits for what should take moments: others share the machine, and it may be a slow one.
const patience = 90 * time.Second

// plain is a ringback without the race detector, built once as `make build` builds it: commands, and processes with little under way, are of
// this one. What takes load, is killed or ends in order is the one on PATH.
var plain = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(plainDir, "ringback"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	return filepath.Join(plainDir, "ringback"), nil
})

// plainDir is the folder of plain and of the browser, gone when the tests are over.
var plainDir string

// plainRingback is the path of plain.
func plainRingback(t *testing.T) string {
	t.Helper()
	path, err := plain()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// plainPath is PATH with plain before everything else.
func plainPath(t *testing.T) string {
	t.Helper()
	return filepath.Dir(plainRingback(t)) + string(filepath.ListSeparator) + os.Getenv("PATH")
}

// tests are all of them, and what is tidied up after them.
type tests struct{ *testing.M }

func (m tests) Run() int {
	defer func() {
		endBrowser()
		_ = os.RemoveAll(plainDir)
	}()
	return m.M.Run()
}

// A process is a ringback under way, its stdout and stderr in one text.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	said *transcript
	done chan struct{} // closed when it has ended
}

// start runs ringback as a process of its own, which the test's end kills.
func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command("ringback", args...)
	cmd.Env = append(os.Environ(), env...)
	return launch(t, cmd)
}

// startPlain is start without the race detector, which makes a process cost three times as much: for what is about how a program is used.
func startPlain(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(plainRingback(t), args...)
	cmd.Env = append(os.Environ(), env...)
	return launch(t, cmd)
}

// launch runs cmd in a process group of its own, which the test's end kills.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, name: strings.Join(cmd.Args, " "), cmd: cmd, said: newTranscript(), done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.said, p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	})
	return p
}

// await waits until what the process says matches pattern, and returns the match and its groups.
func (p *process) await(pattern string) []string {
	p.t.Helper()
	match := p.said.await(p.t.Context(), regexp.MustCompile(pattern), p.done)
	if match == nil {
		p.t.Fatalf("%s never said %s, but:\n%s", p.name, pattern, p.said)
	}
	return match
}

// end sends the process group sig and returns the process's exit code.
func (p *process) end(sig syscall.Signal) int {
	p.t.Helper()
	if err := syscall.Kill(-p.cmd.Process.Pid, sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("%s did not end on %v:\n%s", p.name, sig, p.said)
	}
	return p.cmd.ProcessState.ExitCode()
}

// transcript is what was written so far; it is safe for concurrent use.
type transcript struct {
	mu    sync.Mutex
	text  bytes.Buffer
	wrote chan struct{} // closed and replaced by every write
}

func newTranscript() *transcript { return &transcript{wrote: make(chan struct{})} }

func (w *transcript) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.wrote)
	w.wrote = make(chan struct{})
	return w.text.Write(p)
}

func (w *transcript) String() string {
	text, _ := w.state()
	return text
}

func (w *transcript) state() (text string, next <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String(), w.wrote
}

// await answers nil when the text cannot come any more: done is closed, ctx is over, or patience is.
func (w *transcript) await(ctx context.Context, pattern *regexp.Regexp, done <-chan struct{}) []string {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		text, next := w.state()
		if match := pattern.FindStringSubmatch(text); match != nil {
			return match
		}
		select {
		case <-next:
		case <-done:
			return pattern.FindStringSubmatch(w.String())
		case <-ctx.Done():
			return nil
		}
	}
}

// ringback runs a command that ends by itself and returns its stdout; anything but exit code 0 fails the test.
func ringback(t *testing.T, env []string, args ...string) string {
	t.Helper()
	stdout, stderr, code := try(t, env, args...)
	if code != exitOK {
		t.Fatalf("ringback %s: exit %d: %s", strings.Join(args, " "), code, stderr)
	}
	return stdout
}

func try(t *testing.T, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	program := plainRingback(t) // building it has its own time
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatalf("ringback %s: %v", strings.Join(args, " "), err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestArrangeLetsFlagsStandAnywhere(t *testing.T) {
	app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	for _, tt := range []struct{ in, want string }{
		{"events get evt_1 -o json", "-o json events get evt_1"},
		{"events get evt_1 --company acme", "events get --company acme evt_1"},
		{"events --company=acme get evt_1 --key k", "--key k events get --company=acme evt_1"},
		{"--server http://x callbacks list", "--server http://x callbacks list"},
		{"callbacks list --server=http://x", "--server=http://x callbacks list"},
		{"listen --quiet --secret whsec_x", "listen --quiet --secret whsec_x"},
		{"events send --payload - --type t", "events send --payload - --type t"},
		{"events get -- -odd", "events get -- -odd"},
		{"events get get", "events get get"},
		{"serve --nonsense", "serve --nonsense"},
		{"--nonsense", "--nonsense"},
		{"nonsense", "nonsense"},
		{"keys create --role", "keys create --role"},
		{"", ""},
	} {
		got := arrange(app, append([]string{"ringback"}, strings.Fields(tt.in)...))
		want := append([]string{"ringback"}, strings.Fields(tt.want)...)
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("arrange %q (-want +got):\n%s", tt.in, diff)
		}
	}
}

// fromEnvironment are the variables that commands read: what configures a process, or a connection with its credentials. What a command
// does is never read from there: a plain name that happens to be exported must not move a partner's URL, or answer a question.
var fromEnvironment = map[string][]string{
	"any command": {"RINGBACK_SERVER", "RINGBACK_KEY", "RINGBACK_COMPANY", "RINGBACK_SERVER_CA", "RINGBACK_CLIENT_CERT", "RINGBACK_CLIENT_KEY"},
	"those that talk to Redis": {
		"RINGBACK_REDIS", "RINGBACK_REDIS_PASSWORD_FILE", "RINGBACK_DEV_REDIS", "RINGBACK_DEV_REDIS_PASSWORD_FILE", "RINGBACK_KEYSET_FILE", "RINGBACK_DEV_KEYSET_FILE",
	},
	"listen and verify": {"RINGBACK_SECRET", "RINGBACK_RECEIVER_LISTEN"},
}

// TestOnlyWhatConfiguresComesFromTheEnvironment goes over every flag of every command. All of serve's have a variable of their name, which
// doctor and dev share where they mean the same; of the others only those above. No two commands give one variable different meanings.
func TestOnlyWhatConfiguresComesFromTheEnvironment(t *testing.T) {
	var allowed []string
	for _, variables := range fromEnvironment {
		allowed = append(allowed, variables...)
	}
	app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	for _, f := range findCommand(app.Commands, "serve").Flags {
		variable := "RINGBACK_" + strings.ToUpper(strings.ReplaceAll(f.Names()[0], "-", "_"))
		if doc, ok := f.(cli.DocGenerationFlag); !ok || !slices.Equal(doc.GetEnvVars(), []string{variable}) {
			t.Errorf("serve --%s is not read from %s", f.Names()[0], variable)
		}
		allowed = append(allowed, variable)
	}
	seen := map[string]string{} // variable -> flag
	check := func(where string, flags []cli.Flag) {
		for _, f := range flags {
			name := f.Names()[0]
			doc, ok := f.(cli.DocGenerationFlag)
			if !ok {
				t.Errorf("%s --%s does not say where it is read from", where, name)
				continue
			}
			for _, variable := range doc.GetEnvVars() {
				if !slices.Contains(allowed, variable) {
					t.Errorf("%s --%s is read from %s, which may be exported for something else", where, name, variable)
				}
				if cmp.Or(seen[variable], name) != name {
					t.Errorf("%s means --%s and, in %s, --%s", variable, seen[variable], where, name)
				}
				seen[variable] = name
			}
		}
	}
	var walk func([]*cli.Command)
	walk = func(commands []*cli.Command) {
		for _, c := range commands {
			check(c.Name, c.Flags)
			walk(c.Subcommands)
		}
	}
	check("ringback", app.Flags)
	walk(app.Commands)
	if len(seen) < len(allowed)/2 {
		t.Errorf("only %d variables were found", len(seen))
	}
}

// TestEveryCommandIsShownAndTried: its help has an example that parses, and a script runs it.
func TestEveryCommandIsShownAndTried(t *testing.T) {
	files, err := filepath.Glob("testdata/scripts/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var scripts strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		scripts.Write(text)
	}
	app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			name := path + " " + c.Name
			if len(c.Subcommands) > 0 {
				walk(name, c.Subcommands)
				continue
			}
			if !strings.Contains(scripts.String(), name) {
				t.Errorf("no script runs %s", name)
			}
			found := 0
			for line := range strings.Lines(c.Description) {
				if _, example, ok := strings.Cut(line, name); ok && strings.HasPrefix(line, "  ") {
					found++
					wantFlags(t, app, name, c, example)
				}
			}
			if found == 0 && !slices.Contains(unshown, name) {
				t.Errorf("%s has no example in its description", name)
			}
		}
	}
	walk("ringback", app.Commands)
}

// unshown are commands whose help says enough without an example.
var unshown = []string{"ringback version"}

// wantFlags checks that an example uses only flags there are.
func wantFlags(t *testing.T, app *cli.App, name string, c *cli.Command, example string) {
	t.Helper()
	for word := range strings.FieldsSeq(example) {
		if flag, _, _ := strings.Cut(word, "="); strings.HasPrefix(flag, "-") && flag != "-" {
			flag = strings.Trim(strings.TrimLeft(flag, "-"), ")")
			if findFlag(c.Flags, flag) == nil && findFlag(app.Flags, flag) == nil {
				t.Errorf("%s: the example's --%s is no flag", name, flag)
			}
		}
	}
}
