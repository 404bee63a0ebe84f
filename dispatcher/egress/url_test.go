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

// longestURL is as long as a URL may be.
var longestURL = "https://partner.example/" + strings.Repeat("a", maxURLLen-len("https://partner.example/"))

// checkedURLs are URLs and the verdicts of TestCheckURL's clients.
var checkedURLs = []struct {
	client string
	url    string
	want   string // a part of the error; empty: accepted
}{
	{"strict", "https://partner.example/hook", ""},
	{"strict", "HTTPS://Partner.Example/hook", ""},
	{"strict", "http://partner.example", ""},
	{"strict", "https://partner.example:443/", ""},
	{"strict", "https://partner.example:8443/?a=b", ""},
	{"strict", "https://partner.example:80", ""},
	{"strict", "https://partner.example./hook", ""},
	{"strict", "https://xn--bcher-kva.example/hook", ""},
	{"strict", "https://bücher.example/hook", ""},
	{"strict", "https://BÜCHER.Example:8443/hook?x", ""},
	{"strict", "https://bücher。example。/hook", ""},
	{"strict", "https://例え.テスト/", ""},
	{"strict", "https://my_host.partner.example/", ""},
	{"strict", `https://partner.example/{x}|^\"<>`, ""},
	{"strict", "https://partner.example/?to=user@host", ""},
	{"strict", "https://partner.example/a@b:c", ""},
	{"strict", "https://partner.example/?q=100%", ""},
	{"strict", "https://3com.example/", ""},
	{"strict", longestURL, ""},

	{"strict", longestURL + "a", "2048"},
	{"strict", "", "missing"},
	{"strict", "partner.example/hook", "absolute"},
	{"strict", "//partner.example/hook", "absolute"},
	{"strict", "/hook", "absolute"},
	{"strict", "https:partner.example", "absolute"},
	{"strict", "https:/partner.example", "absolute"},
	{"strict", "ftp://partner.example/", "absolute"},
	{"strict", "file:///etc/passwd", "absolute"},
	{"strict", "unix:///var/run/docker.sock", "absolute"},
	{"strict", "gopher://partner.example/", "absolute"},
	{"strict", "http+unix://partner.example/", "absolute"},
	{"strict", "javascript:alert(1)", "absolute"},
	{"strict", "https://", "host"},
	{"strict", "https:///hook", "host"},
	{"strict", "https://?a", "host"},
	{"strict", "https://:443/", "host"},
	{"strict", "https://partner.example/a b", "printable ASCII"},
	{"strict", "https://partner.example/\r\nX: y", "printable ASCII"},
	{"strict", "https://partner.example/\x00", "printable ASCII"},
	{"strict", "https://partner.example/\t", "printable ASCII"},
	{"strict", " https://partner.example/", "printable ASCII"},
	{"strict", "https://partner.example/ä", "percent-encode"},
	{"strict", "https://partner.example/?ä", "percent-encode"},
	{"strict", "https://partner.example?ä", "percent-encode"},
	{"strict", "https://partner.example/\xff", "percent-encode"},
	{"strict", "https://bücher.example/ä", "percent-encode"},
	{"strict", "https://partner.example/a\u00a0b", "percent-encode"},
	{"strict", "ｈttps://partner.example/", "absolute"},
	{"strict", "https：//partner.example/", "absolute"},
	{"strict", "https://partner.example/#x", "fragment"},
	{"strict", "https://partner.example/#", "fragment"},
	{"strict", "https://user:pw@partner.example/", "auth field"},
	{"strict", "https://user@partner.example/", "auth field"},
	{"strict", "https://@partner.example/", "auth field"},
	{"strict", "https://partner.example@127.0.0.1@other.example/", "auth field"},
	{"strict", `https://partner.example\@127.0.0.1/`, "auth field"},
	{"strict", `https://partner.example\.evil.example/`, "malformed host"},
	{"strict", "https://partner%2eexample/", "malformed host"},
	{"strict", "https://127%E3%80%820%E3%80%820%E3%80%821/", "malformed host"},
	{"strict", "https://partner..example/", "malformed host"},
	{"strict", "https://partner.example../", "malformed host"},
	{"strict", "https://.partner.example/", "malformed host"},
	{"strict", "https://./", "malformed host"},
	{"strict", "https://-partner.example/", "malformed host"},
	{"strict", "https://" + strings.Repeat("a", 64) + ".example/", "malformed host"},
	{"strict", "https://" + strings.Repeat("abcdefg.", 32) + "example/", "253"},
	{"strict", "https://partner.example:/", "port"},
	{"strict", "https://partner.example:0/", "port"},
	{"strict", "https://partner.example:0443/", "port"},
	{"strict", "https://partner.example:65979/", "port"}, // 65979 = 443 modulo 65536
	{"strict", "https://partner.example:+443/", "port"},
	{"strict", "https://partner.example:https/", "port"},
	{"strict", "https://partner.example:443:443/", "malformed host"},
	{"strict", "https://partner.example/%zz", "%25"},
	{"strict", "https://partner.example/a%2", "%25"},
	{"strict", "https://partner.example/%", "%25"},
	{"strict", "https://partner.example//{x}", "single slash"},

	{"strict", "https://partner.example:22/", "port that is not allowed"},
	{"strict", "https://partner.example:6379/", "port that is not allowed"},
	{"strict", "http://partner.example:8080/", "port that is not allowed"},
	{"strict", "http://127.0.0.1/", "address as its host"},
	{"strict", "http://93.184.215.14/", "address as its host"},
	{"strict", "http://169.254.169.254/latest/meta-data/", "address as its host"},
	{"strict", "http://[::1]/", "address as its host"},
	{"strict", "http://[::]/", "address as its host"},
	{"strict", "http://[::ffff:127.0.0.1]/", "address as its host"},
	{"strict", "http://[::ffff:7f00:1]/", "address as its host"},
	{"strict", "http://[64:ff9b::7f00:1]/", "address as its host"},
	{"strict", "http://[fe80::1%25lo]/", "malformed IPv6"},
	{"strict", "http://[fe80::1%lo]/", "malformed IPv6"},
	{"strict", "http://[::1/", "malformed"},
	{"strict", "http://[127.0.0.1]/", "malformed IPv6"},
	{"strict", "http://::1/", "malformed host"},
	{"strict", "http://2130706433/", "number"},
	{"strict", "http://0x7f000001/", "number"},
	{"strict", "http://0X7F.1/", "number"},
	{"strict", "http://0x7f.0.0.0x1/", "number"},
	{"strict", "http://0x/", "number"},
	{"strict", "http://0177.0.0.1/", "number"},
	{"strict", "http://017700000001/", "number"},
	{"strict", "http://127.1/", "number"},
	{"strict", "http://127.000.000.001/", "number"},
	{"strict", "http://0/", "number"},
	{"strict", "http://127.0.0.1./", "number"},
	{"strict", "http://1.2.3.4.5/", "number"},
	{"strict", "http://localhost/", "localhost"},
	{"strict", "http://LocalHost/", "localhost"},
	{"strict", "http://localhost./", "localhost"},
	{"strict", "http://a.localhost/", "localhost"},
	{"strict", "http://localhost.localdomain/", "internal network"},
	{"strict", "http://printer.local/", "internal network"},
	{"strict", "http://printer.LOCAL./", "internal network"},
	{"strict", "http://metadata.google.internal/", "internal network"},
	{"strict", "http://metadata.goog/", "internal network"},
	{"strict", "http://redis/", "internal network"},
	{"strict", "http://redis.default.svc.cluster.local/", "internal network"},
	{"strict", "http://nas.home.arpa/", "internal network"},
	{"strict", "http://redis.prod.svc/", "internal network"},
	{"strict", "http://vault.service.consul/", "internal network"},
	{"strict", "http://duckduckgogg42xjoc72x3sjasowoarfbgcmvfimaftt6twagswzczad.onion/", "internal network"},
	{"strict", "http://1.0.0.127.in-addr.arpa/", "internal network"},
	{"strict", "http://1.0.ip6.arpa./", "internal network"},
	{"strict", "http://svc/", "internal network"},
	{"strict", "https://svc.example/", ""},

	{"strict", "http://１２７.0.0.1/", "address as its host"},
	{"strict", "http://127。0。0。1/", "address as its host"},
	{"strict", "http://①②⑦．0｡0.1/", "address as its host"},
	{"strict", "http://𝟙𝟚𝟟.0.0.1/", "address as its host"},
	{"strict", "http://0ｘ7f.1/", "number"},
	{"strict", "http://２１３０７０６４３３/", "number"},
	{"strict", "http://127.0.0.1。/", "number"},
	{"strict", "http://ⓛocalhost/", "localhost"},
	{"strict", "http://ＬＯＣＡＬＨＯＳＴ/", "localhost"},
	{"strict", "http://local\u00adhost/", "localhost"},
	{"strict", "http://local\u200bhost/", "localhost"},
	{"strict", "http://localhost。/", "localhost"},
	{"strict", "http://a。localhost/", "localhost"},
	{"strict", "http://printer。local/", "internal network"},
	{"strict", "http://ｍetadata.google.internal/", "internal network"},
	{"strict", "http://bücher/", "internal network"},
	{"strict", "http://bücher.example:22/", "port that is not allowed"},
	{"strict", "http://\u00ad/", "no host"},
	{"strict", "http://bücher..example/", "malformed host"},
	{"strict", "http://bücher%2eexample/", "IDNA"},
	{"strict", "http://bücher.example：22/", "IDNA"},
	{"strict", "http://bücher.example：80:443/", "IDNA"},
	{"strict", "http://bücher.example:４４３/", "port"},
	{"strict", "http://partner.example／@127.0.0.1/", "auth field"},
	{"strict", "http://127.0.0.1／.partner.example/", "IDNA"},
	{"strict", "http://127.0.0.1？.partner.example/", "IDNA"},
	{"strict", "http://user＠127.0.0.1/", "IDNA"},
	{"strict", "http://［::1］/", "port"},
	{"strict", "http://[::１]/", "IDNA"},
	{"strict", "http://b\xfccher.example/", "IDNA"},
	{"strict", "http://\u202eexample.com/", "IDNA"},
	{"strict", "http://" + strings.Repeat("ü", 64) + ".example/", "malformed host"},
	{"strict", "http://" + strings.Repeat("bücher.", 40) + "example/", "253"},

	{"local", "http://１２７.0.0.1:9000/", ""},
	{"local", "http://ⓛocalhost:9000/", ""},
	{"inside", "http://bücher.corp.internal:9000/", ""},
	{"inside", "http://bücher.büro.corp/", ""},
	{"named", "http://ｍetadata/", "internal network"},
	{"local", "http://127.0.0.1:9000/", ""},
	{"local", "http://127.9.9.9:1/", ""},
	{"local", "http://[::1]:9000/", ""},
	{"local", "http://[::ffff:127.0.0.1]:9000/", ""},
	{"local", "http://localhost:9000/hook", ""},
	{"local", "http://localhost.:9000/hook", ""},
	{"local", "http://10.0.0.1/", "address as its host"},
	{"local", "http://partner.example:9000/", "port that is not allowed"},
	{"local", "http://printer.local/", "internal network"},
	{"local", "http://2130706433:9000/", "number"},

	{"inside", "http://10.1.2.3:9000/", ""},
	{"inside", "http://192.168.7.7/", "address as its host"},
	{"inside", "http://192.168.0.7/", ""},
	{"inside", "http://billing.corp.internal:9000/", ""},
	{"inside", "http://receiver:9000/", ""},
	{"inside", "http://RECEIVER./", ""},
	{"inside", "http://receivers/", "internal network"},
	{"inside", "http://a.receiver:9000/", "port that is not allowed"},
	{"inside", "http://corp.internal/", "internal network"},
	{"inside", "http://xcorp.internal/", "internal network"},
	{"inside", "http://metadata.google.internal/", "internal network"},
	{"inside", "http://localhost/", "localhost"},
	{"named", "http://receiver:9000/", ""},
	{"named", "http://redis.prod.svc/", ""},
	{"named", "http://metadata.google.internal/", "internal network"},
	{"named", "http://metadata.goog./", "internal network"},
	{"named", "http://localhost/", "localhost"},
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
		})
	}
}

// urlsOnTheWire are URLs with the request target and the Host header that they must appear as.
var urlsOnTheWire = []struct{ url, target, host string }{
	{"http://h.example", "/", "h.example"},
	{"http://h.example/", "/", "h.example"},
	{"http://h.example?", "/?", "h.example"},
	{"http://h.example?a=b", "/?a=b", "h.example"},
	{"http://h.example/?", "/?", "h.example"},
	{"http://h.example/hook", "/hook", "h.example"},
	{"http://h.example/a%2Fb", "/a%2Fb", "h.example"},
	{"http://h.example/a%2fb", "/a%2fb", "h.example"},
	{"http://h.example/%41%7e", "/%41%7e", "h.example"},
	{"http://h.example/{x}|^", "/{x}|^", "h.example"},
	{"http://h.example/\\\"<>`[]", "/\\\"<>`[]", "h.example"},
	{"http://h.example/hook?a=b;c&d", "/hook?a=b;c&d", "h.example"},
	{"http://h.example/hook?a=%zz&a=+&?", "/hook?a=%zz&a=+&?", "h.example"},
	{"http://h.example/?q={x}|^", "/?q={x}|^", "h.example"},
	{"http://h.example//double", "//double", "h.example"},
	{"http://h.example//evil.example/x?y", "//evil.example/x?y", "h.example"},
	{"http://h.example///", "///", "h.example"},
	{"http://h.example//a%2Fb", "//a%2Fb", "h.example"},
	{"http://h.example/a//b", "/a//b", "h.example"},
	{"http://h.example/../x", "/../x", "h.example"},
	{"http://h.example/a/./b/..", "/a/./b/..", "h.example"},
	{"http://h.example/a%0d%0aX:y", "/a%0d%0aX:y", "h.example"},
	{"http://h.example/http://other.example/", "/http://other.example/", "h.example"},
	{"http://h.example/*", "/*", "h.example"},
	{"http://h.example./hook", "/hook", "h.example."},
	{"http://H.Example/Hook", "/Hook", "H.Example"},
	{"http://bücher.example/a%2Fb?x", "/a%2Fb?x", "xn--bcher-kva.example"},
	{"http://Bücher.Example:8443//a", "//a", "xn--bcher-kva.example:8443"},
	{"http://bücher。example。:80", "/", "xn--bcher-kva.example.:80"},
	{"http://faß.example?", "/?", "xn--fa-hia.example"},
	{"http://h.example:80/hook", "/hook", "h.example:80"},
	{"http://h.example:443/hook", "/hook", "h.example:443"},
	{"HTTP://h.example:8443", "/", "h.example:8443"},
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
