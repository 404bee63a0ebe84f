package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func TestGuardAddresses(t *testing.T) {
	g, err := newGuard(nil, nil, publicPorts)
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.169.254",
		"172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.175.48.1",
		"198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "168.63.129.16",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:168.63.129.16", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::7f00:1", "100::1", "100:0:0:1::1", "2001::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1",
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%lo", "2606:4700::1%lo", "fec0::1", "ff02::1",
	} {
		if g.check(netip.AddrPortFrom(netip.MustParseAddr(addr), 443)) == nil {
			t.Errorf("%s may be connected to", addr)
		}
	}
	for _, addr := range []string{"1.1.1.1", "93.184.215.14", "::ffff:93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1", "168.63.129.17"} {
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
	g, err := newGuard(parse("10.1.2.3/8", "::ffff:192.168.1.0/120", "fd00::/8"), parse("10.0.0.5/32", "93.184.0.0/16"), publicPorts)
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
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// nameServer answers from a function, on a loopback port of its own.
type nameServer struct {
	conn net.PacketConn
	wg   sync.WaitGroup
	mu   sync.Mutex
	seen map[string]int // questions for A and AAAA by name
}

// newNameServer starts a server that answers each A or AAAA question with the addresses of answer that fit. ask counts the questions of that type
// for that name, from 1. A nil answer is NXDOMAIN; one that is an empty slice, no record; "cname NAME" an alias of NAME.
func newNameServer(t testing.TB, answer func(name string, ask int) []string) *nameServer {
	t.Helper()
	conn, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn, seen: map[string]int{}}
	s.wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if reply := s.reply(buf[:n], answer); reply != nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	})
	t.Cleanup(func() {
		_ = conn.Close()
		s.wg.Wait()
	})
	return s
}

func (s *nameServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", s.conn.LocalAddr().String())
	}}
}

func (s *nameServer) reply(query []byte, answer func(string, int) []string) []byte {
	var p dnsmessage.Parser
	header, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.TrimSuffix(q.Name.String(), ".")
	s.mu.Lock()
	s.seen[name+q.Type.String()]++
	ask := s.seen[name+q.Type.String()]
	s.mu.Unlock()
	answers := answer(name, ask)
	msg := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionAvailable: true},
		Questions: []dnsmessage.Question{q},
	}
	if answers == nil {
		msg.RCode = dnsmessage.RCodeNameError
	}
	owner := q.Name
	add := func(typ dnsmessage.Type, body dnsmessage.ResourceBody) {
		msg.Answers = append(msg.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: owner, Type: typ, Class: q.Class}, Body: body})
	}
	for _, a := range answers {
		if alias, ok := strings.CutPrefix(a, "cname "); ok {
			next := dnsmessage.MustNewName(alias + ".")
			add(dnsmessage.TypeCNAME, &dnsmessage.CNAMEResource{CNAME: next})
			owner = next
			continue
		}
		addr := netip.MustParseAddr(a)
		switch {
		case addr.Is4() && q.Type == dnsmessage.TypeA:
			add(q.Type, &dnsmessage.AResource{A: addr.As4()})
		case addr.Is6() && q.Type == dnsmessage.TypeAAAA:
			add(q.Type, &dnsmessage.AAAAResource{AAAA: addr.As16()})
		}
	}
	out, err := msg.Pack()
	if err != nil {
		return nil
	}
	return out
}

// canary listens on one port of both loopback addresses and counts who comes.
type canary struct{ v4, v6 *rawServer }

func newCanary(t *testing.T) *canary {
	t.Helper()
	serve := answering("HTTP/1.1 204 No Content\r\n\r\n")
	c := &canary{v4: newRawServer(t, serve)}
	c.v6 = newRawServerAt(t, "[::1]:"+strconv.Itoa(int(c.v4.port())), serve)
	return c
}

func (c *canary) hits() int64 { return c.v4.accepted.Load() + c.v6.accepted.Load() }

// insideNames are names whose owner points them at somebody's inside; %d in a URL stands for the canary's port.
var insideNames = map[string][]string{
	"a.example":        {"127.0.0.1"},
	"a2.example":       {"127.8.8.8"},
	"zero.example":     {"0.0.0.0"},
	"aaaa.example":     {"::1"},
	"unspec.example":   {"::"},
	"mapped.example":   {"::ffff:127.0.0.1"},
	"alias.example":    {"cname target.example", "127.0.0.1"},
	"two.example":      {"127.0.0.1", "127.0.0.2"},
	"both.example":     {"127.0.0.1", "::1"},
	"metadata.example": {"169.254.169.254"}, // dialled only by the guarded client
	"private.example":  {"10.0.0.1", "192.168.0.1", "fd00::1"},
	"nat64.example":    {"64:ff9b::7f00:1"},
}

// insideURLs are spellings that reach loopback with one resolver or another, besides the names.
var insideURLs = []string{
	"http://127.0.0.1:%d/", "http://127.1:%d/", "http://127.0.0.1.:%d/", "http://2130706433:%d/", "http://0x7f000001:%d/", "http://0x7f.1:%d/", "http://017700000001:%d/", "http://0177.0.0.1:%d/",
	"http://127.000.000.001:%d/", "http://0:%d/", "http://0.0.0.0:%d/", "http://[::]:%d/", "http://[::1]:%d/", "http://[::ffff:127.0.0.1]:%d/", "http://[::ffff:7f00:1]:%d/", "http://[0:0:0:0:0:0:0:1]:%d/",
	"http://localhost:%d/", "http://LOCALHOST:%d/", "http://localhost.:%d/", "http://partner.example@127.0.0.1:%d/", "http://127.0.0.1:%d\\@partner.example/",
	"http://127。0。0。1:%d/", "http://127%%E3%%80%%820%%E3%%80%%820%%E3%%80%%821:%d/", "http://①②⑦.0.0.1:%d/", "http://１２７.0.0.1:%d/", "http://ⓛocalhost:%d/", "http://local\u00adhost:%d/", "http://[::1%%25lo]:%d/",
	"http://ＬＯＣＡＬＨＯＳＴ:%d/", "http://localhost。:%d/", "http://127．0｡0。1:%d/", "http://𝟙𝟚𝟟.0.0.1:%d/", "http://２１３０７０６４３３:%d/", "http://local\u200bhost:%d/", "http://partner.example／@127.0.0.1:%d/",
	"http://127.0.0.1:%d#partner.example/", "http://127.0.0.1:%d?@partner.example/",
}

// TestNothingInsideIsReached sends to every trick and counts connections at the canary: with the guard none, whether or not the URL policy
// stands before it; without the guard the very same tries arrive, so this test can fail.
func TestNothingInsideIsReached(t *testing.T) {
	names := newNameServer(t, func(name string, ask int) []string {
		if name == "rebind.example" && ask%2 == 1 {
			return []string{"127.0.0.2"} // the allowed address
		}
		if name == "rebind.example" {
			return []string{"127.0.0.1"} // the canary
		}
		return insideNames[name]
	})
	var urls []string
	canary := newCanary(t)
	port := canary.v4.port()
	for _, u := range insideURLs {
		urls = append(urls, fmt.Sprintf(u, port))
	}
	for name := range insideNames {
		urls = append(urls, fmt.Sprintf("http://%s:%d/", name, port))
	}
	guarded := newClient(t, Config{Resolver: names.resolver()})
	// The canary cannot have port 443, so let the guard think that its port is a public one: addresses alone must stop it.
	g, err := newGuard(nil, nil, append([]uint16{port}, publicPorts...))
	if err != nil {
		t.Fatal(err)
	}
	open := newClient(t, Config{Resolver: names.resolver()})
	open.guard, open.transport = g, newTransport(newHosts().dialer(tracked(g.dialer(names.resolver()))), nil)

	t.Run("policy and guard", func(t *testing.T) {
		for _, u := range urls {
			for _, c := range []*Client{guarded, open} {
				resp, err := c.Do(t.Context(), Request{URL: u, Timeout: 2 * time.Second})
				if err == nil {
					t.Errorf("%s: answered %d", u, resp.Status)
				}
			}
		}
		for name := range insideNames {
			_, err := open.Do(t.Context(), Request{URL: fmt.Sprintf("http://%s:%d/", name, port), Timeout: 2 * time.Second})
			wantError(t, err, BlockedAddress, PhaseConnect)
			if err := guarded.CheckURL("http://" + name + "/"); err != nil {
				t.Errorf("%s: a name's address is judged at registration: %v", name, err)
			}
		}
	})
	t.Run("guard alone", func(t *testing.T) { post(t, open.transport, urls) })
	if n := canary.hits(); n != 0 {
		t.Fatalf("the canary was reached %d times", n)
	}

	t.Run("rebinding", func(t *testing.T) {
		outside := newRawServerAt(t, fmt.Sprintf("127.0.0.2:%d", port), func(conn net.Conn) {
			defer reset(conn)
			if _, err := conn.Read(make([]byte, 4096)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
				untilClosed(conn)
			}
		})
		g, err := newGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}, nil, []uint16{port})
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, Config{})
		c.guard, c.transport = g, newTransport(newHosts().dialer(tracked(g.dialer(names.resolver()))), nil)
		reached, blocked := 0, 0
		for range 100 {
			_, err := c.Do(t.Context(), Request{URL: fmt.Sprintf("http://rebind.example:%d/", port)})
			if err == nil {
				reached++
				continue
			}
			wantError(t, err, BlockedAddress)
			blocked++
		}
		if reached != 50 || blocked != 50 || canary.hits() != 0 {
			t.Errorf("reached the outside %d times, blocked %d, canary hit %d times; want 50, 50, 0 (%d connections outside)", reached, blocked, canary.hits(), outside.accepted.Load())
		}
	})

	t.Run("without the guard they arrive", func(t *testing.T) {
		bare := newTransport((&net.Dialer{Resolver: names.resolver(), Timeout: time.Second}).DialContext, nil)
		defer bare.CloseIdleConnections()
		var local []string // without the guard nothing but loopback may be tried
		for _, u := range urls {
			if !strings.Contains(u, "metadata.") && !strings.Contains(u, "private.") && !strings.Contains(u, "nat64.") {
				local = append(local, u)
			}
		}
		post(t, bare, local)
		if n := canary.hits(); n < 12 {
			t.Errorf("only %d tries reached the canary without the guard: the vectors prove little", n)
		}
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
	names := newNameServer(t, func(name string, _ int) []string {
		switch name {
		case "half.example":
			return []string{"10.0.0.1", "127.0.0.1", "::1"}
		case "dead.example":
			return []string{"10.0.0.1", "127.0.0.3", "::1"}
		}
		return nil
	})
	g, err := newGuard([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, nil, []uint16{server.port()})
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Config{})
	c.guard, c.transport = g, newTransport(newHosts().dialer(tracked(g.dialer(names.resolver()))), nil)
	if _, err := c.Do(t.Context(), Request{URL: fmt.Sprintf("http://half.example:%d/", server.port())}); err != nil {
		t.Errorf("a host with one allowed address: %v", err)
	}
	_, err = c.Do(t.Context(), Request{URL: fmt.Sprintf("http://dead.example:%d/", server.port())})
	wantError(t, err, Refused, PhaseConnect)
	c.Close()
}

func TestNamesThatDoNotResolve(t *testing.T) {
	names := newNameServer(t, func(name string, _ int) []string {
		if name == "empty.example" {
			return []string{}
		}
		return nil
	})
	c := newClient(t, Config{Resolver: names.resolver()})
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
	_, err := c.Do(t.Context(), Request{URL: "https://partner.example/hook", Timeout: 50 * time.Millisecond})
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
	if len(dialled) != 1 || dialled[0] != "partner.example:80" {
		t.Errorf("dialled %q, want the partner alone", dialled)
	}
	if tr := c.transport; tr.Proxy != nil || tr.DialTLSContext != nil || tr.DialTLS != nil || tr.Dial != nil { //nolint:staticcheck // the deprecated fields would be a way around the guard, too
		t.Error("the transport has a proxy or a dialer that the guard does not see")
	}
}
