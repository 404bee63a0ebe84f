package lanes

import (
	"sync"
	"time"
)

// lostAfter is how long after a task came out of a lane it is given up on its way to the handler: asynq could not read it.
const lostAfter = time.Minute

// places bound how many tasks of a lane a process works on at a time. asynq's servers cannot change how many they take, so they may take more than there
// will ever be, and take a place first.
type places struct {
	within *places // of which each is one, too; nil: of none

	mu     sync.Mutex
	most   int
	taken  int           // by who asks for a task, or has one that is on its way to the handler
	worked int           // by tasks that the handler has
	last   time.Time     // when one was taken
	freed  chan struct{} // closed when there may be one again; nil: nobody waits
}

// take takes a place. If there is none, it returns what is closed when there may be one.
func (p *places) take() (freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if freed := p.room(); freed != nil {
		return freed
	}
	if p.within != nil {
		if freed := p.within.take(); freed != nil {
			return freed
		}
	}
	p.taken++
	p.last = time.Now()
	return nil
}

// full returns what is closed when there may be a place again, or nil if there is one.
func (p *places) full() (freed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if freed := p.room(); freed != nil || p.within == nil {
		return freed
	}
	return p.within.full()
}

func (p *places) room() <-chan struct{} {
	if p.taken > 0 && time.Since(p.last) >= lostAfter {
		p.taken = 0
	}
	if p.taken+p.worked < p.most {
		return nil
	}
	if p.freed == nil {
		p.freed = make(chan struct{})
	}
	return p.freed
}

// giveBack is called by who took a place and got no task.
func (p *places) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.within != nil {
		p.within.giveBack()
	}
	p.arrive()
	p.free()
}

// begin is called by a task that has come to the handler, and end by one that has been worked on.
func (p *places) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.within != nil {
		p.within.begin()
	}
	p.arrive()
	p.worked++
}

func (p *places) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.within != nil {
		p.within.end()
	}
	p.worked--
	p.free()
}

// arrive ends the way of a task: at the handler, or before it came out of the lane.
func (p *places) arrive() { p.taken = max(0, p.taken-1) }

func (p *places) free() {
	if p.freed != nil {
		close(p.freed)
		p.freed = nil
	}
}

// resize has there be so many. Of those that are taken, those above it go as their tasks end.
func (p *places) resize(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = most
	p.free()
}
