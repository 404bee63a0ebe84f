package dispatcher

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// trimEvery is how often the companies' logs and dead-letter books lose what is older than it may be.
const trimEvery = time.Minute

// trimFor bounds one company's share of that.
const trimFor = 2 * time.Second

// reconcilerKey is held by the process whose turn the round is. It only saves work: two at once do no harm.
const reconcilerKey = "ringback:reconciler"

// reconcile runs rounds until ctx ends. One that panics is over, and the next begins as ever.
func (w *Worker) reconcile(ctx context.Context) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	var rounds rounds
	for {
		_ = w.client.contain(ctx, placeReconciler, func() error { w.turn(ctx, &rounds); return nil })
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// rounds is what the reconciler remembers from one round to the next.
type rounds struct {
	clock   clockWatch
	trimmed time.Time // when the last one that trimmed began
}

// turn runs a round, unless it is another process's turn.
func (w *Worker) turn(ctx context.Context, r *rounds) {
	c := w.client
	r.clock.look(ctx, c.rdb, c.log)
	_ = c.clock.Look(ctx) // who asks Redis for more says what is wrong
	mine, err := c.rdb.SetNX(ctx, reconcilerKey, w.instance, w.every*19/20).Result()
	if err != nil {
		if ctx.Err() == nil {
			c.log.WarnContext(ctx, "reconciler cannot take its turn: redis refuses or is away", "error", err)
		}
		return
	}
	if !mine {
		return
	}
	trim := time.Since(r.trimmed) >= trimEvery
	if trim { // well or not: what fails in one company makes no more work in all others
		r.trimmed = time.Now()
	}
	w.round(ctx, trim)
}

// round serves every company once: pumps rooms, sends notices, repairs what is overdue, prunes the dead letters, trims the log. It reports
// whether all went well, but for the notices: those that cannot be sent wait, and nothing waits for them. Nothing is made up that cannot be read:
// without Redis's time no room is known to be due, and without their names no company is served.
func (w *Worker) round(ctx context.Context, trim bool) bool {
	c, ok := w.client, true
	note := func(doing, company string, do func() error) {
		if err := c.contain(ctx, placeReconciler, do); err != nil && ctx.Err() == nil {
			ok = false
			c.log.WarnContext(ctx, "reconciler failed; the next round repeats it", "doing", doing, "company", company, "error", err)
		}
	}
	note("registering the queues", "", func() error { return c.lanes.Register(ctx) })
	note("naming the companies", "", func() error { return c.registry.Remember(ctx) })
	var companies []string
	note("listing the companies", "", func() (err error) { companies, err = c.registry.Companies(ctx); return err })
	if len(companies) == 0 {
		return ok
	}
	first := rand.IntN(len(companies)) //nolint:gosec // each has its turn, which is no secret
	companies = slices.Concat(companies[first:], companies[:first])
	var now time.Time
	note("reading the clock", "", func() (err error) { now, err = c.ledger.Now(ctx); return err })
	if trim && !now.IsZero() {
		note("trimming the audit trail", "", func() error { return c.registry.TrimAudit(ctx, companies, now) })
	}
	for _, company := range companies {
		if now.IsZero() {
			break
		}
		note("pumping", company, func() error { return w.pumpRooms(ctx, company, now) })
	}
	note("telling how callbacks do", "", func() error { c.tellAllNotices(ctx, companies); return nil })
	for _, company := range companies {
		note("repairing", company, func() error { return c.repair(ctx, company) })
		if trim {
			note("pruning the dead letters", company, func() error { return c.prune(ctx, company) })
			note("trimming", company, func() error { return c.trimLog(ctx, company) })
			note("counting what waits", company, func() error { return c.recount(ctx, company) })
		}
		if ctx.Err() != nil {
			return false
		}
	}
	until := time.Now().Add(sweepFor)
	for _, company := range companies {
		if !time.Now().Before(until) {
			break
		}
		note("replaying", company, func() error { return c.sweep(ctx, company, until) })
	}
	return ok
}

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

// roundBlocks is how many blocks of a company's log one round sums up at most, within a second or two.
const roundBlocks = 1000

// trimLog sums up what is new in the log, and removes events that have had their time, and their entries in the log. What is unfinished or dead outlives
// retention, and its entry with it: so each call walks on from where the last one stopped, and around.
func (c *Client) trimLog(ctx context.Context, company string) error {
	if err := c.summarize(ctx, company, roundBlocks); err != nil {
		return err
	}
	from := "-"
	if last, ok := c.trimmed.Load(company); ok {
		from = last.(string)
	}
	for until := time.Now().Add(trimFor); time.Now().Before(until); {
		next, err := c.ledger.TrimLog(ctx, company, from)
		if err != nil {
			return err
		}
		if from = next; next == "-" {
			c.trimmed.Delete(company)
			return nil
		}
		c.trimmed.Store(company, next)
	}
	return nil
}
