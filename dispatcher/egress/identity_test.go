package egress

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
)

// pemOf returns a certificate and its key as an [Identity] has them.
func pemOf(t *testing.T, cert tls.Certificate) (chain, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range cert.Certificate {
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block}))
	}
	return chain, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// client returns an identity with a client certificate of that name, signed by a.
func (a *authority) client(t *testing.T, name string) *Identity {
	t.Helper()
	chain, key := pemOf(t, a.leaf(t, func(c *x509.Certificate) {
		c.Subject, c.ExtKeyUsage = pkix.Name{CommonName: name}, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}))
	return &Identity{Certificate: chain, Key: key}
}

func (a *authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// A club lets in who has a client certificate of its authority, and says whose it was.
type club struct {
	*httptest.Server
	resumed, opened atomic.Int64
}

func newClub(t *testing.T, a *authority, h2 bool) *club {
	c := new(club)
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.DidResume {
			c.resumed.Add(1)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		who := "nobody"
		if len(r.TLS.PeerCertificates) > 0 {
			who = r.TLS.PeerCertificates[0].Subject.CommonName
		}
		_, _ = io.WriteString(w, who)
	}))
	c.EnableHTTP2 = h2
	c.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			c.opened.Add(1)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	c.TLS = &tls.Config{Certificates: []tls.Certificate{a.leaf(t, nil)}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: pool}
	c.StartTLS()
	t.Cleanup(c.Close)
	return c
}

// TestIdentitiesShareNoConnection: two companies call one host at the same time, each with its own certificate, and a third without one. Each
// request goes out under the right one, over connections that are used again.
func TestIdentitiesShareNoConnection(t *testing.T) {
	a := newAuthority(t)
	for name, h2 := range map[string]bool{"HTTP/1": false, "h2": true} {
		t.Run(name, func(t *testing.T) {
			server := newClub(t, a, h2)
			c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: a.roots, ClientSessionCache: tls.NewLRUClientSessionCache(10)}})
			identities := map[string]*Identity{"acme": a.client(t, "acme"), "globex": a.client(t, "globex"), "nobody": nil}
			var right, reused atomic.Int64
			var wg sync.WaitGroup
			for lane := range 4 {
				wg.Go(func() {
					for range 50 {
						for who, id := range identities {
							answer, err := c.Do(t.Context(), Request{URL: server.URL + "/hook", Body: []byte("{}"), Identity: id})
							switch {
							case err != nil:
								t.Errorf("lane %d: %v", lane, err)
							case string(answer.Body) == who:
								right.Add(1)
								if answer.Timing.Reused {
									reused.Add(1)
								}
							default:
								t.Errorf("%s came as %s", who, answer.Body)
							}
						}
					}
				})
			}
			wg.Wait()
			if right.Load() != 600 || reused.Load() < 500 || server.resumed.Load() != 0 {
				t.Errorf("%d of 600 right, %d over a kept connection, %d resumed sessions", right.Load(), reused.Load(), server.resumed.Load())
			}
			if n := server.opened.Load(); n > 100 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestARenewedIdentityUsesNoOldConnection: with another certificate, authority or server name the next request opens a connection, and does not
// disturb those of before.
func TestARenewedIdentityUsesNoOldConnection(t *testing.T) {
	a := newAuthority(t)
	server := newClub(t, a, true)
	c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: a.roots}})
	first := a.client(t, "first")
	second, authorities := *a.client(t, "second"), *first
	authorities.CA = a.pem()
	named := *first
	named.ServerName = "127.0.0.1"
	for _, tt := range []struct {
		id     *Identity
		who    string
		opened int64
	}{{first, "first", 1}, {first, "first", 1}, {&second, "second", 2}, {&second, "second", 2}, {&authorities, "first", 3}, {&named, "first", 4}, {nil, "nobody", 5}, {first, "first", 5}} {
		again := Identity{}
		id := tt.id
		if id != nil { // another that is the same
			again = *tt.id
			id = &again
		}
		answer, err := c.Do(t.Context(), Request{URL: server.URL, Identity: id})
		if err != nil || string(answer.Body) != tt.who || server.opened.Load() != tt.opened {
			t.Fatalf("%v, %v; %d connections, want %s and %d", answer, err, server.opened.Load(), tt.who, tt.opened)
		}
	}
}

// TestIdentityTrusts: an identity's authorities stand instead of the others, and its server name instead of the URL's host.
func TestIdentityTrusts(t *testing.T) {
	theirs, others := newAuthority(t), newAuthority(t)
	cert := theirs.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"hooks.partner.example"} })
	asked := make(chan string, 10)
	server := newRawServer(t, overTLS(&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- hello.ServerName
		return &cert, nil
	}}, answering("HTTP/1.1 204 No Content\r\n\r\n")))
	c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: others.roots}})
	call := func(id *Identity) error {
		_, err := c.Do(t.Context(), Request{URL: "https://" + server.addr() + "/hook", Identity: id})
		return err
	}
	if err := call(&Identity{CA: theirs.pem(), ServerName: "hooks.partner.example"}); err != nil {
		t.Fatal(err)
	}
	if name := <-asked; name != "hooks.partner.example" {
		t.Errorf("asked for %q", name)
	}
	for name, tt := range map[string]struct {
		id     *Identity
		detail string
	}{
		"no authority":    {&Identity{ServerName: "hooks.partner.example"}, "the certificate is not signed by a known authority: it is self-signed, or an intermediate certificate is missing"},
		"other authority": {&Identity{CA: others.pem(), ServerName: "hooks.partner.example"}, "the certificate is not signed by a known authority: it is self-signed, or an intermediate certificate is missing"},
		"no server name":  {&Identity{CA: theirs.pem()}, "the certificate is for another host name"},
	} {
		if e := asError(t, call(tt.id)); e.Reason != TLS || e.Detail != tt.detail {
			t.Errorf("%s: %v", name, e)
		}
	}
	broken := asError(t, call(&Identity{Certificate: "nonsense", Key: "s3cr3t"}))
	if broken.Reason != BadRequest || strings.Contains(broken.Error(), "s3cr3t") || strings.Contains(fmt.Sprint(Identity{Key: "s3cr3t"}), "s3cr3t") {
		t.Errorf("unreadable: %v", broken)
	}
}

// TestClientCertificateTroubles: what an endpoint holds against a client certificate, or the lack of one, in both versions of TLS. A certificate
// goes out although the endpoint does not name its authority.
func TestClientCertificateTroubles(t *testing.T) {
	theirs, strangers := newAuthority(t), newAuthority(t)
	expired := theirs.leaf(t, func(c *x509.Certificate) {
		c.NotAfter, c.ExtKeyUsage = time.Now().Add(-time.Minute), []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	})
	chain, key := pemOf(t, expired)
	unnamed, unnamedKey := egresstest.NewAuthority(t, "an authority that the server does not name").Client("acme", nil)
	for version, number := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
		server := newRawServer(t, overTLS(&tls.Config{
			Certificates: []tls.Certificate{theirs.leaf(t, nil)}, MinVersion: number, MaxVersion: number, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: theirs.roots,
		}, answering("HTTP/1.1 204 No Content\r\n\r\n")))
		c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: theirs.roots}})
		for name, tt := range map[string]struct {
			id     *Identity
			detail string // empty: it is answered
		}{
			"none":     {nil, certificateMissing},
			"good":     {theirs.client(t, "acme"), ""},
			"expired":  {&Identity{Certificate: chain, Key: key}, certificateExpired},
			"stranger": {strangers.client(t, "acme"), certificateStrange},
			"unnamed":  {&Identity{Certificate: unnamed, Key: unnamedKey}, certificateStrange},
		} {
			_, err := c.Do(t.Context(), Request{URL: "https://" + server.addr() + "/hook", Body: []byte("{}"), Identity: tt.id})
			if tt.detail == "" {
				if err != nil {
					t.Errorf("TLS %s, %s: %v", version, name, err)
				}
				continue
			}
			e := asError(t, err)
			if e.Reason != TLS || e.Detail != tt.detail || CertificateMissing(e.Detail) == CertificateRefused(e.Detail) {
				t.Errorf("TLS %s, %s: %v, want %s (cause: %v)", version, name, e, tt.detail, e.Unwrap())
			}
		}
	}
}

// TestOldTLSIsNamed: a server that chooses an old version is told what it chose.
func TestOldTLSIsNamed(t *testing.T) {
	for version, name := range map[byte]string{0: "SSLv3", 1: "TLS 1.0", 2: "TLS 1.1"} {
		hello := append([]byte{2, 0, 0, 38, 3, version}, make([]byte, 32)...) // a random of zeros
		hello = append(hello, 0, 0xc0, 0x2f, 0)
		record := append([]byte{22, 3, version, 0, byte(len(hello))}, hello...)
		server := newRawServer(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			for part := range bytes.SplitSeq(record, nil) { // byte by byte
				_, _ = conn.Write(part)
			}
			untilClosed(conn)
		})
		c := newClient(t, Config{Allow: loopback})
		_, err := c.Do(t.Context(), Request{URL: "https://" + server.addr() + "/hook"})
		if e := asError(t, err); e.Reason != TLS || e.Detail != "the endpoint offers "+name+" at most: TLS 1.2 or later is needed" {
			t.Errorf("%s: %v (cause: %v)", name, e, e.Unwrap())
		}
	}
}

// TestIdentityThroughAProxy: behind CONNECT it is the endpoint that sees the certificate.
func TestIdentityThroughAProxy(t *testing.T) {
	a := newAuthority(t)
	server := newClub(t, a, true)
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		to, err := (&net.Dialer{}).DialContext(r.Context(), "tcp", r.Host)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer func() { _ = to.Close() }()
		w.WriteHeader(http.StatusOK)
		from, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = from.Close() }()
		var wg sync.WaitGroup
		wg.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
		_, _ = io.Copy(from, to)
		_ = from.Close()
		wg.Wait()
	}))
	defer p.Close()
	at, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, Config{Allow: []netip.Prefix{loopback[0]}, Proxy: at, TLS: &tls.Config{RootCAs: a.roots}})
	defer c.Close()
	for _, who := range []string{"acme", "globex", "acme"} {
		answer, err := c.Do(t.Context(), Request{URL: server.URL, Identity: a.client(t, who)})
		if err != nil || string(answer.Body) != who {
			t.Fatalf("%v, %v; want %s", answer, err, who)
		}
	}
	c.Close()
}

// TestIdentitiesAreBounded: those that were used last are kept.
func TestIdentitiesAreBounded(t *testing.T) {
	s := newIdentities()
	first := &Identity{ServerName: "first.example"}
	kept, err := s.get(first)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxIdentities - 1 {
		if _, err := s.get(&Identity{ServerName: fmt.Sprintf("h%d.example", i)}); err != nil {
			t.Fatal(err)
		}
	}
	if again, _ := s.get(first); again != kept {
		t.Error("one that was used is read again")
	}
	if _, err := s.get(&Identity{ServerName: "one.more.example"}); err != nil || len(s.known) != maxIdentities || s.recent.Len() != maxIdentities {
		t.Errorf("%d are kept, %v", len(s.known), err)
	}
	if again, _ := s.get(first); again != kept {
		t.Error("one that was used just now is forgotten")
	}
}
