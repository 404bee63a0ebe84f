package dispatcher

import (
	"context"
	"strings"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Event reads an event and all its deliveries. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) Event(ctx context.Context, company, eventID string) (*EventRecord, error) {
	e, err := c.readEvent(ctx, company, eventID)
	if err != nil {
		return nil, err
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	return v.event(ctx, e)
}

// Delivery reads one delivery, or one decision. Where a large fan-out's is still to be written, it is first. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) Delivery(ctx context.Context, company, deliveryID string) (*Delivery, error) {
	if strings.HasPrefix(deliveryID, decisionPrefix) {
		return c.decision(ctx, company, deliveryID)
	}
	r, ok := ledger.ParseDeliveryID(company, deliveryID)
	if !ok {
		return nil, ErrNotFound
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	found, err := v.deliveries(ctx, []ledger.Ref{r})
	if err == nil && len(found) == 0 {
		if err = c.expandFor(ctx, r); err == nil {
			found, err = v.deliveries(ctx, []ledger.Ref{r})
		}
	}
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	d := found[0]
	d.Summary += c.goneType(ctx, d.EventType)
	return d, c.exchanges(ctx, r, d)
}
