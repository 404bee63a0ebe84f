package egress

import (
	"bufio"
	"errors"
	"io"
	"log"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	log.SetOutput(io.Discard) // net/http reports unsolicited answers there
	goleak.VerifyTestMain(m)
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// newClient returns a Client that is closed with the test.
func newClient(t testing.TB, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// rawServer accepts connections on loopback and lets serve do with each what HTTP servers do not do.
type rawServer struct {
	listener net.Listener
	accepted atomic.Int64
	wg       sync.WaitGroup
	mu       sync.Mutex
	conns    []net.Conn
}

func newRawServer(t testing.TB, serve func(net.Conn)) *rawServer {
	t.Helper()
	return newRawServerAt(t, "127.0.0.1:0", serve)
}

func newRawServerAt(t testing.TB, addr string, serve func(net.Conn)) *rawServer {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{listener: l}
	s.wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.accepted.Add(1)
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			s.mu.Unlock()
			s.wg.Go(func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		s.wg.Wait()
	})
	return s
}

func (s *rawServer) addr() string { return s.listener.Addr().String() }
func (s *rawServer) url() string  { return "http://" + s.addr() + "/hook" }
func (s *rawServer) port() uint16 { return s.listener.Addr().(*net.TCPAddr).AddrPort().Port() }

// readRequest reads one request with a Content-Length and returns its head, line by line, and its body.
func readRequest(r *bufio.Reader) (lines []string, body string, err error) {
	length := 0
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		line = strings.TrimSuffix(line, "\r\n")
		if line == "" {
			break
		}
		lines = append(lines, line)
		if v, ok := strings.CutPrefix(line, "Content-Length: "); ok {
			for _, c := range v {
				length = 10*length + int(c-'0')
			}
		}
	}
	b := make([]byte, length)
	_, err = io.ReadFull(r, b)
	return lines, string(b), err
}

// answering reads a request and writes raw, for every request on the connection.
func answering(raw string) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			if _, _, err := readRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(conn, raw); err != nil {
				return
			}
		}
	}
}

// untilClosed blocks until the other side ends the connection.
func untilClosed(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// reset ends the connection with a RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// asError returns err as the *Error that Do promises.
func asError(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("error is %T %v, want an *Error", err, err)
	}
	return e
}

// wantError fails the test unless err is an *Error for reason, in one of the phases if any are given.
func wantError(t *testing.T, err error, reason Reason, phases ...string) {
	t.Helper()
	e := asError(t, err)
	if e.Reason != reason || len(phases) > 0 && !slices.Contains(phases, e.Phase) {
		t.Fatalf("%s in phase %q, want %s in %q (%v; cause: %v)", e.Reason, e.Phase, reason, phases, e, e.Unwrap())
	}
}
