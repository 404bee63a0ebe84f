package dispatcher

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
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
	expiry   metric.Int64Counter
	panics   metric.Int64Counter
	dropped  metric.Int64Counter
}

var (
	durationBuckets = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15, 30, 60)
	lagBuckets      = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .1, .25, .5, 1, 5, 15, 60, 300, 1800, 7200, 43200, 259200)
)

// A maker makes instruments, and keeps the first error of that.
type maker struct {
	meter metric.Meter
	err   error
}

func made[T any](k *maker, instrument T, err error) T {
	if k.err == nil {
		k.err = err
	}
	return instrument
}

func (k *maker) counter(name, unit, what string) metric.Int64Counter {
	c, err := k.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
	return made(k, c, err)
}

func (k *maker) histogram(name, what string, buckets metric.HistogramOption) metric.Float64Histogram {
	h, err := k.meter.Float64Histogram(name, metric.WithUnit("s"), buckets, metric.WithDescription(what))
	return made(k, h, err)
}

func (k *maker) gauge(name, unit, what string) metric.Int64Observable {
	g, err := k.meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	return made[metric.Int64Observable](k, g, err)
}

func (k *maker) floatGauge(name, unit, what string) metric.Float64Observable {
	g, err := k.meter.Float64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
	return made[metric.Float64Observable](k, g, err)
}

func (k *maker) observableCounter(name, unit, what string) metric.Int64Observable {
	c, err := k.meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(what))
	return made[metric.Int64Observable](k, c, err)
}

func newMetrics(meter metric.Meter) (*metrics, error) {
	k := &maker{meter: meter}
	m := &metrics{
		accepted: k.counter("ringback.events.accepted", "{event}", "Events accepted, by whether they were known already."),
		shed:     k.counter("ringback.events.shed", "{event}", "Events refused because Redis was nearly full."),
		attempts: k.counter("ringback.attempts", "{attempt}", "Attempts, by verdict and reason."),
		decision: k.histogram("ringback.decision.duration", "How long a partner took to decide, or not to, by verdict and reason.", durationBuckets),
		duration: k.histogram("ringback.attempt.duration", "How long an attempt took, from signing to the end of the answer.", durationBuckets),
		lag:      k.histogram("ringback.delivery.lag", "From an event's acceptance to its delivery, retries and waiting included.", lagBuckets),
		warnings: k.counter("ringback.callbacks.warnings", "{warning}", "Callbacks that were found failing, by percent of the time after which they are disabled."),
		disabled: k.counter("ringback.callbacks.disabled", "{callback}", "Callbacks that were disabled, by reason."),
		expiry:   k.counter("ringback.attempts.expiring_certificate", "{attempt}", "Attempts under a client certificate that expires soon, by within how many days."),
		panics:   k.counter("ringback.panics", "{panic}", "Panics that were caught, by place: faults in Ringback itself."),
		dropped:  k.counter("ringback.streams.dropped", "{message}", "Changes of deliveries that were not told to who watches, for too many waited: the stream says that there is a gap."),
		pruned:   k.counter("ringback.dead_letters.pruned", "{delivery}", "Deliveries that left the dead-letter book because they had been in it for too long."),
	}
	if k.err != nil {
		return nil, k.err
	}
	m.startAtZero(context.Background())
	return m, nil
}

// startAtZero makes the counters appear before there is anything to count, so that rates and alerts know them from the start.
func (m *metrics) startAtZero(ctx context.Context) {
	m.shed.Add(ctx, 0)
	m.pruned.Add(ctx, 0)
	m.dropped.Add(ctx, 0)
	for _, level := range ledger.Warnings() {
		m.warnings.Add(ctx, 0, metric.WithAttributes(attribute.Int("level", level)))
	}
	for _, reason := range []string{"failing", "gone"} {
		m.disabled.Add(ctx, 0, metric.WithAttributes(attribute.String("reason", reason)))
	}
	for _, stage := range expiryStages {
		m.expiry.Add(ctx, 0, metric.WithAttributes(attribute.String("within", stage.String())))
	}
	for _, place := range places {
		m.panics.Add(ctx, 0, metric.WithAttributes(attribute.String("place", place)))
	}
	for _, duplicate := range []bool{false, true} {
		m.accepted.Add(ctx, 0, metric.WithAttributes(attribute.Bool("duplicate", duplicate)))
	}
}

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

func (m *metrics) expiring(ctx context.Context, within string) {
	m.expiry.Add(ctx, 1, metric.WithAttributes(attribute.String("within", within)))
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
