package main

import (
	"container/list"
	"context"
	"crypto/tls"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ringback/ringback/dispatcher/httpapi"
)

const (
	// maxConnections is how many callers may be connected to a process, and maxIdle how many of them with nothing under way, between two
	// requests: each takes some 20 KiB.
	maxConnections = 10_000
	maxIdle        = 2_000
)

// newServer bounds what a stranger's connection may cost.
func newServer(handler http.Handler, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
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

// A crowd is a listener that bounds how many connections are open, and how many of them idle. If there is no room for another one, it closes one
// that has nothing to do, so that such connections lock nobody out. The first to go are those that are open for little (see spare), then those
// over HTTP/2 that have shown no key, then those that have been idle longest, then those that have said nothing yet, and last those with a stream, whose
// reader comes back. While all others are busy, new ones wait until one ends. newServer's timeouts see to that, but not over HTTP/2, where each request has timeouts of its own.
type crowd struct {
	net.Listener
	limit, maxIdle int
	log            sparseLog

	mu        sync.Mutex
	open      map[net.Conn]*spot
	spare     *list.List // of net.Conn, whose answer was sent before the body had come, or whose caller reads a page; the one that has been so longest first
	strangers *list.List // of net.Conn over HTTP/2, with requests under way and no key that is good, in the same order
	idle      *list.List // of net.Conn, between two requests, in the same order
	fresh     *list.List // of net.Conn, before their first request
	streams   *list.List // of net.Conn over HTTP/1, whose answer is a stream that has no end, in the order in which they began
	room      *sync.Cond // there may be room
	closed    bool
}

// A spot is where a connection stands in one of a crowd's lists; in none while it is busy.
type spot struct {
	list    *list.List
	element *list.Element
	known   bool // it has shown a key that is good
}

// limitConnections makes ln the listener of a server that has limit connections at most, and maxIdle of them idle, and whose refusals reach
// their callers. Half of the files that the process may open are left to everything else.
func limitConnections(server *http.Server, ln net.Listener, limit, maxIdle int, logger *slog.Logger) net.Listener {
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files) == nil {
		limit = int(min(uint64(limit), max(files.Cur/2, 1))) //nolint:gosec // no more than limit
	}
	c := &crowd{
		Listener: ln, limit: limit, maxIdle: maxIdle, log: sparseLog{log: logger},
		open: map[net.Conn]*spot{}, spare: list.New(), strangers: list.New(), idle: list.New(), fresh: list.New(), streams: list.New(),
	}
	c.room = sync.NewCond(&c.mu)
	server.ConnState = c.note
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		ctx = httpapi.OnAdmission(context.WithValue(ctx, connectionKey{}, conn), func() { c.know(conn) })
		return httpapi.OnStream(ctx, func() { c.noteStream(conn) })
	}
	server.Handler = httpapi.Linger(c.notePages(server.Handler), c.makeSpare)
	return c
}

// connectionKey is where a request's context holds its net.Conn.
type connectionKey struct{}

// Accept waits for a connection, and for room for it.
func (c *crowd) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.open) >= c.limit && !c.closed {
		if c.turnOut(c.spare) || c.turnOut(c.strangers) || c.turnOut(c.idle) || c.turnOut(c.fresh) || c.turnOut(c.streams) {
			c.log.warn("there are too many connections: one that has nothing under way is closed for each new one", "limit", c.limit)
			continue
		}
		c.log.warn("there are too many connections, and all are busy: new ones wait", "limit", c.limit)
		c.room.Wait()
	}
	if c.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	c.open[conn] = &spot{}
	c.put(conn, c.fresh)
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
	over, secure := conn.(*tls.Conn)
	conn = accepted(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.open[conn]
	if !ok {
		return // it was turned out
	}
	switch state {
	case http.StateNew: // as Accept noted
	case http.StateActive:
		if c.put(conn, nil); secure && !at.known && over.ConnectionState().NegotiatedProtocol == "h2" {
			c.put(conn, c.strangers)
			c.room.Signal()
		}
	case http.StateIdle:
		c.put(conn, c.idle)
		if c.idle.Len() > c.maxIdle {
			c.turnOut(c.idle)
		}
		c.room.Signal()
	case http.StateHijacked, http.StateClosed:
		c.forget(conn)
		c.room.Signal()
	}
}

// notePages makes a connection spare if its caller asks for a page that needs no key and is too long to be sent at once: the caller may be slow to
// read it.
func (c *crowd) notePages(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 1 && (r.URL.Path == "/openapi.json" || r.URL.Path == "/docs" || strings.HasPrefix(r.URL.Path, "/docs/")) {
			c.makeSpare(r)
		}
		next.ServeHTTP(w, r)
	})
}

// makeSpare hears of a request whose connection makes room for others.
func (c *crowd) makeSpare(r *http.Request) {
	conn := accepted(r.Context().Value(connectionKey{}).(net.Conn)) //nolint:forcetypeassert // limitConnections put it there
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[conn]; ok {
		c.put(conn, c.spare)
		c.room.Signal()
	}
}

// noteStream hears of a connection whose answer is a stream. Over HTTP/2 it may have other requests under way, so it stays.
func (c *crowd) noteStream(conn net.Conn) {
	over, secure := conn.(*tls.Conn)
	if secure && over.ConnectionState().NegotiatedProtocol == "h2" {
		return
	}
	conn = accepted(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[conn]; ok {
		c.put(conn, c.streams)
		c.room.Signal()
	}
}

// know hears of a connection that has shown a key that is good.
func (c *crowd) know(conn net.Conn) {
	conn = accepted(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.open[conn]; ok && !at.known {
		at.known = true
		if at.list == c.strangers {
			c.put(conn, nil)
		}
	}
}

// accepted is the connection as Accept returned it.
func accepted(conn net.Conn) net.Conn {
	if over, ok := conn.(*tls.Conn); ok {
		return over.NetConn()
	}
	return conn
}

// put moves a connection to the end of a list, or out of all where it is busy.
func (c *crowd) put(conn net.Conn, to *list.List) {
	at := c.open[conn]
	at.leave()
	if to != nil {
		at.list, at.element = to, to.PushBack(conn)
	}
}

func (at *spot) leave() {
	if at.list != nil {
		at.list.Remove(at.element)
	}
	at.list, at.element = nil, nil
}

// turnOut closes a list's first connection, if it has one.
func (c *crowd) turnOut(from *list.List) bool {
	first := from.Front()
	if first == nil {
		return false
	}
	conn := first.Value.(net.Conn) //nolint:forcetypeassert // the lists hold nothing else
	c.forget(conn)
	_ = conn.Close()
	return true
}

func (c *crowd) forget(conn net.Conn) {
	if at, ok := c.open[conn]; ok {
		at.leave()
	}
	delete(c.open, conn)
}
