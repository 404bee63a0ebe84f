package dispatcher

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
)

// A road is a brake under test: what goes on it says so.
type road struct {
	*brake
	t    *testing.T
	gone chan string
}

// onARoad runs f with a brake that knows how quickly all goes at rest, and companies that are not alone.
func onARoad(t *testing.T, f func(r *road)) {
	synctest.Test(t, func(t *testing.T) {
		r := &road{newBrake(new(lanes.Lone)), t, make(chan string, 1000)}
		r.lone.Note("other")
		r.leave(r.enter(t.Context(), "other", false), time.Millisecond)
		r.lone.Note("busy")
		f(r)
	})
}

// go begins an attempt of a company, which may have to wait.
func (r *road) begin(company string, task bool) *ride {
	ride := r.enter(r.t.Context(), company, task)
	r.gone <- company
	return ride
}

// began are those that began so far.
func (r *road) began() (companies []string) {
	synctest.Wait()
	for len(r.gone) > 0 {
		companies = append(companies, <-r.gone)
	}
	return companies
}

// slow has an attempt of another company take long to be recorded.
func (r *road) slow() { r.leave(r.enter(r.t.Context(), "other", false), time.Second) }

// TestTheBrake: while all is slow, who has much under way waits, and who has little does not; what ends lets the companies on by turns, tasks of a
// lane before what goes on in chains.
func TestTheBrake(t *testing.T) {
	t.Parallel()
	onARoad(t, func(r *road) {
		var rides []*ride
		for range 2 * leastAtOnce {
			rides = append(rides, r.begin("busy", true)) // nothing is slow yet
		}
		for range 2*leastAtOnce + 10 {
			r.slow()
		}
		if r.limit != leastAtOnce {
			r.t.Errorf("the limit is %d, want %d", r.limit, leastAtOnce)
		}
		for range fewAtOnce {
			r.begin("small", true)
		}
		r.began()
		go r.begin("busy", false)
		synctest.Wait()
		go r.begin("busy", true)
		synctest.Wait()
		go r.begin("small", true)
		if got := r.began(); len(got) > 0 {
			r.t.Errorf("%v go on", got)
		}
		for len(rides) > 0 && len(r.gone) == 0 {
			r.leave(rides[0], 0)
			rides = rides[1:]
			synctest.Wait()
		}
		for _, ride := range rides[:2] {
			r.leave(ride, 0)
			synctest.Wait()
		}
		if diff := cmp.Diff([]string{"busy", "small", "busy"}, r.began()); diff != "" {
			r.t.Error(diff)
		}
	})
}

// TestTasksComeBeforeChains of the same company: others' tasks wait behind them in the lane.
func TestTasksComeBeforeChains(t *testing.T) {
	t.Parallel()
	onARoad(t, func(r *road) {
		r.limit = 1
		first := r.begin("busy", true)
		for range fewAtOnce - 1 {
			r.begin("busy", true)
		}
		order := make(chan string, 3)
		for i, task := range []bool{false, true, true} {
			go func() {
				r.enter(r.t.Context(), "busy", task)
				order <- fmt.Sprint(i)
			}()
			synctest.Wait()
		}
		r.leave(first, 0)
		synctest.Wait()
		if got := <-order; got != "1" || len(order) > 0 {
			r.t.Errorf("number %s goes on first, and %d more", got, len(order))
		}
	})
}

// TestWhoIsAloneIsNotBraked, and what hangs is not counted; a chain waits for a second at most, and nobody beyond his end.
func TestWhoIsAloneIsNotBraked(t *testing.T) {
	t.Parallel()
	onARoad(t, func(r *road) {
		r.limit = 2
		for range fewAtOnce {
			r.begin("busy", true)
		}
		r.began()
		began := time.Now()
		r.begin("busy", true) // once the first count no more
		if took := time.Since(began); took < countsFor || took > 2*countsFor {
			r.t.Errorf("what hangs counts for %s", took)
		}
		for range 2 * fewAtOnce {
			r.start(&ride{company: r.braked("busy")})
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), countsFor/10)
		defer cancel()
		began = time.Now()
		r.enter(ctx, "busy", true)
		if took := time.Since(began); took != countsFor/10 {
			r.t.Errorf("it went on after %s, when its caller's time was over", took)
		}
		time.Sleep(2 * time.Second)
		began = time.Now()
		for range 100 {
			r.begin("busy", true)
		}
		if took := time.Since(began); took > 0 {
			r.t.Errorf("who is alone waited for %s", took)
		}
	})
}

// TestTheLanesWaitForTheBrake: as long as many tasks wait, no more are taken.
func TestTheLanesWaitForTheBrake(t *testing.T) {
	t.Parallel()
	onARoad(t, func(r *road) {
		r.limit = 1
		first := r.begin("busy", true)
		for range fewAtOnce - 1 {
			r.begin("busy", true)
		}
		for range 3 * mostBrakedAtOnce {
			go r.begin("busy", false)
		}
		synctest.Wait()
		if r.full() != nil {
			r.t.Error("what goes on in chains keeps tasks in the lanes")
		}
		for range mostBrakedAtOnce {
			go r.begin("busy", true)
		}
		synctest.Wait()
		room := r.full()
		if room == nil {
			r.t.Fatal("no end of tasks is taken")
		}
		r.leave(first, 0)
		select {
		case <-room:
		default:
			r.t.Error("nobody is told that there is room")
		}
		if r.full() != nil {
			r.t.Error("there is no room")
		}
	})
}

// TestTheLimitFollowsTheMachine: it falls as long as recording is slow, and rises as long as it is quick and bounds something.
func TestTheLimitFollowsTheMachine(t *testing.T) {
	t.Parallel()
	onARoad(t, func(r *road) {
		if r.limit != 0 {
			r.t.Fatalf("there is a limit of %d, and nothing is slow", r.limit)
		}
		var rides []*ride
		for range 100 {
			rides = append(rides, r.begin("busy", true))
		}
		r.slow()
		if r.limit < 90 || r.limit > 101 {
			r.t.Errorf("100 are slow, so the limit is %d", r.limit)
		}
		fell := r.limit
		for _, ride := range rides[:10] {
			r.leave(ride, time.Millisecond)
		}
		if r.limit < fell {
			r.t.Errorf("the limit fell to %d although all is quick", r.limit)
		}
		r.limit = 50
		for _, ride := range rides[10:30] {
			r.leave(ride, time.Millisecond)
		}
		if r.limit != 60 {
			r.t.Errorf("after 20 that were quick the limit is %d, want 60", r.limit)
		}
		for range 1000 {
			r.slow()
		}
		if r.limit != leastAtOnce {
			r.t.Errorf("the limit falls to %d", r.limit)
		}
	})
}

// TestWhatIsBrakedIsHeldBackByAPause: a delivery that has begun and waits for the brake does not go out once egress is paused.
func TestWhatIsBrakedIsHeldBackByAPause(t *testing.T) {
	inBubble(t, func(h *house) {
		h.register("payment_proof", "")
		h.send(proof("p-1"))
		w := h.worker() // never started
		w.brake.limit = 1
		var rides []*ride
		for range fewAtOnce {
			rides = append(rides, w.brake.enter(h.t.Context(), acme, false))
		}
		h.client.lanes.Lone().Note("other")
		r, looked := ledger.Ref{Company: acme, Event: "p-1", Callback: 1}, time.Now()
		a, err := w.begin(h.t.Context(), ticket("p-1", 1, 1), true, 0)
		h.must(err)
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			w.goOnBraked(h.t.Context(), ledger.Ticket{Ref: r, Generation: 1}, a, link{lane: laneOf(r), shares: w.shares[laneOf(r)]}, looked)
		}()
		_, err = h.client.PauseEgress(h.t.Context())
		h.must(err)
		for _, ride := range rides {
			w.brake.leave(ride, 0)
		}
		<-gone
		if d := h.delivery(r.DeliveryID()); d.State != ledger.Pending || len(h.partner.requests()) > 0 {
			h.t.Errorf("it is %s, and %d requests went out", d.State, len(h.partner.requests()))
		}
		_, err = h.client.ResumeEgress(h.t.Context())
		h.must(err)
		stop := h.work()
		h.awaitAll(time.Minute)
		h.check()
		stop()
	})
}
