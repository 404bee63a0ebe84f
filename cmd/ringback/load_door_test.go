//go:build load

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// What strangers do at the door of the program as it ships. `make test-door` runs it.

// clients are programs that send the file $BODY to $URL with $KEY $TIMES times, each time over a connection of its own where the server closes
// the last, and print what became of it, a line each: the status, or an error.
var clients = map[string][]string{
	"urllib": {"python3", "-c", `
import os, urllib.request, urllib.error
body = open(os.environ["BODY"], "rb").read()
for _ in range(int(os.environ["TIMES"])):
    try:
        r = urllib.request.Request(os.environ["URL"], body, {"Authorization": "Bearer " + os.environ["KEY"], "Content-Type": "application/json"})
        print(urllib.request.urlopen(r, timeout=60).status)
    except urllib.error.HTTPError as e:
        e.read()
        print(e.code)
    except Exception as e:
        print(repr(e))
`},
	"http.client": {"python3", "-c", `
import os, http.client, urllib.parse
body = open(os.environ["BODY"], "rb").read()
url = urllib.parse.urlparse(os.environ["URL"])
for _ in range(int(os.environ["TIMES"])):
    try:
        c = http.client.HTTPConnection(url.netloc, timeout=60)
        c.request("POST", url.path, body, {"Authorization": "Bearer " + os.environ["KEY"], "Content-Type": "application/json"})
        r = c.getresponse()
        r.read()
        print(r.status)
        c.close()
    except Exception as e:
        print(repr(e))
`},
	"node": {"node", "-e", `
const fs = require('fs'), http = require('http')
const body = fs.readFileSync(process.env.BODY), headers = {Authorization: 'Bearer ' + process.env.KEY, 'Content-Type': 'application/json'}
const once = () => new Promise(done => {
  const r = http.request(process.env.URL, {method: 'POST', headers}, a => { a.resume(); a.on('end', () => done(a.statusCode)); a.on('error', done) })
  r.on('error', done)
  r.end(body)
})
;(async () => { for (let n = 0; n < +process.env.TIMES; n++) console.log(String(await once())) })()
`},
	"curl": {"sh", "-c", `curl -sS -o /dev/null -w '%{http_code}\n' -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' --data-binary "@$BODY" "$URL#[1-$TIMES]"`},
}

// TestDoorClients sends bodies that are refused, with clients that people use: each reads each refusal.
func TestDoorClients(t *testing.T) {
	const times = 200
	i := install(t)
	dir := t.TempDir()
	for _, c := range []struct {
		status int
		key    string
		mib    float64
	}{{413, i.key, 1.1}, {413, i.key, 3}, {413, i.key, 8}, {413, i.key, 32}, {401, "", 0.5}, {401, "", 3}, {401, "", 32}} { // no key: wrong ones are slowed down
		body := filepath.Join(dir, "body")
		if err := os.WriteFile(body, bytes.Repeat([]byte(" "), int(c.mib*(1<<20))), 0o600); err != nil {
			t.Fatal(err)
		}
		url := i.server + "/companies/acme/events"
		count := func(client string, lines []string) {
			right := 0
			other := map[string]int{}
			for _, line := range lines {
				if line == strconv.Itoa(c.status) {
					right++
				} else {
					other[line]++
				}
			}
			t.Logf("%d of %4g MiB by %-11s %d of %d %v", c.status, c.mib, client+":", right, times, other)
			if right != times {
				t.Errorf("%s lost %d of %d", client, times-right, times)
			}
		}
		for name, command := range clients {
			if _, err := exec.LookPath(command[0]); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
			cmd.Env = append(os.Environ(), "BODY="+body, "URL="+url, "KEY="+c.key, fmt.Sprint("TIMES=", times))
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			count(name, strings.Split(strings.TrimSpace(string(out)), "\n"))
		}
		text, err := os.ReadFile(body)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for range times {
			lines = append(lines, func() string {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+c.key)
				resp, err := i.client.Do(req)
				if err != nil {
					return err.Error()
				}
				defer func() { _ = resp.Body.Close() }()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					return err.Error()
				}
				return strconv.Itoa(resp.StatusCode)
			}())
		}
		count("Go", lines)
	}
}

// abuse is what a crowd of connections does to a process, and what became of it.
type abuse struct {
	t    *testing.T
	i    *installation
	keys []string
	open sync.WaitGroup

	mu       sync.Mutex
	conns    []net.Conn
	statuses map[string]int
}

// crowd opens n connections and has each say something; what is answered is counted, and each is left open until release.
func (a *abuse) crowd(n int, speak func(n int, conn net.Conn) error) {
	a.statuses = map[string]int{}
	var dialled sync.WaitGroup
	turn := make(chan struct{}, 100)
	for n := range n {
		turn <- struct{}{}
		dialled.Add(1)
		a.open.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(a.i.server, "http://"))
			if err == nil {
				a.mu.Lock()
				a.conns = append(a.conns, conn)
				a.mu.Unlock()
			}
			<-turn
			dialled.Done()
			if err == nil {
				err = speak(n, conn)
			}
			what := "closed"
			if err != nil {
				what = "broken"
			} else if line, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
				what = strings.TrimSpace(line)
			}
			a.mu.Lock()
			a.statuses[what]++
			a.mu.Unlock()
			_, _ = io.Copy(io.Discard, conn)
		})
	}
	dialled.Wait()
}

// release closes what is open.
func (a *abuse) release() {
	for _, conn := range a.conns {
		_ = conn.Close()
	}
	a.conns = nil
	a.open.Wait()
}

// healthy sends small events, one after the other over four connections, for d, and returns how long the slowest hundredth took at least. Each
// must be accepted.
func (a *abuse) healthy(key string, d time.Duration) (p99 time.Duration, n int) {
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for until := time.Now().Add(d); time.Now().Before(until); time.Sleep(5 * time.Millisecond) {
				req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, a.i.server+"/companies/acme/events", strings.NewReader(`{"event_type":"payment_proof","payload":{"requestId":"a","status":"OK"}}`))
				req.Header.Set("Authorization", "Bearer "+key)
				began := time.Now()
				resp, err := client.Do(req)
				if err != nil {
					a.t.Errorf("a healthy producer: %v", err)
					continue
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusAccepted {
					a.t.Errorf("a healthy producer: %d %s", resp.StatusCode, body)
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took[len(took)*99/100], len(took)
}

// memory is what the process holds, and held at most.
func (a *abuse) memory() (now, peak int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.i.serving.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	value := func(name string) int {
		n, _ := strconv.Atoi(regexp.MustCompile(name + `:\s+(\d+) kB`).FindStringSubmatch(string(status))[1])
		return n / 1024
	}
	return value("VmRSS"), value("VmHWM")
}

// TestDoorAbuse lets crowds do their worst, one kind after the other while the idle ones stay: memory stays below 300 MiB, a healthy producer of
// another key is served as before, stalled bodies are gone after their time, and the end does not wait for them.
func TestDoorAbuse(t *testing.T) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil || files.Max < 20_000 {
		t.Fatalf("this takes 20,000 files: %d, %v", files.Max, err)
	}
	a := &abuse{t: t, i: install(t)}
	defer a.release()
	create := func() string {
		return strings.TrimSpace(ringback(t, a.i.env, "keys", "create", "--role", "producer", "--company", "acme"))
	}
	good := create()
	for range 3 { // one key may have 500 requests under way
		a.keys = append(a.keys, create())
	}
	head := func(n, length int) string {
		return fmt.Sprintf("POST /companies/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", a.keys[n%len(a.keys)], length)
	}
	long := `{"event_type":"payment_proof","payload":{"requestId":"` + strings.Repeat("x", 1<<20-200) + `","status":"OK"}}`

	a.healthy(good, time.Second)
	base, n := a.healthy(good, 5*time.Second)
	now, _ := a.memory()
	t.Logf("%-28s p99 %8v of %4d, %3d MiB", "alone:", base.Round(100*time.Microsecond), n, now)
	idle := &abuse{t: t, i: a.i}
	defer idle.release()
	var sent atomic.Int64
	for _, kind := range []struct {
		name  string
		by    *abuse
		n     int
		speak func(n int, conn net.Conn) error
	}{
		{"10,000 idle", idle, 10_000, func(n int, conn net.Conn) error {
			if n%2 == 0 {
				return nil // it never says a word
			}
			_, err := io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			return err
		}},
		{"1,000 stalled bodies", a, 1000, func(_ int, conn net.Conn) error {
			_, err := io.WriteString(conn, head(0, 1000)+"{") // all of one key
			return err
		}},
		{"1,500 x 1 MiB promised", a, 1500, func(n int, conn net.Conn) error {
			_, err := io.WriteString(conn, head(n, 1<<20)+"{")
			return err
		}},
		{"1,500 x 1 MiB really sent", a, 1500, func(n int, conn net.Conn) error {
			if _, err := io.WriteString(conn, head(n, len(long))); err != nil {
				return err
			}
			for chunk := range slices.Chunk([]byte(long), 64<<10) {
				if _, err := conn.Write(chunk); err != nil {
					return err
				}
				sent.Add(int64(len(chunk)))
				time.Sleep(600 * time.Millisecond) // over ten seconds, or the machine itself is what is short
			}
			return nil
		}},
	} {
		kind.by.crowd(kind.n, kind.speak)
		p99, n := a.healthy(good, 6*time.Second)
		now, peak := a.memory()
		kind.by.mu.Lock()
		t.Logf("%-28s p99 %8v of %4d, %3d MiB, at most %3d so far; answered %v", kind.name+":", p99.Round(100*time.Microsecond), n, now, peak, kind.by.statuses)
		kind.by.mu.Unlock()
		if peak > 300 {
			t.Errorf("%s: %d MiB", kind.name, peak)
		}
		if p99 > 2*base+50*time.Millisecond { // a test machine that is busy itself must not decide
			t.Errorf("%s: p99 %v, alone %v", kind.name, p99, base)
		}
		if kind.by == idle {
			continue
		}
		began := time.Now()
		a.open.Wait() // each has an answer, and is closed
		t.Logf("%-28s all gone %v later: %v", "", time.Since(began).Round(time.Second), a.statuses)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: the last was gone after %v", kind.name, took)
		}
		a.conns = nil
	}
	t.Logf("%d MiB were sent", sent.Load()>>20)

	a.crowd(400, func(_ int, conn net.Conn) error {
		_, err := io.WriteString(conn, head(0, 1<<20)+"{")
		return err
	})
	began := time.Now()
	_ = a.i.serving.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-a.i.serving.done:
	case <-time.After(60 * time.Second):
	}
	t.Logf("with 400 stalled bodies it ends within %v", time.Since(began).Round(time.Second))
	if took := time.Since(began); took > 35*time.Second {
		t.Errorf("it took %v to end", took)
	}
}
