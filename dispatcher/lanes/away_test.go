package lanes

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// A quiet is a hook that lets nothing through that names asynq's keys, while it has a mode: "refused" or "hangs".
type quiet struct{ mode atomic.Value }

func (q *quiet) DialHook(next redis.DialHook) redis.DialHook { return next }

func (q *quiet) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		mode, _ := q.mode.Load().(string)
		if mode == "" || !strings.Contains(cmd.String(), "{ringback-") {
			return next(ctx, cmd)
		}
		err := errors.New("connection refused")
		if mode == "hangs" {
			select {
			case <-ctx.Done():
			case <-time.After(2 * time.Second): // as go-redis has it
			}
			err = context.DeadlineExceeded
		}
		cmd.SetErr(err)
		return err
	}
}

func (q *quiet) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// TestWhatIsForALaneThatIsAwayWaits, its callers do not, and it comes in as soon as the lane answers.
func TestWhatIsForALaneThatIsAwayWaits(t *testing.T) {
	for _, mode := range []string{"refused", "hangs"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, q, panics := miniredis.NewMiniRedis(), &quiet{}, 0
				defer m.Close()
				rdb := redis.NewClient(&redis.Options{
					Protocol: 2, ContextTimeoutEnabled: true, Dialer: func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
					MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
				})
				defer func() { _ = rdb.Close() }()
				rdb.AddHook(q)
				l := New(Config{
					Redis: rdb, Logger: slog.New(slog.DiscardHandler), Contain: contained(&panics),
					Weight: func(context.Context, string) int { return 1 },
				})
				defer l.Close()
				if err := l.Register(t.Context()); err != nil {
					t.Fatal(err)
				}
				q.mode.Store(mode)
				const events = 20
				from := time.Now()
				for i := range events {
					l.Bring(t.Context(), ledger.Ticket{Ref: ledger.Ref{Company: "acme", Event: string(rune('a' + i)), Callback: 1}, Generation: 1})
				}
				if took := time.Since(from); took > 2*time.Second {
					t.Errorf("%d callers waited %s", events, took)
				}
				if n := l.Waiting("acme"); n != events {
					t.Errorf("%d of %d wait", n, events)
				}
				time.Sleep(5 * time.Second)
				m.HSet(numberKey, "count", "64", "high", "64", "epoch", "1")
				if err := l.numbers.read(t.Context()); err != nil { // another lane is its own from now on
					t.Fatal(err)
				}
				if n, _ := l.intake.Waits(l.Of(ledger.Ref{Company: "acme", Callback: 1})); n != events {
					t.Errorf("%d of %d wait for the lane that is its own", n, events)
				}
				q.mode.Store("")
				time.Sleep(3 * time.Second)
				lane := l.Of(ledger.Ref{Company: "acme", Callback: 1})
				if n, err := l.pending(t.Context(), lane); err != nil || n != events {
					t.Errorf("%d of %d came in, %v", n, events, err)
				}
			})
		})
	}
}
