package dispatcher

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// A stall is a hook that has Redis's answers wait, once it is set, until it is lifted.
type stall struct {
	set    atomic.Bool
	lifted chan struct{}
}

func (*stall) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *stall) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.wait()
		return next(ctx, cmd)
	}
}

func (s *stall) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		s.wait()
		return next(ctx, cmds)
	}
}

func (s *stall) wait() {
	if s.set.Load() {
		<-s.lifted
	}
}

// TestLooksEnd with their process, whoever still watches: the look that is under way is waited for, and none follows. Whoever comes before that is looked for
// at once.
func TestLooksEnd(t *testing.T) {
	inBubble(t, func(h *house) {
		s := &stall{lifted: make(chan struct{})}
		h.rdb.AddHook(s)
		h.register("payment_proof", "")
		for range 3 {
			began := time.Now()
			w, err := h.client.Watch(h.t.Context(), WatchQuery{Company: acme})
			h.must(err)
			defer w.Close()
			if took := time.Since(began); took > 0 {
				t.Errorf("it begins after %s", took)
			}
			time.Sleep(liveEvery / 3)
		}
		s.set.Store(true)
		time.Sleep(2 * liveEvery)
		var closed atomic.Bool
		go func() {
			h.client.live.close()
			closed.Store(true)
		}()
		synctest.Wait()
		if closed.Load() {
			t.Error("the look that is under way is not waited for")
		}
		s.set.Store(false)
		close(s.lifted)
		synctest.Wait()
		if !closed.Load() {
			t.Error("looks go on")
		}
	})
}

// TestWhoMayKnowInnerNames: deliveries are read for each watcher with the names that it may know, also where all stand at one place.
func TestWhoMayKnowInnerNames(t *testing.T) {
	t.Parallel()
	l, _ := hall(slog.New(slog.DiscardHandler))
	var knows []bool
	l.read = func(ctx context.Context, _ string, _ []ledger.Ref) (map[string]*Delivery, error) {
		knows = append(knows, ctx.Value(unmaskedKey{}) != nil)
		return nil, nil
	}
	l.stand(newsAt(t, 0), WatchQuery{})
	l.stand(newsAt(t, 0), WatchQuery{}).inside = true
	seen := ledger.Seen{Watched: true, Whole: true, At: newsAt(t, 1), Changes: []ledger.Change{{Ref: ledger.Ref{Company: acme, Event: "e", Callback: 1}, State: Held, After: newsAt(t, 1)}}}
	all := l.gather()
	if len(all) != 2 {
		t.Errorf("they see %d pictures, not 2", len(all))
	}
	for g, who := range all {
		knows = nil
		if _, err := l.serve(t.Context(), g, who, seen, 10); err != nil {
			t.Fatal(err)
		}
		if len(who) != 1 || len(knows) != 1 || knows[0] != who[0].inside {
			t.Errorf("who may know inner names (%v) is told them: %v", who[0].inside, knows)
		}
	}
}
