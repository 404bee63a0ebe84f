package httpapi

import (
	"fmt"
	"net/http"
	"sync"
)

// maxStreams is how many streams a process serves, and keyStreams how many of them one key may have. Each takes a connection, and some 30 KiB.
const maxStreams, keyStreams = 1000, 100

// streams counts those that are served.
type streams struct {
	mu   sync.Mutex
	all  int
	keys map[string]int // by the key's id, while it has any
}

// enter counts a stream of a key. The caller calls leave at its end.
func (s *streams) enter(key string) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.keys[key] >= keyStreams:
		return nil, tooManyStreams("this key has %d streams open, as many as one key may have: close one, or read several callbacks' deliveries in one", keyStreams)
	case s.all >= maxStreams:
		return nil, tooManyStreams("this process serves %d streams, as many as it may: try again in a moment, or read the list of deliveries", maxStreams)
	}
	if s.keys == nil {
		s.keys = make(map[string]int)
	}
	s.all, s.keys[key] = s.all+1, s.keys[key]+1
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all--
		if s.keys[key]--; s.keys[key] == 0 {
			delete(s.keys, key)
		}
	}, nil
}

func tooManyStreams(detail string, most int) error {
	return &refusal{status: http.StatusTooManyRequests, shed: true, detail: fmt.Sprintf(detail, most), header: retryIn(retryAfter)}
}
