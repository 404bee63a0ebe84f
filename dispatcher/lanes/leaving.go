package lanes

import (
	"sync"
	"time"
)

const (
	// lookAround is how often the lanes above the number are looked at.
	lookAround = 10 * time.Second
	// emptyFor is how long such a lane has to be empty, whenever it is looked at, until nobody looks into it any more: far longer than a process that can ask
	// Redis goes by an old number. What another one brings there later, the reconciler brings anew.
	emptyFor = 3 * time.Minute
)

// leaving remembers since when the lanes above the number are empty, by this process's clock.
type leaving struct {
	mu     sync.Mutex
	looked time.Time
	count  int               // of the number that it is about
	empty  map[int]time.Time // since when, by the lane's number
}

// due reports whether it is time to look, and takes the turn.
func (l *leaving) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.looked) < lookAround {
		return false
	}
	l.looked = time.Now()
	return true
}

// saw takes note of which of the lanes above the number are empty, and returns up to which they have to be looked into yet.
func (l *leaving) saw(n number, empty []bool) (high int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count != n.count || l.empty == nil {
		l.count, l.empty = n.count, make(map[int]time.Time)
	}
	high = n.count
	for i, is := range empty {
		lane := n.count + i
		since, was := l.empty[lane]
		switch {
		case !is:
			delete(l.empty, lane)
		case !was:
			l.empty[lane] = time.Now()
		case time.Since(since) >= emptyFor:
			continue
		}
		high = lane + 1
	}
	return high
}
