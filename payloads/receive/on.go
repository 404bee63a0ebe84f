package receive

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ringback/ringback/payloads"
)

// On has the handler call handle for deliveries of that event type, with the payload read into a T; a json.RawMessage takes it as it is. The type "*"
// stands for all that have no function of their own, and for those of a batch that do not say their type. handle returns nil when its work is done, or
// kept where it is sure to be done: the delivery is answered then, so it has no longer than the callback's timeout, 15 seconds by default, and all of a
// batch have that together. ctx ends when Ringback waits no longer.
//
// A test of the callback (`ringback callbacks test`) is read into a T and answered without a call, for its payload is an example.
//
// On panics if the type is no name, or has a function already.
func On[T any](h *Handler, eventType string, handle func(ctx context.Context, d Delivery, payload T) error) {
	if eventType != "*" && !payloads.ValidTypeName(eventType) {
		panic(fmt.Sprintf("receive.On: %q is no event type, and not *", eventType))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, taken := h.routes[eventType]; taken {
		panic(fmt.Sprintf("receive.On: %s has a function already", eventType))
	}
	h.routes[eventType] = func(d Delivery) (func(context.Context) error, error) {
		var payload T
		if err := json.Unmarshal(d.Payload, &payload); err != nil {
			return nil, err
		}
		return func(ctx context.Context) error { return handle(ctx, d, payload) }, nil
	}
}
