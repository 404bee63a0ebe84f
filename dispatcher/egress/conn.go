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

// answerGrace is how long a failed write waits for an answer. A receiver that answers early and closes makes the rest of the body fail to be
// written, and net/http takes that for the end even if the answer is on its way. One that comes at all comes with the reset or before it.
const answerGrace = 200 * time.Millisecond

// A conn is a connection as net/http sees it. It lets answers be heard that come before their request was taken, and it knows how long it
// has been without use, so that it is gone before the other side ends it.
type conn struct {
	net.Conn
	closedIdle func(after time.Duration) // the other side ended it while it was without use

	wrote     chan struct{} // closed by the first write
	wroteOnce sync.Once
	over      chan struct{} // closed once nothing more will be read: the other side ended the connection, or this one closed it
	overOnce  sync.Once
	heard     atomic.Int64 // when something was read last, in Unix nanoseconds

	mu      sync.Mutex
	closed  bool // by this side
	uses    int
	parked  time.Time   // without use since then; zero: in use, or HTTP/2
	stirred time.Time   // when the other side did something meanwhile, zero: never
	retire  *time.Timer // nil: none was needed yet
}

func newConn(c net.Conn, closedIdle func(time.Duration)) *conn {
	return &conn{Conn: c, closedIdle: closedIdle, wrote: make(chan struct{}), over: make(chan struct{})}
}

// connOf returns the conn under what net/http uses, nil if there is none.
func connOf(c net.Conn) *conn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	own, _ := c.(*conn)
	return own
}

// Write holds an error back until the reader saw what the other side said before, if anything. Who closes the connection, as net/http
// does when the request's time is up, ends the hold. An answer that has begun by then gets another second.
func (c *conn) Write(p []byte) (int, error) {
	c.wroteOnce.Do(func() { close(c.wrote) })
	began := time.Now().UnixNano()
	n, err := c.Conn.Write(p)
	if err != nil && !c.await(c.over, answerGrace) && c.heard.Load() > began {
		c.await(c.over, time.Second)
	}
	return n, err
}

// Read waits, at the beginning, until the request is being written: net/http throws away what comes before, and it may be the answer of a
// receiver that is too busy to read.
func (c *conn) Read(p []byte) (int, error) {
	select {
	case <-c.wrote:
	default:
		c.await(c.wrote, answerGrace)
	}
	n, err := c.Conn.Read(p)
	now := time.Now()
	if n > 0 {
		c.heard.Store(now.UnixNano())
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.parked.IsZero() && !c.closed {
		c.stirred = now
	}
	return n, err
}

// Close ends the connection, and every wait on it.
func (c *conn) Close() error {
	c.end()
	c.mu.Lock()
	after := c.stirred.Sub(c.parked)
	idle := !c.closed && !c.parked.IsZero() && !c.stirred.IsZero() && time.Since(c.stirred) < time.Second // a session ticket is no end
	c.closed = true
	if c.retire != nil {
		c.retire.Stop()
	}
	c.mu.Unlock()
	if idle {
		c.closedIdle(after)
	}
	return c.Conn.Close()
}

func (c *conn) end() { c.overOnce.Do(func() { close(c.over) }) }

// await waits for what, but no longer than limit and than the connection lasts, and reports whether either came.
func (c *conn) await(what <-chan struct{}, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-what:
	case <-c.over:
	case <-timer.C:
		return false
	}
	return true
}

// take begins a use of the connection and returns its number.
func (c *conn) take() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uses++
	c.parked, c.stirred = time.Time{}, time.Time{}
	if c.retire != nil {
		c.retire.Stop()
	}
	return c.uses
}

// park ends a use of the connection, unless the next one has begun. If limited, it closes the connection once it has been without use for limit.
//
// net/http may have chosen the connection for a request at that very moment. Nothing of that request gets written then, so it goes to another.
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

func (c *conn) retired() {
	c.mu.Lock()
	unused := !c.parked.IsZero()
	c.parked = time.Time{}
	c.mu.Unlock()
	if unused {
		_ = c.Close() // the reader finds out, and takes it from the pool
	}
}

// silent reports whether nothing has come for d.
func (c *conn) silent(d time.Duration) bool {
	return time.Since(time.Unix(0, c.heard.Load())) >= d
}
