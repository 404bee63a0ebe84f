package registry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// The bounds of a [TLS].
const (
	maxChainLen     = 32 << 10 // bytes of a client certificate with those above it, as it is given
	maxChain        = 10       // of them
	maxClientKeyLen = 16 << 10
	maxRSABits      = 8192 // each handshake signs with it
	maxCALen        = 64 << 10
	maxCAs          = 20
)

// A tlsDecoder reads a [TLS], or a part of one, that stands at a location of the body.
type tlsDecoder struct {
	*decoder

	location string
}

// tls reads who Ringback is to the endpoint, after destination. All PEM is kept as its blocks alone: what stands between them is for people.
func (d *decoder) tls(o object, cb *Callback) {
	m, ok := d.member(o, "tls")
	if !ok {
		return
	}
	const location = "body.tls"
	var prev *TLS
	if d.prev != nil {
		prev = d.prev.TLS
	}
	if t := (tlsDecoder{d, location}).read(m, prev); *t != (TLS{}) { // a patch may take the last member away
		if scheme, _, _ := strings.Cut(cb.Destination.URL, ":"); strings.EqualFold(scheme, "http") {
			d.fail(location, "does not go with a destination.url of http, where nothing is encrypted: give an https URL, or leave tls out", nil)
		}
		cb.TLS = t
	}
}

// read reads all of a TLS. prev may be nil.
func (d tlsDecoder) read(m object, prev *TLS) *TLS {
	t := &TLS{}
	d.certificate(m, t, prev)
	if text, ok := d.pem(m, "ca", maxCALen); ok {
		before := ""
		if prev != nil {
			before = prev.CA
		}
		t.CA = d.authorities(text, before)
	}
	if name, ok := d.str(m, d.location, "server_name"); ok {
		t.ServerName = d.serverName(name)
	}
	for _, fact := range certificateFacts {
		if _, ok := m.take(fact); ok {
			d.fail(at(d.location, fact), "is set by Ringback, leave it out: it follows from client_certificate", nil)
		}
	}
	d.unknown(m, d.location, "client_certificate", "client_key", "ca", "server_name")
	d.pair(t)
	return t
}

// certificate reads the client certificate and its key into t. prev, which may be nil, is what there was before.
func (d tlsDecoder) certificate(m object, t, prev *TLS) {
	if prev == nil {
		prev = &TLS{}
	}
	if text, ok := d.pem(m, "client_certificate", maxChainLen); ok {
		t.ClientCertificate = d.chain(text, prev.ClientCertificate)
	}
	if key, ok := d.pem(m, "client_key", maxClientKeyLen); ok {
		t.ClientKey = d.clientKey(key, prev.ClientKey)
	}
}

// pem reads a text of bounded length.
func (d tlsDecoder) pem(m object, name string, maxLen int) (text string, ok bool) {
	text, ok = d.str(m, d.location, name)
	if len(text) > maxLen {
		d.fail(at(d.location, name), fmt.Sprintf("must have at most %d bytes", maxLen), nil)
		return "", false
	}
	return text, ok
}

// failedTLS reports whether something is wrong with a member of tls.
func (d tlsDecoder) failedTLS(name string) bool { return d.failedAt(at(d.location, name)) }

// certificates reads the certificates of a text, at most so many of them, and returns them as they are kept.
func (d tlsDecoder) certificates(text, name string, most int) (kept string, all []*x509.Certificate) {
	where := at(d.location, name)
	const form = "must be certificates in PEM, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----"
	var b strings.Builder
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			if bytes.Contains(rest, []byte("-----BEGIN")) || len(all) == 0 {
				d.fail(where, form, nil)
				return "", nil
			}
			return b.String(), all
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			d.fail(where, "holds a private key, which is shown to nobody: give it as client_key, and here the certificates alone", nil)
		case block.Type != "CERTIFICATE":
			d.fail(where, form, nil)
		case err != nil:
			d.fail(where, "holds a certificate that cannot be read: give X.509 certificates in PEM", nil)
		case len(all) == most:
			d.fail(where, fmt.Sprintf("must be at most %d certificates", most), nil)
		default:
			all = append(all, cert)
			_ = pem.Encode(&b, &pem.Block{Type: block.Type, Bytes: block.Bytes})
			continue
		}
		return "", nil
	}
}

// chain reads a client certificate, and those between it and its authority. One that was registered once does not stand in the way of other changes
// when it has expired.
func (d tlsDecoder) chain(text, before string) string {
	where := at(d.location, "client_certificate")
	kept, all := d.certificates(text, "client_certificate", maxChain)
	if len(all) == 0 || kept == before {
		return kept
	}
	leaf, at := all[0], now()
	usages := leaf.ExtKeyUsage
	anyUsage := len(usages) == 0 && len(leaf.UnknownExtKeyUsage) == 0
	switch {
	case at.After(leaf.NotAfter):
		d.fail(where, "has expired at "+leaf.NotAfter.UTC().Format(time.RFC3339)+": give the one that was issued after it", nil)
	case at.Before(leaf.NotBefore):
		d.fail(where, "is not valid before "+leaf.NotBefore.UTC().Format(time.RFC3339)+": register it then", nil)
	case !anyUsage && !slices.Contains(usages, x509.ExtKeyUsageClientAuth) && !slices.Contains(usages, x509.ExtKeyUsageAny):
		d.fail(where, "is not for clients: its extended key usage must hold clientAuth; if it does, put it first, before those of its authorities", nil)
	case leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		d.fail(where, "cannot sign handshakes: its key usage must hold digitalSignature; if it does, put it first, before those of its authorities", nil)
	}
	return kept
}

// clientKey reads the private key. Masked stands for the one from before.
func (d tlsDecoder) clientKey(text, before string) string {
	where := at(d.location, "client_key")
	if text == Masked {
		return d.unmask(text, where, before, before != "")
	}
	var kept *pem.Block
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "EC PARAMETERS": // as openssl writes them before a key
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			d.fail(where, "is encrypted with a passphrase: give it without one (openssl pkey -in key.pem); it is sealed where it is kept", nil)
			return ""
		case !strings.HasSuffix(block.Type, "PRIVATE KEY") || kept != nil:
			d.fail(where, "must hold one private key and nothing else", nil)
			return ""
		default:
			kept = block
		}
	}
	if kept == nil || readKey(kept.Bytes) == nil {
		d.fail(where, "must be a private key in PEM (PKCS #8, PKCS #1 or SEC 1): RSA, ECDSA or Ed25519", nil)
		return ""
	}
	if key, ok := readKey(kept.Bytes).(*rsa.PrivateKey); ok && key.N.BitLen() > maxRSABits {
		d.fail(where, fmt.Sprintf("must have at most %d bits", maxRSABits), nil)
		return ""
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kept.Type, Bytes: kept.Bytes}))
}

// readKey reads a private key in one of the three forms that there are; nil: it is in none.
func readKey(der []byte) crypto.Signer {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		signer, _ := key.(crypto.Signer)
		return signer
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	return nil
}

// pair checks that certificate and key are both there, and belong together.
func (d tlsDecoder) pair(t *TLS) {
	switch {
	case d.failedTLS("client_certificate") || d.failedTLS("client_key"):
	case t.ClientCertificate == "" && t.ClientKey == "":
	case t.ClientKey == "":
		d.fail(at(d.location, "client_key"), "is missing: give the private key of client_certificate", nil)
	case t.ClientCertificate == "":
		d.fail(at(d.location, "client_certificate"), "is missing: give the certificate of client_key", nil)
	case !belong(t):
		d.fail(at(d.location, "client_key"), "does not belong to client_certificate: give the key that the first certificate there was issued for", nil)
	}
}

func belong(t *TLS) bool {
	cert, _ := pem.Decode([]byte(t.ClientCertificate))
	key, _ := pem.Decode([]byte(t.ClientKey))
	if cert == nil || key == nil {
		return false
	}
	leaf, err := x509.ParseCertificate(cert.Bytes)
	if err != nil {
		return false
	}
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		return public.Equal(publicOf(key.Bytes))
	case *ecdsa.PublicKey:
		return public.Equal(publicOf(key.Bytes))
	case ed25519.PublicKey:
		return public.Equal(publicOf(key.Bytes))
	}
	return false
}

// publicOf is the public part of a private key; nil: it is none.
func publicOf(der []byte) crypto.PublicKey {
	if key := readKey(der); key != nil {
		return key.Public()
	}
	return nil
}

// authorities reads the certificates that are trusted. Some may have expired, as bundles have them, but not all.
func (d tlsDecoder) authorities(text, before string) string {
	kept, all := d.certificates(text, "ca", maxCAs)
	expired := func(c *x509.Certificate) bool { return now().After(c.NotAfter) }
	if len(all) > 0 && kept != before && !slices.ContainsFunc(all, func(c *x509.Certificate) bool { return !expired(c) }) {
		d.fail(at(d.location, "ca"), "has expired: give the certificate of the authority that signs the endpoint's today", nil)
	}
	return kept
}

// serverName checks a host name.
func (d tlsDecoder) serverName(name string) string {
	labels := strings.Split(name, ".")
	odd := func(label string) bool {
		return label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' ||
			strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != ""
	}
	if len(name) > 253 || slices.ContainsFunc(labels, odd) || net.ParseIP(name) != nil {
		d.fail(at(d.location, "server_name"), "must be a host name, such as hooks.partner.example (of an international one, the xn-- form)", short(name))
	}
	return strings.ToLower(name)
}

// dropCertificateFacts takes out of a patch what an answer shows of the certificate: clients send back what they got.
func dropCertificateFacts(patch map[string]any) {
	if members, ok := patch["tls"].(map[string]any); ok {
		for _, fact := range certificateFacts {
			delete(members, fact)
		}
	}
}
