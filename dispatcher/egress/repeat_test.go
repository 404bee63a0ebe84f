package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// TestRepeatOverHTTP2: the end of a connection that had served before is repeated, the refusal of a request is not.
func TestRepeatOverHTTP2(t *testing.T) {
	for name, tt := range map[string]struct {
		second     func(p *h2Peer) // what becomes of the second request on the connection
		repeatable bool
		seen       int64
		reason     Reason // of the second request, empty: 204
	}{
		"closed":            {second: func(p *h2Peer) { _ = p.conn.Close() }, repeatable: true, seen: 3},
		"reset":             {second: func(p *h2Peer) { breakOff(p.conn) }, repeatable: true, seen: 3},
		"closed, but once":  {second: func(p *h2Peer) { _ = p.conn.Close() }, seen: 2, reason: ConnectionClosed},
		"refused":           {second: func(p *h2Peer) { p.reset(http2.ErrCodeInternal) }, repeatable: true, seen: 2, reason: Reset},
		"protocol broken":   {second: func(p *h2Peer) { p.data("hi", true) }, repeatable: true, seen: 2, reason: BadResponse},
		"silent":            {second: func(p *h2Peer) { p.mute.Store(true) }, repeatable: true, seen: 2, reason: Timeout},
		"closed every time": {second: func(p *h2Peer) { _ = p.conn.Close() }, repeatable: true, seen: 3, reason: ConnectionClosed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAuthority(t)
				cert := a.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"partner.example"} })
				var seen atomic.Int64
				row := hostile{h2: func(p *h2Peer) {
					if p.n == 2 || p.n == 3 && name == "closed every time" {
						tt.second(p)
						return
					}
					p.status("204")
				}}
				c := newClient(t, Config{TLS: &tls.Config{RootCAs: a.roots}, Dial: func(context.Context, string, string) (net.Conn, error) {
					ours, theirs := newWire()
					go func() {
						secure := tls.Server(theirs, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}})
						if secure.Handshake() == nil {
							h2Serve(secure, &row, &seen)
						}
						_ = theirs.Close()
					}()
					return ours, nil
				}})
				req := Request{URL: "https://partner.example/hook", Body: []byte("{}"), Repeatable: tt.repeatable}
				if _, err := c.Do(t.Context(), req); err != nil {
					t.Fatal(err)
				}
				resp, err := c.Do(t.Context(), req)
				if tt.reason != "" {
					wantError(t, err, tt.reason)
				} else if err != nil || resp.Status != 204 || !resp.Timing.Repeated || resp.Timing.Reused {
					t.Errorf("got %+v, %v", resp, err)
				}
				if n := seen.Load(); n != tt.seen {
					t.Errorf("it saw %d requests, want %d", n, tt.seen)
				}
				c.Close()
				time.Sleep(10 * time.Minute)
			})
		})
	}
}

// TestRepeat counts what a receiver sees of one request that may be repeated, and of one that may not. The connection has served before,
// but where fresh is set; five more such are kept.
func TestRepeat(t *testing.T) {
	ok := func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n") }
	hang := untilClosed
	shut := func(conn net.Conn) { _ = conn.Close() }
	for name, tt := range map[string]repeatCase{
		"served":                          {old: ok, new: ok, repeatable: 1, once: 1},
		"kept ones closed":                {old: shut, new: ok, repeatable: 2, once: 1},
		"kept ones reset":                 {old: reset, new: ok, repeatable: 2, once: 1},
		"all closed":                      {old: shut, new: shut, repeatable: 2, once: 1, reason: ConnectionClosed},
		"all reset":                       {old: reset, new: reset, repeatable: 2, once: 1, reason: Reset},
		"kept ones hang":                  {old: hang, new: ok, repeatable: 1, once: 1, reason: Timeout},
		"the new one hangs":               {old: shut, new: hang, repeatable: 2, once: 1, reason: Timeout},
		"closed after a byte":             {old: func(c net.Conn) { _, _ = c.Write([]byte("H")); shut(c) }, new: ok, repeatable: 1, once: 1, reason: BadResponse},
		"closed within the headers":       {old: func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 204 No Content\r\nX: y\r\n"); shut(c) }, new: ok, repeatable: 1, once: 1, reason: ConnectionClosed},
		"not HTTP":                        {old: func(c net.Conn) { _, _ = io.WriteString(c, "no\r\n\r\n"); shut(c) }, new: ok, repeatable: 1, once: 1, reason: BadResponse},
		"closed, and never served before": {fresh: true, new: shut, repeatable: 1, once: 1, reason: ConnectionClosed},
	} {
		for _, repeatable := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %v", name, repeatable), func(t *testing.T) {
				t.Parallel()
				tt.try(t, repeatable)
			})
		}
	}
}

// A repeatCase is a receiver, and how often it has to see a request.
type repeatCase struct {
	fresh      bool
	old, new   func(net.Conn) // for a request on a kept, and on a new connection
	repeatable int            // requests seen
	once       int
	reason     Reason // of the repeatable one, empty: 204
}

func (tt repeatCase) try(t *testing.T, repeatable bool) {
	receiver := &repeatReceiver{repeatCase: tt, gathered: make(chan struct{})}
	server := newRawServer(t, receiver.serve)
	c := newClient(t, Config{Allow: loopback})
	if !tt.fresh {
		receiver.warm(t, c, server.url())
	}
	want := tt.once
	if repeatable {
		want = tt.repeatable
	}
	timeout := 30 * time.Second
	if tt.reason == Timeout {
		timeout = 2 * time.Second
	}
	req := Request{URL: server.url(), Body: []byte("{}"), Header: http.Header{"Webhook-Id": {"dlv_1"}, "Idempotency-Key": {"k"}}, Timeout: timeout, Repeatable: repeatable}
	resp, err := c.Do(t.Context(), req)
	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	if ids := receiver.ids; len(ids) != want || want == 2 && ids[0] != ids[1] {
		t.Errorf("the receiver saw %v, want %d requests of one id", ids, want)
	}
	var timing Timing
	if repeatable && tt.reason == "" {
		if err != nil {
			t.Fatal(err)
		}
		timing = resp.Timing
	} else if err != nil {
		timing = asError(t, err).Timing
		if repeatable {
			wantError(t, err, tt.reason)
		}
	}
	if timing.Repeated != (want == 2) {
		t.Errorf("timing says repeated: %v, want %v", timing.Repeated, want == 2)
	}
}

// warmConns is how many connections a repeatReceiver is warmed with: more than the resends of one request use up.
const warmConns = 6

// A repeatReceiver behaves as its case says, once it is not being warmed any more.
type repeatReceiver struct {
	repeatCase
	warming  atomic.Bool
	together atomic.Int64  // requests that warm it
	gathered chan struct{} // closed when all of them are there

	mu  sync.Mutex
	ids []string // of the requests it saw
}

// warm leaves kept connections to the receiver: each takes a request at the same time as all others.
func (r *repeatReceiver) warm(t *testing.T, c *Client, url string) {
	t.Helper()
	r.warming.Store(true)
	var wg sync.WaitGroup
	for range warmConns {
		wg.Go(func() {
			if _, err := c.Do(t.Context(), Request{URL: url}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	r.warming.Store(false)
}

func (r *repeatReceiver) serve(conn net.Conn) {
	from := bufio.NewReader(conn)
	for n := 0; ; n++ {
		lines, _, err := readRequest(from)
		if err != nil {
			return
		}
		if r.warming.Load() {
			if r.together.Add(1) == warmConns {
				close(r.gathered)
			}
			<-r.gathered
			_, _ = io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n")
			continue
		}
		r.mu.Lock()
		r.ids = append(r.ids, lines[slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "Webhook-Id: ") })])
		r.mu.Unlock()
		if n > 0 {
			r.old(conn)
		} else {
			r.new(conn)
		}
	}
}
