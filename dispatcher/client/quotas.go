package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// Quotas are a company's quotas and how much of them is used.
type Quotas struct {
	Answer
	Company string `json:"company"`
	CompanyLimits
	Used     CompanyUse    `json:"used"`
	Defaults CompanyLimits `json:"defaults"` // what holds where no operator set anything else
}

// CompanyLimits are the quotas that a company has.
type CompanyLimits struct {
	Callbacks    int64  `json:"callbacks"`     // it may have; past it, registering is refused (422)
	Replays      int64  `json:"replays"`       // that may be under way at a time; past it, starting one is refused (409)
	WaitingBytes *int64 `json:"waiting_bytes"` // of payload that may wait for delivery; past it, events are refused (429). Nil: no limit
	Weight       int64  `json:"weight"`        // how many times as much as a company of weight 1 it gets, while both have more to send than goes out
}

// CompanyUse is how much of its quotas a company uses.
type CompanyUse struct {
	Callbacks    int64  `json:"callbacks"`
	Replays      int64  `json:"replays"`
	WaitingBytes *int64 `json:"waiting_bytes"` // nil: not counted, for there is no quota on it
}

// InstallationQuotas are the quotas of all companies together.
type InstallationQuotas struct {
	Answer
	InstallationLimits
	Used     InstallationLimits `json:"used"`
	Defaults InstallationLimits `json:"defaults"`
}

// InstallationLimits are the quotas that an installation has.
type InstallationLimits struct {
	CallbackTypes int64 `json:"callback_types"` // that operators may add; past it, adding one is refused (422)
}

// Quotas reads a company's quotas. It takes an operator's key.
func (c *Client) Quotas(ctx context.Context, company string) (*Quotas, error) {
	return ask[Quotas](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "quotas"}})
}

// SetQuotas changes the quotas that are named as the API names them ("callbacks", "replays", "waiting_bytes", "weight"); nil stands for the default. It
// takes an operator's key.
func (c *Client) SetQuotas(ctx context.Context, company string, change map[string]*int64) (*Quotas, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return ask[Quotas](ctx, c, request{method: http.MethodPatch, path: []string{"companies", company, "quotas"}, body: body, repeat: true})
}

// InstallationQuotas reads the quotas of all companies together. It takes an operator's key of all companies, as SetInstallationQuotas does.
func (c *Client) InstallationQuotas(ctx context.Context) (*InstallationQuotas, error) {
	return ask[InstallationQuotas](ctx, c, request{method: http.MethodGet, path: []string{"quotas"}})
}

// SetInstallationQuotas changes the quotas that are named as the API names them ("callback_types"); nil stands for the default.
func (c *Client) SetInstallationQuotas(ctx context.Context, change map[string]*int64) (*InstallationQuotas, error) {
	body, err := json.Marshal(change)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return ask[InstallationQuotas](ctx, c, request{method: http.MethodPatch, path: []string{"quotas"}, body: body, repeat: true})
}
