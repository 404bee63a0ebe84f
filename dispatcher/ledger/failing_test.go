package ledger

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

// fail makes n attempts fail, with a pause before each but the first, and returns what was told.
func (d *desk) fail(cb int64, n int, pause time.Duration, how ending) (told []string) {
	d.t.Helper()
	for i := range n {
		if i > 0 {
			time.Sleep(pause)
		}
		if d.attempt(cb, how).Noticed {
			told = append(told, d.told()...)
		}
	}
	return told
}

// told empties the outbox, and says what is in it in a few words each.
func (d *desk) told() (all []string) {
	d.t.Helper()
	notices, err := d.ledger.Notices(d.t.Context(), d.company)
	d.must(err)
	for id, text := range notices {
		var n struct {
			Percent int    `json:"p"`
			Gate    string `json:"g"`
		}
		d.must(json.Unmarshal([]byte(text), &n))
		words := strconv.Itoa(n.Percent)
		if n.Gate != "" {
			gate, err := registry.ParseGate(n.Gate)
			d.must(err)
			words = gate.Reason
		}
		kind, _, _ := strings.Cut(strings.TrimPrefix(id, "callback."), ":")
		all = append(all, kind+" "+words)
		_, err := d.ledger.DropNotice(d.t.Context(), d.company, id)
		d.must(err)
	}
	slices.Sort(all)
	return all
}

// status is a callback's, as its gate says.
func (d *desk) status(cb int64) registry.Status {
	d.t.Helper()
	gates, err := d.ledger.Gates(d.t.Context(), d.company, []int64{cb})
	d.must(err)
	if gates[cb] == nil {
		return registry.Enabled
	}
	return gates[cb].Status
}

// How far a run of failures came, as it is told.
var (
	warned   = []string{"failing 50", "failing 70", "failing 90"}
	disabled = append(slices.Clone(warned), "disabled failing")
)

// A failureRun is what happens to a callback, and what is told of it.
type failureRun struct {
	run  func(d *desk, cb int64) []string
	told []string
}

func testRuns(t *testing.T, runs map[string]failureRun) {
	t.Helper()
	for name, tt := range runs {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				told := tt.run(d, cb)
				if diff := cmp.Diff(tt.told, told); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				want := registry.Enabled
				if len(tt.told) > 0 && strings.HasPrefix(tt.told[len(tt.told)-1], "disabled") {
					want = registry.Disabled
				}
				if got := d.status(cb); got != want {
					t.Errorf("it is %s, want %s", got, want)
				}
			})
		})
	}
}

// TestARunOfFailures disables a callback after five days of nothing but failure, in twenty attempts at least, and warns of it at 50, 70 and 90 percent of
// the way, once each.
func TestARunOfFailures(t *testing.T) {
	testRuns(t, map[string]failureRun{
		"54 hours":            {func(d *desk, cb int64) []string { return d.fail(cb, 10, 6*hour, badly) }, nil},
		"60 hours":            {func(d *desk, cb int64) []string { return d.fail(cb, 11, 6*hour, badly) }, warned[:1]},
		"78 hours":            {func(d *desk, cb int64) []string { return d.fail(cb, 14, 6*hour, badly) }, warned[:1]},
		"84 hours":            {func(d *desk, cb int64) []string { return d.fail(cb, 15, 6*hour, badly) }, warned[:2]},
		"102 hours":           {func(d *desk, cb int64) []string { return d.fail(cb, 18, 6*hour, badly) }, warned[:2]},
		"108 hours":           {func(d *desk, cb int64) []string { return d.fail(cb, 19, 6*hour, badly) }, warned},
		"114 hours":           {func(d *desk, cb int64) []string { return d.fail(cb, 20, 6*hour, badly) }, warned},
		"120 hours":           {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, badly) }, disabled},
		"of silence":          {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, silence) }, disabled},
		"retries count":       {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, badly.retried(day)) }, disabled},
		"forty at once":       {func(d *desk, cb int64) []string { return d.fail(cb, 40, 0, badly) }, nil},
		"nine in six days":    {func(d *desk, cb int64) []string { return d.fail(cb, 9, 18*hour, badly) }, nil},
		"ten in six days":     {func(d *desk, cb int64) []string { return d.fail(cb, 10, 18*hour, badly) }, warned[:1]},
		"19 in six days":      {func(d *desk, cb int64) []string { return d.fail(cb, 19, 8*hour, badly) }, warned},
		"20 in six days":      {func(d *desk, cb int64) []string { return d.fail(cb, 20, 8*hour, badly) }, disabled},
		"at once, then daily": {func(d *desk, cb int64) []string { d.fail(cb, 20, 0, badly); return d.fail(cb, 6, day, badly) }, []string{"failing 50", "failing 70", "disabled failing"}},
	})
}

// TestWhatCountsInARun: of the time between two attempts a day at most, of an outage of our own nothing, nor what is not the callback's doing. A success
// ends the run.
func TestWhatCountsInARun(t *testing.T) {
	testRuns(t, map[string]failureRun{
		"two silent weeks count two days": {func(d *desk, cb int64) []string {
			d.fail(cb, 20, 0, badly)
			return d.fail(cb, 3, 7*day, badly)
		}, nil},
		"three count three": {func(d *desk, cb int64) []string {
			d.fail(cb, 20, 0, badly)
			return d.fail(cb, 4, 7*day, badly)
		}, warned[:1]},
		"our own outage does not count": {func(d *desk, cb int64) []string {
			return slices.Concat(d.fail(cb, 10, 6*hour, badly), d.fail(cb, 20, 6*hour, outage), d.fail(cb, 1, 0, badly))
		}, nil},
		"what comes after it does": {func(d *desk, cb int64) []string {
			return slices.Concat(d.fail(cb, 10, 6*hour, badly), d.fail(cb, 20, 6*hour, outage), d.fail(cb, 2, 6*hour, badly))
		}, warned[:1]},
		"nothing begins with one": {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, outage) }, nil},
		"no access token":         {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, unanswered(verdict.ReasonOAuthToken)) }, nil},
		"our own way out":         {func(d *desk, cb int64) []string { return d.fail(cb, 21, 6*hour, unanswered(verdict.ReasonEgressProxy)) }, nil},
		"a success forgives": {func(d *desk, cb int64) []string {
			return slices.Concat(d.fail(cb, 20, 6*hour, badly), d.fail(cb, 1, 0, well), d.fail(cb, 20, 6*hour, badly))
		}, slices.Concat(warned, warned)},
		"whoever opens it by hand, too": {func(d *desk, cb int64) []string {
			told := d.fail(cb, 20, 6*hour, badly)
			d.must(d.ledger.Ease(d.t.Context(), acme, cb))
			return append(told, d.fail(cb, 10, 6*hour, badly)...)
		}, warned},
		"a partner that says it is gone":  {func(d *desk, cb int64) []string { return d.fail(cb, 1, 0, gone) }, []string{"disabled gone"}},
		"for ever, where nobody disables": {func(d *desk, cb int64) []string { d.rule(patient); return d.fail(cb, 40, 6*hour, badly) }, nil},
	})
}

// outage is a failure while most destinations cannot be reached.
var outage = ending{Judgement: unanswered("refused").Judgement, outage: true}

// patient are the rules of an installation that disables nothing.
var patient = func() Rules { r := standard; r.DisableAfter = 0; return r }()

// TestGone: a callback is disabled by the first answer of 410, which is told once, unless the callback is another one by then.
func TestGone(t *testing.T) {
	for name, tt := range map[string]struct {
		before func(d *desk, cb int64) // the answers come
		told   []string
		status registry.Status
	}{
		"two hear it":         {func(*desk, int64) {}, []string{"disabled gone"}, registry.Disabled},
		"paused meanwhile":    {func(d *desk, cb int64) { d.pause(cb) }, []string{"disabled gone"}, registry.Disabled},
		"it changed since":    {func(d *desk, cb int64) { d.patch(cb, `{"timeout": "7s"}`) }, nil, registry.Enabled},
		"it is deleted since": {func(d *desk, cb int64) { d.must(d.registry.Delete(d.t.Context(), acme, cb)) }, nil, registry.Deleted},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				d.accept(numbered("p-", 2), cb)
				under := d.beginLane()
				tt.before(d, cb)
				for _, a := range under {
					time.Sleep(time.Second)
					d.finish(a, gone)
				}
				if diff := cmp.Diff(tt.told, d.told()); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				if got := d.status(cb); got != tt.status {
					t.Errorf("it is %s, want %s", got, tt.status)
				}
			})
		})
	}
}
