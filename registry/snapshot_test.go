package registry

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestASnapshotTakesOverWhatDidNotChange: after any changes, few or many, a snapshot that was made from the one before says what one says that was
// made from nothing, and the one before says what it said.
func TestASnapshotTakesOverWhatDidNotChange(t *testing.T) {
	t.Parallel()
	const seed = 7
	r := rand.New(rand.NewPCG(seed, seed))
	types := []string{"payment_proof", "wallet_item_install", "wallet_*"}
	made := func(id, version int64) *Callback {
		cb := &Callback{ID: id, Version: version, Type: types[r.IntN(len(types))]}
		if r.IntN(2) == 0 {
			cb.Match = map[string]string{"token": fmt.Sprint(r.IntN(5)), "other": fmt.Sprint(r.IntN(2))}
		}
		return cb
	}
	versions, all := map[int64]int64{}, map[int64]*Callback{}
	snap, version := &snapshot{}, int64(0)
	for round := range 300 {
		changes := 1 + r.IntN(5)
		if round%20 == 0 {
			changes = fewChanges + 20
		}
		changed := map[int64]*Callback{}
		for range changes {
			version++
			id := 1 + r.Int64N(100)
			changed[id], versions[id] = nil, version
			delete(all, id)
			if r.IntN(3) > 0 {
				changed[id] = made(id, version)
				all[id] = changed[id]
			}
		}
		sibling := snap.with(version, maps.Clone(versions), map[int64]*Callback{200: made(200, version)}) // of a reading that was thrown away
		before, said, siblingSaid := snap, describe(snap), describe(sibling)
		snap = snap.with(version, maps.Clone(versions), changed)
		anew := (&snapshot{}).with(version, maps.Clone(versions), all)
		if got, want := describe(snap), describe(anew); got != want {
			t.Fatalf("round %d: taken over\n%s\nmade anew\n%s", round, got, want)
		}
		if describe(before) != said || describe(sibling) != siblingSaid {
			t.Fatalf("round %d: the snapshot before changed, or another that was made from it", round)
		}
	}
}

// describe is all that a snapshot says, in an order of its own.
func describe(s *snapshot) string {
	list := func(cbs []*Callback) []string {
		var ids []string
		for _, cb := range cbs {
			ids = append(ids, fmt.Sprintf("%d@%d", cb.ID, cb.Version))
		}
		return ids
	}
	var text strings.Builder
	fmt.Fprintln(&text, s.version, s.newest, list(s.byID))
	for _, typ := range []string{"payment_proof", "wallet_item_install"} {
		for token := range 5 {
			for other := range 2 {
				found := s.candidates(typ, map[string]string{"token": fmt.Sprint(token), "other": fmt.Sprint(other)})
				fmt.Fprintln(&text, typ, token, other, slices.Sorted(slices.Values(list(found))))
			}
		}
	}
	for id := range int64(201) {
		if cb := s.find(id); cb != nil {
			fmt.Fprintln(&text, id, cb.Version, len(s.after(id, "")), len(s.after(id, cb.Type)))
		}
	}
	return text.String()
}
