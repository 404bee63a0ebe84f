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
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

// DefaultTimeout bounds a request whose [Request.Timeout] is zero: a registration's default in the HTTP API.
const DefaultTimeout = 15 * time.Second

// DefaultMaxTimeout bounds every request unless [Config.MaxTimeout] says otherwise: the longest timeout the HTTP API lets a registration ask for.
const DefaultMaxTimeout = 60 * time.Second

const (
	// connectTimeout ends a connection attempt (lookup included) and a TLS handshake even when the request that asked for them has long gone:
	// a request's own deadline is nearly always the nearer one.
	connectTimeout = 10 * time.Second

	// maxHeaderBytes bounds the header of an answer, informational (1xx) answers included. Real ones stay below 4 KiB.
	maxHeaderBytes = 16 << 10

	// idlePerHost is how many connections to one host are kept for the next request: as many as a worker's default
	// concurrency puts under way to one callback, so that a busy one is not dialled anew for every request.
	idlePerHost = 128

	// idleTotal bounds the kept connections to all hosts together: each costs two goroutines and two 4 KiB buffers, about 100 MiB in all.
	idleTotal = 4096

	// idleTimeout is how long a connection is kept without use, unless the host is known to give it up sooner. Shorter than the idle timeout of
	// the usual load balancers is impossible (they range from 5 s to 10 min); a connection closed by the other side leaves the pool by itself.
	idleTimeout = 90 * time.Second

	// pingAfter is how long an HTTP/2 connection may be silent before it is asked for a sign of life, and pingTimeout how long that may take.
	// Together they bound how long requests go into a connection that something on the way has forgotten: less than the default timeout.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// Config is what [New] needs. The zero value is the strict production setting: public addresses only.
type Config struct {
	// Allow lists addresses that may be reached although they are private, loopback or otherwise special, and on any port.
	// A prefix of IPv4-mapped addresses (::ffff:10.0.0.0/104) means the IPv4 prefix. Nil: none.
	Allow []netip.Prefix

	// Deny lists addresses that may not be reached although they are public: the operator's own ranges, for example.
	// It wins over Allow. Nil: none beyond the IANA special-purpose registries and the Azure host address 168.63.129.16.
	Deny []netip.Prefix

	// AllowNames lists names of internal networks that may be called all the same: "receiver" is that name, ".corp.internal" every name below it,
	// "." every name. Where such a name leads is still judged by Allow. Names of cloud metadata services are refused whatever stands here. Nil: none.
	AllowNames []string

	// Resolver looks names up. Nil: Go's own resolver, which can be cancelled and occupies no thread while a name server is silent.
	// Names are looked up rooted (with a dot at their end), so that no search list applies; but localhost and names of internal networks, which
	// AllowNames lets through, are looked up as this machine looks up all others. A resolver with PreferGo false does not find rooted names in
	// /etc/hosts.
	Resolver *net.Resolver

	// Proxy is an HTTP proxy that takes CONNECT, through which every connection goes: http or https, a host, perhaps a port, user and password.
	// Names are looked up and addresses judged before the proxy hears of them. What the proxy refuses fails with [EgressProxy]. Nil: none;
	// HTTP_PROXY and its kin are never read.
	Proxy *url.URL

	// MaxTimeout is the longest a request may take, body included; longer request timeouts are cut to it. Zero: [DefaultMaxTimeout].
	MaxTimeout time.Duration

	// TLS holds what differs from the standard: RootCAs for private authorities, Certificates for partners that ask for one.
	// It is copied. InsecureSkipVerify, a ServerName, a MinVersion or MaxVersion below TLS 1.2 are refused. Nil: the system's roots, TLS 1.2 or later.
	TLS *tls.Config

	// Dial replaces the dialer and with it THE WHOLE ADDRESS GUARD. It exists for tests inside a testing/synctest bubble,
	// where connections are pipes; a production wiring leaves it nil. CheckURL's policy stays in force.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

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

// errPanicked is what became of a dial that panicked.
var errPanicked = errors.New("egress: a fault in Ringback itself kept it from opening a connection")

// contain runs do, and turns its panic into an error if anybody is to be told of panics.
func (g *guard) contain(ctx context.Context, do func() error) (err error) {
	if panicked := g.panicked.Load(); panicked != nil {
		defer func() {
			if cause := recover(); cause != nil {
				(*panicked)(ctx, cause)
				err = errPanicked
			}
		}()
	}
	return do()
}

func (g *guard) contained(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
		err = g.contain(ctx, func() (err error) {
			conn, err = dial(ctx, network, addr)
			return err
		})
		return conn, err
	}
}

// Close closes the connections that are waiting for reuse. Requests under way finish, and the Client stays usable.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// newTransport returns the transport every request goes through. What an HTTP/2 receiver may send before it is read is bounded, for net/http
// keeps it: by its own will 4 MiB of each answer. There is no DialTLSContext and no Proxy on purpose:
// each would open connections that dial, and so the guard, never sees.
func newTransport(dial dialFunc, tlsConfig *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		TLSClientConfig:        tlsConfig,
		TLSHandshakeTimeout:    connectTimeout,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a gzip bomb is kept as the bytes it came as
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			MaxReceiveBufferPerStream: 2 * maxReadBody, MaxReceiveBufferPerConnection: 64 * maxReadBody,
		},
	}
}

// clientTLS returns a copy of cfg that verifies the other side, or an error for a setting that would not.
func clientTLS(cfg *tls.Config) (*tls.Config, error) {
	if cfg == nil {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	switch {
	case cfg.InsecureSkipVerify:
		return nil, errors.New("egress: TLS.InsecureSkipVerify is refused: put the private authority into RootCAs instead")
	case cfg.ServerName != "":
		return nil, errors.New("egress: TLS.ServerName is refused: the name to verify is each URL's own host")
	case cfg.MinVersion != 0 && cfg.MinVersion < tls.VersionTLS12, cfg.MaxVersion != 0 && cfg.MaxVersion < tls.VersionTLS12:
		return nil, errors.New("egress: a TLS version below 1.2 is refused: leave MinVersion and MaxVersion zero")
	}
	clone := cfg.Clone()
	clone.MinVersion = max(clone.MinVersion, tls.VersionTLS12)
	return clone, nil
}
