package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// A replay over callbacks and companies goes on in the rounds of one worker. It takes the companies in the order of their names. It names a company with the
// callbacks in question in its own record, and only then begins a replay for each of them, under an id that follows from its own. So whoever goes on after
// a kill knows which replays there may be, and begins what is missing. A replay that is there already is not begun again.
//
// Once it is cancelled, no company is named any more, and the replays of those that are named are stopped. One that was not begun yet is written down as
// cancelled: so it cannot be begun by somebody who is late.

const (
	// bulkFor is the share that replays over companies have in a round, together.
	bulkFor = time.Second
	// bulkPage is how many companies are looked into in one round trip.
	bulkPage = 100
	// countPartFor is how long a callback's part is counted for as it begins.
	countPartFor = 200 * time.Millisecond
)

// goOnBulks goes on with the replays over companies that are this worker's, until then.
func (c *Client) goOnBulks(ctx context.Context, mine func(name string) bool, until time.Time) error {
	ids, err := c.ledger.RunningBulks(ctx)
	if err != nil {
		return err
	}
	rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] }) //nolint:gosec // each has its turn, which is no secret
	var failed []error
	for _, id := range ids {
		if mine("replays/"+id) && time.Now().Before(until) {
			failed = append(failed, c.goOnBulk(ctx, id, until))
		}
	}
	return errors.Join(failed...)
}

// goOnBulk goes on with one until then, and ends it if there is nothing left.
func (c *Client) goOnBulk(ctx context.Context, id string, until time.Time) error {
	b, err := c.ledger.Bulk(ctx, id)
	if err != nil {
		return err
	}
	if b == nil { // its company was erased
		return c.ledger.EndBulk(ctx, id)
	}
	parts, err := c.ledger.Parts(ctx, id)
	if err != nil {
		return err
	}
	step := c.goOnPart
	if b.State != string(ReplayRunning) {
		step = c.stopPart
	}
	rand.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] }) //nolint:gosec // as above
	over := true
	var failed []error
	for i := range parts {
		p := &parts[i]
		if len(p.Left) > 0 && time.Now().Before(until) {
			if err := step(ctx, b, p, until); err != nil {
				failed = append(failed, fmt.Errorf("replay %s in company %s: %w", id, p.Company, err))
			}
		}
		over = over && len(p.Left) == 0
	}
	if b.State == string(ReplayRunning) {
		all, err := c.nameParts(ctx, b, until)
		over, failed = over && all, append(failed, err)
	}
	if err := errors.Join(failed...); err != nil || !over {
		return err
	}
	return c.ledger.EndBulk(ctx, id)
}

// nameParts goes over companies that were not looked into yet, and begins what there is to do in them. over: there are none left, and nothing to do.
func (c *Client) nameParts(ctx context.Context, b *ledger.Bulk, until time.Time) (over bool, err error) {
	companies, err := c.companiesOf(ctx, b)
	if err != nil {
		return false, err
	}
	companies = slices.DeleteFunc(companies, func(name string) bool { return name <= b.After })
	over = true
	var failed []error
	for page := range slices.Chunk(companies, bulkPage) {
		if !time.Now().Before(until) || ctx.Err() != nil {
			return false, errors.Join(failed...)
		}
		may, err := c.ledger.MayHold(ctx, page, b.States)
		if err != nil {
			return false, errors.Join(append(failed, err)...)
		}
		for i, company := range page {
			if !may[i] && i < len(page)-1 {
				continue
			}
			p, named, err := c.namePart(ctx, b, company, may[i])
			if err != nil || !named {
				return false, errors.Join(append(failed, err)...)
			}
			if p == nil {
				continue
			}
			over = false
			if err := c.goOnPart(ctx, b, p, until); err != nil { // the next round repeats it
				failed = append(failed, err)
			}
		}
	}
	return over, errors.Join(failed...)
}

// namePart looks into a company. named is false if the replay was cancelled, or somebody else is at it.
func (c *Client) namePart(ctx context.Context, b *ledger.Bulk, company string, may bool) (p *ledger.Part, named bool, err error) {
	if may {
		found, err := c.candidates(ctx, b, company)
		if err != nil {
			return nil, false, err
		}
		if len(found) > 0 {
			p = &ledger.Part{Company: company}
			for _, cb := range found {
				p.Left = append(p.Left, cb.id)
			}
		}
	}
	named, err = c.ledger.NamePart(ctx, b, company, p)
	c.at("part named")
	return p, named, err
}

// goOnPart begins what is missing of a part, as far as the company's quota and the time go, and notes how far all of it is.
func (c *Client) goOnPart(ctx context.Context, b *ledger.Bulk, p *ledger.Part, until time.Time) error {
	begun, err := c.begunOf(ctx, b, p)
	if err != nil {
		return err
	}
	callbacks, full := p.Left, false
	p.Left, p.Running = nil, ledger.Tally{}
	var failed []error
	for i, cb := range callbacks {
		s, err := begun[i], error(nil)
		if full = full || !time.Now().Before(until); s == nil && !full {
			s, full, err = c.beginPart(ctx, b, p.Company, cb)
			c.at("part begun")
		}
		switch {
		case err != nil:
			failed = append(failed, err)
			p.Left = append(p.Left, cb)
		case s == nil && full:
			p.Left = append(p.Left, cb)
		case s == nil: // its callback is gone
		case s.State == string(ReplayRunning):
			p.Left = append(p.Left, cb)
			p.Running.Add(s.Tally())
		default:
			p.Ended.Add(s.Tally())
		}
	}
	return errors.Join(append(failed, c.ledger.NotePart(ctx, b.ID, p))...)
}

// begunOf are the replays of the callbacks that a part has left, nil for one that was not begun.
func (c *Client) begunOf(ctx context.Context, b *ledger.Bulk, p *ledger.Part) ([]*ledger.Sweep, error) {
	ids := make([]string, len(p.Left))
	for i, cb := range p.Left {
		ids[i] = b.SweepID(cb)
	}
	return c.ledger.SweepsOf(ctx, p.Company, ids)
}

// beginPart begins the replay of a callback, nil if that is gone. full says that the company's quota leaves no place for it. A company that may have no
// replays at all has none.
func (c *Client) beginPart(ctx context.Context, b *ledger.Bulk, company string, callback int64) (s *ledger.Sweep, full bool, err error) {
	if s, err = c.sweepOf(ctx, b, company, callback); s == nil || err != nil {
		return nil, false, err
	}
	stock, err := c.ledger.Stocks(ctx, company, []int64{callback})
	if err != nil {
		return nil, false, err
	}
	n, _, err := c.countOne(ctx, b, company, candidate{id: callback, stock: stock[0]}, time.Now().Add(countPartFor))
	if err != nil {
		return nil, false, err
	}
	s.Matched, s.Bodiless = n.Matched, n.Bodiless
	ctx = registry.WithActor(ctx, b.By)
	line := registry.AuditLine(ctx, company, "replay.start", "replays/"+s.ID, shownReplay(s).changes()...)
	err = c.ledger.StoreSweep(ctx, company, s, line)
	if e, refused := errors.AsType[*registry.QuotaError](err); refused {
		return nil, e.Limit > 0, nil
	}
	return s, false, err
}

// sweepOf is a callback's part as it begins, nil if the callback is gone.
func (c *Client) sweepOf(ctx context.Context, b *ledger.Bulk, company string, callback int64) (*ledger.Sweep, error) {
	if _, err := c.registry.Get(ctx, company, callback); err != nil {
		if errors.Is(err, registry.ErrNotFound) {
			err = nil
		}
		return nil, err
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, err
	}
	return &ledger.Sweep{
		ID: b.SweepID(callback), Callback: callback, State: string(ReplayRunning), States: b.States, Span: b.Span, EventType: b.EventType, Reason: b.Reason,
		Pace: b.Pace, Bulk: b.ID, Created: now.UTC().Truncate(time.Millisecond),
	}, nil
}

// stopPart stops a part of a replay that was cancelled, as far as the time goes.
func (c *Client) stopPart(ctx context.Context, b *ledger.Bulk, p *ledger.Part, until time.Time) error {
	ctx = registry.WithActor(ctx, b.By)
	begun, err := c.begunOf(ctx, b, p)
	if err != nil {
		return err
	}
	callbacks := p.Left
	p.Left, p.Running = nil, ledger.Tally{}
	var failed []error
	for i, cb := range callbacks {
		s, left := begun[i], !time.Now().Before(until)
		if !left {
			if s, err = c.stopSweep(ctx, b, p.Company, cb, s != nil); err != nil {
				failed, left = append(failed, err), true
			}
		}
		switch {
		case left && s != nil:
			p.Left = append(p.Left, cb)
			p.Running.Add(s.Tally())
		case left:
			p.Left = append(p.Left, cb)
		case s != nil:
			p.Ended.Add(s.Tally())
		}
	}
	return errors.Join(append(failed, c.ledger.NotePart(ctx, b.ID, p))...)
}

// stopSweep stops a callback's part. One that was not begun is written down as cancelled.
func (c *Client) stopSweep(ctx context.Context, b *ledger.Bulk, company string, callback int64, begun bool) (*ledger.Sweep, error) {
	id := b.SweepID(callback)
	if !begun {
		s, err := c.sweepOf(ctx, b, company, callback)
		if s == nil || err != nil {
			return nil, err
		}
		s.State, s.Finished = string(ReplayCancelled), s.Created
		if err := c.ledger.StoreSweep(ctx, company, s, ""); err != nil {
			return nil, err
		}
	}
	line := registry.AuditLine(ctx, company, "replay.cancel", "replays/"+id)
	if _, err := c.ledger.CancelSweep(ctx, company, id, line); err != nil { // one may have been begun just before
		return nil, err
	}
	return c.ledger.Sweep(ctx, company, id)
}

// companiesOf are those that a replay goes over, sorted.
func (c *Client) companiesOf(ctx context.Context, b *ledger.Bulk) ([]string, error) {
	if b.Companies != nil {
		return slices.Clone(b.Companies), nil
	}
	return c.registry.Companies(ctx)
}

// A candidate is a callback that may have deliveries to replay.
type candidate struct {
	id     int64
	closed bool // its gate is
	stock  ledger.Stock
}

// candidates are those of a company. Those with a closed gate come last: they get no further than their room, and must keep no other from its turn.
func (c *Client) candidates(ctx context.Context, b *ledger.Bulk, company string) ([]candidate, error) {
	var all []candidate
	for cursor := ""; ; {
		page, next, err := c.registry.List(ctx, company, registry.Filter{Limit: registry.MaxLimit, Cursor: cursor})
		if err != nil {
			return nil, err
		}
		for _, cb := range page {
			if b.Callbacks == nil || slices.Contains(b.Callbacks, cb.ID) {
				all = append(all, candidate{id: cb.ID, closed: cb.Status != registry.Enabled})
			}
		}
		if cursor = next; cursor == "" {
			break
		}
	}
	ids := make([]int64, len(all))
	for i, cb := range all {
		ids[i] = cb.id
	}
	stocks, err := c.ledger.Stocks(ctx, company, ids)
	if err != nil {
		return nil, err
	}
	booked := inBooks(b.States)
	for i := range all {
		all[i].stock = stocks[i]
	}
	all = slices.DeleteFunc(all, func(cb candidate) bool { return booked && stockOf(b.States, cb.stock) == 0 })
	slices.SortStableFunc(all, func(x, y candidate) int {
		switch {
		case x.closed == y.closed:
			return 0
		case x.closed:
			return 1
		}
		return -1
	})
	return all, nil
}

// inBooks reports whether there are counts of all these states.
func inBooks(states []ledger.State) bool {
	return !slices.ContainsFunc(states, func(s ledger.State) bool { return s != ledger.Dead && s != ledger.Retrying })
}

// stockOf is how many deliveries a callback has in these states.
func stockOf(states []ledger.State, s ledger.Stock) (n int64) {
	if slices.Contains(states, ledger.Dead) {
		n += s.Dead
	}
	if slices.Contains(states, ledger.Retrying) {
		n += s.Retrying
	}
	return n
}

// countOne counts what a replay would send to a callback, until then, and a page of it however late that is. whole: that is all.
func (c *Client) countOne(ctx context.Context, b *ledger.Bulk, company string, cb candidate, until time.Time) (n ledger.Tally, whole bool, err error) {
	everything := b.Span.Since.IsZero() && !b.Span.Until.Before(b.Created) && b.EventType == "" && b.Reason == ""
	if everything && inBooks(b.States) {
		return ledger.Tally{Matched: stockOf(b.States, cb.stock)}, true, nil
	}
	s := &ledger.Sweep{Callback: cb.id, States: b.States, Span: b.Span, EventType: b.EventType, Reason: b.Reason}
	for from := ""; ; {
		matched, bodiless, next, err := c.ledger.CountSweep(ctx, company, s, from)
		if err != nil {
			return n, false, err
		}
		n.Add(ledger.Tally{Matched: matched, Bodiless: bodiless})
		if from = next; from == "" {
			return n, true, nil
		}
		if time.Now().After(until) {
			return n, false, nil
		}
	}
}
