package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/steady"
)

// asks asks whether the data model is in force, as a process does that has not looked for a while.
func (d *desk) asks() bool {
	d.t.Helper()
	d.ledger.raising.next.Store(0)
	return d.ledger.Raised(d.t.Context())
}

// beside has a process of a level run beside the desk's, until the end that is returned.
func (d *desk) beside(level int) (end func()) {
	d.t.Helper()
	stop, err := registry.Announce(d.t.Context(), d.rdb, nil, registry.Process{ID: "x", Level: level, Roles: "worker", Host: "web-7"}, slog.New(slog.DiscardHandler))
	d.must(err)
	return func() { d.must(stop(context.WithoutCancel(d.t.Context()))) }
}

// wantNumber verifies the number in Redis, and whether a program that knows only the first data model starts.
func (d *desk) wantNumber(when string, want int) {
	d.t.Helper()
	got, err := Written(d.t.Context(), d.rdb)
	d.must(err)
	if got != want {
		d.t.Errorf("%s: the number is %d, want %d", when, got, want)
	}
	err = enter(d.t.Context(), d.rdb, 1, 1, nil)
	if newer, refused := errors.AsType[*NewerModelError](err); refused != (want > 1) || err != nil && !refused || refused && newer.Found != want {
		d.t.Errorf("%s: an older program that starts: %v", when, err)
	}
}

// TestTheNumberIsRaisedOnceAllKnowIt: while a process is alive that does not know the newest data model, nothing of that is written, and a program like
// it may start. The first look after its end raises the number, and then none starts any more.
func TestTheNumberIsRaisedOnceAllKnowIt(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(Enter(t.Context(), d.rdb))
	end := d.beside(registry.ModelLevel - 1)
	for range 2 {
		if d.asks() {
			t.Error("it is in force beside a process that does not know it")
		}
		d.wantNumber("beside an older process", 1)
	}
	end()
	end = d.beside(registry.ModelLevel)
	if !d.asks() {
		t.Error("it is not in force, though all processes know it")
	}
	d.wantNumber("once all know it", Model)
	end()

	another := furnish(t, d.rdb, standard)
	if another.ledger.raising.done.Load() || !another.ledger.Raised(t.Context()) {
		t.Error("a process that starts then does not learn it")
	}
	d.must(Enter(t.Context(), d.rdb))
	d.wantNumber("after another start", Model)
}

// TestAStepRaisesNothing: right after a step of Redis's clock, an older process that lives counts as alive, whichever clock it announced itself by.
func TestAStepRaisesNothing(t *testing.T) {
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		for _, itself := range []bool{true, false} {
			inBubble(t, standard, func(d *desk) {
				d.ledger.raising.clock = steady.New(d.rdb, slog.New(slog.DiscardHandler))
				defer d.ledger.raising.clock.Close()
				d.must(d.ledger.raising.clock.Look(d.t.Context()))
				if itself {
					defer d.beside(registry.ModelLevel - 1)()
				} else { // as a version does that goes by Redis's clock
					text, err := json.Marshal(registry.Process{ID: "x", Level: registry.ModelLevel - 1, Host: "web-7"})
					d.must(err)
					d.must(d.rdb.ZAdd(d.t.Context(), "ringback:processes", redis.Z{Score: float64(time.Now().UnixMilli()), Member: text}).Err())
				}
				d.mini.SetTime(time.Now().Add(by))
				if d.asks() {
					d.t.Errorf("after a step by %v, the model is in force beside a process that does not know it", by)
				}
				if number, err := Written(d.t.Context(), d.rdb); err != nil || number >= Model {
					d.t.Errorf("after a step by %v, the number is %d, %v", by, number, err)
				}
			})
		}
	}
}

// TestWhoStartedJustBefore: a program that read the number before it was raised is waited for.
func TestWhoStartedJustBefore(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(d.rdb.Set(t.Context(), ModelKey, Model, 0).Err())
	end := d.beside(registry.ModelLevel - 1)
	if d.asks() {
		t.Error("it is in force beside a process that does not know it")
	}
	end()
	if !d.asks() {
		t.Error("it is not in force after that process's end")
	}
}

// TestAnOlderProcessThatIsBack, after it stood still for so long that it counted as gone: nothing more is written that it misreads, until it has ended.
func TestAnOlderProcessThatIsBack(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	if !d.asks() {
		t.Fatal("it is not in force")
	}
	end := d.beside(registry.ModelLevel - 1)
	if !d.asks() {
		t.Error("it looks at all processes each time")
	}
	d.ledger.raising.checked = time.Time{}
	if d.asks() {
		t.Error("it is in force beside an older process")
	}
	end()
	if !d.asks() {
		t.Error("it is not in force after the older one's end")
	}
}

// TestANumberThatIsLost with Redis's last second is raised again, and what is in force stays so.
func TestANumberThatIsLost(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(Enter(t.Context(), d.rdb))
	if !d.asks() {
		t.Fatal("it is not in force")
	}
	for _, lost := range []func(){func() { d.rdb.Set(t.Context(), ModelKey, 1, 0) }, func() { d.rdb.Del(t.Context(), ModelKey) }} {
		lost()
		if !d.asks() {
			t.Error("it is no longer in force")
		}
		d.wantNumber("after the next look", Model)
	}
}

// TestWhereConnectionsAreNotSeen a process may be starting that nobody sees, so what is new waits a while after the number was raised.
func TestWhereConnectionsAreNotSeen(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(Enter(t.Context(), d.rdb))
	d.must(d.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-client|list").Err())
	if d.asks() {
		t.Error("it is in force at once")
	}
	d.wantNumber("at once", Model)
	d.ledger.raising.stands = d.ledger.raising.stands.Add(-unseenFor)
	if !d.asks() {
		t.Error("it is not in force a while later")
	}
}

// TestANumberThatCannotBeRaised is tried again a while later, and not by each caller.
func TestANumberThatCannotBeRaised(t *testing.T) {
	t.Parallel()
	d := newDesk(t, standard)
	d.must(Enter(t.Context(), d.rdb))
	d.must(d.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "-eval", "-evalsha").Err())
	if d.asks() {
		t.Error("it is in force, though the number cannot be raised")
	}
	d.must(d.rdb.Do(t.Context(), "ACL", "SETUSER", "default", "+eval", "+evalsha").Err())
	if d.ledger.Raised(t.Context()) {
		t.Error("the next caller asks at once")
	}
	if !d.asks() {
		t.Error("it is not in force once the number can be raised")
	}
	d.wantNumber("then", Model)
}
