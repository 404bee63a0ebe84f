package ledger

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
)

var eraseScript, erasedScript = lua.Script("erase"), lua.Script("erased")

// erasedEvents bounds the events that one script run erases, erasedDeliveries their deliveries: a few milliseconds of Redis's time.
const erasedEvents, erasedDeliveries = 200, 100

// An Erased is what was erased, of one event so far, or with a page of a company's.
type Erased struct {
	Events, Deliveries         int64
	Unfinished, Dead, InFlight int64    // of the deliveries
	Done                       bool     // that was all of the event, or of the company
	Tasks                      []Ticket // deliveries that went with this page, whose tasks are to be forgotten
}

// EraseEvent erases a page of an event's deliveries, with the last of them the event, and then writes line to the audit trail. An empty line only
// goes on with an erasure that was begun.
func (l *Ledger) EraseEvent(ctx context.Context, company, event, line string) (Erased, error) {
	return l.erase(ctx, company, "event", event, erasedDeliveries, line)
}

// ErasePage erases a page of a company's events.
func (l *Ledger) ErasePage(ctx context.Context, company string) (Erased, error) {
	return l.erase(ctx, company, "page", erasedEvents, erasedDeliveries)
}

// EraseBatches erases a page of a company's batches, whose members are counted elsewhere.
func (l *Ledger) EraseBatches(ctx context.Context, company string) (Erased, error) {
	return l.erase(ctx, company, "batches", erasedDeliveries)
}

// EraseRest is ErasePage, and if that was the last, erases what the company's keys share.
func (l *Ledger) EraseRest(ctx context.Context, company string) (Erased, error) {
	return l.erase(ctx, company, "rest", erasedEvents, erasedDeliveries)
}

func (l *Ledger) erase(ctx context.Context, company string, args ...any) (Erased, error) {
	a, err := l.ask(ctx, eraseScript, company, args...)
	if err != nil {
		return Erased{}, err
	}
	e := Erased{Events: a.number(), Deliveries: a.number(), Unfinished: a.number(), Dead: a.number(), InFlight: a.number(), Done: a.number() == 1}
	if a.err == nil {
		e.Tasks = l.tickets(ctx, company, a)
	}
	return e, a.err
}

// Counts are what the erasure of a company erased, by name.
type Counts map[string]int64

// BeginErasure begins a company's erasure under a call's name, or names the one that is under way, and when it began.
func (l *Ledger) BeginErasure(ctx context.Context, company, call string) (id string, began time.Time, err error) {
	a, err := l.ask(ctx, erasedScript, company, call)
	if err != nil {
		return "", time.Time{}, err
	}
	id, began = a.text(), time.UnixMilli(a.number())
	return id, began, a.err
}

// NoteErasure notes what a call erased so far, and returns what all calls did: nil if that erasure is over.
func (l *Ledger) NoteErasure(ctx context.Context, company, call, id string, mine Counts) (Counts, error) {
	text, err := json.Marshal(mine)
	if err != nil {
		return nil, err
	}
	a, err := l.ask(ctx, erasedScript, company, call, id, text)
	if err != nil || !a.more() {
		return nil, err
	}
	a.text() // id
	a.text() // when it began
	all := Counts{}
	for a.more() {
		var one Counts
		if err := json.Unmarshal([]byte(a.text()), &one); err != nil {
			return nil, err
		}
		for name, n := range one {
			all[name] += n
		}
	}
	return all, a.err
}

// EndErasure forgets that a company was erased.
func (l *Ledger) EndErasure(ctx context.Context, company string) error {
	return l.rdb.Del(ctx, Key(company, "erased")).Err()
}

// HasAnything reports whether there is anything of a company: what the erasure itself notes is taken out last.
func (l *Ledger) HasAnything(ctx context.Context, company string) (bool, error) {
	n, err := l.rdb.Exists(ctx, keys(company, "", "cb", "log", "asks", "audit", "erased", "links")...).Result()
	return n > 0, err
}

// NewestEvent and OldestEvent are the log ids of a company's newest and oldest event, "" if there is none.
func (l *Ledger) NewestEvent(ctx context.Context, company string) (logID string, err error) {
	return firstID(l.rdb.XRevRangeN(ctx, Key(company, "log"), "+", "-", 1).Result())
}

// OldestEvent is like NewestEvent.
func (l *Ledger) OldestEvent(ctx context.Context, company string) (logID string, err error) {
	return firstID(l.rdb.XRangeN(ctx, Key(company, "log"), "-", "+", 1).Result())
}

func firstID(found []redis.XMessage, err error) (string, error) {
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0].ID, nil
}

// EraseDecisions erases a page of a company's decisions. done: there was none left.
func (l *Ledger) EraseDecisions(ctx context.Context, company string) (erased int64, done bool, err error) {
	return l.eraseBook(ctx, company, "asks", "ask:")
}

// EraseSweeps erases a page of a company's replays. done: there was none left but those that run and are older than what the book has. Those
// go with the last page.
func (l *Ledger) EraseSweeps(ctx context.Context, company string) (erased int64, done bool, err error) {
	erased, done, err = l.eraseBook(ctx, company, "replays", "replay:")
	if err != nil || !done {
		return erased, done, err
	}
	running, err := l.rdb.SMembers(ctx, Key(company, "replaying")).Result()
	if err != nil || len(running) == 0 {
		return erased, true, err
	}
	return erased, true, l.rdb.Del(ctx, keys(company, "replay:", running...)...).Err()
}

// eraseBook erases a page of what a zset names.
func (l *Ledger) eraseBook(ctx context.Context, company, book, prefix string) (erased int64, done bool, err error) {
	names, err := l.rdb.ZRange(ctx, Key(company, book), 0, glancePage-1).Result()
	if err != nil || len(names) == 0 {
		return 0, err == nil, err
	}
	if erased, err = l.rdb.Del(ctx, keys(company, prefix, names...)...).Result(); err != nil {
		return 0, false, err
	}
	members := make([]any, len(names))
	for i, name := range names {
		members[i] = name
	}
	return erased, false, l.rdb.ZRem(ctx, Key(company, book), members...).Err()
}

func keys(company, prefix string, names ...string) []string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = Key(company, prefix+name)
	}
	return all
}

// TracesPage is how many callbacks EraseTraces takes at a time.
const TracesPage = glancePage / 8

// EraseTraces removes what there is of callbacks beside their registration.
func (l *Ledger) EraseTraces(ctx context.Context, company string, callbacks ...int64) error {
	var names []string
	for _, id := range callbacks {
		for _, name := range []string{"gate:", "health:", "rate:", "ready:", "room:", "busy:", "retry:", "pull:", "fetched:", "behind:", "heads:", "seq:"} {
			names = append(names, name+strconv.FormatInt(id, 10))
		}
	}
	return l.rdb.Del(ctx, keys(company, "", names...)...).Err()
}

// buriedKey is the hash of how many held deliveries were given up, by reason, in companies that were erased since.
const buriedKey = "ringback:buried"

// MoveBuried moves the counts of those given up to where those of all erased companies are: a counter that falls is taken for one that began anew.
// A kill in between loses the counts, and no more.
func (l *Ledger) MoveBuried(ctx context.Context, company string) error {
	var counts *redis.MapStringStringCmd
	if _, err := l.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		counts = p.HGetAll(ctx, Key(company, "buried"))
		return p.Del(ctx, Key(company, "buried")).Err()
	}); err != nil {
		return err
	}
	for reason, count := range counts.Val() {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			continue // not ours
		}
		if err := l.rdb.HIncrBy(ctx, buriedKey, reason, n).Err(); err != nil {
			return err
		}
	}
	return nil
}
