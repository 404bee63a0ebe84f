package dispatcher

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/egress"
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

	TracerProvider trace.TracerProvider // default: otel's global one
	MeterProvider  metric.MeterProvider // default: otel's global one

	// Retention is how long an event is kept once none of its deliveries is unfinished or dead, and with it its event id and its
	// explanation. Whole seconds, at least a second; default 72 h.
	Retention time.Duration
	// Window is how many deliveries of one callback may be in the lanes at once; the others wait in its room. Default 1,000.
	// Tests make it small.
	Window int
	// WaitReplicas is how many replicas must hold an event before it counts as accepted (Redis WAIT, 1 s at most). Default 0.
	WaitReplicas int
	// ShedAt is the percentage of Redis's maxmemory from which on events are refused with [ErrOverloaded]. Default [DefaultShedAt].
	ShedAt int
}

// DefaultRetention is how long finished events are kept.
const DefaultRetention = 72 * time.Hour

// DefaultWindow is how many of a callback's deliveries may be in the lanes: enough to keep any one receiver busy, little enough that
// a blocked callback's tasks never stand in the way of others for long.
const DefaultWindow = 1000

// A Client accepts events and answers for what became of them. It is safe for concurrent use.
type Client struct {
	rdb       redis.UniversalClient
	registry  *registry.Registry
	egress    *egress.Client
	userAgent string
	log       *slog.Logger
	tracer    trace.Tracer
	metrics   *metrics
	asynq     *asynq.Client
	inspector *asynq.Inspector

	retention    string // seconds, as the scripts take it
	window       int
	waitReplicas int
	shedAt       int64 // percent
	memory       gauge
	trimmed      sync.Map          // company -> where in its log to go on trimming
	failpoint    func(name string) // tests stop here; nil otherwise
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
	case cfg.Window < 0, cfg.WaitReplicas < 0, cfg.ShedAt < 0:
		return nil, errors.New("dispatcher: Config.Window, Config.WaitReplicas and Config.ShedAt must not be negative")
	}
	c := &Client{
		rdb: cfg.Redis, registry: cfg.Registry, egress: cfg.Egress, log: cfg.Logger,
		userAgent:    defaulted(cfg.UserAgent, "Ringback"),
		asynq:        asynq.NewClientFromRedisClient(cfg.Redis),
		inspector:    asynq.NewInspectorFromRedisClient(cfg.Redis),
		retention:    strconv.FormatInt(int64(defaulted(cfg.Retention, DefaultRetention)/time.Second), 10),
		window:       defaulted(cfg.Window, DefaultWindow),
		waitReplicas: cfg.WaitReplicas,
		shedAt:       int64(defaulted(cfg.ShedAt, DefaultShedAt)),
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
	c.tracer = cfg.TracerProvider.Tracer(scope)
	var err error
	c.metrics, err = newMetrics(cfg.MeterProvider, c)
	return c, err
}

func defaulted[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// Close ends the Client's metrics. It leaves Redis open.
func (c *Client) Close() error { return c.metrics.close() }

// at is where a test may stop the process, between two steps of the crash story.
func (c *Client) at(name string) {
	if c.failpoint != nil {
		c.failpoint(name)
	}
}

// Send accepts an event. When it returns without error, Redis holds the event and a delivery for each callback that matches, and
// nothing but the partner's answer or the schedule's end will finish them. Without an event id it makes one up.
//
// Errors: *payloads.InvalidError if the event or its payload does not fit its type, [ErrEventConflict], [ErrOverloaded] if Redis is nearly full
// (a repeat of an event that was accepted is refused then as well), and [ErrUnavailable] if Redis
// did not answer, whereupon the event may or may not be accepted: repeat it with the same id, and it is accepted once.
func (c *Client) Send(ctx context.Context, e payloads.Event) (Receipt, error) {
	if e.ID == "" {
		e.ID = payloads.NewEventID(time.Now())
	}
	ctx, span := c.tracer.Start(ctx, "accept "+e.Type, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("ringback.company", e.Company), attribute.String("ringback.event.id", e.ID), attribute.String("ringback.event.type", e.Type)))
	defer span.End()
	receipt, err := c.send(ctx, e)
	if err != nil {
		span.RecordError(err)
		return Receipt{}, err
	}
	c.metrics.acceptedEvent(ctx, receipt)
	return receipt, nil
}

func (c *Client) send(ctx context.Context, e payloads.Event) (Receipt, error) {
	if err := e.Validate(); err != nil {
		return Receipt{}, err
	}
	typ, err := c.lookupType(ctx, e.Type)
	if err != nil {
		return Receipt{}, err
	}
	attrs, warnings, err := typ.Examine(e.Payload)
	if err != nil {
		return Receipt{}, err
	}
	if c.overloaded(ctx) {
		c.metrics.shed.Add(ctx, 1)
		return Receipt{}, ErrOverloaded
	}
	if err := c.registry.Touch(ctx, e.Company); err != nil {
		return Receipt{}, unavailable(ctx, c, "naming the company", err)
	}
	receipt, pending, err := c.accept(ctx, e, attrs)
	if err != nil {
		return Receipt{}, err
	}
	c.at("accepted")
	c.expand(ctx, receipt, pending)
	c.at("enqueued")
	receipt.Warnings = warnings
	return receipt, nil
}

// expand brings an event's deliveries to the lanes. Those that are held wait in their rooms, and need nothing.
func (c *Client) expand(ctx context.Context, r Receipt, pending []pendingTask) {
	ctx, span := c.tracer.Start(ctx, "expand "+r.EventType, trace.WithAttributes(
		attribute.String("ringback.event.id", r.EventID),
		attribute.Int("ringback.deliveries", len(r.Deliveries)), attribute.Int("ringback.deliveries.pending", len(pending))))
	defer span.End()
	c.enqueueAll(ctx, pending)
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
		Location: "body.event_type", Value: clip(name, 64),
		Message: "unknown event type; known are " + c.registry.Types().Current().Names(),
	}}}
}

// unavailable logs what Redis said and tells the caller no more than that it failed: the text may hold keys.
func unavailable(ctx context.Context, c *Client, doing string, err error) error {
	c.log.ErrorContext(ctx, "redis failed", "doing", doing, "error", err)
	return fmt.Errorf("%w (%s)", ErrUnavailable, doing)
}

// accept matches and runs the accepting script until both speak of the same registry version: an event that is accepted after a
// registration returned cannot miss it.
func (c *Client) accept(ctx context.Context, e payloads.Event, attrs map[string]string) (Receipt, []pendingTask, error) {
	var atLeast int64
	for {
		if atLeast > 0 {
			if err := c.registry.Refresh(ctx, e.Company, atLeast); err != nil {
				return Receipt{}, nil, unavailable(ctx, c, "reading the callbacks", err)
			}
		}
		version, matched, err := c.registry.Match(ctx, e.Company, e.Type, attrs, time.Now())
		if err != nil {
			return Receipt{}, nil, unavailable(ctx, c, "matching the callbacks", err)
		}
		answer, err := c.runAccept(ctx, e, version, matched)
		if err != nil {
			return Receipt{}, nil, unavailable(ctx, c, "accepting the event", err)
		}
		switch answer[0] {
		case "version":
			if atLeast, err = strconv.ParseInt(answer[1], 10, 64); err != nil {
				return Receipt{}, nil, unavailable(ctx, c, "reading the registry's version", err)
			}
		case "exists":
			return c.duplicate(e, answer[1:])
		default:
			receipt, pending := c.accepted(e, answer[1], answer[2], matched)
			return receipt, pending, nil
		}
		if err := ctx.Err(); err != nil {
			return Receipt{}, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
}

func (c *Client) runAccept(ctx context.Context, e payloads.Event, version int64, matched []*registry.Callback) ([]string, error) {
	m, err := json.Marshal(newMeta(ctx, e, version))
	if err != nil {
		return nil, err
	}
	keys := []string{keyOf(e.Company, "due")}
	args := make([]any, 0, 6+len(matched))
	args = append(args, e.ID, version, m, []byte(e.Payload), c.window, c.retention)
	for _, cb := range matched {
		args = append(args, cb.ID)
	}
	if c.waitReplicas == 0 {
		v, err := acceptScript.Run(ctx, c.rdb, keys, args...).Result()
		return strs(v), err
	}
	return c.acceptReplicated(ctx, keys, args)
}

// acceptReplicated accepts and waits for replicas on the same connection, as WAIT demands.
func (c *Client) acceptReplicated(ctx context.Context, keys []string, args []any) ([]string, error) {
	var answer *redis.Cmd
	var replicas *redis.IntCmd
	_, err := c.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		answer = acceptScript.Eval(ctx, p, keys, args...)
		replicas = redis.NewIntCmd(ctx, "wait", c.waitReplicas, time.Second.Milliseconds())
		return p.Process(ctx, replicas)
	})
	if err != nil {
		return nil, err
	}
	if n := replicas.Val(); n < int64(c.waitReplicas) {
		return nil, fmt.Errorf("%d of %d replicas confirmed", n, c.waitReplicas)
	}
	v, err := answer.Result()
	return strs(v), err
}

func newMeta(ctx context.Context, e payloads.Event, version int64) meta {
	m := meta{Type: e.Type, Content: contentHash(e), Version: version}
	if !e.OccurredAt.IsZero() {
		m.Occurred = e.OccurredAt.UnixMilli()
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	m.TraceParent = carrier["traceparent"]
	return m
}

// contentHash tells whether two events are the same: type and payload bytes.
func contentHash(e payloads.Event) string {
	h := sha256.New()
	h.Write([]byte(e.Type))
	h.Write([]byte{0})
	h.Write(e.Payload)
	return base64.RawStdEncoding.EncodeToString(h.Sum(nil)[:16])
}

func (c *Client) accepted(e payloads.Event, logID, held string, matched []*registry.Callback) (Receipt, []pendingTask) {
	receipt, states := newReceipt(e, logID, false), firstStates(held)
	var pending []pendingTask
	for _, cb := range matched {
		r := ref{e.Company, e.ID, cb.ID}
		state := states(cb.ID)
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.deliveryID(), cb.ID, state})
		if state == Pending {
			pending = append(pending, pendingTask{r, 1})
		}
	}
	return receipt, pending
}

// duplicate gives the first answer again. Whatever of it is still pending is enqueued again, in case the first caller died before that.
func (c *Client) duplicate(e payloads.Event, answer []string) (Receipt, []pendingTask, error) {
	var m meta
	if err := json.Unmarshal([]byte(answer[0]), &m); err != nil {
		return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, errBadRecord)
	}
	if m.Content != contentHash(e) {
		return Receipt{}, nil, ErrEventConflict
	}
	receipt, states := newReceipt(e, answer[1], true), firstStates(answer[2])
	var pending []pendingTask
	for i := 3; i+1 < len(answer); i += 2 {
		id, err := strconv.ParseInt(answer[i], 10, 64)
		if err != nil {
			return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, errBadRecord)
		}
		rec, err := parseRecord(answer[i+1])
		if err != nil {
			return Receipt{}, nil, fmt.Errorf("event %s: %w", e.ID, err)
		}
		r := ref{e.Company, e.ID, id}
		receipt.Deliveries = append(receipt.Deliveries, Accepted{r.deliveryID(), id, states(id)})
		if rec.state == 'P' {
			pending = append(pending, pendingTask{r, rec.generation})
		}
	}
	slices.SortFunc(receipt.Deliveries, func(a, b Accepted) int { return int(a.CallbackID - b.CallbackID) })
	return receipt, pending, nil
}

// firstStates says how deliveries stood when their event was accepted: held is the list of those that were.
func firstStates(held string) func(callback int64) State {
	ids := make(map[string]bool)
	for id := range strings.SplitSeq(held, ",") {
		ids[id] = true
	}
	return func(callback int64) State {
		if ids[strconv.FormatInt(callback, 10)] {
			return Held
		}
		return Pending
	}
}

func newReceipt(e payloads.Event, logID string, duplicate bool) Receipt {
	return Receipt{
		EventID: e.ID, EventType: e.Type, AcceptedAt: logTime(logID), Deliveries: []Accepted{}, Duplicate: duplicate,
	}
}

// logTime is when Redis put an entry into the log, in its own clock: the event's accepted_at.
func logTime(logID string) time.Time {
	ms, _, _ := strings.Cut(logID, "-")
	n, _ := strconv.ParseInt(ms, 10, 64)
	return fromMS(n)
}

// Ready reports whether Redis answers and knows the lanes.
func (c *Client) Ready(ctx context.Context) error {
	if err := c.registerQueues(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// registerQueues names the lanes to asynq's UI and Inspector. asynq does so once per process, which a Redis that lost its data outlives.
func (c *Client) registerQueues(ctx context.Context) error {
	return c.rdb.SAdd(ctx, "asynq:queues", queues).Err()
}
