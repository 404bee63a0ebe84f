package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
)

// Certificate is the callback's own client certificate; nil if it has none.
func (cb *Callback) Certificate() *Certificate { return cb.TLS.Certificate() }

// Certificate is the client certificate; nil if there is none.
func (t *TLS) Certificate() *Certificate {
	if t == nil || t.ClientCertificate == "" {
		return nil
	}
	block, _ := pem.Decode([]byte(t.ClientCertificate))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil // it was read when it was registered
	}
	sum := sha256.Sum256(leaf.Raw)
	return &Certificate{leaf.Subject.String(), leaf.Issuer.String(), leaf.NotAfter.UTC(), hex.EncodeToString(sum[:])}
}

// Handshake is who Ringback is in the handshakes with the callback's endpoint, and whom it trusts there: what the callback says of it, and the company's client certificate
// if it has none of its own. nil: the usual. Callbacks that [Registry.Get] returned know nothing of their company's; see [Registry.WithCompanyTLS].
func (cb *Callback) Handshake() *TLS {
	if cb.inherited != nil {
		return cb.inherited
	}
	return cb.TLS
}

// inherit gives cb the certificate of its company, which may be nil, unless it has one of its own.
func (cb *Callback) inherit(company *TLS) {
	cb.inherited = nil
	switch {
	case company == nil || cb.TLS != nil && cb.TLS.ClientCertificate != "":
	case cb.TLS == nil:
		cb.inherited = company
	default:
		cb.inherited = &TLS{ClientCertificate: company.ClientCertificate, ClientKey: company.ClientKey, CA: cb.TLS.CA, ServerName: cb.TLS.ServerName}
	}
}

// TokenTLS is the callback's TLS for its token endpoint: that of Handshake if it is at the same scheme, host and port as the destination, else none. A
// certificate for one server says nothing to another.
func (cb *Callback) TokenTLS() *TLS {
	t := cb.Handshake()
	if t == nil || !sameServer(cb.tokenURL(), cb.Destination.URL) {
		return nil
	}
	return t
}

// shownTLS is TLS as an answer shows it.
type shownTLS struct {
	TLS
	*Certificate
}

// shown is t without its key.
func (t *TLS) shown() *shownTLS {
	if t == nil {
		return nil
	}
	shown := &shownTLS{TLS: *t}
	if shown.ClientKey != "" {
		shown.ClientKey = Masked
	}
	return shown
}

// fingerprint tells one text from others.
func fingerprint(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256 " + hex.EncodeToString(sum[:])
}
