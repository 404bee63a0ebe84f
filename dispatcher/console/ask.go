package console

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/client"
)

// A question is one call of the API.
type question struct {
	method  string
	path    string // see route
	query   url.Values
	body    any    // nil: none
	version string // that what it changes must still have; empty: any
}

// route is a path of the API made of segments, each escaped. The API refuses those that name nothing.
func route(segments ...string) string {
	var path strings.Builder
	for _, s := range segments {
		path.WriteString("/" + url.PathEscape(s))
	}
	return path.String()
}

// ask calls the API in this process, on behalf of from, and decodes its answer into an answer, unless that is nil. ctx holds the caller, or
// from's header does. A refusal is a *client.APIError.
func ask(ctx context.Context, api http.Handler, from *http.Request, w http.ResponseWriter, q question, answer any) error {
	got, err := answered(ctx, api, from, w, q)
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(got.body.Bytes(), answer); err != nil {
		return fmt.Errorf("the answer of %s %s: %w", q.method, q.path, err)
	}
	return nil
}

// answered calls the API, and returns its answer as it is.
func answered(ctx context.Context, api http.Handler, from *http.Request, w http.ResponseWriter, q question) (*kept, error) {
	r, err := request(ctx, from, q)
	if err != nil {
		return nil, err
	}
	got := &kept{header: http.Header{}, page: w}
	api.ServeHTTP(got, r)
	if got.status/100 != 2 {
		return nil, refusal(got)
	}
	if strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
		return nil, errNoPage
	}
	return got, nil
}

// errNoPage is for paths without a page. Among them are those whose ids lead to a stream of the API's, which has no end and is nothing to show.
var errNoPage = &client.APIError{Status: http.StatusNotFound, Title: "Not Found", Detail: "there is no page here"}

// request is the call of the API that a question makes.
func request(ctx context.Context, from *http.Request, q question) (*http.Request, error) {
	var body bytes.Buffer
	if q.body != nil {
		enc := json.NewEncoder(&body)
		enc.SetEscapeHTML(false) // texts go as they were given
		if err := enc.Encode(q.body); err != nil {
			return nil, err
		}
	}
	target := q.path
	if len(q.query) > 0 {
		target += "?" + q.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, target, &body)
	if err != nil {
		return nil, err
	}
	r.RequestURI, r.RemoteAddr, r.Host, r.TLS = target, from.RemoteAddr, from.Host, from.TLS
	r.Header.Set("User-Agent", from.UserAgent())
	if key := from.Header.Get("Authorization"); key != "" {
		r.Header.Set("Authorization", key)
	}
	if q.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if q.version != "" {
		r.Header.Set("If-Match", q.version)
	}
	return r, nil
}

// refusal is the error that an answer of the API is.
func refusal(got *kept) error {
	e := &client.APIError{}
	if json.Unmarshal(got.body.Bytes(), e) != nil {
		*e = client.APIError{}
	}
	e.Status = got.status
	if seconds := got.header.Get("Retry-After"); seconds != "" {
		e.RetryAfter, _ = time.ParseDuration(seconds + "s")
	}
	return e
}

// kept keeps an answer whole. It passes on nothing but deadlines, which are those of the page's connection.
type kept struct {
	header http.Header
	status int
	body   bytes.Buffer
	page   http.ResponseWriter
}

func (k *kept) Header() http.Header { return k.header }

func (k *kept) WriteHeader(status int) {
	if k.status == 0 {
		k.status = status
	}
}

func (k *kept) Write(b []byte) (int, error) {
	k.WriteHeader(http.StatusOK)
	return k.body.Write(b)
}

// SetWriteDeadline gives the page the time that the API gives itself.
func (k *kept) SetWriteDeadline(t time.Time) error {
	return http.NewResponseController(k.page).SetWriteDeadline(t)
}
