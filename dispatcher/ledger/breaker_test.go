package ledger

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ringback/ringback/dispatcher/verdict"
)

// How attempts end in these tests.
var (
	well    = ending{Judgement: verdict.Judgement{Verdict: verdict.Delivered, Status: 204}}
	badly   = answered(500)
	busy    = answered(503)
	silence = unanswered(verdict.ReasonTimeout)
	gone    = ending{Judgement: verdict.Judgement{Verdict: verdict.Gone, Reason: verdict.ReasonGone, Status: 410}}
)

// answered is a failure that the partner answered.
func answered(status int) ending {
	return ending{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.StatusReason(status), Status: status}}
}

// unanswered is a failure that no answer came with.
func unanswered(reason verdict.Reason) ending {
	return ending{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: reason}}
}

// asking is a failure with which the partner asked for a pause.
func (e ending) asking(pause time.Duration) ending {
	e.RetryAfter = pause
	return e
}

// retried is a failure that is to be tried again after so long.
func (e ending) retried(after time.Duration) ending {
	e.again = after
	return e
}

// times is n attempts that end so.
func times(n int, e ending) []ending { return slices.Repeat([]ending{e}, n) }

// window is how many go out at a time to a callback that does well.
const window = 20

// A narrowing is what the breaker makes of attempts.
type narrowing struct {
	ends    []ending // one after the other
	breaker Breaker
	wait    time.Duration // until anything goes out
	out     int           // how many may then be under way at a time
}

func testBreaker(t *testing.T, table map[string]narrowing) {
	t.Helper()
	for name, tt := range table {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				cb := d.callback("")
				for _, how := range tt.ends {
					d.attempt(cb, how)
				}
				if got := d.health(cb).Breaker; got != tt.breaker {
					t.Errorf("the breaker is %s, want %s", got, tt.breaker)
				}
				d.accept(numbered("p-", window+1), cb)
				if tt.wait > 0 {
					if p := d.pump(cb); p.Wait != tt.wait || len(d.lane) > 0 {
						t.Errorf("%d went out, and more goes out in %s, want %s", len(d.lane), p.Wait, tt.wait)
					}
					time.Sleep(tt.wait)
					d.pump(cb)
				}
				if len(d.lane) != tt.out {
					t.Errorf("%d may be under way at a time, want %d", len(d.lane), tt.out)
				}
			})
		})
	}
}

// TestTheBreakerNarrows with ten failures in a row. A partner who answers badly is then asked eight at a time, one who does not answer once in a while.
func TestTheBreakerNarrows(t *testing.T) {
	testBreaker(t, map[string]narrowing{
		"nothing failed":       {nil, "closed", 0, window},
		"nine answers":         {times(9, badly), "closed", 0, window},
		"nine silences":        {times(9, silence), "closed", 0, window},
		"ten, not in a row":    {slices.Concat(times(9, badly), times(1, well), times(9, silence)), "closed", 0, window},
		"ten answers":          {times(10, badly), "open", 0, 8},
		"ten answers of 404":   {times(10, answered(404)), "open", 0, 8},
		"ten answers of 503":   {times(10, busy), "open", 0, 8},
		"thirty answers":       {times(30, badly), "open", 0, 8},
		"ten silences":         {times(10, silence), "open", time.Second, 1},
		"ten refused":          {times(10, unanswered("refused")), "open", time.Second, 1},
		"silence after answer": {slices.Concat(times(9, badly), times(1, silence)), "open", time.Second, 1},
		"answer after silence": {slices.Concat(times(9, silence), times(1, badly)), "open", 0, 8},
		"more and more silent": {slices.Concat(times(10, badly), times(1, silence)), "open", 2 * time.Second, 1},
		"speaks again, badly":  {slices.Concat(times(10, silence), times(1, badly)), "open", 0, 8},

		"a pause was asked for":         {slices.Concat(times(9, badly), times(1, busy.asking(7*time.Second))), "open", 7 * time.Second, 8},
		"a pause, before it is open":    {slices.Concat(times(8, badly), times(1, busy.asking(7*time.Second))), "closed", 0, window},
		"a pause is not the last's any": {slices.Concat(times(10, busy.asking(7*time.Second)), times(1, badly)), "open", 0, 8},

		"no access token":   {times(30, unanswered(verdict.ReasonOAuthToken)), "closed", 0, window},
		"a blocked address": {times(30, unanswered(verdict.ReasonBlockedAddress)), "closed", 0, window},
		"our own way out":   {times(30, unanswered(verdict.ReasonEgressProxy)), "closed", 0, window},
		"nobody knows":      {times(30, unanswered(verdict.ReasonUnknown)), "closed", 0, window},
	})
}

// TestTheBreakerWidens by one with each delivery, until it is closed. Until then three failures in a row narrow it again.
func TestTheBreakerWidens(t *testing.T) {
	testBreaker(t, map[string]narrowing{
		"one delivered":              {slices.Concat(times(10, badly), times(1, well)), "half_open", 0, 9},
		"one delivered of a silent":  {slices.Concat(times(10, silence), times(1, well)), "half_open", 0, 2},
		"five delivered":             {slices.Concat(times(10, badly), times(5, well)), "half_open", 0, 13},
		"as many as to the window":   {slices.Concat(times(10, badly), times(11, well)), "half_open", 0, window - 1},
		"closed":                     {slices.Concat(times(10, badly), times(12, well)), "closed", 0, window},
		"closed for a silent":        {slices.Concat(times(10, silence), times(19, well)), "closed", 0, window},
		"two fail as it widens":      {slices.Concat(times(10, badly), times(5, well), times(2, badly)), "open", 0, 13},
		"three fail as it widens":    {slices.Concat(times(10, badly), times(5, well), times(3, badly)), "open", 0, 8},
		"three, not in a row":        {slices.Concat(times(10, badly), times(5, well), times(2, badly), times(1, well), times(2, badly)), "open", 0, 14},
		"silent as it widens":        {slices.Concat(times(10, badly), times(5, well), times(3, silence)), "open", 2 * time.Second, 1},
		"closed, it takes ten again": {slices.Concat(times(10, badly), times(12, well), times(9, badly)), "closed", 0, window},
	})
}

// TestASilentPartnerIsSparedForLonger: its pause doubles with each probe that is not answered, from a second to ten. After any answer it begins anew,
// at two seconds.
func TestASilentPartnerIsSparedForLonger(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.callback("")
		for range 9 {
			d.attempt(cb, silence)
		}
		var pauses []time.Duration
		for _, how := range slices.Concat(
			times(7, silence),
			times(1, silence.asking(25*time.Second)),
			times(1, badly), // 8 at a time, without a pause
			times(3, silence),
			times(1, well),
			times(2, silence), // a relapse takes three
			times(2, silence),
		) {
			d.attempt(cb, how)
			pauses = append(pauses, max(0, time.Until(d.health(cb).PausedUntil)))
		}
		want := []time.Duration{1, 2, 4, 8, 10, 10, 10, 25, 0, 2, 4, 8, 0, 0, 0, 2, 4}
		for i := range want {
			want[i] *= time.Second
		}
		if diff := cmp.Diff(want, pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
	})
}
