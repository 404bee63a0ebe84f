package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

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
	// erasePage bounds the events that one script run erases, eraseDeliveries their deliveries: a few milliseconds of Redis's time.
	erasePage, eraseDeliveries = 200, 100
	// oldTasks is how many generations of a delivery are looked for in asynq: a task of an older one ends by itself.
	oldTasks = 8
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
	n, more, err := c.erasePage(ctx, company, eventID, registry.AuditLine(ctx, company, "event.erase", "events/"+eventID))
	if err == nil && more {
		n, err = c.eraseRest(ctx, company, eventID)
	}
	if err != nil {
		return nil, unavailable(ctx, c, "erasing the event", err)
	}
	if n[0] == 0 {
		n = left
	}
	if n[0] == 0 {
		return nil, ErrNotFound
	}
	e := &ErasedEvent{EventID: eventID, Deliveries: n[1], Unfinished: n[2], Dead: n[3], InFlight: n[4]}
	c.log.InfoContext(ctx, "event erased", "company", company, "event", eventID, "by", by,
		"deliveries", e.Deliveries, "unfinished", e.Unfinished, "dead", e.Dead, "in_flight", e.InFlight)
	return e, nil
}

// erasePage erases an event's deliveries, so many at most, with their tasks. It returns what was erased of the event so far, as erase.lua counts it,
// and whether there is more. line is the audit trail's; empty: to go on with an erasure, which has one.
func (c *Client) erasePage(ctx context.Context, company, eventID, line string) (n []int64, more bool, err error) {
	answer, err := c.answer(ctx, 6, eraseScript, company, "event", eventID, eraseDeliveries, line)
	if err != nil {
		return nil, false, err
	}
	c.at("erased")
	c.forgetTasks(context.WithoutCancel(ctx), company, answer[6:])
	n = numbers(answer[:6])
	return n, n[5] == 0, nil
}

// eraseRest goes on to the end with an event's erasure that was begun, if one was.
func (c *Client) eraseRest(ctx context.Context, company, eventID string) (n []int64, err error) {
	for more := true; more && err == nil; {
		n, more, err = c.erasePage(ctx, company, eventID, "")
	}
	return n, err
}

func numbers(texts []string) []int64 {
	n := make([]int64, len(texts))
	for i, text := range texts {
		n[i], _ = strconv.ParseInt(text, 10, 64)
	}
	return n
}

// forgetTasks removes the tasks of deliveries (member, generation, …) from asynq: the same event may come again, and its tasks have the same
// ids. One that is under way ends by itself.
func (c *Client) forgetTasks(ctx context.Context, company string, erased []string) {
	var tasks []pendingTask
	for i := 0; i+1 < len(erased); i += 2 {
		t, err := readTask(company, erased[i], erased[i+1])
		if err != nil {
			c.log.ErrorContext(ctx, "erased delivery has no readable name", "error", err)
			continue
		}
		for g := t.generation; g > max(0, t.generation-oldTasks); g-- {
			tasks = append(tasks, pendingTask{ref: t.ref, generation: g})
		}
	}
	c.inParallel(ctx, tasks, func(t pendingTask) { c.forget(ctx, t.ref, strconv.FormatInt(t.generation, 10)) })
}

// EraseCompany removes a company: its callbacks, events, decisions, replays and API keys, and whatever was noted of them. It works in
// small steps, for some 20 s at most: if the answer is not done, or there is none, call again, and it goes on. What is accepted
// meanwhile goes nowhere, for there is no callback any more, and is erased as well. What stays is in the answer. by names who asked, for the log.
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
}

// counts are what a call erased, by the names that the audit trail has for it.
type counts map[string]int64

func (e *erasure) counts() counts {
	return counts{
		"callbacks": e.said.Callbacks, "events": e.said.Events, "deliveries": e.said.Deliveries, "unfinished": e.said.Unfinished, "dead": e.said.Dead,
		"decisions": e.said.Decisions, "replays": e.said.Replays, "api_keys": e.said.APIKeys,
	}
}

// begin begins the company's erasure, or goes on with the one that is under way.
func (e *erasure) begin(ctx context.Context) error {
	e.call = rand.Text()
	answer, err := e.answer(ctx, 2, erasedScript, e.said.Company, e.call)
	if err != nil {
		return err
	}
	e.ID, e.Began = answer[0], time.UnixMilli(numbers(answer[1:2])[0])
	return nil
}

// note notes what this call erased so far, and returns what all calls did: nil if nobody knows of the erasure any more. If a
// call is killed, the line does not tell of what it erased since its last note.
func (e *erasure) note(ctx context.Context) (all counts, err error) {
	mine, err := json.Marshal(e.counts())
	if err != nil {
		return nil, err
	}
	answer, err := e.answer(ctx, 0, erasedScript, e.said.Company, e.call, e.ID, mine)
	if err != nil || len(answer) == 0 {
		return nil, err
	}
	all = counts{}
	for _, text := range answer[2:] {
		var one counts
		if err := json.Unmarshal([]byte(text), &one); err != nil {
			return nil, err
		}
		for name, n := range one {
			all[name] += n
		}
	}
	return all, nil
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
	n, err := e.rdb.Exists(ctx, keyOf(e.said.Company, "cb"), keyOf(e.said.Company, "log"), keyOf(e.said.Company, "asks"), keyOf(e.said.Company, "audit"),
		keyOf(e.said.Company, "erased")).Result()
	if err != nil || n > 0 {
		return n > 0, err
	}
	bound, err := e.keys.OfCompany(ctx, e.said.Company)
	return bound > 0, err
}

// all goes through the steps. Who could add to the company is stopped first; what the reconciler finds the rest by comes last, and last of
// all the keys of operators, who may have to call again.
func (e *erasure) all(ctx context.Context) (done bool, err error) {
	if err := e.revoke(ctx, registry.Producer, registry.Partner, registry.Viewer); err != nil {
		return false, err
	}
	for !done {
		for _, step := range []func(context.Context) error{e.callbacks, e.events, e.decisions, e.replays, e.traces, e.burials} {
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
	return true, e.rdb.Del(ctx, keyOf(e.said.Company, "erased")).Err()
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
	log := keyOf(e.said.Company, "log")
	newest, err := e.rdb.XRevRangeN(ctx, log, "+", "-", 1).Result()
	for err == nil && len(newest) > 0 && !e.late() {
		if _, err = e.page(ctx, "page"); err != nil {
			break
		}
		var oldest []redis.XMessage
		oldest, err = e.rdb.XRangeN(ctx, log, "-", "+", 1).Result()
		if len(oldest) == 0 || logIDLess(newest[0].ID, oldest[0].ID) {
			break
		}
	}
	return err
}

// page erases a page of events, with their tasks, and reports whether, with mode rest, it was all there was.
func (e *erasure) page(ctx context.Context, mode string) (all bool, err error) {
	answer, err := e.answer(ctx, 6, eraseScript, e.said.Company, mode, erasePage, eraseDeliveries)
	if err != nil {
		return false, err
	}
	n := numbers(answer[:6])
	e.said.Events, e.said.Deliveries = e.said.Events+n[0], e.said.Deliveries+n[1]
	e.said.Unfinished, e.said.Dead, e.said.InFlight = e.said.Unfinished+n[2], e.said.Dead+n[3], e.said.InFlight+n[4]
	e.at("erased")
	e.forgetTasks(context.WithoutCancel(ctx), e.said.Company, answer[6:])
	return n[5] == 1, nil
}

func (e *erasure) decisions(ctx context.Context) (err error) {
	e.said.Decisions, err = e.book(ctx, "asks", "ask:", e.said.Decisions)
	return err
}

func (e *erasure) replays(ctx context.Context) (err error) {
	if e.said.Replays, err = e.book(ctx, "replays", "replay:", e.said.Replays); err != nil {
		return err
	}
	running, err := e.rdb.SMembers(ctx, keyOf(e.said.Company, "replaying")).Result() // those that are older than what the book has
	if err != nil || len(running) == 0 {
		return err
	}
	return e.delete(ctx, "replay:", running)
}

// book erases what a zset names, and adds up how many of it there still were.
func (e *erasure) book(ctx context.Context, book, prefix string, n int64) (int64, error) {
	for !e.late() {
		names, err := e.rdb.ZRange(ctx, keyOf(e.said.Company, book), 0, glancePage-1).Result()
		if err != nil || len(names) == 0 {
			return n, err
		}
		keys := e.names(prefix, names)
		removed, err := e.rdb.Del(ctx, keys...).Result()
		if err != nil {
			return n, err
		}
		n += removed
		if err := e.rdb.ZRem(ctx, keyOf(e.said.Company, book), anys(names)...).Err(); err != nil {
			return n, err
		}
	}
	return n, nil
}

func (e *erasure) names(prefix string, names []string) []string {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = keyOf(e.said.Company, prefix+name)
	}
	return keys
}

func (e *erasure) delete(ctx context.Context, prefix string, names []string) error {
	return e.rdb.Del(ctx, e.names(prefix, names)...).Err()
}

func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, text := range texts {
		all[i] = text
	}
	return all
}

// traces removes what there is of each callback beside its registration. Of the log no more is left than what matched none of them, so nobody
// asks whether it was deleted.
func (e *erasure) traces(ctx context.Context) error {
	ids, err := e.registry.IDs(ctx, e.said.Company, true)
	if err != nil {
		return err
	}
	for page := range slices.Chunk(ids, glancePage/8) {
		var keys []string
		for _, id := range page {
			for _, name := range []string{"gate:", "health:", "rate:", "ready:", "room:", "busy:", "retry:"} {
				keys = append(keys, keyOf(e.said.Company, name+strconv.FormatInt(id, 10)))
			}
		}
		if err := e.rdb.Del(ctx, keys...).Err(); err != nil {
			return err
		}
	}
	return nil
}

// burials moves the counts of those given up to where those of all erased companies are: a counter that falls is taken for one that began anew.
// A kill in between loses the counts, and no more.
func (e *erasure) burials(ctx context.Context) error {
	var counts *redis.MapStringStringCmd
	if _, err := e.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		counts = p.HGetAll(ctx, keyOf(e.said.Company, "buried"))
		return p.Del(ctx, keyOf(e.said.Company, "buried")).Err()
	}); err != nil {
		return err
	}
	for reason, count := range counts.Val() {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			continue // not ours
		}
		if err := e.rdb.HIncrBy(ctx, buriedKey, reason, n).Err(); err != nil {
			return err
		}
	}
	return nil
}

// rest erases the events that came meanwhile, what was shared by all of the company and, unless there is something again, its name.
func (e *erasure) rest(ctx context.Context) (done bool, err error) {
	if err := e.events(ctx); err != nil {
		return false, err
	}
	if over, err := e.leave(ctx); err != nil || over {
		return over, err
	}
	e.at("forgotten")
	all, err := e.page(ctx, "rest")
	if err == nil && all {
		return true, nil
	}
	return false, errors.Join(err, e.registry.Touch(ctx, e.said.Company)) // it is to be found by its name
}
