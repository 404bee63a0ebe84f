package bench

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestMonitoredCommands(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		line   string
		name   string
		script bool
	}{
		{`+1339518083.107412 [0 127.0.0.1:60866] "get" "x"`, "get", false},
		{`+1339518083.107412 [0 lua] "HGET" "x" "y"`, "hget", true},
		{`+1339518083.107412 [0 unix:/tmp/redis.sock] "evalsha" "] \"lua] \"x"`, "evalsha", false},
		{`+OK`, "", false},
		{`rest of a long line [0 lua] "HSET"`, "", false},
		{`+1339518083.107412 [0 lua] "HSE`, "", false},
	} {
		if name, script := monitored([]byte(tt.line)); name != tt.name || script != tt.script {
			t.Errorf("%s: %q, %t", tt.line, name, script)
		}
	}
}

// TestUsageCountsNothingTwice: what a script calls is in the script's own time already.
func TestUsageCountsNothingTwice(t *testing.T) {
	t.Parallel()
	info := map[string]string{
		"cmdstat_evalsha": "calls=10,usec=1000,usec_per_call=100.00", "cmdstat_hget": "calls=70,usec=300", "cmdstat_publish": "calls=5,usec=20",
		"cmdstat_info": "calls=2,usec=500", "cmdstat_client|list": "calls=1,usec=90", "cmdstat_zcount": "calls=9,usec=90",
	}
	got := usageOf(info, map[string]bool{"publish": true, "info": true})
	if want := (usage{15, 1020 * time.Microsecond}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestBookCountsEachDeliveryOnce(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	b := r.open('a', 2, 3)
	for number := range 3 {
		b.enter(0, 30+number, time.Second, uint64(number+1))
	}
	b.enter(0, 31, 2*time.Second, 2) // again
	b.enter(0, 32, 2*time.Second, 9) // again, under another id
	b.enter(2, 30, time.Second, 7)   // no such event
	b.enter(1, 32, 3*time.Second, 8)
	at, last := b.arrivals()
	if want := []time.Duration{time.Second, time.Second, time.Second, 0, 0, 3 * time.Second}; !slices.Equal(at, want) || last != 3*time.Second {
		t.Errorf("arrivals %v, the last at %s", at, last)
	}
	if b.left.Load() != 2 || b.duplicates.Load() != 2 || b.changedIDs.Load() != 1 {
		t.Errorf("%d missing, %d duplicates, %d of them under another id", b.left.Load(), b.duplicates.Load(), b.changedIDs.Load())
	}
	for number := range 2 {
		b.enter(1, 30+number, time.Second, 1)
	}
	select {
	case <-b.full:
	default:
		t.Error("the book is full and does not say so")
	}
}

// TestSendingReportsWhatIsMissing: of two events one is accepted and delivered twice of three times.
func TestSendingReportsWhatIsMissing(t *testing.T) {
	t.Parallel()
	b := (&receiver{}).open('a', 2, 3)
	b.enter(0, 0, 1500*time.Millisecond, 1)
	b.enter(0, 1, 3*time.Second, 2)
	s := &sending{load: load{events: 2, fan: 3}, book: b, began: time.Second, accepted: []time.Duration{2 * time.Second, 0}}
	want := Figures{Events: 2, Deliveries: 2, Missing: 4, Duplicates: 0, ChangedIDs: 0, AcceptedRate: 1, DeliveryRate: 1, P50: 0, P95: 1000, P99: 1000}
	if diff := cmp.Diff(want, s.figures()); diff != "" {
		t.Error(diff)
	}
}

func TestReportHasMediansAndRatios(t *testing.T) {
	t.Parallel()
	r := &Report{Runs: 3}
	for run, rate := range []float64{100, 300, 200} {
		for binary := 1; binary <= 2; binary++ {
			r.add("idle", binary, phase{figures: Figures{DeliveryRate: rate * float64(binary), Missing: float64(run), Events: 5}})
		}
	}
	r.conclude(nil)
	first, second := r.Results[0], r.Results[1]
	if diff := cmp.Diff(Figures{DeliveryRate: 200, LowestRate: 100, HighestRate: 300, Missing: 2, Events: 5}, first.Median); diff != "" || first.Ratios != nil {
		t.Errorf("the first binary's: %s, ratios %v", diff, first.Ratios)
	}
	if diff := cmp.Diff(Figures{DeliveryRate: 2}, second.Ratios); diff != "" {
		t.Errorf("the second one's: %s", diff)
	}
	if missing, _, _ := r.Faults(); missing != 6 {
		t.Errorf("%d are missing", missing)
	}
}

func TestFloorsAddUp(t *testing.T) {
	t.Parallel()
	f := Figures{DeliveryRate: 100}
	f.compareWith(Figures{FloorAccept: 1000, FloorAsynq: 500, FloorPost: 1000}, 10) // 0.1 + 2 + 1 ms for each delivery
	if got := fmt.Sprintf("%.2f", f[OfFloor]); got != "0.31" {
		t.Errorf("%s of the floor", got)
	}
}

// TestEventsHaveTheirLength, and those of a batch a line each.
func TestEventsHaveTheirLength(t *testing.T) {
	t.Parallel()
	single, long := load{letter: 'a', events: 3}.bodies(), load{letter: 'a', events: 1, bytes: 5000}.bodies()
	if len(single) != 3 || len(single[0]) != eventBytes || len(long[0]) != 5000 {
		t.Errorf("%d of %d bytes, a long one of %d", len(single), len(single[0]), len(long[0]))
	}
	batches := load{letter: 'a', events: 3, batch: 2}.bodies()
	if len(batches) != 2 || len(batches[0]) != 2*(eventBytes+1) || len(batches[1]) != eventBytes+1 {
		t.Errorf("%d batches of %d and %d bytes", len(batches), len(batches[0]), len(batches[1]))
	}
}
