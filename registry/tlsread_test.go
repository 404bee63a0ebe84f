package registry

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/payloads"
)

// registrationWith is one whose tls has these members.
func registrationWith(url string, members map[string]any) []byte {
	body, _ := json.Marshal(map[string]any{"callback_type": "*", "destination": map[string]any{"url": url}, "tls": members})
	return body
}

// TestTLSIsChecked: each fault of a client certificate, its key, the authorities and the server name has a sentence that says what to do.
func TestTLSIsChecked(t *testing.T) {
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("acme", nil)
	_, otherKey := a.Client("acme", nil)
	old, oldKey := a.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	early, earlyKey := a.Client("acme", func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) })
	server, serverKey := a.Server("hooks.partner.example")
	odd, oddKey := a.Client("acme", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	free, freeKey := a.Client("acme", func(c *x509.Certificate) { c.ExtKeyUsage, c.KeyUsage = nil, 0 })
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(rsaKey)}))
	locked := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("SECRET")}))
	noCert := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}))
	pair := func(cert, key string) map[string]any {
		return map[string]any{"client_certificate": cert, "client_key": key}
	}
	for name, tt := range map[string]struct {
		members map[string]any
		want    string // empty: it is taken
	}{
		"good":                {pair(cert, key), ""},
		"with its authority":  {pair("acme's\n"+cert+"its authority's\n"+a.PEM(), key), ""},
		"of any usage":        {pair(free, freeKey), ""},
		"no key":              {map[string]any{"client_certificate": cert}, "body.tls.client_key is missing: give the private key"},
		"no certificate":      {map[string]any{"client_key": key}, "body.tls.client_certificate is missing: give the certificate"},
		"another's key":       {pair(cert, otherKey), "body.tls.client_key does not belong to client_certificate"},
		"a key of other kind": {pair(cert, pkcs1), "body.tls.client_key does not belong to client_certificate"},
		"expired":             {pair(old, oldKey), "body.tls.client_certificate has expired at"},
		"not valid yet":       {pair(early, earlyKey), "body.tls.client_certificate is not valid before"},
		"a server's":          {pair(server, serverKey), "body.tls.client_certificate is not for clients"},
		"signs nothing":       {pair(odd, oddKey), "body.tls.client_certificate cannot sign handshakes"},
		"key beside":          {pair(cert+key, key), "body.tls.client_certificate holds a private key"},
		"cut off":             {pair(cert[:len(cert)-20], key), "body.tls.client_certificate must be certificates in PEM"},
		"second cut off":      {pair(cert+cert[:100], key), "body.tls.client_certificate must be certificates in PEM"},
		"no PEM":              {pair("SECRET", key), "body.tls.client_certificate must be certificates in PEM"},
		"no X.509":            {pair(noCert, key), "body.tls.client_certificate holds a certificate that cannot be read"},
		"long":                {pair(strings.Repeat(cert, 100), key), "body.tls.client_certificate must have at most 32768 bytes"},
		"many":                {pair(strings.Repeat(cert, 11), key), "body.tls.client_certificate must be at most 10 certificates"},
		"locked key":          {pair(cert, locked), "body.tls.client_key is encrypted with a passphrase"},
		"no key in PEM":       {pair(cert, "SECRET"), "body.tls.client_key must be a private key in PEM"},
		"two keys":            {pair(cert, key+otherKey), "body.tls.client_key must hold one private key and nothing else"},
		"hidden key":          {pair(cert, "***"), "body.tls.client_key must be the secret itself"},
		"key too long":        {pair(cert, strings.Repeat("SECRET", 4000)), "body.tls.client_key must have at most 16384 bytes"},
		"authority alone":     {map[string]any{"ca": a.PEM()}, ""},
		"old authority":       {map[string]any{"ca": old}, "body.tls.ca has expired"},
		"one of two is old":   {map[string]any{"ca": old + a.PEM()}, ""},
		"no authority":        {map[string]any{"ca": "SECRET"}, "body.tls.ca must be certificates in PEM"},
		"many authorities":    {map[string]any{"ca": strings.Repeat(a.PEM(), 21)}, "body.tls.ca must be at most 20 certificates"},
		"server name":         {map[string]any{"server_name": "Hooks.Partner.example"}, ""},
		"address":             {map[string]any{"server_name": "192.0.2.1"}, "body.tls.server_name must be a host name"},
		"no name":             {map[string]any{"server_name": "a..b"}, "body.tls.server_name must be a host name"},
		"unknown":             {map[string]any{"insecure": true}, "body.tls.insecure is not known here"},
		"a fact":              {map[string]any{"ca": a.PEM(), "subject": "CN=acme"}, "body.tls.subject is set by Ringback, leave it out"},
		"no text":             {map[string]any{"ca": 1}, "body.tls.ca must be a string"},
	} {
		cb, err := decode(payloads.Builtin(), refusing(""), registrationWith("https://partner.example/hook", tt.members), nil)
		if tt.want == "" {
			if err != nil || cb.TLS == nil || strings.Contains(cb.TLS.ClientCertificate, "authority's") {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "SECRET") || strings.Contains(err.Error(), "; body") {
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	if _, err := decode(payloads.Builtin(), refusing(""), registrationWith("http://partner.example/hook", map[string]any{"ca": a.PEM()}), nil); err == nil || !strings.Contains(err.Error(), "body.tls does not go with a destination.url of http") {
		t.Errorf("over http: %v", err)
	}
	if cb, err := decode(payloads.Builtin(), refusing(""), registrationWith("http://partner.example/hook", map[string]any{}), nil); err != nil || cb.TLS != nil {
		t.Errorf("empty: %v", err)
	}
}

// TestTLSIsPatched: what an answer shows may be sent back; a hidden key stays; a certificate that has expired meanwhile hinders no other change; and
// null takes a part away, or all.
func TestTLSIsPatched(t *testing.T) {
	a := egresstest.NewAuthority(t, "authority")
	cert, key := a.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	old, oldKey := a.Client("acme", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Hour) })
	other, otherKey := a.Client("other", nil)
	cb, err := decode(payloads.Builtin(), refusing(""), registrationWith("https://partner.example/hook", map[string]any{
		"client_certificate": cert, "client_key": key, "ca": a.PEM(), "server_name": "hooks.partner.example",
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	cb.Company, cb.ID = "acme", 1
	shown, err := cb.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	members := parseAny(shown).(map[string]any)["tls"].(map[string]any)
	if members["client_key"] != Masked || members["subject"] != "CN=acme" || members["issuer"] != "CN=authority" || len(fmt.Sprint(members["fingerprint"])) != 64 || members["not_after"] == nil {
		t.Errorf("shown: %v", members)
	}
	if text := fmt.Sprintf("%s %v %+v %v", shown, cb, *cb.TLS, changesOf(nil, cb)); strings.Contains(text, "PRIVATE KEY") || strings.Contains(text, key[40:80]) {
		t.Errorf("the key is shown: %s", text)
	}
	back, _ := json.Marshal(map[string]any{"tls": members})
	for name, tt := range map[string]struct {
		patch string
		want  TLS
	}{
		"sent back":      {string(back), *cb.TLS},
		"a name":         {`{"tls":{"server_name":"x.example"}}`, TLS{cert, key, a.PEM(), "x.example"}},
		"a new pair":     {`{"tls":{"client_certificate":` + quoted(other) + `,"client_key":` + quoted(otherKey) + `}}`, TLS{other, otherKey, a.PEM(), "hooks.partner.example"}},
		"no certificate": {`{"tls":{"client_certificate":null,"client_key":null}}`, TLS{CA: a.PEM(), ServerName: "hooks.partner.example"}},
		"nothing of it":  {`{"tls":{"client_certificate":null,"client_key":null,"ca":null,"server_name":null}}`, TLS{}},
		"null":           {`{"tls":null}`, TLS{}},
	} {
		next, err := applyPatch(payloads.Builtin(), refusing(""), cb, []byte(tt.patch))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := TLS{}
		if next.TLS != nil {
			got = *next.TLS
		}
		if got != tt.want || (next.TLS == nil) != (tt.want == TLS{}) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if _, err := applyPatch(payloads.Builtin(), refusing(""), cb, []byte(`{"tls":{"client_certificate":`+quoted(other)+`}}`)); err == nil || !strings.Contains(err.Error(), "body.tls.client_key does not belong") {
		t.Errorf("a certificate without its key: %v", err)
	}
	if _, err := applyPatch(payloads.Builtin(), refusing(""), cb, []byte(`{"destination":{"url":"http://partner.example/hook"}}`)); err == nil || !strings.Contains(err.Error(), "body.tls does not go with") {
		t.Errorf("over to http: %v", err)
	}
	aged := *cb
	aged.TLS = &TLS{ClientCertificate: old, ClientKey: oldKey}
	if _, err := applyPatch(payloads.Builtin(), refusing(""), &aged, []byte(`{"description":"d"}`)); err != nil {
		t.Errorf("with an old certificate: %v", err)
	}
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// TestTokenTLS: a token endpoint sees the certificate only where the destination is, too.
func TestTokenTLS(t *testing.T) {
	cb := &Callback{TLS: &TLS{ServerName: "x"}, Destination: Destination{URL: "https://Partner.example/hook"}, Auth: &Auth{Type: AuthOAuth2}}
	for url, sees := range map[string]bool{"https://partner.example:443/token": true, "https://partner.example:8443/token": false, "https://id.partner.example/token": false, "http://partner.example/token": false} {
		if cb.Auth.TokenURL = url; (cb.TokenTLS() != nil) != sees {
			t.Errorf("%s: %v", url, cb.TokenTLS())
		}
	}
	if (&Callback{}).TokenTLS() != nil || (&Callback{TLS: cb.TLS}).TokenTLS() != nil {
		t.Error("without a token endpoint there is one")
	}
}

// TestCertificateLives is about the words for how long a certificate is good.
func TestCertificateLives(t *testing.T) {
	at := time.Date(2026, 2, 1, 12, 0, 0, 0, time.UTC)
	for left, want := range map[time.Duration]string{
		-time.Hour: "has expired at 2026-02-01T11:00:00Z", time.Hour: "expires within a day, at 2026-02-01T13:00:00Z",
		30 * time.Hour: "expires in a day, at 2026-02-02T18:00:00Z", 72 * time.Hour: "expires in 3 days, at 2026-02-04T12:00:00Z",
	} {
		if got := (&Certificate{NotAfter: at.Add(left)}).Lives(at); got != want {
			t.Errorf("%s: %s, want %s", left, got, want)
		}
	}
}
