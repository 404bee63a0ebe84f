package ledger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	lua "github.com/yuin/gopher-lua"
	"go.uber.org/goleak"

	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) {
	raiseWithin = time.Minute
	// The Redis in memory makes a Lua state for each run, and ours need little of what it would have.
	lua.RegistrySize, lua.CallStackSize = 1024, 64
	// go-redis looks once more, after a second, for a Redis that was away.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

type migration = func(context.Context, redis.UniversalClient) error

// TestEnter: an empty Redis is marked, an older one brought on step by step, one between the oldest and the newest that the program knows, or newer, left as
// it is.
func TestEnter(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	wantModel := func(want int) {
		t.Helper()
		if got, err := Written(ctx, rdb); err != nil || got != want {
			t.Fatalf("the number is %d, want %d: %v", got, want, err)
		}
	}
	wantModel(0)
	if err := Enter(ctx, rdb); err != nil {
		t.Fatal(err)
	}
	wantModel(leastModel)
	for number := leastModel; number <= Model; number++ {
		rdb.Set(ctx, ModelKey, number, 0)
		if err := Enter(ctx, rdb); err != nil {
			t.Errorf("data model %d: %v", number, err)
		}
		wantModel(number)
	}

	var steps []int
	step := func(n int) migration {
		return func(context.Context, redis.UniversalClient) error {
			wantModel(n) // not before it is done
			steps = append(steps, n)
			return nil
		}
	}
	migrations := map[int]migration{1: step(1), 2: step(2), 3: step(3)}
	rdb.Set(ctx, ModelKey, 1, 0)
	for range 2 { // the second time there is nothing to do
		if err := enter(ctx, rdb, 3, 3, migrations); err != nil {
			t.Fatal(err)
		}
		wantModel(3)
	}
	if len(steps) != 2 || steps[0] != 1 || steps[1] != 2 {
		t.Errorf("steps %v, want 1 and 2", steps)
	}
	newer := (*NewerModelError)(nil)
	if err := enter(ctx, rdb, 2, 2, migrations); !errors.As(err, &newer) || newer.Found != 3 {
		t.Errorf("an older program: %v", err)
	}
	wantModel(3)
	if err := enter(ctx, rdb, 5, 5, migrations); err == nil {
		t.Error("there is no way from 4 to 5")
	}
	wantModel(4)
}

// TestAMigrationThatFailsGoesOn: the number is raised once its step is done, and not before.
func TestAMigrationThatFailsGoesOn(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	rdb.Set(ctx, ModelKey, 1, 0)
	cut := errors.New("cut off")
	tries := 0
	migrations := map[int]migration{1: func(context.Context, redis.UniversalClient) error {
		if tries++; tries < 3 {
			return cut
		}
		return nil
	}}
	for range 2 {
		if err := enter(ctx, rdb, 2, 2, migrations); !errors.Is(err, cut) {
			t.Errorf("cut off: %v", err)
		}
		if got, _ := Written(ctx, rdb); got != 1 {
			t.Fatalf("the number is %d before the step is done", got)
		}
	}
	if err := enter(ctx, rdb, 2, 2, migrations); err != nil {
		t.Fatal(err)
	}
	if got, _ := Written(ctx, rdb); got != 2 {
		t.Errorf("the number is %d", got)
	}
}

// TestProcessesEnterAtOnce: many processes of two versions start at a time. The number never sinks, and once it is raised no older one gets in.
func TestProcessesEnterAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ctx := t.Context()
	migrations := map[int]migration{1: func(context.Context, redis.UniversalClient) error { return nil }}
	var wg sync.WaitGroup
	var raised atomic.Bool
	for i := range 32 {
		rdb, model := server.Client(), 1+i%2
		wg.Go(func() {
			late := raised.Load()
			err := enter(ctx, rdb, model, model, migrations)
			newer, refused := errors.AsType[*NewerModelError](err)
			switch {
			case model == 2 && err != nil, refused && (model == 2 || newer.Found != 2), err != nil && !refused:
				t.Errorf("model %d: %v", model, err)
			case model == 1 && late && !refused:
				t.Error("an older program got in after the number was raised")
			}
			if model == 2 {
				raised.Store(true)
			}
		})
	}
	wg.Wait()
	if got, err := Written(ctx, server.Client()); err != nil || got != 2 {
		t.Errorf("the number is %d: %v", got, err)
	}
}
