// Package bench measures Ringback from outside: how fast it is, what it costs, and whether anything is missing.
//
// It drives a program over HTTP only, so it can measure any version, and several by turns. [Run] does that for each scenario on
// an installation of its own: a Redis, a `ringback serve`, and a receiver and senders in this process. Or it measures an installation that is
// there already, of which it sees neither processes nor Redis.
//
// A scenario consists of phases, each with figures of its own. Each phase has a book: the list of all arrivals it expects. A phase ends when its
// book is full, or when the scenario's time is over. The arrivals that the book lacks then are missing.
package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

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

// chosen are the scenarios that are wanted, in their own order.
func (c *Config) chosen() []scenario {
	if len(c.Scenarios) == 0 {
		return scenarios
	}
	return slices.DeleteFunc(slices.Clone(scenarios), func(s scenario) bool { return !slices.Contains(c.Scenarios, s.name) })
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
