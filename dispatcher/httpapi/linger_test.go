package httpapi

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// listen serves the house's API over TCP as ringback serve does, and returns its address.
func (h *house) listen() string {
	h.t.Helper()
	server := httptest.NewUnstartedServer(Linger(h.api, nil))
	server.Config.ReadTimeout = 15 * time.Second
	server.Start()
	h.t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// zeros is n bytes of nothing.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A client that writes the whole body before it reads, as Python's urllib does, reads every refusal, however long the body is.
func TestARefusalReachesWhoWritesBeforeReading(t *testing.T) {
	h := newHouse(t)
	addr := h.listen()
	const events, batch = "/companies/acme/events", "/companies/acme/events/batch"
	for _, c := range []struct {
		name, path, actor, header string
		mib                       float64
		chunked                   bool
		status                    int
	}{
		{"too long", events, "producer", "", 1.1, false, 413},
		{"too long", events, "producer", "", 8, false, 413},
		{"too long", events, "producer", "", 32, false, 413},
		{"too long, in chunks", events, "producer", "", 8, true, 413},
		{"no key", events, "", "", 0.5, false, 401},
		{"no key", events, "", "", 8, false, 401},
		{"no key, in chunks", events, "", "", 8, true, 401},
		{"another company's", events, "other producer", "", 8, false, 404},
		{"wrong role", events, "viewer", "", 8, false, 403},
		{"no such path", "/nothing", "producer", "", 8, false, 404},
		{"wrong method", "/healthz", "producer", "", 8, false, 405},
		{"wrong media type", events, "producer", "Content-Type: text/plain\r\n", 1, false, 415},
		{"compressed", events, "producer", "Content-Encoding: gzip\r\n", 8, false, 415},
		{"a batch too long", batch, "producer", "", 17, false, 413},
		{"a batch with no key", batch, "", "", 17, false, 401},
		{"no body wanted", "/callback-types", "producer", "", 8, false, 405},
	} {
		t.Run(fmt.Sprintf("%s %g MiB", c.name, c.mib), func(t *testing.T) {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			length := int64(c.mib * (1 << 20))
			framing, begin, end := fmt.Sprintf("Content-Length: %d\r\n\r\n", length), "", ""
			if c.chunked {
				framing, begin, end = "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n", length), "\r\n0\r\n\r\n"
			}
			authorization := ""
			if c.actor != "" {
				authorization = "Authorization: Bearer " + h.keys[c.actor] + "\r\n"
			}
			head := "POST " + c.path + " HTTP/1.1\r\nHost: x\r\n" + authorization + c.header + framing + begin
			// Small writes, so that the server has time to answer, and to close, while the body is on its way.
			if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, length), strings.NewReader(end)), make([]byte, 8<<10)); err != nil {
				t.Fatalf("writing the request: %v", err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("reading the answer: %v", err)
			}
			defer func() { _ = resp.Body.Close() }()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != c.status || !strings.Contains(string(body), `"detail"`) {
				t.Errorf("%d, want %d: %s %v", resp.StatusCode, c.status, body, err)
			}
		})
	}
}

// A body that comes in bits is read on for as long as it comes, whatever its framing, and a refusal reaches its sender. One that only trickles
// is not.
func TestARefusalReachesWhoSendsSlowly(t *testing.T) {
	for name, c := range map[string]struct {
		bytes  int // of the body
		pieces int
		every  time.Duration
		most   int // how many pieces are read at most
	}{
		"64 KiB at a time": {640 << 10, 10, 300 * time.Millisecond, 10},
		"1 KiB at a time":  {20 << 10, 20, 300 * time.Millisecond, 20},
		"a byte at a time": {100, 100, 500 * time.Millisecond, 5},
	} {
		for framing, head := range map[string]string{
			"":            fmt.Sprintf("Content-Length: %d\r\n\r\n", c.bytes),
			", one chunk": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", c.bytes),
		} {
			t.Run(name+framing, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					listener := make(pipes)
					web := &http.Server{Handler: Linger(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }), nil)}
					var running sync.WaitGroup
					running.Go(func() { _ = web.Serve(listener) })
					conn := listener.dial()
					running.Go(func() {
						resp, err := http.ReadResponse(bufio.NewReader(conn), nil) //nolint:bodyclose // the connection ends with the test
						if err != nil || resp.StatusCode != http.StatusUnauthorized {
							t.Errorf("reading the answer: %v", err)
						} else if _, err := io.Copy(io.Discard, resp.Body); err != nil || !resp.Close {
							t.Errorf("reading the answer: close %t, %v", resp.Close, err)
						}
					})
					if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n"+head); err != nil {
						t.Fatal(err)
					}
					taken := 0
					for range c.pieces {
						time.Sleep(c.every)
						if _, err := conn.Write(make([]byte, c.bytes/c.pieces)); err != nil {
							break
						}
						taken++
					}
					if taken > c.most || c.most == c.pieces && taken < c.pieces {
						t.Errorf("%d of %d pieces were taken, want %d", taken, c.pieces, c.most)
					}
					_ = conn.Close()
					_ = web.Close()
					running.Wait()
				})
			})
		}
	}
}

// A caller who reads while it writes need not send a body that nobody wants, and one who asks first is not told to go on.
func TestARefusalComesBeforeTheBody(t *testing.T) {
	h := newHouse(t)
	addr := h.listen()
	for _, expect := range []string{"", "Expect: 100-continue\r\n"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, "POST /companies/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+h.keys["producer"]+"\r\n"+expect+"Content-Length: 99999999\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
			t.Errorf("%q: %d, close %v: %s %v", expect, resp.StatusCode, resp.Close, body, err)
		}
		_ = resp.Body.Close()
		_ = conn.Close()
	}
}

// A refusal of a body that is there costs no connection.
func TestARefusalKeepsTheConnection(t *testing.T) {
	h := newHouse(t)
	conn, err := net.Dial("tcp", h.listen())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	answers := bufio.NewReader(conn)
	for range 3 {
		body := event("x")
		if _, err := fmt.Fprintf(conn, "POST /companies/acme/events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusUnauthorized || resp.Close {
			t.Errorf("%d, close %v: %v", resp.StatusCode, resp.Close, err)
		}
		_ = resp.Body.Close()
	}
}

// Whoever waits for leave to send a body, and is refused, sends none: the connection is not kept for it. With leave, what is on its way is read.
func TestARefusalBeforeTheBodyIsNotWaitedFor(t *testing.T) {
	for name, reads := range map[string]bool{"refused at once": false, "refused after a look": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				listener := make(pipes)
				began := time.Now()
				refuse := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if reads {
						_, _ = r.Body.Read(make([]byte, 1))
					}
					w.WriteHeader(http.StatusUnauthorized)
				})
				web := &http.Server{Handler: Linger(refuse, nil), ReadTimeout: 15 * time.Second}
				var running sync.WaitGroup
				running.Go(func() { _ = web.Serve(listener) })
				conn := listener.dial()
				if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 10000\r\n\r\n"); err != nil {
					t.Fatal(err)
				}
				answers := bufio.NewReader(conn)
				resp, err := http.ReadResponse(answers, nil) //nolint:bodyclose // the connection ends with the test
				if reads {
					if err != nil || resp.StatusCode != http.StatusContinue {
						t.Fatalf("%+v, %v", resp, err)
					}
					if _, err := conn.Write(make([]byte, 1000)); err != nil {
						t.Fatal(err)
					}
					resp, err = http.ReadResponse(answers, nil) //nolint:bodyclose // the connection ends with the test
				}
				if err != nil || resp.StatusCode != http.StatusUnauthorized || !resp.Close {
					t.Errorf("%+v, %v", resp, err)
				}
				if _, err := io.Copy(io.Discard, answers); err != nil {
					t.Error(err)
				}
				if kept := time.Since(began); kept >= lingerStall != reads || kept > lingerStall+time.Second {
					t.Errorf("the connection was kept for %s", kept)
				}
				_ = web.Close()
				running.Wait()
			})
		})
	}
}
