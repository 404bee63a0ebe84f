package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A town is servers inside a bubble. What is dialled leads to the one that the names point to, and what is said on a connection can be lost
// from then on, as behind a balancer that has forgotten it.
type town struct {
	roots *x509.CertPool // nil: no TLS
	cert  tls.Certificate
	to    atomic.Pointer[townServer]

	mu    sync.Mutex
	conns []*lossyConn
}

type townServer struct {
	conns    chan net.Conn
	closed   chan struct{}
	requests atomic.Int64
}

func newTown(t *testing.T, scheme string) *town {
	v := &town{}
	if scheme == "https" {
		a := newAuthority(t)
		v.roots, v.cert = a.roots, a.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"partner.example"} })
	}
	return v
}

// serve begins a server, to which the names point from then on.
func (v *town) serve(t *testing.T, idle time.Duration, h http.HandlerFunc) *townServer {
	s := &townServer{conns: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{IdleTimeout: idle, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		h(w, r)
	})}
	done := make(chan error, 1)
	if v.roots != nil {
		server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{v.cert}, SessionTicketsDisabled: true} // tickets block on a pipe
		go func() { done <- server.ServeTLS(s, "", "") }()
	} else {
		go func() { done <- server.Serve(s) }()
	}
	t.Cleanup(func() {
		close(s.closed)
		_ = server.Close()
		<-done                //nolint:errcheck // closed, or the listener's end: whichever it sees first
		time.Sleep(time.Hour) // what is kept goes, and bubbles wait for all their goroutines
	})
	v.to.Store(s)
	return s
}

func (s *townServer) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, io.EOF
	}
}
func (s *townServer) Close() error   { return nil }
func (s *townServer) Addr() net.Addr { return &net.TCPAddr{} }

func (v *town) client(t *testing.T) *Client {
	return newClient(t, Config{TLS: &tls.Config{RootCAs: v.roots}, Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
		if addr != "partner.example:443" && addr != "partner.example:80" {
			return nil, fmt.Errorf("dialled %s", addr)
		}
		ours, theirs := net.Pipe()
		conn := &lossyConn{Conn: theirs}
		v.mu.Lock()
		v.conns = append(v.conns, conn)
		v.mu.Unlock()
		v.to.Load().conns <- conn
		return ours, nil
	}})
}

// dials is how many connections were opened.
func (v *town) dials() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.conns)
}

// forget lets all connections so far fall silent.
func (v *town) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, c := range v.conns {
		c.lost.Store(true)
	}
}

// A lossyConn is the server's end of a connection on which nothing arrives any more once it is lost.
type lossyConn struct {
	net.Conn
	lost atomic.Bool
}

func (c *lossyConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.lost.Load() {
			return n, err
		}
	}
}

func (c *lossyConn) Write(p []byte) (int, error) {
	if c.lost.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// inTown runs f in a bubble for HTTP/1 without and for HTTP/2 with TLS.
func inTown(t *testing.T, f func(t *testing.T, v *town, url string)) {
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, newTown(t, scheme), scheme+"://partner.example/hook") })
		})
	}
}

// TestSilentConnectionIsGivenUp: requests that go out every second find a way around a connection that fell silent, within ten seconds.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	inTown(t, func(t *testing.T, v *town, url string) {
		v.serve(t, 0, noContent)
		c := v.client(t)
		if _, err := c.Do(t.Context(), Request{URL: url, Body: []byte("{}")}); err != nil {
			t.Fatal(err)
		}
		v.forget()
		var wg sync.WaitGroup
		var answered atomic.Int64
		for i := range 30 {
			wg.Go(func() {
				if _, err := c.Do(t.Context(), Request{URL: url, Body: []byte("{}"), Timeout: 30 * time.Second}); err == nil {
					answered.Add(1)
				} else if e := asError(t, err); e.Reason != Timeout {
					t.Errorf("request %d: %v (%v)", i, e, e.Unwrap())
				}
			})
			time.Sleep(time.Second)
		}
		wg.Wait()
		if n := answered.Load(); n < 19 {
			t.Errorf("%d of 30 were answered, want all but those of the first 10 s", n)
		}
	})
}

// TestTimeoutLeavesTheConnection: after a timeout on a connection that others share, or used before, the next request gets a new one.
func TestTimeoutLeavesTheConnection(t *testing.T) {
	inTown(t, func(t *testing.T, v *town, url string) {
		v.serve(t, 0, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			noContent(w, r)
		})
		c := v.client(t)
		var wg sync.WaitGroup
		for range 5 { // over HTTP/1, five connections are kept then
			wg.Go(func() {
				if _, err := c.Do(t.Context(), Request{URL: url}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		v.forget()
		_, err := c.Do(t.Context(), Request{URL: url, Timeout: 3 * time.Second})
		wantError(t, err, Timeout, PhaseWait)
		if _, err := c.Do(t.Context(), Request{URL: url, Timeout: 3 * time.Second}); err != nil {
			t.Error(err)
		}
	})
}

// TestConnectionsAge: under steady traffic, a host that has moved is found at its new address within four minutes, and not every request pays
// for that. What is under way on an aged connection is finished on it.
func TestConnectionsAge(t *testing.T) {
	inTown(t, func(t *testing.T, v *town, url string) {
		handle := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "slow" {
				time.Sleep(59 * time.Second)
			}
			noContent(w, r)
		}
		old := v.serve(t, 0, handle)
		c := v.client(t)
		var wg sync.WaitGroup
		send := func(url string) {
			if _, err := c.Do(t.Context(), Request{URL: url, Body: []byte("{}"), Timeout: time.Minute}); err != nil {
				t.Error(err)
			}
		}
		steady := func(long time.Duration) {
			for i := range int(long / time.Second) {
				send(url)
				if i%10 == 0 {
					wg.Go(func() { send(url + "?slow") })
				}
				time.Sleep(time.Second)
			}
		}
		steady(30 * time.Second)
		new := v.serve(t, 0, handle)
		steady(longestLife)
		wg.Wait()
		before := old.requests.Load()
		steady(3 * longestLife)
		wg.Wait()
		if n := old.requests.Load(); n != before {
			t.Errorf("%d requests went to the old address after %s", n-before, longestLife)
		}
		if n := new.requests.Load(); n < 700 {
			t.Errorf("%d requests went to the new address", n)
		}
		if n, most := v.dials(), 9*8; n < 4 || n > most {
			t.Errorf("%d connections in 16 minutes, want one for each of up to 7 requests at a time, every 2 to 4 minutes", n)
		}
	})
}

// TestIdleLimitsAreKept holds that no connection is used that the host is about to close, be it that it says so or that it was seen to.
func TestIdleLimitsAreKept(t *testing.T) {
	for name, says := range map[string]string{"says so": "timeout=5, max=100", "is seen to": ""} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const limit = 5 * time.Second
				var mu sync.Mutex
				var longest time.Duration
				last := map[string]time.Time{} // per connection, the end of the answer
				v := newTown(t, "http")
				v.serve(t, limit, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Conn", fmt.Sprint(v.dials()))
					if says != "" {
						w.Header().Set("Keep-Alive", says)
					}
					noContent(w, r)
				})
				c := v.client(t)
				send := func() {
					start := time.Now()
					resp, err := c.Do(t.Context(), Request{URL: "http://partner.example/", Body: []byte("{}")})
					if err != nil {
						t.Fatal(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if at, ok := last[resp.Header.Get("Conn")]; ok && resp.Timing.Reused {
						longest = max(longest, start.Sub(at))
					}
					last[resp.Header.Get("Conn")] = time.Now()
				}
				if says == "" {
					for range 3 {
						send()
						time.Sleep(2 * limit)
					}
				}
				for pause := time.Second; pause < 2*limit; pause += 100 * time.Millisecond {
					send()
					time.Sleep(pause)
				}
				if longest > limit/4*3 || longest < limit/2 {
					t.Errorf("a connection was used after %s without use, want up to %s", longest, limit/4*3)
				}
			})
		})
	}
}

func TestIdleLimit(t *testing.T) {
	type closing struct{ at, idle time.Duration }
	const s = time.Second
	for name, tt := range map[string]struct {
		closings []closing
		asked    time.Duration
		want     time.Duration
		known    bool
	}{
		"nothing":          {},
		"one":              {closings: []closing{{10 * s, s}}, asked: 11 * s},
		"two alike":        {closings: []closing{{10 * s, s}, {20 * s, s + 9*time.Millisecond}}, asked: 21 * s, want: s, known: true},
		"at once":          {closings: []closing{{10 * s, 7 * s}, {10 * s, 7 * s}, {10 * s, 2 * s}}, asked: 11 * s},
		"a restart, later": {closings: []closing{{10 * s, 7 * s}, {10 * s, 2 * s}, {60 * s, 2 * s}, {60 * s, 3 * s}}, asked: 61 * s},
		"not alike":        {closings: []closing{{10 * s, 7 * s}, {20 * s, 2 * s}, {40 * s, 20 * s}}, asked: 41 * s},
		"at once, always":  {closings: []closing{{10 * s, 0}, {20 * s, 2 * time.Millisecond}}, asked: 21 * s, known: true},
		"long ago":         {closings: []closing{{10 * s, s}, {20 * s, s}}, asked: 20*s + limitKept},
		"shorter now":      {closings: []closing{{10 * s, 9 * s}, {20 * s, 9 * s}, {30 * s, s}, {40 * s, s}}, asked: 41 * s, want: s, known: true},
	} {
		var l idleLimit
		start := time.Now()
		for _, c := range tt.closings {
			l.closed(c.idle, start.Add(c.at))
		}
		if got, known := l.limit(start.Add(tt.asked)); got != tt.want && known || known != tt.known {
			t.Errorf("%s: %s, %v; want %s, %v", name, got, known, tt.want, tt.known)
		}
	}
}

func TestKeepAliveHeader(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": -1, "timeout=5": 5 * time.Second, "timeout=5, max=1000": 5 * time.Second, "max=100, Timeout = 75": 75 * time.Second, "timeout=0": 0,
		"timeout": -1, "timeout=-1": -1, "timeout=1e9": -1, "timeout=99999999999999": -1, "300": -1, "timeouts=3": -1, "timeout=2147483647": math.MaxInt32 * time.Second,
	} {
		got, ok := keepAlive(http.Header{"Keep-Alive": {value}})
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %s, %v", value, got, ok)
		}
	}
}

func TestPools(t *testing.T) {
	h := newHosts()
	for _, tt := range []struct {
		host string
		port uint16
		addr string
	}{{"partner.example", 443, "partner.example:443"}, {"[2001:db8::1]", 8443, "[2001:db8::1]:8443"}, {"10.0.0.1", 1, "10.0.0.1:1"}, {"a.example", 65535, "a.example:65535"}} {
		first := h.current(tt.host, tt.port, "")
		if again := h.current(tt.host, tt.port, ""); again != first {
			t.Errorf("%v, then %v", first, again)
		}
		h.leave(first, time.Hour)
		second := h.current(tt.host, tt.port, "")
		h.leave(first, time.Hour) // somebody else was there first
		if third := h.current(tt.host, tt.port, ""); second.pool == first.pool || third != second {
			t.Errorf("%v, then %v and %v", first, second, third)
		}
		h.leave(first, 0)
		if h.current(tt.host, tt.port, "") == second {
			t.Error("the generation of another is taken although it is not young enough")
		}
		for _, g := range []generation{first, second} {
			if addr := dialled(g.pool); addr != tt.addr {
				t.Errorf("%s leads to %s, want %s", g.pool, addr, tt.addr)
			}
		}
	}
	if addr := dialled("partner.example:443"); addr != "partner.example:443" {
		t.Errorf("a plain address leads to %s", addr)
	}
	first := h.current("partner.example", 443, "")
	for i := range maxHosts {
		h.current(fmt.Sprintf("h%d.example", i), 443, "")
	}
	if len(h.known) != maxHosts || h.recent.Len() != maxHosts || h.current("partner.example", 443, "").number <= first.number {
		t.Errorf("%d hosts are remembered", len(h.known))
	}
}
