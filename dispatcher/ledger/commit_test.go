package ledger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry/redistest"
)

// echo answers what it was asked, counts, and fails as it is told.
func given(context.Context, string) string { return settings }

var echo = lua.New(`
return each(function(ARGV)
  if ARGV[1] == 'fail' then redis.call('LPUSH', prefix .. 'count', 1) end
  redis.call('INCR', prefix .. 'count')
  return {'heard', ARGV[1], #ARGV}
end)`)

const settings = "1 1 1 1 1 1"

func contained(_ context.Context, do func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("panicked: %v", cause)
		}
	}()
	return do()
}

func callFor(company, word string, more ...any) *Call {
	return &Call{Script: echo, Key: "{" + company + "}:due", Deliveries: 1, Args: append([]any{word}, more...)}
}

// A gate is a hook that notes what goes to Redis, and holds up what it is told to.
type gate struct {
	runs  atomic.Int64 // of the script
	trips atomic.Int64
	hold  func(trip int64) // nil: nothing; called before a command goes
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) note(cmds ...redis.Cmder) {
	n := int64(0)
	for _, cmd := range cmds {
		if strings.HasPrefix(cmd.Name(), "eval") {
			n++
		}
	}
	if n == 0 {
		return
	}
	g.runs.Add(n)
	if trip := g.trips.Add(1); g.hold != nil {
		g.hold(trip)
	}
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g.note(cmd)
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.note(cmds...)
		return next(ctx, cmds)
	}
}

// newCommitter is one on a Redis that knows the script.
func newCommitter(t *testing.T, g *gate) (*Committer, *redis.Client) {
	t.Helper()
	rdb := redistest.Start(t).Client()
	if err := echo.Load(t.Context(), rdb).Err(); err != nil {
		t.Fatal(err)
	}
	rdb.AddHook(g)
	c := NewCommitter(rdb, given, 0, contained)
	c.patience = time.Hour // what is held up is so for as long as the test wants
	t.Cleanup(c.Close)
	return c, rdb
}

func wantAnswer(t *testing.T, call *Call, word string) {
	t.Helper()
	answer, err := call.Answer()
	if err != nil || len(answer) != 3 || answer[1] != word {
		t.Errorf("asked for %q, the answer is %q, %v", word, answer, err)
	}
}

func counted(t *testing.T, rdb *redis.Client, company string) int {
	t.Helper()
	n, err := rdb.Get(t.Context(), "{"+company+"}:count").Int()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return n
}

// TestCallsTravelTogether: what comes while a call is under way goes with the next flight, one run for each company, and each caller has the answer
// to what it asked.
func TestCallsTravelTogether(t *testing.T) {
	t.Parallel()
	first, flies := make(chan struct{}), make(chan struct{})
	g := &gate{hold: func(trip int64) {
		if trip == 1 {
			close(flies)
			<-first
		}
	}}
	c, rdb := newCommitter(t, g)
	ctx := t.Context()
	alone := callFor("a", "alone")
	c.Do(ctx, alone)
	<-flies
	var calls []*Call
	for i := range 150 {
		call := callFor([]string{"a", "b", "c"}[i%3], strconv.Itoa(i), make([]any, i%4)...)
		for k := range i % 4 {
			call.Args[1+k] = "more"
		}
		calls = append(calls, call)
		c.Do(ctx, call)
	}
	close(first)
	wantAnswer(t, alone, "alone")
	for i, call := range calls {
		wantAnswer(t, call, strconv.Itoa(i))
		if answer, _ := call.Answer(); len(answer) == 3 && answer[2] != strconv.Itoa(1+i%4) {
			t.Errorf("call %d came with %s arguments, not %d", i, answer[2], 1+i%4)
		}
	}
	if trips, runs := g.trips.Load(), g.runs.Load(); trips != 2 || runs != 1+3 {
		t.Errorf("%d trips with %d runs, want 2 with 4", trips, runs)
	}
	for company, want := range map[string]int{"a": 51, "b": 50, "c": 50} {
		if n := counted(t, rdb, company); n != want {
			t.Errorf("%s: %d steps were done, want %d", company, n, want)
		}
	}
}

// TestManyCallAtOnce: whatever comes when, each caller has its own answer, and each step is done once.
func TestManyCallAtOnce(t *testing.T) {
	t.Parallel()
	g := &gate{}
	c, rdb := newCommitter(t, g)
	c.patience = time.Millisecond // flights overtake each other
	var wg sync.WaitGroup
	for caller := range 64 {
		wg.Go(func() {
			for i := range 50 {
				word := fmt.Sprintf("%d/%d", caller, i)
				call := callFor("a", word)
				c.Do(t.Context(), call)
				wantAnswer(t, call, word)
			}
		})
	}
	wg.Wait()
	if n := counted(t, rdb, "a"); n != 64*50 {
		t.Errorf("%d steps were done, want %d", n, 64*50)
	}
	if runs := g.runs.Load(); runs > 64*50/2 {
		t.Errorf("%d runs for %d calls", runs, 64*50)
	}
}

// TestFlightsAreBounded by calls, by the deliveries that they touch, and by bytes.
func TestFlightsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		calls, deliveries, bytes int
		runs, trips              int64
	}{
		"calls":      {130, 1, 10, 3, 1},
		"deliveries": {10, 40, 10, 5, 1},
		"large":      {3, 5000, 10, 3, 1},
		"bytes":      {5, 1, 300_000, 2, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := &gate{}
			c, _ := newCommitter(t, g)
			var calls []*Call
			for i := range tt.calls {
				call := callFor("a", strconv.Itoa(i), strings.Repeat("x", tt.bytes))
				call.Deliveries = tt.deliveries
				calls = append(calls, call)
			}
			c.Do(t.Context(), calls...)
			for i, call := range calls {
				wantAnswer(t, call, strconv.Itoa(i))
			}
			if trips, runs := g.trips.Load(), g.runs.Load(); trips != tt.trips || runs != tt.runs {
				t.Errorf("%d trips with %d runs, want %d with %d", trips, runs, tt.trips, tt.runs)
			}
		})
	}
}

// TestOneThatFailsKeepsNoOtherFromItsTurn: a step that Redis refuses is its caller's error, and nobody else's.
func TestOneThatFailsKeepsNoOtherFromItsTurn(t *testing.T) {
	t.Parallel()
	c, rdb := newCommitter(t, &gate{})
	rdb.Set(t.Context(), "{a}:count", 0, 0)
	calls := []*Call{callFor("a", "one"), callFor("a", "fail"), callFor("a", "two"), callFor("b", "three")}
	c.Do(t.Context(), calls...)
	for i, word := range []string{"one", "", "two", "three"} {
		if word != "" {
			wantAnswer(t, calls[i], word)
		}
	}
	if _, err := calls[1].Answer(); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("the one that failed: %v", err)
	}
}

// TestWhoLeavesIsTakenOut: a caller that leaves before its call is sent has changed nothing. One that leaves afterwards waits no longer, and does not
// end the flight for others.
func TestWhoLeavesIsTakenOut(t *testing.T) {
	t.Parallel()
	first, flies := make(chan struct{}), make(chan struct{})
	c, rdb := newCommitter(t, &gate{hold: func(trip int64) {
		if trip == 1 {
			close(flies)
			<-first
		}
	}})
	sent, leaveSent := context.WithCancel(t.Context())
	waiting, leaveWaiting := context.WithCancel(t.Context())
	calls := []*Call{callFor("a", "sent"), callFor("a", "with it")}
	c.Do(sent, calls[0])
	<-flies
	early, late := callFor("a", "leaves"), callFor("a", "stays")
	c.Do(waiting, early)
	c.Do(t.Context(), late)
	leaveWaiting()
	leaveSent()
	for _, call := range []*Call{calls[0], early} {
		if _, err := call.Answer(); !errors.Is(err, context.Canceled) {
			t.Errorf("who left has %v", err)
		}
	}
	close(first)
	wantAnswer(t, late, "stays")
	if n := counted(t, rdb, "a"); n != 2 {
		t.Errorf("%d steps were done, want the one that was under way and the one that stayed", n)
	}
}

// TestASlowFlightHoldsUpNobody: a node that hangs, or replicas that are waited for.
func TestASlowFlightHoldsUpNobody(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c, _ := newCommitter(t, &gate{hold: func(trip int64) {
		if trip <= 3 {
			<-release
		}
	}})
	c.patience = 5 * time.Millisecond
	var slow []*Call
	for i := range 3 {
		call := callFor("a", strconv.Itoa(i))
		c.Do(t.Context(), call)
		slow = append(slow, call)
		for flying := 0; flying <= i; { // each in a flight of its own
			c.mu.Lock()
			flying = c.flying
			c.mu.Unlock()
			time.Sleep(time.Millisecond)
		}
	}
	quick := callFor("a", "quick")
	c.Do(t.Context(), quick)
	wantAnswer(t, quick, "quick")
	close(release)
	for i, call := range slow {
		wantAnswer(t, call, strconv.Itoa(i))
	}
}

// TestAScriptThatRedisForgotIsSentAgain, once for the flight, and nothing is done twice.
func TestAScriptThatRedisForgotIsSentAgain(t *testing.T) {
	t.Parallel()
	g := &gate{}
	c, rdb := newCommitter(t, g)
	rdb.ScriptFlush(t.Context())
	var calls []*Call
	for i := range 30 {
		calls = append(calls, callFor([]string{"a", "b", "c"}[i%3], strconv.Itoa(i)))
	}
	c.Do(t.Context(), calls...)
	for i, call := range calls {
		wantAnswer(t, call, strconv.Itoa(i))
	}
	if n := counted(t, rdb, "a"); n != 10 {
		t.Errorf("%d steps were done, want 10", n)
	}
	if trips := g.trips.Load(); trips != 2 {
		t.Errorf("%d trips, want 2", trips)
	}
}

// TestReplicasThatAreMissing are each caller's error: what was asked may be done or not. It counts which round trip a call was made in: a script that
// Redis does not know goes again, and has other replicas to wait for than what travelled beside it.
func TestReplicasThatAreMissing(t *testing.T) {
	t.Parallel()
	for name, confirmed := range map[string]bool{"none confirms": false, "one confirms the first trip": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rdb := redistest.Start(t).Client()
			other := lua.New("return each(function(ARGV) return {'heard', ARGV[1], #ARGV} end)")
			if err := other.Load(t.Context(), rdb).Err(); err != nil {
				t.Fatal(err)
			}
			rdb.AddHook(&replica{confirms: confirmed})
			c := NewCommitter(rdb, given, 1, contained)
			t.Cleanup(c.Close)
			beside := callFor("c", "beside")
			beside.Script = other
			unknown := []*Call{callFor("a", "one"), callFor("b", "two")}
			c.Do(t.Context(), append(unknown, beside)...)
			for _, call := range unknown {
				if _, err := call.Answer(); err == nil || !strings.Contains(err.Error(), "0 of 1 replicas") {
					t.Errorf("without a replica: %v", err)
				}
				if answer, sent := call.End(); !sent || len(answer) == 0 {
					t.Errorf("what Redis answered is lost: %q, sent %t", answer, sent)
				}
			}
			if _, err := beside.Answer(); (err == nil) != confirmed {
				t.Errorf("in the first trip: %v", err)
			}
		})
	}
}

// A replica is a hook that confirms the first trip, if it is told to.
type replica struct {
	gate
	confirms bool
}

func (r *replica) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		if wait, ok := cmds[len(cmds)-1].(*redis.IntCmd); ok && r.trips.Add(1) == 1 && r.confirms {
			wait.SetVal(1)
		}
		return err
	}
}

// TestAPanicReachesItsCallers, and the next flight goes as ever.
func TestAPanicReachesItsCallers(t *testing.T) {
	t.Parallel()
	c, _ := newCommitter(t, &gate{hold: func(trip int64) {
		if trip == 1 {
			panic("for a test")
		}
	}})
	calls := []*Call{callFor("a", "one"), callFor("a", "two")}
	c.Do(t.Context(), calls...)
	for _, call := range calls {
		if _, err := call.Answer(); err == nil || !strings.Contains(err.Error(), "for a test") {
			t.Errorf("after a panic: %v", err)
		}
	}
	again := callFor("a", "again")
	c.Do(t.Context(), again)
	wantAnswer(t, again, "again")
}
