package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// MaxTests is how many tests of callbacks a key may have under way.
const MaxTests = 2

// take counts ARGV[3] changes of a key with room for ARGV[2] at once and one more
// every ARGV[1] ms. If there is no room, it counts nothing and returns how many ms
// there are to wait. If ARGV[4] is '1', it counts in any case.
//
// It stores two times, in ms: when all that was counted is paid for, as the generic
// cell rate algorithm has it, and when that was written. If the clock was set back
// since, the debt of then is the debt of now.
var take = redis.NewScript(`
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + tonumber(t[2]) / 1000
local every, room = tonumber(ARGV[1]), tonumber(ARGV[2])
local paid, written = string.match(redis.call('GET', KEYS[1]) or '0', '^(%S+) ?(%S*)$')
paid, written = tonumber(paid), tonumber(written) or 0
local function keep()
	if paid > now then redis.call('SET', KEYS[1], string.format('%.3f %.3f', paid, now), 'PX', math.ceil(paid - now)) end
end
if written > now then
	paid = now + paid - written
	keep()
end
paid = math.max(now, paid)
local wait = paid - now - (room - 1) * every
if wait > 0 and ARGV[4] ~= '1' then return math.ceil(wait) end
paid = paid + tonumber(ARGV[3]) * every
keep()
return 0`)

// Take counts a change that is made with the key. If the key's limit does not allow
// it now, in any process, nothing is counted, and wait is when to try again. A key
// without a limit costs nothing.
//
// While Redis does not answer, each process counts by itself, as if it were the only
// one: all that a limit protects goes on.
func (ks *Keys) Take(ctx context.Context, k Key) (wait time.Duration, err error) {
	return ks.take(ctx, k, 1, false)
}

// Charge counts n more changes of a request that was let in already, such as the
// lines of a batch. The key's next change waits until they are paid for.
func (ks *Keys) Charge(ctx context.Context, k Key, n int) error {
	_, err := ks.take(ctx, k, n, true)
	return err
}

func (ks *Keys) take(ctx context.Context, k Key, n int, anyway bool) (time.Duration, error) {
	limit := k.Limit()
	if limit == 0 || n <= 0 {
		return 0, nil
	}
	if own := ks.own.of(k.ID); own != nil && time.Now().Before(own.until) {
		return own.take(n, anyway), nil
	}
	bounded, cancel := context.WithTimeout(ctx, renewWithin)
	defer cancel()
	every := strconv.FormatFloat(1000/limit, 'f', -1, 64)
	ms, err := take.Run(bounded, ks.redis, []string{keyRateKey(k.ID)}, every, Burst(limit), n, anyway).Int64()
	switch {
	case err == nil:
		ks.own.forget(k.ID)
		return time.Duration(ms) * time.Millisecond, nil
	case ctx.Err() != nil: // the caller has gone
		return 0, fmt.Errorf("registry: count a change of API key %s: %w", k.ID, err)
	}
	return ks.own.begin(k.ID, limit).take(n, anyway), nil
}

// beginTest takes one of ARGV[2] places for ARGV[3], until ARGV[1] ms have passed since
// ARGV[4] (ms); if that is empty, since now by Redis's clock. The key itself goes after
// ARGV[5] ms if nobody comes again: so late that no step of Redis's clock frees a place.
var beginTest = redis.NewScript(`
local t = redis.call('TIME')
local now = tonumber(ARGV[4]) or tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 1 end -- an earlier run's answer was lost
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[1])), ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1`)

// testsKept is how long a key's places are kept that nobody gave back and nobody asks for.
const testsKept = 30 * 24 * time.Hour

// BeginTest reports whether the key may make one more test of a callback, in all
// processes together. If it may, call end after the test. A process that dies
// before that holds its place for as long as a test may take.
func (ks *Keys) BeginTest(ctx context.Context, k Key, longest time.Duration) (end func(), ok bool, err error) {
	place := rand.Text()
	taken, err := beginTest.Run(ctx, ks.redis, []string{keyTestsKey(k.ID)}, longest.Milliseconds(), MaxTests, place, ks.time(ctx), testsKept.Milliseconds()).Int()
	if err != nil {
		return nil, false, fmt.Errorf("registry: count a test of API key %s: %w", k.ID, err)
	}
	if taken == 0 {
		return nil, false, nil
	}
	return func() {
		_ = ks.redis.ZRem(context.WithoutCancel(ctx), keyTestsKey(k.ID), place).Err() // else it ends by itself
	}, true, nil
}
