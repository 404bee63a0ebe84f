package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

const (
	// maxConnections is how many callers may be connected to a process: an idle one takes some 16 KiB.
	maxConnections = 10_000
	// doorLogEvery is how often net/http, and a full door, may write to the log: strangers can make either say something as often as they want.
	doorLogEvery = 10 * time.Second
)

// newServer bounds what a stranger's connection may cost.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           httpapi.Linger(handler),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          log.New(&libraryLog{name: "http server", sparseLog: sparseLog{log: logger}}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 100, // no fewer, advises RFC 9113, section 6.5.2
			// How much of bodies may arrive before anybody reads it.
			MaxReceiveBufferPerConnection: 256 << 10,
			MaxReceiveBufferPerStream:     64 << 10,
		},
	}
}

// A sparseLog writes a line in doorLogEvery, and says how many it left out since the last.
type sparseLog struct {
	log *slog.Logger

	mu      sync.Mutex
	next    time.Time // not before then
	leftOut int
}

func (l *sparseLog) warn(line string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Now().Before(l.next) {
		l.leftOut++
		return
	}
	l.log.WarnContext(context.Background(), line, append(args, "left_out", l.leftOut)...)
	l.next, l.leftOut = time.Now().Add(doorLogEvery), 0
}

// A crowd is a listener that bounds how many connections are open. When there is no room for another, the one that has been idle longest
// makes some: connections that do nothing lock nobody out. While all are busy new ones wait until one ends, which newServer's timeouts see to.
type crowd struct {
	net.Listener
	limit int
	log   sparseLog

	mu     sync.Mutex
	open   map[net.Conn]*list.Element // its place among the idle; nil while it is busy
	idle   *list.List                 // of net.Conn, the one that has been idle longest first
	room   *sync.Cond                 // there may be room
	closed bool
}

// limitConnections makes ln the listener of a server that has limit connections at most. Half of the files that the process may open are left
// to everything else.
func limitConnections(server *http.Server, ln net.Listener, limit int, logger *slog.Logger) net.Listener {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		limit = int(min(uint64(limit), max(files.Cur/2, 1))) //nolint:gosec // no more than limit
	}
	c := &crowd{Listener: ln, limit: limit, log: sparseLog{log: logger}, open: map[net.Conn]*list.Element{}, idle: list.New()}
	c.room = sync.NewCond(&c.mu)
	server.ConnState = c.note
	return c
}

// Accept waits for a connection, and for room for it.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) >= c.limit && !c.closed {
		if longest := c.idle.Front(); longest != nil {
			c.log.warn("there are too many connections: the one that was idle longest is closed", "limit", c.limit)
			c.turnOut(longest.Value.(net.Conn)) //nolint:forcetypeassert // the list holds nothing else
			continue
		}
		c.log.warn("there are too many connections, and all are busy: new ones wait", "limit", c.limit)
		c.room.Wait()
	}
	if c.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open[conn] = c.idle.PushBack(conn) // until its first request is there
	return conn, nil
}

// Close ends Accept, too.
func (c *crowd) Close() error {
	c.mu.Lock()
	c.closed = true
	c.room.Broadcast()
	c.mu.Unlock()
	return c.Listener.Close()
}

// note is the server's ConnState: it hears what becomes of connections.
func (c *crowd) note(conn net.Conn, state http.ConnState) {
	if over, ok := conn.(*tls.Conn); ok {
		conn = over.NetConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	place, ok := c.open[conn]
	if !ok {
		return // it was turned out
	}
	switch state {
	case http.StateNew: // as Accept noted
	case http.StateActive:
		if place != nil {
			c.idle.Remove(place)
			c.open[conn] = nil
		}
	case http.StateIdle:
		if place == nil {
			c.open[conn] = c.idle.PushBack(conn)
		}
		c.room.Signal()
	case http.StateHijacked, http.StateClosed:
		c.forget(conn)
		c.room.Signal()
	}
}

func (c *crowd) turnOut(conn net.Conn) {
	c.forget(conn)
	_ = conn.Close()
}

func (c *crowd) forget(conn net.Conn) {
	if place := c.open[conn]; place != nil {
		c.idle.Remove(place)
	}
	delete(c.open, conn)
}
