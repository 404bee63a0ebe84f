package dispatcher

import (
	"context"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// expandPage writes an event's next page, brings it to the lanes, and says how many are left. If the event is being erased, that goes on.
func (c *Client) expandPage(ctx context.Context, company, event string) (left int, err error) {
	page, err := c.ledger.Expand(ctx, company, event)
	if err != nil {
		return 0, err
	}
	if page.Erasing {
		e, err := c.erasePage(ctx, company, event, "")
		if !e.Done {
			left = 1
		}
		return left, err
	}
	c.at("expanded")
	c.lanes.Bring(ctx, page.Released...)
	return page.Left, nil
}

// enoughWaits is how many of a company's tasks wait to come into the lanes before its events expand no further, unless it is alone: some moments of work,
// so that what waits never runs out.
const enoughWaits = 256

// newExpander makes the Client's expander.
func (c *Client) newExpander() *expander {
	return newExpander(func(ctx context.Context, company, event string) (left int, err error) {
		err = c.contain(ctx, placeExpander, func() error { left, err = c.expandPage(ctx, company, event); return err })
		return left, err
	}, func(company string) bool {
		return !c.lanes.Lone().Is() && c.lanes.Waiting(company) >= enoughWaits
	}, func(ctx context.Context, company, event string, err error) {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "expanding failed; a later round goes on", "company", company, "event", event, "error", err)
		}
	})
}

// expandFor writes pages of an expanding event until they have the delivery that somebody asks for. Errors: [ErrUnavailable].
func (c *Client) expandFor(ctx context.Context, r ledger.Ref) error {
	for {
		missing, err := c.ledger.ToWrite(ctx, r)
		if err != nil {
			return unavailable(ctx, c, "reading the event", err)
		}
		if !missing {
			return nil
		}
		if _, err := c.expandPage(ctx, r.Company, r.Event); err != nil {
			return unavailable(ctx, c, "expanding the event", err)
		}
	}
}
