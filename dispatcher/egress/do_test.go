package egress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestDo(t *testing.T) {
	requests := make(chan []string, 1)
	bodies := make(chan string, 1)
	server := newRawServer(t, func(conn net.Conn) {
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

// TestAnswers is about what strange servers say: which answers are answers, and which are not.
func TestAnswers(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(bytes.Repeat([]byte{0}, 1<<20))
	_ = z.Close()

	for name, tt := range map[string]struct {
		raw       string
		status    int
		body      string
		truncated bool
		reason    Reason
	}{
		"204":                           {raw: "HTTP/1.1 204 No Content\r\n\r\n", status: 204},
		"204 with a body":               {raw: "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", status: 204},
		"HTTP/1.0":                      {raw: "HTTP/1.0 200 OK\r\n\r\nhi", status: 200, body: "hi"},
		"HTTP/1.0, no reason":           {raw: "HTTP/1.0 200\r\n\r\n", status: 200},
		"wrong content type":            {raw: "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\n<p>", status: 200, body: "<p>"},
		"chunked":                       {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: y\r\n\r\n", status: 200, body: "hi"},
		"bad chunks":                    {raw: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi", status: 200, truncated: true},
		"short body":                    {raw: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi", status: 200, body: "hi", truncated: true},
		"more than a KiB":               {raw: "HTTP/1.1 500 No\r\nContent-Length: 1025\r\n\r\n" + strings.Repeat("x", 1025), status: 500, body: strings.Repeat("x", 1024), truncated: true},
		"exactly a KiB":                 {raw: "HTTP/1.1 500 No\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024), status: 500, body: strings.Repeat("x", 1024)},
		"exactly 64 KiB":                {raw: "HTTP/1.1 500 No\r\n\r\n" + strings.Repeat("x", 64<<10), status: 500, body: strings.Repeat("x", 1024), truncated: true},
		"gzip stays as it is":           {raw: fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", zipped.Len(), zipped.String()), status: 200, body: zipped.String()[:1024], truncated: true},
		"early hints":                   {raw: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", status: 204},
		"302":                           {raw: "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", status: 302},
		"429":                           {raw: "HTTP/1.1 429 Slow\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n", status: 429},
		"599":                           {raw: "HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n", status: 599},
		"two answers":                   {raw: "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", status: 204},
		"status 99":                     {raw: "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", reason: BadResponse},
		"four digits":                   {raw: "HTTP/1.1 2000 Odd\r\n\r\n", reason: BadResponse},
		"not HTTP":                      {raw: "SSH-2.0-OpenSSH_9.2\r\n", reason: BadResponse},
		"not even text":                 {raw: "\x00\x01\x02\x03\r\n\r\n", reason: BadResponse},
		"TLS alert":                     {raw: "\x15\x03\x01\x00\x02\x02\x46\r\n", reason: BadResponse},
		"malformed header":              {raw: "HTTP/1.1 200 OK\r\nno colon\r\n\r\n", reason: BadResponse},
		"bad length":                    {raw: "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", reason: BadResponse},
		"two lengths":                   {raw: "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", reason: BadResponse},
		"nothing":                       {raw: "", reason: ConnectionClosed},
		"end in the headers":            {raw: "HTTP/1.1 200 OK\r\nX: y\r\n", reason: ConnectionClosed},
		"20 KiB of headers":             {raw: "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: 0123456789012345678901234567890123456789\r\n", 500) + "\r\n", reason: BadResponse},
		"one long header":               {raw: "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20), reason: BadResponse},
		"flood of informational answer": {raw: strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 10_000), reason: BadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			server := newRawServer(t, func(conn net.Conn) {
				if _, _, err := readRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.WriteString(conn, tt.raw)
					_ = conn.(*net.TCPConn).CloseWrite()
					untilClosed(conn)
				}
			})
			c := newClient(t, Config{Allow: loopback})
			resp, err := c.Do(t.Context(), Request{URL: server.url(), Body: []byte("{}")})
			if tt.reason != "" {
				wantError(t, err, tt.reason, PhaseWait)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != tt.status || string(resp.Body) != tt.body || resp.Truncated != tt.truncated {
				t.Errorf("got %d, %d bytes of body, truncated %v; want %d, %d, %v", resp.Status, len(resp.Body), resp.Truncated, tt.status, len(tt.body), tt.truncated)
			}
			if n := server.accepted.Load(); n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

func TestRedirectsAreAnswers(t *testing.T) {
	target := newRawServer(t, answering("HTTP/1.1 204 No Content\r\n\r\n"))
	c := newClient(t, Config{Allow: loopback})
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, location := range []string{target.url(), "/loop", "file:///etc/passwd", "gopher://127.0.0.1/"} {
			server := newRawServer(t, answering(fmt.Sprintf("HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n", status, location)))
			resp, err := c.Do(t.Context(), Request{URL: server.url(), Body: []byte("{}")})
			if err != nil || resp.Status != status || resp.Header.Get("Location") != location {
				t.Errorf("%d to %s: %v, %v", status, location, resp, err)
			}
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

func TestEndlessBody(t *testing.T) {
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 4096)
	for name, head := range map[string]string{
		"1 GiB announced": "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n",
		"unannounced":     "HTTP/1.1 200 OK\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			server := newRawServer(t, func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				_, err := io.WriteString(conn, head)
				for err == nil {
					_, err = conn.Write(chunk)
				}
			})
			c := newClient(t, Config{Allow: loopback})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			resp, err := c.Do(t.Context(), Request{URL: server.url(), Body: []byte("{}")})
			if err != nil || resp.Status != 200 || len(resp.Body) != 1024 || !resp.Truncated {
				t.Fatalf("got %v, %v", resp, err)
			}
			runtime.ReadMemStats(&after)
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
				t.Errorf("%d bytes allocated for one attempt, want less than a MiB", n)
			}
		})
	}
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

// TestTimeouts holds, on a fake clock, that an attempt ends at its timeout to the millisecond whatever the other side does.
func TestTimeouts(t *testing.T) {
	drip := func(conn net.Conn, s string, pause time.Duration) {
		for i := range len(s) {
			if _, err := conn.Write([]byte{s[i]}); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	for name, tt := range map[string]struct {
		url    string
		serve  func(net.Conn)
		phase  string // empty: an answer
		size   int    // of the request's body
		asked  time.Duration
		wanted time.Duration
	}{
		"never answers": {
			serve: untilClosed, phase: PhaseWait, asked: 20 * time.Second, wanted: 20 * time.Second,
		},
		"default": {
			serve: untilClosed, phase: PhaseWait, wanted: DefaultTimeout,
		},
		"cut to the longest": {
			serve: untilClosed, phase: PhaseWait, asked: time.Hour, wanted: DefaultMaxTimeout,
		},
		"never reads": {
			serve: func(net.Conn) { time.Sleep(30 * time.Second) }, size: 1 << 20, phase: PhaseWrite, asked: 5 * time.Second, wanted: 5 * time.Second,
		},
		"never shakes hands": {
			url: "https://partner.example/", serve: untilClosed, phase: PhaseTLS, asked: 5 * time.Second, wanted: 5 * time.Second,
		},
		"handshake is bounded by itself": {
			url: "https://partner.example/", serve: untilClosed, phase: PhaseTLS, asked: time.Minute, wanted: connectTimeout,
		},
		"headers drip": {
			serve: func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				drip(conn, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 1000), 100*time.Millisecond)
			}, phase: PhaseWait, asked: 10 * time.Second, wanted: 10 * time.Second,
		},
		"informational answers drip": {
			serve: func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				drip(conn, strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000), 10*time.Millisecond)
			}, phase: PhaseWait, asked: 3 * time.Second, wanted: 3 * time.Second,
		},
		"body drips": {
			serve: func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
				drip(conn, strings.Repeat("x", 10_000), 100*time.Millisecond)
			}, asked: 10 * time.Second, wanted: 10 * time.Second,
		},
		"long body that stops after what is kept": {
			serve: func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 1024))
				untilClosed(conn)
			}, asked: 10 * time.Second, wanted: 0,
		},
		"answer, then silence": {
			serve: func(conn net.Conn) {
				_, _, _ = readRequest(bufio.NewReader(conn))
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
				untilClosed(conn)
			}, asked: 10 * time.Second, wanted: 10 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				defer time.Sleep(time.Minute) // until the server has noticed
				c := bubble(t, tt.serve)
				if tt.url == "" {
					tt.url = "http://partner.example/hook"
				}
				start := time.Now()
				resp, err := c.Do(t.Context(), Request{URL: tt.url, Body: make([]byte, max(tt.size, 2)), Timeout: tt.asked})
				if took := time.Since(start); took != tt.wanted {
					t.Errorf("took %s, want %s", took, tt.wanted)
				}
				if tt.phase != "" {
					wantError(t, err, Timeout, tt.phase)
					if total := asError(t, err).Timing.Total; total != tt.wanted {
						t.Errorf("total is %s, want %s", total, tt.wanted)
					}
				} else if err != nil || resp.Status != 200 || !resp.Truncated {
					t.Errorf("got %v, %v, want the answer whose body did not end", resp, err)
				}
			})
		})
	}
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
