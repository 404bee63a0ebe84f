package dispatcher

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// traced puts the event's trace, which began where it was accepted, into ctx.
func (a *attempt) traced(ctx context.Context) context.Context {
	if a.meta.TraceParent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": a.meta.TraceParent})
}

func (a *attempt) spanOptions() []trace.SpanStartOption {
	return []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
		attribute.String("ringback.company", a.ref.Company),
		attribute.String("ringback.event.id", a.ref.Event),
		attribute.String("ringback.event.type", a.meta.Type),
		attribute.Int64("ringback.callback.id", a.ref.Callback),
		attribute.String("ringback.delivery.id", a.id()),
		attribute.Int("ringback.attempt", a.number),
	)}
}

// A reporter tells log, metrics and traces of attempts.
type reporter struct {
	log     *slog.Logger
	metrics *metrics
	minutes *minutes

	expiries *expiries
	file     func(ctx context.Context, company string, callback int64, c *registry.Certificate) error // files a certificate that expires soon
}

// report tells metrics, log and trace of a delivery's attempt: one line each. state is the delivery's now.
func (r *reporter) report(ctx context.Context, span trace.Span, a *claim, d settled, state ledger.State) {
	if state == "" || a.callback == nil {
		return
	}
	r.metrics.attempted(ctx, d.Verdict, d.written.Unmasked().Reason, d.took)
	delivered := len(d.taken) // of a batch, some
	if d.Verdict == verdict.Delivered {
		delivered = a.events()
	} else {
		r.minutes.failed()
	}
	lag := max(0, time.Since(a.accepted))
	for range delivered {
		r.metrics.delivered(ctx, lag)
		r.minutes.delivered(a.number, lag)
	}
	if state == ledger.Retrying {
		r.tell(ctx, span, "attempt", &a.attempt, d.sent, d.written, "next_in", d.wait.Round(time.Second).String())
	} else {
		r.tell(ctx, span, "attempt", &a.attempt, d.sent, d.written)
	}
}

// tell writes what came of a request into its span and, as one line, into the log.
func (r *reporter) tell(ctx context.Context, span trace.Span, line string, a *attempt, s sent, written ledger.Entry, more ...any) {
	reason := string(written.Unmasked().Reason)
	if s.Verdict != verdict.Delivered {
		span.SetStatus(codes.Error, reason)
	}
	status := 0
	if s.response != nil {
		status = s.response.Status
		span.SetAttributes(attribute.Int("http.response.status_code", status))
	}
	s.phases(span)
	sentence := a.sentence(written)
	span.SetAttributes(attribute.String("ringback.verdict", string(s.Verdict)), attribute.String("ringback.reason", reason),
		attribute.String("ringback.detail", sentence))
	args := []any{
		"company", a.ref.Company, "event", a.ref.Event, "type", a.meta.Type, "callback", a.ref.Callback, "delivery", a.id(),
		"attempt", a.number, "verdict", string(s.Verdict), "reason", reason, "status", status,
		"took", s.took.Round(time.Microsecond).String(), "detail", sentence,
	}
	args = append(args, more...)
	if sc := span.SpanContext(); sc.HasTraceID() {
		args = append(args, "trace_id", sc.TraceID().String())
	}
	r.log.InfoContext(ctx, line, args...)
	r.tellExpiry(ctx, a)
}

// tellExpiry tells of a callback's client certificate that expires soon: the metrics at each attempt, and the log once a stage.
func (r *reporter) tellExpiry(ctx context.Context, a *attempt) {
	if a.callback == nil || a.callback.Handshake() == nil {
		return
	}
	certificate, now := a.callback.Handshake().Certificate(), time.Now()
	if certificate == nil {
		return
	}
	stage, near := expiryStageOf(certificate.NotAfter.Sub(now))
	if !near {
		return
	}
	r.metrics.expiring(ctx, stage.String())
	if r.expiries.first(fmt.Sprintf("%s/%d %s %s", a.ref.Company, a.ref.Callback, certificate.Fingerprint, stage)) {
		r.log.LogAttrs(ctx, slog.LevelWarn, "a callback's client certificate "+certificate.Lives(now),
			slog.String("company", a.ref.Company), slog.Int64("callback", a.ref.Callback), slog.String("within", stage.String()),
			slog.Time("not_after", certificate.NotAfter), slog.String("fingerprint", certificate.Fingerprint))
		owner := a.ref.Callback
		if a.callback.Certificate() == nil {
			owner = 0 // it is the company's
		}
		if err := r.file(ctx, a.ref.Company, owner, certificate); err != nil { // Redis may have lost that it was
			r.log.WarnContext(ctx, "a client certificate was not filed again", "company", a.ref.Company, "callback", a.ref.Callback, "error", err)
		}
	}
}

// phases writes the phases of the request into its span, as events at their ends: which of them took the time. A kept connection has only
// the last. They are measured one by one; what lies between them (waiting for a free connection, writing the request) is left out.
func (s *sent) phases(span trace.Span) {
	at := s.at
	for _, phase := range []struct {
		name string
		took time.Duration
	}{
		{"dns.done", s.timing.DNS}, {"connect.done", s.timing.Connect}, {"tls.done", s.timing.TLS}, {"first_byte", s.timing.FirstByte},
	} {
		if phase.took <= 0 {
			continue
		}
		at = at.Add(phase.took)
		span.AddEvent(phase.name, trace.WithTimestamp(at), trace.WithAttributes(
			attribute.Float64("ringback.duration_ms", float64(phase.took)/float64(time.Millisecond))))
	}
}
