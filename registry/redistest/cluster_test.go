package redistest_test

import (
	"testing"

	"github.com/ringback/ringback/registry/redistest"
)

// TestCluster: a cluster survives one of its masters, which comes back as a replica, and gives slots to a new node.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	client := c.Client()
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	first := c.MasterOf("k")
	first.Kill()
	c.AwaitFailover(first)
	if now := c.MasterOf("k"); now == first {
		t.Error("the killed one still has the key")
	}
	first.Restart()
	c.AwaitWhole()
	added := c.Add()
	slot := c.Slot("k")
	c.Move(c.MasterOf("k"), added, slot, slot)
	if now := c.MasterOf("k"); now != added {
		t.Errorf("%s has the key after it was given to %s", now.Addr(), added.Addr())
	}
	if v, err := client.Get(t.Context(), "k").Result(); err != nil || v != "v" {
		t.Errorf("%q, %v", v, err)
	}
}
