package egress

import (
	"errors"
	"net"
	"reflect"
)

// helloBytes is how much of what the other side says first is kept: the head of a record, and what a ServerHello begins with.
const helloBytes = 11

// A handshake is what a connection's TLS handshake showed.
type handshake struct {
	asked bool // the other side asked for a client certificate
	given bool // and got one
	hello [helloBytes]byte
}

// offered returns the TLS version that the other side chose. If it said none, it is 0.
func (h handshake) offered() uint16 {
	const record, serverHello = 22, 2
	if h.hello[0] != record || h.hello[5] != serverHello {
		return 0
	}
	return uint16(h.hello[9])<<8 | uint16(h.hello[10])
}

// The TLS alerts that mean something here (RFC 8446, 6).
const (
	alertHandshakeFailure    = 40
	alertBadCertificate      = 42
	alertUnsupported         = 43
	alertRevoked             = 44
	alertExpired             = 45
	alertCertificateUnknown  = 46
	alertUnknownCA           = 48
	alertAccessDenied        = 49
	alertProtocolVersion     = 70
	alertCertificateRequired = 116
)

// alertOf returns the alert that ended a connection, if one did, and whether the other side sent it. crypto/tls hides its type, but no other error of
// such an operation is a number of 8 bits.
func alertOf(err error) (alert uint8, remote, ok bool) {
	op, ok := errors.AsType[*net.OpError](err)
	if !ok || op.Op != "remote error" && op.Op != "local error" {
		return 0, false, false
	}
	if v := reflect.ValueOf(op.Err); v.Kind() == reflect.Uint8 {
		alert = uint8(v.Uint()) //nolint:gosec // it has 8 bits
	}
	return alert, op.Op == "remote error", true
}

// The details of failures that a client certificate can mend.
const (
	certificateMissing   = "the endpoint asked for a client certificate, and none was sent"
	certificateUntold    = "the endpoint does not take the client certificate"
	certificateExpired   = "the endpoint does not take the client certificate: it says that it has expired"
	certificateRevoked   = "the endpoint does not take the client certificate: it says that it was revoked"
	certificateStrange   = "the endpoint does not take the client certificate: it does not know the authority that signed it"
	certificateOfOddKind = "the endpoint does not take the client certificate: it takes no certificates of this kind"
)

// certificateDetails are those details, by alert. The others mean certificateUntold.
var certificateDetails = map[uint8]string{
	alertExpired: certificateExpired, alertRevoked: certificateRevoked, alertUnknownCA: certificateStrange, alertUnsupported: certificateOfOddKind,
}

// CertificateMissing reports whether the detail of a failure says that the endpoint wanted a client certificate and got none.
func CertificateMissing(detail string) bool { return detail == certificateMissing }

// CertificateRefused reports whether the detail of a failure says that the endpoint did not take the client certificate it got.
func CertificateRefused(detail string) bool {
	if detail == certificateUntold {
		return true
	}
	for _, known := range certificateDetails {
		if detail == known {
			return true
		}
	}
	return false
}

// alertTrouble says what an alert of the other side means after a handshake, or nothing.
func alertTrouble(alert uint8, h handshake) string {
	switch alert {
	case alertProtocolVersion:
		return "the endpoint offers neither TLS 1.2 nor TLS 1.3, of which one is needed"
	case alertCertificateRequired:
		return certificateMissing
	case alertHandshakeFailure, alertAccessDenied:
		if h.asked && !h.given {
			return certificateMissing
		}
	case alertBadCertificate, alertUnsupported, alertRevoked, alertExpired, alertCertificateUnknown, alertUnknownCA:
		if !h.given {
			return certificateMissing // it says so of the empty list that it got
		}
		if detail, ok := certificateDetails[alert]; ok {
			return detail
		}
		return certificateUntold
	}
	return ""
}
