package lanes

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A hall is an Intake with one lane, of which a test takes.
type hall struct {
	*intake
	mu      sync.Mutex
	pending int64 // in the lane
	failed  error
	came    []string
	weights map[string]int
}

func newHall() *hall {
	h := &hall{weights: map[string]int{}}
	pending := func(context.Context, string) (int64, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.pending, h.failed
	}
	contain := func(_ context.Context, do func() error) (err error) {
		defer func() {
			if recover() != nil {
				err = errors.New("panicked")
			}
		}()
		return do()
	}
	h.intake = newIntake([]string{"l", "m", Slow}, new(Lone), pending, func(_ context.Context, company string) int { return h.weights[company] }, contain)
	return h
}

func (h *hall) bring(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pending++
	h.came = append(h.came, name)
}

// wait has a company's tasks wait, one after another for some callbacks.
func (h *hall) wait(company string, callbacks, n, bytes int) {
	h.waitFor("l", company, callbacks, n, bytes)
}

func (h *hall) waitFor(lane, company string, callbacks, n, bytes int) {
	for i := range n {
		callback := int64(i / (n / callbacks))
		name := fmt.Sprintf("%s%d.%d", company, callback, i%(n/callbacks))
		h.Wait(Waiting{Lane: lane, Company: company, Callback: callback, Name: lane + name, Bytes: bytes, Enter: func(context.Context) { h.bring(name) }})
	}
}

// others has somebody else be there, too.
func (h *hall) others() {
	h.lone.Note("other")
	h.lone.Note("another")
}

// take takes so many out of the lane, and returns what came in since, once it is as full as it is to be.
func (h *hall) take(n int64) string {
	h.mu.Lock()
	h.pending -= n
	h.came = nil
	h.mu.Unlock()
	came := func() int {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.came)
	}
	for range 50 { // of the bubble's time
		if time.Sleep(topUp); came() > 0 {
			break
		}
	}
	time.Sleep(3 * topUp)
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.came, " ")
}

// TestWhoHasMuchLetsOthersBefore: a lane holds few, the companies come in by turns, and each one's callbacks, too.
func TestWhoHasMuchLetsOthersBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		h.weights["heavy"] = 2
		h.others()
		defer h.Close()
		var got []string
		h.pending = depth
		h.wait("big", 2, 100, 0)
		got = append(got, h.take(depth))
		if h.Pass(context.Background(), "l", "small", 0) {
			t.Error("one passes by those that wait")
		}
		h.wait("small", 1, 1, 0)
		h.wait("heavy", 1, 20, 0)
		for range 3 {
			got = append(got, h.take(depth))
		}
		want := []string{
			"big0.0 big1.0 big0.1 big1.1 big0.2 big1.2 big0.3 big1.3",
			"small0.0 heavy0.0 heavy0.1 heavy0.2 heavy0.3 heavy0.4 heavy0.5 heavy0.6", // big has used eight
			"heavy0.7 heavy0.8 heavy0.9 heavy0.10 heavy0.11 heavy0.12 heavy0.13 heavy0.14",
			"heavy0.15 big0.4 heavy0.16 heavy0.17 big1.4 heavy0.18 heavy0.19 big0.5",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWeightsHold, however few come in at a time.
func TestWeightsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.weights["heavy"] = 2
		h.others()
		h.pending = depth
		h.wait("light", 1, 100, 0)
		h.wait("heavy", 1, 100, 0)
		got := map[string]int{}
		for range 120 {
			h.others()
			for name := range strings.FieldsSeq(h.take(1)) {
				got[strings.TrimRight(name, "0123456789.")]++
			}
		}
		if sum := got["light"] + got["heavy"]; sum != 120 || got["heavy"] != 2*got["light"] {
			t.Errorf("one at a time, %v came in", got)
		}
	})
}

// TestWhoUsesManyLanesLetsOthersBefore: what counts is what a company used over all lanes, so who has as much in one lane as others have in each waits for
// few of theirs.
func TestWhoUsesManyLanesLetsOthersBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		l, m := h.gates["l"], h.gates["m"]
		l.runs, m.runs = true, true // the test lets in itself
		for i := range 20 {
			for _, lane := range []string{"l", "m"} {
				h.waitFor(lane, string(rune('A'+i)), 1, 20, 0)
			}
		}
		for range 5 { // each has one of each of its lanes
			h.intake.take(l, 20)
			h.intake.take(m, 20)
		}
		h.wait("quiet", 1, 9, 0)
		quiet := 0
		for _, w := range h.intake.take(l, 20) {
			if w.Company == "quiet" {
				quiet++
			}
		}
		if quiet != 9 {
			t.Errorf("%d of the 9 of the company that used nothing are let in, and others used 10 each", quiet)
		}
	})
}

// TestUseIsForgotten, by halves, and its figures stay small.
func TestUseIsForgotten(t *testing.T) {
	start := time.Now()
	u := usage{since: start, of: map[string]float64{}}
	u.add("before", 100, start)
	u.add("now", 50, start.Add(halfLife))
	if u.of["before"] != u.of["now"] {
		t.Errorf("what was used before counts %v, and half as much now %v", u.of["before"], u.of["now"])
	}
	later := start.Add((rebased + 1) * halfLife)
	u.add("later", 3, later)
	if !u.large(later) {
		t.Fatal("the figures may grow for ever")
	}
	u.rebase(later, map[string]bool{"now": true})
	if _, ok := u.of["before"]; ok || u.of["later"] != 3 || u.of["now"] <= 0 || u.large(later) {
		t.Errorf("after that, they are %v", u.of)
	}
	if u.rebase(start.Add(time.Hour*24*365), nil); len(u.of) > 0 {
		t.Errorf("after a year, they are %v", u.of)
	}
}

// TestTurnsGoOnWhereFiguresAreScaled: who used much before is not kept waiting by it.
func TestTurnsGoOnWhereFiguresAreScaled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.others()
		h.pending = depth
		h.wait("much", 1, 1000, 0)
		for range 10 {
			h.others()
			h.take(depth)
		}
		h.mu.Lock()
		h.pending = depth
		h.mu.Unlock()
		h.intake.mu.Lock()
		h.rebase(time.Now().Add((rebased + 1) * halfLife))
		h.used.since = time.Now()
		h.intake.mu.Unlock()
		h.wait("little", 1, 20, 0)
		h.others()
		if got := strings.Count(h.take(depth), "much"); got != depth/2 {
			t.Errorf("%d of %d are its own, where another has as much", got, depth)
		}
	})
}

// TestWhoWaitsHasAPart of a lane that others fill without asking.
func TestWhoWaitsHasAPart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.others()
		h.pending = 10 * depth
		h.wait("waits", 1, 20, 0)
		time.Sleep(10 * longest)
		h.mu.Lock()
		defer h.mu.Unlock()
		if n := len(h.came); n < part || n > 20 {
			t.Errorf("%d came in", n)
		}
	})
}

// TestOneCompanyLeavesRoomToWait: when many wait, those of a company that has few are still let wait.
func TestOneCompanyLeavesRoomToWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		h.others()
		h.failed = errors.New("away")
		h.wait("much", 10, mostWaiting+1000, 0)
		if n, _ := h.Waits("l"); n != mostWaiting {
			t.Errorf("%d of one company wait, want %d at most", n, mostWaiting)
		}
		if !h.Wait(Waiting{Lane: "l", Company: "little", Name: "x", Enter: func(context.Context) {}}) {
			t.Error("who has little is turned away")
		}
		h.Close()
	})
}

// TestLongBodiesCountForMore: a company whose tasks bring long bodies has fewer of them in.
func TestLongBodiesCountForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.others()
		h.pending = depth
		h.wait("long", 1, 3, 5*weighs)
		h.wait("short", 1, 12, 0)
		got := []string{h.take(depth), h.take(1), h.take(5)}
		want := []string{"long0.0 short0.0 short0.1 short0.2 short0.3 short0.4 short0.5 long0.1", "short0.6", "short0.7 short0.8 short0.9 short0.10 short0.11"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWhoIsAloneHasAll: nothing waits for turns where there is nobody else.
func TestWhoIsAloneHasAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.Pass(context.Background(), "l", "alone", 0)
		time.Sleep(2 * loneFor)
		passed := 0
		for passed <= 2*depthAlone && h.Pass(context.Background(), "l", "alone", 0) {
			passed++
			h.bring("")
		}
		if passed < depthAlone || passed > depthAlone+depth {
			t.Errorf("%d pass, where a lane holds %d", passed, depthAlone)
		}
	})
}

// TestNothingWaitsTwice, and not without end; what Redis or a panic keeps from coming in keeps nobody else; and at the end all come in.
func TestNothingWaitsTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		h.failed = errors.New("away")
		h.Wait(Waiting{Lane: "l", Company: "a", Name: "a", Enter: func(context.Context) { panic("no") }})
		for range 2 {
			h.wait("b", 1, 3, 0)
		}
		if got := h.take(0); got != "" {
			t.Errorf("%s came in although nobody knows how many there are", got)
		}
		h.mu.Lock()
		h.failed = nil
		h.mu.Unlock()
		if got := h.take(0); got != "b0.0 b0.1 b0.2" {
			t.Errorf("%s came in", got)
		}
		h.others()
		h.pending = depth
		h.wait("c", 1, mostWaiting, 0)
		if h.Wait(Waiting{Lane: "l", Company: "c", Name: "c", Enter: func(context.Context) {}}) {
			t.Error("more wait than are remembered")
		}
		h.came = nil
		h.Close()
		if len(h.came) != mostWaiting {
			t.Errorf("%d of %d came in at the end", len(h.came), mostWaiting)
		}
		if !h.Pass(context.Background(), "l", "a", 0) {
			t.Error("after the end somebody has to wait")
		}
	})
}

// TestWhatWaitsMovesWithItsLane, in its order, and what is for the slow lane stays there.
func TestWhatWaitsMovesWithItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		defer h.Close()
		h.others()
		h.failed = errors.New("away")
		h.wait("a", 2, 6, 0)
		h.waitFor(Slow, "a", 1, 2, 0)
		h.waitFor("m", "b", 1, 2, 0)
		h.move(func(company string, callback int64) string {
			if company == "a" && callback == 0 {
				return "l"
			}
			return "m"
		})
		for lane, want := range map[string]int{"l": 3, "m": 5, Slow: 2} {
			if n, since := h.Waits(lane); n != want || since.IsZero() {
				t.Errorf("%d wait for %s, want %d", n, lane, want)
			}
		}
		if n := h.Of("a"); n != 8 {
			t.Errorf("%d of a wait", n)
		}
		h.mu.Lock()
		h.failed, h.pending = nil, depth
		h.mu.Unlock()
		for lane, want := range map[string]string{"l": "a0.0 a0.1 a0.2", "m": "a1.0 b0.0 a1.1 b0.1 a1.2"} {
			h.intake.mu.Lock()
			var got []string
			g := h.gates[lane]
			for len(g.turns) > 0 {
				c := heap.Pop(&g.turns).(*crowd)
				w := c.pop()
				got = append(got, strings.TrimLeft(w.Name, "lm"))
				c.used += float64(w.cost())
				if c.size > 0 {
					heap.Push(&g.turns, c)
				}
			}
			clear(g.known)
			clear(g.crowds)
			h.intake.mu.Unlock()
			if strings.Join(got, " ") != want {
				t.Errorf("%s: %v", lane, got)
			}
		}
	})
}
