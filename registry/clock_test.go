package registry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// A tower is a Redis whose clock the test moves, in a bubble.
type tower struct {
	*redis.Client
	t *testing.T
	m *miniredis.Miniredis

	mu    sync.Mutex
	ahead time.Duration // of its clock over the bubble's
}

// eachStep runs a test for each step that a clock may make.
func eachStep(t *testing.T, test func(t *testing.T, r *tower, by time.Duration)) {
	t.Helper()
	for _, by := range []time.Duration{2 * time.Minute, -2 * time.Minute, time.Hour, -time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, m := bubbleRedis(t)
				m.ClockTTL(true)
				r := &tower{Client: client, t: t, m: m}
				client.AddHook(r)
				test(t, r, by)
			})
		})
	}
}

func (r *tower) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook has the clock be right whenever somebody looks.
func (r *tower) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.mu.Lock()
		r.m.SetTime(time.Now().Add(r.ahead))
		r.mu.Unlock()
		return next(ctx, cmd)
	}
}

func (r *tower) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *tower) step(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead += by
}

// clock is another process's.
func (r *tower) clock() *steady.Clock {
	c := steady.New(r.Client, slog.New(slog.DiscardHandler))
	r.t.Cleanup(c.Close)
	if err := c.Look(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	return c
}

// TestAStepEndsNoKeyEarly, nor late, in the process that made it, in another, and where a command made it after the step.
func TestAStepEndsNoKeyEarly(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, by time.Duration) {
		here, there := registry.NewKeys(r).Follow(r.clock()), registry.NewKeys(r).Follow(r.clock())
		make10m := func(keys *registry.Keys) string {
			t.Helper()
			secret, _, err := keys.CreateBound(t.Context(), registry.Viewer, "", registry.Terms{ExpiresIn: 10 * time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			return secret
		}
		want := func(when, secret string, live bool) {
			t.Helper()
			for i, keys := range []*registry.Keys{here, there} {
				if _, err := keys.Authenticate(t.Context(), secret); (err == nil) != live || !live && !errors.Is(err, registry.ErrExpired) {
					t.Errorf("%s, in process %d: %v, want that it is live: %t", when, i, err, live)
				}
			}
		}
		before := make10m(here)
		want("at first", before, true)
		time.Sleep(3 * time.Second)
		r.step(by)
		want("right after the step", before, true)
		time.Sleep(3 * time.Second)
		after := make10m(registry.NewKeys(r))
		want("made after it", after, true)
		time.Sleep(9*time.Minute + 53*time.Second)
		want("a second before its end", before, true)
		time.Sleep(3 * time.Second)
		want("after its end", before, false)
		want("the later one", after, true)
		time.Sleep(6 * time.Second)
		want("the later one, after its end", after, false)
		if used := lastUsed(t, here, before); time.Since(used) > 90*time.Second || time.Until(used) > time.Second {
			t.Errorf("it was last used %s ago, by what is noted", time.Since(used))
		}
	})
}

func lastUsed(t *testing.T, keys *registry.Keys, secret string) time.Time {
	t.Helper()
	all, err := keys.List(t.Context())
	i := slices.IndexFunc(all, func(k registry.Key) bool { return strings.HasPrefix(secret, k.ID) })
	if err != nil || i < 0 {
		t.Fatal(i, err)
	}
	return time.Unix(all[i].LastUsed, 0)
}

// TestPlacesOfTestsOutliveAStep: a test of a callback that nobody ended holds its place for as long as it may take, whatever Redis's clock does.
func TestPlacesOfTestsOutliveAStep(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, by time.Duration) {
		keys := registry.NewKeys(r).Follow(r.clock())
		begin := func() bool {
			t.Helper()
			_, ok, err := keys.BeginTest(t.Context(), registry.Key{ID: "rbk_a"}, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		for i := range registry.MaxTests {
			if !begin() {
				t.Fatalf("test %d did not begin", i)
			}
		}
		time.Sleep(2 * time.Second)
		r.step(by)
		for range 2 {
			if begin() {
				t.Error("the step freed a place")
			}
			time.Sleep(28 * time.Second)
		}
		time.Sleep(3 * time.Second)
		if !begin() {
			t.Error("a place is held for longer than a test may take")
		}
	})
}

// TestAStepMakesNobodyGone: whoever lives counts as alive right after the step, later, and to who only looks, and counts as gone 20 s after it died.
// So do processes of a version that announces itself by Redis's clock, and asynq's servers.
func TestAStepMakesNobodyGone(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, by time.Duration) {
		clock := r.clock()
		callbacks, err := registry.New(registry.Config{Redis: r, Catalogue: payloads.Builtin(), Keyset: newKeyset(t), Clock: clock})
		if err != nil {
			t.Fatal(err)
		}
		older := registry.Process{ID: "older", Level: registry.Level - 1, Host: "a"}
		for _, p := range []registry.Process{older, {ID: "self", Level: registry.Level, Host: "b"}} {
			stop, err := registry.Announce(t.Context(), r, r.clock(), p, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = stop(t.Context()) }()
		}
		text, err := json.Marshal(registry.Process{ID: "before", Level: registry.Level - 1, Host: "c"})
		if err != nil {
			t.Fatal(err)
		}
		live := func() { // as a version before has it, and asynq
			now, err := r.Time(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			r.ZAdd(t.Context(), "ringback:processes", redis.Z{Score: float64(now.UnixMilli()), Member: text})
			r.ZAdd(t.Context(), "asynq:servers", redis.Z{Score: float64(time.Now().Add(10 * time.Second).Unix()), Member: "asynq:servers:{d:7:x}"})
		}
		seen := func(err error) string {
			if err == nil {
				return "nobody"
			}
			old, ok := errors.AsType[*registry.OldProcessError](err)
			if !ok {
				t.Fatal(err)
			}
			var hosts []string
			for _, p := range old.Old {
				hosts = append(hosts, p.Host)
			}
			return fmt.Sprint(hosts)
		}
		for second := range 60 {
			if second%5 == 0 {
				live()
			}
			if second == 13 {
				r.step(by)
				if got := seen(callbacks.KnownEverywhere(t.Context(), "a quota", registry.Level)); !strings.Contains(got, "a") || !strings.Contains(got, "d") {
					t.Errorf("right after the step, it sees %s", got)
				}
			}
			time.Sleep(time.Second)
			if got := seen(callbacks.KnownEverywhere(t.Context(), "a quota", registry.Level)); got != "[a c d]" {
				t.Errorf("after %d s, it sees %s", second, got)
			}
			present, err := registry.Look(t.Context(), r)
			if second == 13 || second == 14 {
				continue // who only looks knows of a step once a process has noticed it
			}
			if err != nil || len(present.Processes) != 4 {
				t.Errorf("after %d s, who only looks sees %+v, %v", second, present, err)
			}
		}
		time.Sleep(30 * time.Second)
		if got := seen(callbacks.KnownEverywhere(t.Context(), "a quota", registry.Level)); got != "[a]" {
			t.Errorf("30 s after two of them died, it sees %s", got)
		}
	})
}

// TestAWrongClockHidesNoWorker: asynq goes by the clocks of its workers' machines. If Redis's was wrong from the start, or the installation's time has
// come back to it, they are seen all the same.
func TestAWrongClockHidesNoWorker(t *testing.T) {
	eachStep(t, func(t *testing.T, r *tower, ahead time.Duration) {
		r.step(ahead)
		r.ZAdd(t.Context(), "asynq:servers", redis.Z{Score: float64(time.Now().Add(10 * time.Second).Unix()), Member: "asynq:servers:{d:7:x}"})
		if present, err := registry.Look(t.Context(), r); err != nil || len(present.Processes) != 1 {
			t.Errorf("of one worker: %+v, %v", present, err)
		}
		time.Sleep(11 * time.Second)
		if present, err := registry.Look(t.Context(), r); err != nil || ahead > 0 && len(present.Processes) != 0 {
			t.Errorf("of one that died: %+v, %v", present, err)
		}
	})
}
