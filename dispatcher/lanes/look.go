package lanes

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// HaltLook is for how long a process goes on once it has seen that nothing is paused. Before each attempt begins it asks itself, for asynq may have
// given it the task just before the pause, and what goes on in a chain, begins as it is accepted, or is asked or tested, comes out of no lane. If
// the beginning took longer than this, it asks again, and takes back what has begun.
const HaltLook = 250 * time.Millisecond

// tooOld is how old a look is at most that a caller goes by while somebody else looks. PauseEgress waits for two of [HaltLook].
const tooOld = 2 * HaltLook

// glance is how long a caller waits for a look, where nobody has looked lately.
const glance = 100 * time.Millisecond

// haltKey says that nothing goes out, and since when (s). It counts for every lane, also for one that somebody did not know of who paused or looks.
const haltKey = "{" + numberKey + "}:halt"

// Pauses are what is paused, and since when.
type Pauses struct {
	All   time.Time            // everything; zero: it is not
	Lanes map[string]time.Time // single lanes, as asynq has it
}

// Of reports whether a lane is paused.
func (p Pauses) Of(lane string) bool { return !p.All.IsZero() || !p.Lanes[lane].IsZero() }

// None reports whether nothing is paused.
func (p Pauses) None() bool { return p.All.IsZero() && len(p.Lanes) == 0 }

// Since is when the first of what is paused was.
func (p Pauses) Since() time.Time {
	since := p.All
	for _, at := range p.Lanes {
		if since.IsZero() || at.Before(since) {
			since = at
		}
	}
	return since
}

// stopped is what a process knows of what is paused. One caller looks, the others go on with what was seen last.
type stopped struct {
	rdb     redis.UniversalClient
	numbers *numbers

	last atomic.Pointer[look]

	mu    sync.Mutex
	under chan struct{} // closed when the look ends that somebody has under way; nil: nobody has
}

// A look is what somebody saw.
type look struct {
	at     time.Time // before which it was so; of one that failed, when it did
	seen   Pauses    // of one that failed, as the look before
	failed bool
}

// holds reports whether nobody has to look anew: that something is paused is asked each time, so that a resume is seen at once.
func (l *look) holds() bool {
	return l != nil && time.Since(l.at) < HaltLook && (l.failed || l.seen.None())
}

func pausedKey(lane string) string { return "asynq:{" + lane + "}:paused" }

// read asks Redis what is paused. How many lanes there are is read with it. If only lanes do not answer, Lanes is not nil beside the error: then it is known that
// not everything is paused. asynq keeps what it pauses in a key of each queue, whose value is the time in seconds. On a Redis Cluster they may be on masters that do not answer, so the halt's key is asked for first: if there is one, it does for all.
func (s *stopped) read(ctx context.Context) (p Pauses, err error) {
	if _, ok := s.rdb.(*redis.ClusterClient); ok {
		if p, err = s.readOf(ctx, nil); err != nil || !p.All.IsZero() {
			return p, err
		}
	}
	for known := -1; known < s.numbers.known().high; {
		known = s.numbers.known().high
		of, err := s.readOf(ctx, s.numbers.known().lanes())
		if err != nil {
			return p, err
		}
		p = of
	}
	return p, nil
}

// readOf asks whether everything is paused, and which of these lanes are.
func (s *stopped) readOf(ctx context.Context, lanes []string) (Pauses, error) {
	at := time.Now()
	var halt *redis.StringCmd
	var count func() (number, error)
	reads := make([]*redis.StringCmd, len(lanes))
	_, err := s.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		halt, count = pipe.Get(ctx, haltKey), readNumber(ctx, pipe)
		for i, lane := range lanes {
			reads[i] = pipe.Get(ctx, pausedKey(lane))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return Pauses{}, err
	}
	p := Pauses{Lanes: make(map[string]time.Time)}
	if text := halt.Val(); text != "" {
		seconds, _ := strconv.ParseInt(text, 10, 64)
		p.All = time.Unix(seconds, 0).UTC()
	}
	if n, err := count(); err == nil {
		s.numbers.learn(n, at)
	}
	for i, lane := range lanes {
		text, err := reads[i].Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return Pauses{}, err
		}
		if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
			p.Lanes[lane] = time.Unix(seconds, 0).UTC()
		}
	}
	return p, nil
}

// halted is what is paused. If nothing was, that holds for [HaltLook]. While Redis does not answer, it is as it was before.
func (s *stopped) halted(ctx context.Context) Pauses {
	if last := s.last.Load(); last.holds() {
		return last.seen
	}
	return s.look(ctx, true)
}

// look asks what is paused, unless somebody else just does: then it waits for that, if it is patient and what is known is too old.
func (s *stopped) look(ctx context.Context, patient bool) Pauses {
	last := s.last.Load()
	if last != nil { // of those who know nothing yet, each looks
		s.mu.Lock()
		if under := s.under; under != nil {
			s.mu.Unlock()
			if patient {
				last = s.soon(last, under)
			}
			return last.seen
		}
		mine := make(chan struct{})
		s.under = mine
		s.mu.Unlock()
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.under = nil
			close(mine)
		}()
	}
	next := &look{at: time.Now()}
	var err error
	if next.seen, err = s.read(context.WithoutCancel(ctx)); err != nil {
		resumed := next.seen.Lanes != nil
		*next = look{at: time.Now(), failed: true}
		if last != nil {
			next.seen = last.seen
		}
		if resumed { // as far as is known
			next.seen.All = time.Time{}
		}
	}
	s.last.Store(next)
	return next.seen
}

// soon is the last look or, if that is too old, the one that is under way, if it ends soon.
func (s *stopped) soon(last *look, under <-chan struct{}) *look {
	if time.Since(last.at) < tooOld {
		return last
	}
	timer := time.NewTimer(glance)
	defer timer.Stop()
	select {
	case <-under:
	case <-timer.C:
	}
	return s.last.Load()
}

// halts reports whether everything is paused. Redis is asked if it was known to be, or if nobody has looked lately. So tasks stay in lanes that somebody
// let go one by one.
func (s *stopped) halts(ctx context.Context) bool {
	last := s.last.Load()
	if last != nil && last.seen.All.IsZero() && time.Since(last.at) < tooOld {
		return false
	}
	return !s.halted(ctx).All.IsZero()
}
