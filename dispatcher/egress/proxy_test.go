package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// A connectProxy lets everything through that answer says 200 to, and notes what it was asked for.
type connectProxy struct {
	*rawServer

	answer func(target string) string // the status line and headers; nil: 200 for all
	mu     sync.Mutex
	asked  []string
	auth   string
}

func newConnectProxy(t testing.TB, answer func(target string) string) *connectProxy {
	t.Helper()
	p := &connectProxy{answer: answer}
	p.rawServer = newRawServer(t, p.serve)
	return p
}

func (p *connectProxy) at(user *url.Userinfo) *url.URL {
	return &url.URL{Scheme: "http", Host: p.addr(), User: user}
}

func (p *connectProxy) serve(conn net.Conn) {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	p.mu.Lock()
	p.asked, p.auth = append(p.asked, req.Host), req.Header.Get("Proxy-Authorization")
	p.mu.Unlock()
	says := "HTTP/1.1 200 Connection established\r\n\r\n"
	if p.answer != nil {
		says = p.answer(req.Host)
	}
	var to net.Conn
	if strings.HasPrefix(says, "HTTP/1.1 200 ") {
		if to, err = net.DialTimeout("tcp", req.Host, time.Second); err != nil {
			says = "HTTP/1.1 502 Bad Gateway\r\n\r\n"
		} else {
			defer func() { _ = to.Close() }()
		}
	}
	if _, err := io.WriteString(conn, says); err != nil || to == nil {
		return
	}
	go func() {
		_, _ = io.Copy(to, conn)
		_ = to.Close()
	}()
	_, _ = io.Copy(conn, to)
}

func (p *connectProxy) forget() (asked []string, auth string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, auth = p.asked, p.auth
	p.asked, p.auth = nil, ""
	return asked, auth
}

// TestNothingInsideIsReachedThroughAProxy is TestNothingInsideIsReached with a proxy in between that lets everything through.
func TestNothingInsideIsReachedThroughAProxy(t *testing.T) {
	network := egresstest.Enter(t)
	if network == nil {
		return
	}
	urls := slices.Clone(egresstest.URLs)
	for name := range egresstest.Names {
		urls = append(urls, "http://"+name+"/", "https://"+name+"/hook")
	}
	p := newConnectProxy(t, nil)
	for which, resolver := range resolvers {
		t.Run(which, func(t *testing.T) {
			c := newClient(t, Config{Resolver: resolver, Proxy: p.at(nil)})
			for _, u := range urls {
				if resp, err := c.Do(t.Context(), Request{URL: u, Timeout: 2 * time.Second}); err == nil && resp.Status < 300 {
					t.Errorf("%s: answered %d", u, resp.Status)
				}
			}
			post(t, c.transport, urls)
			for range 20 {
				c.Close()
				if _, err := c.Do(t.Context(), Request{URL: "http://" + egresstest.RebindName + "/"}); err != nil && !asError(t, err).Inside {
					t.Error(err)
				}
			}
			if _, err := c.Do(t.Context(), Request{URL: "http://" + egresstest.Partner + "/"}); err != nil {
				t.Errorf("the partner is not reached through the proxy: %v", err)
			}
			c.Close()
			inside, outside := network.Arrivals()
			if len(inside) != 0 || outside < 11 {
				t.Errorf("%d connections arrived outside, and inside at %q", outside, inside)
			}
			asked, _ := p.forget()
			for _, target := range asked {
				if to, err := netip.ParseAddrPort(target); err != nil || c.guard.check(to) != nil {
					t.Errorf("the proxy was asked for %s", target)
				}
			}
		})
	}
	t.Run("without the guard they arrive", func(t *testing.T) {
		bare := newTransport((&net.Dialer{Timeout: time.Second}).DialContext, nil)
		bare.Proxy = http.ProxyURL(p.at(nil))
		defer bare.CloseIdleConnections()
		secure := slices.DeleteFunc(urls, func(u string) bool { return !strings.HasPrefix(u, "https://") }) // for others net/http does not CONNECT
		post(t, bare, secure)
		if inside, _ := network.Arrivals(); len(inside) < 10 {
			t.Errorf("only %d tries arrived inside without the guard", len(inside))
		}
	})
}

// A peeked is a connection of which something was read ahead.
type peeked struct {
	net.Conn
	r io.Reader
}

func (c *peeked) Read(b []byte) (int, error) { return c.r.Read(b) }

// A proxyHouse is a partner behind a proxy, with names that lead to it, and a guard that lets all of 127.0.0.0/8 pass.
type proxyHouse struct {
	t      *testing.T
	names  *egresstest.NameServer
	server *rawServer
	port   string // the server's, with its colon
	proxy  *connectProxy
	guard  *guard

	mu   sync.Mutex
	says string // what the proxy answers; empty: it refuses 127.0.0.9 alone
}

func newProxyHouse(t *testing.T) *proxyHouse {
	t.Helper()
	h := &proxyHouse{t: t, server: newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))}
	h.names = egresstest.NewNameServer(t, func(name string, _ int) []string {
		return map[string][]string{
			"many.example":   {"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7", "127.0.0.8"},
			"h.example":      {"127.0.0.1"},
			"two.example":    {"127.0.0.9", "127.0.0.1"},
			"inside.example": {"10.0.0.1"},
		}[name]
	})
	h.port = h.server.addr()[strings.LastIndexByte(h.server.addr(), ':'):]
	h.proxy = newConnectProxy(t, h.answer)
	var err error
	h.guard, err = newGuard(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, []uint16{h.server.port()})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *proxyHouse) say(says string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.says = says
}

func (h *proxyHouse) answer(target string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.says != "" {
		return h.says
	}
	if strings.HasPrefix(target, "127.0.0.9:") {
		return "HTTP/1.1 407 Proxy Authentication Required\r\nX-Smokescreen-Error: denied\r\n\r\n"
	}
	return "HTTP/1.1 200 OK\r\n\r\n"
}

// proxyAt is a proxy that trusts no authority.
func (h *proxyHouse) proxyAt(at *url.URL) *proxy {
	h.t.Helper()
	p, err := newProxy(at, &tls.Config{MinVersion: tls.VersionTLS12})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// through is a client behind p that finds the house's names.
func (h *proxyHouse) through(p *proxy) *Client {
	h.t.Helper()
	c := newClient(h.t, Config{})
	c.guard, c.transport = h.guard, newTransport(newHosts().dialer(tracked(h.guard.proxied(h.names.Resolver(), p))), nil)
	return c
}

// TestProxy: what a proxy does is its own doing, and what the other side does behind it is that one's.
func TestProxy(t *testing.T) {
	h := newProxyHouse(t)
	c := h.through(h.proxyAt(h.proxy.at(url.UserPassword("me", "s3cr3t"))))
	for _, tt := range []struct {
		name, says, host string
		reason           Reason // "": answered
		detail           string
		asked            int
	}{
		{name: "lets through", host: "h.example", asked: 1},
		{name: "refuses one address of two", host: "two.example", asked: 2},
		{name: "smokescreen's refusal", says: "HTTP/1.1 407 Proxy Authentication Required\r\nX-Smokescreen-Error: s3cr3t\r\n\r\n", host: "h.example", reason: EgressProxy, detail: "the egress proxy refused the connection (it answered 407)", asked: 1},
		{name: "forbids", says: "HTTP/1.1 403 Forbidden\r\n\r\ns3cr3t", host: "h.example", reason: EgressProxy, detail: "403", asked: 1},
		{name: "cannot reach it", says: "HTTP/1.1 502 Bad Gateway\r\n\r\n", host: "h.example", reason: Unreachable, detail: "could not connect to the host (it answered 502)", asked: 1},
		{name: "does not reach it in time", says: "HTTP/1.1 504 Gateway Timeout\r\n\r\n", host: "h.example", reason: Timeout, detail: "in time (it answered 504)", asked: 1},
		{name: "is too busy", says: "HTTP/1.1 503 Service Unavailable\r\n\r\n", host: "h.example", reason: EgressProxy, detail: "503", asked: 1},
		{name: "says what is no HTTP", says: "SSH-2.0-s3cr3t\r\n", host: "h.example", reason: EgressProxy, detail: "no valid answer", asked: 1},
		{name: "goes on speaking", says: "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", host: "h.example", reason: EgressProxy, detail: "went on speaking", asked: 1},
		{name: "hangs up", says: " ", host: "h.example", reason: EgressProxy, detail: "no valid answer", asked: 1},
		{name: "is not asked for what leads inside", host: "inside.example", reason: DNS},
		{name: "is not asked for what does not exist", host: "nowhere.example", reason: DNS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h.say(tt.says)
			_, err := c.Do(t.Context(), Request{URL: "http://" + tt.host + h.port + "/"})
			c.Close()
			asked, auth := h.proxy.forget()
			if len(asked) != tt.asked || tt.asked > 0 && auth != "Basic bWU6czNjcjN0" {
				t.Errorf("the proxy was asked for %q, by %q", asked, auth)
			}
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantError(t, err, tt.reason)
			if text := err.Error(); !strings.Contains(text, tt.detail) || strings.Contains(text, "s3cr3t") || strings.Contains(text, "127.0.0.1") {
				t.Errorf("the error is %q", text)
			}
		})
	}
	t.Run("is not there", func(t *testing.T) {
		_, err := h.through(h.proxyAt(&url.URL{Scheme: "http", Host: "127.0.0.1:1"})).Do(t.Context(), Request{URL: "http://h.example" + h.port + "/"})
		wantError(t, err, EgressProxy, PhaseConnect)
	})
	t.Run("a token endpoint behind it", func(t *testing.T) {
		h.say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
		tokens := NewTokens(c, "", func(context.Context, Fetched) {}, neverPanics(t))
		t.Cleanup(tokens.Close)
		_, _, err := tokens.Get(t.Context(), someone, ClientCredentials{TokenURL: "http://h.example" + h.port + "/token", ClientID: "me", ClientSecret: "s3cr3t"})
		wantError(t, err, EgressProxy)
	})
}

// TestProxyThatIsMute tells a proxy that answers nobody from one that waits for the other side.
func TestProxyThatIsMute(t *testing.T) {
	h := newProxyHouse(t)
	const hangsUp = " "
	for _, tt := range []struct {
		name     string
		host     string
		scheme   string
		alive    string // its answer to anything but CONNECT
		patience time.Duration
		within   time.Duration
		reason   Reason
		detail   string
	}{
		{"answers nobody", "h.example", "http", "", 20 * time.Millisecond, 10 * time.Second, EgressProxy, "the egress proxy does not answer"},
		{"answers nobody for a host of many addresses", "many.example", "http", "", muteAfter, 4 * time.Second, EgressProxy, "the egress proxy does not answer"},
		{"answers nobody within a callback's shortest timeout", "h.example", "http", "", muteAfter, time.Second, EgressProxy, "the egress proxy does not answer"},
		{"does not even shake hands", "h.example", "https", "", 20 * time.Millisecond, 10 * time.Second, EgressProxy, "the egress proxy does not answer"},
		{"waits for the other side, and hangs up on others", "h.example", "http", hangsUp, muteAfter, 4 * time.Second, Timeout, ""},
		{"waits for the other side, and answers others", "h.example", "http", "HTTP/1.1 400 Bad Request\r\n\r\n", muteAfter, 4 * time.Second, Timeout, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			mute := newRawServer(t, func(conn net.Conn) {
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && req.Method != http.MethodConnect && tt.alive != "" {
					if tt.alive != hangsUp {
						_, _ = io.WriteString(conn, tt.alive)
					}
					return
				}
				untilClosed(conn)
			})
			p := h.proxyAt(&url.URL{Scheme: tt.scheme, Host: mute.addr()})
			p.patience = tt.patience
			try := func() error {
				_, err := h.through(p).Do(t.Context(), Request{URL: "http://" + tt.host + h.port + "/", Timeout: tt.within})
				return err
			}
			err := try()
			for n := 0; n < 10 && tt.reason == EgressProxy && asError(t, err).Reason == Timeout; n++ { // a busy machine took more than half of the time
				err = try()
			}
			wantError(t, err, tt.reason, PhaseConnect)
			if !strings.Contains(err.Error(), tt.detail) {
				t.Error(err)
			}
		})
	}
	t.Run("says nothing of the first of two addresses", func(t *testing.T) {
		half := newConnectProxy(t, nil)
		some := newRawServer(t, func(conn net.Conn) {
			r := bufio.NewReader(conn)
			if first, err := r.Peek(len("CONNECT 127.0.0.9")); err == nil && string(first) == "CONNECT 127.0.0.9" {
				untilClosed(conn)
				return
			}
			half.serve(&peeked{conn, r})
		})
		p := h.proxyAt(&url.URL{Scheme: "http", Host: some.addr()})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // of which the first has its share
		defer cancel()
		conn, err := h.guard.proxied(h.names.Resolver(), p)(ctx, "tcp", "two.example"+h.port)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	})
}

// TestProxyOverTLS: the proxy speaks TLS, and so does the other side behind it.
func TestProxyOverTLS(t *testing.T) {
	partner := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	partner.EnableHTTP2 = true
	partner.StartTLS()
	t.Cleanup(partner.Close)
	front := httptest.NewUnstartedServer(nil)
	front.StartTLS()
	certificate, roots := front.TLS.Certificates, x509.NewCertPool()
	roots.AddCert(front.Certificate())
	front.Close()
	secure := newConnectProxy(t, nil)
	outer := newRawServer(t, func(conn net.Conn) {
		secure.serve(tls.Server(conn, &tls.Config{Certificates: certificate, MinVersion: tls.VersionTLS12}))
	})
	c := newClient(t, Config{Allow: loopback, Proxy: &url.URL{Scheme: "https", Host: outer.addr()}, TLS: &tls.Config{RootCAs: roots}})
	resp, err := c.Do(t.Context(), Request{URL: partner.URL})
	if err != nil || resp.Proto != "HTTP/2.0" {
		t.Errorf("%+v, %v", resp, err)
	}
	c.Close()
}

// TestTryProxy tells a proxy that refuses an address from one that lets it through.
func TestTryProxy(t *testing.T) {
	h := newProxyHouse(t)
	h.say("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
	to := netip.MustParseAddrPort("169.254.169.254:80")
	if refused, err := TryProxy(t.Context(), Config{Proxy: h.proxy.at(nil)}, to); !refused || err == nil {
		t.Errorf("refused: %t, %v", refused, err)
	}
	for _, status := range []string{"502 Bad Gateway", "504 Gateway Timeout"} { // it went there, and nobody was
		h.say("HTTP/1.1 " + status + "\r\n\r\n")
		if refused, err := TryProxy(t.Context(), Config{Proxy: h.proxy.at(nil)}, to); refused || !errors.Is(err, ErrProxyTried) {
			t.Errorf("%s: refused: %t, %v", status, refused, err)
		}
	}
	if refused, err := TryProxy(t.Context(), Config{Proxy: &url.URL{Scheme: "http", Host: "127.0.0.1:1"}}, to); refused || err == nil {
		t.Errorf("refused: %t, %v", refused, err)
	}
	h.say("")
	if refused, err := TryProxy(t.Context(), Config{Proxy: h.proxy.at(nil)}, netip.MustParseAddrPort(h.server.addr())); refused || err != nil {
		t.Errorf("refused: %t, %v", refused, err)
	}
}

// TestProxyURLs: the errors repeat no password.
func TestProxyURLs(t *testing.T) {
	for _, u := range []string{"proxy:4750", "socks5://proxy:1080", "http://", "http://proxy/path", "http://proxy?x", "http://me:s3cr3t@proxy#x"} {
		parsed, err := url.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(Config{Proxy: parsed}); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("%s: %v", u, err)
		}
	}
}
