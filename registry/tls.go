package registry

import (
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
func (TLS) String() string { return "tls ***" }

// LogValue leaves all of it out.
func (t TLS) LogValue() slog.Value { return slog.StringValue(t.String()) }

// A Certificate is what there is to see of a client certificate.
type Certificate struct {
	Subject     string    `json:"subject"`     // as RFC 2253 writes it
	Issuer      string    `json:"issuer"`      // likewise
	NotAfter    time.Time `json:"not_after"`   // until then it is good
	Fingerprint string    `json:"fingerprint"` // SHA-256, in hex
}

// Short is as much of the fingerprint as tells a certificate from others of its callback.
func (c *Certificate) Short() string { return c.Fingerprint[:32] }

// is reports whether c and other, which may be nil, are the same certificate.
func (c *Certificate) is(other *Certificate) bool {
	return c != nil && other != nil && c.Fingerprint == other.Fingerprint
}

// certificateFacts are the members of a certificate as an answer shows them. They follow from the certificate, so a patch passes them over.
var certificateFacts = []string{"subject", "issuer", "not_after", "fingerprint"}

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
