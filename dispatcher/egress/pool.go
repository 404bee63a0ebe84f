package egress

import (
	"container/list"
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// longestLife is how long a connection is given new requests at most. Half of it is the least, and chance decides between them, so that
	// hosts take turns. A host's new address, a drained balancer or a changed certificate is seen within that time however busy the host is;
	// at a request a second, a handshake in two minutes costs nothing.
	longestLife = 4 * time.Minute

	// maxHosts bounds what is remembered: a few hundred bytes a host. One that is forgotten gets new connections, and no harm comes of that.
	maxHosts = 10_000

	// limitKept is how long a learnt idle limit is believed. While it is, nothing can contradict it.
	limitKept = 10 * time.Minute
)

// hosts remembers of each host and port which of its connections may take a request, and how long it keeps an idle one.
//
// The connections that net/http keeps for a host make up a generation. What net/http cannot do, to leave some of its connections alone, is
// done by the next generation: new requests go to connections of their own, and those of the generation before finish what they are at and
// leave the pool as idle ones do. net/http tells generations apart because it keeps connections by host and port, and the port
// that it sees has the generation's number before it ([dialled] takes it off again).
type hosts struct {
	mu     sync.Mutex
	known  map[string]*list.Element // of *host, by name
	recent *list.List               // the last used first
	last   uint64                   // the generation begun last, over all hosts: none comes twice
}

// A host is one of them.
type host struct {
	name       string // host:port
	generation generation
	born, ends time.Time // of the generation
	idle       idleLimit
}

// A generation is what the connections of one are known by.
type generation struct {
	name   string // the host's
	number uint64
	pool   string // what net/http keeps the connections under
}

func newHosts() *hosts { return &hosts{known: make(map[string]*list.Element), recent: list.New()} }

// current returns the generation that a request goes to.
func (h *hosts) current(hostname string, port uint16) generation {
	name := hostname + ":" + strconv.Itoa(int(port))
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	place, known := h.known[name]
	if !known {
		place = h.recent.PushFront(&host{name: name})
		h.known[name] = place
		if h.recent.Len() > maxHosts {
			delete(h.known, h.recent.Remove(h.recent.Back()).(*host).name)
		}
	} else {
		h.recent.MoveToFront(place)
	}
	it := place.Value.(*host)
	if !now.Before(it.ends) {
		h.begin(it, now)
	}
	return it.generation
}

// begin begins it's next generation.
func (h *hosts) begin(it *host, now time.Time) {
	h.last++
	colon := strings.LastIndexByte(it.name, ':')
	port := "0000" + it.name[colon+1:]
	it.generation = generation{it.name, h.last, it.name[:colon+1] + strconv.FormatUint(h.last, 10) + port[len(port)-portDigits:]}
	it.born, it.ends = now, now.Add(longestLife/2+rand.N(longestLife/2)) //nolint:gosec // jitter is no secret
}

// portDigits is how many digits of what net/http takes for the port are the port.
const portDigits = 5

// dialer makes of dial what opens the pools' connections.
func (h *hosts) dialer(dial dialFunc) dialFunc {
	return func(ctx context.Context, network, pool string) (net.Conn, error) {
		addr := dialled(pool)
		opened, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return newConn(opened, func(after time.Duration) { h.closedIdle(addr, after) }), nil
	}
}

// dialled returns the address that a pool's name stands for.
func dialled(pool string) string {
	name, digits, err := net.SplitHostPort(pool)
	if err != nil || len(digits) <= portDigits {
		return pool
	}
	return net.JoinHostPort(name, strings.TrimLeft(digits[len(digits)-portDigits:], "0"))
}

// leave ends g, a connection of which has turned out to be of no use, unless it has ended already. The next generation begun within the last
// young is good enough.
func (h *hosts) leave(g generation, young time.Duration) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	place, known := h.known[g.name]
	if !known {
		return
	}
	if it := place.Value.(*host); it.generation.number == g.number || now.Sub(it.born) > young {
		h.begin(it, now)
	}
}

// closedIdle learns that the host of that name closed a connection that nobody had used for that long.
func (h *hosts) closedIdle(name string, idle time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place, known := h.known[name]; known {
		place.Value.(*host).idle.closed(idle, time.Now())
	}
}

// keep is how long a connection may be kept without use after an answer with these headers: a quarter less than what the host said or was seen
// to do, for the next request needs time to get there. Not ok if nothing is known.
func (h *hosts) keep(name string, header http.Header) (limit time.Duration, ok bool) {
	limit, ok = keepAlive(header)
	h.mu.Lock()
	defer h.mu.Unlock()
	if place, known := h.known[name]; known {
		if learnt, is := place.Value.(*host).idle.limit(time.Now()); is && (!ok || learnt < limit) {
			limit, ok = learnt, true
		}
	}
	return limit / 4 * 3, ok
}

// keepAlive reads what a host says about its idle limit: "Keep-Alive: timeout=5, max=100" (RFC 2068, 19.7.1.1; nginx, Apache and Node send it).
func keepAlive(header http.Header) (limit time.Duration, ok bool) {
	for field := range strings.SplitSeq(header.Get("Keep-Alive"), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		if seconds, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31); err == nil && strings.EqualFold(strings.TrimSpace(name), "timeout") {
			return time.Duration(seconds) * time.Second, true
		}
	}
	return 0, false
}

// An idleLimit is learnt from two connections that were closed after about the same time, and not at the same time: one that restarts closes
// all it has, and each of them was idle for as long as chance would have it.
type idleLimit struct {
	seen     time.Duration
	seenAt   time.Time // zero: none was
	learnt   time.Duration
	learntAt time.Time // zero: nothing is
}

func (l *idleLimit) closed(idle time.Duration, now time.Time) {
	const atOnce, slack = time.Second, 20 * time.Millisecond
	if !l.seenAt.IsZero() && now.Sub(l.seenAt) < atOnce {
		l.seen = max(l.seen, idle)
		return
	}
	if apart := (l.seen - idle).Abs(); !l.seenAt.IsZero() && apart <= max(slack, max(l.seen, idle)/4) {
		l.learnt, l.learntAt = min(l.seen, idle), now
	}
	l.seen, l.seenAt = idle, now
}

func (l *idleLimit) limit(now time.Time) (limit time.Duration, ok bool) {
	return l.learnt, !l.learntAt.IsZero() && now.Sub(l.learntAt) < limitKept
}
