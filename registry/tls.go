package registry

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"time"
)

// TLS is who Ringback is in the TLS handshakes with a callback's endpoint, and whom it trusts there. Each member may be empty, but for the key of a
// certificate.
type TLS struct {
	ClientCertificate string `json:"client_certificate,omitempty"` // PEM: the certificate itself, then those between it and its authority
	ClientKey         string `json:"client_key,omitempty"`         // PEM; secret
	CA                string `json:"ca,omitempty"`                 // PEM: the authorities that are trusted instead of the system's
	ServerName        string `json:"server_name,omitempty"`        // the name that is asked for, and verified, instead of the URL's host
}

// String leaves all of it out.
func (TLS) String() string { return "tls " + Masked }

// LogValue leaves all of it out.
func (t TLS) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A Certificate is what there is to see of a client certificate.
type Certificate struct {
	Subject     string    `json:"subject"`     // as RFC 2253 writes it
	Issuer      string    `json:"issuer"`      // likewise
	NotAfter    time.Time `json:"not_after"`   // until then it is good
	Fingerprint string    `json:"fingerprint"` // SHA-256, in hex
}

// certificateFacts are the members of a certificate as an answer shows them. They follow from the certificate, so a patch passes them over.
var certificateFacts = []string{"subject", "issuer", "not_after", "fingerprint"}

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

// Lives says in words how long the certificate is good for at a time.
func (c *Certificate) Lives(at time.Time) string {
	left := c.NotAfter.Sub(at)
	switch days := int(left / (24 * time.Hour)); {
	case left < 0:
		return "has expired at " + c.NotAfter.Format(time.RFC3339)
	case days == 0:
		return "expires within a day, at " + c.NotAfter.Format(time.RFC3339)
	case days == 1:
		return "expires in a day, at " + c.NotAfter.Format(time.RFC3339)
	default:
		return fmt.Sprintf("expires in %d days, at %s", days, c.NotAfter.Format(time.RFC3339))
	}
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
