package lanes

import (
	"sync/atomic"
	"time"
)

// HaltLook is for how long a process goes on once it has seen that no lane is paused. Before each attempt begins it asks itself, for asynq may have
// given it the task just before the pause, and what goes on in a chain, begins as it is accepted, or is asked or tested, comes out of no lane. If
// the beginning took longer than this, it asks again, and takes back what has begun.
const HaltLook = 250 * time.Millisecond

// stopped is what a process knows of the lanes that are paused. One caller looks, the others go on with what was seen last.
type stopped struct {
	last   atomic.Pointer[look]
	asking atomic.Bool
}

// A look is what somebody saw.
type look struct {
	at     time.Time            // before which it was so; of one that failed, when it did
	since  map[string]time.Time // by lane; of one that failed, as the look before
	failed bool
}

// holds reports whether nobody has to look anew: that a lane is paused is asked each time, so that a resume is seen at once.
func (l *look) holds() bool {
	return l != nil && time.Since(l.at) < HaltLook && (l.failed || len(l.since) == 0)
}
