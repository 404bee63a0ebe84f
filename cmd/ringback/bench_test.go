package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/ringback/ringback/cmd/ringback/bench"
)

// benched runs ringback bench to its end and returns its report. Its temporary files are to be gone then.
func benched(t *testing.T, env []string, args ...string) (report bench.Report, stderr string, code int) {
	t.Helper()
	var stdout, complaints bytes.Buffer
	temp := t.TempDir()
	cmd := exec.Command(plainRingback(t), append([]string{"bench", "--runs", "1", "-o", "json"}, args...)...)
	cmd.Env = append(append(os.Environ(), "TMPDIR="+temp), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &complaints
	err := cmd.Run()
	code = cmd.ProcessState.ExitCode()
	if stdout.Len() > 0 {
		if err := json.Unmarshal(stdout.Bytes(), &report); err != nil {
			t.Fatalf("%v: %s", err, &stdout)
		}
	} else if code == exitOK {
		t.Fatalf("it says nothing: %v, %s", err, &complaints)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v: %v", left, err)
	}
	return report, complaints.String(), code
}

// TestBenchMeasures runs a short one on an installation of its own: every figure is there, and they agree with each other.
func TestBenchMeasures(t *testing.T) {
	t.Parallel()
	const n = 200
	report, stderr, code := benched(t, nil, "--scenario", "idle", "--scenario", "saturate", "--scenario", "watched", "--n", fmt.Sprint(n))
	if code != exitOK {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, floor := range []string{bench.FloorAccept, bench.FloorAsynq, bench.FloorPost} {
		if report.Floors[floor] <= 0 {
			t.Errorf("the floors are %v", report.Floors)
		}
	}
	var names []string
	for _, result := range report.Results {
		names = append(names, result.Name())
		wantFigures(t, result, n)
		if told, viewed := result.Median[bench.Told]; viewed != strings.HasPrefix(result.Phase, "50 watch") || viewed && told < 1 {
			t.Errorf("%s: %v changes were told", result.Name(), told)
		}
	}
	if want := []string{"idle", "saturate 16", "saturate 64", "watched calm", "watched 50 watch", "watched 50 watch again", "watched calm again"}; !slices.Equal(names, want) {
		t.Errorf("results are of %v, want %v", names, want)
	}
	if len(report.Binaries) != 1 || report.Binaries[0].Version == "" {
		t.Errorf("binaries are %+v", report.Binaries)
	}
}

func wantFigures(t *testing.T, result *bench.Result, n float64) {
	t.Helper()
	f := result.Median
	for _, name := range []string{bench.AcceptedRate, bench.DeliveryRate, bench.RedisTime, bench.RedisBytes} {
		if f[name] <= 0 {
			t.Errorf("%s: %s is %v", result.Name(), name, f[name])
		}
	}
	for name, want := range map[string]float64{bench.Events: n, bench.Deliveries: n, bench.Missing: 0, bench.Duplicates: 0, bench.BadSignatures: 0, bench.ChangedIDs: 0} {
		if got, ok := f[name]; !ok || got != want {
			t.Errorf("%s: %s is %v, want %v", result.Name(), name, got, want)
		}
	}
	if f[bench.P50] > f[bench.P95] || f[bench.P95] > f[bench.P99] {
		t.Errorf("%s: the percentiles are %v, %v and %v", result.Name(), f[bench.P50], f[bench.P95], f[bench.P99])
	}
	least := 0.01 // many travel together
	if result.Scenario == "idle" {
		least = 2 // one to accept and begin, one to finish
	}
	if f[bench.RedisCalls] < least {
		t.Errorf("%s: %v calls a delivery", result.Name(), f[bench.RedisCalls])
	}
	_, compared := f[bench.OfFloor]
	if paced := result.Scenario == "idle"; compared == paced {
		t.Errorf("%s is compared with the floors: %t", result.Name(), compared)
	}
	_, cpu := f[bench.RingbackCPU]
	if _, memory := f[bench.RingbackRSS]; runtime.GOOS == "linux" && (!cpu || !memory) {
		t.Errorf("%s: CPU %t, memory %t", result.Name(), cpu, memory)
	}
}

// TestBenchAtAServer: of an installation of others it measures what can be seen from outside, says what it does not, and erases its companies.
func TestBenchAtAServer(t *testing.T) {
	t.Parallel()
	server := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0").await(`API +(http://\S+)`)[1]
	at := []string{"--server", server, "--key", "dev", "--receiver-listen", "127.0.0.1:0", "--n", "20"}
	report, stderr, code := benched(t, nil, append(at, "--scenario", "saturate", "--scenario", "sync")...)
	if code != exitOK || len(report.Results) != 3 {
		t.Fatalf("exit %d, %d results: %s", code, len(report.Results), stderr)
	}
	for _, result := range report.Results {
		_, cpu := result.Median[bench.RingbackCPU]
		_, redis := result.Median[bench.RedisTime]
		if result.Median[bench.Deliveries] != 20 || result.Median[bench.Missing] != 0 || cpu || redis {
			t.Errorf("%s: %v", result.Name(), result.Median)
		}
	}
	if report.Floors != nil || len(report.Notes) == 0 {
		t.Errorf("floors %v, notes %v", report.Floors, report.Notes)
	}

	// Nobody is where it says that deliveries are to go.
	report, stderr, code = benched(t, nil, append(at, "--scenario", "idle", "--receiver-url", "http://127.0.0.1:1", "--deadline", "10s")...)
	if missing, _, _ := report.Faults(); code != exitFailure || missing != 20 || !strings.Contains(stderr, "20 deliveries are missing") {
		t.Errorf("exit %d, %d missing: %s", code, missing, stderr)
	}

	_, audit := get(t, server+"/audit?limit=500", "dev")
	if erased := len(regexp.MustCompile(`"company\.erase"`).FindAllString(audit, -1)); erased != 3 {
		t.Errorf("%d companies of three are erased: %s", erased, audit)
	}
}

// TestBenchSaysWhatIsNoRingback: a program that can be run and is none fails with a word, and so does one that ends too early.
func TestBenchSaysWhatIsNoRingback(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "old")
	for _, tt := range []struct{ script, want string }{
		{"echo no such command >&2; exit 2", "old version: exit status 2: no such command"},
		{"case $1 in version) echo ringback v0;; *) echo nothing here >&2; exit 3;; esac", "ringback serve ended .*saying: nothing here"},
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		_, stderr, code := benched(t, nil, "--binary", program, "--scenario", "idle", "--n", "1")
		if code != exitFailure || !regexp.MustCompile(tt.want).MatchString(stderr) {
			t.Errorf("exit %d, want the words %q: %s", code, tt.want, stderr)
		}
	}
}

// TestBenchEndsItsChildren, and only them, when it is interrupted.
func TestBenchEndsItsChildren(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	cmd := exec.Command(plainRingback(t), "bench", "--scenario", "idle", "--n", "1000")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	p := launch(t, cmd)
	p.await(`floors: .*\n`)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil { // it alone: no terminal tells its children
		t.Fatal(err)
	}
	<-p.done
	if code := cmd.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(p.said.String(), "interrupted") {
		t.Errorf("exit %d: %s", code, p.said)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(temp)) {
			t.Errorf("still there: %q", text)
		}
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v: %v", left, err)
	}
}

// TestBenchmarksPage: what it shows can be called, and it explains every column.
func TestBenchmarksPage(t *testing.T) {
	t.Parallel()
	text := page(t, "deploy/BENCHMARKS.md")
	app := newCLI(strings.NewReader(""), io.Discard, io.Discard)
	command := findCommand(app.Commands, "bench")
	for _, m := range regexp.MustCompile("ringback bench([^`\n]*)").FindAllStringSubmatch(text, -1) {
		wantFlags(t, app, "ringback bench", command, m[1])
	}
	var explained []string
	for _, row := range rows(t, text, "column") {
		explained = append(explained, row[0])
	}
	for _, c := range slices.Concat(speedColumns, costColumns) {
		if !slices.Contains(explained, c.title) {
			t.Errorf("the column %s is not explained, only %q", c.title, explained)
		}
	}
	for _, name := range bench.Names() {
		if !strings.Contains(text, "`"+name+"`") {
			t.Errorf("the scenario %s is not explained", name)
		}
	}
}
