// Package bench measures Ringback from outside: how fast it is, what it costs, and whether anything is missing.
//
// It drives a program over HTTP only, so any version's can be measured, and several side by side, by turns. [Run] does that for each scenario on
// an installation of its own: a Redis, a `ringback serve`, and a receiver and senders in this process. Or it measures an installation that is
// there already, of which it sees neither processes nor Redis.
//
// A scenario consists of phases, each with figures of its own. Each phase has a book: the list of all arrivals it expects. A phase ends when its
// book is full, or when the scenario's time is over, and what the book lacks then is missing.
package bench

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	// DefaultRuns is how often each binary is measured: the least that has a median.
	DefaultRuns = 3
	// DefaultDeadline is how long one scenario may take with one binary: several times what any takes on two cores.
	DefaultDeadline = 2 * time.Minute
	// shortest is what a scenario's own number of events is divided by if Config.Short is set.
	shortest = 5
)

// Config says what is measured.
type Config struct {
	// Binaries are the paths of the programs. Each gets an installation of its own for each scenario and run.
	Binaries []string
	// Server is the URL of an installation that is there already. It is measured instead of Binaries.
	Server string
	// Key is an operator's API key for Server.
	Key string
	// TLS is how Server is spoken to; nil is the default.
	TLS *tls.Config

	Scenarios []string // some of Names; empty is all
	Runs      int      // how often each scenario is measured with each binary
	N         int      // events of each scenario; 0 is each scenario's own number
	Short     bool     // a fifth of each scenario's own number
	Callbacks int      // of the company in saturate, at least 1
	Companies int      // in saturate, each with Callbacks, at least 1

	Apart bool // API and workers are a process each

	ReceiverListen string // where deliveries are received; port 0 is any
	ReceiverURL    string // where that is for Server; empty is http:// and the address

	Deadline time.Duration // of one scenario with one binary
	// Say tells how far it is, a line at a time; nil says nothing.
	Say func(format string, a ...any)
}

// Report is all that was measured.
type Report struct {
	Binaries []Binary `json:"binaries,omitempty"`
	Server   string   `json:"server,omitempty"`
	Runs     int      `json:"runs"`
	// Floors are the medians over the runs; absent for a Server.
	Floors Figures `json:"floors,omitempty"`
	// Results are in the order of scenario, phase and binary.
	Results []*Result `json:"results"`
	// Notes say what was not measured, and why.
	Notes []string `json:"notes,omitempty"`
}

// Binary is one of the programs that were measured.
type Binary struct {
	Number  int    `json:"number"` // from 1
	Path    string `json:"path"`
	Version string `json:"version"` // as it calls itself
}

// Result is what one phase of a scenario came to with one binary.
type Result struct {
	Scenario string    `json:"scenario"`
	Phase    string    `json:"phase,omitempty"` // empty: the scenario has only one
	Binary   int       `json:"binary"`          // its number; 0 for a Server
	Median   Figures   `json:"median"`
	Ratios   Figures   `json:"ratios,omitempty"` // of the median to that of the first binary
	Runs     []Figures `json:"runs"`
}

// Name is the scenario and the phase, for people.
func (r *Result) Name() string {
	if r.Phase == "" {
		return r.Scenario
	}
	return r.Scenario + " " + r.Phase
}

// Faults counts what must not be: deliveries that are missing, signatures that do not verify, and deliveries that came under two ids.
func (r *Report) Faults() (missing, signatures, ids int) {
	for _, result := range r.Results {
		for _, figures := range result.Runs {
			missing += int(figures[Missing])
			signatures += int(figures[BadSignatures])
			ids += int(figures[ChangedIDs])
		}
	}
	return missing, signatures, ids
}

// Check says what is wrong with the config.
func (c *Config) Check() error {
	for _, path := range c.Binaries {
		if _, err := exec.LookPath(path); err != nil {
			return fmt.Errorf("%s cannot be run: %w", path, errors.Unwrap(err))
		}
	}
	for _, name := range c.Scenarios {
		if !slices.Contains(Names(), name) {
			return fmt.Errorf("there is no scenario %q, only %s", name, strings.Join(Names(), ", "))
		}
	}
	switch {
	case c.Runs < 1 || c.Runs > 100:
		return errors.New("there must be 1 to 100 runs")
	case c.N < 0 || c.N > maxEvents:
		return fmt.Errorf("a scenario has 1 to %d events", maxEvents)
	case c.Callbacks < 1 || c.Companies < 1 || c.Callbacks*c.Companies > maxCallbacks:
		return fmt.Errorf("there must be 1 to %d callbacks in all companies together", maxCallbacks)
	case c.events(10_000)*c.Callbacks > maxDeliveries:
		return fmt.Errorf("saturate has at most %d deliveries, events times callbacks", maxDeliveries)
	case c.Deadline < time.Second:
		return errors.New("a scenario needs at least a second")
	}
	return nil
}

// Run measures. It ends what it started before it returns, also when ctx ends.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	report := &Report{Server: cfg.Server, Runs: cfg.Runs}
	subjects := []Binary{{}} // the Server
	if cfg.Server != "" {
		report.Notes = append(report.Notes, "CPU, memory, Redis and floors are not measured: this is somebody else's installation")
	} else {
		var err error
		if subjects, err = cfg.introduce(ctx); err != nil {
			return nil, err
		}
		report.Binaries = subjects
	}
	var floors []Figures
	for run := range cfg.Runs {
		var floor Figures
		if cfg.Server == "" {
			var err error
			if floor, err = measureFloors(ctx, cfg); err != nil {
				return nil, fmt.Errorf("measuring the floors: %w", err)
			}
			floors = append(floors, floor)
		}
		for _, s := range cfg.chosen() {
			for _, subject := range subjects {
				phases, err := cfg.measure(ctx, s, subject)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", s.name, err)
				}
				for _, p := range phases {
					p.figures.compareWith(floor, p.fan)
					report.add(s.name, subject.Number, p)
					cfg.say("run %d of %d  %s  %s", run+1, cfg.Runs, subject.label(), p.summary(s.name))
				}
			}
		}
	}
	report.conclude(floors)
	return report, nil
}

// introduce asks each binary for its version.
func (c *Config) introduce(ctx context.Context) ([]Binary, error) {
	binaries := make([]Binary, len(c.Binaries))
	for i, path := range c.Binaries {
		out, err := ask(ctx, path, nil, "version")
		if err != nil {
			return nil, err
		}
		binaries[i] = Binary{i + 1, path, strings.TrimPrefix(strings.Join(strings.Fields(out), " "), "ringback ")}
	}
	return binaries, nil
}

func (b Binary) label() string {
	if b.Number == 0 {
		return "the server"
	}
	return fmt.Sprintf("binary %d", b.Number)
}

func (c *Config) say(format string, a ...any) {
	if c.Say != nil {
		c.Say(format, a...)
	}
}

// chosen are the scenarios that are wanted, in their own order.
func (c *Config) chosen() []scenario {
	if len(c.Scenarios) == 0 {
		return scenarios
	}
	return slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !slices.Contains(c.Scenarios, s.name) })
}

// events is how many events a scenario has whose own number is usual.
func (c *Config) events(usual int) int {
	switch {
	case c.N > 0:
		return c.N
	case c.Short:
		return max(1, usual/shortest)
	}
	return usual
}

// measure runs one scenario with one binary.
func (c *Config) measure(ctx context.Context, s scenario, subject Binary) ([]phase, error) {
	alive, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	site := newSite(c)
	defer site.close(ctx)
	if err := site.open(alive, fail, subject); err != nil {
		return nil, cmp.Or(ctx.Err(), err)
	}
	limited, cancel := context.WithTimeout(alive, c.Deadline)
	defer cancel()
	phases, err := s.run(limited, site)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case alive.Err() != nil: // a process has ended that should not
		return nil, context.Cause(alive)
	case err != nil && limited.Err() != nil:
		return nil, fmt.Errorf("%s was not ready to be measured within %s: %w", subject.label(), c.Deadline, err)
	}
	return phases, err
}

func (r *Report) add(name string, binary int, p phase) {
	for _, result := range r.Results {
		if result.Scenario == name && result.Phase == p.name && result.Binary == binary {
			result.Runs = append(result.Runs, p.figures)
			return
		}
	}
	r.Results = append(r.Results, &Result{Scenario: name, Phase: p.name, Binary: binary, Runs: []Figures{p.figures}})
}

// conclude makes the medians and the ratios, and puts the binaries of each phase together.
func (r *Report) conclude(floors []Figures) {
	r.Floors = medians(floors)
	first := map[string]Figures{}
	for _, result := range r.Results {
		result.Median = medians(result.Runs)
		if len(result.Runs) > 1 {
			slowest := func(a, b Figures) int { return cmp.Compare(a[DeliveryRate], b[DeliveryRate]) }
			result.Median[LowestRate] = slices.MinFunc(result.Runs, slowest)[DeliveryRate]
			result.Median[HighestRate] = slices.MaxFunc(result.Runs, slowest)[DeliveryRate]
		}
		if result.Binary == 1 {
			first[result.Name()] = result.Median
		} else if result.Binary > 1 {
			result.Ratios = result.Median.ratios(first[result.Name()])
		}
	}
	place := map[string]int{}
	for _, result := range r.Results {
		if _, ok := place[result.Name()]; !ok {
			place[result.Name()] = len(place)
		}
	}
	slices.SortStableFunc(r.Results, func(a, b *Result) int { return place[a.Name()] - place[b.Name()] })
}

// medians are those of each figure; of what counts faults, the worst.
func medians(runs []Figures) Figures {
	values := map[string][]float64{}
	for _, run := range runs {
		for name, value := range run {
			values[name] = append(values[name], value)
		}
	}
	out := Figures{}
	for name, v := range values {
		slices.Sort(v)
		out[name] = (v[(len(v)-1)/2] + v[len(v)/2]) / 2
		if slices.Contains(faults, name) {
			out[name] = v[len(v)-1]
		}
	}
	return out
}

// ratios are those of f to the figures of base, where both are above 0. Counts have none.
func (f Figures) ratios(base Figures) Figures {
	out := Figures{}
	for name := range maps.Keys(f) {
		if f[name] > 0 && base[name] > 0 && !slices.Contains(counts, name) {
			out[name] = f[name] / base[name]
		}
	}
	return out
}
