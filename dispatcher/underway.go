package dispatcher

import "sync"

// maxAsked is how many decisions of one type a process waits for on behalf of one company: a partner that hangs must not take the
// connections of all others.
const maxAsked = 200

// underWay counts what is under way, by name.
type underWay struct {
	mu sync.Mutex
	n  map[string]int
}

// take counts one more, until done is called; not beyond maxAsked.
func (u *underWay) take(name string) (done func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n[name] >= maxAsked {
		return nil, false
	}
	if u.n == nil {
		u.n = make(map[string]int)
	}
	u.n[name]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.n[name]--; u.n[name] == 0 {
			delete(u.n, name)
		}
	}, true
}
