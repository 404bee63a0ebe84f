package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
)

// Certificate is the callback's client certificate; nil if it has none.
func (cb *Callback) Certificate() *Certificate {
	if cb.TLS == nil || cb.TLS.ClientCertificate == "" {
		return nil
	}
	block, _ := pem.Decode([]byte(cb.TLS.ClientCertificate))
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

// TokenTLS is the callback's TLS for its token endpoint: its own if that is at the same scheme, host and port as the destination, else none. A
// certificate for one server says nothing to another.
func (cb *Callback) TokenTLS() *TLS {
	if cb.TLS == nil || !sameServer(cb.tokenURL(), cb.Destination.URL) {
		return nil
	}
	return cb.TLS
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
