package ledger

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// expandingPage is how many events are looked at together that are written in pages.
const expandingPage = 500

// Expanding counts the events of a type whose deliveries are still being written, up to a limit.
func (l *Ledger) Expanding(ctx context.Context, company, typ string, limit int) (n int, err error) {
	for from := int64(0); ; from += expandingPage {
		ids, err := l.rdb.ZRange(ctx, Key(company, "paged"), from, from+expandingPage-1).Result()
		if err != nil || len(ids) == 0 {
			return n, err
		}
		pipe := l.rdb.Pipeline()
		metas := make([]*redis.SliceCmd, len(ids))
		for i, id := range ids {
			metas[i] = pipe.HMGet(ctx, EventKey(company, id), "m", "e")
		}
		if err := execute(ctx, pipe); err != nil {
			return n, err
		}
		for i, cmd := range metas {
			fields := Strings(cmd.Val())
			if len(fields) != 2 || fields[0] == "" || fields[1] == "" { // it is being erased, or is through
				continue
			}
			var m Meta
			if err := json.Unmarshal([]byte(fields[0]), &m); err != nil {
				return n, fmt.Errorf("event %s: %w", ids[i], ErrBadRecord)
			}
			if m.Type == typ {
				n++
			}
		}
		if n >= limit || len(ids) < expandingPage {
			return min(n, limit), nil
		}
	}
}
