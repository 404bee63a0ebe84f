package egress

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/idna"
)

func TestCheckURL(t *testing.T) {
	private := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::ffff:192.168.0.0/120")}
	clients := map[string]*Client{
		"strict": newClient(t, Config{}),
		"local":  newClient(t, Config{Allow: loopback}),
		"inside": newClient(t, Config{Allow: private, AllowNames: []string{"Receiver.", ".Corp.internal", ".büro.corp"}}),
		"named":  newClient(t, Config{Allow: private, AllowNames: []string{"."}}),
	}
	for _, tt := range checkedURLs {
		err := clients[tt.client].CheckURL(tt.url)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q is refused: it %v", tt.url, err)
		case tt.want != "" && err == nil:
			t.Errorf("%q is accepted, want an error with %q", tt.url, tt.want)
		case tt.want != "" && !strings.Contains(err.Error(), tt.want):
			t.Errorf("%q: error %q does not say %q", tt.url, err, tt.want)
		}
	}
}

func TestCheckURLDoesNotEcho(t *testing.T) {
	c := newClient(t, Config{})
	for _, u := range []string{
		"https://s3cr3t@h.example/", "https://h.example:s3cr3t/", "s3cr3t://h", "https://s3cr3t/", "https://h.example//s3cr3t{",
		"https://h.example/%s3cr3t", "https://h.example/ s3cr3t", "https://s3cr3t..x/", "https://h.example/#s3cr3t",
	} {
		if err := c.CheckURL(u); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("CheckURL(%q) = %v, want an error that does not repeat it", u, err)
		}
	}
}

// TestURLOnTheWire compares what a raw listener reads with what was registered.
func TestURLOnTheWire(t *testing.T) {
	type head struct{ line, host string }
	heads, dialled := make(chan head, 1), make(chan string, 1)
	server := newRawServer(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			lines, _, err := readRequest(r)
			if err != nil {
				return
			}
			heads <- head{lines[0], strings.TrimPrefix(lines[1], "Host: ")}
			if _, err := conn.Write([]byte("HTTP/1.1 204 No Content\r\n\r\n")); err != nil {
				return
			}
		}
	})
	c := newClient(t, Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialled <- addr
		return new(net.Dialer).DialContext(ctx, network, server.addr())
	}})
	for _, tt := range urlsOnTheWire {
		t.Run(tt.url, func(t *testing.T) {
			if err := c.CheckURL(tt.url); err != nil {
				t.Fatalf("refused: it %v", err)
			}
			if _, err := c.Do(t.Context(), Request{URL: tt.url, Body: []byte("{}")}); err != nil {
				t.Fatal(err)
			}
			c.Close() // the next one dials anew
			if name, _, err := net.SplitHostPort(<-dialled); err != nil || !strings.EqualFold(name, strings.TrimSuffix(strings.TrimRight(tt.host, "0123456789"), ":")) {
				t.Errorf("%s was dialled, for the host %s", name, tt.host)
			}
			got := <-heads
			if want := "POST " + tt.target + " HTTP/1.1"; got.line != want {
				t.Errorf("request line is %q, want %q", got.line, want)
			}
			if got.host != tt.host {
				t.Errorf("Host is %q, want %q", got.host, tt.host)
			}
			if said, err := WireURL(tt.url); err != nil || said != "http://"+tt.host+tt.target {
				t.Errorf("said to go out as %q (%v)", said, err)
			}
		})
	}
}

func TestURLOnTheWireHTTP2(t *testing.T) {
	var target, host string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		target, host = r.RequestURI, r.Host
		w.WriteHeader(http.StatusNoContent)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: roots}})
	for _, path := range []string{"/a%2Fb", "/{x}|^?a=b;c&d", "//double", "/../x?", "/a%2fb//c"} {
		resp, err := c.Do(t.Context(), Request{URL: server.URL + path, Body: []byte("{}")})
		if err != nil {
			t.Fatal(err)
		}
		if resp.Proto != "HTTP/2.0" || target != path || host != server.Listener.Addr().String() {
			t.Errorf("%s: got :path %q and :authority %q over %s", path, target, host, resp.Proto)
		}
	}
	c.Close()
}

// FuzzCheckURL holds that nothing panics, that what is accepted is written byte for byte, and that net/url sees the same host in it.
func FuzzCheckURL(f *testing.F) {
	for _, seed := range []string{
		"https://partner.example/hook", "http://h.example", "http://h.example?", "http://h.example//a%2Fb?x", "http://h.example//{", "https://H.example.:8443/a?b?c",
		"http://127.0.0.1:80/", "http://[::1]:80/", "http://[fe80::1%25lo]/", "http://a@b/", "http://0x7f.1/", "http://h.example/%zz", "http://h.example/{x}|^\\", "http://h.example:65536/",
		"https://bücher.example/hook?x", "http://Bücher。example。:80", "http://１２７.0.0.1/", "http://ⓛocal\u00adhost:80//", "http://b\xff.example/", "http://例え.テスト：80/", "http://😀.example/é",
		"http://localhost/", "http://[::ffff:127.0.0.1]:9/x", "http://h/http://x", "http://receiver:9000//", "http://h.example///%41//",
	} {
		f.Add(seed)
	}
	everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
	clients := []*Client{newClient(f, Config{}), newClient(f, Config{Allow: everything})}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, c := range clients {
			if c.CheckURL(raw) != nil {
				continue
			}
			_, rest, _ := strings.Cut(raw, "://")
			authority, path := rest, ""
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				authority, path = rest[:i], rest[i:]
			}
			if !strings.HasPrefix(path, "/") {
				path = "/" + path
			}
			req, err := c.build(t.Context(), Request{URL: raw, Body: []byte("{}")}, new(trace))
			if err != nil {
				t.Fatalf("%q is accepted but cannot be built: %v", raw, err)
			}
			var wire bytes.Buffer
			if err := req.Write(&wire); err != nil {
				t.Fatalf("%q is accepted but cannot be written: %v", raw, err)
			}
			host := authority
			if !isASCII(authority) { // a second judge: what a host maps to is taken for itself
				name, port := authority, ""
				if colon := strings.LastIndexByte(authority, ':'); colon >= 0 {
					name, port = authority[:colon], authority[colon:]
				}
				host = idnaOf(t, name) + port
				mapped := strings.Replace(raw, authority, host, 1)
				if len(mapped) <= maxURLLen && c.CheckURL(mapped) != nil {
					t.Fatalf("%q is accepted, %q is not", raw, mapped)
				}
				raw = mapped
			}
			if want := "POST " + path + " HTTP/1.1\r\nHost: " + host + "\r\n"; !strings.HasPrefix(wire.String(), want) {
				t.Fatalf("%q is written as\n%q, want\n%q", raw, wire.String(), want)
			}
			u, wrong := url.Parse(raw)
			if wrong != nil || u.Host != host || u.Hostname() != req.URL.Hostname() || u.User != nil {
				t.Fatalf("net/url reads %q as %#v (%v)", raw, u, wrong)
			}
		}
	})
}

func idnaOf(t *testing.T, host string) string {
	t.Helper()
	mapped, err := idna.Lookup.ToASCII(host)
	if err != nil {
		t.Fatalf("%q is accepted, but %v", host, err)
	}
	return mapped
}
