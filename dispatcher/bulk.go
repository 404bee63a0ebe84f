package dispatcher

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

// A BulkQuery selects deliveries over callbacks and companies that are to be sent again.
type BulkQuery struct {
	ReplayQuery
	Companies []string // nil: all that there are
	Callbacks []int64  // of the one company; nil: all
}

// ErrTooManyReplays says that as many replays over companies are under way as may be.
var ErrTooManyReplays = fmt.Errorf("as many replays over companies are under way as may be (%d): wait for one to end, or cancel one", registry.DefaultReplays)

const (
	// countBulkFor is how long one over companies is counted for before it begins.
	countBulkFor = 5 * time.Second
	// maxNames is how many companies or callbacks one may name.
	maxNames = 1000
	// MaxReplayParts is how many parts of one are shown.
	MaxReplayParts = 500
)

// ReplayAll counts the deliveries that q selects, for some seconds at most, and unless it is a dry run has the workers send them again. The replay is a
// company's own, which must be the only one that q names, or the installation's, where company is empty.
//
// Errors: *payloads.InvalidError, also for a company or a callback that there is not, a *registry.QuotaError if as many replays of the company are under way
// as may be, or [ErrTooManyReplays] of the installation, [ErrUnavailable].
func (c *Client) ReplayAll(ctx context.Context, company string, q BulkQuery) (*Replay, error) {
	if r, err := replayNoted(ctx); r != nil || err != nil {
		return r, err
	}
	if company != "" {
		q.Companies = []string{company}
	}
	if len(q.States) == 0 {
		q.States = []ledger.State{ledger.Dead}
	}
	if err := c.checkBulk(ctx, &q); err != nil {
		return nil, err
	}
	most := int64(registry.DefaultReplays)
	if company != "" {
		limits, err := c.registry.Quotas(ctx, company)
		if err != nil {
			return nil, unavailable(ctx, c, "reading the quota on replays", err)
		}
		most = limits[registry.QuotaReplays]
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	b := &ledger.Bulk{
		ID: "rpl_" + strings.ToLower(rand.Text()[:20]), Company: company, By: registry.Actor(ctx), State: string(ReplayRunning), Companies: q.Companies,
		Callbacks: q.Callbacks, States: slices.Compact(slices.Sorted(slices.Values(q.States))), Span: ledger.Span{Since: q.Since, Until: q.Until},
		EventType: q.EventType, Reason: q.Reason, Pace: q.Pace, Created: now.UTC().Truncate(time.Millisecond),
	}
	if b.Span.Until.IsZero() || b.Span.Until.After(b.Created) {
		b.Span.Until = b.Created.Add(time.Millisecond) // as of one callback's
	}
	if err := c.countBulk(ctx, b); err != nil {
		return nil, unavailable(ctx, c, "counting what matches", err)
	}
	if q.DryRun {
		b.State, b.Finished = string(ReplayDryRun), b.Created
	}
	if err := once.Note(ctx, noteReplay, shownBulk(b, nil)); err != nil {
		return nil, err
	}
	line := registry.AuditLine(ctx, company, "replay.start", "replays/"+b.ID, bulkChanges(b)...)
	err = c.ledger.StoreBulk(ctx, b, most, line)
	if _, refused := errors.AsType[*registry.QuotaError](err); refused {
		if company == "" {
			err = ErrTooManyReplays
		}
		return nil, err
	}
	if err != nil {
		return nil, unavailable(ctx, c, "storing the replay", err)
	}
	c.at("bulk stored")
	return shownBulk(b, nil), nil
}

// nearCompanies names companies that may have been meant. Only who may see all companies names one that there is not.
func (c *Client) nearCompanies(ctx context.Context, name string) string {
	names, err := c.registry.Companies(ctx)
	if err != nil {
		return ""
	}
	near := payloads.Near(name, names)
	if len(near) == 0 {
		return ""
	}
	return "; near: " + strings.Join(near, ", ")
}

// bulkChanges are what the audit trail says of a new one.
func bulkChanges(b *ledger.Bulk) []registry.AuditChange {
	changes := []registry.AuditChange{{Field: "states", New: b.States}, {Field: "matched", New: b.Matched}}
	if b.Companies != nil {
		changes = append(changes, registry.AuditChange{Field: "companies", New: b.Companies})
	}
	if b.Callbacks != nil {
		changes = append(changes, registry.AuditChange{Field: "callback_ids", New: b.Callbacks})
	}
	return changes
}

// NoSuchCallback says that there is no such callback, of those that a query names.
func NoSuchCallback(i int, id int64) error {
	return &payloads.InvalidError{Fields: []payloads.FieldError{{
		Location: fmt.Sprintf("body.callback_ids[%d]", i), Message: "is no callback of this company", Value: id,
	}}}
}

// checkBulk judges a query, and sorts the names in it.
func (c *Client) checkBulk(ctx context.Context, q *BulkQuery) error {
	if err := q.validate(); err != nil {
		return err
	}
	fault := func(location, message string, value any) error {
		return &payloads.InvalidError{Fields: []payloads.FieldError{{Location: location, Message: message, Value: value}}}
	}
	switch {
	case len(q.Companies) > maxNames:
		return fault("body.companies", fmt.Sprintf("may name %d at most: leave it out for all", maxNames), nil)
	case len(q.Callbacks) > maxNames:
		return fault("body.callback_ids", fmt.Sprintf("may name %d at most: leave it out for all", maxNames), nil)
	case q.Callbacks != nil && len(q.Companies) != 1:
		return fault("body.callback_ids", "count up in each company: name one company with them", nil)
	}
	for i, name := range q.Companies {
		location := fmt.Sprintf("body.companies[%d]", i)
		if !payloads.ValidCompany(name) {
			return fault(location, "must be 1 to 64 of A-Z a-z 0-9 _ . - and not . or ..", verdict.Clip(name, 64))
		}
		if known, err := c.registry.Known(ctx, name); err != nil {
			return unavailable(ctx, c, "looking for the company", err)
		} else if !known {
			return fault(location, "is no company that there is"+c.nearCompanies(ctx, name), name)
		}
	}
	for i, id := range q.Callbacks {
		_, err := c.registry.Get(ctx, q.Companies[0], id)
		if errors.Is(err, registry.ErrNotFound) {
			return NoSuchCallback(i, id)
		}
		if err != nil {
			return unavailable(ctx, c, "reading the callback", err)
		}
	}
	if q.Companies != nil {
		q.Companies = slices.Compact(slices.Sorted(slices.Values(q.Companies)))
	}
	if q.Callbacks != nil {
		q.Callbacks = slices.Compact(slices.Sorted(slices.Values(q.Callbacks)))
	}
	return nil
}

// countBulk counts what a bulk replay would send. What it does not come to in time is not counted, and the count is an estimate.
func (c *Client) countBulk(ctx context.Context, b *ledger.Bulk) error {
	until := time.Now().Add(countBulkFor)
	companies, err := c.companiesOf(ctx, b)
	if err != nil {
		return err
	}
	for page := range slices.Chunk(companies, bulkPage) {
		may, err := c.ledger.MayHold(ctx, page, b.States)
		if err != nil {
			return err
		}
		for i, company := range page {
			if time.Now().After(until) {
				b.Estimate = true
				return nil
			}
			if !may[i] {
				continue
			}
			if err := c.countCompany(ctx, b, company, until); err != nil {
				return err
			}
		}
	}
	return nil
}

// countCompany counts what a bulk replay would send of a company, until then.
func (c *Client) countCompany(ctx context.Context, b *ledger.Bulk, company string, until time.Time) error {
	candidates, err := c.candidates(ctx, b, company)
	if err != nil {
		return err
	}
	for _, cb := range candidates {
		if time.Now().After(until) {
			b.Estimate = true
			return nil
		}
		n, whole, err := c.countOne(ctx, b, company, cb, until)
		if err != nil {
			return err
		}
		b.Matched, b.Bodiless, b.Estimate = b.Matched+n.Matched, b.Bodiless+n.Bodiless, b.Estimate || !whole
	}
	return nil
}

// bulk reads one of a company, or of the installation where company is empty. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) bulk(ctx context.Context, company, id string) (*ledger.Bulk, error) {
	b, err := c.ledger.Bulk(ctx, id)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the replay", err)
	}
	if b == nil || b.Company != company {
		return nil, ErrNotFound
	}
	return b, nil
}

// ReplayProgress reads a replay of a company's, of one callback or over callbacks, or one of the installation's, where company is empty. One over callbacks is
// read with its parts. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) ReplayProgress(ctx context.Context, company, replayID string) (*Replay, error) {
	if company != "" {
		if r, err := c.sweepProgress(ctx, company, replayID); !errors.Is(err, ErrNotFound) {
			return r, err
		}
	}
	b, err := c.bulk(ctx, company, replayID)
	if err != nil {
		return nil, err
	}
	parts, err := c.ledger.Parts(ctx, b.ID)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the replay's parts", err)
	}
	r := shownBulk(b, parts)
	for _, p := range parts {
		r.Parts = append(r.Parts, shownPart(p))
	}
	slices.SortStableFunc(r.Parts, func(a, b ReplayPart) int { return -cmp.Compare(a.State, b.State) }) // running before done
	r.Parts = r.Parts[:min(len(r.Parts), MaxReplayParts)]
	return r, nil
}

// Replays lists the replays of a company, of one callback and over callbacks, or those of the installation, where company is empty: newest first, up to a
// hundred, without parts; those that ended up to seven days ago. Errors: [ErrUnavailable].
func (c *Client) Replays(ctx context.Context, company string) ([]*Replay, error) {
	list, err := c.ledger.Bulks(ctx, company, maxReplays)
	if err != nil {
		return nil, unavailable(ctx, c, "listing the replays", err)
	}
	all := make([]*Replay, 0, len(list))
	for _, b := range list {
		parts, err := c.ledger.Parts(ctx, b.ID)
		if err != nil {
			return nil, unavailable(ctx, c, "reading the replay's parts", err)
		}
		all = append(all, shownBulk(b, parts))
	}
	if company == "" {
		return all, nil
	}
	own, err := c.sweeps(ctx, company)
	if err != nil {
		return nil, err
	}
	all = append(all, own...)
	slices.SortStableFunc(all, func(a, b *Replay) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all[:min(len(all), maxReplays)], nil
}

// CancelReplay stops a replay of a company's, or of the installation's, where company is empty. What it let out already stays on its way. One over callbacks
// ends in all of them within a round of the workers. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) CancelReplay(ctx context.Context, company, replayID string) error {
	if company != "" {
		if err := c.cancelSweep(ctx, company, replayID); !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	b, err := c.bulk(ctx, company, replayID)
	if err != nil {
		return err
	}
	line := registry.AuditLine(ctx, company, "replay.cancel", "replays/"+replayID)
	if _, err := c.ledger.CancelBulk(ctx, b.ID, registry.Actor(ctx), line); err != nil {
		return unavailable(ctx, c, "cancelling the replay", err)
	}
	return nil
}

func shownBulk(b *ledger.Bulk, parts []ledger.Part) *Replay {
	r := &Replay{
		ReplayID: b.ID, Companies: b.Companies, CallbackIDs: b.Callbacks, State: ReplayState(b.State), Matched: b.Matched, Estimate: b.Estimate,
		BodyLeft: b.Bodiless, States: b.States, Since: b.Span.Since, Until: b.Span.Until, EventType: b.EventType, Reason: b.Reason, Pace: b.Pace,
		CreatedAt: b.Created, FinishedAt: b.Finished,
	}
	for _, p := range parts {
		r.Replayed += p.Ended.Replayed + p.Running.Replayed
		if len(p.Left) > 0 {
			r.PartsLeft++
		}
	}
	return r
}

func shownPart(p ledger.Part) ReplayPart {
	all := p.Ended
	all.Add(p.Running)
	shown := ReplayPart{
		Company: p.Company, State: ReplayDone, Matched: all.Matched, BodyLeft: all.Bodiless, Replayed: all.Replayed, CallbackIDs: p.Left,
	}
	if len(p.Left) > 0 {
		shown.State, shown.Left = ReplayRunning, max(0, p.Running.Matched-p.Running.Replayed)
	}
	return shown
}
