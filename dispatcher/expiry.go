package dispatcher

import (
	"sync"
	"time"
)

// expiryStages are how long before its end a client certificate is told of, the nearest first. The first is one that has ended.
var expiryStages = []struct {
	within time.Duration
	name   string
}{{0, "0d"}, {24 * time.Hour, "1d"}, {7 * 24 * time.Hour, "7d"}, {30 * 24 * time.Hour, "30d"}}

// expiryStage names the nearest stage that a certificate is in which is good for so long. Empty: in none.
func expiryStage(left time.Duration) string {
	for _, stage := range expiryStages {
		if left <= stage.within {
			return stage.name
		}
	}
	return ""
}

// expiryDays is the nearest step, in days, that a certificate is within which is good for so long; 0: it has ended. ok is false if it is within none.
func expiryDays(left time.Duration) (days int, ok bool) {
	for _, stage := range expiryStages {
		if left <= stage.within {
			return int(stage.within / (24 * time.Hour)), true
		}
	}
	return 0, false
}

// maxExpiriesTold bounds how many certificates are remembered as told of. Beyond that they are told of once more.
const maxExpiriesTold = 10_000

// expiries remembers of which certificates this process has told, and of which stage.
type expiries struct {
	mu   sync.Mutex
	told map[string]bool
}

// first reports whether nobody was told of this yet.
func (e *expiries) first(what string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.told[what] {
		return false
	}
	if e.told == nil || len(e.told) >= maxExpiriesTold {
		e.told = make(map[string]bool)
	}
	e.told[what] = true
	return true
}
