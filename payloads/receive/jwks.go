package receive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/payloads"
)

const (
	// refetchEvery is how often a signature that no key fits makes JWKS look for newer keys: a stranger can send such signatures all day.
	refetchEvery = time.Minute
	// retryEvery is how soon a fetch that failed is tried again.
	retryEvery = 5 * time.Second
	// staleFor is how long keys are used after their time if they cannot be fetched anew. A key that was taken back counts for that long at most.
	staleFor = time.Hour

	defaultMaxAge = time.Hour // where the answer does not say
	longestMaxAge = 24 * time.Hour

	maxJWKS      = 1 << 20
	fetchTimeout = 10 * time.Second
)

// JWKS knows the public keys at a URL: a JSON Web Key Set (RFC 7517) with keys of type OKP and curve Ed25519 (RFC 8037), such as Ringback publishes at
// /companies/{company}/.well-known/jwks.json. Keys of other types are passed over. It may be used by many goroutines at once.
type JWKS struct {
	url    string
	client *http.Client

	mu       sync.Mutex
	keys     []payloads.PublicKey
	fresh    time.Time     // until then the keys need not be fetched
	known    bool          // a fetch has succeeded
	tried    time.Time     // when the last fetch began; zero: none did
	failure  error         // of the last fetch
	fetching chan struct{} // closed when the fetch under way ends; nil: there is none
}

// NewJWKS is the JWKS at that URL, which is fetched when a key is needed. It must be https, or lead to this machine. client fetches it; nil: one
// that waits 10 seconds at most.
func NewJWKS(at string, client *http.Client) (*JWKS, error) {
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || u.User != nil {
		return nil, errors.New("the URL of a key set looks like https://ringback.example/companies/acme/.well-known/jwks.json")
	}
	if u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("the URL of a key set must be https: who can change the keys on their way can sign anything")
	}
	if client == nil {
		client = &http.Client{Timeout: fetchTimeout}
	}
	return &JWKS{url: at, client: client}, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// Keys is a [PublicKeys]: it fetches the keys when there are none yet, or they are older than the answer's max-age (an hour if it has none, a day at
// most), or unknown is true and the last fetch is more than a minute old. If that fails, the keys of before are used for an hour past their time.
func (j *JWKS) Keys(ctx context.Context, unknown bool) ([]payloads.PublicKey, error) {
	mine, others := j.claim(time.Now(), unknown)
	switch {
	case mine != nil:
		j.fetch(ctx, mine)
	case others != nil:
		select {
		case <-others:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return j.current(time.Now())
}

// current returns the keys that may be used.
func (j *JWKS) current(now time.Time) ([]payloads.PublicKey, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.usable(now) {
		return nil, j.failure
	}
	return j.keys, nil
}

func (j *JWKS) usable(now time.Time) bool { return j.known && now.Sub(j.fresh) <= staleFor }

// claim returns the end of a fetch that the caller has to make, or that of one under way that the caller has to wait for; neither if the keys at hand
// do. While somebody else fetches, keys that are usable are used.
func (j *JWKS) claim(now time.Time, unknown bool) (mine, others chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.fetching != nil && (unknown || !j.usable(now)):
		return nil, j.fetching
	case j.fetching != nil || !j.due(now, unknown):
		return nil, nil
	}
	j.tried, j.fetching = now, make(chan struct{})
	return j.fetching, nil
}

// due reports whether the keys have to be fetched.
func (j *JWKS) due(now time.Time, unknown bool) bool {
	stale := !now.Before(j.fresh)
	switch {
	case j.tried.IsZero():
		return true
	case stale:
		return j.failure == nil || now.Sub(j.tried) >= retryEvery
	default:
		return unknown && now.Sub(j.tried) >= refetchEvery
	}
}

// fetch gets the keys. A caller that goes away meanwhile does not end it: the others need the keys as well.
func (j *JWKS) fetch(ctx context.Context, end chan struct{}) {
	begun, got, age, err := time.Now(), []payloads.PublicKey(nil), time.Duration(0), errors.New("the fetch of the keys panicked")
	defer func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		if j.failure = err; err == nil {
			j.keys, j.known, j.fresh = got, true, begun.Add(age)
		}
		j.fetching = nil
		close(end)
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	got, age, err = j.get(ctx)
}

func (j *JWKS) get(ctx context.Context) ([]payloads.PublicKey, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, j.url, nil)
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("%s answered %s", j.url, resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxJWKS+1))
	switch {
	case err != nil:
		return nil, 0, err
	case len(text) > maxJWKS:
		return nil, 0, fmt.Errorf("%s is longer than %d bytes", j.url, maxJWKS)
	}
	keys, err := payloads.ParseJWKS(text)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", j.url, err)
	}
	return keys, maxAge(resp.Header), nil
}

// maxAge is how long an answer says that it may be kept.
func maxAge(h http.Header) time.Duration {
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return refetchEvery
		case "max-age":
			if seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
				return min(max(time.Duration(seconds)*time.Second, refetchEvery), longestMaxAge)
			}
		}
	}
	return defaultMaxAge
}
