package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// portTries is how often a Redis is started: another process may take the port between asking the kernel for it and binding it.
const portTries = 5

// startRedis starts a Redis on a port that the kernel chose, with its append-only file in dir, synced every second.
func startRedis(ctx context.Context, dir string, fail context.CancelCauseFunc) (c *child, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if path, err = exec.LookPath("valkey-server"); err != nil {
			return nil, errors.New("neither redis-server nor valkey-server is in PATH: install one")
		}
	}
	for range portTries {
		if c, err = startRedisAt(ctx, path, dir, fail); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func startRedisAt(ctx context.Context, path, dir string, fail context.CancelCauseFunc) (*child, error) {
	addr, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var ready atomic.Bool // before that its end is no failure: there are other ports
	c, err := launch(ctx, "Redis", filepath.Join(dir, "redis.log"), nil, func(cause error) {
		if ready.Load() {
			fail(cause)
		}
	}, path, "--port", port, "--bind", host, "--dir", dir, "--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--daemonize", "no")
	if err != nil {
		return nil, err
	}
	c.addr = addr
	rdb := redisClient(addr)
	defer func() { _ = rdb.Close() }()
	err = c.await(ctx, func() error {
		info := rdb.InfoMap(ctx, "server")
		if pid := info.Item("Server", "process_id"); info.Err() == nil && pid != strconv.Itoa(c.pid()) {
			return fmt.Errorf("port %s is another process's", port)
		}
		return info.Err()
	})
	if err != nil {
		c.end()
		return nil, err
	}
	ready.Store(true)
	return c, nil
}

func freeAddress(ctx context.Context) (string, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

func redisClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: addr, Protocol: 2, DisableIdentity: true, DialerRetries: 1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}
