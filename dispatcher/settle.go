package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lanes"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// A claim is an attempt of a delivery that has begun, and is its owner's to make.
type claim struct {
	attempt
	generation int64
	token      string    // names the owner
	since      time.Time // by this process's clock: its lease began no earlier
	version    int64     // of the registry when it began
	spent      int       // of the budget, before this attempt
	log        string    // the record's lines
	logID      string    // of its event, which may be erased and sent anew meanwhile
	unproven   bool      // its callback moved after it had begun, and is unverified
}

// grant takes what the ledger tells the attempt's owner.
func (c *claim) grant(g *ledger.Grant) {
	c.number, c.spent, c.log, c.meta, c.body, c.logID = g.Number, g.Spent, g.Attempts, g.Meta, g.Payload, g.LogID
	c.version, c.begun, c.replay, c.accepted = g.Version, g.At, g.Replayed, ledger.LogTime(g.LogID)
	c.batch, c.sequence = g.Batch, g.Sequence
}

// send makes the attempt, if there is still somebody to send it to. If the callback was deleted since, the ledger finds its gate saying so.
func (c *claim) send(ctx context.Context, by *sender) sent {
	switch {
	case c.callback == nil:
		return sent{Judgement: verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonUnknown}}
	case c.unproven:
		return sent{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnverified}}
	}
	return c.attempt.send(ctx, by)
}

// broken is what came of an attempt that panicked: its outcome is unknown.
func broken(since time.Time) sent {
	return sent{Judgement: verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnknown}, at: since, took: time.Since(since)}
}

// inOutage tells an outage what became of the attempt, if that tells anything, and reports whether it is our own fault that nobody was reached.
func (c *claim) inOutage(ctx context.Context, s sent, o *outage) bool {
	if s.at.IsZero() || !s.Blame().Sight() {
		return false
	}
	return o.note(ctx, c.callback.Destination.URL, s.Unconnected)
}

// A settled is what an attempt means for its delivery, and what is recorded of it.
type settled struct {
	sent                  // the verdict is dead if the schedule is over
	wait    time.Duration // until the next attempt, where there is one
	written ledger.Entry
	record  ledger.Finish
}

// A ruling is what a judgement means for a delivery.
type ruling struct {
	result      ledger.Result
	spends      bool          // it counts against the callback's budget
	wait, least time.Duration // until the next attempt, and the shortest that this may become by rounding
}

// rule decides what a judgement means for the delivery: its result, what is spent of the budget, and when the next attempt is due. An attempt that
// panicked follows the callback's schedule and eats its budget: if every attempt panics, the delivery ends in the dead-letter book and not in a
// loop. A mended program can replay it from there.
func (c *claim) rule(j verdict.Judgement, panicked bool) ruling {
	blame := j.Blame()
	switch {
	case c.callback == nil:
		return ruling{result: ledger.ResultCancelled, spends: true}
	case j.Verdict == verdict.Dead:
		return ruling{result: ledger.ResultDead, spends: true}
	case j.Verdict == verdict.Gone:
		return ruling{result: ledger.ResultGone, spends: true}
	case j.Verdict == verdict.Retry && !blame.Spends() && !panicked:
		r := ruling{result: ledger.ResultRetry}
		if blame == verdict.BlameWayOut { // as often as it takes, and ever more slowly
			r.wait = verdict.Delay(c.callback.Retry, min(c.number, 100))
		}
		return r
	case j.Verdict == verdict.Retry:
		wait, least, exhausted := verdict.Next(c.callback.Retry, c.spent+1, j.RetryAfter)
		if exhausted {
			return ruling{result: ledger.ResultDead, spends: true, wait: wait, least: least}
		}
		return ruling{result: ledger.ResultRetry, spends: true, wait: wait, least: least}
	}
	return ruling{result: ledger.ResultDelivered, spends: true}
}

// settle rules on what came of the attempt, and puts together what is recorded. run is what it means to the callback's run of failures.
func (c *claim) settle(s sent, r ruling, run ledger.Run) settled {
	if r.result == ledger.ResultDead {
		s.Verdict = verdict.Dead
	}
	blame := s.Blame()
	d := settled{sent: s, wait: r.wait, written: c.entry(s, s.keeps.inRecord())}
	d.record = ledger.Finish{
		Ref: c.ref, Token: c.token, LogID: c.logID, Result: r.result, Attempt: d.written, Attempts: c.log, Spent: c.spent, At: time.Now(),
		Delay: r.wait, Least: r.least, Health: blame.Health(), Breaker: blame.Breaker(), Pause: min(s.RetryAfter, maxPause), Run: run, HostMeans: blame.Host(),
	}
	if c.callback != nil {
		d.record.Sent, d.record.Other = c.kept(s, d.written)
	}
	if r.result != ledger.ResultCancelled {
		d.record.Attempts = ledger.AppendEntry(c.log, d.written)
	}
	if r.spends {
		d.record.Spent++
	}
	if c.callback != nil {
		d.record.CallbackType, d.record.Host, d.record.Version = c.callback.Type, c.callback.Destination.Host(), c.callback.Version
	}
	return d
}

// runOf is what an attempt means to the run of failures that ends with its callback disabled.
func runOf(j verdict.Judgement, ownOutage bool) ledger.Run {
	switch {
	case !j.Blame().Counts():
		return ledger.RunUntouched
	case ownOutage:
		return ledger.RunSkips
	}
	return ledger.RunCounts
}

// maxPause bounds how long a partner's Retry-After may hold up its other deliveries, too. The delivery it was the answer to waits as long as
// was asked.
const maxPause = 30 * time.Second

// after tells asynq when and why to come back. If the delivery is done with, it is nil.
func (d *settled) after(r ledger.Ref, state ledger.State) error {
	if state != ledger.Retrying {
		return nil
	}
	return &lanes.Later{Wait: d.wait, Why: d.written.Failed(r), Failure: true}
}
