package lanes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/redistest"
)

// halted checks what processes see of a halt.
func halted(t *testing.T, when string, want bool, all ...*Lanes) {
	t.Helper()
	for i, l := range all {
		for _, lane := range l.Names() {
			isHalted, known := l.IsHalted(t.Context(), lane), l.KnownToRun(lane)
			for n := 0; n < 100 && !want && !known; n++ { // the look was too old by the time that it was asked for
				isHalted, known = l.IsHalted(t.Context(), lane), l.KnownToRun(lane)
			}
			if isHalted != want || known == want {
				t.Errorf("%s, process %d: %s is halted %t, known to run %t", when, i, lane, isHalted, known)
			}
		}
		if seen, err := l.Paused(t.Context()); err != nil || seen.None() == want || seen.Since().IsZero() == want {
			t.Errorf("%s, process %d sees %+v, %v", when, i, seen, err)
		}
	}
}

// TestAHaltIsOfEveryLane, also of those that come to be while it lasts, and whatever number a process knows; a resume takes all of it back, and each leaves one
// line.
func TestAHaltIsOfEveryLane(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	ctx := t.Context()
	l, other, late := open(t, rdb), open(t, rdb), open(t, rdb)
	for range 2 {
		must(t, l.Pause(ctx, "{}"))
	}
	halted(t, "paused", true, l, other, late)
	set(t, other, 8)
	halted(t, "with more lanes", true, other, late)
	if n := rdb.Exists(ctx, pausedKey("ringback-7")).Val(); n != 1 || other.Count() != 8 {
		t.Errorf("asynq goes on with the last of %d lanes", other.Count())
	}
	for _, lane := range other.Names() { // by asynq's own means, or a program of before
		must(t, rdb.Del(ctx, pausedKey(lane)).Err())
	}
	halted(t, "with asynq let go", true, l, other, late)
	set(t, l, 2)
	for range 2 {
		must(t, late.Resume(ctx, "{}"))
	}
	halted(t, "resumed", false, l, other, late)
	if keys := rdb.Keys(ctx, "*:paused").Val(); len(keys) > 0 || rdb.Exists(ctx, haltKey).Val() != 0 {
		t.Errorf("it leaves %v", keys)
	}
	if n := rdb.XLen(ctx, registry.AuditKeyOfAll).Val(); n != 4 { // two of them of the number
		t.Errorf("%d lines in the trail", n)
	}

	must(t, rdb.Set(ctx, pausedKey("ringback-1"), 1000, 0).Err()) // in asynq's UI
	<-time.After(HaltLook)
	if seen := other.Halted(ctx); !seen.Of("ringback-1") || seen.Of("ringback-0") || seen.Since().Unix() != 1000 {
		t.Errorf("one lane is paused: %+v", seen)
	}
	must(t, rdb.Set(ctx, haltKey, "no time", 0).Err())
	halted(t, "with a time that cannot be read", true, other)
}

// TestALookSeesAPausedLaneThatItDidNotKnow: it reads the number with what is paused.
func TestALookSeesAPausedLaneThatItDidNotKnow(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	l, late := open(t, rdb), open(t, rdb)
	must(t, late.Register(t.Context()))
	set(t, l, 8)
	must(t, rdb.Set(t.Context(), pausedKey("ringback-7"), 1000, 0).Err())
	if seen := late.Halted(t.Context()); !seen.Of("ringback-7") || late.Count() != 8 {
		t.Errorf("of %d lanes, %+v are paused", late.Count(), seen)
	}
}

// TestNoTaskIsTakenInAHalt, also out of a lane that asynq lets go.
func TestNoTaskIsTakenInAHalt(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client()
	l := open(t, rdb)
	must(t, l.Register(t.Context()))
	must(t, l.Pause(t.Context(), "{}"))
	l.Halted(t.Context())
	came, stop := l.serve(t, 8, nil)
	defer stop()
	_, err := l.Enqueue(t.Context(), job(0, 1))
	must(t, err)
	must(t, rdb.Del(t.Context(), pausedKey(l.For(job(0, 1)))).Err())
	select {
	case <-came:
		t.Error("a task is taken out of its lane")
	case <-time.After(4 * testLook):
	}
	must(t, l.Resume(t.Context(), "{}"))
	select {
	case <-came:
	case <-time.After(time.Minute):
		t.Error("no task is taken after the halt")
	}
}

// TestOnAClusterTheHaltComesFirst: should the command be cut off, everything is halted; and a lane whose master is away keeps nobody from seeing it.
func TestOnAClusterTheHaltComesFirst(t *testing.T) {
	t.Parallel()
	nodes := redistest.StartCluster(t, 3, 0, "--cluster-require-full-coverage", "no")
	rdb := nodes.Client()
	ctx := t.Context()
	l := open(t, rdb)
	set(t, l, 8)
	must(t, l.Pause(ctx, "{}"))
	halted(t, "paused", true, l)
	if n := rdb.Exists(ctx, pausedKey("ringback-7")).Val(); n != 1 {
		t.Error("asynq goes on with the last lane")
	}
	must(t, l.Resume(ctx, "{}"))
	halted(t, "resumed", false, l)
	layout, err := l.Layout(ctx)
	must(t, err)
	for lane, node := range layout.Nodes {
		if want := nodes.MasterOf(pausedKey(lane)).Addr(); !strings.HasSuffix(want, node[strings.LastIndex(node, ":"):]) {
			t.Errorf("%s is said to lie on %s, and lies on %s", lane, node, want)
		}
	}
	count, masters, err := Masters(ctx, rdb)
	if err != nil || count != 8 || len(masters) != MostLanes || masters[5] != layout.Nodes["ringback-5"] {
		t.Errorf("%d lanes, %v, %v", count, masters, err)
	}
	cut := &cutOff{}
	cutter := nodes.Client()
	cutter.AddHook(cut)
	if err := open(t, cutter).Pause(ctx, "{}"); err == nil {
		t.Error("a pause that was cut off succeeds")
	}
	<-time.After(HaltLook)
	halted(t, "cut off", true, l)
	if n := rdb.Exists(ctx, pausedKey("ringback-0")).Val(); n != 0 {
		t.Error("the lanes are paused though it was cut off")
	}
	must(t, l.Pause(ctx, "{}"))
	if n := rdb.XLen(ctx, registry.AuditKeyOfAll).Val(); n != 4 { // the number, a pause, a resume, a pause
		t.Errorf("%d lines in the trail", n)
	}
	if err := open(t, cutter).Resume(ctx, "{}"); err == nil {
		t.Error("a resume that was cut off succeeds")
	}
	halted(t, "resumed and cut off", true, l)
	must(t, l.Resume(ctx, "{}"))
	halted(t, "resumed again", false, l)
	must(t, l.Pause(ctx, "{}"))

	var away *redistest.Server
	for _, lane := range l.Names() {
		if master := nodes.MasterOf(pausedKey(lane)); master != nodes.MasterOf(haltKey) && master != nodes.MasterOf(registry.AuditKeyOfAll) {
			away = master
		}
	}
	away.Kill()
	if seen, err := l.Paused(ctx); err != nil || seen.All.IsZero() {
		t.Errorf("with a lane's master away: %+v, %v", seen, err)
	}
	_ = l.Resume(ctx, "{}") // it says that not all of it was done
	sees := func(want bool) bool {
		for end := time.Now().Add(time.Minute); l.IsHalted(ctx, "ringback-0") != want; <-time.After(HaltLook) {
			if time.Now().After(end) {
				return false
			}
		}
		return true
	}
	if !sees(false) {
		t.Error("a resume does not count while a lane's master is away")
	}
	_ = l.Pause(ctx, "{}")
	if !sees(true) {
		t.Error("a pause does not count while a lane's master is away")
	}
}

// cutOff is a hook that lets no pipeline through that writes.
type cutOff struct{ hung }

func (c *cutOff) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if cmd.Name() == "set" || cmd.Name() == "del" {
				return errors.New("cut off for a test")
			}
		}
		return next(ctx, cmds)
	}
}
