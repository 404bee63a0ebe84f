// Package egress is the only door through which Ringback talks to strangers.
//
// A [Client] sends one request to a URL that somebody outside chose, and comes back with either a [Response] or an [*Error], within a
// bounded time and a bounded amount of memory, whatever the other side does. It promises:
//
//   - Nothing inside is reachable. Every connection is judged by its address, after the name was resolved and before the first packet leaves.
//     So naming, DNS and encoding tricks do not matter. Redirects are answers like any other and are never followed. A proxy is used only if
//     [Config.Proxy] says so.
//   - The URL is called exactly as registered: the path, the query and the Host header appear on the wire byte for byte. Only an international
//     host name goes out in another form, that of xn--. [Client.CheckURL] refuses a URL that could not be sent that way.
//   - One call of [Client.Do] is at most one request that anybody answered or could have answered, but for [Request.Repeatable] and OPTIONS. If
//     the other side provably did not read a request, it is sent again on another connection: the kept-alive connection was closed before the
//     first byte was written, or the server refused the HTTP/2 stream. If a kept connection ended before anything of an answer came, a
//     repeatable request goes out once more, at once and on a connection that is a second old at most. The timing says so. Any other failure is
//     reported and left to the caller's schedule.
//   - No connection is believed in for long. If the other side is about to close one, by what it said or was seen to do, that one is not used.
//     New requests leave a connection after two to four minutes, so a host that moved is found at its new address. An HTTP/2
//     connection that has been silent for 10 s is given up. After a timeout on a connection that is shared or had served before,
//     the next request gets a new one.
//   - Connections are kept apart by TLS identity: one that was opened with a client certificate, for an authority or under a server name of a
//     [Request.Identity] serves only requests of the same. No TLS session is resumed.
//   - The status and the headers are the answer. When they have arrived, nothing that happens to the body turns the answer into an error. If the
//     receiver answers before it has read the request and then closes, the answer counts, too.
//   - An error says why in a closed vocabulary ([Reason]) and in a short sentence that holds no URL, no address and no secret.
//
// [Tokens] keeps the access tokens (OAuth2 client credentials) that some strangers want to see. It asks for them through the same door: a token
// endpoint is a stranger like any other.
//
// The package knows no Redis, no events and no signatures: the caller hands over headers and bytes.
//
// The files form layers, and each file leans only on those below it. From the bottom to the top they are:
//
//   - settings, reasons, URLs and TLS identities (config.go, transport.go, phase.go, reason.go, name.go, url.go, identity.go);
//   - connections (handshake.go, conn.go, pool.go), the trace of one request over them (trace.go), and TLS on top of them (secure.go);
//   - the guard and the dialers that ask it (guard.go, dial.go, proxy.go);
//   - the Client (egress.go) and its requests (do.go, explain.go);
//   - the tokens (token.go, tokendoor.go, tokens.go).
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
	identities *identities
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
	c := &Client{guard: g, hosts: newHosts(), identities: newIdentities(), maxTimeout: cfg.MaxTimeout}
	c.transport = newTransport(g.contained(c.hosts.dialer(tracked(dial))), tlsConfig)
	return c, nil
}

// Contain makes the Client survive panics while it opens connections. It does that in goroutines of net/http's, where the caller of Do cannot
// recover. The request fails with [Network] then, and panicked hears of the panic in the deferred function that recovered. Without Contain such a
// panic ends the process.
func (c *Client) Contain(panicked func(ctx context.Context, cause any)) {
	c.guard.panicked.Store(&panicked)
}

// Close closes the connections that are waiting for reuse. Requests under way finish, and the Client stays usable.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// CheckURL says whether a callback may be registered with this URL: nil, or an error whose text tells the partner what to write instead.
// The text never repeats the URL.
//
// It looks no name up: every connection is judged by the address that its name leads to. It wants
//
//   - an absolute http or https URL of at most 2048 bytes, without user info, fragment or whitespace, and in printable ASCII but for the host;
//   - no literal address as its host, unless [Config.Allow] covers it. localhost counts as 127.0.0.1;
//   - no host name of an internal network (.internal, .local, .svc and the like, a name without a dot), unless [Config.AllowNames] lets it
//     through. The error is [ErrNameNotAllowed]. An international name is judged, and looked up, as the xn-- form that IDNA (UTS 46)
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
