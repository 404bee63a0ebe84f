package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

const (
	// Page bounds how many deliveries one script run repairs or moves: a few milliseconds of Redis's time.
	Page = 100
	// glancePage is how many keys or entries are looked at in one run, or one command, if little is done about each.
	glancePage = 500
)

var pruneScript, trimScript, bodiesScript, countScript = lua.Script("prune"), lua.Script("trim"), lua.Script("bodies"), lua.Script("count")

// A Pruned is a page of the dead-letter book that was looked at.
type Pruned struct {
	Pruned   int64 // deliveries that left the book
	Done     bool  // it was the last page
	Expiring int64 // Done: those that will leave within the next tenth of keep
	Announce bool  // Done: that is to be said now
}

// Prune takes out of a company's dead-letter book what has been dead for longer than keep, a page at a time, from where the last call stopped.
func (l *Ledger) Prune(ctx context.Context, company string, keep time.Duration) (Pruned, error) {
	a, err := l.ask(ctx, pruneScript, company, keep.Milliseconds(), Page)
	if err != nil {
		return Pruned{}, err
	}
	out := Pruned{Done: a.text() == "end", Pruned: a.number(), Expiring: a.number(), Announce: a.yes()}
	return out, a.err
}

// ExpiringLetters is [Pruned].Expiring of all companies, as the workers on this Redis found it last.
func ExpiringLetters(ctx context.Context, rdb redis.UniversalClient) (int64, error) {
	companies, err := registry.Lookout(ctx, rdb) // what is being pruned is work
	if err != nil {
		return 0, err
	}
	var sum int64
	for page := range slices.Chunk(companies, glancePage) {
		pipe := rdb.Pipeline()
		counts := make([]*redis.StringCmd, len(page))
		for i, company := range page {
			counts[i] = pipe.HGet(ctx, Key(company, "prune"), "expiring")
		}
		if err := execute(ctx, pipe); err != nil {
			return 0, err
		}
		for _, count := range counts {
			n, _ := count.Int64() // absent: none
			sum += n
		}
	}
	return sum, nil
}

// TrimLog removes a page of events that have had their time, and of the log's entries whose events are gone, from a place on ("-" to begin), and returns the next place ("-" at the end).
func (l *Ledger) TrimLog(ctx context.Context, company, from string) (next string, err error) {
	return l.run(ctx, trimScript, company, from, glancePage).Text()
}

// TakeBodies takes the bodies of a page of events away whose deliveries have all ended for as long as bodies are kept. more: there may be others. If bodies
// stay as long as their events, or a process is alive that would not miss a body before it sends one ([Ledger.Raised]), nothing leaves.
func (l *Ledger) TakeBodies(ctx context.Context, company string) (taken int64, more bool, err error) {
	if l.bodies == 0 || !l.Raised(ctx) {
		return 0, false, nil
	}
	a, err := l.ask(ctx, bodiesScript, company, Page)
	if err != nil {
		return 0, false, err
	}
	more, taken = a.yes(), a.number()
	return taken, more, a.err
}

// Uses is how much of its quotas a company uses.
func (l *Ledger) Uses(ctx context.Context, company string) (callbacks, replays, waitingBytes int64, err error) {
	pipe := l.rdb.Pipeline()
	cbs, running := pipe.HLen(ctx, Key(company, "cb")), pipe.SCard(ctx, Key(company, "replaying"))
	waiting := pipe.HGet(ctx, Key(company, "waiting"), "/")
	if err := execute(ctx, pipe); err != nil {
		return 0, 0, 0, err
	}
	waitingBytes, _ = waiting.Int64() // absent: none
	return cbs.Val(), running.Val(), waitingBytes, nil
}

// CountWaiting compares a page of what is counted as waiting with what waits. what is "counted", "due", a room's callback, or that with <
// before it, for its lines; cursor is "0" to begin.
// It returns the next cursor: "0" at the end, and "" if nothing is counted for the company.
func (l *Ledger) CountWaiting(ctx context.Context, company, what, cursor string) (next string, err error) {
	return l.run(ctx, countScript, company, what, cursor, Page).Text()
}

// Rooms are the callbacks of a company that have a room with something in it.
func (l *Ledger) Rooms(ctx context.Context, company string) (callbacks []string, err error) {
	return l.rdb.ZRange(ctx, registry.RoomsKey(company), 0, -1).Result()
}
