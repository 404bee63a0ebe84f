package ledger

import (
	"context"

	"github.com/ringback/ringback/dispatcher/lua"
)

// The types of the events that tell a company how its callbacks do. Notices are by the event's id, which begins with one of the first two.
const (
	TypeFailing  = lua.TypeFailing
	TypeDisabled = lua.TypeDisabled
	TypeExpiring = lua.TypeExpiring
)

// Warnings are at how many percent of the way to its end a callback is warned of.
func Warnings() []int { return lua.Warnings() }

func noticesKey(company string) string { return Key(company, "notices") }

// Notices are what a company's outbox holds to be told of its callbacks, by the id of the event that tells it: as finish.lua wrote it.
func (l *Ledger) Notices(ctx context.Context, company string) (map[string]string, error) {
	return l.rdb.HGetAll(ctx, noticesKey(company)).Result()
}

// HasNotice reports whether a notice is still in the outbox.
func (l *Ledger) HasNotice(ctx context.Context, company, id string) (bool, error) {
	return l.rdb.HExists(ctx, noticesKey(company), id).Result()
}

// DropNotice takes one out. mine: it was there.
func (l *Ledger) DropNotice(ctx context.Context, company, id string) (mine bool, err error) {
	n, err := l.rdb.HDel(ctx, noticesKey(company), id).Result()
	return n > 0, err
}
