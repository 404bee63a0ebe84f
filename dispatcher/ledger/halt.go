package ledger

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var haltScript = lua.Script("halt")

// Halt pauses all lanes, or lets them go on, by the keys that asynq has for that, and writes line to the audit trail if that changes any. It is one
// step where Redis is no cluster: there the keys are in several slots.
func (l *Ledger) Halt(ctx context.Context, keys []string, resume bool, now time.Time, line string) error {
	what := "pause"
	if resume {
		what = "resume"
	}
	return haltScript.Run(ctx, l.rdb, append(keys, registry.AuditKeyOfAll), l.rules, what, now.Unix(), line).Err()
}
