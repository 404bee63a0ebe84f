package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Lanes are the lanes that deliveries' tasks go by: asynq's queues.
type Lanes struct {
	Answer
	Count    int      `json:"count"`    // deliveries are spread over so many, by callback
	Draining []string `json:"draining"` // those above the number that workers look into until they are empty
	Lanes    []Lane   `json:"lanes"`    // all that workers look into; ringback-slow, which is none of the number, is last
}

// A Lane is how many tasks asynq holds in one.
type Lane struct {
	Lane      string `json:"lane"`
	Pending   int    `json:"pending"`        // wait for a worker
	Active    int    `json:"active"`         // a worker has
	Scheduled int    `json:"scheduled"`      // not used
	Retry     int    `json:"retry"`          // wait for their time
	Node      string `json:"node,omitempty"` // on a Redis Cluster, the master that the lane lies on
}

// Lanes reads which lanes there are. It takes an operator's key of all companies, as SetLanes does.
func (c *Client) Lanes(ctx context.Context) (*Lanes, error) {
	return ask[Lanes](ctx, c, request{method: http.MethodGet, path: []string{"lanes"}})
}

// SetLanes changes how many lanes there are, from 1 to 64, while everything runs. It is refused while a process of an older version is running, and after it
// none starts.
func (c *Client) SetLanes(ctx context.Context, count int) (*Lanes, error) {
	body, err := json.Marshal(map[string]int{"count": count})
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return ask[Lanes](ctx, c, request{method: http.MethodPut, path: []string{"lanes"}, body: body, repeat: true})
}
