package egress

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// answerGrace is how long the end of a connection may take to be read after a write has failed. The end comes with the failure, or before it.
const answerGrace = 200 * time.Millisecond

// A conn is a connection as net/http sees it. It passes on answers that come before their request was taken. It knows how long it has been
// without use, so that it is gone before the other side ends it.
type conn struct {
	net.Conn
	closedIdle func(after time.Duration) // the other side ended it while it was without use

	wrote     chan struct{} // closed by the first write
	wroteOnce sync.Once
	over      chan struct{} // closed with the connection
	heard     atomic.Int64  // when something was read last, in Unix nanoseconds

	mu        sync.Mutex
	closed    bool // by this side
	uses      int
	unwritten bool        // nothing has been written of a request on a connection that had served before
	failed    error       // why writing ended, nil if it goes on
	failedAt  time.Time   // when the last wait for an answer began after writing ended
	patience  *time.Timer // runs once writing has ended, until the end must have been read
	parked    time.Time   // without use since then; zero: in use, or HTTP/2
	stirred   time.Time   // when the other side did something meanwhile, zero: never
	retire    *time.Timer // nil: none was needed yet
	shown     handshake
	helloLen  int // how much of shown.hello there is
}

func newConn(c net.Conn, closedIdle func(time.Duration)) *conn {
	return &conn{Conn: c, closedIdle: closedIdle, wrote: make(chan struct{}), over: make(chan struct{})}
}

// connOf returns the conn under a connection of net/http's, nil if there is none.
func connOf(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// Write reports bytes as written that cannot be written any more. If a receiver answers early and closes, the rest of the request fails to be
// written, and net/http would report that rather than the answer. So the failure is left to the reader, which comes upon the answer first and
// then upon the end.
//
// If nothing was written of a request on a kept connection, Write returns an error: net/http sends the request on another connection then.
func (c *conn) Write(p []byte) (int, error) {
	c.wroteOnce.Do(func() { close(c.wrote) })
	c.mu.Lock()
	failed, unwritten, closed := c.failed, c.unwritten, c.closed
	c.mu.Unlock()
	switch {
	case closed && unwritten:
		return 0, net.ErrClosed
	case failed != nil && unwritten:
		return 0, failed
	case failed != nil:
		return len(p), nil
	}
	n, err := c.Conn.Write(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		c.unwritten = false
	}
	if err == nil || c.unwritten || c.closed || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	if c.failed == nil {
		c.failed, c.failedAt = err, time.Now()
		c.patience = time.AfterFunc(answerGrace, c.lose)
	}
	return len(p), nil
}

// lose ends a connection whose writing has failed, if nobody has read its end. An answer that has begun gets another second.
func (c *conn) lose() {
	c.mu.Lock()
	began := time.Unix(0, c.heard.Load()).After(c.failedAt)
	c.failedAt = time.Now()
	if began {
		c.patience.Reset(time.Second)
	}
	c.mu.Unlock()
	if !began {
		_ = c.Close()
	}
}

// Read waits, at the beginning, until the request is being written. net/http throws away bytes that come before, and they may be the answer of
// a receiver that is too busy to read.
func (c *conn) Read(p []byte) (int, error) {
	select {
	case <-c.wrote:
	default:
		c.awaitWrite()
	}
	n, err := c.Conn.Read(p)
	now := time.Now()
	if n > 0 {
		c.heard.Store(now.UnixNano())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.helloLen < helloBytes && n > 0 {
		c.helloLen += copy(c.shown.hello[c.helloLen:], p[:n])
	}
	if !c.parked.IsZero() && !c.closed {
		c.stirred = now
	}
	if err != nil && c.closed && c.failed != nil {
		err = c.failed // closed for that
	}
	return n, err
}

// asked notes that the other side asked for a client certificate, and whether it gets one.
func (c *conn) asked(given bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.shown.asked, c.shown.given = true, given
}

// handshake returns what the handshake has shown so far. That of nil is empty.
func (c *conn) handshake() handshake {
	if c == nil {
		return handshake{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.shown
}

// awaitWrite waits for the first write, but not for long.
func (c *conn) awaitWrite() {
	timer := time.NewTimer(answerGrace)
	defer timer.Stop()
	select {
	case <-c.wrote:
	case <-c.over:
	case <-timer.C:
	}
}

// Close ends the connection, and every wait on it.
func (c *conn) Close() error {
	c.mu.Lock()
	first, after := !c.closed, c.stirred.Sub(c.parked)
	idle := first && c.failed == nil && !c.parked.IsZero() && !c.stirred.IsZero() && time.Since(c.stirred) < time.Second // else it was a session ticket
	if first {
		c.end()
	}
	c.mu.Unlock()
	if idle {
		c.closedIdle(after)
	}
	return c.Conn.Close()
}

// end ends every wait on the connection. The caller holds c.mu, and closes c.Conn afterwards.
func (c *conn) end() {
	c.closed = true
	close(c.over)
	for _, timer := range []*time.Timer{c.retire, c.patience} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// take begins a use of the connection and returns its number.
func (c *conn) take(shared bool) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	c.unwritten = c.uses > 1 && !shared
	c.parked, c.stirred = time.Time{}, time.Time{}
	if c.retire != nil {
		c.retire.Stop()
	}
	return c.uses
}

// park ends a use of the connection, unless the next one has begun. If limited, it closes the connection once it has been without use for limit.
//
// net/http may have chosen the connection for a request at that very moment. Nothing of that request is written then, so it goes to another.
func (c *conn) park(use int, limit time.Duration, limited bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uses != use || c.closed {
		return
	}
	c.parked = time.Now()
	switch {
	case !limited || limit >= idleTimeout:
	case c.retire == nil:
		c.retire = time.AfterFunc(limit, c.retired)
	default:
		c.retire.Reset(limit)
	}
}

// retired closes the connection, if it is still without use.
func (c *conn) retired() {
	c.mu.Lock()
	unused := !c.parked.IsZero() && !c.closed
	if unused {
		c.end() // at once, so that no request that takes the connection from here on writes to it
	}
	c.mu.Unlock()
	if unused {
		_ = c.Conn.Close() // the reader finds out, and takes it from the pool
	}
}

// silent reports whether nothing has come for d.
func (c *conn) silent(d time.Duration) bool {
	return time.Since(time.Unix(0, c.heard.Load())) >= d
}
