package dispatcher

import (
	"context"
	"sync"
	"time"
)

// greed bounds the places of a company: it may have so many times as many as it leaves free. So one company alone has most of them and several share. A
// customer with thousands of callbacks keeps nobody waiting.
const greed = 3

// shares are a number of attempts that may be under way at a time, their places, as the companies share them.
type shares struct {
	mu     sync.Mutex
	places int
	free   int            // below zero while more are taken than there are by now
	taken  map[string]int // by company
}

func newShares(places int) *shares {
	return &shares{places: places, free: places, taken: make(map[string]int)}
}

// resize has there be so many places. Of those that are taken, those above it are not given out again.
func (s *shares) resize(places int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free += places - s.places
	s.places = places
}

// enter takes a place, if there is one for the company.
func (s *shares) enter(company string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken[company] >= greed*s.free {
		return false
	}
	s.free--
	s.taken[company]++
	return true
}

// await takes a place, and waits so long for it at most.
func (s *shares) await(ctx context.Context, company string, wait time.Duration) bool {
	for end := time.Now().Add(wait); !s.enter(company); {
		if ctx.Err() != nil || !time.Now().Before(end) {
			return false
		}
		timer := time.NewTimer(wait / 10)
		<-timer.C
	}
	return true
}

func (s *shares) leave(company string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free++
	if s.taken[company]--; s.taken[company] == 0 {
		delete(s.taken, company)
	}
}

// crowded reports whether a company has so many places that it would get no other, and more than one.
func (s *shares) crowded(company string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.taken[company] > max(1, greed*s.free-1)
}
