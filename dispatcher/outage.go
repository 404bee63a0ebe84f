package dispatcher

import (
	"cmp"
	"container/list"
	"context"
	"log/slog"
	"maps"
	"net/url"
	"sync"
	"time"
)

const (
	// outageSight is for how long what became of a destination's last attempt tells how our own way out is.
	outageSight = time.Minute
	// outageMemory is how lately a destination must have been reached for it to tell anything by not being reached.
	outageMemory = time.Hour
	// outageLeast is how many destinations it takes to tell.
	outageLeast = 4
)

// An outage is one of our own way out: rarely are most partners down at once. While at least four destinations (host and port) were tried in
// the last minute, and more than half of them could not be reached the last time, that a destination cannot be reached says nothing about
// its partner. A destination that was not reached in the hour before, or in the hour before the outage began, has no vote: it may be dead for good, or
// never have been there. Each process judges by its own attempts.
type outage struct {
	log *slog.Logger

	mu      sync.Mutex
	seen    map[string]*list.Element // by destination
	byTime  list.List                // of *sight, oldest first
	failing int                      // how many of them
	reached map[string]time.Time     // by destination, the last time
	swept   time.Time                // when reached lost what has no vote any more
	since   time.Time                // zero: there is none
}

// A sight is what became of the last attempt to a destination.
type sight struct {
	destination string
	at          time.Time
	unreached   bool
}

// note takes the outcome of an attempt that tells whether its URL's destination can be reached (see [verdict.Blame.Sight]). It reports whether it is our
// own fault that nobody was reached.
func (o *outage) note(ctx context.Context, url string, unreached bool) bool {
	destination := destinationOf(url)
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if !unreached {
		o.reach(destination, now)
	}
	o.see(sight{destination, now, unreached})
	return o.look(ctx, now) && unreached
}

// under reports whether there is one.
func (o *outage) under(ctx context.Context) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.look(ctx, time.Now())
}

// seenBy is under, and what is known of it: since when, by this machine's clock, and of how many destinations how many could not be reached.
func (o *outage) seenBy(ctx context.Context) (is bool, since time.Time, destinations, unreached int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	is = o.look(ctx, time.Now())
	return is, o.since, o.byTime.Len(), o.failing
}

func (o *outage) see(s sight) {
	if o.seen == nil {
		o.seen = make(map[string]*list.Element)
	}
	if e := o.seen[s.destination]; e != nil {
		o.drop(e)
	}
	if !o.votes(s.destination, s.at) {
		return
	}
	o.seen[s.destination] = o.byTime.PushBack(s)
	if s.unreached {
		o.failing++
	}
}

func (o *outage) reach(destination string, now time.Time) {
	if now.Sub(o.swept) > outageMemory {
		maps.DeleteFunc(o.reached, func(d string, _ time.Time) bool { return !o.votes(d, now) })
		o.swept = now
	}
	if o.reached == nil {
		o.reached = make(map[string]time.Time)
	}
	o.reached[destination] = now
}

// votes reports whether a destination was reached lately, or, in an outage, before that.
func (o *outage) votes(destination string, now time.Time) bool {
	if !o.since.IsZero() {
		now = o.since
	}
	at, ok := o.reached[destination]
	return ok && now.Sub(at) <= outageMemory
}

func (o *outage) drop(e *list.Element) {
	s, _ := o.byTime.Remove(e).(sight)
	delete(o.seen, s.destination)
	if s.unreached {
		o.failing--
	}
}

// look judges, and logs where it begins and ends. The caller holds the lock.
func (o *outage) look(ctx context.Context, now time.Time) bool {
	for e := o.byTime.Front(); e != nil && now.Sub(e.Value.(sight).at) > outageSight; e = o.byTime.Front() { //nolint:forcetypeassert // it holds nothing else
		o.drop(e)
	}
	is := o.byTime.Len() >= outageLeast && 2*o.failing > o.byTime.Len()
	switch {
	case is && o.since.IsZero():
		o.since = now
		o.log.ErrorContext(ctx, "most destinations cannot be reached: our own network, firewall or name servers are to blame; until that is over, failures do not count towards disabling",
			"destinations", o.byTime.Len(), "unreached", o.failing)
	case !is && !o.since.IsZero():
		o.log.InfoContext(ctx, "most destinations can be reached again, or none was tried", "after", now.Sub(o.since).Round(time.Second).String())
		o.since = time.Time{}
	}
	return is
}

// destinationOf is a URL's host and port.
func destinationOf(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Hostname() + ":" + cmp.Or(u.Port(), u.Scheme)
}
