package dispatcher

import (
	"context"
	"fmt"
	"strings"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// Hasten has a retrying delivery make its next attempt at once, under the same webhook-id. It is an ordinary attempt, only early: it goes on with the
// delivery's number and is paid for from its budget, so the next one, if it fails, is when the schedule has it. One that failed for the last time is dead.
// One that waits for its turn already, or is under way, stays as it is, and one that is late gets its task anew. So to repeat a call is safe.
//
// Window, breaker and rate limit hold for it as for any other. Errors: [ErrNotFound], *[StateError] if it is held, its callback is closed, or it is final,
// [ErrUnavailable].
func (c *Client) Hasten(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return nil, c.notRepeated(ctx, company, deliveryID)
	}
	r, ok := ledger.ParseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	h, err := c.ledger.Hasten(ctx, r, registry.AuditLine(ctx, company, "delivery.now", "deliveries/"+deliveryID))
	if err != nil {
		return nil, unavailable(ctx, c, "hastening the delivery", err)
	}
	c.at("hastened")
	switch h.Outcome {
	case ledger.HastenHeld, ledger.HastenClosed, ledger.HastenFinal, ledger.HastenFull, ledger.HastenUnknown: // one that is still to be written is, first
		return c.notHastened(ctx, company, deliveryID, h)
	case ledger.HastenLate:
		if err := c.bring(ctx, h.Ticket); err != nil {
			return nil, unavailable(ctx, c, "bringing the delivery to its lane", err)
		}
	case ledger.Hastened:
		if h.Goes { // else the room lets it out
			c.lanes.Bring(ctx, h.Ticket)
		}
		c.lanes.Forget(ctx, h.Ticket.Ref, h.Old)
	case ledger.HastenSoon:
	}
	return c.Delivery(ctx, company, deliveryID)
}

// notHastened says why a delivery cannot go now, and what lets it.
func (c *Client) notHastened(ctx context.Context, company, deliveryID string, h ledger.Haste) (*Delivery, error) {
	d, err := c.Delivery(ctx, company, deliveryID)
	if err != nil {
		return nil, err
	}
	message := fmt.Sprintf("this delivery is %s", d.State)
	switch {
	case h.Outcome == ledger.HastenClosed && h.Status == registry.Deleted:
		message += ", and its callback was deleted: register it again and send the event under a new event_id"
	case d.State.Final():
		message += ": replay it to send it again"
	case d.State == ledger.Held:
		message = "this delivery cannot go now. " + d.held
	case h.Outcome == ledger.HastenClosed:
		message += fmt.Sprintf(", and its callback is %s: %s first", h.Status, opensGate[h.Status])
	case h.Outcome == ledger.HastenFull:
		message += ", and as many are held for its callback as may be: try again once some are delivered"
	default: // it is on its way by now
		return d, nil
	}
	return nil, &StateError{Delivery: d, Message: message}
}

// opensGate is what opens a callback's gate, by its status.
var opensGate = map[registry.Status]string{
	registry.Paused: "resume it", registry.Disabled: "mend its endpoint and resume it", registry.Unverified: "verify it",
}
