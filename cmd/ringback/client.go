package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ringback/ringback/dispatcher"
)

const defaultServer = "http://127.0.0.1:8080"

// globalFlags are those of every command that talks to a server.
func globalFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Usage: "`URL` of the Ringback server", Value: defaultServer, EnvVars: []string{"RINGBACK_SERVER"}},
		&cli.StringFlag{Name: "key", Usage: "API `KEY` (ringback dev's is \"dev\")", EnvVars: []string{"RINGBACK_KEY"}},
		&cli.StringFlag{
			Name: "output", Aliases: []string{"o"}, Usage: "`table` for people or json for programs", Value: "table",
			EnvVars: []string{"RINGBACK_OUTPUT"},
			Action: func(_ *cli.Context, v string) error {
				if v != "table" && v != "json" {
					return usagef("-o is table or json, not %q", v)
				}
				return nil
			},
		},
	}
}

func companyFlag() cli.Flag {
	return &cli.StringFlag{Name: "company", Usage: "`COMPANY` whose callbacks, events and deliveries are meant", EnvVars: []string{"RINGBACK_COMPANY"}}
}

func pageFlags() []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{
			Name: "limit", Usage: fmt.Sprintf("list at most `N`, 1 to %d", dispatcher.MaxLimit), EnvVars: []string{"RINGBACK_LIMIT"},
			DefaultText: fmt.Sprint(dispatcher.DefaultLimit),
			Action: func(_ *cli.Context, n int) error {
				if n < 1 || n > dispatcher.MaxLimit {
					return usagef("--limit is a number from 1 to %d, not %d", dispatcher.MaxLimit, n)
				}
				return nil
			},
		},
		&cli.StringFlag{Name: "cursor", Usage: "go on from this `CURSOR`, which the page before named", EnvVars: []string{"RINGBACK_CURSOR"}},
	}
}

func timeFlag(name, usage, env string) cli.Flag {
	return &cli.StringFlag{
		Name: name, Usage: usage, EnvVars: []string{env},
		Action: func(_ *cli.Context, v string) error {
			if _, err := time.Parse(time.RFC3339, v); err != nil {
				return usagef("--%s takes a time in the form of RFC 3339, such as 2026-11-21T09:30:00Z, not %q", name, v)
			}
			return nil
		},
	}
}

// apiClient talks to the HTTP API of a running server with one key.
type apiClient struct {
	base *url.URL
	key  string
	http *http.Client
}

func newAPIClient(c *cli.Context) (*apiClient, error) {
	base, err := url.Parse(c.String("server"))
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, usagef("--server must be a URL such as %s", defaultServer)
	}
	key := c.String("key")
	if key == "" {
		return nil, usagef("no API key: give one with --key or RINGBACK_KEY (ringback dev prints its own; `ringback keys create` makes one for a server)")
	}
	return &apiClient{base: base, key: key, http: &http.Client{Timeout: 30 * time.Second}}, nil
}

// forCompany is the client and the path of the company that the flags name.
func forCompany(c *cli.Context) (*apiClient, string, error) {
	company := c.String("company")
	if company == "" {
		return nil, "", usagef("which company? say so with --company or RINGBACK_COMPANY")
	}
	api, err := newAPIClient(c)
	return api, "/companies/" + url.PathEscape(company), err
}

// call sends body (none if nil) as JSON to path and returns the answer. Any status that is not 2xx is an error.
func (a *apiClient) call(ctx context.Context, method, path string, query url.Values, body []byte) (json.RawMessage, error) {
	target := a.base.JoinPath(path)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+a.key)
	req.Header.Set("Accept", "application/json, application/problem+json")
	req.Header.Set("User-Agent", "ringback-cli/"+programVersion())
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 32<<20))
	if err != nil {
		return nil, fmt.Errorf("the server's answer broke off: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusal(resp.StatusCode, answer)
	}
	return answer, nil
}

// get calls path and decodes the answer into view; it returns the answer as it came as well.
func (a *apiClient) get(ctx context.Context, path string, query url.Values, view any) (json.RawMessage, error) {
	answer, err := a.call(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return nil, err
	}
	return answer, decode(answer, view)
}

func (a *apiClient) unreachable(err error) error {
	if urlErr, ok := errors.AsType[*url.Error](err); ok {
		err = urlErr.Err
	}
	return fmt.Errorf("cannot reach %s://%s: start it with `ringback dev` or `ringback serve`, or say with --server where it is (%w)", a.base.Scheme, a.base.Host, err)
}

func decode(answer json.RawMessage, view any) error {
	if err := json.Unmarshal(answer, view); err != nil {
		return fmt.Errorf("the server answered something unexpected; does --server point at Ringback? (%w)", err)
	}
	return nil
}

// problem is an RFC 9457 error as the API gives it.
type problem struct {
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Location string `json:"location"`
		Message  string `json:"message"`
	} `json:"errors"`
}

// refusal turns the server's answer into a sentence.
func refusal(status int, answer []byte) error {
	if status == http.StatusUnauthorized {
		return errors.New("the server does not know this API key: give another with --key or RINGBACK_KEY")
	}
	var p problem
	if json.Unmarshal(answer, &p) != nil || (p.Title == "" && p.Detail == "") {
		return fmt.Errorf("the server answered %d %s", status, http.StatusText(status))
	}
	said := cmp.Or(p.Detail, p.Title)
	for _, e := range p.Errors {
		if !strings.Contains(said, e.Message) {
			said += strings.TrimSuffix("; "+e.Location, "; ") + ": " + e.Message
		}
	}
	return fmt.Errorf("%s (%d)", printable(said), status)
}

// pageQuery starts a list's query with the flags of its page.
func pageQuery(c *cli.Context) url.Values {
	query := url.Values{}
	if n := c.Int("limit"); n > 0 {
		query.Set("limit", fmt.Sprint(n))
	}
	setQuery(query, "cursor", c.String("cursor"))
	return query
}

func setQuery(query url.Values, name, value string) {
	if value != "" {
		query.Set(name, value)
	}
}

// more tells, on stderr, how to see the next page.
func more(c *cli.Context, cursor string) {
	if cursor != "" {
		_, _ = fmt.Fprintf(c.App.ErrWriter, "there is more: add --cursor %s\n", printable(cursor))
	}
}
