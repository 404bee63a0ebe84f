package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// Replay sends a delivery again, under the same webhook-id and with a fresh schedule: a delivered, dead or cancelled one, or at once a
// retrying one. Errors: [ErrNotFound], *[StateError] if it is on its way already, its callback was deleted or its event's body has left ([ErrBodyLeft], too),
// [ErrUnavailable].
func (c *Client) Replay(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return nil, c.notRepeated(ctx, company, deliveryID)
	}
	r, ok := ledger.ParseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	done, err := c.ledger.Replay(ctx, r, registry.AuditLine(ctx, company, "delivery.replay", "deliveries/"+deliveryID))
	if err != nil {
		return nil, unavailable(ctx, c, "replaying", err)
	}
	c.at("replayed")
	switch done.Outcome {
	case ledger.NoSuchDelivery, ledger.WrongState: // one that is still to be written is, first
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s already: it goes out by itself, a held one once its callback is resumed")
	case ledger.CallbackDeleted:
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s and its callback was deleted: register it again and send the event under a new event_id")
	case ledger.RoomFull:
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s, and as many are held for its callback as may be: replay it once some are delivered")
	case ledger.Bodiless:
		err := c.stateError(ctx, company, deliveryID, "this delivery is %s, and the body of its event is no longer kept: send the event again under a new event_id")
		if e, ok := errors.AsType[*StateError](err); ok {
			e.Err = ErrBodyLeft
		}
		return nil, err
	case ledger.Released:
		c.lanes.Bring(ctx, done.Ticket)
	case ledger.Done: // the room lets it out
	}
	c.lanes.Forget(ctx, r, done.Old)
	return c.Delivery(ctx, company, deliveryID)
}

// Cancel ends an unfinished delivery. An attempt under way finishes; it counts if it delivers.
// Errors: [ErrNotFound], *[StateError] if it is final, [ErrUnavailable].
func (c *Client) Cancel(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return nil, c.notRepeated(ctx, company, deliveryID)
	}
	r, ok := ledger.ParseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	before, err := c.Delivery(ctx, company, deliveryID)
	if err != nil {
		return nil, err
	}
	outcome, err := c.ledger.Cancel(ctx, r, registry.AuditLine(ctx, company, "delivery.cancel", "deliveries/"+deliveryID))
	if err != nil {
		return nil, unavailable(ctx, c, "cancelling", err)
	}
	switch outcome {
	case ledger.NoSuchDelivery:
		return nil, ErrNotFound
	case ledger.WrongState:
		return nil, c.stateError(ctx, company, deliveryID, "this delivery is %s: there is nothing left to cancel")
	}
	if before.State == Retrying {
		if generation, err := c.ledger.Generation(ctx, r); err == nil {
			c.lanes.Forget(ctx, r, generation)
		}
	}
	return c.Delivery(ctx, company, deliveryID)
}

func (c *Client) stateError(ctx context.Context, company, deliveryID, format string) error {
	d, err := c.Delivery(ctx, company, deliveryID)
	if err != nil {
		return err
	}
	return &StateError{Delivery: d, Message: fmt.Sprintf(format, d.State)}
}
