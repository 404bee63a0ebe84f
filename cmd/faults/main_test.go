package faults

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// suite is what the environment says of this run, and what it has found so far.
//
//	FAULTS=full       all faults in full; else the quick ones, small
//	FAULTS_SEED=n     what is drawn; else by chance, and printed
//	FAULTS_EVENTS=n   events of each storm
//	FAULTS_REPORT=f   the file that the table is written to, if all faults ran
var suite struct {
	full   bool
	seed   uint64
	events int
	report report
	leash  *leash
	heavy  sync.Mutex // held by the fault that needs the machine
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	suite.full = os.Getenv("FAULTS") == "full"
	suite.seed = number("FAULTS_SEED", rand.Uint64()>>1)
	suite.events = int(number("FAULTS_EVENTS", 50_000))
	fmt.Printf("FAULTS_SEED=%d\n", suite.seed)
	var err error
	if suite.leash, err = newLeash(); err != nil {
		fmt.Fprintln(os.Stderr, "the shell that ends what this leaves:", err)
		return 1
	}
	begun := time.Now()
	code := m.Run()
	if path, err := program(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	if file := os.Getenv("FAULTS_REPORT"); file != "" {
		if err := suite.report.write(file, time.Since(begun)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if err := suite.leash.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return code
}

func number(name string, fallback uint64) uint64 {
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s is to be a number: %v\n", name, err)
		os.Exit(2)
	}
	return n
}

// A report collects rows in the order in which faults are listed.
type report struct {
	mu    sync.Mutex
	rows  []*row
	redis string // its version
}

// A row is what became of one fault.
type row struct {
	fault
	injected   []string
	accepted   int           // events
	delivered  int           // deliveries answered well
	dead       int           // deliveries in the dead-letter book
	lost       int           // deliveries that are neither
	forgotten  int           // of events that Redis lost within what its AOF's policy declares
	duplicates int           // requests that came although nothing had failed
	inFlight   int           // requests that were under way at a hit, by the partner's books
	unknown    int           // attempts whose outcome was never written down, by ours
	oldest     time.Duration // how long before it was lost the oldest of what was forgotten had been accepted
	recovery   time.Duration
	remarks    []string
	failed     bool
}

func (r *row) String() string {
	return fmt.Sprintf("%s: accepted %d, delivered %d, dead %d, lost %d, forgotten %d, duplicates %d, in flight %d (unknown %d), recovery %s (%s)", r.name,
		r.accepted, r.delivered, r.dead, r.lost, r.forgotten, r.duplicates, r.inFlight, r.unknown, r.recovery.Round(time.Millisecond), strings.Join(append(r.injected, r.remarks...), "; "))
}

func (r *report) add(f fault) *row {
	r.mu.Lock()
	defer r.mu.Unlock()
	added := &row{fault: f}
	r.rows = append(r.rows, added)
	return added
}

// sees notes which Redis it is.
func (r *report) sees(version string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.redis = version
}

// write makes the table, if no fault is missing.
func (r *report) write(file string, took time.Duration) error {
	byName := make(map[string]*row)
	for _, row := range r.rows {
		byName[row.name] = row
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Faults\n\n"+
		"`make test-faults` wrote this file: it breaks an installation of Ringback on purpose, with its own processes and a real Redis, and holds "+
		"what producers sent, what partners received and what the API says against each other. It ran on %s, on %s with %s, and took %s. "+
		"FAULTS_SEED=%d draws the same numbers again.\n\n",
		time.Now().UTC().Format(time.DateOnly), machine(), r.redis, took.Round(time.Second), suite.seed)
	b.WriteString("*Accepted* are events, the other figures deliveries. *Lost* is what was accepted and neither delivered nor in the dead-letter book. " +
		"*Duplicates* are requests that came although nothing had failed, *in flight* those that were under way at the fault or answered just before, " +
		"of which no more may come again. *Unknown* are the attempts that our own books have as begun and never heard of again: unless Redis itself forgot, " +
		"there is one for each duplicate. *Recovery* is from the end of the fault until nothing was under way any more.\n\n")
	b.WriteString("| fault | injected | accepted | delivered | dead | lost | duplicates | in flight | unknown | recovery | verdict |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n")
	failed := 0
	for _, f := range faults() {
		row := byName[f.name]
		if row == nil {
			return fmt.Errorf("%s did not run: %s stays as it is", f.name, filepath.Base(file))
		}
		verdict := "holds"
		if row.failed {
			verdict = "FAILS"
			failed++
		}
		fmt.Fprintf(&b, "| %s: %s | %s | %d | %d | %d | %d | %d | %d | %d | %s | %s |\n", row.name, row.what,
			strings.Join(append(row.injected, row.remarks...), "; "), row.accepted, row.delivered, row.dead, row.lost, row.duplicates, row.inFlight, row.unknown,
			row.recovery.Round(100*time.Millisecond), verdict)
	}
	fmt.Fprintf(&b, "\n%d faults, %d of which broke a promise.\n", len(byName), failed)
	return os.WriteFile(file, []byte(b.String()), 0o644)
}

// machine says what this ran on, without its name.
func machine() string {
	memory := ""
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if fields := strings.Fields(string(text)); len(fields) > 1 {
			kb, _ := strconv.Atoi(fields[1])
			memory = fmt.Sprintf(", %d GB", (kb+1<<19)>>20)
		}
	}
	return fmt.Sprintf("%d cores%s (%s/%s)", runtime.NumCPU(), memory, runtime.GOOS, runtime.GOARCH)
}
