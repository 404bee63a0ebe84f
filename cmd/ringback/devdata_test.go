package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/redistest"
)

// TestDevKeepsWhatHappens: what was registered and sent is there after an orderly end, and after one that is none. The Redis that keeps it ends with
// dev in both cases. Nobody else gets at the folder meanwhile, and nothing of it is where serve looks.
func TestDevKeepsWhatHappens(t *testing.T) {
	t.Parallel()
	redistest.Binary(t)                     // without a Redis there is nothing to test
	config, err := os.MkdirTemp("", "kept") //nolint:usetesting // t.TempDir holds the test's name, and a socket's path has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(config) })
	folder := filepath.Join(config, "data")
	begin := func(key string) (dev *process, env []string) {
		dev = startPlain(t, []string{"XDG_CONFIG_HOME=" + filepath.Join(config, "home"), "RINGBACK_DEV_KEY=" + key}, "dev", "--listen", "127.0.0.1:0", "--data", folder)
		env = []string{"RINGBACK_SERVER=" + dev.await(`API +(http://\S+)`)[1], "RINGBACK_KEY=" + key, "RINGBACK_COMPANY=acme"}
		dev.await("msg=ready")
		return dev, env
	}

	dev, env := begin("first")
	dev.await(`What happens is kept in \S+data, by a redis-server that ends with this process`)
	ringback(t, env, "callbacks", "create", "--type", "payment_proof", "--url", "http://127.0.0.1:1/", "--auth", "bearer,token=sesame")
	ringback(t, env, "callbacks", "pause", "1")
	child := redisOf(t, folder)
	if _, stderr, code := try(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", folder); code != exitFailure || !strings.Contains(stderr, "in use by another `ringback dev`") {
		t.Errorf("a second one in the same folder: exit %d: %s", code, stderr)
	}
	if code := dev.end(syscall.SIGINT); code != exitOK || !strings.Contains(dev.said.String(), "What happened is kept: ") {
		t.Errorf("exit %d:\n%s", code, dev.said)
	}
	awaitEnd(t, child)

	dev, env = begin("second")
	payload := writeFile(t, `{"requestId": "1", "totalCfdi": "$1.00", "status": "OK"}`)
	if sent := ringback(t, env, "events", "send", "--type", "payment_proof", "--payload", payload, "--event-id", "kept"); !strings.Contains(sent, "held") {
		t.Errorf("the callback that was paused before: %s", sent)
	}
	if status, _ := get(t, env[0][len("RINGBACK_SERVER="):]+"/callback-types", "first"); status != http.StatusUnauthorized {
		t.Errorf("the key of before: %d", status)
	}
	child = redisOf(t, folder)
	dev.end(syscall.SIGKILL)
	awaitEnd(t, child)

	dev, env = begin("third")
	if got := ringback(t, env, "events", "get", "kept"); !strings.Contains(got, "held (paused)") {
		t.Errorf("what was accepted before the kill: %s", got)
	}
	if err := socketOf(t, folder).Set(t.Context(), ledger.ModelKey, ledger.Model+1, 0).Err(); err != nil {
		t.Fatal(err)
	}
	dev.end(syscall.SIGTERM)
	if _, stderr, code := try(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", folder); code != exitConfig || !strings.Contains(stderr, "start that version instead") {
		t.Errorf("data of a newer version: exit %d: %s", code, stderr)
	}
	if left, err := filepath.Glob(filepath.Join(config, "home", "*")); err != nil || len(left) > 0 {
		t.Errorf("outside of the folder there is %v (%v)", left, err)
	}
}

// socketOf is a client of the Redis in a folder.
func socketOf(t *testing.T, folder string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: filepath.Join(folder, "redis.sock"), Protocol: 2})
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

// redisOf is the process of the Redis in a folder.
func redisOf(t *testing.T, folder string) int {
	t.Helper()
	pid, err := strconv.Atoi(socketOf(t, folder).InfoMap(t.Context(), "server").Item("Server", "process_id"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// awaitEnd waits until a process is gone.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(stat), ") Z ") { // a zombie is nobody's any more
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d goes on without its dev", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// TestDevSaysWhatIsKept as it ends, and what is missing where it cannot keep anything.
func TestDevSaysWhatIsKept(t *testing.T) {
	t.Parallel()
	dev := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0")
	portal := dev.await(`portal +(http://\S+/portal/)`)[1]
	dev.await("Nothing is kept: .*--data DIR keeps it there")
	line := dev.await(`portal-links create --company acme --server (\S+) --key '(\w+)'`)
	dev.await("msg=ready")
	if link := ringback(t, nil, "portal-links", "create", "--company", "acme", "--server", line[1], "--key", line[2]); !strings.HasPrefix(link, portal+"enter/") {
		t.Errorf("the line that dev says makes %q", link)
	}
	if code := dev.end(syscall.SIGINT); code != exitOK || !strings.HasSuffix(dev.said.String(), "Nothing was kept: callbacks, events and deliveries are gone. --data DIR keeps them.\n") {
		t.Errorf("exit %d:\n%s", code, dev.said)
	}
	for _, tt := range []struct {
		want string
		env  []string
		args []string
	}{
		{"--data needs redis-server in PATH", []string{"PATH=" + t.TempDir()}, []string{"--data", t.TempDir()}},
		{"--data and --redis exclude each other", nil, []string{"--data", t.TempDir(), "--redis", "redis://127.0.0.1:1"}},
		{"--data and --keyset-file exclude each other", nil, []string{"--data", t.TempDir(), "--keyset-file", "k.json"}},
		{"--data: ", nil, []string{"--data", writeFile(t, "no folder")}},
	} {
		if _, stderr, code := try(t, tt.env, append([]string{"dev", "--listen", "127.0.0.1:0"}, tt.args...)...); code != exitConfig || !strings.Contains(stderr, tt.want) {
			t.Errorf("%v: exit %d: %s", tt.args, code, stderr)
		}
	}
}

// TestDevEndsWithItsRedis: if the Redis that keeps what happens ends by itself, nothing can go on.
func TestDevEndsWithItsRedis(t *testing.T) {
	t.Parallel()
	redistest.Binary(t)
	folder := filepath.Join(t.TempDir(), strings.Repeat("long", 30)) // too long for a socket's path
	dev := startPlain(t, nil, "dev", "--listen", "127.0.0.1:0", "--data", folder)
	dev.await("msg=ready")
	log, err := os.ReadFile(filepath.Join(folder, "redis.log"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(log), ":")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatalf("the log begins with no process: %s", log)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	dev.await(`its redis-server ended: \S+redis.log says why`)
	<-dev.done
	if code := dev.cmd.ProcessState.ExitCode(); code != exitFailure {
		t.Errorf("exit %d", code)
	}
}
