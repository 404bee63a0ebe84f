package ledger

import (
	"context"
	"crypto/rand"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var (
	pumpScript  = lua.Script("pump")
	purgeScript = lua.Script("purge")
	easeScript  = lua.Script("ease")
)

// pumpPage is how many deliveries one script run lets out of a room, buries or cancels, but for the rest of a batch: some milliseconds of Redis's time.
const pumpPage = 100

// A Pumped is what a page let out of a callback's room.
type Pumped struct {
	Deleted  bool          // the callback is: nothing goes out, and what waits is to be purged
	Released []Ticket      // what may go
	More     bool          // there may be more that may go at once
	Wait     time.Duration // until time lets something out; 0: only room can, or nothing may go out at all
}

// Pump lets a page of deliveries out of a callback's room, as window, breaker, rate limit and gate allow, and buries what has waited too long in it.
// barred: this process may not call the callback's host name, so nothing goes out.
func (l *Ledger) Pump(ctx context.Context, company string, callback int64, barred bool) (Pumped, error) {
	a, err := l.ask(ctx, pumpScript, company, callback, pumpPage, barred, rand.Text())
	if err != nil {
		return Pumped{}, err
	}
	switch a.text() {
	case "deleted":
		return Pumped{Deleted: true}, nil
	case "closed", "busy":
		return Pumped{}, nil
	}
	out := Pumped{Wait: a.wait()}
	out.More = len(a.left) >= 2*pumpPage
	out.Released = l.tickets(ctx, company, a)
	return out, a.err
}

// Purge cancels a page of what waits for a callback, from a cursor on ("0" to begin), and returns the next cursor ("0" at the end). If somebody
// asked for it, line is written to the audit trail with the first page.
func (l *Ledger) Purge(ctx context.Context, company string, callback int64, cursor, line string) (next string, err error) {
	a, err := l.ask(ctx, purgeScript, company, callback, cursor, pumpPage, line)
	if err != nil {
		return "", err
	}
	next = a.text()
	return next, a.err
}

// Ease lets a callback's deliveries out carefully, as after failures.
func (l *Ledger) Ease(ctx context.Context, company string, callback int64) error {
	return l.run(ctx, easeScript, company, callback).Err()
}

// DueRooms are callbacks of a company whose room is to be pumped by then.
func (l *Ledger) DueRooms(ctx context.Context, company string, now time.Time) (callbacks []string, err error) {
	return l.rdb.ZRangeByScore(ctx, registry.RoomsKey(company), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(now.UnixMilli(), 10), Count: glancePage,
	}).Result()
}
