package httpapi

import (
	"sync"
	"time"
)

// logShedEvery is how often a line is logged about requests that were turned away.
const logShedEvery = 10 * time.Second

// shedLog counts the requests that were turned away since the last line about them: under load there are thousands.
type shedLog struct {
	mu    sync.Mutex
	next  time.Time // no line before
	count int
}

// note counts one more request. If a line about them is due, it returns how many there were, and counts anew.
func (l *shedLog) note(now time.Time) (count int, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if now.Before(l.next) {
		return 0, false
	}
	count = l.count
	l.next, l.count = now.Add(logShedEvery), 0
	return count, true
}
