package dispatcher

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// TestTheDeadByReason: the commonest first, with how many callbacks: one that comes twice counts once, and two whose names run together count twice.
func TestTheDeadByReason(t *testing.T) {
	t.Parallel()
	got, counted := deadReasons([]ledger.Cause{
		{Company: "a", Callback: 12, Reason: "gone", Dead: 1},
		{Company: "a1", Callback: 2, Reason: "gone", Dead: 1},
		{Company: "a1", Callback: 2, Reason: "timeout", Dead: 4},
		{Company: "a", Callback: 12, Reason: "gone", Dead: 1},
	})
	want := []DeadReason{
		{Reason: "timeout", Dead: 4, Callbacks: 1, Side: verdict.SideOf("timeout")}, {Reason: "gone", Dead: 3, Callbacks: 2, Side: verdict.SideOf("gone")},
	}
	if diff := cmp.Diff(want, got); diff != "" || counted != 7 {
		t.Errorf("%d counted, (-want +got)\n%s", counted, diff)
	}
}
