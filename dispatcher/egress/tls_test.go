package egress

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"maps"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority signs certificates for one test.
type authority struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	roots *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{roots: x509.NewCertPool()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.cert = sign(t, template, template, nil)
	a.roots.AddCert(a.cert)
	return a
}

// sign returns a new key and a certificate for it; a nil parentKey makes it self-signed.
func sign(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parentKey == nil {
		parentKey = key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// leaf returns a certificate for 127.0.0.1, changed by change, and signed by a unless a is nil.
func (a *authority) leaf(t *testing.T, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{{127, 0, 0, 1}}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if change != nil {
		change(template)
	}
	parent, parentKey := template, (*ecdsa.PrivateKey)(nil)
	if a != nil {
		parent, parentKey = a.cert, a.key
	}
	key, cert := sign(t, template, parent, parentKey)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// overTLS shakes hands and goes on with serve.
func overTLS(cfg *tls.Config, serve func(net.Conn)) func(net.Conn) {
	return func(conn net.Conn) {
		secure := tls.Server(conn, cfg)
		if secure.Handshake() == nil {
			serve(secure)
		}
		untilClosed(conn)
	}
}

// TestTLSOfAnInternationalHost: the server is asked for, and its certificate holds, the name in its xn-- form.
func TestTLSOfAnInternationalHost(t *testing.T) {
	a := newAuthority(t)
	asked := make(chan string, 1)
	cert := a.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"xn--bcher-kva.example"} })
	server := newRawServer(t, overTLS(&tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		asked <- hello.ServerName
		return &cert, nil
	}}, answering("HTTP/1.1 204 No Content\r\n\r\n")))
	c := newClient(t, Config{TLS: &tls.Config{RootCAs: a.roots}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, server.addr())
	}})
	if _, err := c.Do(t.Context(), Request{URL: "https://Bücher。example/hook"}); err != nil {
		t.Fatal(err)
	}
	if name := <-asked; name != "xn--bcher-kva.example" {
		t.Errorf("asked for %q", name)
	}
	c.Close()
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	cases := certificates(t, a)
	maps.Copy(cases, handshakes(a.leaf(t, nil)))
	for name, tt := range cases {
		t.Run(name, func(t *testing.T) {
			server := newRawServer(t, tt.serve)
			c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: a.roots}})
			resp, err := c.Do(t.Context(), Request{URL: "https://" + server.addr() + "/hook", Body: []byte("{}")})
			if tt.reason == "" {
				if err != nil || resp.Status != 204 || resp.Timing.TLS <= 0 {
					t.Errorf("got %v, %v", resp, err)
				}
				return
			}
			wantError(t, err, tt.reason, tt.phases...)
			if e := asError(t, err); e.Detail != tt.detail {
				t.Errorf("detail is %q, want %q (cause: %v)", e.Detail, tt.detail, e.Unwrap())
			}
		})
	}
}

// A tlsCase is one behaviour of a TLS server, and the failure that has to come of it.
type tlsCase struct {
	serve  func(net.Conn)
	reason Reason // empty: it is answered
	phases []string
	detail string
}

// certificates are servers with certificates of all kinds.
func certificates(t *testing.T, a *authority) map[string]tlsCase {
	serving := func(cert tls.Certificate) func(net.Conn) {
		return overTLS(&tls.Config{Certificates: []tls.Certificate{cert}}, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	}
	return map[string]tlsCase{
		"good":        {serve: serving(a.leaf(t, nil))},
		"self-signed": {serving((*authority)(nil).leaf(t, nil)), TLS, []string{PhaseTLS}, "the certificate is not signed by a known authority: it is self-signed, or an intermediate certificate is missing"},
		"expired": {
			serving(a.leaf(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
			TLS,
			[]string{PhaseTLS},
			"the certificate has expired or is not yet valid",
		},
		"wrong host": {
			serving(a.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"other.example"} })),
			TLS,
			[]string{PhaseTLS},
			"the certificate is for another host name",
		},
		"not for servers": {
			serving(a.leaf(t, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })),
			TLS,
			[]string{PhaseTLS},
			"the certificate was not accepted",
		},
	}
}

// handshakes are servers with a good certificate that shake hands in odd ways.
func handshakes(good tls.Certificate) map[string]tlsCase {
	ok := answering("HTTP/1.1 204 No Content\r\n\r\n")
	return map[string]tlsCase{
		"TLS 1.1 only": {
			overTLS(&tls.Config{Certificates: []tls.Certificate{good}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, ok),
			TLS,
			[]string{PhaseTLS},
			"the endpoint offers neither TLS 1.2 nor TLS 1.3, of which one is needed",
		},
		"wants a client certificate": {
			overTLS(&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAnyClientCert}, ok),
			TLS,
			[]string{PhaseWrite, PhaseWait}, // TLS 1.3 says so only after the handshake
			certificateMissing,
		},
		"plain HTTP": {
			func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1))
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
				untilClosed(conn)
			},
			TLS,
			[]string{PhaseTLS},
			"the port does not speak TLS",
		},
		"closed in the handshake": {
			func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 4096))
				_ = conn.(*net.TCPConn).CloseWrite()
				untilClosed(conn)
			},
			ConnectionClosed,
			[]string{PhaseTLS},
			"the connection was closed before an answer",
		},
		"reset in the handshake": {
			func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 1))
				reset(conn)
			},
			Reset,
			[]string{PhaseTLS},
			"the connection was reset before an answer",
		},
	}
}

func TestNewRefusesWeakTLS(t *testing.T) {
	for name, cfg := range map[string]*tls.Config{
		"no verification": {InsecureSkipVerify: true},
		"fixed name":      {ServerName: "partner.example"},
		"TLS 1.0":         {MinVersion: tls.VersionTLS10},
		"TLS 1.1 at most": {MaxVersion: tls.VersionTLS11},
	} {
		if _, err := New(Config{TLS: cfg}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	given := &tls.Config{}
	used, err := clientTLS(given)
	if err != nil || given.MinVersion != 0 || used.MinVersion != tls.VersionTLS12 {
		t.Error("the configuration is not a copy with TLS 1.2")
	}
}
