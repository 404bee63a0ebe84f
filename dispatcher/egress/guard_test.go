package egress

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

func TestGuardAddresses(t *testing.T) {
	g, err := newGuard(Config{}, publicPorts)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range egresstest.Inner {
		if g.check(netip.AddrPortFrom(netip.MustParseAddr(addr), 443)) == nil {
			t.Errorf("%s may be connected to", addr)
		}
	}
	for _, addr := range egresstest.Outer {
		for _, port := range publicPorts {
			if g.check(netip.AddrPortFrom(netip.MustParseAddr(addr), port)) != nil {
				t.Errorf("%s port %d may not be connected to", addr, port)
			}
		}
		for _, port := range []uint16{0, 22, 25, 6379, 8080, 65535} {
			if g.check(netip.AddrPortFrom(netip.MustParseAddr(addr), port)) == nil {
				t.Errorf("%s port %d may be connected to", addr, port)
			}
		}
	}
	for _, network := range []string{"udp4", "udp6", "unix", "tcp", ""} {
		if g.control(t.Context(), network, "1.1.1.1:443", nil) == nil {
			t.Errorf("network %q may be used", network)
		}
	}
	for _, address := range []string{"", "1.1.1.1", "h.example:443", "/var/run/docker.sock"} {
		if g.control(t.Context(), "tcp4", address, nil) == nil {
			t.Errorf("address %q may be connected to", address)
		}
	}
}

func TestGuardAllowAndDeny(t *testing.T) {
	parse := func(list ...string) (out []netip.Prefix) {
		for _, s := range list {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	g, err := newGuard(Config{
		Allow: parse("10.1.2.3/8", "::ffff:192.168.1.0/120", "fd00::/8"), Deny: parse("10.0.0.5/32", "93.184.0.0/16"),
	}, publicPorts)
	if err != nil {
		t.Fatal(err)
	}
	for to, allowed := range map[string]bool{
		"10.9.9.9:6379": true, "[::ffff:10.9.9.9]:1": true, "192.168.1.7:9000": true, "192.168.2.7:80": false, "[fd00::1]:9000": true, "[fc00::1]:80": false,
		"10.0.0.5:80": false, "[::ffff:10.0.0.5]:80": false, "93.184.215.14:443": false, "1.1.1.1:443": true, "1.1.1.1:9000": false, "127.0.0.1:80": false,
	} {
		if got := g.check(netip.MustParseAddrPort(to)) == nil; got != allowed {
			t.Errorf("%s allowed: %v, want %v", to, got, allowed)
		}
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	for name, cfg := range map[string]Config{
		"invalid prefix":   {Allow: []netip.Prefix{{}}},
		"beyond mapped":    {Deny: []netip.Prefix{netip.MustParsePrefix("::ffff:0:0/90")}},
		"negative timeout": {MaxTimeout: -1},
		"no name":          {AllowNames: []string{"a b"}},
		"empty name":       {AllowNames: []string{""}},
		"only a dot more":  {AllowNames: []string{".."}},
		"a URL":            {AllowNames: []string{"http://receiver/"}},
		"metadata":         {AllowNames: []string{"Metadata.Google.Internal."}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// resolvers are the two that look names up differently. The system's takes more spellings for an address than Go's.
var resolvers = map[string]*net.Resolver{"Go's resolver": {PreferGo: true}, "the system's resolver": {}}

// TestNothingInsideIsReached sends to every trick and counts connections: inside there are none, whether or not the URL policy stands before
// the guard; without the guard the very same tries arrive, so this test can fail.
func TestNothingInsideIsReached(t *testing.T) {
	network := egresstest.Enter(t)
	if network == nil {
		return
	}
	urls := slices.Clone(egresstest.URLs)
	for _, addr := range egresstest.Inner {
		urls = append(urls, "http://"+net.JoinHostPort(addr, "80")[:strings.LastIndex(net.JoinHostPort(addr, "80"), ":")]+"/")
	}
	if len(egresstest.URLs) < 80 || len(egresstest.Inner) < 65 {
		t.Fatalf("%d URLs and %d addresses are fewer than there were", len(egresstest.URLs), len(egresstest.Inner))
	}
	for name := range egresstest.Names {
		urls = append(urls, "http://"+name+"/", "https://"+name+"/hook")
	}
	wantNone := func(t *testing.T) {
		t.Helper()
		if inside, _ := network.Arrivals(); len(inside) != 0 {
			t.Errorf("%d connections arrived inside: %q", len(inside), inside)
		}
	}
	for which, resolver := range resolvers {
		t.Run(which, func(t *testing.T) {
			c := newClient(t, Config{Resolver: resolver})
			t.Run("policy and guard", func(t *testing.T) {
				for _, u := range urls {
					if resp, err := c.Do(t.Context(), Request{URL: u, Timeout: 2 * time.Second}); err == nil && resp.Status < 300 {
						t.Errorf("%s: answered %d", u, resp.Status)
					}
				}
				wantNone(t)
			})
			t.Run("guard alone", func(t *testing.T) {
				post(t, c.transport, urls)
				wantNone(t)
			})
			t.Run("rebinding", func(t *testing.T) { rebind(t, c, network) })
			t.Run("without the guard they arrive", func(t *testing.T) {
				bare := newTransport((&net.Dialer{Resolver: resolver, Timeout: time.Second}).DialContext, nil)
				defer bare.CloseIdleConnections()
				post(t, bare, urls)
				inside, _ := network.Arrivals()
				if t.Logf("%d connections arrived inside", len(inside)); len(inside) < 80 {
					t.Errorf("only %d tries arrived inside without the guard: the vectors prove little", len(inside))
				}
			})
		})
	}
}

// rebind calls a name that leads outside and inside in turn.
func rebind(t *testing.T, c *Client, network *egresstest.Network) {
	reached, blocked := 0, 0
	for range 200 {
		c.Close() // the next dials anew
		_, err := c.Do(t.Context(), Request{URL: "http://" + egresstest.RebindName + "/"})
		if err == nil {
			reached++
			continue
		}
		if wantError(t, err, DNS, PhaseDNS); !asError(t, err).Inside {
			t.Fatalf("it does not say that the name leads inside: %v", err)
		}
		blocked++
	}
	inside, outside := network.Arrivals()
	if reached != 100 || blocked != 100 || outside != 100 || len(inside) != 0 {
		t.Errorf("reached the outside %d times, blocked %d, %d connections outside, inside %q; want 100, 100, 100, none", reached, blocked, outside, inside)
	}
}

// TestSearchListDoesNotApply holds that a name is looked up as it stands in the URL, and below no other, however the machine is set up; but for
// the names of the operator's own network, which are looked up as this machine looks up all others.
func TestSearchListDoesNotApply(t *testing.T) {
	network := egresstest.Enter(t)
	if network == nil {
		return
	}
	inner := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8")}
	for which, resolver := range resolvers {
		t.Run(which, func(t *testing.T) {
			nobody := newClient(t, Config{Resolver: resolver, Allow: inner})
			operator := newClient(t, Config{Resolver: resolver, Allow: inner, AllowNames: []string{"receiver", "web", ".svc", ".consul"}})
			for _, tt := range []struct {
				c       *Client
				url     string
				outside int
				inside  string
				asked   string // below the search list, beside other names
			}{
				{c: nobody, url: "http://partner.example/", outside: 1},
				{c: nobody, url: "http://partner.example./", outside: 1},
				{c: nobody, url: "http://Partner.Example/", outside: 1},
				{c: operator, url: "http://partner.example/", outside: 1},
				{c: nobody, url: "http://redis.prod/"},
				{c: operator, url: "http://hook.other.example/"},
				{c: nobody, url: "http://localhost/", inside: "127.0.0.1:80"},
				{c: nobody, url: "http://localhost.:9000/", inside: "127.0.0.1:9000"},
				{c: nobody, url: "http://receiver:9000/"},
				{c: operator, url: "http://receiver:9000/", inside: egresstest.Receiver + ":9000"},
				{c: operator, url: "http://RECEIVER./", inside: egresstest.Receiver + ":80"},
				{c: operator, url: "http://web:9000/", inside: egresstest.Cluster + ":9000", asked: "web.prod.svc.cluster.local"},
				{c: operator, url: "http://redis.prod.svc:6379/", inside: egresstest.Cluster + ":6379", asked: "redis.prod.svc.prod.svc.cluster.local"},
				{c: nobody, url: "http://redis.prod.svc:6379/"},
			} {
				_, err := tt.c.Do(t.Context(), Request{URL: tt.url, Timeout: 2 * time.Second})
				if reached := err == nil; reached != (tt.outside == 1 || tt.inside != "") {
					t.Errorf("%s: %v", tt.url, err)
				}
				inside, outside := network.Arrivals()
				if strings.Join(inside, " ") != tt.inside || outside != tt.outside {
					t.Errorf("%s: arrived inside at %q, and %d times outside", tt.url, inside, outside)
				}
				below := slices.DeleteFunc(network.Names.Asked(), func(name string) bool { return !strings.HasSuffix(name, "cluster.local") })
				if strings.Join(below, " ") != tt.asked {
					t.Errorf("%s: the name server was asked for %q, want %q", tt.url, below, tt.asked)
				}
				tt.c.Close()
			}
		})
	}
	t.Run("names in /etc/hosts", func(t *testing.T) {
		c := newClient(t, Config{})
		if _, err := c.Do(t.Context(), Request{URL: "http://outside.hosts.example/"}); err != nil {
			t.Error(err)
		}
		if asked := network.Names.Asked(); len(asked) != 0 {
			t.Errorf("the name server was asked for %q", asked)
		}
		c.Close()
	})
}

// post sends to each URL that net/http takes, on connections of its own.
func post(t *testing.T, transport *http.Transport, urls []string) {
	t.Helper()
	for _, u := range urls {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, u, http.NoBody)
		if err == nil {
			req.Close = true
			if resp, err := transport.RoundTrip(req); err == nil {
				_ = resp.Body.Close()
			}
		}
		cancel()
	}
}

// TestBlockedOnlyIfEveryAddressIs holds that one bad address among a host's does not make a dead host a forbidden one, nor hide a living one.
func TestBlockedOnlyIfEveryAddressIs(t *testing.T) {
	server := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	names := egresstest.NewNameServer(t, func(name string, _ int) []string {
		switch name {
		case "half.example":
			return []string{"10.0.0.1", "127.0.0.1", "::1"}
		case "dead.example":
			return []string{"10.0.0.1", "127.0.0.3", "::1"}
		}
		return nil
	})
	g, err := newGuard(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, []uint16{server.port()})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Config{})
	c.guard, c.transport = g, newTransport(newHosts().dialer(tracked(g.dialer(names.Resolver()))), nil)
	if _, err := c.Do(t.Context(), Request{URL: fmt.Sprintf("http://half.example:%d/", server.port())}); err != nil {
		t.Errorf("a host with one allowed address: %v", err)
	}
	_, err = c.Do(t.Context(), Request{URL: fmt.Sprintf("http://dead.example:%d/", server.port())})
	wantError(t, err, Refused, PhaseConnect)
	c.Close()
}

func TestNamesThatDoNotResolve(t *testing.T) {
	names := egresstest.NewNameServer(t, func(name string, _ int) []string {
		if name == "empty.example" {
			return []string{}
		}
		return nil
	})
	c := newClient(t, Config{Resolver: names.Resolver()})
	for _, host := range []string{"nxdomain.example", "empty.example"} {
		_, err := c.Do(t.Context(), Request{URL: "https://" + host + "/hook"})
		wantError(t, err, DNS, PhaseDNS)
		if e := asError(t, err); strings.Contains(e.Error(), host) {
			t.Errorf("the error names the host: %v", e)
		}
	}
}

func TestSilentNameServer(t *testing.T) {
	stop := make(chan struct{})
	resolver := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		<-stop
		return nil, net.ErrClosed
	}}
	defer close(stop)
	c := newClient(t, Config{Resolver: resolver})
	_, err := c.Do(t.Context(), Request{URL: "https://partner.example/hook", Timeout: time.Second})
	wantError(t, err, Timeout, PhaseDNS)
}

func TestNoProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		t.Setenv(name, "http://127.0.0.1:9")
	}
	server := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	var dialled []string
	c := newClient(t, Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled = append(dialled, addr)
		return new(net.Dialer).DialContext(ctx, network, server.addr())
	}})
	if _, err := c.Do(t.Context(), Request{URL: "http://partner.example/hook"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(t.Context(), Request{URL: "https://partner.example/hook"}); err == nil {
		t.Error("a server that speaks no TLS answers over https")
	}
	if len(dialled) != 2 || dialled[0] != "partner.example:80" || dialled[1] != "partner.example:443" {
		t.Errorf("dialled %q, want the partner alone", dialled)
	}
	if tr := c.transport; tr.Proxy != nil || tr.DialTLS != nil || tr.Dial != nil { //nolint:staticcheck // the deprecated fields would be a way around the guard, too
		t.Error("the transport has a proxy or a dialer that the guard does not see")
	}
}
