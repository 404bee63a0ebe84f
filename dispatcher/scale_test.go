//go:build scale

package dispatcher

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// A row is what an installation costs with so many names.
type row struct {
	names                             int
	first, round, scrape, walk        time.Duration
	commands, inside, memory, perName float64 // a second, a second, MiB, bytes of Redis
}

// TestScale measures what companies without work cost: each has a callback, a log and, every tenth, a dead letter. Three companies have work. It prints a
// table: the first round of a worker, a round, a scrape, the commands that an idle worker sends and those that Redis runs for it, and its memory.
func TestScale(t *testing.T) {
	var rows []row
	for _, names := range []int{100, 2000, 20000} {
		t.Run(strconv.Itoa(names), func(t *testing.T) { rows = append(rows, measure(t, names)) })
	}
	var table strings.Builder
	table.WriteString("| names | first round | round | a round of the walk | /metrics | commands/s sent | commands/s in Redis | MiB | bytes of Redis a name |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&table, "| %d | %s | %s | %s | %s | %.0f | %.0f | %.0f | %.0f |\n", r.names, r.first.Round(time.Millisecond), r.round.Round(100*time.Microsecond),
			r.walk.Round(100*time.Microsecond), r.scrape.Round(100*time.Microsecond), r.commands, r.inside, r.memory, r.perName)
	}
	t.Log("\n" + table.String())
	least, most := rows[0], rows[len(rows)-1]
	for what, pair := range map[string][2]float64{
		"a round": {least.round.Seconds(), most.round.Seconds()}, "a scrape": {least.scrape.Seconds(), most.scrape.Seconds()},
		"commands a second": {least.commands, most.commands}, "commands in Redis": {least.inside, most.inside}, "memory": {least.memory, most.memory},
	} {
		if pair[1] > 1.5*pair[0]+.002 {
			t.Errorf("%s: %.3g with %d names, %.3g with %d", what, pair[0], least.names, pair[1], most.names)
		}
	}
}

func measure(t *testing.T, names int) row {
	reader := sdkmetric.NewManualReader()
	h := newHouse(t, watched(reader))
	h.announce()
	r := row{names: names}
	before := usedMemory(t, h.rdb)
	for page := range slices.Chunk(eventIDs("idle-", names), 500) {
		h.idle(page)
	}
	r.perName = (usedMemory(t, h.rdb) - before) / float64(names)
	h.holding("busy-1", "busy-2", "busy-3")

	w := h.worker()
	took := func(do func()) time.Duration {
		began := time.Now()
		do()
		return time.Since(began)
	}
	r.first = took(func() { w.turn(t.Context()) })
	r.walk = median(20, func() time.Duration { return took(func() { w.step(t.Context()) }) })
	w.rounds.walk.began, w.rounds.walk.underWay = time.Now().Add(time.Hour), false
	r.round = median(50, func() time.Duration { return took(func() { w.turn(t.Context()) }) })
	r.scrape = median(20, func() time.Duration {
		return took(func() { h.must(reader.Collect(t.Context(), new(metricdata.ResourceMetrics))) })
	})
	w.retire(t.Context())

	h.work()
	<-time.After(10 * time.Second)
	l, calls := h.listen(), callsOf(t, h.rdb)
	const idle = 20 * time.Second
	<-time.After(idle)
	r.commands, r.inside = float64(l.take().commands)/idle.Seconds(), (callsOf(t, h.rdb)-calls)/idle.Seconds()
	r.memory = residentMiB(t)
	return r
}

// idle names companies that have nothing to do.
func (h *house) idle(names []string) {
	h.t.Helper()
	_, err := h.rdb.Pipelined(h.t.Context(), func(p redis.Pipeliner) error {
		ctx := context.Background()
		for i, name := range names {
			p.SAdd(ctx, "ringback:companies", name)
			p.HSet(ctx, ledger.Key(name, "cb"), 1, "sealed")
			p.XAdd(ctx, &redis.XAddArgs{Stream: ledger.Key(name, "log"), Values: []any{"e", "evt"}})
			p.HSet(ctx, ledger.EventKey(name, "evt"), "m", "{}", "a", "1-1", "d1", "X 1 1 1 1 -\n{}")
			if i%10 == 0 {
				p.ZAdd(ctx, ledger.Key(name, "dead"), redis.Z{Score: float64(time.Now().UnixMilli()), Member: "evt/1"})
			}
		}
		return nil
	})
	h.must(err)
}

func median(n int, measure func() time.Duration) time.Duration {
	all := make([]time.Duration, n)
	for i := range all {
		all[i] = measure()
	}
	slices.Sort(all)
	return all[n/2]
}

// callsOf is how many commands Redis has run, in scripts and out of them.
func callsOf(t *testing.T, rdb *redis.Client) (n float64) {
	t.Helper()
	text, err := rdb.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		calls, _ := strconv.ParseFloat(m[1], 64)
		n += calls
	}
	return n
}

func usedMemory(t *testing.T, rdb *redis.Client) float64 {
	t.Helper()
	text, err := rdb.Info(t.Context(), "memory").Result()
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.ParseFloat(regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(text)[1], 64)
	return n
}

// residentMiB is this process's resident memory.
func residentMiB(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	kib, _ := strconv.ParseFloat(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindStringSubmatch(string(text))[1], 64)
	return kib / 1024
}

// TestScaleOfRecovery: a process is killed as it has accepted an event and brought it nowhere. With 20,000 names, the event goes out as soon as with few.
func TestScaleOfRecovery(t *testing.T) {
	h := newHouse(t)
	h.announce()
	for page := range slices.Chunk(eventIDs("idle-", 20000), 500) {
		h.idle(page)
	}
	h.register("payment_proof", "")
	h.work()
	other := h.start(childJob{Work: true}) // shares the companies out with the test's own
	<-time.After(10 * time.Second)
	h.start(childJob{Send: []string{"p-1"}, KillAt: "accepted"}).dies()
	h.must(other.cmd.Process.Kill())
	began := time.Now()
	h.ack(proof("p-1"))
	h.awaitAll(time.Minute)
	took := time.Since(began)
	t.Logf("delivered %s after the kill", took.Round(100*time.Millisecond))
	if took > 31*time.Second {
		t.Error("that is longer than 31 s")
	}
}
