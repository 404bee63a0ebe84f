package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// childPoll is how often a Redis that starts is asked whether it is ready: it usually takes a twentieth of a second.
	childPoll = 10 * time.Millisecond
	// childStart is how long it may take, as it reads what was kept.
	childStart = 2 * time.Minute
	// childEnd is how long it may take to end in order.
	childEnd = 10 * time.Second
	// lockFor is how long a folder is tried for: the Redis of a process that was killed just now may be about to end.
	lockFor = time.Second
	// longestSocket is what the path of a Unix socket has room for, on every system.
	longestSocket = 100
)

// errChildEnded is the cause when the Redis of dev ends before dev does.
var errChildEnded = errors.New("its redis-server ended")

// A dataFolder is where `ringback dev --data` keeps what happens: a Redis of its own, which ends with this process however that ends, and the
// keyset that seals secrets there. One process uses it at a time.
type dataFolder struct {
	path    string
	lock    *os.File // held by the Redis, too: as long as one of both lives, the folder is in use
	socket  string
	sockets string // a folder for the socket, where its path would be too long; else empty

	cmd   *exec.Cmd
	ended chan struct{} // closed once the Redis has ended
}

// openData locks a folder, makes it if there is none, and starts the Redis in it. failed is called if that ends by itself.
func openData(ctx context.Context, path string, failed func()) (*dataFolder, error) {
	binary, err := redisServer()
	if err != nil {
		return nil, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, misconfigured(fmt.Errorf("--data: %w", err))
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, misconfigured(fmt.Errorf("--data: %w", err))
	}
	d := &dataFolder{path: path, ended: make(chan struct{})}
	if d.lock, err = lockFolder(path); err != nil {
		return nil, err
	}
	if err := d.start(ctx, binary, failed); err != nil {
		return nil, errors.Join(err, d.unlock())
	}
	return d, nil
}

// redisServer is the program that keeps the data.
func redisServer() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", misconfigured(errors.New("--data needs redis-server in PATH, which keeps the data: install it (on Debian, apt-get install redis-server), " +
		"name a Redis that runs already with --redis, or leave --data out, and nothing is kept"))
}

// lockFolder takes the folder for this process and the one that it starts.
func lockFolder(path string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // in the folder that the user named
	if err != nil {
		return nil, misconfigured(fmt.Errorf("--data: %w", err))
	}
	for until := time.Now().Add(lockFor); ; {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return lock, nil
		}
		if time.Now().After(until) {
			_ = lock.Close()
			return nil, fmt.Errorf("--data %s is in use by another `ringback dev`: end that one, or name another folder (%w)", path, err)
		}
		time.Sleep(childPoll)
	}
}

// start starts the Redis and waits until it has read what was kept. It listens on a socket that only this user can open.
func (d *dataFolder) start(ctx context.Context, binary string, failed func()) (err error) {
	if d.socket = filepath.Join(d.path, "redis.sock"); len(d.socket) > longestSocket {
		if d.sockets, err = os.MkdirTemp("", "ringback-dev"); err != nil {
			return err
		}
		d.socket = filepath.Join(d.sockets, "redis.sock")
	}
	log := filepath.Join(d.path, "redis.log")
	if err := os.Truncate(log, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var said bytes.Buffer                                                                                                               // what it says before it has a log
	d.cmd = exec.Command(binary, "--port", "0", "--unixsocket", d.socket, "--unixsocketperm", "700", "--dir", d.path, "--logfile", log, //nolint:gosec,noctx // close ends it
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no")
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.ExtraFiles = &said, &said, []*os.File{d.lock}
	d.cmd.SysProcAttr = childOfThread()
	d.cmd.Env = slices.DeleteFunc(os.Environ(), func(pair string) bool { return strings.HasPrefix(pair, "RINGBACK_") })
	started := make(chan error, 1)
	go d.own(started, failed)
	if err := <-started; err != nil {
		return fmt.Errorf("starting %s: %w", binary, err)
	}
	if err := d.await(ctx); err != nil {
		d.end()
		text, _ := os.ReadFile(log) //nolint:gosec // the same folder
		return fmt.Errorf("%s in %s %w: %s", filepath.Base(binary), d.path, err, lastLine(append(said.Bytes(), text...)))
	}
	return nil
}

// own starts the Redis and outlives it, on a thread of its own: Linux ends the Redis when the thread ends that started it.
func (d *dataFolder) own(started chan<- error, failed func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(d.ended)
	err := d.cmd.Start()
	started <- err
	if err == nil {
		_ = d.cmd.Wait() // its log says why it ended
		failed()
	}
}

// await asks the Redis until it answers.
func (d *dataFolder) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, childStart)
	defer cancel()
	rdb, err := d.open(1) //nolint:contextcheck // each connection has its own
	if err != nil {
		return err
	}
	defer func() { _ = rdb.Close() }()
	for {
		if rdb.Ping(ctx).Err() == nil {
			return nil
		}
		select {
		case <-d.ended:
			return errors.New("did not start")
		case <-ctx.Done():
			return errors.New("did not get ready")
		case <-time.After(childPoll):
		}
	}
}

func (d *dataFolder) open(pool int) (redis.UniversalClient, error) {
	return openRedis("unix://"+d.socket, "", pool)
}

// use fills in the Redis and the keyset of the folder.
func (d *dataFolder) use(ctx context.Context, cfg *appConfig) (err error) {
	if cfg.Redis, err = d.open(poolSize(cfg.Concurrency)); err != nil { //nolint:contextcheck // the same
		return err
	}
	if err := checkRedis(ctx, cfg.Redis, cfg.Logger); err != nil {
		return errors.Join(err, cfg.Redis.Close())
	}
	quiet := slog.New(slog.DiscardHandler) // a new keyset is no news: it lies beside what it seals
	if cfg.Keyset, err = keysetAt(ctx, cfg.Redis, filepath.Join(d.path, "keyset.json"), quiet); err != nil {
		return errors.Join(err, cfg.Redis.Close())
	}
	return nil
}

// end ends the Redis, in order if it can.
func (d *dataFolder) end() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(childEnd):
		_ = d.cmd.Process.Kill()
		<-d.ended
	}
}

// close ends the Redis and lets the folder go.
func (d *dataFolder) close() error {
	d.end()
	return d.unlock()
}

func (d *dataFolder) unlock() error {
	if d.sockets != "" {
		_ = os.RemoveAll(d.sockets)
	}
	return d.lock.Close()
}

// lastLine is what a program said last.
func lastLine(text []byte) string {
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return oneLine(string(lines[len(lines)-1]))
}
