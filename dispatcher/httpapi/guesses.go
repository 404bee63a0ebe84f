package httpapi

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// An address may present wrongKeys unknown keys, or else, at once, more than anybody tries by hand, and one more each second.
	wrongKeys     = 100
	wrongKeyEvery = time.Second
	// maxGuessers bounds the memory. The addresses that have been quiet are forgotten first. If they are too few, all are.
	maxGuessers = 4096
)

// Guesses remember which addresses presented what is unknown: API keys, portal links, tickets or, in a memory of their own, companies. The zero value remembers nothing yet. Safe for concurrent use.
type Guesses struct {
	mu  sync.Mutex
	met map[netip.Prefix]*rate.Limiter
}

// Unknown is told of a request that presents something unknown. If its address has presented too much of that, Unknown says how long it has to wait;
// else it returns 0.
func (g *Guesses) Unknown(r *http.Request) (wait time.Duration) {
	from := sourceOf(r)
	if wait = g.wait(from); wait == 0 {
		g.note(from)
	}
	return wait
}

// note remembers something unknown from an address.
func (g *Guesses) note(from netip.Prefix) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.met[from] == nil {
		if len(g.met) >= maxGuessers {
			maps.DeleteFunc(g.met, func(_ netip.Prefix, l *rate.Limiter) bool { return l.Tokens() >= wrongKeys })
		}
		if len(g.met) >= maxGuessers || g.met == nil {
			g.met = map[netip.Prefix]*rate.Limiter{}
		}
		g.met[from] = rate.NewLimiter(rate.Every(wrongKeyEvery), wrongKeys)
	}
	g.met[from].Allow()
}

// wait is how long an address has to wait before it may present something unknown again.
func (g *Guesses) wait(from netip.Prefix) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	l := g.met[from]
	if l == nil {
		return 0
	}
	missing := 1 - l.Tokens()
	return max(0, time.Duration(missing*float64(wrongKeyEvery)))
}

// sourceOf is the address that a request comes from. Of an IPv6 address it is the 64 bits that a subscriber gets. Forwarding headers are not
// looked at: their sender may write into them any address.
func sourceOf(r *http.Request) netip.Prefix {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Prefix{} // a Unix socket, for example: all are one address
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	from, _ := addr.Prefix(bits) // bits are never too many
	return from
}
