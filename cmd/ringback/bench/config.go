package bench

import (
	"crypto/tls"
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

func (c *Config) say(format string, a ...any) {
	if c.Say != nil {
		c.Say(format, a...)
	}
}
