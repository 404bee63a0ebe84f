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
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNotFound: no such event or delivery, or no longer kept.
	ErrNotFound = errors.New("not found")
	// ErrEventConflict: the event id was used before, for other content.
	ErrEventConflict = errors.New("this event_id was accepted before with other content: send new content under a new event_id")
	// ErrUnavailable: Redis did not answer as it should. Whether the event was accepted is open: repeat it with the same event id.
	ErrUnavailable = errors.New("the store is not available: try again with the same event_id")
	// ErrOverloaded: Redis is so full that taking more could stop the workers, too. Nothing was accepted: repeat it later.
	ErrOverloaded = errors.New("the store is nearly full, so no events are taken: try again later")
	// ErrBadCursor: the cursor is not one that a list of this kind gave out.
	ErrBadCursor = errors.New("the cursor is not one this list gave out: start again without it")
)

// A StateError says that a delivery is not in a state for what was asked.
type StateError struct {
	Delivery *Delivery
	Message  string
}

func (e *StateError) Error() string { return e.Message }

// Config is what a [Client] needs.
type Config struct {
	Redis    redis.UniversalClient // required; the caller closes it, after Client and Worker
	Registry *registry.Registry    // required; it knows the callback types, too
	Egress   *egress.Client        // required; the caller closes it
	Logger   *slog.Logger          // default: slog.Default()

	// UserAgent is sent with every request. Default "Ringback".
	UserAgent string
	// Origin is who asks in the handshake of CloudEvents (see [Client.Verify]): a DNS name that partners know this sender by. Default
	// [DefaultOrigin].
	Origin string

	TracerProvider trace.TracerProvider // default: otel's global one
	MeterProvider  metric.MeterProvider // default: otel's global one

	// Retention is how long an event is kept once none of its deliveries is unfinished or dead, and with it its event id and its
	// explanation. Whole seconds, at least a second; default 72 h.
	Retention time.Duration
	// DeadRetention is how long a dead delivery is kept in the dead-letter book, counted from its death; then it goes with its event, after
	// Retention. What will go within the next tenth of it is announced: in the log, and as a metric. Nothing goes that was not announced
	// for so long. At least a second; default 720 h.
	DeadRetention time.Duration
	// Window is how many deliveries of one callback may be in the lanes at once; the others wait in its room. An event with many callbacks finds
	// its share of each one's. Default 1,000.
	// Tests make it small.
	Window int
	// HoldMaxAge is how long a delivery may be held in its callback's room, and HoldMaxCount how many of a callback's may be there: past
	// them the oldest go to the dead-letter book as hold_expired and hold_full. Whole seconds, at least one; defaults 72 h and 100,000.
	HoldMaxAge   time.Duration
	HoldMaxCount int
	// DisableAfter is how long a callback may do nothing but fail, in 20 attempts at least, before it is disabled. Whole seconds, at least
	// one; default 120 h. Negative: for ever.
	DisableAfter time.Duration
	// Patience is how long a pending delivery may wait for its attempt, and a retry beyond its time, before the reconciler asks asynq for its
	// task. At least a millisecond; default [DefaultPatience]. Tests make it short.
	Patience time.Duration
	// OwnerGrace is how long beyond its timeout an attempt's owner has for everything else, until the attempt counts as lost and is made
	// again. Two thirds of it are for recording the outcome while Redis fails. At least a millisecond; default [DefaultOwnerGrace]. Tests make
	// it short.
	OwnerGrace time.Duration
	// WaitReplicas is how many replicas must hold an event before it counts as accepted (Redis WAIT, 1 s at most). Default 0.
	WaitReplicas int
	// ShedAt is the percentage of Redis's maxmemory from which on events are refused with [ErrOverloaded]. Default [DefaultShedAt].
	ShedAt int
}

// DefaultRetention is how long finished events are kept.
const DefaultRetention = 72 * time.Hour

// DefaultDeadRetention is how long the dead are kept: time for a partner to hear of it, to mend the endpoint and to ask for a replay.
const DefaultDeadRetention = 720 * time.Hour

// DefaultWindow is how many of a callback's deliveries may be in the lanes: enough to keep any one receiver busy, little enough that
// a blocked callback's tasks never stand in the way of others for long.
const DefaultWindow = 1000

// Defaults of what may be held.
const (
	DefaultHoldMaxAge   = 72 * time.Hour
	DefaultHoldMaxCount = 100_000
)

// DefaultDisableAfter is how long callbacks may do nothing but fail: five days.
const DefaultDisableAfter = 120 * time.Hour

// DefaultPatience is how long the reconciler leaves a delivery to asynq: longer than a busy lane or asynq's repair of a lost worker takes
// as a rule, since each look costs Redis a few commands.
const DefaultPatience = 25 * time.Second

// DefaultOwnerGrace is how long an attempt may take beyond its timeout: Redis may stall or be replaced meanwhile, and the machine be busy.
const DefaultOwnerGrace = 15 * time.Second

// A Client accepts events and answers for what became of them. It is safe for concurrent use.
type Client struct {
	rdb       redis.UniversalClient
	registry  *registry.Registry
	egress    *egress.Client
	tokens    *egress.Tokens // access tokens of the callbacks that want them
	userAgent string
	origin    string
	log       *slog.Logger
	tracer    trace.Tracer
	metrics   *metrics
	worker    atomic.Pointer[Worker] // which begins at once what this process accepts; nil: none does

	ledger     *ledger.Ledger
	lanes      *lanes.Lanes
	expander   *expander
	ownerGrace time.Duration
	deadFor    time.Duration
	shedAt     int64 // percent
	memory     gauge
	asked      underWay          // decisions, by company and type
	testing    sync.Map          // ref of the callbacks that are being tested
	trimmed    sync.Map          // company -> where in its log to go on trimming
	counted    sync.Map          // company -> *countWalk, where to go on counting what waits
	outage     outage            // of our own way out
	failpoint  func(name string) // tests stop here; nil otherwise
}

// New makes a Client.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Redis == nil:
		return nil, errors.New("dispatcher: Config.Redis is missing")
	case cfg.Registry == nil:
		return nil, errors.New("dispatcher: Config.Registry is missing")
	case cfg.Egress == nil:
		return nil, errors.New("dispatcher: Config.Egress is missing")
	case cfg.Retention != 0 && cfg.Retention < time.Second:
		return nil, errors.New("dispatcher: Config.Retention must be at least one second")
	case cfg.DeadRetention != 0 && cfg.DeadRetention < time.Second:
		return nil, errors.New("dispatcher: Config.DeadRetention must be at least one second")
	case cfg.HoldMaxAge != 0 && cfg.HoldMaxAge < time.Second, cfg.HoldMaxCount < 0:
		return nil, errors.New("dispatcher: Config.HoldMaxAge must be at least one second, and Config.HoldMaxCount not negative")
	case cfg.DisableAfter > 0 && cfg.DisableAfter < time.Second:
		return nil, errors.New("dispatcher: Config.DisableAfter must be at least one second, or negative for never")
	case cfg.Patience != 0 && cfg.Patience < time.Millisecond, cfg.OwnerGrace != 0 && cfg.OwnerGrace < time.Millisecond:
		return nil, errors.New("dispatcher: Config.Patience and Config.OwnerGrace must be at least one millisecond")
	case cfg.Window < 0, cfg.WaitReplicas < 0, cfg.ShedAt < 0:
		return nil, errors.New("dispatcher: Config.Window, Config.WaitReplicas and Config.ShedAt must not be negative")
	}
	c := &Client{
		rdb: cfg.Redis, registry: cfg.Registry, egress: cfg.Egress, log: cfg.Logger,
		userAgent: defaulted(cfg.UserAgent, "Ringback"), origin: defaulted(cfg.Origin, DefaultOrigin),
		ownerGrace: defaulted(cfg.OwnerGrace, DefaultOwnerGrace),
		deadFor:    defaulted(cfg.DeadRetention, DefaultDeadRetention),
		shedAt:     int64(defaulted(cfg.ShedAt, DefaultShedAt)),
	}
	if c.log == nil {
		c.log = slog.Default()
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	entering := func(ctx context.Context, do func() error) error { return c.contain(ctx, placeEnqueue, do) }
	c.outage.log = c.log
	together := func(ctx context.Context, do func() error) error { return c.contain(ctx, placeCommit, do) }
	c.ledger = ledger.New(ledger.Config{Redis: c.rdb, Logger: c.log, Rules: cfg.rules(), WaitReplicas: cfg.WaitReplicas, Contain: together})
	c.lanes = lanes.New(lanes.Config{Redis: c.rdb, Ledger: c.ledger, Logger: c.log, Weight: c.weight, Contain: entering})
	c.expander = newExpander(c)
	c.tracer = cfg.TracerProvider.Tracer(scope)
	c.egress.Contain(func(ctx context.Context, cause any) { c.Panicked(ctx, placeConnection, cause) })
	c.tokens = egress.NewTokens(c.egress, c.userAgent, c.tokenFetched, func(ctx context.Context, cause any) { c.Panicked(ctx, placeToken, cause) })
	var err error
	c.metrics, err = newMetrics(cfg.MeterProvider, c)
	return c, err
}

// rules are what of the configuration the ledger keeps to.
func (cfg *Config) rules() ledger.Rules {
	return ledger.Rules{
		Window: defaulted(cfg.Window, DefaultWindow), Retention: defaulted(cfg.Retention, DefaultRetention),
		HoldMaxCount: defaulted(cfg.HoldMaxCount, DefaultHoldMaxCount), HoldMaxAge: defaulted(cfg.HoldMaxAge, DefaultHoldMaxAge),
		DisableAfter: max(0, defaulted(cfg.DisableAfter, DefaultDisableAfter)), Patience: defaulted(cfg.Patience, DefaultPatience),
	}
}

func defaulted[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Close ends the Client's metrics and the fetches of access tokens, and brings to the lanes what waits for that, for some seconds at most. It leaves
// Redis open.
func (c *Client) Close() error {
	c.expander.close()
	c.lanes.Close()
	c.ledger.Close()
	c.tokens.Close()
	return c.metrics.close()
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
	return nil, &payloads.InvalidError{Fields: []payloads.FieldError{{
		Location: "body.event_type", Value: verdict.Clip(name, 64),
		Message: "is not an event type: there are " + c.registry.Types().Current().Names(),
	}}}
}

// unavailable logs what Redis said and tells the caller no more than that it failed: the text may hold keys.
func unavailable(ctx context.Context, c *Client, doing string, err error) error {
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

// Ready reports whether Redis answers and knows the lanes.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.lanes.Register(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// FormatTask is what asynq's UI shows as a task's payload; see [lanes.Lanes.Show].
func (c *Client) FormatTask(kind string, payload []byte) string { return c.lanes.Show(kind, payload) }

// Queues names the lanes, as asynq and its UI know them.
func Queues() []string { return lanes.Names() }

// misfit says what is wrong with what a caller handed over, and where.
func misfit(location, message string) error {
	return &payloads.InvalidError{Fields: []payloads.FieldError{{Location: location, Message: message}}}
}
