// Package redistest starts a real Redis for a test: a child process with a
// directory, a port and a socket of its own, killed and removed when the test
// ends. Tests use it for what an in-memory stand-in cannot vouch for: real Lua,
// the append-only file, a kill in the middle, a server that stops answering.
//
// It runs what RINGBACK_REDIS_SERVER says, the path or the name of a server. If that is
// empty, it runs redis-server, or valkey-server if there is none. If there is neither, it
// fails the test: a test that is skipped proves nothing.
package redistest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	startTimeout = time.Minute // a loaded machine replaying an append-only file; usually 60 ms
	pollInterval = 5 * time.Millisecond
	portTries    = 10 // another process may take the port between asking the kernel for it and binding it
)

// Server is one Redis of one test. Its methods fail the test instead of
// returning errors, and are for the test's own goroutine.
type Server struct {
	t       testing.TB
	binary  string
	args    []string
	env     []string // beside this process's
	dir     string   // working directory: append-only file, log
	sockets string   // short path: a socket's may have 107 bytes at most
	port    int
	bus     int    // the port of the cluster's bus; 0: it is no node of a cluster
	watches string // the file of what it watches as a sentinel; empty: it is none
	log     *os.File

	child  *exec.Cmd      // nil while no server runs
	halted bool           // by Stop
	leash  io.WriteCloser // held by this process; its end makes the watchdog kill the child
	guard  *exec.Cmd
}

// Start runs a Redis with an empty directory of the test's own, an append-only
// file synced every second and no snapshots, and returns once it answers. args
// are added to the command line and win over those defaults, for example
// "--appendfsync", "always". The server listens on the loopback interface, on a
// port that the kernel chose, and on a Unix socket.
//
// The server is killed when the test ends, and when the test's process dies
// without ending it.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return start(t, single, nil, args)
}

// What a server is.
type kind int

const (
	single kind = iota
	ofCluster
	sentinel
)

// start is Start for a server of any kind, with more in its environment. The arguments of a sentinel are the lines of its file.
func start(t testing.TB, k kind, env, args []string) *Server {
	t.Helper()
	s := &Server{t: t, binary: Binary(t), env: env, args: args, dir: t.TempDir()}
	if k == sentinel {
		s.args, s.watches = nil, filepath.Join(s.dir, "sentinel.conf")
		if err := os.WriteFile(s.watches, []byte(strings.Join(args, "\n")+"\n"), 0o600); err != nil {
			t.Fatalf("redistest: %v", err)
		}
	}

	sockets, err := os.MkdirTemp("", "redistest") //nolint:usetesting // t.TempDir holds the test's name, and a socket's path has room for 107 bytes
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	s.sockets = sockets
	s.log, err = os.OpenFile(filepath.Join(s.dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	t.Cleanup(func() {
		s.kill()
		_ = s.log.Close()
		_ = os.RemoveAll(s.sockets)
	})

	for range portTries {
		s.port = freePort(t)
		if k == ofCluster {
			s.bus = freePort(t)
		}
		if err = s.launch(); err == nil {
			return s
		}
	}
	t.Fatalf("redistest: %s did not start: %v\n%s", s.binary, err, s.logTail())
	return nil
}

// Addr is the server's host and port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the server's address as redis.ParseURL and --redis take it.
func (s *Server) URL() string { return "redis://" + s.Addr() + "/0" }

// Socket is the path of the server's Unix socket.
func (s *Server) Socket() string { return filepath.Join(s.sockets, "redis.sock") }

// Client returns a new client of this server, through its Unix socket. It is
// closed when the test ends; a test may close it earlier.
func (s *Server) Client() *redis.Client {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{
		Network:                  "unix",
		Addr:                     s.Socket(),
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.t.Cleanup(func() {
		if err := client.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			s.t.Errorf("redistest: close a client: %v", err)
		}
	})
	return client
}

// LossyClient returns a client of one connection that loses an answer now and
// then: left counts down with each, and the one that makes it zero is lost. Redis
// has done what it was asked, and the caller sees the connection end. It is closed
// when the test ends.
func (s *Server) LossyClient(left *atomic.Int64) *redis.Client {
	s.t.Helper()
	client := redis.NewClient(&redis.Options{
		PoolSize: 1, DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "unix", s.Socket())
			return lossy{conn, left}, err
		},
	})
	s.t.Cleanup(func() { _ = client.Close() })
	return client
}

type lossy struct {
	net.Conn
	left *atomic.Int64 // answers until one is lost
}

func (l lossy) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if err == nil && l.left.Add(-1) == 0 {
		_ = l.Close()
		return 0, io.EOF
	}
	return n, err
}

// Kill ends the server at once, as kill -9 does, and returns when it is gone.
// All that it had written to its append-only file stays, synced or not: only a
// machine that loses power forgets that.
func (s *Server) Kill() {
	s.t.Helper()
	if s.child == nil {
		s.t.Fatal("redistest: Kill: no server is running")
	}
	s.kill()
}

// Restart starts the server again with the same directory, port and socket, and
// returns once it has read its append-only file and answers. A server that
// still runs is killed first.
func (s *Server) Restart() {
	s.t.Helper()
	s.kill()
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.launch()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("redistest: %s did not start again on %s: %v\n%s", s.binary, s.Addr(), err, s.logTail())
		}
		pause()
	}
}

// Stop halts the server without closing anything (SIGSTOP): connections are
// accepted by the kernel, and nothing is answered until Cont.
func (s *Server) Stop() { s.t.Helper(); s.signal(syscall.SIGSTOP); s.halted = true }

// Cont lets a server halted by Stop go on (SIGCONT).
func (s *Server) Cont() { s.t.Helper(); s.signal(syscall.SIGCONT); s.halted = false }

// Dir is the server's directory, where a test may cut or damage the
// append-only file between Kill and Restart.
func (s *Server) Dir() string { return s.dir }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if s.child == nil {
		s.t.Fatalf("redistest: %v: no server is running", sig)
	}
	if err := s.child.Process.Signal(sig); err != nil {
		s.t.Fatalf("redistest: %v: %v", sig, err)
	}
}

// launch starts the child and its watchdog and waits until the child, and no
// other process, answers on the port. On an error nothing is left running.
func (s *Server) launch() error {
	// The server outlives t.Context, which ends before the cleanups run.
	ctx := context.WithoutCancel(s.t.Context())
	child := exec.CommandContext(ctx, s.binary, s.commandLine()...)
	child.Stdout, child.Stderr = s.log, s.log
	child.Env = append(os.Environ(), s.env...)
	if err := child.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	s.child = child
	if err := s.watch(ctx); err != nil {
		s.kill()
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		s.kill()
		return err
	}
	return nil
}

func (s *Server) commandLine() []string {
	args := []string{
		"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1",
		"--unixsocket", s.Socket(), "--dir", s.dir,
		"--daemonize", "no",
	}
	if s.watches != "" {
		return append([]string{s.watches, "--sentinel"}, args...)
	}
	args = append(append(args, "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""), s.args...)
	if s.bus != 0 {
		args = append(args, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(s.bus))
	}
	return args
}

// watch starts a shell that kills the child when this process is gone, however
// it went: the shell waits for the end of a pipe that only this process holds.
func (s *Server) watch(ctx context.Context) error {
	pid := strconv.Itoa(s.child.Process.Pid)
	guard := exec.CommandContext(ctx, "/bin/sh", "-c", `read -r _; kill -9 "$1"`, "redistest-watchdog", pid)
	leash, err := guard.StdinPipe()
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if err := guard.Start(); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	s.guard, s.leash = guard, leash
	return nil
}

// awaitReady polls until the server answers PING, which it does once its data
// is loaded, and has told its own process number: a port can be someone else's.
func (s *Server) awaitReady(ctx context.Context) error {
	deadline := time.Now().Add(startTimeout)
	for {
		err := s.isOurs(ctx)
		if err == nil {
			return nil
		}
		if s.exited() {
			return errors.New("it ended at once")
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v: %w", startTimeout, err)
		}
		pause()
	}
}

// isOurs asks through a connection of its own each time: a pool that failed to
// dial waits a second before it tries again.
func (s *Server) isOurs(ctx context.Context) error {
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", s.Addr())
	if err != nil {
		return err
	}
	client := redis.NewClient(&redis.Options{
		Dialer:     func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		MaxRetries: -1, PoolSize: 1, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() {
		_ = client.Close()
		_ = conn.Close() // in case the client never took it
	}()
	if err := client.Ping(ctx).Err(); err != nil {
		return err
	}
	info := client.InfoMap(ctx, "server")
	if err := info.Err(); err != nil {
		return err
	}
	if pid := info.Item("Server", "process_id"); pid != strconv.Itoa(s.child.Process.Pid) {
		return fmt.Errorf("port %d belongs to process %s", s.port, pid)
	}
	return nil
}

// ask asks the server through a client of its own: one that was away is asked at once when it is back.
func (s *Server) ask(args ...any) (any, error) {
	client := redis.NewClient(&redis.Options{
		Network: "unix", Addr: s.Socket(), PoolSize: 1, MaxRetries: -1, DialerRetries: 1, Protocol: 2, ContextTimeoutEnabled: true, ReadTimeout: -1,
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	v, err := client.Do(ctx, args...).Result()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Addr(), err)
	}
	return v, nil
}

// runs reports whether it can be asked.
func (s *Server) runs() bool { return s.child != nil && !s.halted }

// exited says whether the child has ended, without reaping it.
func (s *Server) exited() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.child.Process.Pid))
	if err != nil {
		// No such file: no /proc here, and the deadline must do.
		return false
	}
	for i := len(stat) - 1; i > 0; i-- {
		if stat[i] == ')' { // the state follows the command's name
			return i+2 < len(stat) && stat[i+2] == 'Z'
		}
	}
	return false
}

// kill ends and reaps the child and its watchdog, if there are any.
func (s *Server) kill() {
	if s.guard != nil {
		// The watchdog goes first: later the process number may be another's.
		_ = s.guard.Process.Kill()
		_ = s.leash.Close()
		_ = s.guard.Wait()
		s.guard, s.leash = nil, nil
	}
	if s.child != nil {
		_ = s.child.Process.Kill()
		_ = s.child.Wait()
		s.child, s.halted = nil, false
	}
}

func (s *Server) logTail() string {
	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(log[max(0, len(log)-4096):])
}

// Binary is the path of the server that Start runs.
func Binary(t testing.TB) string {
	t.Helper()
	if name := os.Getenv("RINGBACK_REDIS_SERVER"); name != "" {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatalf("redistest: RINGBACK_REDIS_SERVER: %v", err)
		}
		return path
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("redistest: neither redis-server nor valkey-server is in PATH; install one (Debian and Ubuntu: the package redis-server or valkey-server; macOS: brew install redis)")
	return ""
}

func freePort(t testing.TB) int {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func pause() { <-time.After(pollInterval) }
