package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestHostileReceivers runs the whole table: every behaviour, on each kind of connection where it makes sense.
func TestHostileReceivers(t *testing.T) {
	var a *authority
	var cert tls.Certificate
	synctest.Test(t, func(t *testing.T) { // it is a long time ago in a bubble
		a = newAuthority(t)
		cert = a.leaf(t, func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{"partner.example"} })
	})
	for _, row := range hostiles() {
		if row.raw == "" && row.serve == nil && row.shake == nil && row.h2 == nil && row.name != "nothing" {
			t.Fatalf("%s does nothing", row.name)
		}
		if row.serve == nil {
			raw := []byte(row.raw)
			row.serve = func(conn net.Conn) {
				if _, _, err := readRequest(bufio.NewReader(conn)); err == nil {
					_, _ = conn.Write(raw)
				}
			}
		}
		secure := func(protocol string, serve func(net.Conn)) func(net.Conn) {
			return func(conn net.Conn) {
				cfg := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{protocol}}
				c := tls.Server(conn, cfg)
				if c.Handshake() == nil {
					serve(c)
				}
			}
		}
		run := func(scheme, kind string, serve func(net.Conn), seen *atomic.Int64) {
			t.Run(kind+"/"+row.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { row.check(t, scheme, a.roots, serve, seen) })
			})
		}
		switch {
		case row.h2 != nil:
			seen := new(atomic.Int64)
			run("https", "h2", secure("h2", func(conn net.Conn) { h2Serve(conn, &row, seen) }), seen)
		case row.shake != nil:
			run("https", "tls", row.shake, nil)
		default:
			run("http", "plain", row.serve, nil)
			run("https", "tls", secure("http/1.1", row.serve), nil)
		}
	}
}

// check sends what row asks for to serve and compares what comes of it.
func (row *hostile) check(t *testing.T, scheme string, roots *x509.CertPool, serve func(net.Conn), seen *atomic.Int64) {
	c := newClient(t, Config{TLS: &tls.Config{RootCAs: roots}, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := newWire()
		go func() {
			serve(theirs)
			_ = theirs.Close()
		}()
		return ours, nil
	}})
	req := Request{URL: scheme + "://partner.example/hook", Body: make([]byte, max(row.size, 2)), Timeout: row.timeout}
	for range max(row.sends, 1) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		resp, err := c.Do(t.Context(), req)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
			t.Errorf("%d KiB were allocated for one attempt, and both its ends; want less than a MiB", n>>10)
		}
		if took != row.took && row.took != 1 {
			t.Errorf("took %s, want %s", took, row.took)
		}
		switch {
		case row.reason != "":
			e := asError(t, err)
			if want := max(row.phase, PhaseWait); e.Reason != row.reason || e.Phase != row.phase && row.phase != "any" && (row.phase != "" || e.Phase != PhaseWait) {
				t.Errorf("%v, want %s in %s (cause: %v)", e, row.reason, want, e.Unwrap())
			}
		case err != nil:
			t.Errorf("%v (cause: %v)", err, errors.Unwrap(err))
		case !strings.HasPrefix(string(resp.Body), row.begins):
			t.Errorf("the body begins with %q", resp.Body[:2])
		case resp.Status != row.status || len(resp.Body) != row.body || resp.Truncated != row.truncated:
			t.Errorf("got %d, %d bytes of body, truncated %v; want %d, %d, %v", resp.Status, len(resp.Body), resp.Truncated, row.status, row.body, row.truncated)
		}
		synctest.Wait()
	}
	if want := max(row.requests, row.sends, 1); seen != nil && seen.Load() != int64(want) {
		t.Errorf("it saw %d requests, want %d", seen.Load(), want)
	}
	c.Close()
	time.Sleep(10 * time.Minute) // until both ends have noticed
}
