package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/registry"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "run everything in one process, on a Redis of its own that keeps nothing",
		Description: "For a look, and for writing against the API: never for production. The API key is RINGBACK_DEV_KEY, or \"dev\".\n\n" +
			examples("ringback dev", "ringback dev --listen 127.0.0.1:8090 --redis redis://127.0.0.1:6379"),
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "serve HTTP on `ADDR`", Value: "127.0.0.1:8080", EnvVars: []string{"RINGBACK_LISTEN"}},
			&cli.StringFlag{ // not serve's RINGBACK_REDIS: nobody should join production by accident
				Name: "redis", Usage: "use the Redis at `URL` instead, which then keeps what happens; never production's", EnvVars: []string{"RINGBACK_DEV_REDIS"},
			},
			redisPasswordFlag("RINGBACK_DEV_REDIS_PASSWORD_FILE"),
			keysetFlag(),
			publicURLFlag("the address it listens on"),
		},
		Action: dev,
	}
}

func dev(c *cli.Context) (err error) {
	if _, err := arguments(c); err != nil {
		return err
	}
	cfg := appConfig{
		API: true, Worker: true, Egress: privateDestinations, Concurrency: dispatcher.DefaultConcurrency,
		ShutdownGrace: 5 * time.Second, // nobody waits a minute for Ctrl-C at a desk
		Logger:        slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)),
	}
	if cfg.PublicURL, err = publicURL(c); err != nil {
		return err
	}
	if cfg.Listener, err = bind(c.Context, c.String("listen")); err != nil {
		return err
	}
	defer func() { _ = cfg.Listener.Close() }()
	cfg.Desk = c.String("listen")
	cfg.PublicURL = cmp.Or(cfg.PublicURL, "http://"+cfg.Listener.Addr().String())
	closeRedis, err := devRedis(c, &cfg)
	if err != nil {
		return err
	}
	defer closeRedis()
	a, err := openApp(c.Context, cfg)
	if err != nil {
		return err
	}
	key := cmp.Or(os.Getenv("RINGBACK_DEV_KEY"), "dev")
	if err := a.keys.Put(c.Context, key, devKey()); err != nil {
		return errors.Join(fmt.Errorf("storing the dev key: %w", err), a.abandon(c.Context))
	}
	if c.String("redis") != "" {
		defer func() { err = errors.Join(err, forgetDevKey(c.Context, a.keys)) }()
	}
	if err := greet(c.App.Writer, "http://"+cfg.Listener.Addr().String(), key, c.String("redis") == ""); err != nil {
		return errors.Join(err, a.abandon(c.Context))
	}
	return a.run(c.Context)
}

// devKeyID names dev's key in `ringback keys list`.
const devKeyID = "rbk_dev"

func devKey() registry.Key {
	return registry.Key{ID: devKeyID, Role: registry.Operator, Company: registry.AllCompanies, CreatedAt: time.Now().UTC()}
}

// forgetDevKey takes the dev key out of a Redis that outlives this process.
func forgetDevKey(ctx context.Context, keys *registry.Keys) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), redisTimeout)
	defer cancel()
	if err := keys.Revoke(ctx, devKeyID); err != nil {
		return fmt.Errorf("the dev key is still in Redis: revoke it with `ringback keys revoke %s` (%w)", devKeyID, err)
	}
	return nil
}

// devRedis fills in Redis and the keyset: the Redis of --redis with a keyset that lasts, or one inside this process with a keyset
// that ends with it.
func devRedis(c *cli.Context, cfg *appConfig) (closeRedis func(), err error) {
	rawURL := c.String("redis")
	if rawURL == "" {
		return embeddedRedis(cfg)
	}
	if cfg.Redis, err = openRedis(rawURL, c.String("redis-password-file"), poolSize(cfg.Concurrency)); err != nil {
		return nil, err
	}
	closeRedis = func() { _ = cfg.Redis.Close() }
	if err := checkRedis(c.Context, cfg.Redis, cfg.Logger); err != nil {
		return nil, errors.Join(err, cfg.Redis.Close())
	}
	if cfg.Keyset, err = findKeyset(c.Context, cfg.Redis, c.String("keyset-file"), cfg.Logger); err != nil {
		return nil, errors.Join(err, cfg.Redis.Close())
	}
	return closeRedis, nil
}

func embeddedRedis(cfg *appConfig) (closeRedis func(), err error) {
	if cfg.Keyset, err = registry.NewKeyset(); err != nil {
		return nil, err
	}
	cfg.Embedded = true
	embedded := miniredis.NewMiniRedis()
	if err := embedded.Start(); err != nil {
		return nil, fmt.Errorf("starting the embedded Redis: %w", err)
	}
	stopClock := runClock(embedded)
	password := rand.Text() // the port is open to everyone on this machine
	embedded.RequireAuth(password)
	rdb, err := openRedis("redis://:"+password+"@"+embedded.Addr(), "", poolSize(cfg.Concurrency))
	if err != nil {
		stopClock()
		embedded.Close()
		return nil, err
	}
	cfg.Redis = rdb
	return func() {
		_ = rdb.Close()
		stopClock()
		embedded.Close()
	}, nil
}

// embeddedTick is how often keys of the embedded Redis grow older. Each time it looks at all of them.
const embeddedTick = 200 * time.Millisecond

// runClock lets keys expire until stop, which waits for its end. By itself the embedded Redis expires none, or else looks at every key with every
// command.
func runClock(embedded *miniredis.Miniredis) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		ticker := time.NewTicker(embeddedTick)
		defer ticker.Stop()
		for last := time.Now(); ; {
			select {
			case <-ctx.Done():
				return
			case now := <-ticker.C:
				embedded.FastForward(now.Sub(last))
				last = now
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// program is how this program was called, for commands to paste; `go run` calls it by a name that is gone soon.
func program() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/ringback"
	}
	return os.Args[0]
}

// greet tells a newcomer where everything is and what to paste next.
func greet(w io.Writer, base, key string, inMemory bool) error {
	keeps := "Nothing is kept: its Redis lives in this process and ends with it. --redis URL uses a real one."
	if !inMemory {
		keeps = "What happens is kept in the Redis of --redis; the API key is good there until this process ends."
	}
	text := `Ringback dev: the API, the workers and asynq's UI in one process. Ctrl-C ends it.

  API         BASE
  docs        BASE/docs
  monitoring  BASE/monitoring/
  API key     KEY

KEEPS
Deliveries may go to loopback and private addresses here; ringback serve refuses those unless --egress-allow names them.

Paste into a second terminal, to receive at your desk (PROGRAM listen --help says more):

  PROGRAM listen

and into a third, to register that receiver and send an event:

  curl -sS BASE/companies/acme/config/callbacks -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \
    -d '{"callback_type": "payment_proof", "destination": {"url": "http://127.0.0.1:9000/hook"}}'

  curl -sS BASE/companies/acme/events -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \
    -d '{"event_type": "payment_proof", "payload": {"requestId": "r-1", "totalCfdi": "$1,962.36", "status": "OK"}}'

`
	_, err := io.WriteString(w, strings.NewReplacer("PROGRAM", program(), "BASE", base, "KEY", key, "KEEPS", keeps).Replace(text))
	return err
}
