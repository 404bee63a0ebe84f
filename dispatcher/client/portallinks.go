package client

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// PortalLinkTerms are what a portal link is made for. The zero value is one of all callbacks, with the default lives.
type PortalLinkTerms struct {
	ExpiresIn        Duration `json:"expires_in,omitempty"`         // until it is opened: 1m to 720h; 0: 24h
	SessionExpiresIn Duration `json:"session_expires_in,omitempty"` // of its session: 1m to 168h; 0: 12h
	CallbackIDs      []int64  `json:"callback_ids,omitempty"`       // what its session sees; empty: all of the company's
	ReadOnly         bool     `json:"read_only,omitempty"`          // its session may look and change nothing
}

// A PortalLink is an address that lets a partner without an API key in to its company's page, once.
type PortalLink struct {
	Answer
	URL              string    `json:"url,omitempty"` // the address, with a secret in it; only where the link was just made
	ID               string    `json:"id"`
	Status           string    `json:"status"` // unused, expired, in_use or ended
	CreatedAt        time.Time `json:"created_at"`
	CreatedBy        string    `json:"created_by"` // an API key's id
	ExpiresAt        time.Time `json:"expires_at"` // until then it can be opened
	SessionExpiresIn Duration  `json:"session_expires_in"`
	CallbackIDs      []int64   `json:"callback_ids,omitempty"`
	ReadOnly         bool      `json:"read_only"`
	UsedAt           time.Time `json:"used_at,omitzero"`
	SessionExpiresAt time.Time `json:"session_expires_at,omitzero"` // when its session ends, or ended
}

// A PortalLinkList is a company's portal links, newest first.
type PortalLinkList struct {
	Answer
	PortalLinks []*PortalLink `json:"portal_links"`
}

// CreatePortalLink makes a portal link. Its URL is in this answer alone.
func (c *Client) CreatePortalLink(ctx context.Context, company string, terms PortalLinkTerms) (*PortalLink, error) {
	body, err := json.Marshal(terms)
	if err != nil {
		return nil, err
	}
	return ask[PortalLink](ctx, c, request{method: http.MethodPost, path: []string{"companies", company, "portal-links"}, body: body})
}

// PortalLinks lists a company's portal links: those that can be opened or whose sessions last, and those that ended within a week.
func (c *Client) PortalLinks(ctx context.Context, company string) (*PortalLinkList, error) {
	return ask[PortalLinkList](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "portal-links"}})
}

// PortalLink shows a portal link.
func (c *Client) PortalLink(ctx context.Context, company, id string) (*PortalLink, error) {
	return ask[PortalLink](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "portal-links", id}})
}

// RevokePortalLink takes a portal link away. Its session ends at once.
func (c *Client) RevokePortalLink(ctx context.Context, company, id string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"companies", company, "portal-links", id}})
}
