package ledger

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var (
	haltScript  = lua.Acting("halt", `true`)
	lanesScript = lua.Script("lanes")
)

// Halt stops everything that goes out, or lets it go on, by the keys that say so, and writes line to the audit trail if that changes any. It is one
// step where Redis is no cluster: there the keys are in several slots.
func (l *Ledger) Halt(ctx context.Context, keys []string, resume bool, now time.Time, line string) error {
	what := "pause"
	if resume {
		what = "resume"
	}
	return haltScript.Run(ctx, l.rdb, append(keys, registry.AuditKeyOfAll), l.rules, what, now.Unix(), line).Err()
}

// Spread writes how many lanes there are, and up to which they are looked into, under key, unless that was changed since its epoch was read. If line is not
// empty, the same step writes it to the audit trail: a Redis Cluster has that in another slot.
func (l *Ledger) Spread(ctx context.Context, key string, count, high int, epoch int64, line string) (done bool, err error) {
	keys := []string{key}
	if line != "" {
		keys = append(keys, registry.AuditKeyOfAll)
	}
	return lanesScript.Run(ctx, l.rdb, keys, l.rules, count, high, epoch, line).Bool()
}
