package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Those who watch a company's deliveries hear of each change within a moment. Steps that change a delivery note that in a short stream of the company,
// {c}:live, as long as somebody watches it. A process looks into the streams of all companies that it has watchers of, in one round trip, reads the
// deliveries in question, and hands them to its watchers. So what watching costs does not grow with who watches, and has a bound: what changes faster is
// handed over later, and what the stream no longer has is a gap. Where that happens and nobody is choosy, the first changes of each second are told from
// then on, and that there were more.
const (
	// liveEvery is how often a process looks.
	liveEvery = 250 * time.Millisecond
	// liveReads is how many deliveries it reads in a look for all watchers together: 128 a second, far more than anybody reads.
	liveReads = 32
	// liveChanges is how many changes it goes through in a look at a place in a company's news. Only those that somebody wants to hear of are read.
	liveChanges = 1024
	// liveUnread is how many times as many changes as are read it goes through where nobody is choosy: one delivery often changes several times.
	liveUnread = 2
	// liveChangesAll bounds those of all places together: some milliseconds of Redis's time. Who comes back stands at a place of its own until it has caught up,
	// and whoever watches chooses where.
	liveChangesAll = 4096
	// livePlaces is how many places in the news of companies it looks at in one round trip. Where there are more, they take turns.
	livePlaces = 256
	// liveRest is how long it does not look at a place where far more changes than anybody reads. Most of that is not even told (watch.lua).
	liveRest = time.Second
	// liveBegin is how long a watcher waits until it is known that changes are told.
	liveBegin = 3 * time.Second
)

// live hands changes to those who watch. A goroutine looks for changes while there is anybody.
type live struct {
	*guard
	*watching
	ledger  *ledger.Ledger
	dropped metric.Int64Counter
	known   func(ctx context.Context, company string) (bool, error)
	read    func(ctx context.Context, company string, refs []ledger.Ref) (map[string]*Delivery, error) // by id; those that are gone are missing
	look    chan struct{}                                                                              // somebody came: look at once

	stop context.CancelFunc // ends the goroutine; nil: there is none. watching.mu guards it
	done sync.WaitGroup
	away bool // the last look failed

	flooded map[string]time.Time // the goroutine's: companies in which far more changes than anybody reads, and when to look again
}

// watch begins to watch. It returns once changes are told, or there is nothing of the company that could.
func (l *live) watch(ctx context.Context, q WatchQuery) (*Watch, error) {
	w := &Watch{all: l.watching, query: q, inside: ctx.Value(unmaskedKey{}) != nil, changed: make(chan struct{}, 1), begun: make(chan struct{})}
	if at, ok := ledger.ParsePlace(q.After); ok {
		w.at = at
	} else {
		w.lost = true // it is no place of ours: what was missed is not known
		w.tell()
	}
	if err := l.enter(w); err != nil { //nolint:contextcheck // who looks does so for all who watch
		return nil, err
	}
	timer := time.NewTimer(liveBegin)
	defer timer.Stop()
	select {
	case <-w.begun:
	case <-timer.C:
		w.fail(context.DeadlineExceeded)
	case <-ctx.Done():
		w.fail(ctx.Err())
	}
	l.mu.Lock()
	err := w.err
	l.mu.Unlock()
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// enter lists a watch, and has somebody look.
func (l *live) enter(w *Watch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return ErrEnding
	}
	l.watches[w] = true
	if l.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		l.stop = stop
		l.done.Go(func() { l.run(ctx) })
	}
	select {
	case l.look <- struct{}{}:
	default:
	}
	return nil
}

// end ends all watches, and lets nobody watch any more.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	if l.stop != nil {
		l.stop()
	}
	for w := range l.watches {
		w.tell()
	}
}

// close is end, and waits for the goroutine.
func (l *live) close() {
	l.end()
	l.done.Wait()
}

// run looks until nobody watches.
func (l *live) run(ctx context.Context) {
	for {
		if ctx.Err() != nil || !l.anybody() {
			return
		}
		_ = l.contain(ctx, placeLive, func() error { return l.lookAround(ctx) })
		timer := time.NewTimer(liveEvery)
		select {
		case <-l.look:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// anybody reports whether somebody watches. If not, the goroutine is over.
func (l *live) anybody() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watches) > 0 {
		return true
	}
	l.stop()
	l.stop = nil
	return false
}

// A gathering are the watches that stand at one place of a company's news, and see the same of it.
type gathering struct {
	company string
	inside  bool
	at      ledger.Place
}

// gather is who watches, by where they stand.
func (l *live) gather() map[gathering][]*Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[gathering][]*Watch)
	for w := range l.watches {
		g := gathering{w.query.Company, w.inside, w.at}
		all[g] = append(all[g], w)
	}
	return all
}

// changesAt is how many changes a look goes through at each of so many places.
func changesAt(places int) int { return min(liveChanges, liveChangesAll/places) }

// lookAround looks once at all places where somebody stands.
func (l *live) lookAround(ctx context.Context) error {
	all := l.gather()
	places := l.awake(all)
	if len(places) == 0 {
		return nil
	}
	looks := make([]ledger.Look, len(places))
	for i, p := range places {
		_, flooded := l.flooded[p.company]
		looks[i] = ledger.Look{Company: p.company, From: p.at, Most: changesAt(len(places)), Flooded: flooded}
		if looks[i].Narrow = slices.ContainsFunc(all[p], func(w *Watch) bool { return w.query.narrow() }); !looks[i].Narrow {
			looks[i].Most = min(looks[i].Most, liveUnread*liveReads)
		}
	}
	seen, err := l.ledger.Watch(ctx, looks)
	budget, first := liveReads, err
	for i, p := range places {
		if err == nil && seen[i].Err == nil && !seen[i].Watched {
			seen[i] = l.begin(ctx, looks[i])
		}
		failed := err
		if failed == nil {
			failed = seen[i].Err
		}
		if failed == nil {
			share := max(1, budget/(len(places)-i))
			var used int
			used, failed = l.serve(ctx, p, all[p], seen[i], share)
			budget -= used
		}
		if failed == nil {
			continue
		}
		first = cmp.Or(first, failed)
		for _, w := range all[p] {
			w.fail(failed)
		}
	}
	l.note(ctx, first)
	return nil
}

// awake are the places to look at now: all but those where far more changes than anybody reads, and it looked a moment ago.
func (l *live) awake(all map[gathering][]*Watch) (places []gathering) {
	now := time.Now()
	for company, again := range l.flooded {
		if now.Sub(again) > liveRest { // nobody watches it any more
			delete(l.flooded, company)
		}
	}
	for p := range all { // in no order: so each has its turn
		if p.at == (ledger.Place{}) || !now.Before(l.flooded[p.company]) {
			places = append(places, p)
		}
	}
	return places[:min(len(places), livePlaces)]
}

// flood remembers whether a look found far more than anybody reads.
func (l *live) flood(company string, flooded bool) {
	if flooded {
		l.flooded[company] = time.Now().Add(liveRest)
	} else {
		delete(l.flooded, company)
	}
}

// note tells the log when looks begin to fail, and when they succeed again.
func (l *live) note(ctx context.Context, err error) {
	if away := err != nil; away != l.away && ctx.Err() == nil {
		l.away = away
		if away {
			l.log.WarnContext(ctx, "who watches deliveries hears nothing as long as redis fails", "error", err)
		} else {
			l.log.InfoContext(ctx, "who watches deliveries hears of them again")
		}
	}
}

// begin begins to watch a company, if there is anything of it. The version is read before the name is looked for: an erasure takes the name away, and then
// raises the version. So nothing is written of a company that is erased.
func (l *live) begin(ctx context.Context, look ledger.Look) ledger.Seen {
	version, err := l.ledger.WatchVersion(ctx, look.Company)
	if err != nil {
		return ledger.Seen{Err: err}
	}
	if known, err := l.known(ctx, look.Company); err != nil || !known {
		return ledger.Seen{Err: err}
	}
	look.Begin = version
	seen, err := l.ledger.Watch(ctx, []ledger.Look{look})
	if err != nil {
		return ledger.Seen{Err: err}
	}
	return seen[0]
}

// serve hands what was seen to those who stand at a place, and moves them on. It reads so many deliveries at most, and returns how many it read.
func (l *live) serve(ctx context.Context, p gathering, who []*Watch, seen ledger.Seen, most int) (used int, err error) {
	if !seen.Watched || !seen.Whole {
		l.move(who, seen, p.at != ledger.Place{})
		return 0, nil
	}
	if p.at != (ledger.Place{}) {
		l.flood(p.company, seen.Flooded)
	}
	changes, refs := l.wanted(who, seen.Changes, most)
	if len(changes) < len(seen.Changes) && !seen.Flooded {
		seen.At = p.at
		if n := len(changes); n > 0 {
			seen.At = changes[n-1].After
		}
	}
	var found map[string]*Delivery
	if len(refs) > 0 {
		if p.inside {
			ctx = Unmasked(ctx)
		}
		found, err = l.read(ctx, p.company, refs)
		switch {
		case errors.Is(err, ledger.ErrBadRecord): // it would be so the next time
			l.move(who, seen, true)
			return len(refs), nil
		case err != nil:
			return 0, err
		}
	}
	var news []*News
	var of []ledger.Change
	for _, c := range changes {
		if d := found[c.DeliveryID()]; d != nil {
			news, of = append(news, &News{Place: c.After.String(), Delivery: d}), append(of, c)
		}
	}
	l.hand(ctx, who, seen, news, of)
	return len(refs), nil
}

// wanted are the first of the changes, as far as so many deliveries are to be read for them, and those.
func (l *live) wanted(who []*Watch, all []ledger.Change, most int) (some []ledger.Change, refs []ledger.Ref) {
	is := make(map[ledger.Ref]bool)
	for i, c := range all {
		if is[c.Ref] || !slices.ContainsFunc(who, func(w *Watch) bool { return w.query.admits(c) }) {
			continue
		}
		if len(refs) == most {
			return all[:i], refs
		}
		is[c.Ref] = true
		refs = append(refs, c.Ref)
	}
	return all, refs
}

// hand gives news to those who want them, and moves all on. Some may have been missed behind them.
func (l *live) hand(ctx context.Context, who []*Watch, seen ledger.Seen, news []*News, of []ledger.Change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	dropped := int64(0)
	for _, w := range who {
		w.begin()
		w.at = seen.At
		for i, n := range news {
			switch {
			case !w.query.admits(of[i]) || !w.query.wants(n.Delivery):
			case w.lost || len(w.queue) >= liveQueue:
				w.lost = true
				dropped++
			default:
				w.queue = append(w.queue, n)
			}
		}
		if w.lost = w.lost || seen.Missed; w.lost || len(w.queue) > 0 {
			w.tell()
		}
	}
	if dropped > 0 {
		l.dropped.Add(ctx, dropped)
	}
}

// move has those who stood at a place go on where news are known from. If they stood at one before, or there was nothing of the company before, they have
// missed what was in between.
func (l *live) move(who []*Watch, seen ledger.Seen, missed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range who {
		if !seen.Watched {
			w.absent, w.at = true, ledger.Place{}
		} else if w.at = seen.At; missed || w.absent {
			w.absent, w.lost = false, true
			w.tell()
		}
		w.begin()
	}
}
