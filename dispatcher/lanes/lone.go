package lanes

import (
	"sync"
	"time"
)

// loneFor is how long after something of another company a company is alone.
const loneFor = time.Second

// A Lone knows whether one company has a process for itself: then nobody waits for it, and nothing is to be shared.
type Lone struct {
	mu     sync.Mutex
	latest string    // the company that had something to do last
	other  time.Time // when another one had
}

// Note says that a company has something to do.
func (l *Lone) Note(company string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if company != l.latest {
		l.latest, l.other = company, time.Now()
	}
}

// Is reports whether the company that had something to do last is alone.
func (l *Lone) Is() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Since(l.other) > loneFor
}
