package egress

import (
	"container/list"
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
	// hosts take turns. However busy a host is, its new address, drained balancer or changed certificate is seen within that time. At a request
	// a second, a handshake in two minutes costs nothing.
	longestLife = 4 * time.Minute

	// maxHosts bounds how many hosts are remembered, at a few hundred bytes each. A host that is forgotten gets new connections, which does no harm.
	maxHosts = 10_000

	// limitKept is how long a learnt idle limit is believed. Meanwhile nothing can contradict it.
	limitKept = 10 * time.Minute
)

// hosts remembers of each host, port and TLS identity which of the connections may take a request, and how long the host keeps an idle one.
//
// The connections that net/http keeps for a host make up a generation. net/http cannot leave some of its connections alone, so the next
// generation does it. New requests go to connections of their own. The connections of the generation before finish their requests, and leave the
// pool as idle ones do. net/http tells generations apart because it keeps connections by host and port, and the port that it sees has the
// generation's number before it. [dialled] takes the number off again.
type hosts struct {
	mu     sync.Mutex
	known  map[string]*list.Element // of *host, by name
	recent *list.List               // the last used first
	last   uint64                   // the generation begun last, over all hosts: none comes twice
}

// A host is one of those that are remembered.
type host struct {
	name       string // host:port, and the identity's key, if there is one
	addr       string // host:port
	generation generation
	born, ends time.Time // of the generation
	idle       idleLimit
}

// A generation names the connections that belong to it.
type generation struct {
	name   string // the host's, with the identity's key
	number uint64
	pool   string // the name under which net/http keeps the connections
}

func newHosts() *hosts { return &hosts{known: make(map[string]*list.Element), recent: list.New()} }

// current returns the generation that a request goes to: of the host's connections with that identity.
func (h *hosts) current(hostname string, port uint16, identity string) generation {
	addr := hostname + ":" + strconv.Itoa(int(port))
	name := addr
	if identity != "" {
		name += " " + identity
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	place, known := h.known[name]
	if !known {
		place = h.recent.PushFront(&host{name: name, addr: addr})
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

// begin begins the next generation of it. The caller holds h.mu.
func (h *hosts) begin(it *host, now time.Time) {
	h.last++
	colon := strings.LastIndexByte(it.addr, ':')
	port := "0000" + it.addr[colon+1:]
	it.generation = generation{it.name, h.last, it.addr[:colon+1] + strconv.FormatUint(h.last, 10) + port[len(port)-portDigits:]}
	it.born, it.ends = now, now.Add(longestLife/2+rand.N(longestLife/2)) //nolint:gosec // jitter is no secret
}

// portDigits is how many digits at the end of net/http's port are the port.
const portDigits = 5

// dialled returns the address that a pool's name stands for.
func dialled(pool string) string {
	name, digits, err := net.SplitHostPort(pool)
	if err != nil || len(digits) <= portDigits {
		return pool
	}
	return net.JoinHostPort(name, strings.TrimLeft(digits[len(digits)-portDigits:], "0"))
}

// leave ends a generation after one of its connections has turned out to be of no use. If it has ended already, and the next one began within
// the last young, that one is good enough.
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

// closedIdle learns that a host closed a connection that nobody had used for so long.
func (h *hosts) closedIdle(name string, idle time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if place, known := h.known[name]; known {
		place.Value.(*host).idle.closed(idle, time.Now())
	}
}

// keep is how long a connection may be kept without use after an answer with these headers. It is a quarter less than the host said or was seen
// to allow, for the next request needs time to get there. If nothing is known, ok is false.
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

// An idleLimit is learnt from two connections that were closed after about the same time without use, but not at the same moment. A host that
// restarts closes all its connections at one moment, and each was idle for as long as chance would have it.
type idleLimit struct {
	seen     time.Duration
	seenAt   time.Time // zero: none was
	learnt   time.Duration
	learntAt time.Time // zero: nothing is
}

// closed learns from one more connection.
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

// limit returns the limit that was learnt, if it is still believed.
func (l *idleLimit) limit(now time.Time) (limit time.Duration, ok bool) {
	return l.learnt, !l.learntAt.IsZero() && now.Sub(l.learntAt) < limitKept
}
