package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// A DryRun is what [Client.DryRun] tries.
type DryRun struct {
	// Callback is a registration, or, with CallbackID, a merge patch to try on that callback. It may be left out then.
	Callback   json.RawMessage `json:"callback,omitempty"`
	CallbackID int64           `json:"callback_id,omitempty"`
	EventType  string          `json:"event_type,omitempty"` // needed where the callback is for a glob
	Payload    json.RawMessage `json:"payload,omitempty"`    // default: the type's example
}

// A DryRunResult says what would become of an event for a callback.
type DryRunResult struct {
	Answer
	EventType      string   `json:"event_type"`
	Matches        bool     `json:"matches"`
	Why            string   `json:"why"`
	Clause         *Clause  `json:"clause,omitempty"` // what of the filter keeps it away; nil: it matches, or something else does
	Warnings       []string `json:"warnings,omitempty"`
	Request        *Request `json:"request,omitempty"` // what a first attempt would send
	RequestMissing string   `json:"request_missing,omitempty"`
	// Payload is what the partner would fetch, where nothing is sent.
	Payload json.RawMessage `json:"payload,omitempty"`
}

// A Clause of a filter, or a group of clauses: then it has a location only.
type Clause struct {
	Location string          `json:"location"`
	Pointer  string          `json:"pointer,omitempty"`
	Op       string          `json:"op,omitempty"`
	Value    json.RawMessage `json:"value,omitempty"`
}

// DryRun says whether an event would match a callback, and what the callback would be sent. Nothing is sent, and nothing is kept.
func (c *Client) DryRun(ctx context.Context, company string, d DryRun) (*DryRunResult, error) {
	r := request{method: http.MethodPost, path: []string{"companies", company, "config", "callbacks", "dry-run"}}
	if d.CallbackID != 0 {
		r.path, d.CallbackID = callbackPath(company, d.CallbackID, "dry-run"), 0
	}
	body, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	r.body = body
	return ask[DryRunResult](ctx, c, r)
}
