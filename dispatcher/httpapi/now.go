package httpapi

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

func (s *server) now() {
	register(s, operation{need: steerDeliveries, bounds: ofDelivery, repeats: actsOnce, Operation: huma.Operation{
		OperationID: "hasten-delivery", Method: http.MethodPost, Path: deliveryRoute + "/now", Tags: []string{"Deliveries"}, DefaultStatus: http.StatusAccepted,
		Summary: "Try now",
		Description: "For a delivery that is retrying: its next attempt is made at once, with the same webhook-id. It is an ordinary attempt, early: it counts, and is one of " +
			"those that the callback's `retry` allows, so a delivery whose last one fails is dead. The callback's window, breaker and rate limit hold for it. One that is " +
			"pending, or whose attempt is under way, goes by itself: the answer is the same, and nothing changes. A held one is refused with what lets it out, a finished one " +
			"with the advice to replay it.",
		Errors: []int{http.StatusConflict},
	}}, s.hastenDelivery)
}

func (s *server) hastenDelivery(ctx context.Context, in *deliveryIn) (*deliveryOut, error) {
	return told(s.Client.Hasten(ctx, in.Company, in.DeliveryID))
}
