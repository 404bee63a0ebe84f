package registry_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ringback/ringback/dispatcher/egress/egresstest"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

var errInjected = errors.New("injected fault")

// fault fails the n-th script or command from when it is armed: before Redis has
// heard of it, or after Redis did it.
type fault struct {
	countdown atomic.Int64
	after     bool
}

func (f *fault) DialHook(next redis.DialHook) redis.DialHook { return next }

func (f *fault) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *fault) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if f.countdown.Add(-1) != 0 {
			return next(ctx, cmd)
		}
		if f.after {
			if err := next(ctx, cmd); err != nil {
				return err
			}
		}
		cmd.SetErr(errInjected)
		return errInjected
	}
}

// Each write, failed before and after Redis did it. Afterwards everybody's view
// is either the old or the new one, and saying it again leads to the new one.
func TestEveryWriteFailedAndStoredOrNot(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	// All scripts are known to the server, so that the n-th command is the same every time.
	warm := h.create("warm", plain)
	_, _ = h.Patch(ctx, "warm", warm.ID, []byte(`{"description":"d"}`))
	_, _ = h.Pause(ctx, "warm", warm.ID)
	_, _ = h.Resume(ctx, "warm", warm.ID)
	_ = h.Delete(ctx, "warm", warm.ID)
	_ = h.Refresh(ctx, "warm", -1)
	_ = h.CheckKeyset(ctx)

	type state struct {
		count       int
		description string
		secrets     int
		status      registry.Status
	}
	look := func(company string) state {
		page, _, err := h.List(ctx, company, registry.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		s := state{count: len(page)}
		if len(page) > 0 {
			s.description, s.secrets, s.status = page[0].Description, len(page[0].Secrets), page[0].Status
		}
		if got := h.current(ctx, company, "payment_proof", nil, time.Now()); !slices.Equal(got, ids(page)) {
			t.Errorf("listed %v, matched %v", ids(page), got)
		}
		return s
	}
	ops := []struct {
		name  string
		steps int // commands it sends; five of a change look for older processes
		do    func(r *registry.Registry, company string, id int64) error
		want  state
		again error // of repeating it after it was stored
	}{
		{"create", 9, func(r *registry.Registry, company string, _ int64) error {
			_, err := r.Create(ctx, company, []byte(plain))
			return err
		}, state{2, "", 1, registry.Enabled}, nil},
		{"patch", 8, func(r *registry.Registry, company string, id int64) error {
			_, err := r.Patch(ctx, company, id, []byte(`{"description":"d"}`))
			return err
		}, state{1, "d", 1, registry.Enabled}, nil},
		{"rotate", 7, func(r *registry.Registry, company string, id int64) error {
			_, err := r.RotateSecret(ctx, company, id, time.Hour)
			return err
		}, state{1, "", 2, registry.Enabled}, nil},
		{"pause", 1, func(r *registry.Registry, company string, id int64) error {
			_, err := r.Pause(ctx, company, id)
			return err
		}, state{1, "", 1, registry.Paused}, nil},
		{"resume", 1, func(r *registry.Registry, company string, id int64) error {
			_, err := r.Resume(ctx, company, id)
			return err
		}, state{1, "", 1, registry.Enabled}, nil},
		{"delete", 1, func(r *registry.Registry, company string, id int64) error {
			return r.Delete(ctx, company, id)
		}, state{}, registry.ErrNotFound},
	}
	for _, op := range ops {
		for step := 1; step <= op.steps; step++ {
			for _, after := range []bool{false, true} {
				name := strings.Join([]string{op.name, string(rune('0' + step)), map[bool]string{false: "not-stored", true: "stored"}[after]}, "-")
				t.Run(name, func(t *testing.T) {
					cb, err := h.Create(ctx, name, []byte(plain))
					if err != nil {
						t.Fatal(err)
					}
					if op.name == "resume" {
						if _, err := h.Pause(ctx, name, cb.ID); err != nil {
							t.Fatal(err)
						}
					}
					before := look(name)

					broken := h.neighbour()
					if err := broken.redis.Ping(ctx).Err(); err != nil { // a new connection's greeting passes the hook, too
						t.Fatal(err)
					}
					f := &fault{after: after}
					broken.redis.AddHook(f)
					f.countdown.Store(int64(step))
					if err := op.do(broken.Registry, name, cb.ID); !errors.Is(err, errInjected) {
						t.Fatalf("the fault did not show: %v", err)
					}

					stored := after && step == op.steps
					want := before
					if stored {
						want = op.want
					}
					if got := look(name); got != want {
						t.Errorf("after the fault: %+v, want %+v", got, want)
					}
					if stored && (op.name == "create" || op.name == "rotate") {
						return // these are not to be repeated blindly, as their comments say
					}
					err = op.do(broken.Registry, name, cb.ID)
					if stored && op.again != nil {
						if !errors.Is(err, op.again) {
							t.Errorf("again: %v", err)
						}
					} else if err != nil {
						t.Errorf("again: %v", err)
					}
					if got := look(name); got != op.want {
						t.Errorf("after repeating: %+v, want %+v", got, op.want)
					}
				})
			}
		}
	}
}

func TestReadsPassOnFaults(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	h.create("acme", plain)
	broken := h.neighbour()
	f := &fault{}
	broken.redis.AddHook(f)
	keys := registry.NewKeys(broken.redis)
	for name, do := range map[string]func() error{
		"get":          func() error { _, err := broken.Get(ctx, "acme", 1); return err },
		"list":         func() error { _, _, err := broken.List(ctx, "acme", registry.Filter{}); return err },
		"refresh":      func() error { return broken.Refresh(ctx, "acme", -1) },
		"touch":        func() error { return broken.Touch(ctx, "acme") },
		"companies":    func() error { _, err := broken.Companies(ctx); return err },
		"keyset":       func() error { return broken.CheckKeyset(ctx) },
		"types":        func() error { _, err := broken.Types().Fresh(ctx); return err },
		"put type":     func() error { _, err := broken.Types().Put(ctx, orderPlaced()); return err },
		"match":        func() error { _, _, err := broken.Match(ctx, "new", install, nil, time.Now(), nil); return err },
		"lookup":       func() error { _, err := broken.Lookup(ctx, "acme", 1, 1<<60); return err },
		"keys create":  func() error { _, _, err := keys.Create(ctx, registry.Viewer, ""); return err },
		"keys list":    func() error { _, err := keys.List(ctx); return err },
		"keys revoke":  func() error { return keys.Revoke(ctx, "rbk_x") },
		"authenticate": func() error { _, err := keys.Authenticate(ctx, "x"); return err },
	} {
		f.countdown.Store(1)
		err := do()
		if !errors.Is(err, errInjected) || errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("%s: %v", name, err)
		}
		f.countdown.Store(0)
		if err := do(); errors.Is(err, errInjected) {
			t.Errorf("%s: the fault was remembered", name)
		}
	}
}

// lossyConn drops the connection instead of handing over an answer when armed.
type lossyConn struct {
	net.Conn
	lose *atomic.Bool
}

func (c *lossyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b) // Redis has done the work
	if err == nil && c.lose.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

// go-redis repeats a script whose answer was lost. Nothing may happen twice, and
// the caller hears of the success.
func TestLostAnswersChangeNothingTwice(t *testing.T) {
	h := newHouse(t)
	ctx := t.Context()
	var lose atomic.Bool
	client := redis.NewClient(&redis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			conn, err := d.DialContext(ctx, "unix", h.server.Socket())
			return &lossyConn{conn, &lose}, err
		},
		MaxRetries: 3, MinRetryBackoff: time.Millisecond, MaxRetryBackoff: time.Millisecond,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	defer func() { _ = client.Close() }()
	armed := &armOn{lose: &lose}
	client.AddHook(armed)
	r, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: h.keyset})
	if err != nil {
		t.Fatal(err)
	}
	// The scripts are known to the server, so the first EVALSHA that writes does the work.
	warm := h.create("warm", plain)
	_, _ = h.Patch(ctx, "warm", warm.ID, []byte(`{"description":"d"}`))
	_ = h.Delete(ctx, "warm", warm.ID)
	if err := client.Ping(ctx).Err(); err != nil {
		t.Fatal(err)
	}

	armed.on = 3 // touch, number, save
	cb, err := r.Create(ctx, "acme", []byte(plain))
	if err != nil {
		t.Fatal(err)
	}
	page, _, err := h.List(ctx, "acme", registry.Filter{})
	if err != nil || len(page) != 1 || page[0].Version != cb.Version || h.version(ctx, "acme") != cb.Version {
		t.Errorf("after a lost answer to create: %v of version %d at %d, %v", page, cb.Version, h.version(ctx, "acme"), err)
	}
	if armed.lost() != 1 {
		t.Fatal("the answer was not lost: this test proves nothing")
	}

	armed.on = 2 // read, save
	patched, err := r.Patch(ctx, "acme", cb.ID, []byte(`{"description":"d"}`))
	if err != nil || patched.Version != h.version(ctx, "acme") || patched.Version != h.get("acme", cb.ID).Version {
		t.Errorf("after a lost answer to patch: %v, %v", patched, err)
	}
	armed.on = 1
	if err := r.Delete(ctx, "acme", cb.ID); err != nil {
		t.Errorf("after a lost answer to delete: %v", err)
	}
	if err := r.Delete(ctx, "acme", cb.ID); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a second delete: %v", err)
	}
	certificate := []byte(pair(egresstest.NewAuthority(t, "authority").Client("acme", nil)))
	for i := range 2 { // the first time its scripts become known
		if _, err := r.SetCompanyTLS(ctx, "acme", certificate); err != nil {
			t.Fatal(err)
		}
		armed.on = i // what it reads comes in a pipeline
		if err := r.DeleteCompanyTLS(ctx, "acme"); err != nil {
			t.Errorf("after a lost answer to deleting a company's certificate: %v", err)
		}
	}
	if armed.lost() != 4 {
		t.Errorf("%d answers were lost, want 4", armed.lost())
	}
}

// armOn loses the answer to the on-th command from now; 0 for none.
type armOn struct {
	on    int
	count int
	lose  *atomic.Bool
}

func (a *armOn) lost() int { return a.count }

func (a *armOn) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *armOn) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *armOn) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if a.on > 0 {
			if a.on--; a.on == 0 {
				a.lose.Store(true)
				defer func() {
					if !a.lose.Load() {
						a.count++
					}
				}()
			}
		}
		return next(ctx, cmd)
	}
}

// A Redis that hangs must not be waited for by one caller after the other.
func TestCallersShareOneReadingAndItsFailure(t *testing.T) {
	// If it failed for another reason, there is one more: the first began before the others came.
	t.Run("failure", func(t *testing.T) { shareOneReading(t, errInjected, 2) })
	t.Run("timeout", func(t *testing.T) { shareOneReading(t, fmt.Errorf("%w: %w", errInjected, context.DeadlineExceeded), 1) })
	t.Run("network timeout", func(t *testing.T) { shareOneReading(t, fmt.Errorf("%w: %w", errInjected, os.ErrDeadlineExceeded), 1) })
}

func shareOneReading(t *testing.T, failure error, want int64) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client := bubbleClient(t)
		hanging := &hang{release: make(chan struct{}), failure: failure}
		client.AddHook(hanging)
		keyset, err := registry.NewKeyset()
		if err != nil {
			t.Fatal(err)
		}
		r, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: keyset})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		match := func() {
			wg.Go(func() {
				if _, _, err := r.Match(t.Context(), "acme", "payment_proof", nil, time.Now(), nil); !errors.Is(err, errInjected) {
					t.Error(err)
				}
			})
		}
		match()
		synctest.Wait() // it reads
		for range 49 {
			match()
		}
		synctest.Wait() // they wait for it
		close(hanging.release)
		wg.Wait()
		if got := hanging.reads.Load(); got != want {
			t.Errorf("50 callers made %d readings, want %d", got, want)
		}
		match() // who comes later asks anew
		wg.Wait()
		if got := hanging.reads.Load(); got != want+1 {
			t.Errorf("51 callers made %d readings, want %d", got, want+1)
		}
	})
}

// hang keeps every command until release, and then fails it.
type hang struct {
	reads   atomic.Int64
	release chan struct{}
	failure error
}

func (h *hang) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *hang) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *hang) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		h.reads.Add(1)
		<-h.release
		cmd.SetErr(h.failure)
		return h.failure
	}
}

func TestACallerThatGivesUpDoesNotWait(t *testing.T) {
	h := newHouse(t)
	h.create("acme", plain)
	r := h.neighbour()
	h.server.Stop()
	defer h.server.Cont()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for range 2 { // the second may find the first reading
		if _, _, err := r.Match(ctx, "acme", "payment_proof", nil, time.Now(), nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	}
}
