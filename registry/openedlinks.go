package registry

import (
	"context"
	"fmt"

	labels "go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// openings are what comes of the portal links that somebody wants to open, as redeemLink says it.
var openings = []string{"opened", "used", "expired", "unknown"}

// openedLinks counts them. The zero value counts nothing.
type openedLinks struct{ count metric.Int64Counter }

func newOpenedLinks(provider metric.MeterProvider) (openedLinks, error) {
	count, err := provider.Meter("github.com/ringback/ringback/registry").Int64Counter("ringback.portal_links.opened", metric.WithUnit("{link}"),
		metric.WithDescription("Portal links that somebody opened, or wanted to, by outcome."))
	if err != nil {
		return openedLinks{}, fmt.Errorf("registry: count portal links: %w", err)
	}
	o := openedLinks{count}
	for _, outcome := range openings { // so that rates know them from the start
		o.add(context.Background(), outcome, 0)
	}
	return o, nil
}

func (o openedLinks) add(ctx context.Context, outcome string, n int64) {
	if o.count != nil {
		o.count.Add(ctx, n, metric.WithAttributes(labels.String("outcome", outcome)))
	}
}
