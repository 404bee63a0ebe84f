package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// inOutage tells an outage what became of the attempt, if that tells anything, and reports whether it is our own fault that nobody was reached.
func (a *attempt) inOutage(ctx context.Context, o *outage) bool {
	if a.callback == nil || a.sentAt.IsZero() || !a.Blame().Sight() {
		return false
	}
	return o.note(ctx, a.callback.Destination.URL, a.Unconnected)
}

// settle decides what the attempt means for its delivery: its result, what is spent of the budget, and when the next attempt is due.
func (a *attempt) settle() {
	if a.callback == nil {
		a.Judgement = verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonUnknown}
	}
	blame := a.Blame()
	a.result, a.spends, a.least = ledger.ResultDelivered, true, 0
	switch {
	case a.callback == nil:
		a.result = ledger.ResultCancelled
	case a.Verdict == verdict.Dead:
		a.result = ledger.ResultDead
	case a.Verdict == verdict.Gone:
		a.result = ledger.ResultGone
	case a.Verdict == verdict.Retry && !blame.Spends() && !a.broken:
		a.result, a.spends = ledger.ResultRetry, false
		if blame == verdict.BlameWayOut { // as often as it takes, and ever more slowly
			a.wait = verdict.Delay(a.callback.Retry, min(a.number, 100))
		}
	case a.Verdict == verdict.Retry:
		a.result = ledger.ResultRetry
		var exhausted bool
		if a.wait, a.least, exhausted = verdict.Next(a.callback.Retry, a.spent+1, a.RetryAfter); exhausted {
			a.result, a.Verdict = ledger.ResultDead, verdict.Dead
		}
	}
	a.written = a.entry()
}

// finish is what is recorded of the attempt, once it is settled.
func (a *attempt) finish() ledger.Finish {
	blame := a.Blame()
	f := ledger.Finish{
		Ref: a.ref, Token: a.token, LogID: a.logID, Result: a.result, Attempt: a.written, Attempts: a.log, Spent: a.spent, At: time.Now(),
		Delay: a.wait, Least: a.least, Health: blame.Health(), Breaker: blame.Breaker(), Pause: min(a.RetryAfter, maxPause), Run: a.run(), HostMeans: blame.Host(),
	}
	if a.result != ledger.ResultCancelled {
		f.Attempts = ledger.AppendEntry(a.log, a.written)
	}
	if a.spends {
		f.Spent++
	}
	if a.callback != nil {
		f.CallbackType, f.Host, f.Version = a.callback.Type, a.callback.Destination.Host(), a.callback.Version
	}
	return f
}

// broke makes of an attempt that panicked one whose outcome is unknown. It follows the callback's schedule and eats its budget: what makes
// every attempt panic ends in the dead-letter book, where a program that was mended can send it from, and not in a loop.
func (a *attempt) broke() {
	a.broken, a.response = true, nil
	a.Judgement = verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnknown}
	a.settle()
	a.recorded = a.finish()
}

// after is what asynq is told: nil for a delivery that is done with, and when and why to come back for a retry.
func (a *attempt) after(state ledger.State) error {
	if state != ledger.Retrying {
		return nil
	}
	return &lanes.Later{Wait: a.wait, Why: a.written.Failed(a.ref), Failure: true}
}

// run is what an attempt means to the run of failures that ends with its callback disabled.
func (a *attempt) run() ledger.Run {
	switch {
	case !a.Blame().Counts():
		return ledger.RunUntouched
	case a.ownOutage:
		return ledger.RunSkips
	}
	return ledger.RunCounts
}

// maxPause bounds how long a partner's Retry-After may hold up its other deliveries, too. The delivery it was the answer to waits as long as
// was asked.
const maxPause = 30 * time.Second
