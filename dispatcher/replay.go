package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

// A ReplayQuery selects deliveries of one callback that are to be sent again.
type ReplayQuery struct {
	States    []ledger.State // Dead, Retrying, Delivered or Cancelled; empty: Dead
	Since     time.Time      // accepted then or later; zero: ever
	Until     time.Time      // accepted before; zero: the call itself
	EventType string         // empty: any
	Reason    Reason         // of the last attempt; empty: any
	Pace      int64          // at most so many a second; 0: as fast as the callback takes them
	DryRun    bool           // count, and send nothing
}

// MaxPace is the fastest pace that can be asked for.
const MaxPace = 10_000

// A ReplayState says how far a [Replay] is.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning   ReplayState = "running"
	ReplayDone      ReplayState = "done"
	ReplayCancelled ReplayState = "cancelled" // by hand, or its callback was deleted
	ReplayDryRun    ReplayState = "dry_run"   // counted only
)

// A ReplayPart is what a replay over callbacks and companies does in a company.
type ReplayPart struct {
	Company     string      `json:"company"`
	State       ReplayState `json:"state"`   // running or done
	Matched     int64       `json:"matched"` // counted as each of its callbacks began
	BodyLeft    int64       `json:"body_left,omitempty"`
	Replayed    int64       `json:"replayed"`
	Left        int64       `json:"left"`                   // of those that matched
	CallbackIDs []int64     `json:"callback_ids,omitempty"` // that are not through yet
}

// A Replay is the work of sending many deliveries again: the workers go through it page by page, oldest first, and go on with it after
// a crash. Each delivery is replayed as [Client.Replay] does it, but for a retrying one, which is tried as [Client.Hasten] does it.
//
// It is of one callback, or goes over callbacks and companies. Then it has a part for each company in which it found something, and is done in each callback as
// a replay of its own, whose BulkID is its id.
type Replay struct {
	ReplayID    string       `json:"replay_id"`
	CallbackID  int64        `json:"callback_id,omitempty"`  // 0: it goes over callbacks
	Companies   []string     `json:"companies,omitempty"`    // that it goes over; absent of one callback's, and where it goes over all
	CallbackIDs []int64      `json:"callback_ids,omitempty"` // that it goes over; absent: all
	Parts       []ReplayPart `json:"parts,omitempty"`        // of one over callbacks, where it is shown by itself: up to MaxReplayParts, those that run first
	PartsLeft   int64        `json:"parts_left,omitempty"`   // companies with something left
	State       ReplayState  `json:"state"`
	Matched     int64        `json:"matched"` // counted when it was asked for
	// Estimate says that counting took too long, so that there may be more than Matched.
	Estimate bool `json:"estimate,omitempty"`
	// BodyLeft is how many more would match, counted at the same time, whose events are kept without their bodies (Config.BodyRetention). They are skipped.
	BodyLeft   int64          `json:"body_left,omitempty"`
	Replayed   int64          `json:"replayed"` // so far; what left the states meanwhile is never counted
	States     []ledger.State `json:"states"`
	Since      time.Time      `json:"since,omitzero"`
	Until      time.Time      `json:"until"`
	EventType  string         `json:"event_type,omitempty"`
	Reason     Reason         `json:"reason,omitempty"`
	Pace       int64          `json:"pace,omitempty"`    // deliveries a second, at most; 0: as fast as the callback takes them
	BulkID     string         `json:"bulk_id,omitempty"` // of the replay over callbacks that it is a part of
	CreatedAt  time.Time      `json:"created_at"`
	FinishedAt time.Time      `json:"finished_at,omitzero"`
}

const (
	// sweepFor bounds the share of a reconciler's round that all replays have together: pumping and repair must not wait for them.
	sweepFor = time.Second
	// countFor bounds how long one may be waited for that is asked for.
	countFor = 20 * time.Second
	// sweptReplays is how many replays of a company one round goes on with.
	sweptReplays = 10
)

// ReplayCallback counts the deliveries of a callback that q selects and, unless it is a dry run, has the workers send them again.
//
// Errors: registry.ErrNotFound, *payloads.InvalidError for a state that cannot be replayed, a *registry.QuotaError if as many replays of the
// company are under way as may be, [ErrUnavailable].
func (c *Client) ReplayCallback(ctx context.Context, company string, callbackID int64, q ReplayQuery) (*Replay, error) {
	if len(q.States) == 0 {
		q.States = []ledger.State{ledger.Dead}
	}
	if r, err := replayNoted(ctx); r != nil || err != nil {
		return r, err
	}
	if err := q.validate(); err != nil {
		return nil, err
	}
	if _, err := c.registry.Get(ctx, company, callbackID); err != nil {
		return nil, err
	}
	if !q.DryRun {
		if err := c.mayReplay(ctx, company); err != nil {
			return nil, err
		}
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	r := &Replay{
		ReplayID: "rpl_" + strings.ToLower(rand.Text()[:16]), CallbackID: callbackID, State: ReplayRunning,
		States: slices.Compact(slices.Sorted(slices.Values(q.States))), Since: q.Since, Until: q.Until, EventType: q.EventType, Reason: q.Reason, Pace: q.Pace,
		CreatedAt: now.UTC().Truncate(time.Millisecond),
	}
	if r.Until.IsZero() || r.Until.After(r.CreatedAt) {
		r.Until = r.CreatedAt.Add(time.Millisecond) // what is accepted within this millisecond is included
	}
	if err := c.countMatches(ctx, company, r); err != nil {
		return nil, err
	}
	if q.DryRun {
		r.State, r.FinishedAt = ReplayDryRun, r.CreatedAt
	}
	if err := once.Note(ctx, noteReplay, r); err != nil {
		return nil, err
	}
	if err := c.storeReplay(ctx, company, r); err != nil {
		return nil, err
	}
	return r, nil
}

// noteReplay is the note of a replay that begins.
const noteReplay = "replay"

// replayNoted is the replay that a request began that is repeated, as it began; nil if it is no such repeat.
func replayNoted(ctx context.Context) (*Replay, error) {
	r := &Replay{}
	if found, err := once.Noted(ctx, noteReplay, r); err != nil || !found {
		return nil, err
	}
	return r, nil
}

// mayReplay refuses one replay too many before it is counted, which may take long. The script that stores it has the last word.
func (c *Client) mayReplay(ctx context.Context, company string) error {
	limits, err := c.registry.Quotas(ctx, company)
	if err != nil {
		return unavailable(ctx, c, "reading the quota on replays", err)
	}
	running, err := c.ledger.RunningSweeps(ctx, company)
	if err != nil {
		return unavailable(ctx, c, "counting the replays under way", err)
	}
	if limit := limits[registry.QuotaReplays]; running >= limit {
		return &registry.QuotaError{Quota: registry.QuotaReplays, Company: company, Limit: limit, Used: running}
	}
	return nil
}

var reasonForm = regexp.MustCompile(`^[a-z0-9_]{1,64}$`)

func (q *ReplayQuery) validate() error {
	var fields []payloads.FieldError
	for i, s := range q.States {
		if !s.Replayable() {
			fields = append(fields, payloads.FieldError{
				Location: fmt.Sprintf("body.states[%d]", i), Message: "must be dead, retrying, delivered or cancelled: others go out by themselves", Value: verdict.Clip(string(s), 32),
			})
		}
	}
	if q.EventType != "" && !payloads.ValidTypeName(q.EventType) {
		fields = append(fields, payloads.FieldError{Location: "body.event_type", Message: "must be the name of a callback type", Value: verdict.Clip(q.EventType, 64)})
	}
	if q.Reason != "" && !reasonForm.MatchString(string(q.Reason)) {
		fields = append(fields, payloads.FieldError{Location: "body.reason", Message: "must be a reason as attempts have it, such as status_503 or timeout", Value: verdict.Clip(string(q.Reason), 64)})
	}
	if q.Pace < 0 || q.Pace > MaxPace {
		fields = append(fields, payloads.FieldError{Location: "body.pace", Message: fmt.Sprintf("must be 1 to %d deliveries a second", MaxPace), Value: q.Pace})
	}
	if len(fields) > 0 {
		return &payloads.InvalidError{Fields: fields}
	}
	return nil
}

// stored is r as the ledger has it.
func (r *Replay) stored() *ledger.Sweep {
	return &ledger.Sweep{
		ID: r.ReplayID, Callback: r.CallbackID, State: string(r.State), Matched: r.Matched, Bodiless: r.BodyLeft, Replayed: r.Replayed, States: r.States,
		Span: ledger.Span{Since: r.Since, Until: r.Until}, EventType: r.EventType, Reason: r.Reason, Pace: r.Pace, Bulk: r.BulkID, Created: r.CreatedAt,
		Finished: r.FinishedAt,
	}
}

// shownReplay is the inverse of stored.
func shownReplay(s *ledger.Sweep) *Replay {
	return &Replay{
		ReplayID: s.ID, CallbackID: s.Callback, State: ReplayState(s.State), Matched: s.Matched, BodyLeft: s.Bodiless, Replayed: s.Replayed, States: s.States,
		Since: s.Span.Since, Until: s.Span.Until, EventType: s.EventType, Reason: s.Reason, Pace: s.Pace, BulkID: s.Bulk, CreatedAt: s.Created,
		FinishedAt: s.Finished,
	}
}

// countMatches counts what a replay would send, and what it would if that still had bodies.
func (c *Client) countMatches(ctx context.Context, company string, r *Replay) error {
	from := ""
	for end := time.Now().Add(countFor); ; {
		if time.Now().After(end) {
			return misfit("body.since", fmt.Sprintf("must be later, or until earlier: there is more in this window than can be counted in %s", countFor))
		}
		matched, bodiless, next, err := c.ledger.CountSweep(ctx, company, r.stored(), from)
		if err != nil {
			return unavailable(ctx, c, "counting what matches", err)
		}
		r.Matched, r.BodyLeft = r.Matched+matched, r.BodyLeft+bodiless
		if from = next; from == "" {
			return nil
		}
	}
}

// storeReplay writes a new replay down, and if it is to run puts it up for the workers.
func (c *Client) storeReplay(ctx context.Context, company string, r *Replay) error {
	line := registry.AuditLine(ctx, company, "replay.start", "replays/"+r.ReplayID, r.changes()...)
	err := c.ledger.StoreSweep(ctx, company, r.stored(), line)
	if _, refused := errors.AsType[*registry.QuotaError](err); err != nil && !refused {
		return unavailable(ctx, c, "storing the replay", err)
	}
	return err
}

// changes are what the audit trail says of a new replay.
func (r *Replay) changes() []registry.AuditChange {
	return []registry.AuditChange{
		{Field: "callback_id", New: r.CallbackID}, {Field: "states", New: r.States}, {Field: "matched", New: r.Matched},
	}
}

// sweepProgress reads a replay of one callback's. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) sweepProgress(ctx context.Context, company, replayID string) (*Replay, error) {
	s, err := c.ledger.Sweep(ctx, company, replayID)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the replay", err)
	}
	if s == nil {
		return nil, ErrNotFound
	}
	return shownReplay(s), nil
}

// maxReplays is how many replays are listed.
const maxReplays = 100

// sweeps lists a company's replays of one callback each, newest first, up to a hundred. Errors: [ErrUnavailable].
func (c *Client) sweeps(ctx context.Context, company string) ([]*Replay, error) {
	ids, err := c.ledger.Sweeps(ctx, company, maxReplays)
	if err != nil {
		return nil, unavailable(ctx, c, "listing the replays", err)
	}
	found := []*Replay{}
	for _, id := range ids {
		r, err := c.sweepProgress(ctx, company, id)
		switch {
		case err == nil:
			found = append(found, r)
		case errors.Is(err, ErrNotFound): // its days are over
			_ = c.ledger.ForgetSweep(ctx, company, id) // else the next list does
		default:
			return nil, err
		}
	}
	return found, nil
}

// cancelSweep stops a replay of one callback's. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) cancelSweep(ctx context.Context, company, replayID string) error {
	line := registry.AuditLine(ctx, company, "replay.cancel", "replays/"+replayID)
	ok, err := c.ledger.CancelSweep(ctx, company, replayID, line)
	if err != nil {
		return unavailable(ctx, c, "cancelling the replay", err)
	}
	if !ok {
		return ErrNotFound
	}
	return nil
}

// sweep goes on with a company's replays until then, in no certain order, so that each has its turn.
func (c *Client) sweep(ctx context.Context, company string, until time.Time) error {
	ids, err := c.ledger.AnySweeps(ctx, company, sweptReplays)
	if err != nil {
		return err
	}
	for _, id := range ids {
		s, err := c.ledger.Sweep(ctx, company, id)
		if err == nil && s == nil {
			err = c.ledger.EndSweep(ctx, company, id)
		} else if err == nil {
			err = c.sweepOne(ctx, company, s, until)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sweepOne replays page by page until the replay or the time is over.
func (c *Client) sweepOne(ctx context.Context, company string, s *ledger.Sweep, until time.Time) error {
	for time.Now().Before(until) && ctx.Err() == nil {
		page, err := c.ledger.GoOnSweeping(ctx, company, s)
		if err != nil {
			return err
		}
		c.at("swept")
		c.lanes.Bring(ctx, page.Released...)
		if page.Wait || page.Done {
			return nil
		}
	}
	return nil
}
