package dispatcher

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// The crash story, row by row: a child process does the work and dies, by SIGKILL to itself, at a named point between two steps. Then
// the house goes on without it.

// childEnv holds a childJob as JSON and makes this test binary that child.
const childEnv = "RINGBACK_TEST_CHILD"

type childJob struct {
	Redis  string
	Keyset []byte
	Window int

	Patience, OwnerGrace time.Duration

	KillAt string // failpoint
	After  int    // how often it is passed before
	Stall  bool   // SIGSTOP instead of SIGKILL

	Work     bool     // run a worker until stdin ends
	Near     bool     // run one that begins at once what is sent here
	Send     []string // payment proofs by event id; each accepted one is printed
	Again    bool     // send the next when it is not killed: a slow machine sent that one by the lanes
	Register string   // a registration
	Resume   int64    // a callback id
	Replay   string   // a delivery id
	Hasten   string   // a delivery id
	Sweep    bool     // go on with replays
	Bulk     bool     // go on with replays over companies
	Sleep    bool     // put the company to sleep
	Erase    bool     // the company
	EraseOne string   // an event id
	Through  string   // a cursor, of the callback that the partner fetches from: acknowledge
	SeekTo   string   // the same: go there

	DeleteType string // a callback type
	Stay       bool   // after that, until stdin ends
}

func child() int {
	var job childJob
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &job); err != nil {
		return complainf("job: %v", err)
	}
	ctx := context.Background()
	options, err := redis.ParseURL(job.Redis)
	if err != nil {
		return complainf("redis: %v", err)
	}
	rdb := redis.NewClient(options)
	keyset, err := registry.ParseKeyset(job.Keyset)
	if err != nil {
		return complainf("keyset: %v", err)
	}
	reg, err := registry.New(registry.Config{Redis: rdb, Catalogue: payloads.Builtin(), Keyset: keyset})
	if err != nil {
		return complainf("registry: %v", err)
	}
	out, err := egress.New(egress.Config{Allow: loopback})
	if err != nil {
		return complainf("egress: %v", err)
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c, err := New(Config{Redis: rdb, Registry: reg, Egress: out, Window: job.Window, Patience: job.Patience, OwnerGrace: job.OwnerGrace, Logger: logger})
	if err != nil {
		return complainf("client: %v", err)
	}
	c.failpoint = job.failpoint()
	if job.Work {
		w, err := NewWorker(c, workerConfig(job.Patience, pollOfMany))
		if err != nil {
			return complainf("worker: %v", err)
		}
		if err := w.Start(); err != nil {
			return complainf("start: %v", err)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		w.Shutdown()
		return 0
	}
	if job.Near {
		w, err := NewWorker(c, WorkerConfig{Concurrency: 2 * fewAttempts, Accepts: true, ReconcileEvery: time.Second})
		if err != nil {
			return complainf("worker: %v", err)
		}
		if err := w.Start(); err != nil {
			return complainf("start: %v", err)
		}
	}
	if err := job.act(ctx, c); err != nil {
		return complainf("%v", err)
	}
	if job.Near || job.Stay {
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	return 0
}

func (job childJob) act(ctx context.Context, c *Client) error {
	for _, id := range job.Send {
		for job.Near && !c.lanes.Running(ctx) { // else what is sent goes by the lanes
			<-time.After(time.Millisecond)
		}
		if _, err := c.Send(ctx, proof(id)); err != nil {
			return err
		}
		fmt.Println(id)
		if job.Again {
			<-time.After(haltLook)
		}
	}
	switch {
	case job.Register != "":
		_, err := c.registry.Create(ctx, acme, []byte(job.Register))
		c.at("registered")
		return err
	case job.Resume != 0:
		_, err := c.Resume(ctx, acme, job.Resume, false)
		return err
	case job.Replay != "":
		_, err := c.Replay(ctx, acme, job.Replay)
		return err
	case job.Hasten != "":
		_, err := c.Hasten(ctx, acme, job.Hasten)
		return err
	case job.Erase:
		_, err := c.EraseCompany(ctx, registry.NewKeys(c.rdb), acme, "")
		return err
	case job.EraseOne != "":
		_, err := c.EraseEvent(ctx, acme, job.EraseOne, "")
		return err
	case job.Through != "":
		_, err := c.Acknowledge(ctx, acme, 1, job.Through)
		return err
	case job.SeekTo != "":
		_, err := c.Seek(ctx, acme, 1, Seek{Cursor: job.SeekTo})
		return err
	case job.DeleteType != "":
		return c.DeleteType(ctx, job.DeleteType)
	case job.Sleep:
		w, err := NewWorker(c, WorkerConfig{})
		if err != nil {
			return err
		}
		w.rounds.lingers = 0
		for range 2 {
			w.round(ctx, false)
		}
	case job.Bulk:
		return c.goOnBulks(ctx, func(string) bool { return true }, soon())
	case job.Sweep:
		return c.sweep(ctx, acme, time.Now().Add(sweepFor))
	}
	return nil
}

func (job childJob) failpoint() func(string) {
	var passed atomic.Int64
	return func(name string) {
		if name != job.KillAt || passed.Add(1) <= int64(job.After) {
			return
		}
		if job.Stall {
			_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
			<-time.After(time.Second) // the stop comes meanwhile
			return
		}
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal comes
	}
}

func complainf(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

// A process is a child that the test started.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.Closer
	lines chan string // its standard output
	done  chan struct{}
	err   error
}

// start runs a child on the house's Redis.
func (h *house) start(job childJob) *process {
	h.t.Helper()
	job.Redis = h.redis.URL()
	var err error
	job.Keyset, err = h.keyset.Marshal()
	h.must(err)
	job.Window, job.Patience, job.OwnerGrace = h.cfg.Window, h.cfg.Patience, h.cfg.OwnerGrace
	text, err := json.Marshal(job)
	h.must(err)
	self, err := os.Executable()
	h.must(err)
	cmd := exec.Command(self) // this very test binary, ended by the test
	cmd.Env = append(os.Environ(), childEnv+"="+string(text), "GOCOVERDIR=")
	cmd.Stderr = h.t.Output()
	stdin, err := cmd.StdinPipe()
	h.must(err)
	stdout, err := cmd.StdoutPipe()
	h.must(err)
	h.must(cmd.Start())
	p := &process{t: h.t, cmd: cmd, stdin: stdin, lines: make(chan string, 100_000), done: make(chan struct{})}
	go func() {
		for s := bufio.NewScanner(stdout); s.Scan(); {
			p.lines <- s.Text()
		}
		p.err = cmd.Wait()
		close(p.lines)
		close(p.done)
	}()
	h.t.Cleanup(func() { _ = cmd.Process.Kill(); <-p.done })
	return p
}

// dies waits until the child has killed itself.
func (p *process) dies() {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(leastWait):
		p.t.Fatal("the child did not reach its end")
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		p.t.Fatalf("the child was to be killed, but: %v", p.cmd.ProcessState)
	}
}

// slack is what a slow machine may add to a repair's time.
const slack = 15 * time.Second

func TestKillAfterRegistration(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	body := fmt.Sprintf(`{"callback_type": "payment_proof", "destination": {"url": %q, "method": "POST", "content_type": "application/json"}}`, h.partner.url("x"))
	h.start(childJob{Register: body, KillAt: "registered"}).dies()
	list, _, err := h.registry.List(t.Context(), acme, registry.Filter{})
	h.must(err)
	if len(list) != 1 {
		t.Fatalf("the registration is lost: %v", list)
	}
	h.partner.knows(list[0])
	h.work()
	h.send(proof("p-1"))
	h.check()
}

func TestKillBetweenAcceptAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", "")
	h.start(childJob{Send: []string{"p-1", "p-2"}, KillAt: "accepted"}).dies()
	h.ack(proof("p-1")) // never answered, but there
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenAcceptAndEnqueueThenRepeat(t *testing.T) {
	t.Parallel()
	h := newHouse(t, unaided)
	h.register("payment_proof", "")
	h.start(childJob{Send: []string{"p-1"}, KillAt: "accepted"}).dies()
	h.work()
	if r := h.send(proof("p-1")); !r.Duplicate {
		t.Error("the accepted event is not known")
	}
	h.awaitAll(5 * time.Second)
	h.check()
}

func TestKillBetweenEnqueueAndAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t, unaided)
	h.register("payment_proof", "")
	h.start(childJob{Send: []string{"p-1"}, KillAt: "enqueued"}).dies()
	h.work()
	if r := h.send(proof("p-1")); !r.Duplicate {
		t.Error("the accepted event is not known")
	}
	h.awaitAll(5 * time.Second)
	h.check()
}

func TestKillBetweenDequeueAndBegin(t *testing.T) {
	t.Parallel()
	for lane, failures := range map[string]int{"an ordinary lane": 0, "the slow lane": 10} {
		t.Run(lane, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			cb := h.register("payment_proof", "")
			if failures > 0 {
				h.ails(cb, "f", failures, "l", 1)
			}
			h.send(proof("p-1"))
			h.start(childJob{Work: true, KillAt: "dequeued"}).dies()
			if held := h.tasks(); len(held) != 1 || strings.HasPrefix(held[0], slowLane) != (failures > 0) {
				t.Errorf("asynq holds %q", held)
			}
			h.work()
			h.awaitAll(patience + reconcileEvery + slack)
			h.check()
		})
	}
}

func TestKillBetweenBeginAndPost(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.partner.answers(answering(503, 204))
	h.register("payment_proof", `"timeout": "1s", "retry": {"max_attempts": 2, "initial_interval": "1s"}`)
	r := h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "begun"}).dies()
	if n := len(h.partner.requests()); n != 0 {
		t.Fatalf("%d requests were sent", n)
	}
	h.work()
	h.awaitAll(time.Second + ownerGrace + reconcileEvery + slack)
	d := h.delivery(r.Deliveries[0].DeliveryID)
	if d.State != ledger.Delivered || len(d.Attempts) != 3 || d.Attempts[0].Reason != verdict.ReasonUnknown {
		t.Errorf("the lost attempt must be kept as unknown and not eat the budget of two: %+v", d)
	}
	h.check()
}

func TestKillBetweenPostAndFinish(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.duplicates = 1
	h.register("payment_proof", `"timeout": "1s"`)
	r := h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "posted"}).dies()
	h.work()
	h.awaitAll(time.Second + ownerGrace + reconcileEvery + slack)
	if n := len(h.partner.requests()); n != 2 {
		t.Errorf("%d requests, want the one duplicate", n)
	}
	if d := h.delivery(r.Deliveries[0].DeliveryID); d.Attempts[0].Reason != verdict.ReasonUnknown {
		t.Errorf("attempts: %+v", d.Attempts)
	}
	h.check()
}

func TestKillBetweenFinishAndDone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	cb := h.register("payment_proof", "")
	r := h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "finished"}).dies()
	h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, time.Second)
	// What asynq does when it brings the task back, a minute later:
	w := h.worker()
	h.must(w.servers.Process(t.Context(), queues[0], taskOf(t, ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}, 1)))
	h.check()
}

func TestKillBetweenFinishAndRetry(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.partner.answers(answering(503, 204))
	h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
	r := h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "finished"}).dies()
	h.await(r.Deliveries[0].DeliveryID, ledger.Retrying, time.Second)
	h.work()
	h.awaitAll(3*time.Second + patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenPopAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient, withWindow(1))
	h.register("payment_proof", "")
	for _, id := range eventIDs("p-", 3) {
		h.send(proof(id))
	}
	h.start(childJob{Work: true, KillAt: "popped"}).dies()
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenThePoppedOnesFailureAndItsRetry(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient, withWindow(1))
	h.partner.answers(func(r *http.Request, n int) reply {
		if r.Header.Get("Ringback-Event-Id") == "p-1" && n == 0 {
			return reply{status: 503}
		}
		return reply{status: 204}
	})
	h.register("payment_proof", `"retry": {"initial_interval": "1s"}`)
	for _, id := range eventIDs("p-", 2) {
		h.send(proof(id))
	}
	h.start(childJob{Work: true, KillAt: "finished", After: 1}).dies()
	if n := len(h.tasks()); n != 1 {
		t.Errorf("%d lanes have tasks: %v; want the finished one's, and none for the popped one", n, h.tasks())
	}
	h.work()
	h.awaitAll(2*time.Second + patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenResumeAndPump(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"opened", "released"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			cb := h.register("payment_proof", "")
			_, err := h.registry.Pause(t.Context(), acme, cb.ID)
			h.must(err)
			for _, id := range eventIDs("p-", 3) {
				if r := h.send(proof(id)); r.Deliveries[0].State != ledger.Held {
					t.Errorf("not held: %+v", r)
				}
			}
			h.start(childJob{Resume: cb.ID, KillAt: point}).dies()
			h.work()
			h.awaitAll(patience + reconcileEvery + slack)
			h.check()
		})
	}
}

func TestKillBetweenRepairAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", `"timeout": "1s"`)
	h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "begun"}).dies()
	h.overdue()
	h.start(childJob{Work: true, KillAt: "overdue"}).dies()
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenReviveAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", "")
	h.send(proof("p-1"))
	h.start(childJob{Work: true, KillAt: "dequeued"}).dies()
	h.overdue()
	h.start(childJob{Work: true, KillAt: "revived"}).dies()
	h.work()
	h.awaitAll(patience + reconcileEvery + slack)
	h.check()
}

func TestKillBetweenReplayAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.partner.answers(answering(400, 204))
	h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	r := h.send(proof("p-1"))
	stop := h.work()
	h.await(r.Deliveries[0].DeliveryID, ledger.Dead, 5*time.Second)
	stop()
	h.start(childJob{Replay: r.Deliveries[0].DeliveryID, KillAt: "replayed"}).dies()
	h.work()
	d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, patience+reconcileEvery+slack)
	if len(d.Attempts) != 2 || d.Attempts[1].Number != 2 {
		t.Errorf("attempts: %+v", d.Attempts)
	}
	h.check()
}

func TestKillBetweenHasteningAndEnqueue(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.partner.answers(answering(503, 204))
	h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	r := h.send(proof("p-1"))
	stop := h.work()
	h.await(r.Deliveries[0].DeliveryID, ledger.Retrying, 5*time.Second)
	stop()
	h.start(childJob{Hasten: r.Deliveries[0].DeliveryID, KillAt: "hastened"}).dies()
	h.work()
	d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, patience+reconcileEvery+slack)
	if len(d.Attempts) != 2 || d.Attempts[1].Number != 2 {
		t.Errorf("attempts: %+v", d.Attempts)
	}
	h.check()
}

// TestKillBetweenPagesOfAReplay: others go on where it stood, and each delivery is sent again once.
func TestKillBetweenPagesOfAReplay(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	const n, page = 150, 100
	h.partner.answers(answering(400, 204))
	h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	stop := h.work()
	h.sendAll(eventIDs("p-", n))
	h.awaitAll(30 * time.Second)
	stop()
	r, err := h.client.ReplayCallback(t.Context(), acme, 1, ReplayQuery{})
	h.must(err)
	h.start(childJob{Sweep: true, KillAt: "swept"}).dies()
	half, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID)
	h.must(err)
	if half.State != ReplayRunning || half.Replayed != page {
		t.Errorf("after the kill: %+v", half)
	}
	h.work()
	h.eventually(patience+reconcileEvery+slack, func() bool {
		if done, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID); err != nil || done.State != ReplayDone {
			return false
		}
		page, _, err := h.client.Deliveries(t.Context(), acme, Query{States: []ledger.State{ledger.Delivered}, Limit: MaxLimit})
		return err == nil && len(page) == n
	}, func() string { return "not all are delivered" })
	if done, err := h.client.ReplayProgress(t.Context(), acme, r.ReplayID); err != nil || done.Replayed != n {
		t.Errorf("%+v, %v", done, err)
	}
	h.check()
}

func TestDeletedCallbacksDeliveriesAreCancelled(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient, withWindow(2))
	h.partner.answers(answering(503))
	cb := h.register("payment_proof", `"retry": {"initial_interval": "1h"}`)
	stop := h.work()
	first := h.send(proof("retrying"))
	h.await(first.Deliveries[0].DeliveryID, ledger.Retrying, 5*time.Second)
	stop()
	for _, id := range eventIDs("p-", 5) { // two pending, three in the room
		h.send(proof(id))
	}
	h.must(h.registry.Delete(t.Context(), acme, cb.ID)) // and the caller dies before anything else
	for id := range h.acked {
		e, err := h.client.Event(t.Context(), acme, id)
		h.must(err)
		if s := e.Deliveries[0].State; s != ledger.Cancelled {
			t.Errorf("%s is shown as %s", id, s)
		}
	}
	h.work()
	h.eventually(reconcileEvery+slack, func() bool {
		n, err := h.rdb.ZCard(t.Context(), ledger.Key(acme, "due")).Result()
		rooms, err2 := h.rdb.Exists(t.Context(), ledger.Key(acme, fmt.Sprintf("room:%d", cb.ID))).Result()
		return err == nil && err2 == nil && n+rooms == 0
	}, func() string { return "deliveries of a deleted callback still wait" })
	h.check()
}

func TestAStalledOwnerDoesNotUndoItsSuccessor(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.duplicates = 1
	h.partner.answers(answering(500, 204)) // the stalled owner will have a failure to report
	h.register("payment_proof", `"timeout": "1s"`)
	r := h.send(proof("p-1"))
	stalled := h.start(childJob{Work: true, KillAt: "posted", Stall: true})
	h.eventually(10*time.Second, func() bool { return len(h.partner.requests()) == 1 }, func() string { return "no request came" })
	h.work()
	d := h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, time.Second+ownerGrace+reconcileEvery+slack)
	h.must(stalled.cmd.Process.Signal(syscall.SIGCONT))
	h.must(stalled.stdin.Close())
	select {
	case <-stalled.done:
	case <-time.After(leastWait):
		t.Fatal("the stalled owner does not end")
	}
	if d.Attempts[0].Reason != verdict.ReasonUnknown {
		t.Errorf("the owner did not stall: %+v", d.Attempts)
	}
	after := h.delivery(d.DeliveryID)
	if after.State != ledger.Delivered || len(after.Attempts) != len(d.Attempts) {
		t.Errorf("the stalled owner changed the record: %+v", after)
	}
	h.check()
}

func TestALateDeliveryCounts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.duplicates = 1
	h.partner.answers(answering(204, 503, 204))
	h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "1h"}`)
	r := h.send(proof("p-1"))
	stalled := h.start(childJob{Work: true, KillAt: "posted", Stall: true})
	h.eventually(10*time.Second, func() bool { return len(h.partner.requests()) == 1 }, func() string { return "no request came" })
	h.work()
	h.await(r.Deliveries[0].DeliveryID, ledger.Retrying, time.Second+ownerGrace+reconcileEvery+slack)
	h.must(stalled.cmd.Process.Signal(syscall.SIGCONT))
	h.await(r.Deliveries[0].DeliveryID, ledger.Delivered, 10*time.Second)
	h.must(stalled.stdin.Close())
	<-stalled.done
	h.check()
}

// TestRedisLosesItsTail cuts the append-only file as a power cut would: what is left is delivered, whatever tasks and records disagree.
func TestRedisLosesItsTail(t *testing.T) {
	t.Parallel()
	h := newHouse(t, impatient)
	h.register("payment_proof", `"timeout": "1s"`)
	gate := make(chan struct{})
	var n atomic.Int64
	h.partner.answers(func(*http.Request, int) reply {
		if n.Add(1) > 50 { // the first fifty are delivered, the others are under way when the power goes
			return reply{status: 204, after: func(ctx context.Context) {
				select {
				case <-gate:
				case <-ctx.Done():
				}
			}}
		}
		return reply{status: 204}
	})
	worker := h.start(childJob{Work: true})
	for _, id := range eventIDs("p-", 200) {
		h.send(proof(id))
	}
	h.eventually(10*time.Second, func() bool { return n.Load() > 54 }, func() string { return fmt.Sprintf("%d requests came", n.Load()) })
	h.redis.Kill()
	h.must(worker.cmd.Process.Kill())
	<-worker.done
	close(gate)
	cutTail(t, h.redis.Dir())
	h.redis.Restart()
	kept := make(map[string]payloads.Event)
	for id, e := range h.acked {
		if _, err := h.client.Event(t.Context(), acme, id); err == nil {
			kept[id] = e
		}
	}
	if len(kept) == 0 {
		t.Fatalf("%d of %d events are left", len(kept), len(h.acked))
	}
	t.Logf("%d of %d events are left", len(kept), len(h.acked))
	h.acked = kept
	h.work()
	h.awaitAll(patience + 2*time.Second + ownerGrace + reconcileEvery + slack)
	// Redis forgot outcomes: their attempts may repeat. Only equality and signatures still bind.
	for _, r := range h.partner.requests() {
		if r.verified != nil || !strings.Contains(r.body, "requestId") {
			t.Errorf("%s: %v", r.id, r.verified)
		}
	}
	h.checkRedis()
}

// TestAnOldGenerationsTaskEnds: a task that asynq brings back after its delivery was given another generation makes no attempt.
func TestAnOldGenerationsTaskEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.partner.answers(answering(500, 204))
	cb := h.register("payment_proof", `"retry": {"max_attempts": 1}`)
	w := h.worker()
	stop := h.work()
	id := h.send(proof("p-1")).Deliveries[0].DeliveryID
	h.await(id, ledger.Dead, 5*time.Second)
	stop()
	_, err := h.client.Replay(t.Context(), acme, id)
	h.must(err)
	h.must(w.servers.Process(t.Context(), queues[0], taskOf(t, ledger.Ref{Company: acme, Event: "p-1", Callback: cb.ID}, 1)))
	if n := len(h.partner.requests()); n != 1 {
		t.Errorf("%d requests: the task of the first generation attempted the second", n)
	}
	if d := h.delivery(id); d.State != ledger.Pending {
		t.Errorf("the replayed delivery is %s", d.State)
	}
	h.work()
	h.await(id, ledger.Delivered, 5*time.Second)
	h.check()
}

// TestKillOfABatch between any two of its steps: each event is delivered, and those that come twice come under the same webhook-id, all of them.
func TestKillOfABatch(t *testing.T) {
	t.Parallel()
	for point, tt := range map[string]struct {
		answer     func(n int, ids []string) reply // to the n-th request; nil: 204
		duplicates int                             // deliveries that come again although they came
	}{
		"released": {nil, 0}, // an empty batch is pending, and in no lane
		"dequeued": {nil, 0},
		"begun":    {nil, 0}, // it has its members, and nothing was sent
		"posted":   {nil, 4},
		"finished": {nil, 0},
		"split": {func(n int, _ []string) reply {
			if n == 0 {
				return reply{status: 413}
			}
			return reply{status: 204}
		}, 0},
		"arrived": {func(n int, ids []string) reply { // some are delivered, and the others not yet tried again
			if n > 0 {
				return reply{status: 204}
			}
			return reply{status: 200, header: http.Header{"Content-Type": {"application/json"}}, body: fmt.Sprintf(`{"results":[{"id":%q,"status":200}]}`, ids[0])}
		}, 3}, // their answer was 200
	} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, impatient)
			h.duplicates = tt.duplicates
			var n atomic.Int64
			h.partner.answers(func(r *http.Request, _ int) reply {
				if tt.answer == nil {
					return reply{status: 204}
				}
				ids := idsIn(t, r.Body)
				return tt.answer(int(n.Add(1))-1, ids)
			})
			cb := h.register("payment_proof", `"timeout": "1s", "retry": {"initial_interval": "1s"}, "batch": {"max_events": 4, "max_wait": "1s", "element": "envelope", "results": true}`)
			job := childJob{Work: true, KillAt: point}
			if point == "released" {
				_, err := h.registry.Pause(t.Context(), acme, cb.ID)
				h.must(err)
				job = childJob{Resume: cb.ID, KillAt: point}
			}
			var ids []string
			for _, id := range eventIDs("p-", 4) {
				ids = append(ids, h.send(proof(id)).Deliveries[0].DeliveryID)
			}
			h.start(job).dies()
			h.work()
			h.awaitAll(3*time.Second + ownerGrace + patience + reconcileEvery + slack)
			h.check()
			h.checkRemade(ids)
		})
	}
}
