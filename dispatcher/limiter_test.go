package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
)

func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := newLimiter(2*lanes.DefaultCount*shareOfLane, lanes.DefaultCount)
		one, other := ledger.Ref{Company: acme, Event: "e", Callback: 1}, ledger.Ref{Company: acme, Event: "e", Callback: 2}
		take := func(r ledger.Ref) (done func(), ok bool, waited time.Duration) {
			start := time.Now()
			done, ok = turns.take(t.Context(), r, turnover)
			return done, ok, time.Since(start)
		}
		first, _, _ := take(one)
		second, _, _ := take(one)
		if _, ok, waited := take(one); ok || waited != 0 {
			t.Errorf("a third turn, while nothing ends: %t after %s", ok, waited)
		}
		neighbour, ok, _ := take(other)
		if !ok {
			t.Error("a neighbour is kept waiting")
		}
		neighbour()
		first()
		third, ok, _ := take(one)
		if !ok {
			t.Error("the place that came free is not given")
		}
		if _, ok, waited := take(one); ok || waited != turnover {
			t.Errorf("no place: %t after %s", ok, waited)
		}
		second()
		fourth, _, _ := take(one)
		go func() {
			<-time.After(turnover / 2)
			third()
		}()
		fifth, ok, waited := take(one)
		if !ok || waited != turnover/2 {
			t.Errorf("a receiver that answers in time is waited for: %t after %s", ok, waited)
		}
		fourth()
		fifth()
		if len(turns.by) != 0 {
			t.Errorf("%d callbacks are remembered", len(turns.by))
		}
	})
}

// TestTurnsAreFewerWithMoreLanes, for a lane has fewer places then; with fewer lanes they are as many as ever. Those that are under way end as ever.
func TestTurnsAreFewerWithMoreLanes(t *testing.T) {
	t.Parallel()
	turns := newLimiter(640, lanes.DefaultCount)
	r := ledger.Ref{Company: acme, Event: "e", Callback: 1}
	var under []func()
	taken := func() (n int) {
		for {
			done, ok := turns.take(t.Context(), r, 0)
			if !ok {
				return n
			}
			under = append(under, done)
			n++
		}
	}
	for _, tt := range []struct{ count, want int }{{4, 40}, {1, 0}, {16, 10}, {64, 2}, {4, 40}} { // with one, they are the same turns
		turns.spread(tt.count)
		if n := taken(); n != tt.want {
			t.Errorf("%d lanes, %d turns more, want %d", tt.count, n, tt.want)
		}
	}
	for _, done := range under {
		done()
	}
	if len(turns.by) != 0 {
		t.Errorf("%d callbacks are remembered", len(turns.by))
	}
}
