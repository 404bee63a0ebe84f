package ledger

import (
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/steady"
)

// TestAStepThatNobodyNoticedYet: a script that runs in the second before goes by what the process says.
func TestAStepThatNobodyNoticedYet(t *testing.T) {
	for _, by := range []time.Duration{-time.Hour, -2 * time.Minute, -3 * time.Second, 6 * time.Second, 2 * time.Minute, time.Hour} {
		t.Run(by.String(), func(t *testing.T) {
			inBubble(t, standard, func(d *desk) {
				log := slog.New(slog.NewTextHandler(d.t.Output(), nil))
				clock := steady.New(d.rdb, log)
				defer clock.Close()
				d.ledger = New(Config{Redis: d.rdb, Clock: clock, Logger: log, Rules: standard, Contain: contained})
				cb := d.callback("")
				d.must(clock.Look(d.t.Context()))
				d.mini.SetTime(time.Now().Add(by))
				accepted := d.offer("{}", "", []string{"e"}, cb)[0]
				if off := time.Until(LogTime(accepted.LogID)); off.Abs() > time.Second {
					d.t.Errorf("it is accepted at a time that is off by %v", off)
				}
				d.mini.SetTime(time.Time{}) // the bubble's again
			})
		})
	}
}

// TestTheOrderIsThatOfAcceptance, also where the log goes on at a time that is still to come.
func TestTheOrderIsThatOfAcceptance(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	cb := d.callback("")
	ahead := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	d.must(d.rdb.XAdd(t.Context(), &redis.XAddArgs{Stream: Key(acme, "log"), ID: ahead + "-5", Values: []any{"e", "gone"}}).Err())
	for i, event := range numbered("e-", 3) {
		if got := d.offer("{}", "", []string{event}, cb)[0]; got.Outcome != Taken || got.LogID != ahead+"-"+strconv.Itoa(6+i) {
			t.Errorf("event %d is %+v, and should follow the last one", i, got)
		}
	}
}

// TestNoTurnIsForgotten after some seconds, whatever becomes of the key's own expiry.
func TestNoTurnIsForgotten(t *testing.T) {
	inBubble(t, standard, func(d *desk) {
		cb := d.callback("")
		d.accept([]string{"in", "out"}, cb)
		crowded := d.claim(d.lane[1])
		crowded.NoTurn = true
		if _, claimed := d.begin(crowded); claimed.Outcome != WaitsInRoom {
			d.t.Fatalf("without a turn it is %+v", claimed)
		}
		key := Key(acme, "busy:"+strconv.FormatInt(cb, 10))
		d.must(d.rdb.Persist(d.t.Context(), key).Err()) // as where Redis's clock was set back
		if got := d.pump(cb); len(got.Released) != 0 {
			d.t.Errorf("%d are let out at once", len(got.Released))
		}
		time.Sleep(6 * time.Second)
		if got := d.pump(cb); len(got.Released) != 1 {
			d.t.Errorf("%d of 1 are let out after a while", len(got.Released))
		}
	})
}
