package dispatcher

import (
	"strconv"
	"sync"
	"time"
)

// An expiryStage is how many days before its end a client certificate is told of.
type expiryStage int

// expiryStages are all of them, the nearest first. The first is one that has ended.
var expiryStages = []expiryStage{0, 1, 7, 30}

// String is the stage as metrics and logs have it.
func (s expiryStage) String() string { return strconv.Itoa(int(s)) + "d" }

func (s expiryStage) within() time.Duration { return time.Duration(s) * 24 * time.Hour }

// expiryStageOf is the nearest stage that a certificate is in which is good for so long. ok is false if it is in none.
func expiryStageOf(left time.Duration) (stage expiryStage, ok bool) {
	for _, stage := range expiryStages {
		if left <= stage.within() {
			return stage, true
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
