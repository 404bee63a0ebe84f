package ledger

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// limited registers a callback with a rate limit.
func (d *desk) limited(perSecond float64, burst int) int64 {
	d.t.Helper()
	return d.callback(fmt.Sprintf(`"rate_limit": {"per_second": %g, "burst": %d}`, perSecond, burst))
}

// deliver makes, until a time is over, each attempt to a callback as soon as it may begin, and returns how many that were. All of them end well at once.
func (d *desk) deliver(cb int64, within time.Duration) (n int) {
	d.t.Helper()
	for end := time.Now().Add(within); ; {
		for len(d.lane) > 0 {
			begun := d.beginLane()
			n += len(begun)
			for _, a := range begun {
				d.finish(a, well)
			}
		}
		p := d.pump(cb)
		switch {
		case len(p.Released) > 0:
		case p.Wait == 0 || time.Now().Add(p.Wait).After(end):
			time.Sleep(time.Until(end))
			return n
		default:
			time.Sleep(p.Wait)
		}
	}
}

// TestTheRateLimit: burst and rate bound what goes out in any time. What was not used for an hour adds up to the burst, and no further.
func TestTheRateLimit(t *testing.T) {
	for name, tt := range map[string]struct {
		perSecond float64
		burst     int
		out       []int // in each second
	}{
		"two a second":            {2, 1, []int{2, 2, 2, 2}}, // one at once, one each half a second
		"with a burst":            {2, 5, []int{6, 2, 2, 2}},
		"one in two seconds":      {0.5, 1, []int{1, 0, 1, 0, 1}},
		"many, several at a time": {40, 10, []int{48, 40}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.limited(tt.perSecond, tt.burst)
				d.attempt(cb, well) // so that there is a bucket
				time.Sleep(time.Hour)
				d.accept(numbered("p-", 120), cb)
				var out []int
				for range tt.out {
					out = append(out, d.deliver(cb, time.Second-time.Millisecond))
					time.Sleep(time.Millisecond)
				}
				if diff := cmp.Diff(tt.out, out); diff != "" {
					t.Errorf("in each second (-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestARetryTakesATokenToo: it stands outside the window, and waits in the room if there is none.
func TestARetryTakesATokenToo(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.limited(0.1, 2)
		d.accept(numbered("p-", 2), cb)
		for _, a := range d.beginLane() {
			if got := d.finish(a, badly.retried(10*time.Second)).State; got != Retrying {
				t.Fatalf("it is %s", got)
			}
		}
		time.Sleep(11 * time.Second) // one token is there again
		first, _ := d.begin(d.claim(Ticket{Ref: d.ref("p-0", cb), Generation: 1}))
		second, why := d.begin(d.claim(Ticket{Ref: d.ref("p-1", cb), Generation: 1}))
		if first == nil || second != nil || why.Outcome != WaitsInRoom || why.Wait < 8*time.Second || why.Wait > 10*time.Second {
			t.Errorf("with one token for two, the second's claim ended with %+v", why)
		}
	})
}

// TestTokensDoNotPileUpInTheLane: a delivery that was let out has its token for two seconds. Then it needs another one to begin.
func TestTokensDoNotPileUpInTheLane(t *testing.T) {
	for _, tt := range []struct {
		after time.Duration
		begun int
	}{{time.Second, 15}, {2 * time.Second, 10}, {3 * time.Second, 5}} {
		t.Run(tt.after.String(), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.limited(5, 5)
				d.accept(numbered("p-", 40), cb)
				for range 2 {
					time.Sleep(time.Second)
					d.pump(cb)
				}
				if n := len(d.lane); n != 15 {
					t.Fatalf("%d are in the lane", n)
				}
				time.Sleep(tt.after)
				if n := len(d.beginLane()); n != tt.begun {
					t.Errorf("%d begin, want %d", n, tt.begun)
				}
			})
		})
	}
}

// TestARateLimitThatChanges: another one counts from the next look on, which comes within five seconds however long the old one would have kept them.
func TestARateLimitThatChanges(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.limited(0.01, 1)
		d.accept(numbered("p-", 10), cb)
		if p := d.pump(cb); p.Wait < time.Minute {
			t.Errorf("the old one keeps them for %s", p.Wait)
		}
		d.patch(cb, `{"rate_limit": null}`)
		if d.due(cb) {
			t.Error("it is looked at again at once")
		}
		time.Sleep(5 * time.Second)
		if !d.due(cb) {
			t.Error("it is not looked at within five seconds")
		}
		d.pump(cb)
		if n := len(d.beginLane()); n != 10 {
			t.Errorf("%d go out", n)
		}
	})
}

// TestAClockThatStepsBack freezes neither bucket nor breaker: another Redis takes the place of one that was an hour ahead.
func TestAClockThatStepsBack(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb, began := d.limited(1, 10), time.Now()
		d.mini.SetTime(began.Add(time.Hour))
		for range 10 { // the last takes the last token and narrows the breaker
			d.attempt(cb, silence)
		}
		d.mini.SetTime(began)
		d.accept(numbered("p-", 5), cb)
		if p := d.pump(cb); p.Wait != time.Second || len(d.lane) > 0 {
			t.Errorf("%d go out, and more in %s, want one token's time", len(d.lane), p.Wait)
		}
		d.mini.SetTime(began.Add(time.Second))
		if d.pump(cb); len(d.lane) != 1 {
			t.Errorf("%d go out", len(d.lane))
		}
	})
}
