//go:build load

package ledger

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ringback/ringback/registry"
)

// memory is how many bytes of Redis are data.
func (d *desk) memory() int64 {
	d.t.Helper()
	info, err := d.rdb.Info(d.t.Context(), "memory").Result()
	d.must(err)
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory_dataset:"); ok {
			n, err := strconv.ParseInt(text, 10, 64)
			d.must(err)
			return n
		}
	}
	d.t.Fatal("Redis does not say how much is data")
	return 0
}

// TestLoadBodies measures how many bytes of Redis a delivered event takes, with a wallet event of so many bytes as its body: as it is, compressed, and once
// that has left. It prints the table of OPERATORS.md.
func TestLoadBodies(t *testing.T) {
	const events = 2000
	for _, size := range []int{640, 2 << 10, 16 << 10} {
		row := fmt.Sprintf("| %d |", size)
		for _, compressed := range []bool{false, true} {
			d := newDesk(t, standard)
			if !compressed {
				t.Cleanup(d.beside(registry.ModelLevel - 1))
			}
			cb, r := d.callback(""), dice()
			d.attempt(cb, well) // what a company takes by itself
			before, sent := d.memory(), 0
			for i := range events {
				payload := pass(r, size)
				sent += len(payload)
				event := "install-" + strconv.Itoa(i)
				d.offer(string(payload), "", []string{event}, cb)
				o, why := d.begin(d.claim(Ticket{Ref: d.ref(event, cb), Generation: 1}))
				if o == nil {
					t.Fatalf("%+v", why)
				}
				d.finish(o, well)
			}
			each := func() string {
				hashes := make([]int64, 100)
				for i := range hashes {
					n, err := d.rdb.MemoryUsage(t.Context(), EventKey(d.company, "install-"+strconv.Itoa(i*events/len(hashes))), 0).Result()
					d.must(err)
					hashes[i] = n
				}
				slices.Sort(hashes)
				return fmt.Sprintf(" %d (hash %d) |", (d.memory()-before)/events, hashes[len(hashes)/2])
			}
			row += each()
			if compressed {
				for i := range events {
					d.must(d.rdb.HDel(t.Context(), EventKey(d.company, "install-"+strconv.Itoa(i)), "b", "z").Err())
				}
				row += each()
			} else {
				t.Logf("%d bytes on average", sent/events)
			}
		}
		t.Log(row)
	}
}
