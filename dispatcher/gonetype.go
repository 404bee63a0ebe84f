package dispatcher

import (
	"context"
	"fmt"
)

// goneType says of an event or a delivery that its type was deleted, in a sentence that follows others. It is empty if the type is there.
func (c *Client) goneType(ctx context.Context, name string) string {
	words, err := c.registry.Types().Deleted(ctx, name)
	if err != nil || words == "" { // what is read can be shown without it
		return ""
	}
	return fmt.Sprintf(" Its callback type %s %s: what was accepted of it can still be replayed, and goes out as the type had it.", name, words)
}
