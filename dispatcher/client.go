package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// A Client accepts events and answers for what became of them. It is safe for concurrent use.
type Client struct {
	guard
	rdb      redis.UniversalClient
	registry *registry.Registry
	log      *slog.Logger
	tracer   trace.Tracer
	metrics  *metrics
	observed metric.Registration // of what metrics read from Redis
	reporter reporter
	sender   sender
	clock    *steady.Clock
	ledger   *ledger.Ledger
	lanes    *lanes.Lanes
	expander *expander
	live     *live
	pollers  *pollers
	pumps    *pumpTimers
	near     atomic.Pointer[near] // by which a worker begins at once what this process accepts; nil: none does

	closeClock func() // unless it is the caller's
	ownerGrace time.Duration
	deadFor    time.Duration
	memory     gauge
	outage     outage            // of our own way out
	minutes    *minutes          // what happened in them
	asked      underWay          // decisions, by company and type
	testing    sync.Map          // ref of the callbacks that are being tested
	trimmed    sync.Map          // company -> where in its log to go on trimming
	counted    sync.Map          // company -> *countWalk, where to go on counting what waits
	failpoint  func(name string) // tests stop here; nil otherwise
}

// at is where a test may stop the process, between two steps of the crash story.
func (c *Client) at(name string) {
	if c.failpoint != nil {
		c.failpoint(name)
	}
}

func (c *Client) lookupType(ctx context.Context, name string) (*payloads.Type, error) {
	typ, ok, err := c.registry.Types().Lookup(ctx, name)
	switch {
	case err != nil:
		return nil, unavailable(ctx, c, "reading the callback types", err)
	case ok:
		return typ, nil
	}
	message := c.registry.Types().Current().NoSuchType(name)
	if deleted, err := c.registry.Types().Deleted(ctx, name); err == nil && deleted != "" {
		message = "names a type that " + deleted + ": an operator adds it again with `ringback types put`"
	}
	return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{Location: "body.event_type", Value: verdict.Clip(name, 64), Message: message}}}
}

// unavailable logs what Redis said and tells the caller no more than that it failed: the text may hold keys. If Redis answered, and that cannot be read,
// the error is [ledger.ErrBadRecord].
func unavailable(ctx context.Context, c *Client, doing string, err error) error {
	if errors.Is(err, ledger.ErrBadRecord) { // another try would not read it either
		c.log.ErrorContext(ctx, "what redis holds cannot be read", "doing", doing, "error", err)
		return err
	}
	if errors.Is(err, ErrClaimTaken) {
		return err
	}
	if ctx.Err() == nil { // else the caller hung up
		c.log.ErrorContext(ctx, "redis failed", "doing", doing, "error", err)
	}
	for _, ours := range []error{redis.ErrPoolTimeout, redis.ErrPoolExhausted} {
		if errors.Is(err, ours) { // never sent: its caller may be told that Redis is not to blame
			return fmt.Errorf("%w (%s): %w", ErrUnavailable, doing, ours)
		}
	}
	return fmt.Errorf("%w (%s)", ErrUnavailable, doing)
}

// FormatTask is what asynq's UI shows as a task's payload; see [lanes.Lanes.Show].
func (c *Client) FormatTask(kind string, payload []byte) string { return c.lanes.Show(kind, payload) }

// Queues names the lanes that are looked into, as asynq and its UI know them.
func (c *Client) Queues() []string { return c.lanes.Names() }
