package lanes

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// disturbed is a client after whose looks something happens, before anybody knows what they found.
type disturbed struct {
	redis.UniversalClient
	after func()
}

func (d *disturbed) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	cmd := d.UniversalClient.EvalSha(ctx, sha, keys, args...)
	d.after()
	return cmd
}

// TestWhatComesDuringALookIsNotOverlooked: a lane that was found empty is looked at again at once if the bell rang meanwhile.
func TestWhatComesDuringALookIsNotOverlooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		rdb := redis.NewClient(&redis.Options{
			Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() }, Addr: "127.0.0.1:6379", Protocol: 2, DisableIdentity: true,
		})
		ctx, came := t.Context(), false
		keys := []string{"asynq:{l}:pending", "asynq:{l}:paused", "asynq:{l}:active", "asynq:{l}:lease"}
		d := &disturbed{UniversalClient: rdb}
		bell := newBell(d, []string{"l"}, slog.New(slog.DiscardHandler), func(_ context.Context, do func() error) error { return do() })
		d.after = func() {
			if !came {
				came = true
				if err := rdb.LPush(ctx, keys[0], "task").Err(); err != nil {
					t.Error(err)
				}
				bell.Ring(ctx, "l")
			}
		}
		bell.deaf.Store(false)
		stop := make(chan struct{})
		client := bell.Client(patience{
			look: time.Hour, stop: stop, full: func() <-chan struct{} { return nil }, places: &places{most: 9}, halts: func(context.Context) bool { return false },
		})
		take := redis.NewScript(`return redis.call('RPOP', KEYS[1])`)
		if err := take.Load(ctx, rdb).Err(); err != nil {
			t.Fatal(err)
		}
		if got, err := take.Run(ctx, client, keys).Text(); err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
			t.Fatalf("an empty lane: %q, %v", got, err)
		}
		began := time.Now()
		if got, err := take.Run(ctx, client, keys).Text(); err != nil || got != "task" || time.Since(began) > 0 {
			t.Errorf("%q, %v, after %s", got, err, time.Since(began))
		}
		if got, err := take.Run(ctx, client, keys).Text(); err != redis.Nil { //nolint:errorlint // as above
			t.Fatalf("empty again: %q, %v", got, err)
		}
		time.AfterFunc(time.Minute, func() { close(stop) })
		if _, err := take.Run(ctx, client, keys).Text(); err != redis.Nil || time.Since(began) != time.Minute { //nolint:errorlint // as above
			t.Errorf("who waits as the end comes: %v, after %s", err, time.Since(began))
		}
		bell.Close()
		_ = rdb.Close()
		m.Close()
	})
}

// TestATaskTakesAPlaceAlsoWhereRedisLacksTheScript: the first of a new Redis, and after it was started anew.
func TestATaskTakesAPlaceAlsoWhereRedisLacksTheScript(t *testing.T) {
	m := miniredis.RunT(t)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr(), Protocol: 2, DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	bell := newBell(rdb, []string{"l"}, slog.New(slog.DiscardHandler), func(_ context.Context, do func() error) error { return do() })
	keys := []string{"asynq:{l}:pending", "asynq:{l}:paused", "asynq:{l}:active", "asynq:{l}:lease"}
	if err := rdb.LPush(t.Context(), keys[0], "task", "another").Err(); err != nil {
		t.Fatal(err)
	}
	p := &places{most: 1}
	client := bell.Client(patience{
		look: time.Hour, stop: t.Context().Done(), full: func() <-chan struct{} { return nil }, places: p, halts: func(context.Context) bool { return false },
	})
	take := redis.NewScript(`return redis.call('RPOP', KEYS[1])`)
	if got, err := take.Run(t.Context(), client, keys).Text(); err != nil || got != "task" {
		t.Fatalf("%q, %v", got, err)
	}
	if p.taken != 1 || p.full() == nil {
		t.Errorf("%d places are taken of one", p.taken)
	}
}
