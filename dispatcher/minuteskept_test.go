package dispatcher

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// TestMinutesOfARedisThatIsAway: what is counted while Redis is asked, and does not answer, counts once, and the memory that all of it takes has a bound: the
// oldest is forgotten.
func TestMinutesOfARedisThatIsAway(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		m := process(0)
		var away atomic.Bool
		m.now = func(context.Context) (time.Time, error) {
			m.failed() // somebody counts meanwhile
			if away.Load() {
				return time.Time{}, errors.New("redis is away")
			}
			return time.Now(), nil
		}
		slots := func() int {
			m.mu.Lock()
			defer m.mu.Unlock()
			return len(m.slots)
		}
		away.Store(true)
		time.Sleep(time.Until(time.Now().Truncate(slotOf).Add(slotOf - time.Second)))
		m.accepted()
		time.Sleep(slotOf - time.Millisecond)
		m.accepted() // in the slot in which it is told
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := slots(); n != 2 {
			t.Errorf("%d slots are remembered", n)
		}
		for range mostSlots + 100 {
			m.delivered(2, 0)
			time.Sleep(slotOf)
		}
		synctest.Wait()
		if n := slots(); n != mostSlots {
			t.Errorf("%d slots are remembered, want %d", n, mostSlots)
		}
		newest := time.Now().Truncate(time.Minute).Add(-time.Minute)
		away.Store(false)
		time.Sleep(tellEvery + time.Second)
		synctest.Wait()
		all, _, err := readMinutes(t.Context(), rdb, time.Now(), 4*time.Hour, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		var kept, accepted int64
		for _, minute := range all {
			if kept += minute.Delivered; minute.At.Equal(newest) && (minute.Delivered != 12 || minute.Failed != 12) {
				t.Errorf("in the minute before the last, %d were delivered and %d failed, want 12 of each", minute.Delivered, minute.Failed)
			}
			accepted += minute.Accepted
		}
		if kept < int64(mostSlots)-2 || kept > int64(mostSlots) || accepted != 0 {
			t.Errorf("%d are told of the last three hours, want some %d; and %d of before", kept, mostSlots, accepted)
		}
		m.close()
	})
}

// TestMinutesDoNotWaitForRedis for longer than a moment: whoever ends, ends.
func TestMinutesDoNotWaitForRedis(t *testing.T) {
	counting(t, func(t *testing.T, _ *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		m := process(0)
		m.now = func(ctx context.Context) (time.Time, error) {
			select {
			case <-ctx.Done():
				return time.Time{}, ctx.Err()
			case <-time.After(time.Hour):
				return time.Now(), nil
			}
		}
		m.accepted()
		began := time.Now()
		m.close()
		if took := time.Since(began); took != tellWithin {
			t.Errorf("it ends after %s", took)
		}
	})
}

// unlinks counts the commands that drop keys.
type unlinks struct {
	redis.Hook
	n int
}

func (u *unlinks) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "unlink" {
				u.n++
			}
		}
		return next(ctx, cmds)
	}
}
func (u *unlinks) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (u *unlinks) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

// TestMinutesAreReadForTheirTime: how soon first attempts deliver is of lately, also where minutes of longer ago are read; and what is old is looked for once an
// hour, however often something is told.
func TestMinutesAreReadForTheirTime(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		u := &unlinks{}
		rdb.AddHook(u)
		m := process(0)
		read := func(lately time.Duration) (delivered int64, soon time.Duration) {
			t.Helper()
			all, first, err := readMinutes(t.Context(), rdb, time.Now(), time.Hour, lately)
			if err != nil || len(all) != 60 {
				t.Fatalf("%d minutes: %v", len(all), err)
			}
			for _, minute := range all {
				delivered += minute.Delivered
			}
			return delivered, first.at(.5)
		}
		time.Sleep(time.Until(time.Now().Truncate(time.Hour).Add(time.Hour + time.Minute)))
		m.delivered(1, 100*time.Millisecond)
		time.Sleep(20 * time.Minute)
		for range 10 {
			m.failed()
			time.Sleep(tellEvery + time.Second)
		}
		synctest.Wait()
		if delivered, soon := read(10 * time.Minute); delivered != 1 || soon != 0 {
			t.Errorf("%d were delivered, and lately within %s", delivered, soon)
		}
		if delivered, soon := read(30 * time.Minute); delivered != 1 || soon < 80*time.Millisecond || soon > 125*time.Millisecond {
			t.Errorf("%d were delivered, and lately within %s", delivered, soon)
		}
		if u.n != minutesSwept {
			t.Errorf("%d hours were dropped in one, want %d", u.n, minutesSwept)
		}
		m.close()
	})
}

// TestBuckets: the time since acceptance is known to a fifth, from a millisecond to half an hour; beyond both it is the first and the last.
func TestBuckets(t *testing.T) {
	t.Parallel()
	for d := time.Millisecond; d < 30*time.Minute; d += d/7 + 1 {
		var f firsts
		f[bucketOf(d)]++
		if got := f.at(.5); got < d*4/5 || got > d*5/4 {
			t.Errorf("%s is read as %s", d, got)
		}
	}
	if bucketOf(0) != 0 || bucketOf(-time.Hour) != 0 || bucketOf(100*time.Hour) != firstBuckets-1 {
		t.Error("what is beyond the buckets is in none")
	}
	f := firsts{0: 90, 10: 9, 20: 1}
	if f.at(.5) != bucketTime(0) || f.at(.95) != bucketTime(10) || f.at(1) != bucketTime(20) {
		t.Errorf("%s %s %s", f.at(.5), f.at(.95), f.at(1))
	}
}

// TestOutagesOfOthers: what a later version says in other words is left alone, and what nobody takes back goes some day.
func TestOutagesOfOthers(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		m := process(0)
		for round := range 3 {
			for _, host := range []string{"a", "b", "c", "d", "e"} {
				m.outage.note(t.Context(), "https://"+host+".example/", round > 0)
			}
			m.failed()
			time.Sleep(tellEvery + time.Second)
		}
		synctest.Wait()
		now := time.Now()
		rdb.HSet(t.Context(), outagesKey, "later:1", ms(now)+" "+ms(now)+" 5 5 5", "later:2", ms(now))
		all, err := readOutages(t.Context(), rdb, now)
		if err != nil || len(all) != 1 || all[0].Process != m.self || now.Sub(all[0].Since) < tellEvery {
			t.Errorf("told %+v: %v", all, err)
		}
		if left := rdb.TTL(t.Context(), outagesKey).Val(); left < 5*24*time.Hour {
			t.Errorf("all go in %s by Redis's clock", left)
		}
		m.close()
		m.accepted() // late
		time.Sleep(time.Minute)
		minutes, _, err := readMinutes(t.Context(), rdb, time.Now(), time.Hour, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		for _, minute := range minutes {
			if minute.Accepted > 0 {
				t.Errorf("it tells after its end: %+v", minute)
			}
		}
	})
}
