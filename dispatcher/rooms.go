package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// Resume opens a paused or disabled callback's room. What waits in it goes out oldest first: a few at a time, and with each that is delivered
// one more, up to the window and within the callback's rate limit. With skipHeld it is cancelled instead.
//
// Errors: registry.ErrNotFound, or what Redis said.
func (c *Client) Resume(ctx context.Context, company string, callbackID int64, skipHeld bool) (*registry.Callback, error) {
	if _, err := c.registry.Get(ctx, company, callbackID); err != nil {
		return nil, err
	}
	if skipHeld {
		line := registry.UniqueAuditLine(ctx, company, "callback.skip_held", registry.CallbackObject(callbackID))
		if err := c.purge(ctx, company, callbackID, line); err != nil {
			return nil, err
		}
	}
	if err := c.ledger.Ease(ctx, company, callbackID); err != nil {
		return nil, unavailable(ctx, c, "easing the callback's pace", err)
	}
	cb, err := c.registry.Resume(ctx, company, callbackID)
	if err != nil {
		return nil, err
	}
	c.at("opened")
	if _, err := c.pump(context.WithoutCancel(ctx), company, callbackID); err != nil {
		c.log.WarnContext(ctx, "pump failed; the next tick will repeat it", "company", company, "callback", callbackID, "error", err)
	}
	return cb, nil
}

// pump lets out of a callback's room, in pages, what window, breaker and rate limit allow; of a deleted callback it cancels what waits. wait is
// how long time keeps the rest in there, 0 if it does not: then attempts that end go on from here.
func (c *Client) pump(ctx context.Context, company string, callbackID int64) (wait time.Duration, err error) {
	r := ledger.Ref{Company: company, Callback: callbackID}
	cb, err := c.callback(ctx, r, 0)
	if err != nil {
		return 0, err
	}
	barred, err := c.barred(ctx, callbackOf(r), cb)
	if err != nil {
		return 0, err
	}
	for {
		page, err := c.ledger.Pump(ctx, company, callbackID, barred)
		if err != nil {
			return 0, err
		}
		if page.Deleted {
			return 0, c.purge(ctx, company, callbackID, "")
		}
		if len(page.Released) > 0 {
			c.at("released")
		}
		c.lanes.Bring(ctx, page.Released...)
		if !page.More { // the room is empty, or nothing more may go
			return page.Wait, nil
		}
	}
}

// purge cancels what waits for a callback. Its line of the audit trail is empty where that follows from another change.
func (c *Client) purge(ctx context.Context, company string, callbackID int64, line string) error {
	for cursor := "0"; ; {
		next, err := c.ledger.Purge(ctx, company, callbackID, cursor, line)
		if err != nil {
			return err
		}
		if cursor = next; cursor == "0" {
			return nil
		}
	}
}
