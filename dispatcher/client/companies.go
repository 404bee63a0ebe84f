package client

import (
	"context"
	"net/http"
)

// An ErasedCompany says what one call of [Client.EraseCompany] erased.
type ErasedCompany struct {
	Answer
	Company    string   `json:"company"`
	Done       bool     `json:"done"` // false: there is more, call again
	Callbacks  int64    `json:"callbacks"`
	Events     int64    `json:"events"`
	Deliveries int64    `json:"deliveries"`
	Unfinished int64    `json:"unfinished"` // as in ErasedEvent, as the next two
	Dead       int64    `json:"dead"`
	InFlight   int64    `json:"in_flight"`
	Decisions  int64    `json:"decisions"`
	Replays    int64    `json:"replays"`
	APIKeys    int64    `json:"api_keys"` // that were bound to it
	Kept       []string `json:"kept"`     // what stays, and what for
}

// EraseCompany removes a company: its callbacks, events, deliveries, decisions, replays and the API keys that are bound to it. It takes an
// operator's key. A call works for some twenty seconds: repeat it until Done, and after a lost answer; each counts what it erased itself.
// An [*APIError] of 404 says that there is nothing of the company, or nothing any more.
func (c *Client) EraseCompany(ctx context.Context, company string) (*ErasedCompany, error) {
	return ask[ErasedCompany](ctx, c, request{method: http.MethodDelete, path: []string{"companies", company}, query: query("confirm", company)})
}
