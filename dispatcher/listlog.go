package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// listBlocks is how many blocks of the log a list sums up itself, if the workers have not yet.
const listBlocks = 20

// walkLog lists from the log of accepted events. The cursor is the last delivery given out, or how far the search came: log id and callback.
func (v *view) walkLog(ctx context.Context, q Query, until time.Time) ([]*Delivery, string, error) {
	last, from, err := q.logPlace()
	if err != nil {
		return nil, "", err
	}
	if q.CallbackID != 0 || q.EventType != "" {
		if err := v.c.summarize(ctx, v.company, listBlocks); err != nil {
			return nil, "", unavailable(ctx, v.c, "summing up the log", err)
		}
	}
	search := ledger.Search{Span: q.span(), Callback: q.CallbackID, Type: q.EventType, States: q.States}
	found := []*Delivery{}
	for {
		page, next, err := v.c.ledger.Search(ctx, v.company, from, search, q.Limit+1-len(found))
		if err != nil {
			return nil, "", unavailable(ctx, v.c, "reading the log", err)
		}
		var full bool
		if found, last, full, err = v.fill(ctx, q, found, page, last); err != nil {
			return nil, "", err
		}
		if full {
			return found, last.cursor(), nil
		}
		if next == "" {
			return found, "", nil
		}
		from, last = next, last.further(next)
		if time.Now().After(until) {
			return found, last.cursor(), nil
		}
	}
}

// summarize sums up blocks of a company's log, so many at most. Lists leave out the blocks that have nothing of what they are for.
func (c *Client) summarize(ctx context.Context, company string, blocks int) error {
	for range blocks {
		if more, err := c.ledger.Summarize(ctx, company); err != nil || !more {
			return err
		}
	}
	return nil
}
