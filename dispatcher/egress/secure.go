package egress

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"
)

// newTransport returns the transport that every request goes through. net/http keeps the bytes that an HTTP/2 receiver sends before they are
// read, by default 4 MiB of each answer: here they are bounded. There is no Proxy on purpose. It would open connections that dial, and so the guard,
// never sees. TLS goes on top of what dial opened, see [secured].
func newTransport(dial dialFunc, tlsConfig *tls.Config) *http.Transport {
	if tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dial,
		DialTLSContext:         secured(dial, tlsConfig),
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // a gzip bomb stays as small as it came
		MaxResponseHeaderBytes: maxHeaderBytes,
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: pingAfter, PingTimeout: pingTimeout,
			MaxReceiveBufferPerStream: 2 * maxReadBody, MaxReceiveBufferPerConnection: 64 * maxReadBody,
		},
	}
}

// dialer returns dial for the names that net/http keeps connections under. Its connections tell h what they learn.
func (h *hosts) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, pool string) (net.Conn, error) {
		addr := dialled(pool)
		opened, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		name := traceFrom(ctx).host(addr)
		return newConn(opened, func(after time.Duration) { h.closedIdle(name, after) }), nil
	}
}

// secured returns dial with TLS on top: by base, and by the identity of the request that dials. The trace of that request hears how it goes.
func secured(dial dialFunc, base *tls.Config) dialFunc {
	return func(ctx context.Context, network, pool string) (net.Conn, error) {
		raw, err := dial(ctx, network, pool)
		if err != nil {
			return nil, err
		}
		t, own := traceFrom(ctx), connOf(raw)
		host, _, err := net.SplitHostPort(dialled(pool))
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, connectTimeout)
		defer cancel()
		secure := tls.Client(raw, t.whose().config(base, host, own.asked))
		t.handshaking(own)
		err = secure.HandshakeContext(ctx)
		t.handshaken()
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
		return secure, nil
	}
}
