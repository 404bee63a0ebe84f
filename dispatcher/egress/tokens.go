package egress

import (
	"container/list"
	"context"
	"errors"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2/clientcredentials"
)

const (
	// failureKept is how long nobody asks again after a token endpoint failed: a dead one is asked once a second at most.
	failureKept = time.Second

	// maxSources and sourceIdle bound how many tokens are kept, and for how long. A token is rarely larger than 2 KiB.
	maxSources = 10_000
	sourceIdle = time.Hour
)

// Tokens keeps an access token for each owner and its credentials, in memory, and fetches it when it is needed. All who wait for the same token
// wait for one request. Changed credentials are other credentials, and get a token of their own. If nobody has asked for a token within an hour,
// it is forgotten when the next is asked for.
//
// It is safe for concurrent use. Close it before its Client.
type Tokens struct {
	client    *Client
	userAgent string
	report    func(context.Context, Fetched)
	panicked  func(ctx context.Context, cause any)
	limits    func() (context.Context, context.CancelFunc) // of a fetch: it may outlive all who wait for it
	cancel    context.CancelFunc                           // ends them all
	wg        sync.WaitGroup                               // the fetches

	mu      sync.Mutex
	closed  bool
	sources map[sourceKey]*list.Element
	recent  *list.List // of *source, the last used first
}

// Fetched tells how one fetch of a token went.
type Fetched struct {
	Owner Owner
	Took  time.Duration
	Err   *Error // nil: a token came
}

// NewTokens returns an empty Tokens that asks through c under the name userAgent. When a fetch has ended, successful or not, it tells report. A
// panic in a fetch is a fault of ours. The fetch has failed then, and panicked is told while the stack is still there.
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

// A sourceKey tells the sources apart: by owner, and by all that a token is asked for with.
type sourceKey struct {
	owner                                             Owner
	url, clientID, secret, scopes, audience, identity string
}

// A source is where one owner's tokens come from. Tokens.mu guards it, but for config: that belongs to the fetch under way. config remembers
// whether this endpoint wants the credentials in the header or in the body.
type source struct {
	key      sourceKey
	identity *Identity
	config   *clientcredentials.Config
	used     time.Time
	token    *Token
	fetching *fetch // nil: none under way
	failed   *Error // why the last fetch failed, nil if it did not
	failedAt time.Time
}

// A fetch asks for one token. When done is closed, token and err hold.
type fetch struct {
	done  chan struct{}
	token *Token
	err   *Error
}

// Get returns a token to send. If there is none that may be used, it waits for one as long as ctx lets it, and waited says how long that was. If
// ctx ends, the fetch goes on for others. The error is an [*Error]: OAuth, EgressProxy, or Canceled if ctx or t was ended from this side.
func (t *Tokens) Get(ctx context.Context, owner Owner, creds ClientCredentials) (token *Token, waited time.Duration, err error) {
	t.mu.Lock()
	now := time.Now()
	s := t.use(owner, creds, now)
	usable := s.token.usable(now)
	if s.fetching == nil && (!usable || s.token.ageing(now)) && now.Sub(s.failedAt) >= failureKept && !t.closed {
		t.begin(s) //nolint:contextcheck // the fetch is for all who wait, and may outlive each of them
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

// late is the error of a caller whose ctx ended while it waited for a token.
func late(ctx context.Context) *Error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return &Error{Reason: Canceled, Detail: "the token was given up from this side", err: ctx.Err()}
	}
	return &Error{Reason: OAuth, Detail: lateEndpoint, err: ctx.Err()}
}

// use finds the source, or adds it, and forgets the sources that nobody uses.
func (t *Tokens) use(owner Owner, creds ClientCredentials, now time.Time) *source {
	key := sourceKey{owner, creds.TokenURL, creds.ClientID, creds.ClientSecret, strings.Join(creds.Scopes, " "), creds.Audience, creds.Identity.key()}
	place, known := t.sources[key]
	if known {
		t.recent.MoveToFront(place)
	} else {
		config := &clientcredentials.Config{ClientID: creds.ClientID, ClientSecret: creds.ClientSecret, TokenURL: creds.TokenURL, Scopes: creds.Scopes}
		if creds.Audience != "" {
			config.EndpointParams = url.Values{"audience": {creds.Audience}}
		}
		place = t.recent.PushFront(&source{key: key, identity: creds.Identity, config: config})
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
		door := &tokenDoor{client: t.client, url: s.key.url, identity: s.identity, userAgent: t.userAgent}
		t.contain(ctx, func() { f.token, f.err = door.ask(ctx, s.config) })
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

// contain runs do, and survives its panic.
func (t *Tokens) contain(ctx context.Context, do func()) {
	defer func() {
		if cause := recover(); cause != nil {
			t.panicked(ctx, cause)
		}
	}()
	do()
}
