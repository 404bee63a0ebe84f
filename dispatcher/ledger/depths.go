package ledger

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// Depths are how much there is of a company's deliveries that wait, or are dead.
type Depths struct {
	Held, Dead     int64
	Open, HalfOpen int64            // breakers of the callbacks that have something held
	Oldest         time.Time        // when the oldest of those held was accepted; zero: there is none
	Expiring       int64            // of the dead, those that will be pruned soon
	Buried         map[string]int64 // held deliveries that were given up, by reason
	Due            time.Time        // the earliest time to worry; zero: there is none
}

// Depths reads them.
func (l *Ledger) Depths(ctx context.Context, company string) (Depths, error) {
	var d Depths
	pipe := l.rdb.Pipeline()
	rooms := pipe.ZRange(ctx, registry.RoomsKey(company), 0, -1)
	dead := pipe.ZCard(ctx, Key(company, "dead"))
	due := pipe.ZRangeWithScores(ctx, Key(company, "due"), 0, 0)
	expiring := pipe.HGet(ctx, Key(company, "prune"), "expiring")
	buried := pipe.HGetAll(ctx, Key(company, "buried"))
	if err := execute(ctx, pipe); err != nil {
		return d, err
	}
	d.Dead, d.Buried = dead.Val(), countsOf(buried.Val())
	d.Expiring, _ = expiring.Int64() // absent: none
	if first := due.Val(); len(first) > 0 {
		d.Due = FromMS(int64(first[0].Score))
	}
	if len(rooms.Val()) == 0 {
		return d, nil
	}
	pipe = l.rdb.Pipeline()
	type room struct {
		length *redis.IntCmd
		first  *redis.ZSliceCmd
		pace   *redis.SliceCmd
	}
	var all []room
	for _, cb := range rooms.Val() {
		key := Key(company, "room:"+cb)
		all = append(all, room{pipe.ZCard(ctx, key), pipe.ZRangeWithScores(ctx, key, 0, 0), pipe.HMGet(ctx, Key(company, "health:"+cb), "l", "f")})
	}
	if err := execute(ctx, pipe); err != nil {
		return d, err
	}
	for _, r := range all {
		d.Held += r.length.Val()
		if first := r.first.Val(); len(first) > 0 {
			if at := FromMS(int64(first[0].Score) / lua.OrderScale); d.Oldest.IsZero() || at.Before(d.Oldest) {
				d.Oldest = at
			}
		}
		a := &answer{left: Strings(r.pace.Val())}
		switch state := breakerOf(a.yes(), a.numberIfAny()); {
		case a.err != nil:
		case state == BreakerOpen:
			d.Open++
		case state == BreakerHalfOpen:
			d.HalfOpen++
		}
	}
	return d, nil
}

// BuriedOfErased are [Depths].Buried of the companies that were erased since.
func (l *Ledger) BuriedOfErased(ctx context.Context) (map[string]int64, error) {
	counts, err := l.rdb.HGetAll(ctx, buriedKey).Result()
	return countsOf(counts), err
}

func countsOf(fields map[string]string) map[string]int64 {
	counts := make(map[string]int64, len(fields))
	for name, text := range fields {
		counts[name], _ = strconv.ParseInt(text, 10, 64)
	}
	return counts
}
