package dispatcher

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// A tour is the work of a round on companies, or of a part of the walk.
type tour struct {
	*Worker
	trim  bool // what ages is looked at, of companies that are awake
	walks bool // of all others, too
	files bool // of companies that are asleep, what there is of them is filed

	ok       bool             // all went well
	missed   bool             // some companies were not looked into, or what there is of them was not filed
	epochs   map[string]int64 // of those in the index
	replayed []string         // companies with replays
	old      []*finding       // companies that have something which grows old
	now      time.Time        // the installation's; zero: it was not read, or cannot be
}

// A finding is what a tour finds of a company.
type finding struct {
	company string
	epoch   int64 // in the index; 0: it is not in it
	ledger.Glance
}

// unclear: something of the company cannot be read, so each part of the work is tried, and says what it is.
func (s *finding) unclear() bool { return s.Err != nil }

// stray tells a company that has work, and would not be found by it: a process of an older level made it, or Redis lost something.
func (s *finding) stray() bool { return s.Work && !s.Awake || (s.Work || s.unclear()) && s.epoch == 0 }

// note does a part of the work. One that fails, or panics, is told of, and the next follows.
func (t *tour) note(ctx context.Context, doing, company string, do func() error) {
	c := t.client
	if err := c.contain(ctx, placeReconciler, do); err != nil && ctx.Err() == nil {
		t.ok = false
		c.log.WarnContext(ctx, "reconciler failed; the next round repeats it", "doing", doing, "company", company, "error", err)
	}
}

// each does something for each company that has a reason.
func (t *tour) each(ctx context.Context, doing string, page []*finding, reason func(*finding) bool, do func(company string) error) {
	for _, s := range page {
		if ctx.Err() != nil {
			return
		}
		if reason(s) {
			t.rounds.peers.goesOn(ctx)
			t.note(ctx, doing, s.company, func() error { return do(s.company) })
		}
	}
}

// serve pumps rooms, sends notices, repairs what is overdue, goes on with replays, and trims what is old. Nothing is made up that cannot be read: without
// the time no room is known to be due. Notices that cannot be sent wait, and nothing waits for them.
func (t *tour) serve(ctx context.Context, companies []string) {
	if len(companies) == 0 {
		return
	}
	first := rand.IntN(len(companies)) //nolint:gosec // each has its turn, which is no secret
	companies = slices.Concat(companies[first:], companies[:first])
	for page := range slices.Chunk(companies, glancePage) {
		if ctx.Err() != nil {
			t.ok, t.missed = false, true
			return
		}
		t.servePage(ctx, t.look(ctx, page))
	}
	until := time.Now().Add(sweepFor)
	for _, company := range t.replayed {
		if !time.Now().Before(until) {
			break
		}
		t.note(ctx, "replaying", company, func() error { return t.client.sweep(ctx, company, until) })
	}
	t.age(ctx) // last: nobody waits for it
}

// aging tells the companies that have something which grows old, and whose turn it is.
func (t *tour) aging(s *finding) bool {
	return s.unclear() || s.Holds && (t.walks || s.Work || s.epoch != 0)
}

// knowsTime reads the installation's time, once.
func (t *tour) knowsTime(ctx context.Context) bool {
	if t.now.IsZero() {
		t.note(ctx, "reading the clock", "", func() (err error) { t.now, err = t.client.ledger.Now(ctx); return err })
	}
	return !t.now.IsZero()
}

// look looks into companies.
func (t *tour) look(ctx context.Context, companies []string) (page []*finding) {
	t.note(ctx, "looking what there is to do", "", func() error {
		found, err := t.client.ledger.GlanceAll(ctx, companies)
		if err != nil {
			t.missed = true
			return err
		}
		for i, company := range companies {
			page = append(page, &finding{company, t.epochs[company], found[i]})
			if found[i].Err != nil {
				t.ok = false
			}
		}
		return nil
	})
	return page
}

func (t *tour) servePage(ctx context.Context, page []*finding) {
	c := t.client
	t.each(ctx, "waking", page, (*finding).stray, func(company string) error { return c.ledger.Rouse(ctx, company) })
	open := func(s *finding) bool { return s.Rooms || s.unclear() }
	if slices.ContainsFunc(page, open) && t.knowsTime(ctx) {
		t.each(ctx, "pumping", page, open, func(company string) error { return t.pumpRooms(ctx, company, t.now) })
	}
	for _, s := range page {
		if (s.Notices || s.unclear()) && ctx.Err() == nil {
			_ = c.contain(ctx, placeReconciler, func() error { c.tellNotices(ctx, s.company); return nil })
		}
		if s.Replays || s.unclear() {
			t.replayed = append(t.replayed, s.company)
		}
	}
	t.each(ctx, "repairing", page, func(s *finding) bool { return s.Overdue || s.unclear() }, func(company string) error { return c.repair(ctx, company) })
	if t.trim {
		t.old = append(t.old, slices.DeleteFunc(slices.Clone(page), func(s *finding) bool { return !t.aging(s) })...)
	}
	t.settle(ctx, page)
}

// age trims what is old.
func (t *tour) age(ctx context.Context) {
	c := t.client
	some := make([]string, len(t.old))
	for i, s := range t.old {
		some[i] = s.company
	}
	if len(some) > 0 && t.knowsTime(ctx) {
		t.note(ctx, "trimming the audit trail", "", func() error { return c.registry.TrimAudit(ctx, some, t.now) })
	}
	all := func(*finding) bool { return true }
	t.each(ctx, "pruning the dead letters", t.old, all, func(company string) error { return c.prune(ctx, company) })
	t.each(ctx, "trimming", t.old, all, func(company string) error { return c.trimLog(ctx, company) })
	t.each(ctx, "taking bodies away", t.old, all, func(company string) error { return c.takeBodies(ctx, company) })
	t.each(ctx, "counting what waits", t.old, all, func(company string) error { return c.recount(ctx, company) })
}

// settle puts companies to sleep that have been without work for a while, and files what there is of them.
func (t *tour) settle(ctx context.Context, page []*finding) {
	var sleepers []ledger.Sleeper
	var filings, blank []registry.Filing
	for _, s := range page {
		switch {
		case s.unclear() || s.Work:
			delete(t.rounds.still, s.company)
		case s.epoch != 0:
			if t.stillFor(s) >= t.rounds.lingers {
				sleepers = append(sleepers, ledger.Sleeper{Company: s.company, Epoch: s.epoch, Version: s.Version})
			}
		case t.files && !s.Awake && s.Holds:
			filings = append(filings, registry.Filing{Company: s.company})
		case t.files && !s.Awake:
			blank = append(blank, registry.Filing{Company: s.company})
		}
	}
	if len(sleepers) > 0 {
		t.note(ctx, "putting to sleep", "", func() error {
			asleep, err := t.client.ledger.Sleep(ctx, sleepers)
			for _, s := range asleep {
				delete(t.rounds.still, s.Company)
				filings = append(filings, registry.Filing{Company: s.Company, Epoch: s.Epoch})
			}
			t.client.at("slept")
			return err
		})
	}
	t.file(ctx, filings, blank)
}

// file files what there is of companies that are asleep. Of those that are blank there is nothing.
func (t *tour) file(ctx context.Context, filings, blank []registry.Filing) {
	if len(filings)+len(blank) == 0 {
		return
	}
	t.note(ctx, "filing what there is", "", func() error {
		err := t.client.takeStock(ctx, filings)
		if err == nil {
			_, err = t.client.registry.File(ctx, slices.Concat(filings, blank)...)
		}
		t.missed = t.missed || err != nil
		return err
	})
}

// stillFor is for how long a company has looked as it does now.
func (t *tour) stillFor(s *finding) time.Duration {
	now := stillness{s.Version, s.Newest, s.epoch, time.Now()}
	was, ok := t.rounds.still[s.company]
	if !ok || was.version != now.version || was.newest != now.newest || was.epoch != now.epoch {
		t.rounds.still[s.company] = now
		return 0
	}
	return time.Since(was.since)
}
