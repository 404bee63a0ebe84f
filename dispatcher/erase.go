package dispatcher

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// An ErasedEvent says what was erased with an event.
type ErasedEvent struct {
	EventID    string `json:"event_id"`
	Deliveries int64  `json:"deliveries"`
	Unfinished int64  `json:"unfinished"` // of them, those that will not be delivered now
	Dead       int64  `json:"dead"`       // of them
	InFlight   int64  `json:"in_flight"`  // of them, those with a request under way: it finishes, and nothing is noted of it
}

// An ErasedCompany says what one call erased of a company.
type ErasedCompany struct {
	Company    string `json:"company"`
	Done       bool   `json:"done"` // false: time ran short; call again
	Callbacks  int64  `json:"callbacks"`
	Events     int64  `json:"events"`
	Deliveries int64  `json:"deliveries"`
	Unfinished int64  `json:"unfinished"` // as in ErasedEvent, as the next two
	Dead       int64  `json:"dead"`
	InFlight   int64  `json:"in_flight"`
	Decisions  int64  `json:"decisions"`
	Replays    int64  `json:"replays"`
	APIKeys    int64  `json:"api_keys"` // of this company alone
	// Kept is what stays, and what for.
	Kept []string `json:"kept"`
}

// kept is the same for every company.
var kept = []string{
	"ver: the time of the last change, so that processes notice it",
	"cbseq: the last callback_id, so that none is given twice",
	"cbver: the ids of its callbacks and when they were deleted, so that processes forget them",
	"a line of the audit trail, for 90 days: who erased it, when, and how much there was",
	"now and then a task in asynq's queues: the ids of a delivery that is gone, without content; it ends by itself at its time",
}

const (
	// eraseFor is how long one call erases: less than what servers, clients and proxies wait for an answer.
	eraseFor = 20 * time.Second
)

// EraseEvent removes an event as if it had never been accepted: its deliveries, its content, its place in all lists. An attempt under way
// finishes, and its outcome counts for nothing. The same event id may be sent anew. by names who asked, for the log.
//
// An event with many deliveries is out of sight at once, and then goes in pages. If the call is cut off before the last, workers go on.
//
// Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) EraseEvent(ctx context.Context, company, eventID, by string) (*ErasedEvent, error) {
	left, err := c.eraseRest(ctx, company, eventID) // of an earlier call, under the same id
	if err != nil {
		return nil, unavailable(ctx, c, "erasing the event", err)
	}
	n, err := c.erasePage(ctx, company, eventID, registry.AuditLine(ctx, company, "event.erase", "events/"+eventID))
	if err == nil && !n.Done {
		n, err = c.eraseRest(ctx, company, eventID)
	}
	if err != nil {
		return nil, unavailable(ctx, c, "erasing the event", err)
	}
	if n.Events == 0 {
		n = left
	}
	if n.Events == 0 {
		return nil, ErrNotFound
	}
	e := &ErasedEvent{EventID: eventID, Deliveries: n.Deliveries, Unfinished: n.Unfinished, Dead: n.Dead, InFlight: n.InFlight}
	c.log.InfoContext(ctx, "event erased", "company", company, "event", eventID, "by", by,
		"deliveries", e.Deliveries, "unfinished", e.Unfinished, "dead", e.Dead, "in_flight", e.InFlight)
	return e, nil
}

// erasePage erases a page of an event's deliveries, with their tasks. It returns what was erased of the event so far. line is the audit trail's; empty:
// to go on with an erasure, which has one.
func (c *Client) erasePage(ctx context.Context, company, eventID, line string) (ledger.Erased, error) {
	n, err := c.ledger.EraseEvent(ctx, company, eventID, line)
	if err != nil {
		return ledger.Erased{}, err
	}
	c.at("erased")
	c.lanes.ForgetAll(context.WithoutCancel(ctx), n.Tasks)
	return n, nil
}

// eraseRest goes on to the end with an event's erasure that was begun, if one was.
func (c *Client) eraseRest(ctx context.Context, company, eventID string) (n ledger.Erased, err error) {
	for !n.Done && err == nil {
		n, err = c.erasePage(ctx, company, eventID, "")
	}
	return n, err
}

// EraseCompany removes a company: its callbacks, events, decisions, replays, portal links and API keys, and whatever was noted of them. It works in
// small steps, for some 20 s at most: if the answer is not done, or there is none, call again, and it goes on. Events that are
// accepted meanwhile match no callback any more, and are erased as well. The answer lists what stays. by names who asked, for the log.
//
// Asynq's tasks go by the ids that follow from each delivery and its last few generations, right after the delivery: it is never searched, so
// what others have waiting there costs nothing. What is missed that way (an older generation, an attempt under way, a kill between the two) names
// ids, holds no content, and ends by itself when its time comes, for its delivery is gone.
//
// Errors: [ErrNotFound] if there is nothing of the company, [ErrUnavailable].
func (c *Client) EraseCompany(ctx context.Context, keys *registry.Keys, company, by string) (*ErasedCompany, error) {
	e := &erasure{Client: c, keys: keys, until: time.Now().Add(eraseFor), said: ErasedCompany{Company: company, Kept: kept}}
	something, err := e.something(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "looking for the company", err)
	}
	if !something {
		return nil, ErrNotFound
	}
	c.log.InfoContext(ctx, "company is being erased", "company", company, "by", by)
	if err = e.begin(ctx); err != nil {
		return nil, unavailable(ctx, c, "beginning to erase the company", err)
	}
	if e.said.Done, err = e.all(ctx); !e.said.Done {
		_, carried := e.note(context.WithoutCancel(ctx))
		err = errors.Join(err, carried)
	}
	c.log.InfoContext(ctx, "company erased", "company", company, "by", by, "done", e.said.Done, "callbacks", e.said.Callbacks, "events", e.said.Events,
		"deliveries", e.said.Deliveries, "unfinished", e.said.Unfinished, "dead", e.said.Dead, "in_flight", e.said.InFlight, "decisions", e.said.Decisions,
		"replays", e.said.Replays, "api_keys", e.said.APIKeys)
	if err != nil {
		return nil, unavailable(ctx, c, "erasing the company", err)
	}
	return &e.said, nil
}

// An erasure is one call's work on a company.
type erasure struct {
	*Client
	keys  *registry.Keys
	until time.Time
	said  ErasedCompany

	registry.Erasure        // the same for all calls until the company is gone
	call             string // this one's name among them
	last             bool   // the last page was all that was left
	epoch            int64  // of the company in the index of those with work
}

// counts are what this call erased, by the names that the audit trail has for it.
func (e *erasure) counts() ledger.Counts {
	return ledger.Counts{
		"callbacks": e.said.Callbacks, "events": e.said.Events, "deliveries": e.said.Deliveries, "unfinished": e.said.Unfinished, "dead": e.said.Dead,
		"decisions": e.said.Decisions, "replays": e.said.Replays, "api_keys": e.said.APIKeys,
	}
}

// begin begins the company's erasure, or goes on with the one that is under way.
func (e *erasure) begin(ctx context.Context) (err error) {
	e.call = rand.Text()
	if err := e.enlist(ctx); err != nil {
		return err
	}
	e.ID, e.Began, err = e.ledger.BeginErasure(ctx, e.said.Company, e.call)
	return err
}

// enlist has the company counted among those with work while it is erased, so that whoever counts sees what goes.
func (e *erasure) enlist(ctx context.Context) (err error) {
	e.epoch, err = registry.Enlist(ctx, e.rdb, e.said.Company)
	return err
}

// note notes what this call erased so far, and returns what all calls did: nil if nobody knows of the erasure any more. If a
// call is killed, the line does not tell of what it erased since its last note.
func (e *erasure) note(ctx context.Context) (all ledger.Counts, err error) {
	return e.ledger.NoteErasure(ctx, e.said.Company, e.call, e.ID, e.counts())
}

// leave takes the company's name away, and writes the one line that it leaves in the audit trail. It is over if another call came to the end.
func (e *erasure) leave(ctx context.Context) (over bool, err error) {
	all, err := e.note(ctx)
	if err != nil || all == nil {
		return e.over(ctx, err)
	}
	keys, err := e.keys.OfCompany(ctx, e.said.Company) // they go last
	if err != nil {
		return false, err
	}
	all["api_keys"] += keys
	var changes []registry.AuditChange
	for _, name := range slices.Sorted(maps.Keys(all)) {
		changes = append(changes, registry.AuditChange{Field: name, Old: all[name]})
	}
	return false, e.registry.Forget(ctx, e.said.Company, e.Erasure, changes...)
}

// over is for a call that finds its erasure gone. It is over if another call came to the end, and left its line. Else Redis lost what it had
// written last, and whoever calls again begins anew.
func (e *erasure) over(ctx context.Context, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	return e.registry.Forgotten(ctx, e.Erasure)
}

func (e *erasure) late() bool { return time.Now().After(e.until) }

// something reports whether there is anything of the company: what the erasure itself notes is taken out last.
func (e *erasure) something(ctx context.Context) (bool, error) {
	known, err := e.registry.Known(ctx, e.said.Company)
	if err != nil || known {
		return known, err
	}
	if there, err := e.ledger.HasAnything(ctx, e.said.Company); err != nil || there {
		return there, err
	}
	bound, err := e.keys.OfCompany(ctx, e.said.Company)
	return bound > 0, err
}

// all goes through the steps. First it stops those who could add to the company; the names that the reconciler finds the rest by come last, and last of
// all the keys of operators, who may have to call again.
func (e *erasure) all(ctx context.Context) (done bool, err error) {
	if err := e.revoke(ctx, registry.Producer, registry.Partner, registry.Viewer); err != nil {
		return false, err
	}
	if err := e.registry.ForgetLinks(ctx, e.said.Company); err != nil {
		return false, err
	}
	for !done {
		for _, step := range []func(context.Context) error{e.callbacks, e.events, e.batches, e.decisions, e.replays, e.claims, e.traces, e.burials} {
			if err := step(ctx); err != nil {
				return false, err
			}
			if all, err := e.note(ctx); err != nil || all == nil {
				return e.over(ctx, err)
			}
			if e.late() {
				return false, nil
			}
			e.at("step")
		}
		if done, err = e.rest(ctx); err != nil {
			return false, err
		}
	}
	if err := e.revoke(ctx, registry.Operator); err != nil {
		return false, err
	}
	return true, e.ledger.EndErasure(ctx, e.said.Company)
}

func (e *erasure) revoke(ctx context.Context, roles ...registry.Role) error {
	n, err := e.keys.RevokeCompany(ctx, e.said.Company, roles...)
	e.said.APIKeys += n
	return err
}

// callbacks deletes them as anybody would, so that every process learns of it.
func (e *erasure) callbacks(ctx context.Context) error {
	ids, err := e.registry.IDs(ctx, e.said.Company, false)
	if err != nil {
		return err
	}
	for _, id := range ids {
		switch err := e.registry.Delete(ctx, e.said.Company, id); {
		case err == nil:
			e.said.Callbacks++
		case !errors.Is(err, registry.ErrNotFound):
			return err
		}
		if e.late() {
			return nil
		}
	}
	return nil
}

// events erases page by page all that there is of them now. What is accepted meanwhile, after the callbacks, matched none.
func (e *erasure) events(ctx context.Context) error {
	newest, err := e.ledger.NewestEvent(ctx, e.said.Company)
	for err == nil && newest != "" && !e.late() {
		if err = e.page(ctx, e.ledger.ErasePage); err != nil {
			break
		}
		var oldest string
		oldest, err = e.ledger.OldestEvent(ctx, e.said.Company)
		if oldest == "" || ledger.LogIDLess(newest, oldest) {
			break
		}
	}
	return err
}

// page erases a page of events, or of batches, with their tasks.
func (e *erasure) page(ctx context.Context, erase func(context.Context, string) (ledger.Erased, error)) error {
	n, err := erase(ctx, e.said.Company)
	if err != nil {
		return err
	}
	e.said.Events, e.said.Deliveries = e.said.Events+n.Events, e.said.Deliveries+n.Deliveries
	e.said.Unfinished, e.said.Dead, e.said.InFlight = e.said.Unfinished+n.Unfinished, e.said.Dead+n.Dead, e.said.InFlight+n.InFlight
	e.at("erased")
	e.lanes.ForgetAll(context.WithoutCancel(ctx), n.Tasks)
	e.last = n.Done
	return nil
}

// batches erases them before the traces: an attempt under way of one that is left would find its callback's gate gone, and leave traces anew.
func (e *erasure) batches(ctx context.Context) error {
	for !e.late() {
		if err := e.page(ctx, e.ledger.EraseBatches); err != nil || e.last {
			return err
		}
	}
	return nil
}

func (e *erasure) decisions(ctx context.Context) error {
	return e.book(ctx, e.ledger.EraseDecisions, &e.said.Decisions)
}

func (e *erasure) replays(ctx context.Context) error {
	own, err := e.ledger.ForgetInBulks(ctx, e.said.Company)
	e.said.Replays += own
	return errors.Join(err, e.book(ctx, e.ledger.EraseSweeps, &e.said.Replays))
}

// claims erases what is kept of requests with an Idempotency-Key: answers hold secrets.
func (e *erasure) claims(ctx context.Context) error {
	var n int64
	return e.book(ctx, e.ledger.EraseClaims, &n)
}

// book erases page by page what a book names, and adds up how many of it there still were.
func (e *erasure) book(ctx context.Context, erase func(context.Context, string) (int64, bool, error), sum *int64) error {
	for !e.late() {
		n, done, err := erase(ctx, e.said.Company)
		if *sum += n; err != nil || done {
			return err
		}
	}
	return nil
}

// traces removes what there is of each callback beside its registration. The events that are left in the log matched none of them, so nobody asks
// whether it was deleted.
func (e *erasure) traces(ctx context.Context) error {
	ids, err := e.registry.IDs(ctx, e.said.Company, true)
	if err != nil {
		return err
	}
	for page := range slices.Chunk(ids, ledger.TracesPage) {
		if err := e.ledger.EraseTraces(ctx, e.said.Company, page...); err != nil {
			return err
		}
	}
	return nil
}

func (e *erasure) burials(ctx context.Context) error { return e.ledger.MoveBuried(ctx, e.said.Company) }

// rest erases the events that came meanwhile, what was shared by all of the company and, unless there is something again, its name.
func (e *erasure) rest(ctx context.Context) (done bool, err error) {
	if err := e.events(ctx); err != nil {
		return false, err
	}
	if over, err := e.leave(ctx); err != nil || over {
		return over, err
	}
	e.at("forgotten")
	if err := e.enlist(ctx); err != nil {
		return false, err
	}
	if err = e.page(ctx, e.ledger.EraseRest); err == nil && e.last {
		e.at("unlisted")
		_, err = e.registry.File(ctx, registry.Filing{Company: e.said.Company, Epoch: e.epoch}) // unless it is used again already
		return err == nil, err
	}
	return false, errors.Join(err, e.registry.Touch(ctx, e.said.Company)) // it is to be found by its name
}
