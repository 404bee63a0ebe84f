package dispatcher

import (
	"context"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
)

// driftWarn is how far a worker's clock may be off from Redis's before the log says so. Deliveries are due by Redis's clock and signed by the
// worker's, which partners allow five minutes to be off.
const driftWarn = time.Second

// A clockWatch warns of a worker's clock that is off: once, and again only after it was right. It belongs to one goroutine.
type clockWatch struct{ off bool }

// look asks Redis for its time and compares. Redis is taken to have answered halfway between question and answer, and half the way is given
// the benefit of the doubt. The clock is right again below half of driftWarn, so that one about there does not fill the log.
func (w *clockWatch) look(ctx context.Context, rdb redis.UniversalClient, log *slog.Logger) {
	asked := time.Now()
	theirs, err := rdb.Time(ctx).Result()
	if err != nil {
		return // the reconciler, which asks Redis for more, says so
	}
	half := time.Since(asked) / 2
	ahead := asked.Add(half).Sub(theirs)
	switch off := ahead.Abs(); {
	case !w.off && off-half > driftWarn:
		w.off = true
		log.WarnContext(ctx, "this machine's clock is off from Redis's: partners refuse signatures whose time is wrong; let both keep time (timedatectl set-ntp true)",
			"ahead_seconds", ahead.Seconds())
	case w.off && off+half < driftWarn/2:
		w.off = false
		log.InfoContext(ctx, "this machine's clock is right again", "ahead_seconds", ahead.Seconds())
	}
}
