package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// TestEarlyAnswersAreHeard sends bodies of every size to receivers that answer after the head and close, with most of the body unread.
func TestEarlyAnswersAreHeard(t *testing.T) {
	const times = 5
	a := newAuthority(t)
	cert := a.leaf(t, nil)
	var wg sync.WaitGroup
	for _, scheme := range []string{"http", "https"} {
		for _, answer := range []string{
			"204 No Content\r\n", "401 Unauthorized\r\nContent-Length: 0\r\n", "410 Gone\r\nContent-Length: 2\r\n\r\nno",
			"413 Content Too Large\r\nContent-Length: 0\r\n", "429 Slow\r\nRetry-After: 7\r\nContent-Length: 0\r\n", "503 Down\r\nConnection: close\r\n",
		} {
			serve := func(conn net.Conn) {
				_, _ = conn.Read(make([]byte, 100))
				_, _ = io.WriteString(conn, "HTTP/1.1 "+answer+"\r\n")
				_ = conn.Close()
			}
			if scheme == "https" {
				plain := serve
				serve = func(conn net.Conn) {
					secure := tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
					if secure.Handshake() == nil {
						plain(secure)
					}
				}
			}
			server := newRawServer(t, serve)
			c := newClient(t, Config{Allow: loopback, TLS: &tls.Config{RootCAs: a.roots}})
			wg.Go(func() {
				for _, size := range []int{20 << 10, 200 << 10, 900 << 10} {
					for range times {
						c.Close() // that a kept connection is stale is another matter
						resp, err := c.Do(t.Context(), Request{URL: scheme + "://" + server.addr() + "/", Body: make([]byte, size)})
						if err != nil {
							t.Errorf("%s %s after %d KiB is lost: %v (%v)", scheme, answer[:3], size>>10, err, errors.Unwrap(err))
						} else if fmt.Sprint(resp.Status) != answer[:3] || resp.Status == 429 && resp.Header.Get("Retry-After") != "7" {
							t.Errorf("got %v, want %s", resp, answer[:3])
						}
					}
				}
			})
		}
	}
	wg.Wait()
}

// slowAnswer is a connection whose writes fail, and on which an answer, if there is one, is read only after a pause.
type slowAnswer struct {
	net.Conn
	answer io.Reader // nil: none comes
	pause  time.Duration
	took   int // bytes of the request
	closed chan struct{}
	once   sync.Once
}

func (c *slowAnswer) Write(p []byte) (int, error) {
	return min(c.took, len(p)), &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
}

func (c *slowAnswer) Read(p []byte) (int, error) {
	if c.answer == nil {
		<-c.closed
		return 0, net.ErrClosed
	}
	time.Sleep(c.pause)
	return c.answer.Read(p)
}

func (c *slowAnswer) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

// TestWriteErrorWaitsForTheAnswer holds how long a failed write waits for an answer, on a fake clock.
func TestWriteErrorWaitsForTheAnswer(t *testing.T) {
	const text = "HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
	for name, tt := range map[string]struct {
		answer  io.Reader
		pause   time.Duration
		took    int
		timeout time.Duration
		status  int
		reason  Reason
		within  time.Duration
	}{
		"the answer comes":            {answer: strings.NewReader(text), pause: 100 * time.Millisecond, took: 100, status: 410, within: 100 * time.Millisecond},
		"it comes late":               {answer: strings.NewReader(text), pause: 190 * time.Millisecond, took: 100, status: 410, within: 190 * time.Millisecond},
		"nothing of the request went": {answer: strings.NewReader(text), pause: 100 * time.Millisecond, status: 410, within: 100 * time.Millisecond},
		"no answer":                   {reason: Reset, took: 100, within: answerGrace},
		"the end instead":             {answer: strings.NewReader(""), pause: 50 * time.Millisecond, took: 100, reason: ConnectionClosed, within: 50 * time.Millisecond},
		"the request's time is up":    {reason: Timeout, took: 100, timeout: 30 * time.Millisecond, within: 30 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newClient(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
					return &slowAnswer{answer: tt.answer, pause: tt.pause, took: tt.took, closed: make(chan struct{})}, nil
				}})
				start := time.Now()
				resp, err := c.Do(t.Context(), Request{URL: "http://partner.example/", Body: make([]byte, 100<<10), Timeout: tt.timeout})
				if took := time.Since(start); took != tt.within {
					t.Errorf("took %s, want %s", took, tt.within)
				}
				if tt.reason != "" {
					wantError(t, err, tt.reason)
				} else if err != nil || resp.Status != tt.status {
					t.Errorf("got %v, %v (%v)", resp, err, errors.Unwrap(err))
				}
				time.Sleep(time.Second)
			})
		})
	}
}

// TestAnswerOnAccept: some receivers that are too busy answer and close without reading anything.
func TestAnswerOnAccept(t *testing.T) {
	server := newRawServer(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n")
		_ = conn.(*net.TCPConn).CloseWrite()
		untilClosed(conn)
	})
	c := newClient(t, Config{Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, server.addr())
		time.Sleep(5 * time.Millisecond) // the answer is there before the request
		return conn, err
	}})
	for range 10 {
		c.Close()
		resp, err := c.Do(t.Context(), Request{URL: "http://partner.example/", Body: make([]byte, 20<<10)})
		if err != nil || resp.Status != 503 {
			t.Fatalf("got %v, %v (%v)", resp, err, errors.Unwrap(err))
		}
	}
}

// slowClose is a connection that takes a while to close, and may be written to meanwhile.
type slowClose struct {
	net.Conn
	closing, goOn chan struct{}
	written       int
}

func (c *slowClose) Write(p []byte) (int, error) {
	c.written += len(p)
	return len(p), nil
}

func (c *slowClose) Close() error {
	close(c.closing)
	<-c.goOn
	return nil
}

// TestNothingIsWrittenToAConnectionThatIsClosed takes a connection for a request while it is being closed for having been idle: nothing of the
// request goes out, so net/http sends it on another one.
func TestNothingIsWrittenToAConnectionThatIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		under := &slowClose{closing: make(chan struct{}), goOn: make(chan struct{})}
		c := newConn(under, func(time.Duration) {})
		use := c.take(false)
		if n, err := c.Write([]byte("first")); n != 5 || err != nil {
			t.Fatal(n, err)
		}
		c.park(use, time.Second, true)
		<-under.closing
		c.take(false)
		if n, err := c.Write([]byte("second")); n != 0 || !errors.Is(err, net.ErrClosed) || under.written != 5 {
			t.Errorf("%d bytes of the second request were written: %v", n, err)
		}
		close(under.goOn)
	})
}
