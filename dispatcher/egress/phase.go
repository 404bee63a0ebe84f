package egress

import "time"

// The phases of a request, in their order. [Error.Phase] names the one that failed.
const (
	PhaseDNS     = "dns"     // looking the host up
	PhaseConnect = "connect" // opening the connection
	PhaseTLS     = "tls"     // the handshake
	PhaseWrite   = "write"   // sending the request
	PhaseWait    = "wait"    // waiting for status and headers
)

// Timing says where the time went. If a phase did not happen, as on a reused connection, it is zero.
type Timing struct {
	DNS       time.Duration // lookup
	Connect   time.Duration // TCP, all addresses tried
	TLS       time.Duration // handshake
	FirstByte time.Duration // from the request written to the first byte of the answer
	Total     time.Duration // all of Do, waiting for a connection and reading the body included
	Reused    bool          // the connection had served before
	Repeated  bool          // the request went out twice, see [Request.Repeatable]: all but Total is about the second time
}
