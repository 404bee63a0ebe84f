package client

import (
	"context"
	"net/http"
	"time"
)

// An APIKey is what is known of an API key, but for the key itself.
type APIKey struct {
	Answer
	ID            string    `json:"id"`
	Role          string    `json:"role"`       // operator, producer, partner or viewer
	Company       string    `json:"company"`    // or [AllOfThem]
	CreatedAt     time.Time `json:"created_at"` // when its secret was made
	ExpiresAt     time.Time `json:"expires_at,omitzero"`
	ReplacedUntil time.Time `json:"replaced_until,omitzero"` // until then the secret works, too, that it had before it was rotated
	LastUsedAt    time.Time `json:"last_used_at,omitzero"`   // to a minute
	RateLimit     float64   `json:"rate_limit,omitempty"`    // changes a second; 0: any number
}

// A KeyPage is a page of API keys, the oldest first.
type KeyPage struct {
	Answer
	Keys       []*APIKey `json:"keys"`
	NextCursor string    `json:"next_cursor,omitempty"` // empty on the last page
}

// A KeysQuery selects API keys. The zero value selects all that the caller may see.
type KeysQuery struct {
	Company string // bound to it; [AllOfThem]: to none
	Limit   int    // of a page, at most 500; 0: 50
	Cursor  string // NextCursor of the page before
}

// Keys lists the API keys. It takes an operator's key; one of a single company sees that company's keys.
func (c *Client) Keys(ctx context.Context, q KeysQuery) (*KeyPage, error) {
	return ask[KeyPage](ctx, c, request{
		method: http.MethodGet, path: []string{"keys"},
		query: query("company", q.Company, "limit", number(q.Limit), "cursor", q.Cursor),
	})
}

// Key shows an API key.
func (c *Client) Key(ctx context.Context, id string) (*APIKey, error) {
	return ask[APIKey](ctx, c, request{method: http.MethodGet, path: []string{"keys", id}})
}

// RevokeKey makes an API key worthless, with the sessions that were begun with it. It refuses to revoke the client's own, see [Client.RevokeOwnKey].
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"keys", id}})
}

// RevokeOwnKey is RevokeKey, also for the key that the client itself shows.
func (c *Client) RevokeOwnKey(ctx context.Context, id string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"keys", id}, query: query("own", "true")})
}
