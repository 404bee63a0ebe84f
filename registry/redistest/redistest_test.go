package redistest_test

import (
	"context"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ringback/ringback/registry/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServerSurvivesAKill(t *testing.T) {
	s := redistest.Start(t)
	client := s.Client()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	addr := s.Addr()
	s.Kill()
	if err := client.Get(t.Context(), "k").Err(); err == nil {
		t.Fatal("a killed server answered")
	}
	s.Restart()
	if s.Addr() != addr {
		t.Errorf("address changed from %s to %s", addr, s.Addr())
	}
	if got, err := client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Errorf("after the restart: %q, %v", got, err)
	}
}

func TestStoppedServerAnswersAfterCont(t *testing.T) {
	s := redistest.Start(t)
	client := s.Client()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := client.Ping(ctx).Err(); err == nil {
		t.Error("a stopped server answered")
	}
	s.Cont()
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestArgumentsWinOverDefaults(t *testing.T) {
	s := redistest.Start(t, "--appendfsync", "always", "--maxmemory", "30mb")
	got, err := s.Client().ConfigGet(t.Context(), "appendfsync").Result()
	if err != nil || got["appendfsync"] != "always" {
		t.Errorf("appendfsync %v, %v", got, err)
	}
}

// TestTheServerIsChosen by the environment: a path, here of a script that notes that it ran.
func TestTheServerIsChosen(t *testing.T) {
	dir := t.TempDir()
	script := "#!/bin/sh\ntouch " + dir + "/ran\nexec " + redistest.Binary(t) + ` "$@"`
	if err := os.WriteFile(dir+"/chosen", []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("RINGBACK_REDIS_SERVER", dir+"/chosen")
	redistest.Start(t)
	if _, err := os.Stat(dir + "/ran"); err != nil {
		t.Errorf("another server ran: %v", err)
	}
}

func TestTwoServersAreStrangers(t *testing.T) {
	a, b := redistest.Start(t), redistest.Start(t)
	if err := a.Client().Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Client().DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("the second server holds %d keys, %v", n, err)
	}
}

func TestClockIsMoved(t *testing.T) {
	t.Parallel()
	s, clock := redistest.StartWithClock(t)
	for _, ahead := range []time.Duration{0, 2 * time.Minute, -time.Hour, 1500 * time.Millisecond} {
		clock.Set(ahead)
		before := time.Now()
		now, err := s.Client().Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if now.Before(before.Add(ahead-2*time.Millisecond)) || now.After(time.Now().Add(ahead+2*time.Millisecond)) {
			t.Errorf("set to be %v ahead, the server's clock is %v ahead", ahead, time.Until(now))
		}
	}
}
