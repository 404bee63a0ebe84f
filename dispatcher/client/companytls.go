package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// A CompanyTLS is a company's client certificate, for its callbacks that have none of their own.
type CompanyTLS struct {
	Answer
	Company string `json:"company"`
	TLS            // without CA and ServerName
}

// CompanyTLS reads a company's client certificate. If there is none, the error is an *[APIError] with status 404.
func (c *Client) CompanyTLS(ctx context.Context, company string) (*CompanyTLS, error) {
	return ask[CompanyTLS](ctx, c, request{method: http.MethodGet, path: []string{"companies", company, "tls"}})
}

// SetCompanyTLS gives a company a client certificate, of which t has certificate and key. Attempts that begin after it has returned use it.
func (c *Client) SetCompanyTLS(ctx context.Context, company string, t TLS) (*CompanyTLS, error) {
	body, err := json.Marshal(t) //nolint:gosec // the API takes the key
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	return ask[CompanyTLS](ctx, c, request{method: http.MethodPut, path: []string{"companies", company, "tls"}, body: body, repeat: true})
}

// DeleteCompanyTLS takes a company's client certificate away.
func (c *Client) DeleteCompanyTLS(ctx context.Context, company string) error {
	return c.send(ctx, request{method: http.MethodDelete, path: []string{"companies", company, "tls"}})
}
