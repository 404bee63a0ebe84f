// Package egress is the only door through which Ringback talks to strangers.
//
// A [Client] sends one request to a URL that somebody outside chose, and comes back with either a [Response] or an [*Error], within a
// bounded time and a bounded amount of memory, whatever the other side does. It promises:
//
//   - Nothing inside is reachable. Every connection is judged by its address after the name was resolved and before the first packet leaves,
//     so naming, DNS and encoding tricks do not matter. Redirects are answers like any other and are never followed; a proxy is used only if [Config.Proxy] says so.
//   - The URL is called exactly as registered: the path and the query appear on the wire byte for byte, and so does the Host header,
//     but for an international host name, which goes out in its xn-- form. What could not be sent that way is refused by [Client.CheckURL].
//   - One call of [Client.Do] is at most one request that anybody answered or could have answered, but for [Request.Repeatable] and OPTIONS. What is
//     provably unread by the other side (a kept-alive connection that was closed before the first byte was written, an HTTP/2 stream
//     refused by the server) is sent again on another connection. A repeatable request goes out once more, at once and on a
//     connection that is a second old at most, if a kept one ended before anything of an answer came; the timing says so. Anything else is reported and left to the
//     caller's schedule.
//   - No connection is believed in for long. One that is about to be closed by the other side, as that said or was seen to do, is not used.
//     New requests leave a connection after two to four minutes, so a host that moved is found at its new address. An HTTP/2
//     connection that has been silent for 10 s is given up, and after a timeout on a connection that is shared or had served before,
//     the next request gets a new one.
//   - The status and the headers are the answer. Once they arrived, nothing that happens to the body turns the answer into an error. An answer
//     counts, too, if the receiver gives it before it has read the request, and then closes.
//   - An error says why in a closed vocabulary ([Reason]) and in a short sentence that holds no URL, no address and no secret.
//
// [Tokens] keeps the access tokens (OAuth2 client credentials) that some strangers want to see, and asks for them through the same door: a token
// endpoint is a stranger like any other.
//
// The package knows no Redis, no events and no signatures: the caller hands over headers and bytes.
package egress

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Client sends requests to strangers. It is safe for concurrent use, keeps connections for reuse, and starts no goroutine that outlives
// its connections. Make one with [New] and share it: every call to the outside goes through it.
type Client struct {
	guard      *guard
	hosts      *hosts
	transport  *http.Transport
	maxTimeout time.Duration
}

// New checks cfg and returns a Client that has no connection yet.
func New(cfg Config) (*Client, error) {
	if cfg.MaxTimeout < 0 {
		return nil, fmt.Errorf("egress: MaxTimeout %s is negative: leave it zero for %s", cfg.MaxTimeout, DefaultMaxTimeout)
	}
	if cfg.MaxTimeout == 0 {
		cfg.MaxTimeout = DefaultMaxTimeout
	}
	g, err := newGuard(cfg, publicPorts)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := clientTLS(cfg.TLS)
	if err != nil {
		return nil, err
	}
	dial := cfg.Dial
	switch {
	case dial != nil:
	case cfg.Proxy != nil:
		p, err := newProxy(cfg.Proxy, tlsConfig)
		if err != nil {
			return nil, fmt.Errorf("egress: Proxy %w", err)
		}
		p.contain = g.contain
		dial = g.proxied(cfg.Resolver, p)
	default:
		dial = g.dialer(cfg.Resolver)
	}
	c := &Client{guard: g, hosts: newHosts(), maxTimeout: cfg.MaxTimeout}
	c.transport = newTransport(g.contained(c.hosts.dialer(tracked(dial))), tlsConfig)
	return c, nil
}

// Contain makes the Client survive panics while it opens connections: in goroutines of net/http's, where the caller of Do cannot. The request
// fails with [Network] then, and panicked hears of it in the deferred function that recovered. Without Contain such a panic ends the process.
func (c *Client) Contain(panicked func(ctx context.Context, cause any)) {
	c.guard.panicked.Store(&panicked)
}

// Close closes the connections that are waiting for reuse. Requests under way finish, and the Client stays usable.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// CheckURL says whether a callback may be registered with this URL: nil, or an error whose text tells the partner what to write instead.
// The text never repeats the URL.
//
// It looks no name up: where a name leads is judged on every connection. It wants
//
//   - an absolute http or https URL of at most 2048 bytes, without user info, fragment or whitespace, and in printable ASCII but for the host;
//   - no literal address as its host, unless [Config.Allow] covers it. localhost counts as 127.0.0.1;
//   - no host name of an internal network (.internal, .local, .svc and the like, a name without a dot), unless [Config.AllowNames] lets it
//     through; the error is then [ErrNameNotAllowed]. An international name is judged, and looked up, as the xn-- form that IDNA (UTS 46)
//     maps it to;
//   - port 80, 443 or 8443, unless the host is such an allowed one;
//   - a path that [Client.Do] can put on the wire byte for byte.
func (c *Client) CheckURL(raw string) error {
	t, err := parseTarget(raw)
	if err != nil {
		return err
	}
	return c.guard.checkTarget(t)
}
