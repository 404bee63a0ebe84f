package lanes

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Wave is how many tasks asynq holds for a later time, by when that is.
type Wave struct {
	Due     int64   // their time has come, and asynq is about to hand them out
	Minutes []int64 // in the first minute from now on, the second, and so on
	Later   int64   // after the last of those
}

// Wave counts the tasks that wait for their next attempt, in all lanes that are looked into, by the minute from a time on. asynq keeps them by that time, so
// nothing is read but numbers.
func (l *Lanes) Wave(ctx context.Context, from time.Time, minutes int) (Wave, error) {
	w := Wave{Minutes: make([]int64, minutes)}
	start := from.Unix()
	edge := func(minute int) string { return strconv.FormatInt(start+int64(minute)*60, 10) }
	var counts [][]*redis.IntCmd
	if _, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, lane := range l.Names() {
			key := "asynq:{" + lane + "}:retry"
			of := []*redis.IntCmd{p.ZCount(ctx, key, "-inf", "("+edge(0))}
			for i := range minutes {
				of = append(of, p.ZCount(ctx, key, edge(i), "("+edge(i+1)))
			}
			counts = append(counts, append(of, p.ZCount(ctx, key, edge(minutes), "+inf")))
		}
		return nil
	}); err != nil {
		return Wave{}, err
	}
	for _, of := range counts {
		w.Due += of[0].Val()
		w.Later += of[minutes+1].Val()
		for i := range minutes {
			w.Minutes[i] += of[i+1].Val()
		}
	}
	return w, nil
}
