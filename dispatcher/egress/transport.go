package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

const (
	// connectTimeout ends a connection attempt (lookup included) and a TLS handshake, even when the request that asked for them has long gone.
	// A request's own deadline is nearly always nearer.
	connectTimeout = 10 * time.Second

	// maxHeaderBytes bounds the header of an answer, informational (1xx) answers included. Real ones stay below 4 KiB.
	maxHeaderBytes = 16 << 10

	// maxReadBody is how much of an answer's body is read, by the HTTP API's promise. A short body is read to its end, and the connection can
	// serve again.
	maxReadBody = 64 << 10

	// idlePerHost is how many connections to one host are kept for the next request: as many as a worker's default
	// concurrency puts under way to one callback, so that a busy one is not dialled anew for every request.
	idlePerHost = 128

	// idleTotal bounds the kept connections to all hosts together: each costs two goroutines and two 4 KiB buffers, about 100 MiB in all.
	idleTotal = 4096

	// idleTimeout is how long a connection is kept without use, unless the host is known to give it up sooner. It cannot be shorter than the idle
	// timeouts of all usual load balancers, which range from 5 s to 10 min. If the other side closes a connection, it leaves the pool by itself.
	idleTimeout = 90 * time.Second

	// pingAfter is how long an HTTP/2 connection may be silent before it is asked for a sign of life. pingTimeout is how long that sign may take.
	// Together they bound how long requests go into a connection that something on the way has forgotten: less than the default timeout.
	pingAfter   = 5 * time.Second
	pingTimeout = 5 * time.Second
)

// dialFunc opens a connection, like [net.Dialer.DialContext].
type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

// clientTLS returns a copy of cfg that verifies the other side, or an error for a setting that would not.
func clientTLS(cfg *tls.Config) (*tls.Config, error) {
	if cfg == nil {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	switch {
	case cfg.InsecureSkipVerify:
		return nil, errors.New("egress: TLS.InsecureSkipVerify is refused: put the private authority into RootCAs instead")
	case cfg.ServerName != "":
		return nil, errors.New("egress: TLS.ServerName is refused: the name to verify is each URL's own host")
	case cfg.MinVersion != 0 && cfg.MinVersion < tls.VersionTLS12, cfg.MaxVersion != 0 && cfg.MaxVersion < tls.VersionTLS12:
		return nil, errors.New("egress: a TLS version below 1.2 is refused: leave MinVersion and MaxVersion zero")
	}
	clone := cfg.Clone()
	clone.MinVersion = max(clone.MinVersion, tls.VersionTLS12)
	if len(clone.NextProtos) == 0 {
		clone.NextProtos = []string{"h2", "http/1.1"}
	}
	return clone, nil
}
