package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// A BulkReplayQuery says which deliveries over callbacks and companies are to go out again. The zero value is all dead ones.
type BulkReplayQuery struct {
	ReplayQuery
	Companies   []string `json:"companies,omitempty"`    // empty: all; for [Client.ReplayCompanies] alone
	CallbackIDs []int64  `json:"callback_ids,omitempty"` // of one company; empty: all
}

// ReplayCompanies lets deliveries of several companies go out again, or of all. It takes an operator's key of all companies. It returns while that is under
// way: ask [Client.CompaniesReplay] how far it is.
func (c *Client) ReplayCompanies(ctx context.Context, q BulkReplayQuery) (*Replay, error) {
	return c.replay(ctx, q, "replays")
}

// ReplayCompany lets deliveries of a company's callbacks go out again. It returns while that is under way: ask [Client.Replay] how far it is.
func (c *Client) ReplayCompany(ctx context.Context, company string, q BulkReplayQuery) (*Replay, error) {
	return c.replay(ctx, q, "companies", company, "replays")
}

func (c *Client) replay(ctx context.Context, q BulkReplayQuery, path ...string) (*Replay, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	return ask[Replay](ctx, c, request{method: http.MethodPost, path: path, body: body})
}

// CompaniesReplay shows how far a replay over companies is.
func (c *Client) CompaniesReplay(ctx context.Context, replayID string) (*Replay, error) {
	return ask[Replay](ctx, c, request{method: http.MethodGet, path: []string{"replays", replayID}})
}

// CompaniesReplays lists the replays over companies.
func (c *Client) CompaniesReplays(ctx context.Context) (*ReplayList, error) {
	return ask[ReplayList](ctx, c, request{method: http.MethodGet, path: []string{"replays"}})
}

// CancelCompaniesReplay stops a replay over companies. What it has let out stays so.
func (c *Client) CancelCompaniesReplay(ctx context.Context, replayID string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"replays", replayID}})
}
