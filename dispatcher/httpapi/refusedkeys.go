package httpapi

import (
	"context"
	"errors"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// refusedKeys counts the API keys that were presented in vain, in headers and login forms. The zero value counts nothing.
type refusedKeys struct{ count metric.Int64Counter }

// whyRefused are the values of the label reason.
var whyRefused = struct{ unknown, expired, heldBack attribute.KeyValue }{
	attribute.String("reason", "unknown"), attribute.String("reason", "expired"), attribute.String("reason", "held_back"),
}

func newRefusedKeys(provider metric.MeterProvider) (refusedKeys, error) {
	count, err := provider.Meter("github.com/ringback/ringback/dispatcher/httpapi").Int64Counter("ringback.keys.refused", metric.WithUnit("{request}"),
		metric.WithDescription("Requests and logins whose API key was refused, by reason."))
	if err != nil {
		return refusedKeys{}, err
	}
	for _, reason := range []attribute.KeyValue{whyRefused.unknown, whyRefused.expired, whyRefused.heldBack} { // so that rates know them from the start
		count.Add(context.Background(), 0, metric.WithAttributes(reason))
	}
	return refusedKeys{count}, nil
}

// note counts the refusal of a key.
func (k refusedKeys) note(ctx context.Context, err error) {
	e, ok := errors.AsType[*refusal](err)
	switch {
	case !ok:
	case e == errBadKey:
		k.count.Add(ctx, 1, metric.WithAttributes(whyRefused.unknown))
	case e == errOldKey:
		k.count.Add(ctx, 1, metric.WithAttributes(whyRefused.expired))
	case e.status == http.StatusTooManyRequests:
		k.count.Add(ctx, 1, metric.WithAttributes(whyRefused.heldBack))
	}
}
