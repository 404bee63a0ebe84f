package dispatcher

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// pumpPage is how many deliveries one script run lets out of a room, or cancels in it: a few milliseconds of Redis's time.
const pumpPage = 100

// Resume opens a paused or disabled callback's room. What waits in it goes out oldest first, never more than the window at once;
// with skipHeld it is cancelled instead.
//
// Errors: registry.ErrNotFound, or what Redis said.
func (c *Client) Resume(ctx context.Context, company string, callbackID int64, skipHeld bool) (*registry.Callback, error) {
	if skipHeld {
		if _, err := c.registry.Get(ctx, company, callbackID); err != nil {
			return nil, err
		}
		if err := c.purge(ctx, company, callbackID); err != nil {
			return nil, err
		}
	}
	cb, err := c.registry.Resume(ctx, company, callbackID)
	if err != nil {
		return nil, err
	}
	c.at("opened")
	if err := c.pump(context.WithoutCancel(ctx), company, callbackID); err != nil {
		c.log.WarnContext(ctx, "pump failed; the next tick will repeat it", "company", company, "callback", callbackID, "error", err)
	}
	return cb, nil
}

// pump fills a callback's window from its room, in pages; of a deleted callback it cancels what waits.
func (c *Client) pump(ctx context.Context, company string, callbackID int64) error {
	keys := []string{keyOf(company, "due")}
	for {
		v, err := pumpScript.Run(ctx, c.rdb, keys, callbackID, pumpPage, c.window).Result()
		if err != nil {
			return err
		}
		answer := strs(v)
		switch answer[0] {
		case "deleted":
			return c.purge(ctx, company, callbackID)
		case "closed", "busy":
			return nil
		}
		c.at("released")
		c.enqueueReleased(ctx, company, answer[2:])
		if answer[1] == "0" || len(answer) == 2 { // empty, or the window is full: finished attempts go on from here
			return nil
		}
	}
}

func (c *Client) purge(ctx context.Context, company string, callbackID int64) error {
	keys := []string{keyOf(company, "due")}
	cursor := "0"
	for {
		v, err := purgeScript.Run(ctx, c.rdb, keys, callbackID, cursor, 5*pumpPage, c.retention).Result()
		if err != nil {
			return err
		}
		if cursor = strs(v)[0]; cursor == "0" {
			return nil
		}
	}
}

// pumpRooms serves the company's rooms whose time has come.
func (c *Client) pumpRooms(ctx context.Context, company string, now int64) error {
	ids, err := c.rdb.ZRangeByScore(ctx, registry.RoomsKey(company), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(now, 10), Count: reconcilePage,
	}).Result()
	if err != nil {
		return err
	}
	for _, text := range ids {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("room %q: %w", text, errBadRecord)
		}
		if err := c.pump(ctx, company, id); err != nil {
			return err
		}
	}
	return nil
}
