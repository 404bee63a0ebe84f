package ledger

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry/redistest"
)

// TestLinesAfterALostSecond: what Redis wrote last is lost, between any two steps of a line. Whatever had begun by then comes again, in order, tasks of what is
// forgotten begin nothing, nobody is stuck, and who sends again what was lost gets the number that it had.
func TestLinesAfterALostSecond(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	all := furnish(t, server.Client(), standard)
	for kept, want := range []string{"e1#1 e2#2 e3#3 e4#4", "e1#1 e2#2 e3#3 e4#4", "e2#2 e3#3 e4#4", "e2#2 e3#3 e4#4", "e2#2 e3#3 e4#4", "e3#3 e4#4"} {
		t.Run(fmt.Sprintf("after step %d", kept), func(t *testing.T) {
			d := all.of(t, fmt.Sprintf("kept-%d", kept))
			cb := d.ordered("")
			var tasks []Ticket // in the lanes, all that ever were: asynq's are lost or kept by themselves
			var first, second *owned
			sizes := []int64{}
			for _, step := range []func(){
				func() {
					for _, event := range []string{"e1", "e2", "e3"} {
						d.keyed(event, "k", cb)
					}
				},
				func() { first = d.out("e1") },
				func() { d.finish(first, well); tasks = append(tasks, d.lane...) },
				func() { second = d.out("e2") },
				func() { d.keyed("e4", "k", cb) },
				func() { d.finish(second, well); tasks = append(tasks, d.lane...) },
			} {
				step()
				sizes = append(sizes, d.appended(server))
			}
			server.Kill()
			d.must(os.Truncate(appendOnly(t, server), sizes[kept]))
			server.Restart()
			d.lane = tasks
			if got := d.recovered(cb, "e4"); got != want {
				t.Errorf("they come as %s, want %s", got, want)
			}
			d.noLines()
			if n, _ := d.keyed("e5", "k", cb); n != 5 {
				t.Errorf("the next has number %d", n)
			}
		})
	}
}

// appendOnly is the file that a Redis appends to.
func appendOnly(t *testing.T, server *redistest.Server) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(server.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		t.Skipf("this Redis keeps its file elsewhere: %v", err)
	}
	return slices.Max(files)
}

// appended is how long that file is.
func (d *desk) appended(server *redistest.Server) int64 {
	d.t.Helper()
	info, err := os.Stat(appendOnly(d.t, server))
	d.must(err)
	return info.Size()
}

// recovered does what the next processes do until all has ended, and returns what they send: each with its number. The sender repeats an event that is not there.
func (d *desk) recovered(cb int64, repeated string) string {
	d.t.Helper()
	var sent []string
	for range 20 {
		if d.rdb.Exists(d.t.Context(), EventKey(d.company, repeated)).Val() == 0 {
			d.keyed(repeated, "k", cb)
		}
		for _, a := range d.beginLane() {
			sent = append(sent, fmt.Sprintf("%s#%d", a.Event, a.grant.Sequence))
			d.finish(a, well)
		}
		d.pump(cb)
		due, err := d.rdb.ZRange(d.t.Context(), Key(d.company, "due"), 0, -1).Result()
		d.must(err)
		for _, member := range due { // the time has come
			d.must(d.rdb.ZAdd(d.t.Context(), Key(d.company, "due"), redis.Z{Member: member}).Err())
		}
		o, err := d.ledger.Overdue(d.t.Context(), d.company, 100)
		d.must(err)
		d.lane = append(append(d.lane, o.Check...), o.Lost...)
	}
	return strings.Join(sent, " ")
}
