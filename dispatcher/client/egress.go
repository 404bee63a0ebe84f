package client

import (
	"context"
	"net/http"
	"time"
)

// Whether anything goes out.
const (
	EgressRunning = "running"
	EgressPaused  = "paused"
)

// Egress is whether anything goes out of the installation.
type Egress struct {
	Answer
	Status string    `json:"status"`
	Since  time.Time `json:"since,omitzero"` // set while it is paused
}

// PauseEgress stops everything that goes out, of all companies: deliveries wait, decisions and tests are refused. Events are accepted as
// ever, and attempts under way finish. To pause twice changes nothing. It takes an operator's key of all companies.
func (c *Client) PauseEgress(ctx context.Context) (*Egress, error) {
	return ask[Egress](ctx, c, request{method: http.MethodPost, path: []string{"egress", "pause"}, repeat: true})
}

// ResumeEgress lets out what [Client.PauseEgress] stopped.
func (c *Client) ResumeEgress(ctx context.Context) (*Egress, error) {
	return ask[Egress](ctx, c, request{method: http.MethodPost, path: []string{"egress", "resume"}, repeat: true})
}

// Egress tells whether anything goes out.
func (c *Client) Egress(ctx context.Context) (*Egress, error) {
	return ask[Egress](ctx, c, request{method: http.MethodGet, path: []string{"egress"}})
}
