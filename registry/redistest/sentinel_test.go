package redistest_test

import (
	"testing"

	"github.com/ringback/ringback/registry/redistest"
)

// TestSentinels: they put a replica in the place of a master that is killed, which comes back as a replica.
func TestSentinels(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinels(t)
	client := s.Client()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Wait(t.Context(), 2, 0).Result(); err != nil || n != 2 {
		t.Fatalf("%d replicas have it, %v", n, err)
	}
	first := s.Master()
	first.Kill()
	s.AwaitFailover(first)
	first.Restart()
	s.AwaitWhole()
	if now := s.Master(); now == first {
		t.Error("the killed one is the master again")
	}
	if v, err := client.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
	watcher := s.Watchers()[0]
	watcher.Kill()
	watcher.Restart()
	s.AwaitWhole()
}
