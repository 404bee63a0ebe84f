package client

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// DefaultMaxElapsed is how long after its first attempt a call may be tried again. A Redis that restarts or fails over behind the
// server is back within it.
const DefaultMaxElapsed = 30 * time.Second

const (
	defaultUserAgent = "ringback-go"
	// attemptTimeout is how long one request may take, its answer included. The server answers within moments, or 503.
	attemptTimeout = 30 * time.Second
	// testTimeout is attemptTimeout for testing a callback: the partner has up to 60 s to answer.
	testTimeout = 75 * time.Second
	// deleteTypeTimeout is attemptTimeout for deleting a callback type, for which the server looks twice through what waits.
	deleteTypeTimeout = 90 * time.Second
	// batchTimeout is attemptTimeout for a batch: 16 MiB over a slow line.
	batchTimeout = 2 * time.Minute
	// idleConns are kept to the server between requests: as many as callers usually send at the same time.
	idleConns = 32
	// maxAnswer bounds what is read of an answer: a page of 500 deliveries with all their attempts stays far below.
	maxAnswer = 64 << 20
)

// Config is what [New] needs.
type Config struct {
	// Server is the server's URL, such as "https://ringback.example". A path in it is kept. Required.
	Server string

	// Key is an API key, as `ringback keys create` makes it. Required. It is part of no error.
	Key string

	// HTTPClient sends the requests. Default: one without a proxy for the loopback interface (see [http.ProxyFromEnvironment]) that keeps
	// connections open. Whatever its settings are, redirects are not followed; its Timeout should be zero, for each request has one.
	HTTPClient *http.Client

	// TLS, if set, is how connections to an https server are made: which authorities are trusted, and which certificate is shown to a server
	// that wants one. Default: the system's authorities, and none. Not together with HTTPClient, which has its own.
	TLS *tls.Config

	// UserAgent says who calls. Default: "ringback-go".
	UserAgent string

	// MaxElapsed is how long after its first attempt a call may be tried again; see the package's documentation for which are.
	// Default: [DefaultMaxElapsed]. Negative: nothing is repeated but what a limit refused (429) and asked for again, for [DefaultMaxElapsed].
	MaxElapsed time.Duration

	// OnRepeat, if set, hears of every failed attempt that will be repeated, before the pause. Calls may be concurrent.
	OnRepeat func(err error, wait time.Duration)
}

// A Client talks to one server with one key. It is safe for concurrent use and needs no closing.
type Client struct {
	server     *url.URL
	key        string
	http       *http.Client
	userAgent  string
	maxElapsed time.Duration
	onRepeat   func(error, time.Duration)
}

// New makes a client. It asks the server nothing yet.
func New(cfg Config) (*Client, error) {
	server, err := url.Parse(cfg.Server)
	if err != nil || server.Host == "" || (server.Scheme != "http" && server.Scheme != "https") {
		return nil, errors.New("client: Config.Server must be a URL such as https://ringback.example")
	}
	if server.User != nil || server.RawQuery != "" || server.Fragment != "" {
		return nil, errors.New("client: Config.Server must be a URL without user, query and fragment: the key goes into Config.Key")
	}
	if cfg.Key == "" {
		return nil, errors.New("client: Config.Key is missing: `ringback keys create` makes an API key")
	}
	if strings.ContainsFunc(cfg.Key, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("client: Config.Key has a space, a line's end or another character that no API key has")
	}
	if cfg.TLS != nil && cfg.HTTPClient != nil {
		return nil, errors.New("client: Config.TLS and Config.HTTPClient are both set: put the one into the other's transport")
	}
	c := &Client{
		server: server, key: cfg.Key, http: &http.Client{Transport: transport(cfg.TLS)}, userAgent: cmp.Or(cfg.UserAgent, defaultUserAgent),
		maxElapsed: cmp.Or(cfg.MaxElapsed, DefaultMaxElapsed), onRepeat: cfg.OnRepeat,
	}
	if cfg.HTTPClient != nil {
		own := *cfg.HTTPClient
		c.http = &own
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if c.onRepeat == nil {
		c.onRepeat = func(error, time.Duration) {}
	}
	return c, nil
}

// transport is Go's own with more connections to the one server there is.
func transport(config *tls.Config) http.RoundTripper {
	own, ok := http.DefaultTransport.(*http.Transport)
	if !ok { // the program has put something of its own there: it will know why
		return http.DefaultTransport
	}
	own = own.Clone()
	own.MaxIdleConnsPerHost = idleConns
	if config != nil {
		own.TLSClientConfig = config.Clone()
	}
	return own
}

// Do asks for what no other method does: body (none if nil) goes to path, such as "/companies/acme/config/callbacks", as JSON, or as a
// merge patch with PATCH. The answer comes back as it is. GET is repeated as reading is, everything else only after a 429.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body []byte) (json.RawMessage, error) {
	var answer json.RawMessage
	return answer, c.send(ctx, request{method: method, rawPath: path, query: query, body: body, conditional: true, read: func(r io.Reader) error {
		var err error
		answer, err = io.ReadAll(r)
		return err
	}})
}

// An Answer is part of everything that the server answers whole.
type Answer struct {
	// Raw is the answer as it came, with members that this package does not know. Empty within lists: theirs is the list's.
	Raw json.RawMessage `json:"-"`
}

func (a *Answer) keep(raw json.RawMessage) { a.Raw = raw }

// ask sends a request and decodes its answer.
func ask[T any](ctx context.Context, c *Client, r request) (*T, error) {
	v := new(T)
	r.read = func(body io.Reader) error {
		answer, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		*v = *new(T)
		if err := json.Unmarshal(answer, v); err != nil {
			return &unexpectedError{err}
		}
		if keeper, ok := any(v).(interface{ keep(raw json.RawMessage) }); ok {
			keeper.keep(answer)
		}
		return nil
	}
	var etag string
	r.etag = &etag
	if err := c.send(ctx, r); err != nil {
		return nil, err
	}
	if tagged, ok := any(v).(interface{ tag(etag string) }); ok {
		tagged.tag(etag)
	}
	return v, nil
}

// request is one call of the API.
type request struct {
	method string
	// path is made of segments, which are escaped; rawPath stands in for it where it is set.
	path      []string
	rawPath   string
	query     url.Values
	body      []byte        // nil: none
	mediaType string        // of the body; default by method
	repeat    bool          // whether another try is safe after any failure, as it is of a GET
	once      bool          // whether another is not wanted even where the server did nothing (429)
	key       string        // an Idempotency-Key; empty: none
	timeout   time.Duration // of one try; default attemptTimeout

	conditional bool   // whether the server reads an If-Match of it
	ifMatch     string // that If-Match; empty: none

	// etag, if set, is given the ETag of an answer of 2xx.
	etag *string
	// read takes an answer of 2xx; what it returns of the reader's errors makes the try a failed one. Nil: the answer is not looked at.
	read func(io.Reader) error
}

// AllOfThem stands where a company's name does in lists over all companies, for keys of all companies: what they list names its company.
const AllOfThem = "*"

// target is the URL of a request.
func (c *Client) target(r request) (string, error) {
	path := r.rawPath
	if path == "" {
		for _, segment := range r.path {
			if segment == "" || segment == "." || segment == ".." {
				return "", fmt.Errorf("client: a company, a type or an id is %q, which can name none: no name is empty, and none is . or .. alone", segment)
			}
			path += "/" + strings.ReplaceAll(url.PathEscape(segment), "%2A", AllOfThem) // which needs no escape
		}
	}
	target := strings.TrimSuffix(c.server.String(), "/") + path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	return target, nil
}

// send makes a request, again and again where that is safe and may help.
func (c *Client) send(ctx context.Context, r request) error {
	target, err := c.target(r)
	if err != nil {
		return err
	}
	if r.ifMatch, err = condition(ctx, r); err != nil {
		return err
	}
	pauses := c.pauses()
	r.repeat = r.repeat || r.method == http.MethodGet
	if r.key = keyed(ctx, r); r.key != "" {
		r.repeat = !r.once
	}
	for {
		err := c.try(ctx, target, r)
		if err == nil || !r.repeat && (r.once || !tooSoon(err)) {
			return err
		}
		wait, ok := pauses.next(err)
		if !ok {
			return err
		}
		c.onRepeat(err, wait)
		if !sleep(ctx, wait) {
			return c.interrupted(ctx)
		}
	}
}

// keyed is the Idempotency-Key of a request, empty if it has none.
func keyed(ctx context.Context, r request) string {
	if r.method != http.MethodPost || r.repeat { // what is safe to repeat anyway needs none
		return ""
	}
	key, _ := ctx.Value(idempotencyKey{}).(string)
	return key
}

// condition is the If-Match of a request, empty if it has none.
func condition(ctx context.Context, r request) (string, error) {
	etag, given := ctx.Value(ifMatch{}).(string)
	switch {
	case !given:
		return "", nil
	case !r.conditional:
		return "", errors.New("client: WithIfMatch goes with calls that change a callback's settings or a callback type, and this is none: make it with another context")
	case etag == "" || strings.ContainsFunc(etag, func(c rune) bool { return c < ' ' || c > '~' }):
		return "", errors.New("client: WithIfMatch needs an ETag as Callback, Type and changes answer it: in lists there is none, nor does a server of version 0.1 have any")
	}
	return etag, nil
}

// try makes a request once.
func (c *Client) try(parent context.Context, target string, r request) error {
	timeout := cmp.Or(r.timeout, attemptTimeout)
	ctx, cancel := context.WithTimeout(parent, timeout)
	defer cancel()
	var body io.Reader
	if r.body != nil {
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+c.key)
	req.Header.Set("Accept", "application/json, application/x-ndjson, application/problem+json")
	req.Header.Set("User-Agent", c.userAgent)
	if r.key != "" {
		req.Header.Set("Idempotency-Key", r.key)
	}
	if r.ifMatch != "" {
		req.Header.Set("If-Match", r.ifMatch)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", cmp.Or(r.mediaType, defaultMediaType(r.method)))
	}
	resp, err := c.http.Do(req)
	if err == nil {
		defer func() { _ = resp.Body.Close() }()
		err = read(resp, r.read)
		if r.etag != nil {
			*r.etag = strings.TrimPrefix(resp.Header.Get("ETag"), "W/") // a proxy that compresses puts that before it, and If-Match takes none
		}
	}
	if parent.Err() != nil && err != nil {
		return c.interrupted(parent)
	}
	switch err.(type) { //nolint:errorlint // these are made below, and not wrapped
	case nil, *APIError, *unexpectedError:
		return err
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("no answer within %s", timeout)
	}
	return &UnreachableError{Server: c.server.String(), Err: unwrapURL(err)}
}

func defaultMediaType(method string) string {
	if method == http.MethodPatch {
		return "application/merge-patch+json"
	}
	return "application/json"
}

// read takes an answer in.
func read(resp *http.Response, into func(io.Reader) error) error {
	body := io.LimitReader(resp.Body, maxAnswer)
	if resp.StatusCode/100 != 2 {
		text, err := io.ReadAll(body)
		if err != nil {
			text = nil // the status says enough
		}
		return refusal(resp, text)
	}
	if into == nil {
		return nil
	}
	return into(body)
}

func (c *Client) interrupted(ctx context.Context) error {
	return fmt.Errorf("asking %s: %w", c.server.String(), ctx.Err())
}

// pauses are those between the tries of one call.
type pauses struct {
	backoff *backoff.ExponentialBackOff
	off     bool
}

// pauses begins to count. They grow from 200 ms by half to 5 s, each within ±50 %, so that clients do not come back all at once.
func (c *Client) pauses() *pauses {
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(5*time.Second), backoff.WithMaxElapsedTime(c.maxElapsed))
	return &pauses{b, c.maxElapsed < 0}
}

// next is how long to wait after a try that failed; false if there must be no other.
func (p *pauses) next(err error) (time.Duration, bool) {
	asked, ok := temporary(err)
	if !ok {
		return 0, false
	}
	if p.off {
		limit, is := errors.AsType[*APIError](err)
		return asked, is && limit.Status == http.StatusTooManyRequests && asked > 0 && p.backoff.GetElapsedTime()+asked <= DefaultMaxElapsed
	}
	wait := p.backoff.NextBackOff()
	if wait == backoff.Stop {
		return 0, false
	}
	wait = max(wait, asked)
	return wait, p.backoff.GetElapsedTime()+wait <= p.backoff.MaxElapsedTime
}

// sleep reports whether it slept to its end.
func sleep(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// query is a request's, of names and values in turn; what is empty is left out.
func query(pairs ...string) url.Values {
	q := url.Values{}
	for pair := range slices.Chunk(pairs, 2) {
		if pair[1] != "" {
			q.Set(pair[0], pair[1])
		}
	}
	return q
}

// number is how a query has a number: zero is left out.
func number[N int | int64](n N) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(int64(n), 10)
}

// moment is how a query has a time: the zero one is left out.
func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}
