package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"time"
)

// maxResends is how often net/http may send a request again that was provably not taken. Twice covers two stale connections in a row, and a
// server that refuses every HTTP/2 stream cannot make a loop of one attempt.
const maxResends = 2

// errNoResend ends net/http's own attempts to send a request again.
var errNoResend = errors.New("egress: the connection was given up before the request was taken")

// trace follows one request: which phase it is in, and how long each took. The transport calls it from several goroutines. A dial that was begun
// for this request may go on after Do returned, for a later request's benefit. When the request has its connection, the reports of such a dial
// are not about this request any more.
type trace struct {
	body  []byte     // for resends
	pool  generation // of connections; one of them takes the request
	owner *identity  // of the pool; nil: the usual one
	until time.Time  // when its time is up

	mu        sync.Mutex
	conn      *conn // nil: the request has none yet
	opening   *conn // that shakes hands for the request, or did last; nil: none
	use       int   // its number on conn
	phase     string
	since     time.Time // when the phase began
	connected bool      // the request has a connection
	shared    bool      // by requests at the same time: it speaks HTTP/2
	answered  bool      // the first byte of an answer arrived
	resends   int
	timing    Timing
}

type traceKey struct{}

// traceFrom returns the trace of the request that ctx belongs to, or nil, which every hook of a dial accepts.
func traceFrom(ctx context.Context) *trace {
	tr, _ := ctx.Value(traceKey{}).(*trace)
	return tr
}

// attach returns ctx with the hooks that keep t up to date. The dialer reports lookup, connection and handshake through the value: httptrace's own hooks
// for those cost twice as many allocations on every request, and almost no request dials.
func (t *trace) attach(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(context.WithValue(ctx, traceKey{}, t), &httptrace.ClientTrace{
		GotConn:              t.gotConn,
		WroteRequest:         t.wroteRequest,
		GotFirstResponseByte: t.gotFirstByte,
	})
}

// whose is the identity that the request's connections have. That of no request is the usual one.
func (t *trace) whose() *identity {
	if t == nil {
		return nil
	}
	return t.owner
}

// host is the name under which hosts knows where the request goes. If there is no request, it is addr.
func (t *trace) host(addr string) string {
	if t == nil || t.pool.name == "" {
		return addr
	}
	return t.pool.name
}

// left is how much time the request has left; for no request, none.
func (t *trace) left() time.Duration {
	if t == nil {
		return 0
	}
	return time.Until(t.until)
}

// tracked wraps dial so that it reports to the trace of the request it works for.
func tracked(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		t := traceFrom(ctx)
		t.dialBegan(addr)
		conn, err := dial(ctx, network, addr)
		if err == nil {
			t.dialEnded()
		}
		return conn, err
	}
}

// dialBegan begins the lookup, or the connecting if addr needs none.
func (t *trace) dialBegan(addr string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connected {
		return
	}
	t.phase, t.since = PhaseDNS, time.Now()
	if _, err := netip.ParseAddrPort(addr); err == nil {
		t.phase = PhaseConnect
	}
}

// lookedUp ends the lookup: the dialer is about to connect to an address.
func (t *trace) lookedUp() { t.endDial(PhaseDNS) }

// dialEnded ends the connecting; the handshake, if any, comes next.
func (t *trace) dialEnded() { t.endDial(PhaseConnect) }

// endDial books the time of phase, if that is the one under way. The phase is connecting then.
func (t *trace) endDial(phase string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.connected || t.phase != phase {
		return
	}
	now := time.Now()
	if phase == PhaseDNS {
		t.timing.DNS = now.Sub(t.since)
	} else {
		t.timing.Connect = now.Sub(t.since)
	}
	t.phase, t.since = PhaseConnect, now
}

// handshaking begins the TLS handshake on a connection.
func (t *trace) handshaking(c *conn) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.connected {
		t.phase, t.since, t.opening = PhaseTLS, time.Now(), c
	}
}

// handshake returns what the handshake of the request's connection showed, or of the one that was opened for it.
func (t *trace) handshake() handshake {
	t.mu.Lock()
	c := t.conn
	if !t.connected {
		c = t.opening
	}
	t.mu.Unlock()
	return c.handshake()
}

// handshaken books the time of the TLS handshake.
func (t *trace) handshaken() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.connected && t.phase == PhaseTLS {
		t.timing.TLS = time.Since(t.since)
	}
}

// gotConn takes the connection that the request got, new or kept.
func (t *trace) gotConn(info httptrace.GotConnInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.connected, t.phase, t.since = true, PhaseWrite, time.Now()
	t.timing.Reused = info.Reused
	if secure, ok := info.Conn.(*tls.Conn); ok {
		t.shared = secure.ConnectionState().NegotiatedProtocol == "h2"
	}
	if t.conn = connOf(info.Conn); t.conn != nil {
		t.use = t.conn.take(t.shared)
	}
}

// wroteRequest begins the waiting for an answer.
func (t *trace) wroteRequest(info httptrace.WroteRequestInfo) {
	if info.Err != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.answered {
		t.phase, t.since = PhaseWait, time.Now()
	}
}

// gotFirstByte books the time of that waiting.
func (t *trace) gotFirstByte() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.phase == PhaseWait {
		t.timing.FirstByte = time.Since(t.since)
	}
	t.phase, t.answered = PhaseWait, true
}

// getBody hands the body out again for a resend, as [net/http.Request.GetBody].
func (t *trace) getBody() (io.ReadCloser, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resends >= maxResends {
		return nil, errNoResend
	}
	t.resends++
	t.connected, t.timing.Reused = false, false
	return newBody(t.body), nil
}

// state returns the phase the request is in, whether anything of an answer arrived, and the timing with its total since start.
func (t *trace) state(start time.Time) (phase string, answered bool, timing Timing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	timing = t.timing
	timing.Total = time.Since(start)
	return t.phase, t.answered, timing
}

// park gives back the connection of a request that was answered over HTTP/1. It is kept as long as the host is known to keep it.
func (t *trace) park(h *hosts, header http.Header) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != nil {
		limit, limited := h.keep(t.pool.name, header)
		t.conn.park(t.use, limit, limited)
	}
}

// mute reports whether the connection has been silent for so long that the pings on it went unanswered.
func (t *trace) mute() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shared && t.conn != nil && t.conn.silent(pingAfter+pingTimeout)
}

// suspects reports whether e says something about the connections that are kept for the host, rather than about the request.
func (t *trace) suspects(e *Error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answered || e.Phase != PhaseWrite && e.Phase != PhaseWait {
		return false
	}
	return e.Reason == Timeout && (t.shared || e.Timing.Reused) || t.staleLocked(e)
}

// stale reports whether the request failed because a connection that had served before ended before anything of an answer came. That happens
// when the other side gives up connections that seem idle to it. A refusal of the request itself is an answer.
func (t *trace) stale(e *Error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.staleLocked(e)
}

// staleLocked is stale for a caller that holds t.mu.
func (t *trace) staleLocked(e *Error) bool {
	if t.answered || !e.Timing.Reused || e.Phase != PhaseWrite && e.Phase != PhaseWait || e.Reason != Reset && e.Reason != ConnectionClosed {
		return false
	}
	_, refused := errors.AsType[streamError](e.err)
	return !refused && !errors.Is(e.err, errNoResend)
}

// newBody returns a body that net/http knows to be in memory. With any other it would send the headers in a packet of their own.
func newBody(data []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(data)) }
