package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A Fetched is a payload that was fetched with a ticket.
type Fetched struct {
	Body        []byte
	ContentType string
}

// ErrFetchOver says that a ticket was good, and leads to nothing any more.
var ErrFetchOver = errors.New("what this address led to is over: its time has ended, or the event is no longer kept")

// Fetch returns what a callback would have been sent, were its body not thin, to whoever has a ticket: the payload of the delivery that the ticket is of, as it
// would be sent now. Errors: [ErrNotFound] if it is no ticket, or its callback was deleted or has another secret; [ErrFetchOver], [ErrBodyLeft],
// [ErrUnavailable].
func (c *Client) Fetch(ctx context.Context, ticket string) (*Fetched, error) {
	t, ok := registry.ParseTicket(ticket)
	if !ok {
		return nil, ErrNotFound
	}
	cb, err := c.registry.Get(ctx, t.Company, t.Callback)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, unavailable(ctx, c, "reading the callback of a ticket", err)
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the time", err)
	}
	if !cb.Made(t, now) {
		return nil, ErrNotFound
	}
	if !now.Before(t.Expires) {
		return nil, ErrFetchOver
	}
	typ, payload, err := c.ticketed(ctx, cb, t.Ticket)
	if err != nil {
		return nil, err
	}
	body, err := encoded(cb, typ, payload, time.Now())
	if err != nil {
		return nil, fmt.Errorf("encoding a payload for callback %d of company %s: %w", cb.ID, cb.Company, err)
	}
	return &Fetched{Body: body, ContentType: cb.Destination.ContentType}, nil
}

// ticketed is the payload that a ticket is for, with its type.
func (c *Client) ticketed(ctx context.Context, cb *registry.Callback, t registry.Ticket) (*payloads.Type, []byte, error) {
	if t.Test {
		typ, known, err := c.registry.Types().Lookup(ctx, t.Event)
		switch {
		case err != nil:
			return nil, nil, unavailable(ctx, c, "reading the callback types", err)
		case !known || len(typ.Example) == 0:
			return nil, nil, ErrFetchOver
		}
		return typ, exampleFor(cb, typ), nil
	}
	payload, err := c.Payload(ctx, t.Company, t.Event) // before the event is looked at: that it is the ticket's own is then true of what was read
	if errors.Is(err, ErrNotFound) {
		return nil, nil, ErrFetchOver
	}
	if err != nil {
		return nil, nil, err
	}
	found, err := c.ledger.Deliveries(ctx, []ledger.Ref{{Company: t.Company, Event: t.Event, Callback: t.Callback}})
	if err != nil {
		return nil, nil, unavailable(ctx, c, "reading the event of a ticket", err)
	}
	e := found[0]
	if e == nil || ledger.LogTime(e.LogID).UnixMilli() != t.Accepted.UnixMilli() { // another event has its id since
		return nil, nil, ErrFetchOver
	}
	typ, _, err := c.registry.Types().Accepted(ctx, e.Meta.Type)
	if err != nil {
		return nil, nil, unavailable(ctx, c, "reading the callback types", err)
	}
	return typ, payload, nil
}
