package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// explain turns an error of the transport into an *Error. It asks for types and values, never for texts. All other errors are told apart by the
// phase they happened in, and by whether anything of an answer had arrived.
func explain(ctx context.Context, err error, tr *trace, start time.Time) *Error {
	phase, answered, timing := tr.state(start)
	e := &Error{Phase: phase, Timing: timing, err: err}
	e.Reason, e.Detail = classify(ctx, err, phase, answered, tr.handshake())
	if e.Reason == ConnectionClosed && tr.mute() {
		e.Reason, e.Detail = Timeout, "the connection fell silent"
	}
	if errors.Is(err, errInside) && e.Reason == DNS {
		e.Inside, e.Phase, e.Timing = true, PhaseDNS, Timing{Total: timing.Total}
	}
	return e
}

// classify is explain's judgement. If ctx is taken as a value, it is a pure function of its arguments.
func classify(ctx context.Context, err error, phase string, answered bool, shown handshake) (reason Reason, detail string) {
	if ours, ok := errors.AsType[*proxyError](err); ok && !errors.Is(ctx.Err(), context.Canceled) {
		return ours.reason, ours.detail
	}
	if ended := ctx.Err(); ended != nil && (errors.Is(err, ended) || errors.Is(err, context.Cause(ctx))) {
		if errors.Is(ended, context.Canceled) {
			return Canceled, "the request was given up from this side"
		}
		return Timeout, lateness[phase]
	}
	if errors.Is(err, errInside) {
		return DNS, noAddress
	}
	if errors.Is(err, errBlocked) {
		return BlockedAddress, blocked
	}
	if lookup, ok := errors.AsType[*net.DNSError](err); ok {
		return DNS, lookupTrouble(lookup)
	}
	if reason, detail := classifySyscall(err); reason != "" {
		return reason, detail
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return Timeout, lateness[phase]
	}
	if detail := tlsTrouble(err, phase, shown); detail != "" {
		return TLS, detail
	}
	if stream, ok := errors.AsType[streamError](err); ok && !answered {
		if stream.Code == protocolError {
			return BadResponse, "the HTTP/2 answer broke the protocol"
		}
		return Reset, "the HTTP/2 stream was reset before an answer"
	}
	if isErrorCode(err) && !answered {
		return BadResponse, "the HTTP/2 answer broke the protocol"
	}
	switch {
	case phase == PhaseDNS || phase == PhaseConnect:
		return Network, "the connection could not be opened"
	case answered && !isEnd(err):
		return BadResponse, "what came back is not a valid HTTP answer, or its headers are larger than 16 KiB"
	case answered:
		return ConnectionClosed, "the connection was closed in the middle of the answer's headers"
	}
	return ConnectionClosed, "the connection was closed before an answer"
}

const (
	hostSilent  = "the host did not answer on the network"
	tooManyOpen = "this side has too many open connections"
)

// Unconnected reports whether the detail of a timeout says that no connection came about, so that nothing waited for an answer.
func Unconnected(detail string) bool {
	return detail == lateness[PhaseDNS] || detail == lateness[PhaseConnect] || detail == lateness[PhaseTLS] || detail == hostSilent || detail == proxyLate
}

// Exhausted reports whether the detail of a failure says that this process could not open a connection.
func Exhausted(detail string) bool { return detail == tooManyOpen }

// lateness is the detail of a timeout, by the phase in which the time was up.
var lateness = map[string]string{
	PhaseDNS:     "no name server answered in time",
	PhaseConnect: "no connection came about in time",
	PhaseTLS:     "the TLS handshake did not finish in time",
	PhaseWrite:   "the request was not taken in time",
	PhaseWait:    "no answer in time",
}

// isEnd reports whether the connection ended, in order or not.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// lookupTrouble says why a host name was not found.
func lookupTrouble(err *net.DNSError) string {
	switch {
	case err.IsNotFound:
		return noAddress
	case err.IsTimeout:
		return "no name server answered in time"
	}
	return "the host name could not be looked up"
}

// classifySyscall judges an error of the system. If err is none, the reason is empty.
func classifySyscall(err error) (Reason, string) {
	number, ok := errors.AsType[syscall.Errno](err)
	if !ok {
		return "", ""
	}
	switch number {
	case syscall.ECONNREFUSED:
		return Refused, "the connection was refused: nothing listens there"
	case syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE:
		return Reset, "the connection was reset before an answer"
	case syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN, syscall.EADDRNOTAVAIL:
		return Unreachable, "there is no route to the host"
	case syscall.ETIMEDOUT:
		return Timeout, hostSilent
	case syscall.EMFILE, syscall.ENFILE:
		return Network, tooManyOpen
	}
	return Network, "the network failed"
}

// tlsTrouble says what went wrong between the two TLS ends, or nothing. If the stream ended during the handshake, TLS said nothing.
func tlsTrouble(err error, phase string, shown handshake) string {
	if expired, ok := errors.AsType[x509.CertificateInvalidError](err); ok && expired.Reason == x509.Expired {
		return "the certificate has expired or is not yet valid"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "the certificate is for another host name"
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate is not signed by a known authority: it is self-signed, or an intermediate certificate is missing"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate was not accepted"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the port does not speak TLS"
	}
	if version := shown.offered(); phase == PhaseTLS && version != 0 && version < tls.VersionTLS12 {
		return "the endpoint offers " + tls.VersionName(version) + " at most: TLS 1.2 or later is needed"
	}
	if alert, remote, ok := alertOf(err); ok {
		if detail := alertTrouble(alert, shown); remote && detail != "" {
			return detail
		}
		return "the other side and this one do not agree on a TLS connection (1.2 or later)"
	}
	if phase == PhaseTLS && !isEnd(err) {
		return "the TLS handshake failed"
	}
	return ""
}
