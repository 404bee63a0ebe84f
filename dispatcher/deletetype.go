package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/registry"
)

// DeleteType takes a callback type away that was added, unless a callback is registered for it by its name, or a delivery of it is not finished. It takes
// two seconds: nothing new of the type is accepted from the first moment on, and once no process goes on with the types of before, it looks again for what came
// meanwhile. If there is any, the type stays. A kill in between leaves the type, of which something new is accepted again a minute later, or after a repeat.
//
// What was accepted of the type can be read as before. If it is replayed, it is stamped and judged as the type had it.
//
// Errors: registry.ErrBuiltin, registry.ErrNoType, registry.ErrOvertaken if a condition does not hold, *[TypeInUseError], registry.ErrBusy if the type was put again meanwhile, *registry.OldProcessError,
// [ErrUnavailable].
func (c *Client) DeleteType(ctx context.Context, name string, conditions ...registry.Condition) error {
	types := c.registry.Types()
	if types.Builtin(name) {
		return registry.ErrBuiltin
	}
	if err := types.Stored(ctx, name); err != nil {
		return c.typeError(ctx, err)
	}
	if err := c.unused(ctx, name); err != nil {
		return err
	}
	leaving, err := c.registry.Leave(ctx, name, conditions...)
	if err != nil {
		return c.typeError(ctx, err)
	}
	c.at("type leaves")
	if err = waitFor(ctx, registry.TypesTurnOver); err == nil {
		err = c.unused(ctx, name)
	}
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if stays := leaving.Stay(ctx); stays != nil {
			c.log.WarnContext(ctx, "callback type stays, but takes nothing new for a minute", "type", name, "error", stays)
		}
		return err
	}
	c.at("type unused")
	err = c.typeError(ctx, leaving.End(ctx))
	c.at("type gone")
	return err
}

// waitFor waits.
func waitFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// unused returns a *[TypeInUseError] if a type is used.
func (c *Client) unused(ctx context.Context, name string) error {
	uses, err := c.typeUses(ctx, name)
	if err == nil && len(uses) > 0 {
		err = inUse(name, uses)
	}
	return err
}

// typeError makes an error of Redis's an [ErrUnavailable].
func (c *Client) typeError(ctx context.Context, err error) error {
	_, old := errors.AsType[*registry.OldProcessError](err)
	if err == nil || old || errors.Is(err, registry.ErrBuiltin) || errors.Is(err, registry.ErrNoType) || errors.Is(err, registry.ErrBusy) || errors.Is(err, registry.ErrOvertaken) {
		return err
	}
	return unavailable(ctx, c, "deleting the callback type", err)
}
