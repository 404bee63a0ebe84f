package egress

import (
	"bytes"
	"cmp"
	"container/list"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// tokenTimeout bounds the asking for one token, the second try with the credentials in the other place included.
	tokenTimeout = 10 * time.Second

	// failureKept is how long nobody asks again after a token endpoint failed: a dead one is asked once a second at most.
	failureKept = time.Second

	// provenAge is how long a token is kept that the partner refuses, if it never worked or took the place of a refused one: a partner that
	// refuses whatever it is sent costs its token endpoint one request a second. One that worked is given up at once.
	provenAge = time.Second

	// maxSources and sourceIdle bound what is kept: a token is rarely larger than 2 KiB.
	maxSources = 10_000
	sourceIdle = time.Hour

	// maxTokenLen bounds an access token, in bytes: servers take 8 KiB to 16 KiB of header.
	maxTokenLen = 16 << 10
)

// ClientCredentials are what an access token is asked for with (RFC 6749, section 4.4).
type ClientCredentials struct {
	TokenURL     string // as it was registered; see [Client.CheckURL]
	ClientID     string
	ClientSecret string
	Scopes       []string // nil: none is asked for
	Audience     string   // empty: none is named
}

// String leaves all of it out.
func (ClientCredentials) String() string { return "client credentials ***" }

// Owner is whose token it is: two callbacks never share one, whatever their credentials.
type Owner struct {
	Company  string
	Callback int64
}

// A Token is an access token. What became of it is said by who used it: [Token.Worked] or [Token.Refused].
type Token struct {
	value   string
	got     time.Time
	refresh time.Time // from then on another is fetched beside it; zero: never
	expired time.Time // from then on it is not used any more; zero: never
	instead bool      // it took the place of one that was refused
	worked  atomic.Bool
	refused atomic.Bool
}

// newToken dates a token: life counts from when it was asked for, since nobody knows when it was made. Zero is for ever.
//
// Another is fetched in the last fifth of its life, in its last minute if that is shorter. In the last tenth (5 s at most) it is
// not used any more: it would expire on its way.
func newToken(value string, asked time.Time, life time.Duration) *Token {
	t := &Token{value: value, got: time.Now()}
	if life > 0 {
		expiry := asked.Add(life)
		t.refresh = expiry.Add(-min(life/5, time.Minute))
		t.expired = expiry.Add(-min(life/10, 5*time.Second))
	}
	return t
}

// String leaves the token out.
func (*Token) String() string { return "access token ***" }

// Reveal returns the token itself, which is secret.
func (t *Token) Reveal() string { return t.value }

// Worked notes that the partner took the token: whatever it answered, it was not 401.
func (t *Token) Worked() { t.worked.Store(true) }

// Refused notes that the partner answered 401, and reports whether another token may mend that: then this one is not given out again. It is not
// where the token never worked and is new, or where the one before it was refused a moment ago.
func (t *Token) Refused() bool {
	age := time.Since(t.got)
	if age >= provenAge || t.worked.Load() && !t.instead {
		t.refused.Store(true)
	}
	return t.refused.Load()
}

func (t *Token) usable(now time.Time) bool {
	return t != nil && !t.refused.Load() && (t.expired.IsZero() || now.Before(t.expired))
}

func (t *Token) ageing(now time.Time) bool { return !t.refresh.IsZero() && !now.Before(t.refresh) }

// Tokens keeps an access token for each owner and its credentials, in memory, and fetches it when it is needed: one request at a time, whoever
// waits for it. Changed credentials are others, and get a token of their own. What was not asked for within an hour is forgotten when
// the next is asked for.
//
// It is safe for concurrent use. Close it before its Client.
type Tokens struct {
	client    *Client
	userAgent string
	report    func(context.Context, Fetched)
	panicked  func(ctx context.Context, cause any)
	limits    func() (context.Context, context.CancelFunc) // of a fetch, which outlives those who wait for it
	cancel    context.CancelFunc                           // ends them all
	wg        sync.WaitGroup                               // the fetches

	mu      sync.Mutex
	closed  bool
	sources map[sourceKey]*list.Element
	recent  *list.List // of *source, the last used first
}

// Fetched tells how the asking for one token went.
type Fetched struct {
	Owner Owner
	Took  time.Duration
	Err   *Error // nil: a token came
}

// NewTokens returns an empty Tokens that asks through c under the name userAgent, and tells report of each fetch once it has ended,
// successful or not. A fetch that panics, which is a fault of ours, has failed, and panicked is told of it while the stack is still there.
func NewTokens(c *Client, userAgent string, report func(context.Context, Fetched), panicked func(ctx context.Context, cause any)) *Tokens {
	t := &Tokens{client: c, userAgent: userAgent, report: report, panicked: panicked, sources: make(map[sourceKey]*list.Element), recent: list.New()}
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel = cancel
	t.limits = func() (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, tokenTimeout) }
	return t
}

// Close gives up the fetches under way, waits until they have ended, and begins no more.
func (t *Tokens) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.wg.Wait()
}

type sourceKey struct {
	owner                                   Owner
	url, clientID, secret, scopes, audience string
}

// A source is where one owner's tokens come from. Tokens.mu guards it; config, which remembers how this endpoint wants the
// credentials (in the header or in the body), belongs to the fetch under way.
type source struct {
	key      sourceKey
	config   *clientcredentials.Config
	used     time.Time
	token    *Token
	fetching *fetch // nil: none under way
	failed   *Error // why the last fetch failed, nil if it did not
	failedAt time.Time
}

// A fetch is the asking for one token; token and err hold once done is closed.
type fetch struct {
	done  chan struct{}
	token *Token
	err   *Error
}

// Get returns a token to send. Where there is none that may be used, it waits for one as long as ctx lets it, and waited says how long that was; the
// fetch goes on for others if ctx ends. The error is an [*Error]: OAuth, EgressProxy, or Canceled if ctx or t was ended from this side.
func (t *Tokens) Get(ctx context.Context, owner Owner, creds ClientCredentials) (token *Token, waited time.Duration, err error) {
	t.mu.Lock()
	now := time.Now()
	s := t.use(owner, creds, now)
	usable := s.token.usable(now)
	if s.fetching == nil && (!usable || s.token.ageing(now)) && now.Sub(s.failedAt) >= failureKept && !t.closed {
		t.begin(s) //nolint:contextcheck // the fetch is for all who wait, and outlives each of them
	}
	token, under, failed, closed := s.token, s.fetching, s.failed, t.closed
	t.mu.Unlock()
	switch {
	case usable:
		return token, 0, nil
	case under != nil:
	case closed:
		return nil, 0, &Error{Reason: Canceled, Detail: "the token was given up from this side"}
	default:
		return nil, 0, failed
	}
	select {
	case <-under.done:
		if under.err != nil {
			return nil, time.Since(now), under.err
		}
		return under.token, time.Since(now), nil
	case <-ctx.Done():
		return nil, time.Since(now), late(ctx)
	}
}

// late is why who waited for a token goes without.
func late(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Reason: Canceled, Detail: "the token was given up from this side", err: ctx.Err()}
	}
	return &Error{Reason: OAuth, Detail: lateEndpoint, err: ctx.Err()}
}

// use finds the source, or adds it, and forgets the ones that nobody uses.
func (t *Tokens) use(owner Owner, creds ClientCredentials, now time.Time) *source {
	key := sourceKey{owner, creds.TokenURL, creds.ClientID, creds.ClientSecret, strings.Join(creds.Scopes, " "), creds.Audience}
	place, known := t.sources[key]
	if known {
		t.recent.MoveToFront(place)
	} else {
		config := &clientcredentials.Config{ClientID: creds.ClientID, ClientSecret: creds.ClientSecret, TokenURL: creds.TokenURL, Scopes: creds.Scopes}
		if creds.Audience != "" {
			config.EndpointParams = url.Values{"audience": {creds.Audience}}
		}
		place = t.recent.PushFront(&source{key: key, config: config})
		t.sources[key] = place
	}
	s := place.Value.(*source)
	s.used = now
	for oldest := t.recent.Back(); ; oldest = t.recent.Back() {
		idle := oldest.Value.(*source)
		if t.recent.Len() <= maxSources && now.Sub(idle.used) < sourceIdle {
			return s
		}
		t.recent.Remove(oldest)
		delete(t.sources, idle.key)
	}
}

// begin starts a fetch that ends by itself, or with t.
func (t *Tokens) begin(s *source) {
	f := &fetch{done: make(chan struct{}), err: &Error{Reason: OAuth, Detail: "a fault in Ringback itself kept it from asking for a token"}}
	s.fetching = f
	t.wg.Go(func() {
		defer close(f.done)
		ctx, cancel := t.limits()
		defer cancel()
		began := time.Now()
		t.contain(ctx, func() { f.token, f.err = t.ask(ctx, s) })
		t.mu.Lock()
		s.fetching, s.failed, s.failedAt = nil, f.err, time.Time{}
		if f.err == nil {
			f.token.instead = s.token != nil && s.token.refused.Load()
			s.token = f.token
		} else {
			s.failedAt = time.Now()
		}
		t.mu.Unlock()
		if f.err == nil || f.err.Reason != Canceled {
			t.contain(ctx, func() { t.report(ctx, Fetched{Owner: s.key.owner, Took: time.Since(began), Err: f.err}) })
		}
	})
}

// contain survives what do panics with.
func (t *Tokens) contain(ctx context.Context, do func()) {
	defer func() {
		if cause := recover(); cause != nil {
			t.panicked(ctx, cause)
		}
	}()
	do()
}

// ask makes the one request, or two while it is not known how the endpoint wants the credentials.
func (t *Tokens) ask(ctx context.Context, s *source) (*Token, *Error) {
	asked := time.Now()
	door := &tokenDoor{client: t.client, url: s.key.url, userAgent: t.userAgent}
	answer, err := s.config.Token(context.WithValue(ctx, oauth2.HTTPClient, &http.Client{
		Transport:     door,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}))
	if err != nil {
		return nil, door.explain(err)
	}
	broken := func(what string) *Error {
		return &Error{Reason: OAuth, Detail: "the token endpoint answered " + strconv.Itoa(door.answer.Status) + " " + what}
	}
	life := time.Duration(0)
	if !answer.Expiry.IsZero() {
		if life = time.Until(answer.Expiry).Round(time.Second); life <= 0 {
			return nil, broken("with an access_token that has expired already")
		}
	}
	switch value := answer.AccessToken; {
	case !strings.EqualFold(cmp.Or(answer.TokenType, "bearer"), "bearer"):
		return nil, broken("with a token_type other than bearer")
	case len(value) > maxTokenLen:
		return nil, broken("with an access_token of more than 16 KiB")
	case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' }):
		return nil, broken("with an access_token that no header can hold")
	default:
		return newToken(strings.Clone(value), asked, life), nil // a clone: the original may be a piece of the body
	}
}

// tokenDoor sends what the oauth2 package asks for through the Client, and keeps what came of it.
type tokenDoor struct {
	client    *Client
	url       string
	userAgent string
	answer    *Response // the last
	broken    *Error    // no answer, or none that is whole: there is nothing to gain from another try
}

const lateEndpoint = "the token endpoint did not answer in time"

// RoundTrip implements http.RoundTripper. The URL is the one that was registered, not net/url's reading of it.
func (d *tokenDoor) RoundTrip(req *http.Request) (*http.Response, error) {
	if d.broken != nil {
		return nil, d.broken
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	if err := req.Body.Close(); err != nil {
		return nil, err
	}
	header := req.Header.Clone()
	header.Set("Accept", "application/json")
	header.Set("User-Agent", d.userAgent)
	d.answer, err = d.client.Do(req.Context(), Request{URL: d.url, Header: header, Body: body, Timeout: tokenTimeout, KeepBody: maxReadBody})
	if err != nil {
		d.broken, _ = errors.AsType[*Error](err) // Do promises one
		return nil, err
	}
	if d.answer.Truncated && d.answer.Status <= 299 {
		d.broken = &Error{Reason: BadResponse, Detail: "the answer is longer than 64 KiB or broke off"}
		return nil, d.broken
	}
	return &http.Response{
		Status: http.StatusText(d.answer.Status), StatusCode: d.answer.Status, Header: d.answer.Header, Request: req,
		Body: io.NopCloser(bytes.NewReader(d.answer.Body)), ContentLength: int64(len(d.answer.Body)),
	}, nil
}

// explain says why there is no token, from what was seen at the door: the oauth2 package's texts quote the answer.
func (d *tokenDoor) explain(err error) *Error {
	switch {
	case d.broken != nil && d.broken.Reason == Canceled:
		return d.broken
	case d.broken != nil && d.broken.Reason == EgressProxy: // neither the endpoint's nor the partner's doing
		return &Error{Reason: EgressProxy, Detail: "the token endpoint: " + d.broken.Detail, err: d.broken}
	case d.broken != nil && d.broken.Reason == Timeout:
		return &Error{Reason: OAuth, Detail: lateEndpoint, err: d.broken}
	case d.broken != nil:
		return &Error{Reason: OAuth, Detail: "the token endpoint: " + d.broken.Detail, Inside: d.broken.Inside, err: d.broken}
	case d.answer == nil:
		return &Error{Reason: OAuth, Detail: "the token endpoint's URL cannot be called"}
	}
	return &Error{Reason: OAuth, Detail: "the token endpoint answered " + strconv.Itoa(d.answer.Status) + d.shortcoming(err)}
}

// shortcoming is what is wrong with an answer, to stand behind its status.
func (d *tokenDoor) shortcoming(err error) string {
	if d.answer.Status >= 300 && d.answer.Status <= 399 {
		return ": redirects are not followed"
	}
	if refusal, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
		if slices.Contains(errorCodes, refusal.ErrorCode) {
			return " (" + refusal.ErrorCode + ")"
		}
		return ""
	}
	if media, _, _ := mime.ParseMediaType(d.answer.Header.Get("Content-Type")); media == "text/html" || media == "text/plain" {
		return " with " + media + " instead of an access_token in JSON"
	}
	return " without an access_token that can be read"
}

// errorCodes are those of RFC 6749, sections 4.1.2.1 and 5.2, and of RFC 8707. Others are not shown: an endpoint may put there what it was sent.
var errorCodes = []string{
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "server_error", "temporarily_unavailable", "invalid_target",
}
