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
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/httpapi"
	"github.com/ringback/ringback/registry"
)

func devCommand() *cli.Command {
	return &cli.Command{
		Name:  "dev",
		Usage: "run everything in one process, on a Redis of its own that keeps nothing without --data",
		Description: "For a look, and for writing against the API: never for production. The API key is RINGBACK_DEV_KEY, or \"dev\".\n\n" +
			examples("ringback dev", "ringback dev --data ./ringback-data", "ringback dev --listen 127.0.0.1:8090 --redis redis://127.0.0.1:6379"),
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "serve HTTP on `ADDR`", Value: "127.0.0.1:8080", EnvVars: []string{"RINGBACK_LISTEN"}},
			&cli.StringFlag{ // not serve's RINGBACK_REDIS: nobody should join production by accident
				Name: "redis", Usage: "use the Redis at `URL` instead, which then keeps what happens; never production's", EnvVars: []string{"RINGBACK_DEV_REDIS"},
			},
			redisPasswordFlag("RINGBACK_DEV_REDIS_PASSWORD_FILE"),
			&cli.StringFlag{
				Name: "data", Usage: "keep what happens in the folder `DIR`, with a redis-server that runs as long as this does",
			},
			&cli.StringFlag{ // not serve's RINGBACK_KEYSET_FILE, nor its file: what is sealed at a desk is none of production's
				Name: "keyset-file", Usage: "`FILE` of the keyset that seals secrets in the Redis of --redis; made on the first start",
				DefaultText: "ringback/" + devKeyset + " in the user's config folder", EnvVars: []string{"RINGBACK_DEV_KEYSET_FILE"},
			},
			publicURLFlag("the address it listens on"),
		}, portalFlags()...),
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
		Logger:        slog.New(httpapi.NameRequests(slog.NewTextHandler(c.App.ErrWriter, nil))),
	}
	if cfg.PublicURL, err = publicURL(c); err != nil {
		return err
	}
	if cfg.Portal, err = portalLook(c); err != nil {
		return err
	}
	if cfg.Listener, err = bind(c.Context, c.String("listen")); err != nil {
		return err
	}
	defer func() { _ = cfg.Listener.Close() }()
	cfg.Desk = c.String("listen")
	cfg.PublicURL = cmp.Or(cfg.PublicURL, "http://"+cfg.Listener.Addr().String())
	ctx, stop := context.WithCancelCause(c.Context)
	defer stop(nil)
	closeRedis, err := devRedis(c, &cfg, func() { stop(errChildEnded) })
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeRedis()) }()
	a, err := openApp(ctx, cfg)
	if err != nil {
		return err
	}
	key := cmp.Or(os.Getenv("RINGBACK_DEV_KEY"), "dev")
	keeps := whatIsKept(c.String("redis"), c.String("data"))
	if c.String("data") != "" { // a process that was killed could not take its key away, which may have been another
		if err := a.keys.Revoke(ctx, devKeyID); err != nil && !errors.Is(err, registry.ErrNotFound) {
			return errors.Join(fmt.Errorf("forgetting the dev key of before: %w", err), a.abandon(ctx))
		}
	}
	if err := a.keys.Put(ctx, key, devKey()); err != nil {
		return errors.Join(fmt.Errorf("storing the dev key: %w", err), a.abandon(ctx))
	}
	if keeps.forgets {
		defer func() { err = errors.Join(err, forgetDevKey(ctx, a.keys)) }()
	}
	if err := greet(c.App.Writer, "http://"+cfg.Listener.Addr().String(), key, keeps.before); err != nil {
		return errors.Join(err, a.abandon(ctx))
	}
	if err := a.run(ctx); err != nil {
		return err
	}
	if cause := context.Cause(ctx); errors.Is(cause, errChildEnded) {
		return fmt.Errorf("%w: %s says why", cause, filepath.Join(c.String("data"), "redis.log"))
	}
	_, err = fmt.Fprintln(c.App.Writer, keeps.after)
	return err
}

// kept says what is kept, as dev begins and as it ends.
type kept struct {
	before, after string
	forgets       bool // the dev key is taken out of a Redis that goes on
}

func whatIsKept(redisURL, folder string) kept {
	switch {
	case folder != "":
		again := "`" + program() + " dev --data " + printable(folder) + "`"
		return kept{
			before:  "What happens is kept in " + printable(folder) + ", by a redis-server that ends with this process; " + again + " goes on from there.",
			after:   "What happened is kept: " + again + " goes on from there.",
			forgets: true,
		}
	case redisURL != "":
		return kept{
			before:  "What happens is kept in the Redis of --redis; the API key is good there until this process ends.",
			after:   "What happened is kept in the Redis of --redis.",
			forgets: true,
		}
	}
	return kept{
		before: "Nothing is kept: its Redis lives in this process and ends with it. --data DIR keeps it there, --redis URL in a Redis of yours.",
		after:  "Nothing was kept: callbacks, events and deliveries are gone. --data DIR keeps them.",
	}
}

// devKeyset is the file of the keyset with --redis.
const devKeyset = "dev-keyset.json"

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

// devRedis fills in Redis and the keyset: the Redis of --redis with a keyset that lasts, one in the folder of --data, with a keyset there, or one
// inside this process with a keyset that ends with it. failed is called if Redis is a child of this process and ends by itself.
func devRedis(c *cli.Context, cfg *appConfig, failed func()) (closeRedis func() error, err error) {
	rawURL, folder := c.String("redis"), c.String("data")
	switch {
	case folder != "" && rawURL != "":
		return nil, usagef("--data and --redis exclude each other: one keeps what happens in a folder, the other in a Redis that runs already")
	case folder != "" && c.String("keyset-file") != "":
		return nil, usagef("--data and --keyset-file exclude each other: the folder has its own keyset")
	case folder != "":
		return folderRedis(c.Context, folder, cfg, failed)
	case rawURL == "":
		return embeddedRedis(cfg)
	}
	if cfg.Redis, err = openRedis(rawURL, c.String("redis-password-file"), poolSize(cfg.Concurrency)); err != nil {
		return nil, err
	}
	if err := checkRedis(c.Context, cfg.Redis, cfg.Logger); err != nil {
		return nil, errors.Join(err, cfg.Redis.Close())
	}
	file, err := keysetNamed(c.String("keyset-file"), devKeyset)
	if err == nil {
		cfg.Keyset, err = keysetAt(c.Context, cfg.Redis, file, cfg.Logger)
	}
	if err != nil {
		return nil, errors.Join(err, cfg.Redis.Close())
	}
	return cfg.Redis.Close, nil
}

func folderRedis(ctx context.Context, folder string, cfg *appConfig, failed func()) (closeRedis func() error, err error) {
	d, err := openData(ctx, folder, failed)
	if err != nil {
		return nil, err
	}
	if err := d.use(ctx, cfg); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return func() error { return errors.Join(cfg.Redis.Close(), d.close()) }, nil
}

func embeddedRedis(cfg *appConfig) (closeRedis func() error, err error) {
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
	return func() error {
		_ = rdb.Close()
		stopClock()
		embedded.Close()
		return nil
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
func greet(w io.Writer, base, key, keeps string) error {
	text := `Ringback dev: the API, the workers and asynq's UI in one process. Ctrl-C ends it.

  API         BASE
  docs        BASE/docs
  console     BASE/console/
  portal      BASE/portal/ (for partners, by a link)
  monitoring  BASE/monitoring/
  API key     KEY

KEEPS
Deliveries may go to loopback and private addresses here; ringback serve refuses those unless --egress-allow names them.

Paste into a second terminal, to receive at your desk (PROGRAM listen --help says more):

  PROGRAM listen

and into a third, to register that receiver, to send an event, and to make a partner's link to the portal:

  curl -sS BASE/companies/acme/config/callbacks -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \
    -d '{"callback_type": "payment_proof", "destination": {"url": "http://127.0.0.1:9000/hook"}}'

  curl -sS BASE/companies/acme/events -H 'Authorization: Bearer KEY' -H 'Content-Type: application/json' \
    -d '{"event_type": "payment_proof", "payload": {"requestId": "r-1", "totalCfdi": "$1,962.36", "status": "OK"}}'

  PROGRAM portal-links create --company acme --server BASE --key 'KEY'

`
	_, err := io.WriteString(w, strings.NewReplacer("PROGRAM", program(), "BASE", base, "KEY", key, "KEEPS", keeps).Replace(text))
	return err
}
