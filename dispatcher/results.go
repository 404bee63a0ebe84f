package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// answerOfResults is how much of an answer is read that speaks of each element of a batch: all that is read of any.
const answerOfResults = 64 << 10

// hear has an answer that would deliver a batch deliver only those that its body says were taken. If it says nothing of each, or is cut off, it delivers all. An
// element is named by its delivery's id or its event's.
func (a *attempt) hear(s *sent) {
	if !a.hears() || s.Verdict != verdict.Delivered || s.response == nil || s.response.Truncated {
		return
	}
	taken, ok := verdict.Results(s.response.Body)
	if !ok {
		return
	}
	for _, m := range a.batch.Members {
		said, named := taken[a.elementID(m)]
		if !named {
			said = taken[m.Event]
		}
		if said {
			s.taken = append(s.taken, m.Event)
		}
	}
	switch all := len(a.batch.Members); {
	case len(s.taken) == all:
		s.taken = nil
	case len(s.taken) == 0:
		s.Verdict, s.Reason = verdict.Retry, verdict.ReasonAllFailed
	default:
		s.Verdict, s.Reason, s.Note = verdict.Retry, verdict.ReasonSomeFailed, fmt.Sprintf("%d of %d", len(s.taken), all)
	}
}

// takenLines are the record's lines of those deliveries of a batch that were taken, where others were not.
func (c *claim) takenLines(s sent) string {
	s.Verdict, s.Reason, s.Note = verdict.Delivered, "", ""
	return ledger.AppendEntry(c.log, c.entry(s, 0))
}

// arrive records which members of a batch were taken, where others were not: those go on in the batch. ok is false if the attempt is another owner's by now.
func (w *Worker) arrive(ctx context.Context, a *claim, d *settled) (ok bool, err error) {
	if len(d.taken) == 0 {
		return true, nil
	}
	f := d.record
	f.Attempts = a.takenLines(d.sent)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), w.finishWithin())
	defer cancel()
	ok, err = insist(ctx, func() (bool, error) {
		ok, err := w.client.ledger.Arrive(ctx, f, d.taken)
		return ok, err
	})
	if err != nil {
		return false, fmt.Errorf("recording what of %s was taken: %w", a.ref.DeliveryID(), err)
	}
	w.client.at("arrived")
	return ok, nil
}

// insist runs a step again and again while Redis fails, until ctx ends.
func insist[T any](ctx context.Context, step func() (T, error)) (T, error) {
	policy := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0))
	return backoff.RetryWithData(func() (T, error) {
		done, err := step()
		if errors.Is(err, ledger.ErrBadRecord) {
			return done, backoff.Permanent(err)
		}
		return done, err
	}, backoff.WithContext(policy, ctx))
}
