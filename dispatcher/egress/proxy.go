package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// proxyError says why a proxy did not connect. Its text names no address.
type proxyError struct {
	reason Reason // EgressProxy, or the proxy's verdict on the other side
	detail string
	err    error // the cause; nil for a refusal
}

func (e *proxyError) Error() string { return "egress: " + e.detail }
func (e *proxyError) Unwrap() error { return e.err }

// A proxy is an HTTP proxy that takes CONNECT (RFC 9110, 9.3.6). Connections for http and for https go through it alike.
type proxy struct {
	addr   string      // host:port
	tls    *tls.Config // nil: it is spoken to in the clear
	header http.Header // with its credentials, if there are any

	patience time.Duration // muteAfter, but for tests
	contain  func(ctx context.Context, do func() error) error
	answered atomic.Int64 // the time of its last answer of any kind, in Unix nanoseconds
}

// muteAfter is how long the proxy may take to connect, itself included. After that it is asked for something that needs nobody else, and that may
// take as long again. So a proxy that is at a loss is found within two seconds, and a slow host costs one request to the proxy. If a request, or one
// of a host's many addresses, has less time, a quarter of it stands for muteAfter: its end must come after the verdict.
const muteAfter = time.Second

// newProxy reads a proxy's URL. The error does not repeat it: it may hold a password.
func newProxy(u *url.URL, tlsConfig *tls.Config) (*proxy, error) {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("must be the URL of a proxy, like http://proxy.internal:4750: http or https, a host and a port, no path")
	}
	p := &proxy{
		header: make(http.Header), patience: muteAfter,
		contain: func(_ context.Context, do func() error) error { return do() },
	}
	port := u.Port()
	if u.Scheme == "https" {
		p.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: tlsConfig.RootCAs, ServerName: u.Hostname()}
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	p.addr = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		password, _ := u.User.Password()
		p.header.Set("Proxy-Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)))
	}
	return p, nil
}

// proxied returns the guarded dialer whose connections go through p. Names are looked up and their addresses judged here, as by the other
// dialer. The proxy is told an address: it cannot take a name for another one. If one of several addresses fails, the next is tried. Each has an
// equal share of the time that is left.
func (g *guard) proxied(resolver *net.Resolver, p *proxy) dialFunc {
	if resolver == nil {
		resolver = &net.Resolver{PreferGo: true}
	}
	return func(ctx context.Context, _, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		targets, err := g.resolve(ctx, resolver, addr)
		if err != nil {
			return nil, err
		}
		traceFrom(ctx).lookedUp()
		var first error
		deadline, _ := ctx.Deadline()
		for i, target := range targets {
			within, cancel := context.WithTimeout(ctx, time.Until(deadline)/time.Duration(len(targets)-i))
			conn, err := p.connect(within, target)
			cancel()
			if no, ok := errors.AsType[*proxyError](err); err == nil || ok && no.reason == EgressProxy && no.err != nil {
				return conn, err // a proxy that is not well is asked for no other address
			}
			if first == nil {
				first = err
			}
		}
		return nil, first
	}
}

// resolve returns the addresses of a host:port that may be connected to, at least one.
func (g *guard) resolve(ctx context.Context, resolver *net.Resolver, addr string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, err
	}
	if literal, err := netip.ParseAddr(host); err == nil {
		to := netip.AddrPortFrom(literal, uint16(port))
		return []netip.AddrPort{to}, g.check(to)
	}
	found, err := resolver.LookupNetIP(ctx, "ip", lookupName(host))
	if err != nil {
		return nil, err
	}
	var allowed []netip.AddrPort
	for _, ip := range found {
		if to := netip.AddrPortFrom(ip.Unmap(), uint16(port)); g.check(to) == nil {
			allowed = append(allowed, to)
		}
	}
	if allowed == nil {
		return nil, errInside
	}
	return allowed, nil
}

// connect has the proxy connect to an address. If a proxy that answers other requests takes its time, the other side is the cause. So it is if
// the proxy answers 502 or 504. Any other failure is the proxy's own: a [*proxyError] of reason EgressProxy.
func (p *proxy) connect(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	asking, giveUp := context.WithCancel(ctx)
	defer giveUp()
	heard := p.watch(asking, p.patienceFor(ctx), giveUp)
	conn, err := p.open(asking, to)
	if mute := heard(); mute && err != nil {
		err = &proxyError{reason: EgressProxy, detail: "the egress proxy does not answer", err: err}
	}
	return conn, err
}

// patienceFor is p's patience, or less if ctx or its request has too little time left.
func (p *proxy) patienceFor(ctx context.Context) time.Duration {
	patience := p.patience
	if left := traceFrom(ctx).left(); left > 0 {
		patience = min(patience, left/4)
	}
	if end, ok := ctx.Deadline(); ok {
		patience = min(patience, time.Until(end)/4)
	}
	return patience
}

// open connects to the proxy and, through it, to an address.
func (p *proxy) open(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, err := p.dial(ctx)
	if err != nil {
		return nil, &proxyError{reason: EgressProxy, detail: "the egress proxy cannot be reached", err: err}
	}
	unblock := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = p.ask(conn, to)
	if !unblock() {
		err = ctx.Err() // its end cut the asking short
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// watch calls giveUp if the proxy turns out to answer nothing at all while it is asked for something. When the caller has an answer, or none, it
// calls heard, which tells whether giveUp was called.
func (p *proxy) watch(ctx context.Context, patience time.Duration, giveUp func()) (heard func() (mute bool)) {
	ctx, cancel := context.WithCancel(ctx)
	asked, mute, done := time.Now().UnixNano(), false, make(chan struct{})
	timer := time.AfterFunc(patience, func() {
		defer close(done)
		_ = p.contain(ctx, func() error {
			if p.answered.Load() < asked && !p.answers(ctx, patience) && ctx.Err() == nil {
				mute = true
				giveUp()
			}
			return nil
		})
	})
	return func() bool {
		cancel()
		if !timer.Stop() {
			<-done
		}
		return mute
	}
}

// answers reports whether the proxy answers a request that is for the proxy itself. Any answer counts, and so does hanging up.
func (p *proxy) answers(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	conn, err := p.dial(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: "+p.addr+"\r\nConnection: close\r\n\r\n"); err != nil {
		return false
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	p.answered.Store(time.Now().UnixNano())
	return true
}

// dial opens a connection to the proxy itself. The guard does not judge the proxy's address: an operator chose it.
func (p *proxy) dial(ctx context.Context) (net.Conn, error) {
	d := &net.Dialer{Resolver: &net.Resolver{PreferGo: true}}
	if p.tls == nil {
		return d.DialContext(ctx, "tcp", p.addr)
	}
	return (&tls.Dialer{NetDialer: d, Config: p.tls}).DialContext(ctx, "tcp", p.addr)
}

// ask sends CONNECT and reads the answer's head, no byte beyond it.
func (p *proxy) ask(conn net.Conn, to netip.AddrPort) error {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to.String()}, Host: to.String(), Header: p.header}
	if err := req.Write(conn); err != nil {
		return &proxyError{reason: EgressProxy, detail: "the egress proxy broke the connection off", err: err}
	}
	r := bufio.NewReader(io.LimitReader(conn, maxHeaderBytes))
	answer, err := http.ReadResponse(r, req) //nolint:bodyclose // the connection is the body
	if err != nil {
		return &proxyError{reason: EgressProxy, detail: "the egress proxy gave no valid answer", err: err}
	}
	p.answered.Store(time.Now().UnixNano())
	switch answer.StatusCode {
	case http.StatusOK:
	case http.StatusBadGateway: // smokescreen's word for a host that it cannot connect to
		return &proxyError{reason: Unreachable, detail: "the egress proxy could not connect to the host (it answered 502)"}
	case http.StatusGatewayTimeout:
		return &proxyError{reason: Timeout, detail: proxyLate}
	default:
		return &proxyError{reason: EgressProxy, detail: "the egress proxy refused the connection (it answered " + strconv.Itoa(answer.StatusCode) + ")"}
	}
	if r.Buffered() > 0 { // the other side speaks second, over HTTP as over TLS
		return &proxyError{reason: EgressProxy, detail: "the egress proxy went on speaking after its answer"}
	}
	return nil
}

// ErrProxyTried says that the proxy of [TryProxy] let a connection through, but that the connection did not come about.
var ErrProxyTried = errors.New("egress: the proxy tried to connect")

// TryProxy asks the proxy of [Config.Proxy], with Config.TLS, to connect to an address, and breaks the connection off. It does not ask the guard. If
// err is nil or [ErrProxyTried], the proxy let the connection through. Otherwise refused tells whether the proxy said no, or could not be asked.
func TryProxy(ctx context.Context, cfg Config, to netip.AddrPort) (refused bool, err error) {
	tlsConfig, err := clientTLS(cfg.TLS)
	if err != nil {
		return false, err
	}
	p, err := newProxy(cfg.Proxy, tlsConfig)
	if err != nil {
		return false, err
	}
	conn, err := p.connect(ctx, to)
	if err == nil {
		return false, conn.Close()
	}
	no, ok := errors.AsType[*proxyError](err)
	if ok && no.reason != EgressProxy {
		return false, fmt.Errorf("%w: %s", ErrProxyTried, no.detail)
	}
	return ok && no.err == nil, err
}
