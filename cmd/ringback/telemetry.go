package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprometheus "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher"
)

// telemetry is where a process's metrics and traces go.
type telemetry struct {
	meters  metric.MeterProvider
	tracers trace.TracerProvider
	metrics http.Handler // what Prometheus scrapes
	closers []func(context.Context) error
}

// openTelemetry sets up metrics for Prometheus and, where OpenTelemetry's standard environment variables name an OTLP endpoint, sends traces
// and metrics there. Without one nothing is sent, but there are trace ids: a callback with trace gets its traceparent all the same, and it
// continues the producer's. A variable that asks for what this program cannot do is a usage error.
func openTelemetry(ctx context.Context, log *slog.Logger) (*telemetry, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		log.WarnContext(ctx, "telemetry", "error", dispatcher.Telling(err.Error()))
	}))
	otel.SetTextMapPropagator(propagation.TraceContext{})
	// The later ones win: OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES over our own name. The service's instance id, a new one for each
	// process, keeps the metrics of several processes apart where they are pushed.
	res, err := resource.New(ctx, resource.WithTelemetrySDK(), resource.WithService(), resource.WithAttributes(
		attribute.String("service.name", "ringback"), attribute.String("service.version", programVersion())), resource.WithFromEnv())
	if errors.Is(err, resource.ErrPartialResource) { // OTEL_RESOURCE_ATTRIBUTES is not name=value,name=value
		log.WarnContext(ctx, "telemetry", "error", oneLine(err.Error()))
	} else if err != nil {
		return nil, fmt.Errorf("describing this process to telemetry: %w", err)
	}
	t := &telemetry{}
	if err := t.openMetrics(ctx, res); err != nil {
		return nil, err
	}
	if err := t.openTraces(ctx, res); err != nil {
		return nil, errors.Join(err, t.close(ctx))
	}
	return t, nil
}

// pushed reports whether a signal (TRACES or METRICS) goes out by OTLP: an endpoint is named for it or for all signals, and no variable
// says otherwise. The names are OpenTelemetry's (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/);
// values are not repeated in errors, since a URL may hold a password.
func pushed(signal string) (bool, error) {
	setting := func(name string) (variable, value string) {
		for _, variable = range []string{"OTEL_EXPORTER_OTLP_" + signal + "_" + name, "OTEL_EXPORTER_OTLP_" + name} {
			if value = os.Getenv(variable); value != "" {
				break
			}
		}
		return variable, value
	}
	variable, endpoint := setting("ENDPOINT")
	if endpoint == "" || strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true") {
		return false, nil
	}
	wanted := false
	for exporter := range strings.SplitSeq(cmp.Or(os.Getenv("OTEL_"+signal+"_EXPORTER"), "otlp"), ",") {
		switch exporter = strings.TrimSpace(exporter); {
		case exporter == "otlp":
			wanted = true
		case exporter == "none", exporter == "prometheus" && signal == "METRICS": // which /metrics is
		default:
			return false, usagef("OTEL_%s_EXPORTER must be otlp or none: Ringback has no other exporter", signal)
		}
	}
	if !wanted {
		return false, nil
	}
	if u, err := url.Parse(endpoint); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return false, usagef("%s must be a URL such as http://127.0.0.1:4318", variable)
	}
	if variable, protocol := setting("PROTOCOL"); protocol != "" && protocol != "http/protobuf" {
		return false, usagef("%s must be http/protobuf, the only one Ringback speaks (collectors take it on port 4318), or not be set", variable)
	}
	return true, nil
}

func (t *telemetry) openMetrics(ctx context.Context, res *resource.Resource) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	exporter, err := otelprometheus.New(otelprometheus.WithRegisterer(registry), otelprometheus.WithoutScopeInfo())
	if err != nil {
		return fmt.Errorf("setting up metrics: %w", err)
	}
	options := []sdkmetric.Option{sdkmetric.WithReader(exporter), sdkmetric.WithResource(res), sdkmetric.WithView(boundRequests, dropBodySizes)}
	push, err := pushed("METRICS")
	if err != nil {
		return err
	}
	if push {
		sender, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return fmt.Errorf("setting up metrics: %w", err)
		}
		options = append(options, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(sender)))
	}
	provider := sdkmetric.NewMeterProvider(options...)
	t.meters, t.closers = provider, append(t.closers, provider.Shutdown)
	t.metrics = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true}) // the only format with exemplars
	return nil
}

func (t *telemetry) openTraces(ctx context.Context, res *resource.Resource) error {
	push, err := pushed("TRACES")
	if err != nil {
		return err
	}
	if !push {
		t.tracers = sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.NeverSample()))) // a producer's decision is passed on
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

// The measurements of the API's requests: how long they took, by method, route and status. The conventions' other attributes are left out, such as
// the Host that a stranger names, and so are the sizes of bodies.
var (
	boundRequests = sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.duration"}, sdkmetric.Stream{
		AttributeFilter: attribute.NewAllowKeysFilter("http.request.method", "http.route", "http.response.status_code"),
	})
	dropBodySizes = sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*.body.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}})
)

// close sends what was not sent yet, within ctx.
func (t *telemetry) close(ctx context.Context) error {
	var errs []error
	for _, c := range t.closers {
		errs = append(errs, c(ctx))
	}
	return errors.Join(errs...)
}
