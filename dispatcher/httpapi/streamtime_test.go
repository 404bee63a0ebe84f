package httpapi

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher"
	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// inBubble opens a house on a Redis in memory, in which time is free. It serves over pipes, whose ends take nothing that is not read.
func inBubble(t *testing.T, f func(t *testing.T, h *house, web pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		mini := miniredis.NewMiniRedis()
		mini.ClockTTL(true)
		h := &house{t: t, log: &logBook{}, keys: map[string]string{}}
		h.rdb = redis.NewClient(&redis.Options{
			Dialer: func(context.Context, string, string) (net.Conn, error) { return mini.Dial() }, Addr: "127.0.0.1:6379",
			Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		})
		logger := slog.New(slog.NewTextHandler(h.log, nil))
		keyset, err := registry.NewKeyset()
		h.must(err)
		reg, err := registry.New(registry.Config{Redis: h.rdb, Catalogue: payloads.Builtin(), Keyset: keyset, Logger: logger})
		h.must(err)
		h.egress, err = egress.New(egress.Config{})
		h.must(err)
		h.client, err = dispatcher.New(dispatcher.Config{Redis: h.rdb, Registry: reg, Egress: h.egress, Logger: logger})
		h.must(err)
		h.api, err = build(Config{Client: h.client, Registry: reg, Keys: registry.NewKeys(h.rdb), Redis: h.rdb, Logger: logger})
		h.must(err)
		for _, actor := range []string{"operator", "partner"} {
			h.newKey(actor)
		}
		web := make(pipes)
		server := &http.Server{Handler: h.api}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(web) })
		defer func() { // wherever the test ends
			_ = server.Close()
			serving.Wait()
			_ = h.client.Close()
			h.egress.Close()
			_ = h.rdb.Close()
			mini.Close()
		}()
		f(t, h, web)
	})
}

// A wire is a connection to a house in a bubble.
type wire struct {
	*stream
	conn net.Conn
}

// wire opens a stream over a pipe, as the partner.
func (h *house) wire(web pipes) wire {
	h.t.Helper()
	w := wire{&stream{t: h.t}, web.dial()}
	h.must(w.conn.SetReadDeadline(time.Now().Add(time.Hour))) // what does not come fails the test
	w.in = bufio.NewReader(w.conn)
	w.ask(h.keys["partner"], http.MethodGet, deliveriesStream)
	w.in = bufio.NewReaderSize(w.resp.Body, 16)
	return w
}

// ask makes a request over the connection. Its answer's header comes at once.
func (w wire) ask(key, method, path string) {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://x"+path, nil)
	if err == nil {
		r.Header.Set("Authorization", "Bearer "+key)
		err = r.Write(w.conn)
	}
	if err == nil {
		w.resp, err = http.ReadResponse(w.in, r) //nolint:bodyclose // it ends with the connection
	}
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
}

// lines are the lines of the next block, and after how long the whole of it is there.
func (w wire) lines() (lines []string, after time.Duration) {
	w.t.Helper()
	for began := time.Now(); ; {
		line, err := w.in.ReadString('\n')
		if err != nil {
			w.t.Fatalf("after %q: %v", lines, err)
		}
		if line == "\n" {
			return lines, time.Since(began)
		}
		lines = append(lines, strings.TrimSuffix(line, "\n"))
	}
}

// served is how many streams are counted. Once nobody watches, nobody asks Redis either.
func (h *house) served() int {
	h.api.streams.mu.Lock()
	defer h.api.streams.mu.Unlock()
	return h.api.streams.all
}

// TestAStreamIsNeverSilent for longer than proxies and browsers bear, and says each time where it is. It ends within a second of its key's revocation, however
// little happens; its connection serves on, also where the server gives writing no time of its own.
func TestAStreamIsNeverSilent(t *testing.T) {
	inBubble(t, func(t *testing.T, h *house, web pipes) {
		h.call("operator", "POST", h.register("acme")+"/pause", "").want(http.StatusOK)
		w := h.wire(web)
		if got := w.resp.Header.Get("X-Accel-Buffering"); got != "no" {
			t.Errorf("X-Accel-Buffering: %q: nginx keeps what comes", got)
		}
		lines, after := w.lines()
		if len(lines) != 2 || lines[0] != "retry: 2000" || !strings.HasPrefix(lines[1], "id: ") || after > time.Second {
			t.Fatalf("it begins with %q, after %s", lines, after)
		}
		place := lines[1]
		wantBeat := func(want time.Duration) {
			t.Helper()
			if lines, after := w.lines(); len(lines) != 2 || lines[0] != ":" || lines[1] != place || after != want {
				t.Errorf("%q comes after %s, want a comment and %q after %s", lines, after, place, want)
			}
		}
		wantBeat(heartbeat)
		wantBeat(heartbeat)
		time.Sleep(heartbeat / 2)
		h.send("acme", "one")
		lines, _ = w.lines()
		if len(lines) != 3 || lines[1] != "event: delivery" {
			t.Fatalf("%q", lines)
		}
		place = lines[0]
		wantBeat(heartbeat) // after what came last

		h.must(registry.NewKeys(h.rdb).Revoke(t.Context(), h.keys["partner"][:12])) // as another process does
		began := time.Now()
		if rest, err := io.ReadAll(w.in); err != nil || len(rest) > 0 || time.Since(began) > time.Second {
			t.Errorf("its key is revoked, and %s later it ends with %q, %v", time.Since(began), rest, err)
		}
		time.Sleep(2 * streamPatience)
		w.in = bufio.NewReader(w.conn)
		if w.ask(h.keys["operator"], http.MethodGet, "/healthz"); w.resp.StatusCode != http.StatusOK {
			t.Errorf("the next request is answered %d", w.resp.StatusCode)
		}
	})
}

// TestAStreamThatNobodyReads is given up after a while, and one whose reader is gone at once. Neither leaves anything behind: nobody looks for changes any more.
func TestAStreamThatNobodyReads(t *testing.T) {
	for name, leave := range map[string]struct {
		do    func(net.Conn)
		after time.Duration
	}{
		"is given up":        {func(net.Conn) {}, heartbeat + streamPatience},
		"ends with its conn": {func(c net.Conn) { _ = c.Close() }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *house, web pipes) {
				h.register("acme")
				count := &looks{}
				h.rdb.AddHook(count)
				w := h.wire(web)
				w.lines()
				if h.served() != 1 {
					t.Fatal("it is not counted")
				}
				leave.do(w.conn)
				if leave.after > 0 {
					time.Sleep(leave.after - time.Second)
					if h.served() != 1 {
						t.Error("it is given up too soon")
					}
					time.Sleep(2 * time.Second)
				}
				synctest.Wait()
				if n := h.served(); n != 0 {
					t.Errorf("%d streams are served", n)
				}
				time.Sleep(time.Second) // a look may be under way
				before := count.looked()
				time.Sleep(time.Minute)
				if n := count.looked() - before; before == 0 || n > 0 {
					t.Errorf("%d looks before, and %d for nobody", before, n)
				}
				_ = w.conn.Close()
			})
		})
	}
}

// looked is how often a process has looked for changes.
func (l *looks) looked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.trips)
}
