package main

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	// suspectAfter is how long a connection may have been idle and still be trusted to answer.
	suspectAfter = 5 * time.Second
	// firstAnswer is how long one that was idle for longer may take to answer at first. A caller's patience has to last for another try.
	firstAnswer = callerPatience / 2
)

// redisKeepAlive probes idle connections, which keeps balancers from forgetting them, and finds those that were forgotten.
var redisKeepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// redisDialer opens connections to Redis. If one that was idle does not answer any more, something between here and Redis has forgotten it,
// and most likely the others that were idle as well: they are all closed, so that go-redis's repetition takes a new one.
type redisDialer struct {
	onFailure func()                                                            // a connection could not be opened, or got no answer in time; may be nil
	connect   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network's

	mu   sync.Mutex
	open map[*redisConn]struct{}
}

func newRedisDialer() *redisDialer { return &redisDialer{open: map[*redisConn]struct{}{}} }

// dial is go-redis's Dialer, with TLS if config is not nil.
func (d *redisDialer) dial(timeout time.Duration, config *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	connect := (&net.Dialer{Timeout: max(timeout, 0), KeepAliveConfig: redisKeepAlive}).DialContext
	if d.connect != nil {
		connect = d.connect
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := connect(ctx, network, addr)
		if err != nil {
			d.failed()
			return nil, err
		}
		c := &redisConn{Conn: raw, dialer: d, used: time.Now()}
		d.mu.Lock()
		d.open[c] = struct{}{}
		d.mu.Unlock()
		if config == nil {
			return c, nil
		}
		return secure(ctx, c, timeout, addr, config)
	}
}

// secure does TLS's handshake within timeout, for the host of addr unless config names one.
func secure(ctx context.Context, c *redisConn, timeout time.Duration, addr string, config *tls.Config) (net.Conn, error) {
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	conn := tls.Client(c, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &securedConn{Conn: conn, raw: c}, nil
}

// securedConn is TLS over a redisConn. The bytes that lie ready on its socket say nothing, so go-redis sees only whether the dialer has dropped it.
type securedConn struct {
	*tls.Conn
	raw *redisConn
}

// SyscallConn fails if the connection was dropped.
func (c *securedConn) SyscallConn() (syscall.RawConn, error) {
	if c.raw.isDropped() {
		return nil, net.ErrClosed
	}
	return unseen{}, nil
}

// unseen is a socket of which nothing can be said.
type unseen struct{ syscall.RawConn }

// Read looks at nothing.
func (unseen) Read(func(uintptr) bool) error { return nil }

func (d *redisDialer) failed() {
	if d.onFailure != nil {
		d.onFailure()
	}
}

// dropIdle closes the connections that have been idle for suspectAfter.
func (d *redisDialer) dropIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c := range d.open {
		c.dropIfIdle()
	}
}

// redisConn is a connection to Redis that knows how long it was idle. When it is used again after that, it has firstAnswer to show that the
// other side still knows it.
type redisConn struct {
	net.Conn
	dialer *redisDialer

	mu       sync.Mutex
	used     time.Time // last
	busy     int       // reads and writes under way
	doubtful bool      // was idle, and has not answered since
	dropped  bool      // closed by the dialer
}

func (c *redisConn) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy++
}

func (c *redisConn) end(read bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.used = time.Now()
	if read && err == nil {
		c.doubtful = false
	}
}

// Write sends to Redis.
func (c *redisConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.doubtful = c.doubtful || c.busy == 0 && time.Since(c.used) >= suspectAfter
	c.mu.Unlock()
	c.begin()
	n, err := c.Conn.Write(b)
	c.end(false, err)
	return n, c.repeatable(err)
}

// Read receives from Redis.
func (c *redisConn) Read(b []byte) (int, error) {
	c.begin()
	n, err := c.Conn.Read(b)
	c.end(true, err)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if c.isDoubtful() {
			c.dialer.dropIdle()
		}
		c.dialer.failed()
	}
	return n, c.repeatable(err)
}

func (c *redisConn) isDoubtful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubtful
}

// SetReadDeadline allows no more than firstAnswer while it is in doubt whether the other side knows this connection.
func (c *redisConn) SetReadDeadline(t time.Time) error {
	if first := time.Now().Add(firstAnswer); c.isDoubtful() && first.Before(t) {
		t = first
	}
	return c.repeatable(c.Conn.SetReadDeadline(t))
}

// SetWriteDeadline is the connection's own.
func (c *redisConn) SetWriteDeadline(t time.Time) error {
	return c.repeatable(c.Conn.SetWriteDeadline(t))
}

// repeatable is the error that go-redis gets instead of err. If the dialer has dropped this connection, that is io.EOF, after which go-redis takes
// another one.
func (c *redisConn) repeatable(err error) error {
	if err != nil && c.isDropped() {
		return io.EOF
	}
	return err
}

// SyscallConn lets go-redis see whether a connection that was idle can still be used.
func (c *redisConn) SyscallConn() (syscall.RawConn, error) {
	raw, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	if c.isDropped() {
		return nil, net.ErrClosed
	}
	return raw.SyscallConn()
}

func (c *redisConn) isDropped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dropped
}

// Close ends the connection.
func (c *redisConn) Close() error {
	c.dialer.mu.Lock()
	delete(c.dialer.open, c)
	c.dialer.mu.Unlock()
	return c.Conn.Close()
}

func (c *redisConn) dropIfIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy == 0 && !c.dropped && time.Since(c.used) >= suspectAfter {
		c.dropped = true
		_ = c.Conn.Close()
	}
}
