package dispatcher

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
)

// counting runs f in a bubble, with a Redis, and clocks of processes that count.
func counting(t *testing.T, f func(t *testing.T, rdb *redis.Client, mini *miniredis.Miniredis, process func(ahead time.Duration) *minutes)) {
	synctest.Test(t, func(t *testing.T) {
		mini := miniredis.NewMiniRedis()
		mini.ClockTTL(true)
		rdb := redis.NewClient(&redis.Options{
			Dialer: func(context.Context, string, string) (net.Conn, error) { return roomy(mini.Dial()) }, Addr: "127.0.0.1:6379",
			Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		})
		defer mini.Close()
		defer func() { _ = rdb.Close() }()
		log := slog.New(slog.NewTextHandler(t.Output(), nil))
		panics, _ := metricnoop.Meter{}.Int64Counter("panics")
		f(t, rdb, mini, func(ahead time.Duration) *minutes {
			m := newMinutes(rdb, guard{log, panics}, &outage{log: log}, func(context.Context) (time.Time, error) { return time.Now().Add(ahead), nil })
			m.self += t.Name() + ahead.String()
			return m
		})
	})
}

// TestMinutesOfAllProcesses: what processes count comes to Redis within seconds, in the minutes of the installation's time, and what Redis refused comes later.
func TestMinutesOfAllProcesses(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, mini *miniredis.Miniredis, process func(time.Duration) *minutes) {
		const ahead = 90 * time.Minute // of the installation's time over this machine's
		a, b := process(ahead), process(ahead)
		read := func() ([]Minute, *firsts) {
			t.Helper()
			all, first, err := readMinutes(t.Context(), rdb, time.Now().Add(ahead), 3*time.Hour, 10*time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			return all, first
		}
		began := time.Now().Add(ahead).Truncate(time.Minute)
		a.accepted()
		a.accepted()
		b.accepted()
		b.delivered(1, 9*time.Millisecond)
		b.delivered(2, time.Hour)
		b.failed()
		if all, _ := read(); all[len(all)-1] != (Minute{At: began.UTC()}) {
			t.Errorf("told too soon: %+v", all[len(all)-1])
		}
		time.Sleep(tellEvery + time.Second)
		synctest.Wait()
		all, first := read()
		if len(all) != 180 || all[179] != (Minute{began.UTC(), 3, 2, 1}) {
			t.Errorf("%d minutes, the last %+v", len(all), all[len(all)-1])
		}
		if at := first.at(.5); at < 7*time.Millisecond || at > 11*time.Millisecond || first.at(.95) != at {
			t.Errorf("the first attempt delivered after 9ms, not %s or %s", at, first.at(.95))
		}

		mini.SetError("OOM command not allowed")
		a.accepted()
		time.Sleep(10 * time.Minute)
		mini.SetError("")
		time.Sleep(tellEvery + time.Second)
		synctest.Wait()
		if all, _ := read(); all[len(all)-11].Accepted+all[len(all)-12].Accepted != 4 || all[len(all)-1].Accepted != 0 {
			t.Errorf("what was refused went elsewhere: %+v", all[len(all)-13:])
		}
		a.accepted()
		a.close()
		b.close()
		if all, _ := read(); all[len(all)-1].Accepted != 1 {
			t.Errorf("the end was not told: %+v", all[len(all)-1])
		}
	})
}

// TestMinutesGrowOld: hours go by the installation's time, whatever Redis's clock says.
func TestMinutesGrowOld(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		m := process(0)
		defer m.close()
		for range 2 * minutesKept {
			m.accepted()
			time.Sleep(time.Hour)
		}
		synctest.Wait()
		keys, err := rdb.Keys(t.Context(), minutesKey+"*").Result()
		if err != nil || len(keys) != minutesKept+1 {
			t.Errorf("%d hours are kept, want %d: %v", len(keys), minutesKept+1, err)
		}
		for _, key := range keys {
			if left := rdb.TTL(t.Context(), key).Val(); left < 5*24*time.Hour {
				t.Errorf("%s goes in %s by Redis's clock", key, left)
			}
		}
	})
}

// TestOutagesAreTold: while a process's own way out fails, all others can know.
func TestOutagesAreTold(t *testing.T) {
	counting(t, func(t *testing.T, rdb *redis.Client, _ *miniredis.Miniredis, process func(time.Duration) *minutes) {
		m := process(0)
		defer m.close()
		told := func() []Outage {
			t.Helper()
			all, err := readOutages(t.Context(), rdb, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		tryAll := func(unreached bool) {
			for host := range strings.FieldsSeq("a b c d e") {
				m.outage.note(t.Context(), "https://"+host+".example/", unreached)
				m.failed()
			}
		}
		tryAll(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := told(); len(all) != 0 {
			t.Errorf("no outage, and told %+v", all)
		}
		began := time.Now()
		tryAll(true)
		time.Sleep(tellEvery + time.Second)
		synctest.Wait()
		all := told()
		if len(all) != 1 || all[0].Process != m.self || all[0].Unreached != 5 || all[0].Destinations != 5 || all[0].Since.Sub(began).Abs() > time.Second {
			t.Errorf("told %+v", all)
		}
		time.Sleep(30 * time.Second) // nothing is tried, and the process says it all the same
		synctest.Wait()
		if len(told()) != 1 {
			t.Error("an outage that goes on is not told any more")
		}
		time.Sleep(2 * outageSight)
		synctest.Wait()
		if n := rdb.HLen(t.Context(), outagesKey).Val(); n != 0 || len(told()) != 0 {
			t.Error("an outage that is over stands in Redis")
		}
		rdb.HSet(t.Context(), outagesKey, "dead:1", ms(time.Now().Add(-time.Hour))+" "+ms(time.Now().Add(-time.Minute))+" 5 5")
		if len(told()) != 0 {
			t.Error("a process that was killed has an outage for ever")
		}
	})
}
