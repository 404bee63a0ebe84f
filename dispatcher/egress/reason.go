package egress

import "strings"

// Reason says in one word why no answer came. The set is closed, so it may label a metric.
type Reason string

// The reasons. Each names an observation, and nobody's fault.
const (
	Timeout          Reason = "timeout"           // the request's time was up, or the system gave up on a silent peer
	DNS              Reason = "dns"               // the host name has no address, or no name server said so
	Refused          Reason = "refused"           // nobody listens on that port
	Reset            Reason = "reset"             // the connection was broken by the other side
	Unreachable      Reason = "unreachable"       // there is no route to the address
	TLS              Reason = "tls"               // no trusted, encrypted connection came about
	BlockedAddress   Reason = "blocked_address"   // the address or port in the URL is one Ringback does not talk to
	NameNotAllowed   Reason = "name_not_allowed"  // the host name is one of an internal network: nothing was sent (see ErrNameNotAllowed)
	BadResponse      Reason = "bad_response"      // the answer is not HTTP, or longer than the limits allow
	ConnectionClosed Reason = "connection_closed" // the connection ended in order but before an answer
	EgressProxy      Reason = "egress_proxy"      // Config.Proxy refused, or could not be asked: nobody tried to reach the other side
	Canceled         Reason = "canceled"          // the caller gave up
	Network          Reason = "network"           // anything else on the way
	BadRequest       Reason = "bad_request"       // the request cannot be built: nothing was sent
	OAuth            Reason = "oauth_token"       // no access token came: [Tokens.Get] alone says so
)

// Error is why no answer came. Its text holds the reason and a fixed sentence: no URL, no address, no secret.
// The network's own error is behind Unwrap, for errors.Is and errors.AsType. It may name addresses, so do not show it to partners.
type Error struct {
	Reason Reason
	Phase  string // one of the Phase constants; empty if nothing was begun
	Detail string // a short, safe sentence, the same for every address
	Timing Timing // as measured until then

	// Inside is true if the host name, or that of the token endpoint, exists and leads only to addresses that Ringback does not talk to. The rest
	// of the Error then reads as if the name did not exist: a partner must not learn the names of an internal network by trying. [Unmask] gives
	// the truth.
	Inside bool

	err error
}

// The details that Unmask exchanges.
const (
	noAddress = "the host name does not exist or has no address"
	blocked   = "the host's address is not one that may be called: private, reserved and special addresses and unusual ports are not (" + mayAllowThem + ")"
)

// proxyLate is the detail of a timeout that Config.Proxy tells of.
const proxyLate = "the egress proxy could not connect to the host in time (it answered 504)"

// What a partner reads where an operator has a remedy; see [ForOperators].
const (
	mayAllowThem      = "an operator can allow them"
	mayAllowAddresses = "an operator can allow addresses"
	mayAllowLoopback  = "an operator can allow local addresses"
	mayAllowName      = "an operator can allow the name"
)

var remedies = strings.NewReplacer(
	mayAllowThem, "--egress-allow allows them",
	mayAllowAddresses, "--egress-allow allows addresses",
	mayAllowLoopback, "--egress-allow 127.0.0.0/8 allows it",
	mayAllowName, "--egress-allow-name allows the name, and --egress-allow its address",
)

// ForOperators returns a text of this package as operators may read it: where it says that an operator can allow something, it says how.
func ForOperators(text string) string { return remedies.Replace(text) }

// Unmask turns the reason and a text of an [Error] that is [Error.Inside] into those that operators may read.
func Unmask(reason Reason, text string) (Reason, string) {
	if reason == DNS {
		reason = BlockedAddress
	}
	return reason, strings.Replace(text, noAddress, blocked, 1)
}

// Error returns reason, phase and detail.
func (e *Error) Error() string {
	if e.Phase == "" {
		return string(e.Reason) + ": " + e.Detail
	}
	return string(e.Reason) + " (" + e.Phase + "): " + e.Detail
}

// Unwrap returns the cause. It may be nil.
func (e *Error) Unwrap() error { return e.err }
