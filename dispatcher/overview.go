package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

const (
	// overviewFor is for how long an overview is shown to all who ask, and overviewShare how many times as long as the look took that is at least: so looking
	// takes a thirtieth of a process's time at most, however many look.
	overviewFor, overviewShare = 3 * time.Second, 30
	// overviewOldest bounds that.
	overviewOldest = 30 * time.Second
	// overviewWithin is how long a look may take. What is not read by then is missing, and the overview says so.
	overviewWithin = 5 * time.Second
	// postureFor is for how long what is said of Redis is good, and postureWithin how long finding out may take.
	postureFor, postureWithin = 15 * time.Second, 2 * time.Second

	// worstShown is how many callbacks are named.
	worstShown = 20
	// failsFor is for how long a callback counts as failing for which nothing waits.
	failsFor = time.Hour
	// backlogTells is how old what waits for a callback has to be for that to be told if nothing fails: longer than a delivery may wait for its batch.
	backlogTells = 75 * time.Second
	// restingLooked is how many of the companies without work are looked into, those with most dead letters.
	restingLooked = 200
	// lettersRead is how many dead letters are read to know why they are dead.
	lettersRead = 2000
	// waveMinutes is how far ahead retries are counted by the minute.
	waveMinutes = 60
	// ratesOver is how far back minutes are shown, and firstOver of how much of that first attempts are.
	ratesOver, firstOver = 3 * time.Hour, 10 * time.Minute
)

// Overviews look over all companies, for people. What they found they show for some seconds to all who ask.
type Overviews struct {
	client  *Client
	examine func(context.Context) Posture

	whole   *glimpsed[*Overview]
	posture *glimpsed[Posture]
	names   *glimpsed[[]string] // of all companies, sorted
}

// NewOverviews makes Overviews. examine says how Redis does; nil: nobody does.
func NewOverviews(c *Client, examine func(context.Context) Posture) *Overviews {
	return &Overviews{client: c, examine: examine, whole: newGlimpsed[*Overview](), posture: newGlimpsed[Posture](), names: newGlimpsed[[]string]()}
}

// Overview answers what somebody on call asks first. The answer is up to a few seconds old, and shared: do not write to it. Errors: [ErrUnavailable].
func (v *Overviews) Overview(ctx context.Context) (*Overview, error) {
	return v.whole.get(ctx, func(ctx context.Context) (*Overview, time.Duration, error) {
		began := time.Now()
		ctx, cancel := context.WithTimeout(Unmasked(context.WithoutCancel(ctx)), overviewWithin)
		defer cancel()
		o, err := v.look(ctx)
		return o, min(overviewOldest, max(overviewFor, overviewShare*time.Since(began))), err
	})
}

func (v *Overviews) look(ctx context.Context) (*Overview, error) {
	c := v.client
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return nil, unavailable(ctx, c, "reading the clock", err)
	}
	l := &lookout{Client: c, now: now, o: &Overview{AsOf: now.UTC(), Unread: []string{}}}
	l.o.Redis = v.redis(ctx)
	if err := l.census(ctx); err != nil {
		return nil, unavailable(ctx, c, "looking over all companies", err)
	}
	l.read(ctx, "the outages that processes tell of", func() (err error) { l.o.Verdict.Outages, err = readOutages(ctx, c.rdb, now); return err })
	l.worst(ctx)
	l.read(ctx, "why the dead are dead", func() error { return l.whyDead(ctx) })
	l.read(ctx, "the next hour's retries", func() (err error) { return l.wave(ctx) })
	l.read(ctx, "the last hours' minutes", func() error { return l.rates(ctx) })
	l.read(ctx, "whether everything goes out", func() error { return l.egress(ctx) })
	l.read(ctx, "which processes run", func() error { return l.workers(ctx) })
	l.read(ctx, "which client certificates expire", func() error { return l.o.Certificates.read(ctx, l.registry, l.now) })
	l.say(ctx)
	return l.o, nil
}

// A lookout fills in an overview.
type lookout struct {
	*Client
	now time.Time
	o   *Overview

	companies []string // that were looked into
	surveys   []ledger.Survey
	dead      map[string]int64 // by company, of those too that were not
}

// read does a part. If that fails, the overview says so.
func (l *lookout) read(ctx context.Context, what string, do func() error) {
	if err := do(); err != nil {
		sentence := "Not all could be read: " + what + "."
		if slices.Contains(l.o.Unread, sentence) { // each of the worst callbacks is read by itself
			return
		}
		l.log.WarnContext(ctx, "a part of the overview is missing", "part", what, "error", err)
		l.o.Unread = append(l.o.Unread, sentence)
	}
}

// redis is how Redis does.
func (v *Overviews) redis(ctx context.Context) Posture {
	if v.examine == nil {
		return Posture{Findings: []Finding{}}
	}
	p, _ := v.posture.get(ctx, func(ctx context.Context) (Posture, time.Duration, error) { // it has no error
		ctx, cancel := context.WithTimeout(ctx, postureWithin)
		defer cancel()
		p := v.examine(ctx)
		if p.Findings == nil {
			p.Findings = []Finding{}
		}
		return p, postureFor, nil
	})
	return p
}

// census looks into the companies that have work, and into those without that have most dead letters. Of the others, it counts what is filed.
func (l *lookout) census(ctx context.Context) error {
	census, err := registry.TakeCensus(ctx, l.rdb)
	if err != nil {
		return err
	}
	l.companies, l.dead = census.Companies, make(map[string]int64)
	asleep := map[string]registry.Tally{}
	if census.Asleep != nil { // else all companies are named
		if asleep, err = registry.Resting(ctx, l.rdb); err != nil {
			return err
		}
		for _, name := range census.Companies {
			delete(asleep, name)
		}
	}
	var resting []string
	for name, tally := range asleep {
		if n := tally[tallyDead]; n > 0 {
			resting = append(resting, name)
			l.dead[name] = n
		}
	}
	slices.SortFunc(resting, func(a, b string) int { return cmp.Or(cmp.Compare(l.dead[b], l.dead[a]), strings.Compare(a, b)) })
	resting = resting[:min(len(resting), restingLooked)]
	for _, name := range resting {
		delete(asleep, name)
	}
	for _, tally := range asleep {
		l.o.Callbacks.add(tally)
	}
	l.companies = slices.Concat(l.companies, resting)
	if err := l.survey(ctx); err != nil {
		return err
	}
	return l.count(ctx)
}

// survey looks into companies, into two at a time: what Redis says of one is read while it looks into the other.
func (l *lookout) survey(ctx context.Context) error {
	half := (len(l.companies) + 1) / 2
	parts := slices.Collect(slices.Chunk(l.companies, max(1, half)))
	found, errs := make([][]ledger.Survey, len(parts)), make([]error, len(parts))
	var wg sync.WaitGroup
	for i, names := range parts {
		wg.Go(func() {
			errs[i] = l.contain(ctx, PlaceHTTP, func() (err error) { found[i], err = l.ledger.SurveyAll(ctx, names); return err })
		})
	}
	wg.Wait()
	l.surveys = slices.Concat(found...)
	return errors.Join(errs...)
}

func (p *CallbacksPart) add(t registry.Tally) {
	p.Enabled += t[tallyStatus+string(registry.Enabled)]
	p.Paused += t[tallyStatus+string(registry.Paused)]
	p.Disabled += t[tallyStatus+string(registry.Disabled)]
	p.Unverified += t[tallyStatus+string(registry.Unverified)]
}

// count sums up what was found.
func (l *lookout) count(ctx context.Context) error {
	unread, first := 0, error(nil)
	for i := range l.surveys {
		s := &l.surveys[i]
		if s.Err != nil {
			unread, first = unread+1, cmp.Or(first, s.Err)
			continue
		}
		l.dead[l.companies[i]] = s.Dead
		l.o.Callbacks.Enabled += s.Enabled
		if late := l.now.Sub(s.Due); !s.Due.IsZero() && late.Milliseconds() > l.o.Workers.OverdueMS {
			l.o.Workers.OverdueMS = late.Milliseconds()
		}
		for j := range s.Standings {
			l.o.count(l.companies[i], &s.Standings[j])
		}
	}
	for _, n := range l.dead {
		l.o.Dead.Total += n
	}
	if unread > 0 && unread == len(l.surveys) {
		return first
	}
	if unread > 0 {
		l.read(ctx, many(int64(unread), "company")+" of "+many(int64(len(l.surveys)), "company"), func() error { return first })
	}
	return nil
}

func (o *Overview) count(company string, s *ledger.Standing) {
	if s.Gate != nil {
		o.Callbacks.add(registry.Tally{tallyStatus + string(s.Gate.Shown()): 1})
	}
	switch s.Breaker {
	case ledger.BreakerOpen:
		o.Callbacks.Open++
	case ledger.BreakerHalfOpen:
		o.Callbacks.HalfOpen++
	}
	w := &o.Waiting
	w.Total, w.Pending, w.Retrying, w.Held = w.Total+s.Waiting(), w.Pending+s.InLanes, w.Retrying+s.Retrying, w.Held+s.Held
	if at := s.OldestWaiting; !at.IsZero() && (w.OldestAt.IsZero() || at.Before(w.OldestAt)) {
		w.OldestAt, w.Company, w.CallbackID = at, company, s.Callback
	}
}

// unwell reports whether there is anything to say of a callback.
func (l *lookout) unwell(s *ledger.Standing) bool {
	return s.Failures > 0 || s.Breaker != ledger.BreakerClosed || s.Dead > 0 || s.Gate != nil && s.Gate.Shown() != registry.Enabled && s.Waiting() > 0 ||
		!s.OldestWaiting.IsZero() && l.now.Sub(s.OldestWaiting) > backlogTells
}

// worst finds the callbacks that do worst, and why callbacks fail.
func (l *lookout) worst(ctx context.Context) {
	type found struct {
		company string
		*ledger.Standing
	}
	var all []found
	for i := range l.surveys {
		for j := range l.surveys[i].Standings {
			if s := &l.surveys[i].Standings[j]; l.unwell(s) {
				all = append(all, found{l.companies[i], s})
			}
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(b.Waiting(), a.Waiting()), cmp.Compare(b.Dead, a.Dead), cmp.Compare(b.Failures, a.Failures),
			strings.Compare(a.company, b.company), cmp.Compare(a.Callback, b.Callback))
	})
	p := &l.o.Worst
	p.Of, p.Callbacks = int64(len(all)), []WorstCallback{}
	reasons := map[Reason]*FailingReason{}
	for _, f := range all {
		w := l.shown(ctx, f.company, f.Standing)
		if l.fails(&w) {
			r := reasons[w.LastFailure.Reason]
			if r == nil {
				r = &FailingReason{Reason: w.LastFailure.Reason, Side: w.Side, Detail: w.LastFailure.Detail}
				reasons[r.Reason] = r
			}
			r.Callbacks, r.Waiting = r.Callbacks+1, r.Waiting+w.Waiting
		}
		if len(p.Callbacks) < worstShown {
			l.describe(ctx, &w)
			p.Callbacks = append(p.Callbacks, w)
		}
	}
	p.Reasons = []FailingReason{}
	for _, r := range reasons {
		p.Reasons = append(p.Reasons, *r)
	}
	slices.SortFunc(p.Reasons, func(a, b FailingReason) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Callbacks, a.Callbacks), cmp.Compare(a.Reason, b.Reason))
	})
}

// fails reports whether a callback fails at the moment: its last attempt did, and something waits for it, or that was lately.
func (l *lookout) fails(w *WorstCallback) bool {
	return w.LastFailure != nil && w.LastFailure.At.After(w.LastSuccessAt) && (w.Waiting > 0 || l.now.Sub(w.LastFailure.At) < failsFor)
}

// shown is a callback's standing as an overview has it.
func (l *lookout) shown(ctx context.Context, company string, s *ledger.Standing) WorstCallback {
	w := WorstCallback{
		Company: company, CallbackID: s.Callback, Status: statusOf(s), Breaker: s.Breaker, Words: standingWords(s), Waiting: s.Waiting(),
		Pending: s.InLanes, Retrying: s.Retrying, Held: s.Held, OldestWaitingAt: s.OldestWaiting, Dead: s.Dead, Failures: s.Failures,
		LastFailure: shownFailure(ctx, s.LastFailure), LastSuccessAt: s.LastSuccess, Side: verdict.Unclear,
	}
	if t := shownFailure(ctx, s.TokenFailure); t != nil && (w.LastFailure == nil || t.At.After(w.LastFailure.At)) && t.At.After(w.LastSuccessAt) {
		w.LastFailure = t
	}
	if w.LastFailure == nil {
		return w
	}
	w.Side = verdict.SideOf(w.LastFailure.Reason)
	if len(l.o.Verdict.Outages) > 0 && w.LastFailure.StatusCode == 0 && w.Side == verdict.Theirs {
		w.Side = verdict.Ours // most others cannot be reached either
	}
	return w
}

// describe adds what only the registration has.
func (l *lookout) describe(ctx context.Context, w *WorstCallback) {
	cb, err := l.registry.Get(ctx, w.Company, w.CallbackID)
	if errors.Is(err, registry.ErrNotFound) {
		return
	}
	l.read(ctx, "where a callback goes", func() error { return err })
	if err != nil {
		return
	}
	w.CallbackType = cb.Type
	if u, err := url.Parse(cb.Destination.URL); err == nil {
		w.Host = u.Host
	}
}

// whyDead counts the dead by reason: of each company's newest so many that all together are no more than a bound. Books that are smaller than a company's part
// of that are counted whole, and leave the others more.
func (l *lookout) whyDead(ctx context.Context) error {
	names := slices.SortedFunc(maps.Keys(l.dead), func(a, b string) int { return cmp.Or(cmp.Compare(l.dead[a], l.dead[b]), strings.Compare(a, b)) })
	names = slices.DeleteFunc(names, func(name string) bool { return l.dead[name] == 0 })
	names = names[max(0, len(names)-lettersRead):] // one of each, at least
	left, most := int64(lettersRead), make([]int64, len(names))
	for i, name := range names {
		most[i] = min(l.dead[name], left/int64(len(names)-i))
		left -= most[i]
	}
	l.o.Dead.Reasons = []DeadReason{}
	causes, err := l.ledger.WhyAll(ctx, names, most)
	if err == nil {
		l.o.Dead.Reasons, l.o.Dead.Counted = deadReasons(causes)
	}
	return err
}

// deadReasons sums causes up by reason, the commonest first. A callback may come several times with a reason.
func deadReasons(causes []ledger.Cause) (all []DeadReason, counted int64) {
	type failing struct {
		company  string
		callback int64
		reason   Reason
	}
	reasons, known := map[Reason]*DeadReason{}, map[failing]bool{}
	for _, cause := range causes {
		r := reasons[cause.Reason]
		if r == nil {
			r = &DeadReason{Reason: cause.Reason, Side: verdict.SideOf(cause.Reason)}
			reasons[r.Reason] = r
		}
		r.Dead, counted = r.Dead+cause.Dead, counted+cause.Dead
		if f := (failing{cause.Company, cause.Callback, cause.Reason}); !known[f] {
			known[f] = true
			r.Callbacks++
		}
	}
	all = []DeadReason{}
	for _, r := range reasons {
		all = append(all, *r)
	}
	slices.SortFunc(all, func(a, b DeadReason) int { return cmp.Or(cmp.Compare(b.Dead, a.Dead), cmp.Compare(a.Reason, b.Reason)) })
	return all, counted
}

func (l *lookout) wave(ctx context.Context) error {
	l.o.Wave.Minutes = make([]int64, waveMinutes)
	w, err := l.lanes.Wave(ctx, time.Now(), waveMinutes) // by the clocks that asynq goes by
	if err == nil {
		l.o.Wave = WavePart{DueNow: w.Due, Minutes: w.Minutes, Later: w.Later}
	}
	return err
}

func (l *lookout) rates(ctx context.Context) error {
	l.o.Rates.Minutes = []Minute{}
	all, first, err := readMinutes(ctx, l.rdb, l.now, ratesOver, firstOver)
	if err == nil {
		l.o.Rates = RatesPart{Minutes: all, First50: first.at(.5).Milliseconds(), First95: first.at(.95).Milliseconds()}
	}
	return err
}

func (l *lookout) egress(ctx context.Context) error {
	l.o.Egress.Status = egressUnknown
	seen, err := l.lanes.Paused(ctx)
	if err == nil {
		l.o.Egress.Egress = egressOf(seen)
	}
	return err
}

func (l *lookout) workers(ctx context.Context) error {
	seen, err := registry.LookBy(ctx, l.rdb, l.clock)
	if err != nil {
		l.o.Workers.Workers = -1
		return err
	}
	l.o.Workers.Processes = len(seen.Processes)
	for _, p := range seen.Processes {
		if strings.Contains(p.Roles, "worker") {
			l.o.Workers.Workers++
		}
	}
	return nil
}

// say writes the sentences.
func (l *lookout) say(ctx context.Context) {
	o := l.o
	o.Worst.say()
	o.Waiting.say(l.now)
	o.Dead.say()
	o.Wave.say(time.Now())
	o.Rates.say()
	o.Callbacks.say()
	o.Egress.say(l.now)
	o.Workers.say()
	o.Redis.say()
	o.Certificates.say(l.now)
	v := &o.Verdict
	v.Ours, v.Theirs = []string{}, []string{}
	if v.Outages == nil {
		v.Outages = []Outage{}
	}
	full := int64(0)
	if m, err := l.memory.read(ctx); err == nil && m.share() >= l.memory.shedAt {
		full = m.share()
	}
	o.judge(full)
}
