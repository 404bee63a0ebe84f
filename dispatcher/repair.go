package dispatcher

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// repair looks at a company's overdue deliveries: those that lost their task get it again, and those whose attempt lost its owner begin anew. Events
// of which nobody writes, or erases, the next page are gone on with here.
func (c *Client) repair(ctx context.Context, company string) error {
	for range reconcilePages {
		found, err := c.ledger.Overdue(ctx, company, ledger.Page)
		if err != nil {
			return err
		}
		if len(found.Check)+len(found.Lost)+len(found.Unwritten) > 0 {
			c.at("overdue")
		}
		for _, event := range found.Unwritten {
			c.expander.add(company, event)
		}
		for _, t := range found.Lost {
			c.lost(ctx, t.Ref)
		}
		c.lanes.LetIn(ctx, slices.Concat(found.Check, found.Lost), func(ctx context.Context, t ledger.Ticket) {
			if err := c.bring(ctx, t); err != nil {
				c.log.WarnContext(ctx, "bringing back failed; a later round repeats it", "company", company, "delivery", t.DeliveryID(), "error", err)
			}
		})
		if !found.More {
			return nil
		}
	}
	return nil
}

// lost tells of an attempt whose owner is gone.
func (c *Client) lost(ctx context.Context, r ledger.Ref) {
	c.log.WarnContext(ctx, "attempt", slog.String("company", r.Company), slog.String("event", r.Event), slog.Int64("callback", r.Callback),
		slog.String("verdict", string(verdict.Retry)), slog.String("reason", string(verdict.ReasonUnknown)))
	c.metrics.attempted(ctx, verdict.Retry, verdict.ReasonUnknown, 0)
	c.minutes.failed()
}

// bring sees to it that an overdue delivery has a task that will run: if asynq has it where it will not, a new generation takes its place.
func (c *Client) bring(ctx context.Context, t ledger.Ticket) error {
	runs, err := c.lanes.Runs(ctx, t)
	if err != nil || runs {
		return err
	}
	return c.revive(ctx, t.Ref, t.Generation)
}

// revive gives a delivery a new generation and enqueues that. The old task, should it ever run, ends without an attempt.
func (c *Client) revive(ctx context.Context, r ledger.Ref, generation int64) error {
	t, ok, err := c.ledger.Revive(ctx, r, generation)
	if err != nil || !ok { // it went on meanwhile
		return err
	}
	c.log.InfoContext(ctx, "task does not run: new generation", "company", r.Company, "delivery", r.DeliveryID(), "generation", t.Generation)
	c.at("revived")
	_, err = c.lanes.Enqueue(ctx, t)
	return err
}

// takeBodies takes bodies away that are kept for no longer, as many as go in a while. A later call goes on, in whichever process.
func (c *Client) takeBodies(ctx context.Context, company string) error {
	return forAWhile(func() (more bool, err error) {
		_, more, err = c.ledger.TakeBodies(ctx, company)
		return more, err
	})
}

// trimFor bounds one company's share of a round's trimming, by kinds.
const trimFor = 2 * time.Second

// forAWhile repeats a step that says whether there may be more to do.
func forAWhile(step func() (more bool, err error)) error {
	for until := time.Now().Add(trimFor); time.Now().Before(until); {
		if more, err := step(); err != nil || !more {
			return err
		}
	}
	return nil
}

// trimLog removes events that have had their time, and their entries in the log, and sums up what is new in it and what has become final of it. What is
// unfinished or dead outlives retention, and its entry with it: so each call walks on from where the last one stopped, and around.
func (c *Client) trimLog(ctx context.Context, company string) error {
	from := "-"
	if last, ok := c.trimmed.Load(company); ok {
		from = last.(string)
	}
	if err := forAWhile(func() (more bool, err error) {
		next, err := c.ledger.TrimLog(ctx, company, from)
		if err != nil {
			return false, err
		}
		if from = next; next == "-" {
			c.trimmed.Delete(company)
			return false, nil
		}
		c.trimmed.Store(company, next)
		return true, nil
	}); err != nil {
		return err
	}
	if err := forAWhile(func() (more bool, err error) { return c.ledger.Summarize(ctx, company) }); err != nil {
		return err
	}
	if !c.ledger.Raised(ctx) { // an older program takes no note back
		return nil
	}
	return forAWhile(func() (more bool, err error) { return c.ledger.Settle(ctx, company) })
}
