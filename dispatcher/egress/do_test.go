package egress

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDo(t *testing.T) {
	server, requests, bodies := newRecorder(t)
	c := newClient(t, Config{Allow: loopback})
	for i, tt := range []struct {
		req  Request
		want []string
	}{
		{
			Request{Body: []byte("{}"), Header: http.Header{"User-Agent": {"Ringback/1.2.3"}, "Content-Type": {"application/json"}, "Webhook-Id": {"dlv_1"}}},
			[]string{"POST /hook HTTP/1.1", "Host: " + server.addr(), "User-Agent: Ringback/1.2.3", "Content-Length: 2", "Content-Type: application/json", "Webhook-Id: dlv_1"},
		},
		{Request{Method: "PUT", Body: []byte("a=b")}, []string{"PUT /hook HTTP/1.1", "Host: " + server.addr(), "Content-Length: 3"}},
		{Request{Method: "PATCH"}, []string{"PATCH /hook HTTP/1.1", "Host: " + server.addr(), "Content-Length: 0"}},
		{
			Request{Header: http.Header{"Idempotency-Key": {"k"}}},
			[]string{"POST /hook HTTP/1.1", "Host: " + server.addr(), "Content-Length: 0", "idempotency-key: k"},
		},
	} {
		tt.req.URL = server.url()
		header := tt.req.Header.Clone()
		resp, err := c.Do(t.Context(), tt.req)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, <-requests); diff != "" {
			t.Errorf("request %d (-want +got):\n%s", i, diff)
		}
		if body := <-bodies; body != string(tt.req.Body) {
			t.Errorf("request %d has body %q, want %q", i, body, tt.req.Body)
		}
		if diff := cmp.Diff(header, tt.req.Header); diff != "" {
			t.Errorf("the caller's header was changed: %s", diff)
		}
		timing := resp.Timing
		if timing.Reused != (i > 0) || timing.Total <= 0 || timing.FirstByte < 0 || timing.FirstByte > timing.Total || (timing.Connect > 0) == timing.Reused {
			t.Errorf("request %d has timing %+v", i, timing)
		}
		resp.Timing = Timing{}
		want := &Response{
			Status: 200, Proto: "HTTP/1.1", Body: []byte(`{"ok": true}`),
			Header: http.Header{"Content-Type": {"application/json"}, "X-A": {"1", "2"}, "Content-Length": {"12"}},
		}
		if diff := cmp.Diff(want, resp); diff != "" {
			t.Errorf("response %d (-want +got):\n%s", i, diff)
		}
	}
	if n := server.accepted.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// newRecorder starts a receiver that hands over the head and the body of each request, and answers with JSON.
func newRecorder(t *testing.T) (server *rawServer, requests chan []string, bodies chan string) {
	requests, bodies = make(chan []string, 1), make(chan string, 1)
	server = newRawServer(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			lines, body, err := readRequest(r)
			if err != nil {
				return
			}
			requests <- lines
			bodies <- body
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 12\r\n\r\n{\"ok\": true}"); err != nil {
				return
			}
		}
	})
	return server, requests, bodies
}

func TestDoRefuses(t *testing.T) {
	c := newClient(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		t.Error("a connection was opened")
		return nil, net.ErrClosed
	}})
	const good = "https://partner.example/hook"
	for name, tt := range map[string]struct {
		req    Request
		reason Reason
	}{
		"GET":                  {Request{Method: "GET", URL: good}, BadRequest},
		"odd method":           {Request{Method: "PO ST", URL: good}, BadRequest},
		"bad URL":              {Request{URL: "https://partner.example/s3cr3t%zz"}, BadRequest},
		"blocked URL":          {Request{URL: "http://127.0.0.1/s3cr3t"}, BlockedAddress},
		"blocked port":         {Request{URL: "http://partner.example:22/s3cr3t"}, BlockedAddress},
		"header injection":     {Request{URL: good, Header: http.Header{"X-A": {"s3cr3t\r\nX-B: 1"}}}, BadRequest},
		"header name":          {Request{URL: good, Header: http.Header{"X-A: s3cr3t\r\n": {"1"}}}, BadRequest},
		"empty name":           {Request{URL: good, Header: http.Header{"": {"s3cr3t"}}}, BadRequest},
		"Host":                 {Request{URL: good, Header: http.Header{"Host": {"s3cr3t"}}}, BadRequest},
		"host, not canonical":  {Request{URL: good, Header: http.Header{"hOST": {"s3cr3t"}}}, BadRequest},
		"Connection":           {Request{URL: good, Header: http.Header{"Connection": {"Upgrade"}}}, BadRequest},
		"Content-Length":       {Request{URL: good, Header: http.Header{"Content-Length": {"0"}}}, BadRequest},
		"Transfer-Encoding":    {Request{URL: good, Header: http.Header{"Transfer-Encoding": {"chunked"}}}, BadRequest},
		"Trailer":              {Request{URL: good, Header: http.Header{"Trailer": {"X"}}}, BadRequest},
		"TE":                   {Request{URL: good, Header: http.Header{"TE": {"trailers"}}}, BadRequest},
		"Upgrade":              {Request{URL: good, Header: http.Header{"Upgrade": {"websocket"}}}, BadRequest},
		"Expect":               {Request{URL: good, Header: http.Header{"Expect": {"100-continue"}}}, BadRequest},
		"Keep-Alive":           {Request{URL: good, Header: http.Header{"Keep-Alive": {"1"}}}, BadRequest},
		"Proxy-Authorization":  {Request{URL: good, Header: http.Header{"Proxy-Authorization": {"s3cr3t"}}}, BadRequest},
		"proxy-connection":     {Request{URL: good, Header: http.Header{"proxy-connection": {"s3cr3t"}}}, BadRequest},
		"NUL in a header":      {Request{URL: good, Header: http.Header{"Authorization": {"s3cr3t\x00"}}}, BadRequest},
		"userinfo in the URL":  {Request{URL: "https://u:s3cr3t@partner.example/"}, BadRequest},
		"fragment in the URL":  {Request{URL: "https://partner.example/#s3cr3t"}, BadRequest},
		"metadata service":     {Request{URL: "http://169.254.169.254/s3cr3t"}, BlockedAddress},
		"metadata by its name": {Request{URL: "http://metadata.google.internal/s3cr3t"}, NameNotAllowed},
	} {
		_, err := c.Do(t.Context(), tt.req)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != tt.reason || e.Phase != "" || strings.Contains(e.Error(), "s3cr3t") {
			t.Errorf("%s: %v, want a %s that repeats nothing", name, err, tt.reason)
		}
	}
}

func TestRedirectsAreAnswers(t *testing.T) {
	target := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	c := newClient(t, Config{Allow: loopback})
	for _, status := range []int{301, 302, 303, 307, 308} {
		server := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, target.url())))
		resp, err := c.Do(t.Context(), Request{URL: server.url(), Body: []byte("{}")})
		if err != nil || resp.Status != status || resp.Header.Get("Location") != target.url() {
			t.Errorf("%d: %v, %v", status, resp, err)
		}
	}
	if n := target.accepted.Load(); n != 0 {
		t.Errorf("the target was reached %d times", n)
	}
}

func TestRefused(t *testing.T) {
	server := newRawServer(t, untilClosed)
	_ = server.listener.Close()
	c := newClient(t, Config{Allow: loopback})
	_, err := c.Do(t.Context(), Request{URL: server.url()})
	wantError(t, err, Refused, PhaseConnect)
	if e := asError(t, err); strings.Contains(e.Error(), "127.0.0.1") {
		t.Errorf("the error names the address: %v", e)
	}
}

func TestReset(t *testing.T) {
	before := newRawServer(t, func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		reset(conn)
	})
	after := newRawServer(t, func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		reset(conn)
	})
	c := newClient(t, Config{Allow: loopback})
	_, err := c.Do(t.Context(), Request{URL: before.url(), Body: []byte("{}")})
	wantError(t, err, Reset, PhaseWait)

	resp, err := c.Do(t.Context(), Request{URL: after.url(), Body: []byte("{}")})
	if err != nil {
		// The kernel may discard what was not read yet when the RST comes: then no answer arrived, which is the truth.
		wantError(t, err, Reset, PhaseWait)
	} else if resp.Status != 200 || !resp.Truncated {
		t.Errorf("status %d, truncated %v, want 200 and true", resp.Status, resp.Truncated)
	}
}

// TestDroppedReusedConnection holds that a request the partner may have read is sent once, however the connection ends and whatever the headers.
func TestDroppedReusedConnection(t *testing.T) {
	for name, end := range map[string]func(net.Conn){"closed": func(c net.Conn) { _ = c.Close() }, "reset": reset} {
		for _, header := range []http.Header{nil, {"Idempotency-Key": {"k"}}, {"X-Idempotency-Key": {"k"}}} {
			for _, body := range []string{"{}", ""} {
				t.Run(fmt.Sprintf("%s %v %q", name, header, body), func(t *testing.T) {
					var requests atomic.Int64
					server := newRawServer(t, func(conn net.Conn) {
						r := bufio.NewReader(conn)
						for n := 0; ; n++ {
							if _, _, err := readRequest(r); err != nil {
								return
							}
							requests.Add(1)
							if n == 1 {
								end(conn)
								return
							}
							_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
						}
					})
					c := newClient(t, Config{Allow: loopback})
					req := Request{URL: server.url(), Header: header, Body: []byte(body)}
					if _, err := c.Do(t.Context(), req); err != nil {
						t.Fatal(err)
					}
					_, err := c.Do(t.Context(), req)
					wantError(t, err, map[string]Reason{"closed": ConnectionClosed, "reset": Reset}[name], PhaseWait)
					if !asError(t, err).Timing.Reused {
						t.Error("the connection was not reused: the test proves nothing")
					}
					if n := requests.Load(); n != 2 {
						t.Errorf("the server saw %d requests for 2 sends", n)
					}
				})
			}
		}
	}
}

// TestUnwrittenRequestIsSentAgain holds that a kept connection that fails before a byte was written costs nothing: it happens whenever a partner's
// idle timeout is a little shorter than the pause between two events.
func TestUnwrittenRequestIsSentAgain(t *testing.T) {
	server := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	var dials atomic.Int64
	c := newClient(t, Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, server.addr())
		if err == nil && dials.Add(1) == 1 {
			conn = &dyingConn{Conn: conn}
		}
		return conn, err
	}})
	for i := range 2 {
		if _, err := c.Do(t.Context(), Request{URL: "http://partner.example/hook", Body: []byte("{}")}); err != nil {
			t.Fatalf("request %d: %v (%v)", i+1, err, errors.Unwrap(err))
		}
	}
	if n := dials.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// dyingConn fails its second write without writing anything.
type dyingConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *dyingConn) Write(p []byte) (int, error) {
	if c.writes.Add(1) > 1 {
		return 0, net.ErrClosed
	}
	return c.Conn.Write(p)
}

func TestSwitchingProtocols(t *testing.T) {
	closed := make(chan struct{})
	server := newRawServer(t, func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nsomething")
		untilClosed(conn)
		close(closed)
	})
	c := newClient(t, Config{Allow: loopback})
	resp, err := c.Do(t.Context(), Request{URL: server.url(), Body: []byte("{}"), Timeout: 30 * time.Second})
	if err != nil || resp.Status != 101 || resp.Body != nil {
		t.Errorf("got %v, %v, want a 101 without a body", resp, err)
	}
	<-closed // the connection is given up at once
}

func TestKeepBody(t *testing.T) {
	server := newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n"+strings.Repeat("x", 20_000)))
	c := newClient(t, Config{Allow: loopback})
	for want, kept := range map[int]int{0: 1024, 1: 1, 10_000: 10_000, 64 << 10: 20_000, 1 << 30: 20_000} {
		resp, err := c.Do(t.Context(), Request{URL: server.url(), KeepBody: want})
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.Body) != kept || resp.Truncated != (kept < 20_000) {
			t.Errorf("KeepBody %d kept %d bytes, truncated %v", want, len(resp.Body), resp.Truncated)
		}
	}
	if n := server.accepted.Load(); n != 1 {
		t.Errorf("%d connections: a body of 20 kB is read to its end whatever is kept", n)
	}
}

// TestConnectionsAreReused sends to many hosts from many goroutines: one connection per host and goroutine is all that is opened.
func TestConnectionsAreReused(t *testing.T) {
	const hosts, senders, rounds = 40, 4, 10
	var servers []*rawServer
	for range hosts {
		servers = append(servers, newRawServer(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")))
	}
	c := newClient(t, Config{Allow: loopback})
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range rounds {
				for _, s := range servers {
					if _, err := c.Do(t.Context(), Request{URL: s.url(), Body: []byte("{}")}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	for _, s := range servers {
		if n := s.accepted.Load(); n > senders {
			t.Errorf("%d connections to one host for %d senders", n, senders)
		}
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := newRawServer(t, func(conn net.Conn) {
		_, _, _ = readRequest(bufio.NewReader(conn))
		cancel()
		untilClosed(conn)
	})
	c := newClient(t, Config{Allow: loopback})
	_, err := c.Do(ctx, Request{URL: server.url()})
	wantError(t, err, Canceled, PhaseWait)
	if !errors.Is(err, context.Canceled) {
		t.Error("the cause is not behind Unwrap")
	}
	_, err = c.Do(ctx, Request{URL: server.url()})
	wantError(t, err, Canceled)

	ctx, stop := context.WithCancelCause(t.Context())
	stop(io.ErrNoProgress)
	_, err = c.Do(ctx, Request{URL: server.url()})
	wantError(t, err, Canceled)
}

// bubble runs a server over pipes inside a synctest bubble and returns a Client whose every connection leads to it.
func bubble(t *testing.T, serve func(net.Conn)) *Client {
	return newClient(t, Config{Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			serve(theirs)
		}()
		return ours, nil
	}})
}

func TestParentDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := bubble(t, untilClosed)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Do(ctx, Request{URL: "http://partner.example/"})
		wantError(t, err, Timeout, PhaseWait)
	})
}

func TestDialThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient(t, Config{Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			time.Sleep(10 * time.Second)
			return nil, context.DeadlineExceeded
		}})
		_, err := c.Do(t.Context(), Request{URL: "http://partner.example/", Timeout: time.Second})
		wantError(t, err, Timeout, PhaseDNS)
		time.Sleep(20 * time.Second)
		_, err = c.Do(t.Context(), Request{URL: "http://partner.example/", Timeout: 20 * time.Second})
		wantError(t, err, Timeout, PhaseDNS)
	})
}
