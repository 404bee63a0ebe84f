//go:build load

package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/cmd/ringback/bench"
	"github.com/ringback/ringback/registry/redistest"
)

// A mastersRun is one run of many companies' load on a cluster of so many masters.
type mastersRun struct {
	rate, p99 float64
	nodes     []float64 // µs of each node's processor a delivery, the busiest first
	ringback  float64   // µs of all serve processes' processors a delivery
}

// TestLoadMasters measures the load of sixty companies on clusters of one, two and three masters, by turns, with two serve processes: how many
// deliveries a second, and what each master does for one. deploy/SCALING.md does its arithmetic with that.
func TestLoadMasters(t *testing.T) {
	const runs = 3
	all := map[int][]mastersRun{}
	for range runs {
		for masters := 1; masters <= 3; masters++ {
			t.Run(strconv.Itoa(masters), func(t *testing.T) { all[masters] = append(all[masters], runOnMasters(t, masters)) })
		}
	}
	median := func(of func(mastersRun) float64, rows []mastersRun) float64 {
		values := make([]float64, len(rows))
		for i, r := range rows {
			values[i] = of(r)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	var table strings.Builder
	table.WriteString("| masters | deliveries/s | P99 ms | Redis µs a delivery, all masters | the busiest master | Ringback µs a delivery |\n|---|---|---|---|---|---|\n")
	for masters := 1; masters <= 3; masters++ {
		rows := all[masters]
		fmt.Fprintf(&table, "| %d | %.0f | %.0f | %.0f | %.0f | %.0f |\n", masters,
			median(func(r mastersRun) float64 { return r.rate }, rows), median(func(r mastersRun) float64 { return r.p99 }, rows),
			median(func(r mastersRun) float64 {
				var sum float64
				for _, n := range r.nodes {
					sum += n
				}
				return sum
			}, rows),
			median(func(r mastersRun) float64 { return r.nodes[0] }, rows), median(func(r mastersRun) float64 { return r.ringback }, rows))
	}
	t.Logf("\n%s", table.String())
}

func runOnMasters(t *testing.T, masters int) mastersRun {
	nodes := redistest.StartCluster(t, masters, 0, "--appendfsync", "everysec")
	path, err := shipped()
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"RINGBACK_REDIS=" + nodes.URL(), "RINGBACK_KEYSET_FILE=" + filepath.Join(t.TempDir(), "keyset.json"), "RINGBACK_EGRESS_ALLOW=127.0.0.0/8"}
	i := &installation{t: t, env: env}
	serving := []*process{i.serve("127.0.0.1:0"), i.serve("127.0.0.1:0")}
	for _, p := range serving {
		i.server = "http://" + address(p)
	}
	key := strings.TrimSpace(ringback(t, env, "keys", "create", "--role", "operator"))
	before, ours := processors(t, nodes), processorsOf(t, serving)
	report, err := bench.Run(t.Context(), bench.Config{
		Server: i.server, Key: key, Scenarios: []string{"saturate"}, Runs: 1, N: 8000, Companies: 60, Callbacks: 1,
		ReceiverListen: "127.0.0.1:0", Deadline: bench.DefaultDeadline,
	})
	if err != nil {
		t.Fatal(err)
	}
	after, oursAfter := processors(t, nodes), processorsOf(t, serving)
	var r mastersRun
	var deliveries float64
	for _, result := range report.Results {
		if result.Median[bench.Missing] > 0 || result.Median[bench.Duplicates] > 0 {
			t.Errorf("%s on %d masters, %s: %v missing, %v twice", result.Name(), masters, path, result.Median[bench.Missing], result.Median[bench.Duplicates])
		}
		deliveries += result.Median[bench.Deliveries]
		r.rate, r.p99 = max(r.rate, result.Median[bench.DeliveryRate]), max(r.p99, result.Median[bench.P99])
	}
	for n := range before {
		r.nodes = append(r.nodes, float64((after[n]-before[n]).Microseconds())/deliveries)
	}
	slices.SortFunc(r.nodes, func(a, b float64) int { return cmp.Compare(b, a) })
	r.ringback = float64((oursAfter - ours).Microseconds()) / deliveries
	return r
}

// processors is how long each node of a cluster has had a processor.
func processors(t *testing.T, nodes *redistest.Cluster) (all []time.Duration) {
	t.Helper()
	for _, node := range nodes.Nodes() {
		info, err := node.Client().InfoMap(t.Context(), "cpu").Result()
		if err != nil {
			t.Fatal(err)
		}
		var sum time.Duration
		for _, field := range []string{"used_cpu_user", "used_cpu_sys"} {
			seconds, err := strconv.ParseFloat(info["CPU"][field], 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(seconds * float64(time.Second))
		}
		all = append(all, sum)
	}
	return all
}

// processorsOf is how long processes have had a processor, all together, in hundredths of a second (Linux).
func processorsOf(t *testing.T, all []*process) (sum time.Duration) {
	t.Helper()
	for _, p := range all {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		for _, field := range fields[11:13] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}
