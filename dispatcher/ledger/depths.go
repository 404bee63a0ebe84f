package ledger

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// Depths are how much there is of a company's deliveries that wait.
type Depths struct {
	Held           int64     // but for those that wait to be fetched
	Open, HalfOpen int64     // breakers of the callbacks that have something held
	Oldest         time.Time // when the oldest of those held was accepted; zero: there is none
	Unfetched      int64     // those that wait for their partner to fetch them
	UnfetchedSince time.Time // when the oldest of them was written; zero: there is none
	Expiring       int64     // of the dead, those that will be pruned soon
	Due            time.Time // the earliest time to worry; zero: there is none
}

// Depths reads those of companies. Companies that are asleep have none.
func (l *Ledger) Depths(ctx context.Context, companies []string) ([]Depths, error) {
	all := make([]Depths, len(companies))
	pipe := l.rdb.Pipeline()
	type reads struct {
		rooms    *redis.StringSliceCmd
		due      *redis.ZSliceCmd
		expiring *redis.StringCmd
	}
	found := make([]reads, len(companies))
	for i, company := range companies {
		found[i] = reads{
			pipe.ZRange(ctx, registry.RoomsKey(company), 0, -1), pipe.ZRangeWithScores(ctx, Key(company, "due"), 0, 0), pipe.HGet(ctx, Key(company, "prune"), "expiring"),
		}
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	for i, company := range companies {
		r := found[i]
		all[i].Expiring, _ = r.expiring.Int64() // absent: none
		if first := r.due.Val(); len(first) > 0 {
			all[i].Due = FromMS(int64(first[0].Score))
		}
		if rooms := r.rooms.Val(); len(rooms) > 0 {
			if err := l.roomDepths(ctx, company, rooms, &all[i]); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// roomDepths reads what is held in a company's rooms.
func (l *Ledger) roomDepths(ctx context.Context, company string, rooms []string, d *Depths) error {
	pipe := l.rdb.Pipeline()
	type room struct {
		lengths [2]*redis.IntCmd    // of the room, and of those who wait in its lines
		firsts  [2]*redis.ZSliceCmd // of each
		health  *redis.SliceCmd
		pulled  *redis.IntCmd
	}
	all := make([]room, len(rooms))
	for i, cb := range rooms {
		for k, key := range []string{Key(company, "room:"+cb), Key(company, "behind:"+cb)} {
			all[i].lengths[k], all[i].firsts[k] = pipe.ZCard(ctx, key), pipe.ZRangeWithScores(ctx, key, 0, 0)
		}
		all[i].health, all[i].pulled = pipe.HMGet(ctx, Key(company, "health:"+cb), "l", "f", "hb"), pipe.Exists(ctx, Key(company, "pull:"+cb))
	}
	if err := execute(ctx, pipe); err != nil {
		return err
	}
	for _, r := range all {
		a := &answer{left: Strings(r.health.Val())}
		state, batched := breakerOf(a.yes(), a.numberIfAny()), a.numberIfAny()
		switch {
		case a.err != nil:
			batched = 0
		case state == BreakerOpen:
			d.Open++
		case state == BreakerHalfOpen:
			d.HalfOpen++
		}
		n, oldest := &d.Held, &d.Oldest
		if r.pulled.Val() > 0 {
			n, oldest = &d.Unfetched, &d.UnfetchedSince
		}
		if inRoom := r.lengths[0].Val(); inRoom > 0 {
			*n += max(1, inRoom+batched)
		}
		*n += r.lengths[1].Val()
		for _, first := range r.firsts {
			if first := first.Val(); len(first) > 0 {
				if at := FromMS(int64(first[0].Score) / lua.OrderScale); oldest.IsZero() || at.Before(*oldest) {
					*oldest = at
				}
			}
		}
	}
	return nil
}

// Books are what a company has of deliveries that are over.
type Books struct {
	Dead   int64
	Buried map[string]int64 // held deliveries that were given up, by reason
}

// Books reads those of companies.
func (l *Ledger) Books(ctx context.Context, companies []string) ([]Books, error) {
	pipe := l.rdb.Pipeline()
	dead, buried := make([]*redis.IntCmd, len(companies)), make([]*redis.MapStringStringCmd, len(companies))
	for i, company := range companies {
		dead[i], buried[i] = pipe.ZCard(ctx, Key(company, "dead")), pipe.HGetAll(ctx, Key(company, "buried"))
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	all := make([]Books, len(companies))
	for i := range all {
		all[i] = Books{dead[i].Val(), countsOf(buried[i].Val())}
	}
	return all, nil
}

// BuriedOfErased are [Books].Buried of the companies that were erased since.
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
