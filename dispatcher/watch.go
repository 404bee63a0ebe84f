package dispatcher

import (
	"context"
	"errors"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Watch hears of each change of a company's deliveries from now on, or from where another watch left off: each attempt that ends, and each state that a
// delivery comes to without one. It returns once whatever changes from then on is told. What processes attempt that run a version before is not.
//
// Errors: [ErrUnavailable], [ErrEnding], and ctx's own.
func (c *Client) Watch(ctx context.Context, q WatchQuery) (*Watch, error) {
	w, err := c.live.watch(ctx, q)
	switch {
	case err == nil, errors.Is(err, ErrEnding), ctx.Err() != nil:
		return w, err
	}
	return nil, unavailable(ctx, c, "beginning to watch", err)
}

// EndWatches ends all watches and polls, and lets nobody watch, and no poll wait, any more: the process is about to end.
func (c *Client) EndWatches() {
	c.live.end()
	c.pollers.end()
}

// changed reads deliveries that changed, by their ids.
func (c *Client) changed(ctx context.Context, company string, refs []ledger.Ref) (map[string]*Delivery, error) {
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	var ids []int64
	for _, r := range refs {
		ids = append(ids, r.Callback)
	}
	if err := v.lookUp(ctx, ids...); err != nil {
		return nil, err
	}
	found, err := v.deliveries(ctx, refs)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*Delivery, len(found))
	for _, d := range found {
		byID[d.DeliveryID] = d
	}
	return byID, nil
}
