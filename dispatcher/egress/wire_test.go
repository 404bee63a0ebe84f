package egress

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A wire is one end of a connection that holds 64 KiB each way and can break, as TCP's do and net.Pipe's do not.
type wire struct {
	in, out *stream
	shut    atomic.Bool // by this end
}

func newWire() (ours, theirs *wire) {
	a, b := newStream(), newStream()
	return &wire{in: a, out: b}, &wire{in: b, out: a}
}

// A stream is one direction of a wire.
type stream struct {
	mu         sync.Mutex
	changed    *sync.Cond
	buf        *[64 << 10]byte // a ring: n bytes from r on
	r, n       int
	ended      bool // no more is written
	refused    bool // no more is read
	broken     bool // it ended with a reset
	late       [2]bool
	readTimer  *time.Timer
	writeTimer *time.Timer
}

var rings = sync.Pool{New: func() any { return new([64 << 10]byte) }}

func newStream() *stream {
	s := &stream{buf: rings.Get().(*[64 << 10]byte)}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (w *wire) Read(p []byte) (int, error) {
	s := w.in
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.n == 0 && !s.ended && !s.late[0] && !w.shut.Load() {
		s.changed.Wait()
	}
	switch {
	case w.shut.Load():
		return 0, net.ErrClosed
	case s.n > 0:
		n := copy(p, s.buf[s.r:min(s.r+s.n, len(s.buf))])
		s.r, s.n = (s.r+n)%len(s.buf), s.n-n
		s.changed.Broadcast()
		return n, nil
	case s.broken:
		return 0, &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	case s.ended:
		return 0, io.EOF
	}
	return 0, os.ErrDeadlineExceeded
}

func (w *wire) Write(p []byte) (written int, err error) {
	s := w.out
	s.mu.Lock()
	defer s.mu.Unlock()
	for written < len(p) {
		for s.n == len(s.buf) && !s.refused && !s.late[1] && !w.shut.Load() {
			s.changed.Wait()
		}
		switch {
		case w.shut.Load():
			return written, net.ErrClosed
		case s.refused:
			return written, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
		case s.late[1]:
			return written, os.ErrDeadlineExceeded
		}
		end := (s.r + s.n) % len(s.buf)
		n := copy(s.buf[end:min(end+len(s.buf)-s.n, len(s.buf))], p[written:])
		s.n, written = s.n+n, written+n
		s.changed.Broadcast()
	}
	return written, nil
}

func (s *stream) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.changed.Broadcast()
}

func (w *wire) end(broken bool) {
	if w.shut.Swap(true) {
		return
	}
	w.out.change(func() { w.out.ended, w.out.broken = true, broken })
	w.in.change(func() { w.in.refused = true })
}

func (w *wire) Close() error {
	w.end(false)
	return nil
}

func (w *wire) SetReadDeadline(at time.Time) error {
	w.in.deadline(0, &w.in.readTimer, at)
	return nil
}

func (w *wire) SetWriteDeadline(at time.Time) error {
	w.out.deadline(1, &w.out.writeTimer, at)
	return nil
}

func (w *wire) SetDeadline(at time.Time) error {
	return errors.Join(w.SetReadDeadline(at), w.SetWriteDeadline(at))
}

func (s *stream) deadline(which int, timer **time.Timer, at time.Time) {
	s.change(func() {
		if *timer != nil {
			(*timer).Stop()
		}
		if s.late[which] = !at.IsZero() && !at.After(time.Now()); !s.late[which] && !at.IsZero() {
			*timer = time.AfterFunc(time.Until(at), func() { s.change(func() { s.late[which] = true }) })
		}
	})
}

func (w *wire) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (w *wire) RemoteAddr() net.Addr { return &net.TCPAddr{} }

// breakOff resets the connection that a server has.
func breakOff(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	conn.(*wire).end(true)
}
