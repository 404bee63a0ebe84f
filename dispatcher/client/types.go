package client

import (
	"context"
	"encoding/json"
	"net/http"
)

// A Type is a callback type of the catalogue: what events of it look like, and what callbacks may narrow their match by.
type Type struct {
	Answer
	// ETag names the type as it is, for [WithIfMatch]. Empty in lists, and from servers of version 0.1.
	ETag        string            `json:"-"`
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Match       map[string]string `json:"match"`        // attribute to JSON Pointer into the payload
	MatchBlocks []string          `json:"match_blocks"` // the names that a registration's block may have
	Success     string            `json:"success"`      // which answers of partners count as delivered
	Schema      json.RawMessage   `json:"schema"`       // JSON Schema (2020-12) of the payloads
	Example     json.RawMessage   `json:"example"`
	Builtin     bool              `json:"builtin"`              // part of Ringback: it cannot be replaced
	Validation  string            `json:"validation,omitempty"` // enforce: payloads that do not fit are refused; warn: they are accepted with a warning
	Stamp       string            `json:"stamp"`                // JSON Pointer to the member that holds the time of sending; empty: there is none
	Synchronous bool              `json:"synchronous"`          // asked with a decision, not sent as an event
	Operational bool              `json:"operational"`          // sent by Ringback itself, and taken from nobody
}

func (t *Type) tag(etag string) { t.ETag = etag }

// A TypeList is the catalogue.
type TypeList struct {
	Answer
	CallbackTypes []*Type `json:"callback_types"`
}

// A TypeDefinition is what [Client.PutType] registers. Everything is optional.
type TypeDefinition struct {
	Description string            `json:"description,omitempty"`
	Schema      json.RawMessage   `json:"schema,omitempty"`
	Example     json.RawMessage   `json:"example,omitempty"`
	Match       map[string]string `json:"match,omitempty"`
	Success     string            `json:"success,omitempty"`
	Validation  string            `json:"validation,omitempty"`
	Stamp       string            `json:"stamp,omitempty"`
	Synchronous bool              `json:"synchronous,omitempty"`
}

// Types lists the callback types there are.
func (c *Client) Types(ctx context.Context) (*TypeList, error) {
	return ask[TypeList](ctx, c, request{method: http.MethodGet, path: []string{"callback-types"}})
}

// Type shows one callback type.
func (c *Client) Type(ctx context.Context, name string) (*Type, error) {
	return ask[Type](ctx, c, request{method: http.MethodGet, path: []string{"callback-types", name}})
}

// DeleteType takes a callback type away. It takes an operator's key, and two seconds or more. An [*APIError] of 409 says that the type is built in, or in use,
// and where.
func (c *Client) DeleteType(ctx context.Context, name string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"callback-types", name}, timeout: deleteTypeTimeout, conditional: true})
}

// PutType registers a callback type, or replaces it. It takes an operator's key. An [*APIError] of 409 says that the type is built in. With [WithIfMatch] it
// replaces only what is as the caller knows it.
func (c *Client) PutType(ctx context.Context, name string, def TypeDefinition) (*Type, error) {
	body, err := json.Marshal(def)
	if err != nil {
		return nil, err
	}
	return ask[Type](ctx, c, request{method: http.MethodPut, path: []string{"callback-types", name}, body: body, conditional: true})
}
