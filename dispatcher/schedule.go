package dispatcher

import (
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/ringback/ringback/registry"
)

// jitter spreads retries by ±20 %, so that what failed together does not come back together.
const jitter = 0.2

// delay is how long to wait after the n-th failed attempt (n counts from 1): retry.InitialInterval, multiplied each time, at most
// retry.MaxInterval, with jitter on top.
func delay(retry registry.Retry, n int) time.Duration { return nth(retry, n, jitter) }

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
		Clock:               backoff.SystemClock,
	}
	b.Reset()
	d := b.NextBackOff()
	for range n - 1 {
		d = b.NextBackOff()
	}
	return d
}

// next says what follows an attempt that was judged worth a retry: the delay until the next and the least it may be rounded to, or that
// the schedule is exhausted.
func next(retry registry.Retry, spent int, j judgement) (wait, least time.Duration, exhausted bool) {
	if spent >= retry.MaxAttempts {
		return 0, 0, true
	}
	wait = delay(retry, max(spent, 1))
	least = min(wait, time.Duration((1-jitter)*float64(interval(retry, max(spent, 1)))))
	return max(wait, j.retryAfter), max(least, j.retryAfter), false
}
