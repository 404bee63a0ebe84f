package dispatcher

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// scope names Ringback's instruments and spans.
const scope = "github.com/ringback/ringback/dispatcher"

// metrics are the engine's instruments. Labels are bounded: no URL, company or callback is ever one.
type metrics struct {
	accepted metric.Int64Counter
	shed     metric.Int64Counter
	pruned   metric.Int64Counter
	attempts metric.Int64Counter
	duration metric.Float64Histogram
	lag      metric.Float64Histogram
	decision metric.Float64Histogram
	warnings metric.Int64Counter
	disabled metric.Int64Counter
	panics   metric.Int64Counter
	observed metric.Registration
}

var (
	durationBuckets = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60)
	lagBuckets      = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60, 300, 1800, 7200, 43200, 259200)
)

func newMetrics(provider metric.MeterProvider, c *Client) (*metrics, error) {
	m := &metrics{}
	meter := provider.Meter(scope)
	var laneDepth, laneWaiting, roomDepth, dead, breakers, expiring metric.Int64ObservableGauge
	var buried metric.Int64ObservableCounter
	var callbacks, used, limit, paused, outage metric.Int64ObservableGauge
	var oldest, drift, roomAge metric.Float64ObservableGauge
	for _, make := range []func() (err error){
		func() (err error) {
			m.accepted, err = meter.Int64Counter("ringback.events.accepted", metric.WithUnit("{event}"),
				metric.WithDescription("Events accepted, by whether they were known already."))
			return err
		},
		func() (err error) {
			m.shed, err = meter.Int64Counter("ringback.events.shed", metric.WithUnit("{event}"),
				metric.WithDescription("Events refused because Redis was nearly full."))
			return err
		},
		func() (err error) {
			m.attempts, err = meter.Int64Counter("ringback.attempts", metric.WithUnit("{attempt}"),
				metric.WithDescription("Attempts, by verdict and reason."))
			return err
		},
		func() (err error) {
			m.decision, err = meter.Float64Histogram("ringback.decision.duration", metric.WithUnit("s"), durationBuckets,
				metric.WithDescription("How long a partner took to decide, or not to, by verdict and reason."))
			return err
		},
		func() (err error) {
			m.duration, err = meter.Float64Histogram("ringback.attempt.duration", metric.WithUnit("s"), durationBuckets,
				metric.WithDescription("How long an attempt took, from signing to the end of the answer."))
			return err
		},
		func() (err error) {
			m.lag, err = meter.Float64Histogram("ringback.delivery.lag", metric.WithUnit("s"), lagBuckets,
				metric.WithDescription("From an event's acceptance to its delivery, retries and waiting included."))
			return err
		},
		func() (err error) {
			m.warnings, err = meter.Int64Counter("ringback.callbacks.warnings", metric.WithUnit("{warning}"),
				metric.WithDescription("Callbacks that were found failing, by percent of the time after which they are disabled."))
			return err
		},
		func() (err error) {
			m.disabled, err = meter.Int64Counter("ringback.callbacks.disabled", metric.WithUnit("{callback}"),
				metric.WithDescription("Callbacks that were disabled, by reason."))
			return err
		},
		func() (err error) {
			m.panics, err = meter.Int64Counter("ringback.panics", metric.WithUnit("{panic}"),
				metric.WithDescription("Panics that were caught, by place: faults in Ringback itself."))
			return err
		},
		func() (err error) {
			paused, err = meter.Int64ObservableGauge("ringback.egress.paused",
				metric.WithDescription("1 while an operator has paused everything that goes out."))
			return err
		},
		func() (err error) {
			outage, err = meter.Int64ObservableGauge("ringback.egress.outage",
				metric.WithDescription("1 while most destinations that this process tries cannot be reached."))
			return err
		},
		func() (err error) {
			laneDepth, err = meter.Int64ObservableGauge("ringback.lane.tasks", metric.WithUnit("{task}"),
				metric.WithDescription("Tasks in asynq's queues, by lane and asynq's state."))
			return err
		},
		func() (err error) {
			laneWaiting, err = meter.Int64ObservableGauge("ringback.lane.waiting", metric.WithUnit("{task}"),
				metric.WithDescription("Tasks that wait in this process to come into a lane."))
			return err
		},
		func() (err error) {
			roomDepth, err = meter.Int64ObservableGauge("ringback.room.deliveries", metric.WithUnit("{delivery}"),
				metric.WithDescription("Deliveries held in callbacks' rooms."))
			return err
		},
		func() (err error) {
			roomAge, err = meter.Float64ObservableGauge("ringback.room.oldest.age", metric.WithUnit("s"),
				metric.WithDescription("How long ago the oldest of the deliveries held in rooms was accepted."))
			return err
		},
		func() (err error) {
			breakers, err = meter.Int64ObservableGauge("ringback.breakers", metric.WithUnit("{callback}"),
				metric.WithDescription("Callbacks with deliveries in their rooms whose breaker is not closed, by its state."))
			return err
		},
		func() (err error) {
			dead, err = meter.Int64ObservableGauge("ringback.dead_letters", metric.WithUnit("{delivery}"),
				metric.WithDescription("Deliveries in the dead-letter book."))
			return err
		},
		func() (err error) {
			expiring, err = meter.Int64ObservableGauge("ringback.dead_letters.expiring", metric.WithUnit("{delivery}"),
				metric.WithDescription("Deliveries in the dead-letter book that will be pruned within the next tenth of the time they are kept."))
			return err
		},
		func() (err error) {
			m.pruned, err = meter.Int64Counter("ringback.dead_letters.pruned", metric.WithUnit("{delivery}"),
				metric.WithDescription("Deliveries that left the dead-letter book because they had been in it for too long."))
			return err
		},
		func() (err error) {
			buried, err = meter.Int64ObservableCounter("ringback.deliveries.buried", metric.WithUnit("{delivery}"),
				metric.WithDescription("Held deliveries that were given up without another attempt, by reason, as Redis counts them."))
			return err
		},
		func() (err error) {
			oldest, err = meter.Float64ObservableGauge("ringback.oldest_due.age", metric.WithUnit("s"),
				metric.WithDescription("How long the delivery that is most overdue has waited for its attempt."))
			return err
		},
		func() (err error) {
			callbacks, err = meter.Int64ObservableGauge("ringback.callbacks", metric.WithUnit("{callback}"),
				metric.WithDescription("Callbacks, by status."))
			return err
		},
		func() (err error) {
			drift, err = meter.Float64ObservableGauge("ringback.clock.drift", metric.WithUnit("s"),
				metric.WithDescription("How far this process's clock is ahead of Redis's; webhook-timestamp is by this one, the schedule by that."))
			return err
		},
		func() (err error) {
			used, err = meter.Int64ObservableGauge("ringback.redis.memory.used", metric.WithUnit("By"),
				metric.WithDescription("Redis's memory in use."))
			return err
		},
		func() (err error) {
			limit, err = meter.Int64ObservableGauge("ringback.redis.memory.limit", metric.WithUnit("By"),
				metric.WithDescription("Redis's maxmemory; 0 if none is set."))
			return err
		},
		func() (err error) {
			g := gauges{laneDepth, laneWaiting, roomDepth, dead, breakers, expiring, buried, callbacks, used, limit, paused, outage, oldest, drift, roomAge}
			m.observed, err = meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
				return c.contain(ctx, placeMetrics, func() error { return c.observe(ctx, o, g) })
			}, laneDepth, laneWaiting, roomDepth, dead, breakers, expiring, buried, callbacks, used, limit, paused, outage, oldest, drift, roomAge)
			return err
		},
	} {
		if err := make(); err != nil {
			return nil, err
		}
	}
	m.startAtZero(context.Background())
	return m, nil
}

// startAtZero makes the counters appear before there is anything to count, so that rates and alerts know them from the start.
func (m *metrics) startAtZero(ctx context.Context) {
	m.shed.Add(ctx, 0)
	m.pruned.Add(ctx, 0)
	for _, level := range []int{50, 70, 90} {
		m.warnings.Add(ctx, 0, metric.WithAttributes(attribute.Int("level", level)))
	}
	for _, reason := range []string{"failing", "gone"} {
		m.disabled.Add(ctx, 0, metric.WithAttributes(attribute.String("reason", reason)))
	}
	for _, place := range places {
		m.panics.Add(ctx, 0, metric.WithAttributes(attribute.String("place", place)))
	}
	for _, duplicate := range []bool{false, true} {
		m.accepted.Add(ctx, 0, metric.WithAttributes(attribute.Bool("duplicate", duplicate)))
	}
}

func (m *metrics) close() error { return m.observed.Unregister() }

func (m *metrics) acceptedEvent(ctx context.Context, r Receipt) {
	m.accepted.Add(ctx, 1, metric.WithAttributes(attribute.Bool("duplicate", r.Duplicate)))
}

func (m *metrics) attempted(ctx context.Context, v Verdict, reason Reason, took time.Duration) {
	label := attribute.String("verdict", string(v))
	m.attempts.Add(ctx, 1, metric.WithAttributes(label, attribute.String("reason", reasonLabel(reason))))
	m.duration.Record(ctx, took.Seconds(), metric.WithAttributes(label))
}

func (m *metrics) asked(ctx context.Context, v Verdict, reason Reason, took time.Duration) {
	m.decision.Record(ctx, took.Seconds(), metric.WithAttributes(attribute.String("verdict", string(v)), attribute.String("reason", reasonLabel(reason))))
}

func (m *metrics) warned(ctx context.Context, percent int) {
	m.warnings.Add(ctx, 1, metric.WithAttributes(attribute.Int("level", percent)))
}

func (m *metrics) disabledCallback(ctx context.Context, reason string) {
	m.disabled.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) delivered(ctx context.Context, lag time.Duration) { m.lag.Record(ctx, lag.Seconds()) }

// reasonLabel bounds the label: a stranger chooses the status code.
func reasonLabel(r Reason) string {
	if code, ok := strings.CutPrefix(string(r), "status_"); ok {
		if n, err := strconv.Atoi(code); err != nil || http.StatusText(n) == "" {
			return "status_other"
		}
	}
	return string(r)
}

// gauges are the instruments that are read from Redis when metrics are scraped.
type gauges struct {
	laneDepth, laneWaiting, roomDepth, dead, breakers, expiring, buried, callbacks, used, limit, paused, outage metric.Int64Observable
	oldest, drift, roomAge                                                                                      metric.Float64Observable
}

func (c *Client) observe(ctx context.Context, o metric.Observer, g gauges) error {
	o.ObserveInt64(g.outage, oneIf(c.outage.under(ctx)))
	since, err := c.lanes.Paused(ctx)
	if err != nil {
		return err
	}
	o.ObserveInt64(g.paused, oneIf(egressOf(since).Status == EgressPaused))
	var age time.Duration
	depths, err := c.lanes.Depths()
	if err != nil {
		return err
	}
	for _, d := range depths {
		age = max(age, d.Oldest)
		lane := attribute.String("lane", d.Lane)
		o.ObserveInt64(g.laneWaiting, int64(d.Waiting), metric.WithAttributes(lane))
		for state, n := range d.Tasks {
			o.ObserveInt64(g.laneDepth, int64(n), metric.WithAttributes(lane, attribute.String("state", state)))
		}
	}
	asked := time.Now()
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	o.ObserveFloat64(g.drift, asked.Add(time.Since(asked)/2).Sub(now).Seconds())
	companies, err := c.registry.Companies(ctx)
	if err != nil {
		return err
	}
	var held, letters, expiring int64
	var heldFor time.Duration
	breakers := map[Breaker]int64{BreakerOpen: 0, BreakerHalfOpen: 0}
	buried := map[Reason]int64{verdict.ReasonHoldFull: 0, verdict.ReasonHoldExpired: 0}
	statuses := map[registry.Status]int64{registry.Enabled: 0, registry.Paused: 0, registry.Disabled: 0, registry.Unverified: 0}
	for _, company := range companies {
		d, err := c.ledger.Depths(ctx, company)
		if err != nil {
			return err
		}
		held, letters, expiring = held+d.Held, letters+d.Dead, expiring+d.Expiring
		breakers[BreakerOpen] += d.Open
		breakers[BreakerHalfOpen] += d.HalfOpen
		if !d.Oldest.IsZero() {
			heldFor = max(heldFor, now.Sub(d.Oldest))
		}
		addBuried(buried, d.Buried)
		if !d.Due.IsZero() {
			age = max(age, now.Sub(d.Due))
		}
		if err := c.registry.CountStatuses(ctx, company, statuses); err != nil {
			return err
		}
	}
	erased, err := c.ledger.BuriedOfErased(ctx)
	if err != nil {
		return err
	}
	addBuried(buried, erased)
	if m, err := c.readMemory(ctx); err == nil && m.used > 0 {
		o.ObserveInt64(g.used, m.used)
		o.ObserveInt64(g.limit, m.limit)
	}
	for status, n := range statuses {
		o.ObserveInt64(g.callbacks, n, metric.WithAttributes(attribute.String("status", string(status))))
	}
	for state, n := range breakers {
		o.ObserveInt64(g.breakers, n, metric.WithAttributes(attribute.String("state", string(state))))
	}
	o.ObserveInt64(g.roomDepth, held)
	o.ObserveFloat64(g.roomAge, heldFor.Seconds())
	o.ObserveInt64(g.dead, letters)
	o.ObserveInt64(g.expiring, expiring)
	for reason, n := range buried {
		o.ObserveInt64(g.buried, n, metric.WithAttributes(attribute.String("reason", string(reason))))
	}
	o.ObserveFloat64(g.oldest, age.Seconds())
	return nil
}

func addBuried(sum map[Reason]int64, counts map[string]int64) {
	for reason, n := range counts {
		sum[Reason(reason)] += n
	}
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
