package ledger

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// hostPace is what holds back a callback by its host.
func (d *desk) hostPace(cb int64) HostPace {
	d.t.Helper()
	now, err := d.ledger.Now(d.t.Context())
	d.must(err)
	p, err := d.ledger.Pace(d.t.Context(), d.company, cb, now)
	d.must(err)
	return p.Host
}

// failOn makes n attempts fail, to the callbacks by turns: so many that each callback's own breaker stays closed.
func (d *desk) failOn(n int, how ending, callbacks ...int64) {
	d.t.Helper()
	for i := range n {
		d.attempt(callbacks[i%len(callbacks)], how)
	}
}

// A hostRow is what happens to callbacks of one host, and whether that narrows it.
type hostRow struct {
	ends   func(d *desk, a, b, c int64)
	narrow bool
}

func testHost(t *testing.T, table map[string]hostRow) {
	t.Helper()
	for name, tt := range table {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				a, b, c, bystander := d.callback(""), d.callback(""), d.callback(""), d.callback("")
				tt.ends(d, a, b, c)
				if got := d.hostPace(bystander).Narrowed; got != tt.narrow {
					t.Errorf("the host is narrow: %t, want %t", got, tt.narrow)
				}
				time.Sleep(11 * time.Second)
				d.accept(numbered("p-", 5), bystander)
				if want := map[bool]int{true: 1, false: 5}[tt.narrow]; len(d.lane) != want {
					t.Errorf("%d of a callback that never failed go out, want %d", len(d.lane), want)
				}
			})
		})
	}
}

// TestHostsAreSparedForSilenceOnly: ten attempts in a row that found nobody, or were told to come later, narrow a host. Any other answer widens it again.
func TestHostsAreSparedForSilenceOnly(t *testing.T) {
	elsewhere := well
	elsewhere.host = "other.example"
	testHost(t, map[string]hostRow{
		"silence":         {func(d *desk, a, b, c int64) { d.failOn(10, silence, a, b, c) }, true},
		"one too few":     {func(d *desk, a, b, c int64) { d.failOn(9, silence, a, b, c) }, false},
		"503":             {func(d *desk, a, b, c int64) { d.failOn(10, busy, a, b, c) }, true},
		"429":             {func(d *desk, a, b, c int64) { d.failOn(10, answered(429), a, b, c) }, true},
		"500":             {func(d *desk, a, b, c int64) { d.failOn(25, badly, a, b, c) }, false},
		"404":             {func(d *desk, a, b, c int64) { d.failOn(25, answered(404), a, b, c) }, false},
		"no access token": {func(d *desk, a, b, c int64) { d.failOn(25, unanswered(verdict.ReasonOAuthToken), a, b, c) }, false},
		"our own way out": {func(d *desk, a, b, c int64) { d.failOn(25, unanswered(verdict.ReasonEgressProxy), a, b, c) }, false},
		"an answer between": {func(d *desk, a, b, c int64) {
			d.failOn(9, busy, a, b, c)
			d.attempt(a, badly)
			d.failOn(9, busy, a, b, c)
		}, false},
		"a delivery between": {func(d *desk, a, b, c int64) {
			d.failOn(9, busy, a, b, c)
			d.attempt(a, well)
			d.failOn(9, busy, a, b, c)
		}, false},
		"another host's answer": {func(d *desk, a, b, c int64) { d.failOn(9, busy, a, b, c); d.attempt(c, elsewhere); d.attempt(a, busy) }, true},
		"within an hour": {func(d *desk, a, b, c int64) {
			d.failOn(9, busy, a, b, c)
			time.Sleep(59 * time.Minute)
			d.attempt(a, busy)
		}, true},
		"after an hour": {func(d *desk, a, b, c int64) {
			d.failOn(9, busy, a, b, c)
			time.Sleep(61 * time.Minute)
			d.attempt(a, busy)
		}, false},
		"and answered then": {func(d *desk, a, b, c int64) { d.failOn(10, busy, a, b, c); d.attempt(a, answered(404)) }, false},
		"and forgotten":     {func(d *desk, a, b, c int64) { d.failOn(10, busy, a, b, c); time.Sleep(61 * time.Minute) }, false},
	})
}

// TestOneCallbackNarrowsNoHost: its failures in a row count once, for its own breaker spares the host them.
func TestOneCallbackNarrowsNoHost(t *testing.T) {
	testHost(t, map[string]hostRow{
		"two callbacks":       {func(d *desk, a, b, _ int64) { d.failOn(10, silence, a, b) }, true},
		"one callback":        {func(d *desk, a, _, _ int64) { d.failOn(15, silence, a) }, false},
		"one after the other": {func(d *desk, a, b, c int64) { d.failOn(9, busy, a); d.failOn(9, busy, b); d.failOn(9, busy, c) }, false},
	})
}

// TestANarrowHostIsTriedOnceInAWhile, whichever callback it is for: the pause doubles with each probe that fails, from a second to ten, unless the
// partner asks for more. What says nothing about the host gives the turn back.
func TestANarrowHostIsTriedOnceInAWhile(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		all := []int64{d.callback(""), d.callback(""), d.callback(""), d.callback(""), d.callback("")}
		d.failOn(9, silence, all...)
		var pauses []time.Duration
		for i, how := range []ending{
			silence, silence, busy, silence, silence, silence, busy.asking(25 * time.Second), unanswered(verdict.ReasonUnknown), silence,
		} {
			d.attempt(all[(i+4)%5], how)
			pauses = append(pauses, max(0, time.Until(d.hostPace(all[0]).Before))/time.Second)
		}
		if diff := cmp.Diff([]time.Duration{1, 2, 4, 8, 10, 10, 25, 0, 10}, pauses); diff != "" {
			t.Errorf("pauses in seconds (-want +got):\n%s", diff)
		}
	})
}

// TestTheTurnOfANarrowHost: what was let out before the host became narrow waits, too. While a probe is out nothing else goes, for 75 s if nobody says
// how it ended.
func TestTheTurnOfANarrowHost(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		a, b, c := d.callback(""), d.callback(""), d.callback("")
		d.accept([]string{"early"}, c)
		early := d.lane[0]
		time.Sleep(time.Second)
		d.failOn(10, silence, a, b)
		if o, why := d.begin(d.claim(early)); o != nil || why.Outcome != WaitsInRoom {
			t.Errorf("what was let out before ended with %+v", why)
		}
		d.lane = nil
		time.Sleep(time.Second)
		d.pump(c)
		if probe := d.beginLane(); len(probe) != 1 {
			t.Fatalf("%d go out after the pause", len(probe))
		}
		d.accept(numbered("p-", 3), a, b, c)
		for _, cb := range []int64{a, b, c} {
			if p := d.pump(cb); len(p.Released) > 0 || p.Wait != 75*time.Second {
				t.Errorf("while the probe is out: %+v", p)
			}
		}
		time.Sleep(75 * time.Second)
		for _, cb := range []int64{b, c, a} {
			d.pump(cb)
		}
		if len(d.lane) != 1 || d.lane[0].Callback != b {
			t.Errorf("then %v go out, want one to the first that is pumped", d.lane)
		}
	})
}

// TestOnlyTheProbeGivesTheTurnBack: what cannot begin gives back the turn of its narrow host if it has it, and leaves another's alone.
func TestOnlyTheProbeGivesTheTurnBack(t *testing.T) {
	for name, tt := range map[string]struct {
		probe bool // it is let out as the host's probe, not before the host became narrow
		late  bool // it finds no token of the rate limit; else no place in the process
	}{
		"no place, let out before": {},
		"no place, the probe":      {probe: true},
		"no token, let out before": {late: true},
		"no token, the probe":      {probe: true, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb, a, b := d.limited(0.1, 1), d.callback(""), d.callback("")
				if tt.probe {
					d.failOn(10, busy, a, b)
					time.Sleep(time.Second)
				}
				d.accept([]string{"p"}, cb)
				ticket := d.lane[0]
				time.Sleep(3 * time.Second) // its token was for then
				if !tt.probe {
					d.failOn(10, busy, a, b)
					time.Sleep(time.Second)
					d.accept([]string{"q"}, a) // the probe
				}
				before := d.hostPace(cb).Before
				c := d.claim(ticket)
				c.NoTurn = !tt.late
				if o, why := d.begin(c); o != nil || why.Outcome != WaitsInRoom {
					t.Fatalf("the claim ended with %+v", why)
				}
				want := before
				if tt.probe {
					want = time.Now().UTC()
				}
				if got := d.hostPace(cb).Before; !got.Equal(want) {
					t.Errorf("nothing goes out before %s, want %s", got, want)
				}
			})
		})
	}
}
