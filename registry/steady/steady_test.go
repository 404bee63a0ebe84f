package steady

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// A tower is a Redis whose clock the test moves, in a bubble.
type tower struct {
	*miniredis.Miniredis
	rdb *redis.Client

	mu    sync.Mutex
	ahead time.Duration // of its clock over the bubble's
	fast  float64       // how much faster it runs
	since time.Time
}

func inBubble(t *testing.T, f func(t *testing.T, r *tower)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := miniredis.NewMiniRedis()
		m.ClockTTL(true)
		r := &tower{Miniredis: m, since: time.Now(), rdb: redis.NewClient(&redis.Options{
			Dialer:   func(context.Context, string, string) (net.Conn, error) { return m.Dial() },
			Addr:     "127.0.0.1:6379", // never dialled; a name would be looked up
			Protocol: 2, DisableIdentity: true, MaxRetries: -1,
		})}
		r.rdb.AddHook(r)
		f(t, r)
		_ = r.rdb.Close()
		m.Close()
	})
}

func (r *tower) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook has the clock be right whenever somebody looks.
func (r *tower) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		r.show()
		return next(ctx, cmd)
	}
}

func (r *tower) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *tower) show() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.SetTime(now.Add(r.ahead + time.Duration(float64(now.Sub(r.since))*r.fast)))
}

func (r *tower) step(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead += by
}

func (r *tower) clock(t *testing.T) *Clock {
	c := New(r.rdb, slog.New(slog.NewTextHandler(t.Output(), nil)))
	t.Cleanup(c.Close)
	return c
}

// off is how far a clock is off from the bubble's.
func off(t *testing.T, c *Clock) time.Duration {
	t.Helper()
	now, err := c.Now(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(now)
}

// wants checks that clocks are as far off as they should be, within 50 ms.
func wants(t *testing.T, what string, want time.Duration, clocks ...*Clock) {
	t.Helper()
	for i, c := range clocks {
		if got := off(t, c); (got - want).Abs() > 50*time.Millisecond {
			t.Errorf("%s: clock %d is off by %v, want %v", what, i, got, want)
		}
	}
}

// use has clocks be used for so long, as by scripts.
func use(t *testing.T, lasts time.Duration, clocks ...*Clock) {
	t.Helper()
	for end := time.Now().Add(lasts); time.Now().Before(end); {
		for _, c := range clocks {
			if told := c.Tell(t.Context(), "{acme}:due"); told == "" {
				t.Fatal("a script is told nothing")
			}
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// TestTimeGoesOnWhereRedisClockSteps, in each process, in those that start later, and over several steps.
func TestTimeGoesOnWhereRedisClockSteps(t *testing.T) {
	for _, by := range []time.Duration{2 * time.Second, -2 * time.Second, 120 * time.Second, -120 * time.Second, time.Hour, -time.Hour, 1e6 * time.Second} {
		t.Run(by.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *tower) {
				a, b := r.clock(t), r.clock(t)
				use(t, 10*time.Second, a, b)
				r.step(by)
				wants(t, "right after", 0, a, b)
				use(t, 5*time.Second, a, b)
				wants(t, "after", 0, a, b)
				if got := a.State(); (got.Offset+by).Abs() > 50*time.Millisecond || got.Steps+b.State().Steps < 1 {
					t.Errorf("the clock's state is %+v", got)
				}
				if told, want := a.Tell(t.Context(), ""), fmt.Sprintf("@%d ", time.Now().UnixMilli()/10000); !strings.HasPrefix(told, strings.TrimSuffix(want, " ")) {
					t.Errorf("scripts are told %q, want %q", told, want)
				}
				late := r.clock(t)
				wants(t, "of who starts later", 0, late)
				a.Close()
				r.step(-by)
				use(t, 5*time.Second, b, late)
				wants(t, "after it is right again", 0, b, late)
				if got := late.State().Offset; got.Abs() > 50*time.Millisecond {
					t.Errorf("the offset is %v then", got)
				}
			})
		})
	}
}

// TestWhoOnlyLooksIsToldOfSteps: when a clock stepped last, how far, and how much of that is still made up for.
func TestWhoOnlyLooksIsToldOfSteps(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		look := func() Node {
			t.Helper()
			nodes, err := Nodes(t.Context(), r.rdb)
			if err != nil || len(nodes) != 1 {
				t.Fatalf("%+v, %v", nodes, err)
			}
			return nodes[0]
		}
		if n := look(); n != (Node{}) {
			t.Errorf("before anything was written, it is %+v", n)
		}
		c := r.clock(t)
		use(t, 5*time.Second, c)
		if n := look(); n != (Node{}) {
			t.Errorf("of a clock that never stepped, it is %+v", n)
		}
		for _, by := range []time.Duration{time.Hour, -time.Minute} {
			r.step(by)
			use(t, 2*time.Second, c)
			at := time.Now()
			use(t, time.Minute, c)
			n := look()
			if (n.By-by).Abs() > 50*time.Millisecond || at.Sub(n.Stepped) < 0 || at.Sub(n.Stepped) > 3*time.Second || n.Offset != c.State().Offset || n.Name != "" {
				t.Errorf("after a step by %v, it is %+v", by, n)
			}
			if now, _, err := Expect(t.Context(), r.rdb); err != nil || time.Until(now).Abs() > 200*time.Millisecond {
				t.Errorf("who looks expects a time that is %v off, %v", time.Until(now), err)
			}
		}
	})
}

// TestOneSaysHowFar: processes that notice a step at the same time write one offset.
func TestOneSaysHowFar(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		var all []*Clock
		for range 5 {
			all = append(all, r.clock(t))
		}
		use(t, 2*time.Second, all...)
		r.step(-time.Minute)
		use(t, 3*time.Second, all...)
		wants(t, "after", 0, all...)
		for i, c := range all {
			// It shrinks by that much between two notes, and one may have looked before that and another after it.
			if got := c.State().Offset; (got - all[0].State().Offset).Abs() > Slew(noted) {
				t.Errorf("process %d has an offset of %v, another of %v", i, got, all[0].State().Offset)
			}
		}
	})
}

// TestASlowStepIsFollowed: a clock that runs a little fast, or is set by less than a second, is Redis's right.
func TestASlowStepIsFollowed(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		c := r.clock(t)
		use(t, time.Second, c)
		r.mu.Lock()
		r.fast = 0.0005
		r.mu.Unlock()
		use(t, 4*time.Hour/10, c)
		r.step(700 * time.Millisecond)
		use(t, 10*time.Second, c)
		r.mu.Lock()
		want := r.ahead + time.Duration(float64(time.Since(r.since))*r.fast)
		r.mu.Unlock()
		wants(t, "of a fast one", want, c)
		if got := c.State(); got.Steps != 0 || got.Offset != 0 {
			t.Errorf("that counts as %+v", got)
		}
	})
}

// TestWhoLooksAfterLong takes Redis's clock for right where its own may have drifted, but not where that stepped by far more.
func TestWhoLooksAfterLong(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		idle := r.clock(t)
		use(t, time.Second, idle)
		r.step(3 * time.Second) // idle's own clock lost as much
		time.Sleep(24 * time.Hour)
		use(t, 3*time.Second, idle)
		wants(t, "after a day", 3*time.Second, idle)
		r.step(-time.Minute)
		time.Sleep(time.Hour)
		use(t, 3*time.Second, idle)
		wants(t, "after a step", 3*time.Second, idle)
	})
}

// TestTimeGoesOnWhereAllHadEnded, if Redis's clock is behind what it was.
func TestTimeGoesOnWhereAllHadEnded(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		c := r.clock(t)
		use(t, time.Minute, c)
		c.Close()
		r.step(-time.Hour)
		time.Sleep(time.Second)
		next := r.clock(t)
		if got := off(t, next); got > 0 || got < -noted-2*time.Second {
			t.Errorf("who starts is off by %v", got)
		}
		before := off(t, next)
		use(t, 10*time.Second, next)
		wants(t, "later", before, next)
		again := r.clock(t)
		wants(t, "of who starts still later", before, again)
	})
}

// TestAnOffsetShrinks, slowly, however many processes there are.
func TestAnOffsetShrinks(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		a, b := r.clock(t), r.clock(t)
		use(t, time.Second, a, b)
		r.step(-10 * time.Second)
		use(t, 1000*time.Second, a, b)
		if got := a.State().Offset; got < 8800*time.Millisecond || got > 9300*time.Millisecond {
			t.Errorf("after 1,000 s, the offset of 10 s is %v", got)
		}
		use(t, 4*time.Hour, a)
		if got := a.State(); got.Offset != 0 || got.Steps > 1 {
			t.Errorf("after hours, it is %+v", got)
		}
		if fields, err := r.HKeys(Key); err != nil || strings.Join(fields, " ") != "by: seen stepped:" {
			t.Errorf("Redis still has %v", fields)
		}
	})
}

// TestAProcessThatStoodStillGoesOnWithTheOthers, and does not move their time.
func TestAProcessThatStoodStillGoesOnWithTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		others, still := r.clock(t), r.clock(t)
		use(t, 10*time.Second, others, still)
		still.mu.Lock()
		still.base = still.base.Add(-time.Hour) // what a machine that sleeps does not count
		still.mu.Unlock()
		use(t, 10*time.Second, others, still)
		wants(t, "after", 0, others, still)
		if got := others.State().Offset; got != 0 {
			t.Errorf("the others' offset is %v", got)
		}
	})
}

// TestWhatRedisForgotIsWrittenAgain.
func TestWhatRedisForgotIsWrittenAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		c := r.clock(t)
		use(t, 2*time.Second, c)
		r.step(time.Hour)
		use(t, 2*time.Second, c)
		r.FlushAll()
		use(t, 3*time.Second, c)
		wants(t, "after", 0, c, r.clock(t))
	})
}

// TestWithoutRedis nobody is told a time that is not known, and one that is goes on.
func TestWithoutRedis(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		known, unknown := r.clock(t), r.clock(t)
		use(t, 2*time.Second, known)
		r.SetError("ERR away")
		time.Sleep(time.Minute)
		use(t, time.Minute, known)
		wants(t, "while Redis is away", 0, known)
		if told := unknown.Tell(t.Context(), ""); told != "" {
			t.Errorf("scripts are told %q by who knows nothing", told)
		}
		if _, err := unknown.Now(t.Context()); err == nil {
			t.Error("who knows nothing says what time it is")
		}
		if told := (*Clock)(nil).Tell(t.Context(), ""); told != "" {
			t.Errorf("no clock tells %q", told)
		}
		r.SetError("")
		r.step(-time.Hour) // whoever took its place
		use(t, 3*time.Second, known)
		wants(t, "after it was away", 0, known, unknown)
	})
}

// TestTheFirstWordCounts, where two processes notice a step at the same moment.
func TestTheFirstWordCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, r *tower) {
		a, b := r.clock(t), r.clock(t)
		for i, c := range []*Clock{a, b} {
			got, err := c.claim(t.Context(), "", 0, time.Duration(10+i)*time.Second)
			if err != nil || got != 10*time.Second {
				t.Errorf("process %d has an offset of %v, %v", i, got, err)
			}
		}
	})
}
