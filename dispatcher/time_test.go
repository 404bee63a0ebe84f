package dispatcher

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// What is about time runs whole in a bubble, on fake time: asynq, go-redis, miniredis and net/http over pipes.

// inBubble opens a house in which time is free. No other test runs meanwhile: a bubble takes all of a core, which those on a real clock need.
func inBubble(t *testing.T, f func(h *house), options ...houseOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		rdb := redis.NewClient(&redis.Options{
			Dialer:   func(context.Context, string, string) (net.Conn, error) { return roomy(m.Dial()) },
			Addr:     "127.0.0.1:6379", // never dialled; a name would be looked up
			Protocol: 2, DisableIdentity: true, PoolSize: 100,
			ReadBufferSize: 4096, WriteBufferSize: 4096, // a test has many connections, and little goes over each
		})
		p := newPartner(t)
		p.host = "partner.example"
		l := newPipeListener()
		server := &http.Server{Handler: p}
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(l) })
		h := furnish(t, rdb, egress.Config{Dial: l.dial}, p, options...)
		defer func() { // wherever the test ends
			for _, stop := range h.stops {
				stop()
			}
			h.egress.Close()
			_ = server.Close()
			wg.Wait()
			_ = rdb.Close()
			m.Close()
		}()
		h.poll, h.mini = 2*time.Second, m // half of what an idle bubble costs are looks at lanes
		f(h)
	})
}

// A roomyConn takes what is written without waiting for its reader, as a network does: else a pipeline that is longer than the server's buffer, and
// the answer to its first command, wait for each other.
type roomyConn struct {
	net.Conn
	writes chan []byte
	done   chan struct{}
	once   sync.Once
}

func roomy(conn net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	c := &roomyConn{Conn: conn, writes: make(chan []byte, 1000), done: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-c.writes:
				_, _ = c.Conn.Write(b)
			case <-c.done:
				return
			}
		}
	}()
	return c, nil
}

func (c *roomyConn) Write(b []byte) (int, error) {
	select {
	case c.writes <- slices.Clone(b):
		return len(b), nil
	case <-c.done:
		return 0, net.ErrClosed
	}
}

func (c *roomyConn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// SetWriteDeadline and SetDeadline bound nothing that is written: what was taken goes its way.
func (c *roomyConn) SetWriteDeadline(time.Time) error { return nil }
func (c *roomyConn) SetDeadline(at time.Time) error   { return c.SetReadDeadline(at) }

// A pipeListener accepts the other ends of what dial returns.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, io.EOF
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// wantGaps checks the times between the partner's requests: each at least min, and at most max plus the slack that asynq's whole seconds,
// its forwarder and a poll each second take.
func (h *house) wantGaps(gaps ...[2]time.Duration) {
	h.t.Helper()
	got := h.partner.requests()
	if len(got) != len(gaps)+1 {
		h.t.Fatalf("%d requests, want %d", len(got), len(gaps)+1)
	}
	for i, gap := range gaps {
		took := got[i+1].at.Sub(got[i].at)
		if took < gap[0] || took > gap[1]+2*time.Second {
			h.t.Errorf("between attempts %d and %d: %s, want %s to %s", i+1, i+2, took, gap[0], gap[1])
		}
	}
}

func TestRetriesFollowTheSchedule(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503, 500, 404, 204))
		h.register("payment_proof", "")
		h.poll = time.Second
		stop := h.work()
		r := h.send(proof("p-1"))
		d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 5*time.Minute)
		// 5 s × 2.5, ± 20 %
		h.wantGaps([2]time.Duration{4 * time.Second, 6 * time.Second}, [2]time.Duration{10 * time.Second, 15 * time.Second},
			[2]time.Duration{25 * time.Second, 37500 * time.Millisecond})
		if len(d.Attempts) != 4 || d.Attempts[0].Reason != "status_503" || d.Attempts[3].Verdict != verdict.Delivered {
			t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		stop()
	})
}

// TestPatience has the reconciler's real times: for a delivery that has no task, a retry that has none, and an attempt that lost its owner.
func TestPatience(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(503, 204))
		cb := h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "10s"}`)
		ref := ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}
		began := time.Now()
		h.send(proof("p-1"))
		h.must(h.inspector().DeleteTask(laneOf(ref), taskID(ref, 1)))
		stop := h.work()
		h.eventually(time.Minute, func() bool { return len(h.partner.requests()) == 1 }, func() string { return "the reconciler does not bring it" })
		h.wantTook(began, patience)
		id := ref.DeliveryID()
		due := h.await(id, ledger.Retrying, time.Second).NextAttemptAt
		stop()
		h.must(h.inspector().DeleteTask(laneOf(ref), taskID(ref, 1)))
		stop = h.work()
		h.await(id, ledger.Delivered, time.Minute)
		h.wantTook(due, patience)

		stop()
		h.partner.answers(answering(204))
		h.send(proof("p-2"))
		began = time.Now()
		if a, err := h.worker().begin(h.t.Context(), ticket("p-2", cb.ID, 1), true, 0); err != nil || a == nil {
			t.Fatalf("%+v, %v", a, err)
		}
		stop = h.work()
		d := h.await(ledger.Ref{Company: acme, Event: "p-2", Callback: cb.ID}.DeliveryID(), ledger.Delivered, time.Minute)
		h.wantTook(began, cb.Timeout+ownerGrace)
		if len(d.Attempts) != 2 || d.Attempts[0].Reason != verdict.ReasonUnknown {
			t.Errorf("attempts: %+v", d.Attempts)
		}
		h.check()
		stop()
	})
}

// wantTook fails the test unless it took until then, and a round of the reconciler and a look at the lane more at most.
func (h *house) wantTook(since time.Time, least time.Duration) {
	h.t.Helper()
	if took := time.Since(since); took < least || took > least+reconcileEvery+2*h.poll {
		h.t.Errorf("it took %s, want %s", took, least)
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		value  func() string
		gap    [2]time.Duration
	}{
		"seconds on 429":   {429, func() string { return "20" }, [2]time.Duration{20 * time.Second, 21 * time.Second}},
		"seconds on 503":   {503, func() string { return "20" }, [2]time.Duration{20 * time.Second, 21 * time.Second}},
		"a date on 503":    {503, func() string { return time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat) }, [2]time.Duration{29 * time.Second, 31 * time.Second}},
		"not on 500":       {500, func() string { return "60" }, [2]time.Duration{4 * time.Second, 6 * time.Second}},
		"less than is due": {503, func() string { return "1" }, [2]time.Duration{4 * time.Second, 6 * time.Second}},
		"nonsense":         {503, func() string { return "soon" }, [2]time.Duration{4 * time.Second, 6 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(h *house) {
				h.partner.answers(func(_ *http.Request, n int) reply {
					if n == 0 {
						return reply{status: tc.status, header: http.Header{"Retry-After": {tc.value()}}}
					}
					return reply{status: 204}
				})
				h.register("payment_proof", "")
				h.poll = time.Second
				stop := h.work()
				r := h.send(proof("p-1"))
				h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 3*time.Minute)
				h.wantGaps(tc.gap)
				h.check()
				stop()
			})
		})
	}
}

func TestASilentPartnerTimesOut(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(_ *http.Request, n int) reply {
			if n > 0 {
				return reply{status: 204}
			}
			return reply{status: 200, after: func(ctx context.Context) { <-ctx.Done() }}
		})
		h.register("payment_proof", `"timeout": "7s"`)
		stop := h.work()
		r := h.send(proof("p-1"))
		d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, time.Minute)
		if a := d.Attempts[0]; a.Reason != "timeout" || a.Duration < 7*time.Second || a.Duration > 8*time.Second || a.StatusCode != 0 {
			t.Errorf("attempt: %+v", a)
		}
		h.check()
		stop()
	})
}

func TestTheScheduleEndsInTheDeadLetterBook(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(500, 500, 500, 204))
		h.register("payment_proof", `"retry": {"max_attempts": 3}`)
		stop := h.work()
		r := h.send(proof("p-1"))
		d := h.await(r.Deliveries[0].DeliveryID, ledger.Dead, time.Minute)
		if last := d.Attempts[len(d.Attempts)-1]; len(d.Attempts) != 3 || last.Verdict != verdict.Dead || last.Reason != "status_500" {
			t.Errorf("attempts: %+v", d.Attempts)
		}
		book, _, err := h.client.Deliveries(h.t.Context(), acme, Query{States: []ledger.State{ledger.Dead}})
		h.must(err)
		if len(book) != 1 || book[0].DeliveryID != d.DeliveryID {
			t.Errorf("the book: %+v", book)
		}
		h.check() // among others: the event does not age, asynq holds no archived task
		h.awaitIdle(time.Minute)

		d, err = h.client.Replay(h.t.Context(), acme, d.DeliveryID)
		h.must(err)
		d = h.await(d.DeliveryID, ledger.Delivered, time.Minute)
		if len(d.Attempts) != 4 || d.Attempts[3].Number != 4 {
			t.Errorf("a replay continues the numbers: %+v", d.Attempts)
		}
		h.check()
		stop()
	})
}

func TestGoneDisablesTheCallback(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(answering(410))
		cb := h.register("payment_proof", "")
		stop := h.work()
		r := h.send(proof("p-1"))
		d := h.await(r.Deliveries[0].DeliveryID, ledger.Dead, time.Minute)
		if a := d.Attempts[0]; a.Verdict != verdict.Gone || a.Reason != verdict.ReasonGone {
			t.Errorf("attempt: %+v", a)
		}
		got, err := h.registry.Get(h.t.Context(), acme, cb.ID)
		h.must(err)
		if got.Status != "disabled" || got.DisabledReason != "gone" {
			t.Errorf("callback: %s, %s", got.Status, got.DisabledReason)
		}
		later := h.send(proof("p-2"))
		if s := later.Deliveries[0].State; s != ledger.Held {
			t.Errorf("a later delivery is %s", s)
		}
		h.partner.answers(answering(204))
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, false)
		h.must(err)
		h.await(later.Deliveries[0].DeliveryID, ledger.Delivered, time.Minute)
		h.check()
		stop()
	})
}

// TestPausingHolds: nothing goes out while paused, not even retries that come due; all goes out on resume, once.
func TestPausingHolds(t *testing.T) {
	inBubble(t, func(h *house) {
		h.partner.answers(func(r *http.Request, n int) reply {
			if r.Header.Get("Ringback-Event-Id") == "retrying" && n == 0 {
				return reply{status: 500}
			}
			return reply{status: 204}
		})
		cb := h.register("payment_proof", "")
		stop := h.work()
		retrying := h.send(proof("retrying"))
		h.await(retrying.Deliveries[0].DeliveryID, ledger.Retrying, time.Minute)
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		for _, id := range eventIDs("p-", 20) {
			h.send(proof(id))
		}
		<-time.After(2 * time.Minute)
		if n := len(h.partner.requests()); n != 1 {
			t.Errorf("%d requests, want only the one before the pause", n)
		}
		d := h.await(retrying.Deliveries[0].DeliveryID, ledger.Held, time.Second)
		if d.HeldReason != "paused" || !strings.Contains(d.Summary, "paused") {
			t.Errorf("held: %+v", d)
		}
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, false)
		h.must(err)
		h.awaitAll(time.Minute)
		if n := len(h.partner.requests()); n != 22 {
			t.Errorf("%d requests", n)
		}
		h.check()
		h.awaitIdle(time.Minute)
		stop()
	})
}

func TestSkippingWhatIsHeld(t *testing.T) {
	inBubble(t, func(h *house) {
		cb := h.register("payment_proof", "")
		_, err := h.registry.Pause(h.t.Context(), acme, cb.ID)
		h.must(err)
		for i := range 3 {
			h.send(proof("p-" + strconv.Itoa(i)))
		}
		_, err = h.client.Resume(h.t.Context(), acme, cb.ID, true)
		h.must(err)
		stop := h.work()
		h.send(proof("fresh"))
		h.awaitAll(time.Minute)
		if n := len(h.partner.requests()); n != 1 {
			t.Errorf("%d requests, want only the fresh one", n)
		}
		h.check()
		stop()
	})
}
