package dispatcher

import "time"

// lingers is how long a company without work stays in the index after its last event: waking it costs its next event two round trips.
const lingers = time.Minute

// rounds is what the reconciler remembers from one round to the next. It belongs to its goroutine.
type rounds struct {
	clock   clockWatch
	peers   *peers
	trimmed time.Time // when the last one that trimmed began

	all    bool      // the index may lack companies: the next round goes over all names
	filed  bool      // one of these did, and shared them with nobody
	looked time.Time // when processes of an older level were looked for last
	old    bool      // there were some

	still   map[string]stillness // companies in the index without work
	lingers time.Duration
	walk    walk

	certificates certificatesLook
}

// A stillness is what a company looked like when it was first found without work.
type stillness struct {
	version, newest string
	epoch           int64
	since           time.Time
}

// A walk remembers how far it is. It is lost with its process, and begins anew.
type walk struct {
	left     []string // of the names that were read
	place    uint64   // where to read on
	began    time.Time
	underWay bool
}

// A certificatesLook remembers how far a look through the client certificates is.
type certificatesLook struct {
	began    time.Time
	place    int
	underWay bool
}

func newRounds(p *peers) *rounds {
	return &rounds{peers: p, all: true, still: make(map[string]stillness), lingers: lingers}
}
