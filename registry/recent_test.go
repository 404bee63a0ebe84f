package registry_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/registry"
)

// TestWhatTakesLongEndsWithinASecond: asked every 400 ms whether its key is good, as streams do, it knows within a second that another process revoked it,
// at whatever moment.
func TestWhatTakesLongEndsWithinASecond(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, 350 * time.Millisecond, 401 * time.Millisecond, 799 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			rdb := bubbleClient(t)
			here, there := registry.NewKeys(rdb), registry.NewKeys(rdb)
			secret, key, err := here.Create(t.Context(), registry.Viewer, "acme")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := here.Authenticate(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
			holds := here.Holds(secret)
			revoked := time.Now().Add(after)
			time.AfterFunc(after, func() {
				if err := there.Revoke(t.Context(), key.ID); err != nil {
					t.Error(err)
				}
			})
			for {
				time.Sleep(400 * time.Millisecond)
				if err := holds(t.Context()); errors.Is(err, registry.ErrUnauthorized) {
					break
				}
			}
			if late := time.Since(revoked); late > time.Second {
				t.Errorf("revoked after %s, it goes on for %s", after, late)
			}
			synctest.Wait()
		})
	}
}
