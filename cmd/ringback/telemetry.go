package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// telemetry is where a process's metrics and traces go.
type telemetry struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
	metrics http.Handler // what Prometheus scrapes
	closers []func(context.Context) error
}

// openTelemetry sets up metrics for Prometheus and, where the standard environment variables name an OTLP endpoint, traces.
// Without one no span is recorded and nothing is sent, but there are trace ids: a callback with trace gets its traceparent all the
// same, and it continues the producer's.
func openTelemetry(ctx context.Context, log *slog.Logger) (*telemetry, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.WarnContext(ctx, "telemetry", "error", oneLine(err.Error()))
	}))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	res, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", "ringback"), attribute.String("service.version", programVersion())))
	if err != nil {
		return nil, fmt.Errorf("describing this process to telemetry: %w", err)
	}
	t := &telemetry{}
	if err := t.openMetrics(res); err != nil {
		return nil, err
	}
	return t, t.openTraces(ctx, res)
}

func (t *telemetry) openMetrics(res *resource.Resource) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("setting up metrics: %w", err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter), sdkmetric.WithResource(res))
	t.meters, t.closers = provider, append(t.closers, provider.Shutdown)
	t.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return nil
}

func (t *telemetry) openTraces(ctx context.Context, res *resource.Resource) error {
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") == "" && os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" {
		t.tracers = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample()))
		return nil
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return fmt.Errorf("setting up traces: %w", err)
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(res))
	t.tracers, t.closers = provider, append(t.closers, provider.Shutdown)
	return nil
}

// close sends what was not sent yet, within ctx.
func (t *telemetry) close(ctx context.Context) error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c(ctx))
	}
	return errors.Join(errs...)
}
