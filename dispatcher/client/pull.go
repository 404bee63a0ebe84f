package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// A Poll is what [Client.Poll] asks for.
type Poll struct {
	After string        // a cursor of a poll before; empty: behind what was acknowledged
	Limit int           // deliveries at most; default 50, at most 500
	Wait  time.Duration // for something to fetch, if there is nothing; at most 30 s
}

// Polled is what there is to fetch from a callback whose destination is to be pulled.
type Polled struct {
	Answer
	Deliveries   []Pulled `json:"deliveries"`   // in the order in which they were written
	Next         string   `json:"next"`         // to acknowledge, and to poll on from
	Acknowledged string   `json:"acknowledged"` // up to which cursor deliveries were acknowledged
	More         bool     `json:"more"`         // there is more by now
}

// A Pulled is a delivery as it is fetched.
type Pulled struct {
	Cursor       string          `json:"cursor"`
	DeliveryID   string          `json:"delivery_id"` // the same however often it is fetched, replays included
	EventID      string          `json:"event_id"`
	EventType    string          `json:"event_type"`
	AcceptedAt   time.Time       `json:"accepted_at"`
	OccurredAt   time.Time       `json:"occurred_at,omitzero"`
	Replayed     bool            `json:"replayed,omitempty"`
	Payload      json.RawMessage `json:"payload,omitempty"`       // what a request would carry
	PayloadLeft  bool            `json:"payload_left,omitempty"`  // it is kept without its payload, having been acknowledged before
	PayloadFault string          `json:"payload_fault,omitempty"` // why no payload can be made for this callback
}

// An Acknowledgement says how far an acknowledgement, or a seek, came.
type Acknowledgement struct {
	Answer
	Acknowledged string `json:"acknowledged"` // behind which deliveries are fetched
	Delivered    int    `json:"delivered"`    // by this acknowledgement
	Cancelled    int    `json:"cancelled"`    // by this seek
}

// Poll fetches deliveries of a callback whose destination is to be pulled. It changes nothing: what was fetched is delivered by [Client.Acknowledge].
func (c *Client) Poll(ctx context.Context, company string, id int64, p Poll) (*Polled, error) {
	q := url.Values{}
	if p.After != "" {
		q.Set("after", p.After)
	}
	if p.Limit > 0 {
		q.Set("limit", strconv.Itoa(p.Limit))
	}
	if p.Wait > 0 {
		q.Set("wait", p.Wait.String())
	}
	return ask[Polled](ctx, c, request{method: http.MethodGet, path: callbackPath(company, id, "poll"), query: q, timeout: testTimeout})
}

// Acknowledge says that the partner has all deliveries up to a cursor: they are delivered by this. It is safe to repeat.
func (c *Client) Acknowledge(ctx context.Context, company string, id int64, through string) (*Acknowledgement, error) {
	return c.moveTo(ctx, callbackPath(company, id, "ack"), "through", through)
}

// Seek goes on fetching at another place: behind a cursor, before what was written at a time (RFC 3339), at "start" or at "end". What was acknowledged is fetched
// again, as far as it is kept, and stays delivered. What is jumped over is cancelled. It is safe to repeat.
func (c *Client) Seek(ctx context.Context, company string, id int64, to string) (*Acknowledgement, error) {
	return c.moveTo(ctx, callbackPath(company, id, "seek"), "to", to)
}

func (c *Client) moveTo(ctx context.Context, path []string, member, cursor string) (*Acknowledgement, error) {
	body, err := json.Marshal(map[string]string{member: cursor})
	if err != nil {
		return nil, err
	}
	return ask[Acknowledgement](ctx, c, request{method: http.MethodPost, path: path, body: body, repeat: true})
}
