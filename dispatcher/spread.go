package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/registry"
)

// MostLanes is how many lanes there may be, beside the slow one.
const MostLanes = lanes.MostLanes

// Lanes are the lanes that deliveries' tasks go by: asynq's queues.
type Lanes struct {
	Count    int      `json:"count"`    // deliveries are spread over so many, by callback
	Draining []string `json:"draining"` // those above the number that workers look into until they are empty
	Lanes    []Lane   `json:"lanes"`    // all that workers look into; the slow one is last
}

// A Lane is what asynq holds of one.
type Lane struct {
	Lane      string `json:"lane"`
	Pending   int    `json:"pending"`   // that wait for a worker
	Active    int    `json:"active"`    // that a worker has
	Scheduled int    `json:"scheduled"` // not used
	Retry     int    `json:"retry"`     // that wait for their time
	Node      string `json:"node,omitempty"`
}

// Lanes reads which lanes there are. Error: [ErrUnavailable].
func (c *Client) Lanes(ctx context.Context) (*Lanes, error) {
	layout, err := c.lanes.Layout(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading which lanes there are", err)
	}
	all := &Lanes{Count: layout.Count, Draining: layout.Leaving(), Lanes: make([]Lane, len(layout.Depths))}
	for i, d := range layout.Depths {
		all.Lanes[i] = Lane{
			Lane: d.Lane, Pending: d.Tasks["pending"], Active: d.Tasks["active"], Scheduled: d.Tasks["scheduled"], Retry: d.Tasks["retry"],
			Node: layout.Nodes[d.Lane],
		}
	}
	return all, nil
}

// SetLanes changes how many lanes deliveries are spread over, of the whole installation and while it runs. What is in a lane above the number goes out from
// there. A program of before believes in four: while one is alive it is refused, and after it none starts.
//
// Errors: *payloads.InvalidError if the number is not from 1 to [MostLanes], an *[registry.OldProcessError], a *[StateError] within the seconds until it is
// sure that there is no such process any more, and while single lanes are paused, and [ErrUnavailable].
func (c *Client) SetLanes(ctx context.Context, count int) (*Lanes, error) {
	if count < 1 || count > MostLanes {
		return nil, misfit("body.count", fmt.Sprintf("must be from 1 to %d", MostLanes))
	}
	now, err := c.Lanes(ctx)
	if err != nil || now.Count == count {
		return now, err
	}
	err = c.registry.KnownEverywhere(ctx, "another number of lanes", registry.ModelLevel)
	if _, old := errors.AsType[*registry.OldProcessError](err); old {
		return nil, err
	}
	if err != nil {
		return nil, unavailable(ctx, c, "looking for older processes", err)
	}
	if !c.ledger.Raised(ctx) {
		return nil, &StateError{Message: "the last process of an older version may have ended just now: try again in half a minute, when it is sure that none is left"}
	}
	paused, err := c.lanes.Paused(ctx)
	switch {
	case err != nil:
		return nil, unavailable(ctx, c, "reading whether the lanes are paused", err)
	case paused.All.IsZero() && !paused.None():
		return nil, &StateError{Message: "single lanes are paused, in asynq's UI or by an older version, and further ones would not be: run `ringback egress pause` or `ringback egress resume` first"}
	}
	err = c.lanes.Set(ctx, count, func(before int) string {
		return registry.AuditLine(ctx, "", "lanes.update", "lanes", registry.AuditChange{Field: "count", Old: before, New: count})
	})
	if err != nil {
		return nil, unavailable(ctx, c, "changing the number of lanes", err)
	}
	c.log.InfoContext(ctx, "the number of lanes is another", "before", now.Count, "now", count)
	return c.Lanes(ctx)
}

// LaneMasters reads on which master of a Redis Cluster each lane lies: those that there may be, by their number, and how many there are.
func LaneMasters(ctx context.Context, cluster *redis.ClusterClient) (count int, masters []string, err error) {
	return lanes.Masters(ctx, cluster)
}
