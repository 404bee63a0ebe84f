package verdict

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/ringback/ringback/registry"
)

// jitter spreads retries by ±20 %, so that what failed together does not come back together.
const jitter = 0.2

// Delay is how long to wait after the n-th failed attempt; n counts from 1. It is retry.InitialInterval, multiplied each time, at most
// retry.MaxInterval, with jitter on top.
func Delay(retry registry.Retry, n int) time.Duration { return nth(retry, n, jitter) }

// interval is the delay without jitter.
func interval(retry registry.Retry, n int) time.Duration { return nth(retry, n, 0) }

func nth(retry registry.Retry, n int, randomization float64) time.Duration {
	b := backoff.ExponentialBackOff{
		InitialInterval:     retry.InitialInterval,
		RandomizationFactor: randomization,
		Multiplier:          retry.Multiplier,
		MaxInterval:         retry.MaxInterval,
		MaxElapsedTime:      0, // attempts are counted, not timed
		Stop:                backoff.Stop,
		Clock:               backoff.SystemClock, // required, and without effect where no time is bounded
	}
	b.Reset()
	d := b.NextBackOff()
	for range n - 1 {
		d = b.NextBackOff()
	}
	return d
}

// Next says what follows an attempt that is worth a retry: the delay until the next and the least it may be rounded to, or that the schedule
// is exhausted. Spent counts the attempts that the callback's budget has paid for, this one included. The delay is no shorter than what the
// partner asked for.
func Next(retry registry.Retry, spent int, asked time.Duration) (wait, least time.Duration, exhausted bool) {
	if spent >= retry.MaxAttempts {
		return 0, 0, true
	}
	wait = Delay(retry, max(spent, 1))
	least = min(wait, time.Duration((1-jitter)*float64(interval(retry, max(spent, 1)))))
	return max(wait, asked), max(least, asked), false
}
