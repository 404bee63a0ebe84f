package egress

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// answerGrace is how long a failed write waits for an answer. A receiver that answers early and closes makes the rest of the body fail
	// to be written, and net/http takes that for the end even if the answer is on its way: of bodies from 20 KiB on, a sixth of such answers
	// were lost. One that comes at all comes with the reset or before it.
	answerGrace = 200 * time.Millisecond
)

// A conn is a connection as net/http sees it: it lets answers be heard that come before their request was taken.
type conn struct {
	net.Conn

	wrote     chan struct{} // closed by the first write
	wroteOnce sync.Once
	over      chan struct{} // closed once nothing more will be read: the other side ended the connection, or this one closed it
	overOnce  sync.Once

	heard atomic.Int64 // when something was read last, in Unix nanoseconds
}

func newConn(c net.Conn) *conn {
	return &conn{Conn: c, wrote: make(chan struct{}), over: make(chan struct{})}
}

// Write holds an error back until the reader saw what the other side said before, if anything. Who closes the connection, as net/http
// does when the request's time is up, ends the hold.
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
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		c.end()
	}
	return n, err
}

// Close ends the connection, and every wait on it.
func (c *conn) Close() error {
	c.end()
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
