package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/registry"
)

// Quotas are a company's quotas, or the installation's, by their names in package registry, and how much of each is used.
type Quotas struct {
	Company string           // empty: the installation
	Limits  map[string]int64 // -1: no limit
	Used    map[string]int64 // without those that are not counted: waiting bytes, where there is no quota on them
}

// Quotas reads a company's quotas, or with an empty company the installation's. Errors: *payloads.InvalidError, or what Redis said.
func (c *Client) Quotas(ctx context.Context, company string) (*Quotas, error) {
	limits, err := c.registry.Quotas(ctx, company)
	if err != nil {
		return nil, err
	}
	return c.withUse(ctx, company, limits)
}

// SetQuotas changes the quotas that are named, nil to the default. If that begins the counting of what waits, it counts what waits already, for
// ten seconds at most: the workers' rounds count the rest. Errors: *payloads.InvalidError, or what Redis said.
func (c *Client) SetQuotas(ctx context.Context, company string, change map[string]*int64) (*Quotas, error) {
	limits, err := c.registry.SetQuotas(ctx, company, change)
	if err != nil {
		return nil, err
	}
	if change[registry.QuotaWaitingBytes] != nil {
		if err := c.countAll(ctx, company); err != nil {
			return nil, unavailable(ctx, c, "counting what waits", err)
		}
	}
	return c.withUse(ctx, company, limits)
}

func (c *Client) withUse(ctx context.Context, company string, limits map[string]int64) (*Quotas, error) {
	q := &Quotas{Company: company, Limits: limits, Used: map[string]int64{}}
	if company == "" {
		n, err := c.registry.Types().Added(ctx)
		q.Used[registry.QuotaTypes] = n
		return q, err
	}
	callbacks, replays, waiting, err := c.ledger.Uses(ctx, company)
	if err != nil {
		return nil, unavailable(ctx, c, "reading what is used of the quotas", err)
	}
	q.Used[registry.QuotaCallbacks], q.Used[registry.QuotaReplays] = callbacks, replays
	if limits[registry.QuotaWaitingBytes] >= 0 {
		q.Used[registry.QuotaWaitingBytes] = waiting
	}
	return q, nil
}

// A countWalk remembers how far the count was compared: which sets are left, and the place in the first.
// It is lost with its process, and begins anew.
type countWalk struct {
	left   []string
	cursor string
}

// countFirst is how long an operator waits at most for the first count.
const countFirst = 10 * time.Second

// countAll goes once through all that waits.
func (c *Client) countAll(ctx context.Context, company string) error {
	walk := &countWalk{}
	for until := time.Now().Add(countFirst); time.Now().Before(until); {
		if done, err := c.countPage(ctx, company, walk); done || err != nil {
			return err
		}
	}
	return nil
}

// recount goes on with a company's walk, and around: so whatever was counted wrongly, by a process of a version that did not count or before
// there was a quota, is put right.
func (c *Client) recount(ctx context.Context, company string) error {
	walk := &countWalk{}
	if known, ok := c.counted.LoadAndDelete(company); ok { // another worker of this process begins its own meanwhile
		walk = known.(*countWalk)
	}
	for range reconcilePages {
		done, err := c.countPage(ctx, company, walk)
		if err != nil {
			c.counted.Store(company, walk)
			return err
		}
		if done { // the next round begins anew; most companies have nothing to count
			return nil
		}
	}
	c.counted.Store(company, walk)
	return nil
}

// countPage walks a page, and reports whether that was the last.
func (c *Client) countPage(ctx context.Context, company string, walk *countWalk) (done bool, err error) {
	if len(walk.left) == 0 {
		walk.left, walk.cursor = []string{"counted"}, "0"
	}
	next, err := c.ledger.CountWaiting(ctx, company, walk.left[0], walk.cursor)
	switch {
	case err != nil:
		return false, err
	case next == "": // nothing is counted
		walk.left = nil
		return true, nil
	case next == "0" && walk.left[0] == "counted":
		rooms, err := c.ledger.Rooms(ctx, company)
		if err != nil {
			return false, err
		}
		walk.left = append([]string{"due"}, rooms...)
		for _, room := range rooms {
			walk.left = append(walk.left, "<"+room)
		}
	case next == "0":
		walk.left = walk.left[1:]
	}
	walk.cursor = next
	return len(walk.left) == 0, nil
}
