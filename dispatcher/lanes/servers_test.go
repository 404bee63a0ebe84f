package lanes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// contained counts panics, and makes errors of them.
func contained(panics *int) Contain {
	return func(_ context.Context, do func() error) (err error) {
		defer func() {
			if cause := recover(); cause != nil {
				*panics++
				err = fmt.Errorf("panicked: %v", cause)
			}
		}()
		return do()
	}
}

// newServers are some that are never started.
func newServers(t *testing.T, panics *int, handler Handler) *Servers {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1"})
	t.Cleanup(func() { _ = rdb.Close() })
	l := New(Config{Redis: rdb, Logger: slog.New(slog.DiscardHandler), Weight: func(context.Context, string) int { return 1 }, Contain: contained(panics)})
	return l.NewServers(ServersConfig{
		Concurrency: 10, Process: 10, Look: time.Second, Grace: time.Second, Full: func() <-chan struct{} { return nil }, Contain: contained(panics), Handler: handler,
	})
}

// poison is an error that panics where it is looked at.
type poison struct{}

func (poison) Error() string { return "poison" }
func (poison) As(any) bool   { panic("for a test") }

// TestWhatAsynqAsksIsContained: asynq asks about errors in goroutines that nobody else guards.
func TestWhatAsynqAsksIsContained(t *testing.T) {
	t.Parallel()
	panics := 0
	s := newServers(t, &panics, nil)
	if delay := s.retryDelay(0, poison{}, nil); delay != troubleDelay || !s.isFailure(poison{}) {
		t.Errorf("asynq would try again after %s", delay)
	}
	if panics != 2 {
		t.Errorf("%d panics were contained, want 2", panics)
	}
}

// TestLater: asynq brings a task back when it is told to, and counts as failures those that are. Any other error brings it back a little later.
func TestLater(t *testing.T) {
	t.Parallel()
	panics := 0
	s := newServers(t, &panics, nil)
	for _, tt := range []struct {
		err     error
		delay   time.Duration
		failure bool
	}{
		{&Later{Wait: time.Minute, Why: "not due yet"}, time.Minute, false},
		{fmt.Errorf("wrapped: %w", &Later{Wait: time.Hour, Why: "status_503", Failure: true}), time.Hour, true},
		{errors.New("redis is away"), troubleDelay, true},
	} {
		if delay, failure := s.retryDelay(3, tt.err, nil), s.isFailure(tt.err); delay != tt.delay || failure != tt.failure {
			t.Errorf("%v: again after %s, failure %t", tt.err, delay, failure)
		}
	}
}

// TestATaskNamesItsDelivery: the handler gets what the task was made of; what is no task of ours is dropped, and a panic is an error.
func TestATaskNamesItsDelivery(t *testing.T) {
	t.Parallel()
	panics := 0
	var got []ledger.Ticket
	s := newServers(t, &panics, func(_ context.Context, _ string, ticket ledger.Ticket, _ bool) error {
		got = append(got, ticket)
		if len(got) > 1 {
			panic("for a test")
		}
		return nil
	})
	want := ledger.Ticket{Ref: ledger.Ref{Company: "acme", Event: "e/1", Callback: 7}, Generation: 3}
	task, err := NewTask(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range []*asynq.Task{asynq.NewTask("another", task.Payload()), asynq.NewTask(taskType, []byte("no JSON")), task} {
		if err := s.Process(t.Context(), Slow, task); err != nil {
			t.Error(err)
		}
	}
	if len(got) != 1 || got[0] != want {
		t.Errorf("the handler got %+v, want %+v", got, want)
	}
	if err := s.Process(t.Context(), Slow, task); err == nil || !strings.Contains(err.Error(), "panicked") || panics != 1 {
		t.Errorf("a panic: %v, %d contained", err, panics)
	}
}
