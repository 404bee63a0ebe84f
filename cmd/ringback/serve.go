package main

import (
	"cmp"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/httpapi"
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run Ringback for production, on a Redis that persists",
		Description: "Behind a proxy that speaks TLS, or with --tls-cert and --tls-key. Several processes share one Redis, and need the same keyset, which seals what is secret there.\n" +
			"RINGBACK_KEYSET holds the keyset itself and comes before --keyset-file.\n" +
			"OTEL_EXPORTER_OTLP_ENDPOINT sends traces and metrics there; Prometheus scrapes /metrics.\n\n" +
			examples(
				"ringback serve --redis redis://127.0.0.1:6379 --listen 127.0.0.1:8080",
				"ringback serve --redis rediss://ringback:PASSWORD@redis.internal --egress-allow 10.20.0.0/16",
			),
		Flags: slices.Concat(redisFlags("`URL` of Redis: redis://, rediss://, redis+sentinel://HOSTS/MASTER, redis+cluster://HOSTS"), []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "serve HTTP on `ADDR`", Value: "127.0.0.1:8080", EnvVars: []string{"RINGBACK_LISTEN"}},
			&cli.StringFlag{Name: "tls-cert", Usage: "speak TLS, with the certificate in this PEM `FILE`; it is read again when it changes", EnvVars: []string{"RINGBACK_TLS_CERT"}},
			&cli.StringFlag{Name: "tls-key", Usage: "`FILE` of the certificate's key", EnvVars: []string{"RINGBACK_TLS_KEY"}},
			&cli.StringFlag{Name: "tls-client-ca", Usage: "want a certificate of every caller but for /healthz and /readyz, signed by an authority in this PEM `FILE`", EnvVars: []string{"RINGBACK_TLS_CLIENT_CA"}},
			&cli.StringSliceFlag{Name: "roles", Usage: "what this process does, `ROLES`: api, worker, or both", Value: cli.NewStringSlice("api,worker"), EnvVars: []string{"RINGBACK_ROLES"}},
			keysetFlag(),
			publicURLFlag("no portal links are made, and no bodies are thin"),
			&cli.DurationFlag{Name: "retention", Usage: "keep finished events for `DURATION`", Value: dispatcher.DefaultRetention, EnvVars: []string{"RINGBACK_RETENTION"}},
			&cli.DurationFlag{Name: "body-retention", Usage: "keep the bodies of finished events for `DURATION`, which is less memory, and shorter than --retention; after that they cannot be replayed", DefaultText: "as long as --retention", EnvVars: []string{"RINGBACK_BODY_RETENTION"}},
			&cli.DurationFlag{Name: "hold-max-age", Usage: "hold deliveries that may not go yet for `DURATION` at most; after that they go to the dead-letter book", Value: dispatcher.DefaultHoldMaxAge, EnvVars: []string{"RINGBACK_HOLD_MAX_AGE"}},
			&cli.IntFlag{Name: "hold-max-count", Usage: "hold `N` deliveries of one callback at most; the oldest beyond that go to the dead-letter book", Value: dispatcher.DefaultHoldMaxCount, EnvVars: []string{"RINGBACK_HOLD_MAX_COUNT"}},
			&cli.DurationFlag{Name: "dead-retention", Usage: "keep dead deliveries for `DURATION`; what will go within the next tenth of it is announced", Value: dispatcher.DefaultDeadRetention, EnvVars: []string{"RINGBACK_DEAD_RETENTION"}},
			&cli.DurationFlag{Name: "disable-after", Usage: "disable callbacks that did nothing but fail for `DURATION`, in 20 attempts at least; 0 is never", Value: dispatcher.DefaultDisableAfter, EnvVars: []string{"RINGBACK_DISABLE_AFTER"}},
			&cli.IntFlag{Name: "wait-replicas", Usage: "accept an event only once `N` replicas of Redis have it", EnvVars: []string{"RINGBACK_WAIT_REPLICAS"}},
			&cli.IntFlag{Name: "shed-at", Usage: "refuse events with 503 from `PERCENT` of Redis's maxmemory on: full, it would stop the workers, too", Value: dispatcher.DefaultShedAt, EnvVars: []string{"RINGBACK_SHED_AT"}},
			&cli.StringFlag{Name: "verify-destinations", Usage: "`on|off`: endpoints have to answer a challenge before anything is sent there: those of new callbacks, and of those whose URL changes", Value: "off", EnvVars: []string{"RINGBACK_VERIFY_DESTINATIONS"}},
			&cli.StringFlag{Name: "verify-origin", Usage: "DNS `NAME` that partners know this sender by, for the handshake of CloudEvents that goes before a challenge", Value: dispatcher.DefaultOrigin, EnvVars: []string{"RINGBACK_VERIFY_ORIGIN"}},
			&cli.IntFlag{Name: "concurrency", Usage: "attempt `N` deliveries at the same time", Value: dispatcher.DefaultConcurrency, EnvVars: []string{"RINGBACK_CONCURRENCY"}},
			&cli.DurationFlag{Name: "poll", Usage: "look into an idle lane every `DURATION` though nobody told of work in it: processes tell each other, but those of an older version do not", Value: dispatcher.DefaultPoll, EnvVars: []string{"RINGBACK_POLL"}},
			&cli.DurationFlag{Name: "shutdown-grace", Usage: "let what is under way finish for `DURATION` at the end", Value: dispatcher.DefaultShutdownGrace, EnvVars: []string{"RINGBACK_SHUTDOWN_GRACE"}},
			&cli.Int64Flag{Name: "max-body", Usage: "take requests of at most `BYTES`", Value: httpapi.DefaultMaxBody, EnvVars: []string{"RINGBACK_MAX_BODY"}},
			&cli.Int64Flag{Name: "max-inflight-bytes", Usage: "let the bodies of requests under way take `BYTES` at most, those of one key half of it, and refuse others with 503 or 429", DefaultText: "67108864, or what two of the longest batches take", EnvVars: []string{"RINGBACK_MAX_INFLIGHT_BYTES"}},
		}, keepFlags(), portalFlags(), egressFlags()),
		Action: serve,
	}
}

func serve(c *cli.Context) error {
	if _, err := arguments(c); err != nil {
		return err
	}
	cfg, err := serveConfig(c)
	if err != nil {
		return err
	}
	cfg.Logger = newLog(c.App.ErrWriter)
	if cfg.PublicURL, err = publicURL(c); err != nil {
		return err
	}
	if cfg.Portal, err = portalLook(c); err != nil {
		return err
	}
	if len(cfg.Portal.Embed) > 0 && strings.HasPrefix(cfg.PublicURL, "http://") {
		return usagef("--portal-embed needs a --public-url that begins with https://: in another site's frame, browsers keep no cookie of a page without TLS")
	}
	if cfg.TLS, err = tlsFrom(c.String("tls-cert"), c.String("tls-key"), c.String("tls-client-ca"), cfg.Logger); err != nil {
		return err
	}
	if c.String("redis") == "" {
		return usagef("which Redis? say so with --redis or RINGBACK_REDIS (`ringback dev` brings its own)")
	}
	if cfg.Redis, err = openRedis(c.String("redis"), c.String("redis-password-file"), poolSize(cfg.Concurrency)); err != nil {
		return err
	}
	defer func() { _ = cfg.Redis.Close() }()
	if err := checkRedis(c.Context, cfg.Redis, cfg.Logger); err != nil {
		return err
	}
	if cfg.Keyset, err = findKeyset(c.Context, cfg.Redis, c.String("keyset-file"), cfg.Logger); err != nil {
		return err
	}
	if cfg.Listener, err = bind(c.Context, c.String("listen")); err != nil {
		return err
	}
	if cfg.TLS == nil && !isLoopback(cfg.Listener.Addr()) {
		cfg.Logger.WarnContext(c.Context, "whoever is on the way reads the API keys: give --tls-cert and --tls-key, or listen on loopback behind a proxy that speaks TLS", "address", cfg.Listener.Addr().String())
	}
	a, err := openApp(c.Context, cfg)
	if err != nil {
		return errors.Join(err, cfg.Listener.Close())
	}
	return a.run(c.Context)
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// drainFor is how long /readyz says no before the listener closes: a load balancer has to hear of it first.
const drainFor = 2 * time.Second

// never is how appConfig.DisableAfter says so.
const never = time.Duration(-1)

// serveConfig is what the flags of serve say, without Redis, keyset and listener.
func serveConfig(c *cli.Context) (appConfig, error) {
	cfg := appConfig{
		Retention: c.Duration("retention"), BodyRetention: c.Duration("body-retention"), DisableAfter: cmp.Or(c.Duration("disable-after"), never), DeadRetention: c.Duration("dead-retention"),
		HoldMaxAge: c.Duration("hold-max-age"), HoldMaxCount: c.Int("hold-max-count"), WaitReplicas: c.Int("wait-replicas"), Concurrency: c.Int("concurrency"),
		Poll:          c.Duration("poll"),
		ShutdownGrace: c.Duration("shutdown-grace"), MaxBody: c.Int64("max-body"), MaxInflight: c.Int64("max-inflight-bytes"), ShedAt: c.Int("shed-at"), Drain: drainFor,
		VerifyDestinations: c.String("verify-destinations") == "on", Origin: c.String("verify-origin"),
	}
	switch {
	case cfg.Retention < time.Second:
		return cfg, usagef("--retention must be at least 1s, such as 72h")
	case cfg.BodyRetention != 0 && cfg.BodyRetention < time.Second:
		return cfg, usagef("--body-retention must be at least 1s, such as 24h, or 0 for as long as --retention")
	case cfg.BodyRetention > cfg.Retention:
		return cfg, usagef("--body-retention must not be longer than --retention, which is %s: a body goes with its event at the latest", cfg.Retention)
	case cfg.HoldMaxAge < time.Second:
		return cfg, usagef("--hold-max-age must be at least 1s, such as 72h")
	case cfg.HoldMaxCount < 1:
		return cfg, usagef("--hold-max-count must be at least 1")
	case cfg.DeadRetention < time.Second:
		return cfg, usagef("--dead-retention must be at least 1s, such as 720h")
	case cfg.DisableAfter != never && cfg.DisableAfter < time.Second:
		return cfg, usagef("--disable-after must be at least 1s, such as 120h, or 0 for never")
	case cfg.WaitReplicas < 0:
		return cfg, usagef("--wait-replicas must not be negative")
	case cfg.ShedAt < 1 || cfg.ShedAt > 100:
		return cfg, usagef("--shed-at is a percentage from 1 to 100")
	case !cfg.VerifyDestinations && c.String("verify-destinations") != "off":
		return cfg, usagef("--verify-destinations is on or off")
	case !isOrigin(cfg.Origin):
		return cfg, usagef("--verify-origin is a DNS name such as events.example.com")
	case cfg.Concurrency < 1:
		return cfg, usagef("--concurrency must be at least 1")
	case cfg.Poll < time.Millisecond || cfg.Poll > time.Second:
		return cfg, usagef("--poll must be from 1ms to 1s")
	case cfg.ShutdownGrace < time.Second:
		return cfg, usagef("--shutdown-grace must be at least 1s")
	case cfg.MaxBody < 1:
		return cfg, usagef("--max-body must be at least 1 byte")
	case c.IsSet("max-inflight-bytes") && cfg.MaxInflight < httpapi.LeastInflight(cfg.MaxBody):
		return cfg, usagef("--max-inflight-bytes must be at least %d with this --max-body, for two batches of the greatest length", httpapi.LeastInflight(cfg.MaxBody))
	}
	for _, role := range atCommas(c.StringSlice("roles")) {
		switch role {
		case "api":
			cfg.API = true
		case "worker":
			cfg.Worker = true
		default:
			return cfg, usagef("--roles is api, worker, or api,worker")
		}
	}
	var err error
	if cfg.Keep, err = keepFrom(c); err != nil {
		return cfg, err
	}
	cfg.Egress, err = egressConfig(c)
	return cfg, err
}

// isOrigin reports whether name can stand in a header as a DNS name.
func isOrigin(name string) bool {
	return len(name) <= 253 && regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`).MatchString(name)
}
