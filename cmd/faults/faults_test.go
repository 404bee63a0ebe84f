package faults

import (
	"slices"
	"testing"
)

// A fault is something that breaks, and what has to hold all the same.
type fault struct {
	name string // its number in the list of faults and a word: TestFaults/F1-kill-worker
	what string // a sentence for the table: what breaks
	// quick ones run in `make test`, too: some seconds of waiting and little work.
	quick bool
	// heavy ones need the machine for themselves until they have settled.
	heavy bool
	run   func(*scene)
}

// faults are all there are, in the order of the table.
func faults() []fault {
	return slices.Concat(crashFaults, redisFaults, clusterFaults, sentinelFaults, networkFaults, receiverFaults, pressureFaults, isolationFaults, orderFaults, pullFaults, stormFaults)
}

func TestFaults(t *testing.T) {
	for _, f := range faults() {
		if !suite.full && !f.quick {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			if !slices.ContainsFunc(isolationFaults, func(alone fault) bool { return alone.name == f.name }) {
				t.Parallel()
			} // else nothing else runs: those that are parallel wait for it
			s := newScene(t, f)
			if f.heavy {
				suite.heavy.Lock()
				release := suite.heavy.Unlock
				s.release = func() { release(); s.release = nil }
				t.Cleanup(func() {
					if s.release != nil {
						s.release()
					}
				})
			}
			f.run(s)
		})
	}
}
