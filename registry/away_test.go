package registry_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A slot is a hook that makes the slot of the global keys go away, and come back.
type slot struct {
	mu    sync.Mutex
	mode  string // "": it answers; "refused": at once; "hangs": until its caller gives up; "slow": after half a second
	asked int
}

func (s *slot) is(mode string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mode, s.asked = mode, 0
}

// count is how often it was asked since it is as it is.
func (s *slot) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *slot) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *slot) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.mu.Lock()
		mode := s.mode
		s.asked++
		s.mu.Unlock()
		var err error
		switch mode {
		case "refused":
			err = errors.New("dial tcp: connection refused")
		case "hangs":
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-time.After(2 * time.Second): // as go-redis has it
				err = context.DeadlineExceeded
			}
		case "slow":
			time.Sleep(500 * time.Millisecond)
		}
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

func (s *slot) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// another returns a client of the same Redis that the slot's hook does not see.
func another(t *testing.T, client *redis.Client) *redis.Client {
	t.Helper()
	options := *client.Options()
	other := redis.NewClient(&options)
	t.Cleanup(func() { _ = other.Close() })
	return other
}

// inAway runs a test in a bubble for each way of being away.
func inAway(t *testing.T, test func(t *testing.T, client *redis.Client, s *slot, mode string)) {
	for _, mode := range []string{"refused", "hangs"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, s := bubbleClient(t), &slot{}
				client.AddHook(s)
				test(t, client, s, mode)
				time.Sleep(2 * time.Second) // whatever hangs has ended
			})
		})
	}
}

// TestKnownKeysAreGoodWhileRedisIsAway for a minute, and no request waits for it but one at a time, shortly.
func TestKnownKeysAreGoodWhileRedisIsAway(t *testing.T) {
	inAway(t, func(t *testing.T, client *redis.Client, s *slot, mode string) {
		ctx := t.Context()
		keys := registry.NewKeys(client)
		if err := keys.Put(ctx, "k", registry.Key{ID: "rbk_k", Role: registry.Operator}); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Authenticate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		learned := time.Now()
		s.is(mode)
		const each = 50
		var waited time.Duration
		for time.Since(learned) < 59*time.Second {
			for range each {
				from := time.Now()
				if k, err := keys.Authenticate(ctx, "k"); err != nil || k.ID != "rbk_k" {
					t.Fatalf("after %s: %+v, %v", time.Since(learned), k, err)
				}
				if took := time.Since(from); took > 250*time.Millisecond {
					t.Fatalf("a request waited %s", took)
				} else {
					waited += took
				}
			}
			time.Sleep(250 * time.Millisecond)
		}
		if n := s.count(); n > 59*5 {
			t.Errorf("asked %d times in a minute", n)
		}
		if waited > 20*time.Second {
			t.Errorf("all requests together waited %s", waited)
		}
		if _, err := keys.Authenticate(ctx, "never seen"); err == nil || errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("a key that nobody could look up: %v", err)
		}
		time.Sleep(2 * time.Second)
		if _, err := keys.Authenticate(ctx, "k"); err == nil {
			t.Error("a key is good for ever while Redis is away")
		}
	})
}

// TestRevokedKeysAreRefusedOnceRedisAnswers: at once, and not after the minute.
func TestRevokedKeysAreRefusedOnceRedisAnswers(t *testing.T) {
	inAway(t, func(t *testing.T, client *redis.Client, s *slot, mode string) {
		ctx := t.Context()
		other, keys := registry.NewKeys(another(t, client)), registry.NewKeys(client)
		names := []string{"a", "b", "c", "d", "e"}
		each := func(do func(name string) error) {
			t.Helper()
			for _, name := range names {
				if err := do(name); err != nil {
					t.Fatal(name, err)
				}
			}
		}
		good := func(name string) error { return second(keys.Authenticate(ctx, name)) }
		each(func(name string) error {
			return other.Put(ctx, name, registry.Key{ID: "rbk_" + name, Role: registry.Operator})
		})
		each(good)
		s.is(mode)
		time.Sleep(5 * time.Second)
		each(good)
		each(func(name string) error { return other.Revoke(ctx, "rbk_"+name) }) // by a process that reaches Redis
		each(good)
		s.is("")
		time.Sleep(time.Second) // what hung has ended
		for i, name := range names {
			if err := good(name); !errors.Is(err, registry.ErrUnauthorized) && i > 0 { // the first finds that Redis answers
				t.Errorf("%s is revoked, and Redis answers: %v", name, err)
			}
		}
		if err := good("a"); !errors.Is(err, registry.ErrUnauthorized) {
			t.Errorf("the first is revoked, and Redis answers: %v", err)
		}
	})
}

// TestASlowRedisStillRevokes: where each answer takes half a second, a revoked key is refused after that and the second it is remembered.
func TestASlowRedisStillRevokes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		client, s := bubbleClient(t), &slot{}
		other, keys := registry.NewKeys(another(t, client)), registry.NewKeys(client)
		client.AddHook(s)
		if err := other.Put(ctx, "k", registry.Key{ID: "rbk_k", Role: registry.Operator}); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.Authenticate(ctx, "k"); err != nil {
			t.Fatal(err)
		}
		s.is("slow")
		if err := other.Revoke(ctx, "rbk_k"); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		for {
			_, err := keys.Authenticate(ctx, "k")
			if errors.Is(err, registry.ErrUnauthorized) {
				break
			}
			if time.Since(revoked) > 2*time.Second {
				t.Fatalf("it still works after %s: %v", time.Since(revoked), err)
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

// TestAKeyEndsWhileRedisIsAway: a key that expires is not good beyond that.
func TestAKeyEndsWhileRedisIsAway(t *testing.T) {
	inAway(t, func(t *testing.T, client *redis.Client, s *slot, mode string) {
		ctx := t.Context()
		keys := registry.NewKeys(client)
		secret, _, err := keys.CreateBound(ctx, registry.Operator, "", registry.Terms{ExpiresIn: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Second)
		if _, err := keys.Authenticate(ctx, secret); err != nil {
			t.Fatal(err)
		}
		s.is(mode)
		time.Sleep(8 * time.Second)
		if _, err := keys.Authenticate(ctx, secret); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if _, err := keys.Authenticate(ctx, secret); err == nil {
			t.Error("a key outlived its time")
		}
	})
}

// TestLimitsAreKeptWithoutRedis: each process then counts by itself.
func TestLimitsAreKeptWithoutRedis(t *testing.T) {
	inAway(t, func(t *testing.T, client *redis.Client, s *slot, mode string) {
		ctx := t.Context()
		keys := registry.NewKeys(client)
		k := registry.Key{ID: "rbk_a", Role: registry.Producer, RateLimit: new(10.0)}
		let := func(total time.Duration) (n int) {
			t.Helper()
			for from := time.Now(); time.Since(from) < total; time.Sleep(20 * time.Millisecond) {
				wait, err := keys.Take(ctx, k)
				if err != nil {
					t.Fatal(err)
				}
				if wait == 0 {
					n++
				}
			}
			return n
		}
		if n := let(time.Second); n < 18 || n > 20 {
			t.Errorf("%d in the first second", n)
		}
		s.is(mode)
		if n := let(10 * time.Second); n < 80 || n > 121 { // a burst of ten more
			t.Errorf("%d in ten seconds without Redis, at 10 a second", n)
		}
		if err := keys.Charge(ctx, k, 5); err != nil {
			t.Error(err)
		}
		s.is("")
		time.Sleep(time.Second)
		if n := let(10 * time.Second); n < 95 || n > 111 {
			t.Errorf("%d in ten seconds once Redis answers", n)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := keys.Take(gone, k); err == nil {
			t.Error("a caller who has gone was let in")
		}
	})
}

// TestTypesAndNamesAreKnownWhileRedisIsAway, without a wait for each that asks.
func TestTypesAndNamesAreKnownWhileRedisIsAway(t *testing.T) {
	inAway(t, func(t *testing.T, client *redis.Client, s *slot, mode string) {
		ctx := t.Context()
		r, err := registry.New(registry.Config{Redis: client, Catalogue: payloads.Builtin(), Keyset: newKeyset(t)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Types().Put(ctx, orderPlaced()); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := r.Types().Lookup(ctx, "order.placed"); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if err := r.Touch(ctx, "acme"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(59 * time.Second)
		s.is(mode)
		from := time.Now()
		for time.Since(from) < 50*time.Second {
			before := time.Now()
			for range 20 {
				if _, ok, err := r.Types().Lookup(ctx, "order.placed"); !ok || err != nil {
					t.Fatalf("the type: %t, %v", ok, err)
				}
				if err := r.Touch(ctx, "acme"); err != nil {
					t.Fatalf("the name: %v", err)
				}
			}
			if took := time.Since(before); took > time.Second {
				t.Fatalf("twenty events waited %s", took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err := r.Touch(ctx, "other"); err == nil {
			t.Error("a company was named without Redis")
		}
		time.Sleep(15 * time.Second)
		if err := r.Touch(ctx, "acme"); err == nil {
			t.Error("a name is good for ever while Redis is away")
		}
		s.is("")
		time.Sleep(time.Second)
		if err := r.Touch(ctx, "acme"); err != nil {
			t.Error(err)
		}
	})
}
