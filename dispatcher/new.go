package dispatcher

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry/steady"
)

// New makes a Client.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &Client{
		rdb: cfg.Redis, registry: cfg.Registry, log: cmp.Or(cfg.Logger, slog.Default()),
		ownerGrace: defaulted(cfg.OwnerGrace, DefaultOwnerGrace),
		deadFor:    defaulted(cfg.DeadRetention, DefaultDeadRetention),
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	meter := cfg.MeterProvider.Meter(scope)
	var err error
	if c.metrics, err = newMetrics(meter); err != nil {
		return nil, err
	}
	c.tracer = cfg.TracerProvider.Tracer(scope)
	c.guard = guard{c.log, c.metrics.panics}
	c.memory.rdb, c.memory.log, c.memory.shedAt = c.rdb, c.log, int64(defaulted(cfg.ShedAt, DefaultShedAt))
	c.outage.log = c.log
	c.clock, c.closeClock = cfg.Clock, func() {}
	if c.clock == nil {
		c.clock = steady.New(c.rdb, c.log)
		c.closeClock = c.clock.Close
	}
	c.ledger = ledger.New(ledger.Config{
		Redis: c.rdb, Clock: c.clock, Logger: c.log, Rules: cfg.rules(), WaitReplicas: cfg.WaitReplicas,
		Contain: func(ctx context.Context, do func() error) error { return c.contain(ctx, placeCommit, do) },
		Passing: c.at,
	})
	c.minutes = newMinutes(c.rdb, c.guard, &c.outage, c.ledger.Now)
	c.reporter = reporter{c.log, c.metrics, c.minutes, &expiries{}, c.registry.FileCertificate}
	c.lanes = lanes.New(lanes.Config{
		Redis: c.rdb, Ledger: c.ledger, Logger: c.log, Weight: c.weight,
		Contain: func(ctx context.Context, do func() error) error { return c.contain(ctx, placeEnqueue, do) },
	})
	c.expander = c.newExpander()
	c.pumps = newPumpTimers(c.pump, c.contain)
	c.live = &live{
		guard: &c.guard, ledger: c.ledger, dropped: c.metrics.dropped, known: c.registry.Known, read: c.changed,
		look: make(chan struct{}, 1), watching: newWatching(), flooded: make(map[string]time.Time),
	}
	c.pollers = &pollers{guard: &c.guard, given: c.ledger.Given, all: make(map[*poller]bool)}
	c.sender = sender{egress: cfg.Egress, userAgent: defaulted(cfg.UserAgent, "Ringback"), origin: defaulted(cfg.Origin, DefaultOrigin), keeps: cfg.keeping()}
	c.sender.keeps.seal, c.sender.publicURL = c.registry.SealURL, c.registry.PublicURL
	cfg.Egress.Contain(func(ctx context.Context, cause any) { c.Panicked(ctx, placeConnection, cause) })
	c.sender.tokens = egress.NewTokens(cfg.Egress, c.sender.userAgent, logFetched(c.log), func(ctx context.Context, cause any) { c.Panicked(ctx, placeToken, cause) })
	if c.observed, err = c.register(meter); err != nil {
		c.closeParts()
		return nil, err
	}
	return c, nil
}

// Close ends the Client's metrics and the fetches of access tokens, and brings to the lanes what waits for that, for some seconds at most. It leaves
// Redis open.
func (c *Client) Close() error {
	c.closeParts()
	return c.observed.Unregister()
}

func (c *Client) closeParts() {
	c.live.close()
	c.pollers.close()
	c.pumps.close()
	c.expander.close()
	c.lanes.Close()
	c.minutes.close()
	c.ledger.Close()
	c.closeClock()
	c.sender.tokens.Close()
}

// Ready reports whether Redis answers and knows the lanes.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.lanes.Register(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}
