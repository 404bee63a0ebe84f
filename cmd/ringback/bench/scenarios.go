package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A scenario is one way to use an installation. run may not outlast its context by more than moments.
type scenario struct {
	name string
	run  func(context.Context, *site) ([]phase, error)
}

// scenarios are all of them, in the order in which they are run.
var scenarios = []scenario{
	{"idle", idle},
	{"saturate", saturate},
	{"batch", batch},
	{"fanout", fanout},
	{"isolation", isolation},
	{"backlog", backlog},
	{"batches", batches},
	{"neighbours", neighbours},
	{"watched", watched},
	{"sync", decisions},
}

// Names are the scenarios' names.
func Names() []string {
	names := make([]string, len(scenarios))
	for i, s := range scenarios {
		names[i] = s.name
	}
	return names
}

// one is the only phase of a scenario.
func one(f Figures, fan int, err error) ([]phase, error) {
	if err != nil {
		return nil, err
	}
	return []phase{{figures: f, fan: fan}}, nil
}

// idle sends 20 events a second to one callback: how soon an event is delivered when nothing else is to do.
func idle(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(200), companies: []string{s.company("idle")}, fan: 1, senders: pacedSenders, pace: 20}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	f, err := s.deliver(ctx, l, nil)
	return one(f, 0, err)
}

// prepare registers the callbacks of a load, numbered from 0 in each company, and warms up.
func (s *site) prepare(ctx context.Context, l load, change map[string]any) error {
	for i, company := range l.companies {
		if err := s.mayRegister(ctx, company, l.fan); err != nil {
			return err
		}
		if _, err := s.register(ctx, company, i*l.fan, l.fan, change); err != nil {
			return err
		}
	}
	return s.warmUp(ctx, l)
}

// manyCallbacks is how many a company may have by default. Before there were quotas, any number.
const manyCallbacks = 1000

// mayRegister lets a company have n callbacks.
func (s *site) mayRegister(ctx context.Context, company string, n int) error {
	if n <= manyCallbacks {
		return nil
	}
	err := s.call(ctx, http.MethodPatch, "/companies/"+company+"/quotas", map[string]int{"callbacks": n}, nil)
	if e, ok := errors.AsType[*statusError](err); ok && e.status == http.StatusNotFound {
		return nil
	}
	return err
}

// saturate sends as fast as it goes, from 16 and from 64 senders.
func saturate(ctx context.Context, s *site) ([]phase, error) {
	l := load{fan: s.cfg.Callbacks, events: s.cfg.events(10_000)}
	for i := range s.cfg.Companies {
		l.companies = append(l.companies, s.company("full-"+strconv.Itoa(i)))
	}
	l.senders = 16
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	var phases []phase
	for i, senders := range []int{16, 64} {
		l.letter, l.senders = 'a'+byte(i), senders
		f, err := s.deliver(ctx, l, nil)
		if err != nil {
			return nil, err
		}
		phases = append(phases, phase{strconv.Itoa(senders), f, l.fan})
	}
	return phases, nil
}

// batch sends batches of 500 events, two at a time.
func batch(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(10_000), companies: []string{s.company("batch")}, fan: 1, senders: 2, batch: batchEvents}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	f, err := s.deliver(ctx, l, nil)
	return one(f, 0, err)
}

// fanout sends events that 200 callbacks want.
func fanout(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(100), companies: []string{s.company("fan")}, fan: 200, senders: 16}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	f, err := s.deliver(ctx, l, nil)
	return one(f, l.fan, err)
}

// isolation sends 50 events a second to nine callbacks, at first alone, and then beside a tenth that takes requests and answers none. The figures
// are the nine's.
func isolation(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(400), companies: []string{s.company("ten")}, fan: 9, senders: pacedSenders, pace: 50}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	calm, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	hanging := map[string]any{"destination": map[string]string{"url": s.receiver.url + hangPath}, "timeout": "5s"}
	if _, err := s.registerOne(ctx, l.companies[0], l.fan, hanging); err != nil {
		return nil, err
	}
	l.letter = 'b'
	beside, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	beside.beside(calm)
	return []phase{{"calm", calm, 0}, {"one hangs", beside, 0}}, nil
}

// backlog lets events wait for a paused callback, and measures how they go out once it is resumed.
func backlog(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(20_000), companies: []string{s.company("late")}, fan: 1, senders: 2, batch: batchEvents}
	ids, err := s.register(ctx, l.companies[0], 0, 1, nil)
	if err != nil {
		return nil, err
	}
	if err := s.warmUp(ctx, l); err != nil {
		return nil, err
	}
	f, err := s.dam(ctx, l, ids)
	return one(f, 0, err)
}

// dam pauses callbacks of the load's company, sends the load, and measures how that goes out once they are resumed.
func (s *site) dam(ctx context.Context, l load, ids []int64) (Figures, error) {
	if err := s.setPaused(ctx, l.companies[0], ids, true); err != nil {
		return nil, err
	}
	bad := s.receiver.badSignatures.Load()
	waiting, err := s.sendLoad(ctx, l)
	if err != nil {
		return nil, err
	}
	filled := waiting.figures()
	before, err := s.readFirst(ctx)
	if err != nil {
		return nil, err
	}
	waiting.began = time.Since(epoch)
	if err := s.setPaused(ctx, l.companies[0], ids, false); err != nil {
		return nil, err
	}
	waiting.book.await(ctx)
	f := waiting.figures()
	f[AcceptedRate] = filled[AcceptedRate]
	for _, name := range []string{P50, P95, P99} { // they say how long the callback was paused
		delete(f, name)
	}
	f[BadSignatures] = float64(s.receiver.badSignatures.Load() - bad)
	return f, s.costs(ctx, before, int(f[Deliveries]), f)
}

// batches has as many events wait for a callback that takes them one by one as for one that takes them in batches of 100, and measures how they go out, three
// times by turns. The figures are the medians.
func batches(ctx context.Context, s *site) ([]phase, error) {
	const turns = 3
	var kinds [2]struct {
		name string
		load load
		ids  []int64
		runs []Figures
	}
	for i, travels := range []map[string]any{nil, {"batch": map[string]any{"max_events": 100, "max_bytes": 1 << 20, "max_wait": "1s"}}} {
		k := &kinds[i]
		k.name = []string{"one by one", "by 100"}[i]
		k.load = load{letter: 'a' + byte(i), events: s.cfg.events(10_000), companies: []string{s.company(strings.ReplaceAll(k.name, " ", "-"))}, fan: 1, senders: 2, batch: batchEvents}
		var err error
		if k.ids, err = s.register(ctx, k.load.companies[0], i, 1, travels); err != nil {
			return nil, err
		}
		if err := s.warmUp(ctx, k.load); err != nil {
			return nil, err
		}
	}
	for range turns {
		for i := range kinds {
			k := &kinds[i]
			f, err := s.dam(ctx, k.load, k.ids)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k.name, err)
			}
			k.runs = append(k.runs, f)
			k.load.letter += byte(len(kinds))
		}
	}
	single, together := medians(kinds[0].runs), medians(kinds[1].runs)
	together[RateOfCalm] = together[DeliveryRate] / single[DeliveryRate]
	return []phase{{kinds[0].name, single, 0}, {kinds[1].name, together, 0}}, nil
}

// setPaused pauses or resumes callbacks.
func (s *site) setPaused(ctx context.Context, company string, ids []int64, paused bool) error {
	verb := "/resume"
	if paused {
		verb = "/pause"
	}
	for _, id := range ids {
		if err := s.call(ctx, http.MethodPost, fmt.Sprintf("/companies/%s/config/callbacks/%d%s", company, id, verb), struct{}{}, nil); err != nil {
			return err
		}
	}
	return nil
}

// A crowd is what neighbours do to others: a load of theirs, which has callbacks of its own.
type crowd struct {
	name    string
	first   int // number of its callbacks
	load    load
	waiting bool // it is there before, for paused callbacks, and they are resumed
}

// neighbours sends 50 events a second to ten companies of one callback each, at first alone, and then beside each of four crowds. 200 companies send ten
// events each to ten callbacks. One company sends ten events to 2,000 callbacks, which are as many deliveries. 40 callbacks of another come back, with 300
// deliveries waiting for each. A fourth sends long events.
// The figures are the ten's; the costs are of all deliveries.
func neighbours(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(400), fan: 1, senders: pacedSenders, pace: 50}
	for i := range 10 {
		l.companies = append(l.companies, s.company("quiet-"+strconv.Itoa(i)))
	}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	calm, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	phases := []phase{{"calm", calm, 0}}
	share := func(n int) int {
		if s.cfg.Short {
			return n / shortest
		}
		return n
	}
	many := make([]string, 200)
	for i := range many {
		many[i] = s.company("one-of-many-" + strconv.Itoa(i))
	}
	for i, c := range []crowd{
		{"spread fan-out", 7000, load{events: share(2000), companies: many, fan: 10, senders: 4}, false},
		{"wide fan-out", 100, load{events: 10, companies: []string{s.company("wide")}, fan: share(2000), senders: 4}, false},
		{"recovery", 5000, load{events: share(300), companies: []string{s.company("back")}, fan: 40, senders: 4}, true},
		{"long bodies", 6000, load{events: max(1, l.events/5), companies: []string{s.company("long")}, fan: 1, senders: 4, pace: 10, bytes: 512 << 10}, false},
	} {
		l.letter, c.load.letter = 'b'+byte(i), 'n'+byte(i)
		f, err := s.besideCrowd(ctx, l, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		f.beside(calm)
		phases = append(phases, phase{c.name, f, 0})
	}
	return phases, nil
}

// besideCrowd sends l beside a crowd. The deliveries that the crowd misses count, too.
func (s *site) besideCrowd(ctx context.Context, l load, c crowd) (Figures, error) {
	company, ids := c.load.companies[0], []int64(nil)
	for i, name := range c.load.companies {
		if err := s.mayRegister(ctx, name, c.load.fan); err != nil {
			return nil, err
		}
		registered, err := s.register(ctx, name, c.first+i*c.load.fan, c.load.fan, nil)
		if err != nil {
			return nil, err
		}
		ids = append(ids, registered...) // of one company, if it is to be paused
	}
	var sent *sending
	act := func(ctx context.Context) (err error) { sent, err = s.sendLoad(ctx, c.load); return err }
	if c.waiting {
		if err := errors.Join(s.setPaused(ctx, company, ids, true), act(ctx)); err != nil {
			return nil, err
		}
		act = func(ctx context.Context) error { return s.setPaused(ctx, company, ids, false) }
	}
	var theirs Figures
	f, err := s.deliver(ctx, l, func(ctx context.Context) (int, error) {
		if err := act(ctx); err != nil {
			return 0, err
		}
		sent.book.await(ctx)
		theirs = sent.figures()
		return int(theirs[Deliveries]), nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range []string{Missing, Duplicates, ChangedIDs} {
		f[name] += theirs[name]
	}
	return f, nil
}

// decisions asks a partner to decide, by turns directly and through Ringback, one at a time. The percentiles are those through
// Ringback less the direct ones: what Ringback adds.
func decisions(ctx context.Context, s *site) ([]phase, error) {
	n, company := s.cfg.events(1000), s.company("sync")
	callback := map[string]any{"callback_type": "entry_code.verify", "destination": map[string]string{"url": s.receiver.url + decidePath}}
	if _, err := s.registerOne(ctx, company, 0, callback); err != nil {
		return nil, err
	}
	payload := json.RawMessage(`{"entryCode":"4711-0815","storeId":17,"customer":{"externalId":"c-17"}}`)
	question, err := json.Marshal(map[string]any{"event_type": "entry_code.verify", "payload": payload, "timeout": "3s"})
	if err != nil {
		return nil, err
	}
	asked := func(n int) (direct, through []time.Duration) {
		for range n {
			if took, ok := s.timed(ctx, s.receiver.url+decidePath, http.Header{"Content-Type": {"application/json"}}, payload); ok {
				direct = append(direct, took)
			}
			if took, ok := s.timed(ctx, s.server+"/companies/"+company+"/decisions", s.header, question); ok {
				through = append(through, took)
			}
		}
		return direct, through
	}
	asked(max(1, n/10)) // to warm up
	before, err := s.readFirst(ctx)
	if err != nil {
		return nil, err
	}
	decided := s.receiver.decided.Load()
	direct, through := asked(n)
	f := Figures{Events: float64(n), Deliveries: float64(len(through)), Missing: float64(n - len(through))}
	f[Duplicates] = max(0, float64(s.receiver.decided.Load()-decided)-float64(2*n))
	f.added(direct, through)
	return one(f, 0, s.costs(ctx, before, len(through), f))
}

// timed posts a body and says how long a good answer took.
func (s *site) timed(ctx context.Context, url string, header http.Header, body []byte) (took time.Duration, ok bool) {
	if ctx.Err() != nil {
		return 0, false
	}
	start := time.Now()
	status, _, err := exchange(ctx, s.client, http.MethodPost, url, header, body)
	return time.Since(start), err == nil && status == http.StatusOK
}

// added adds the percentiles of through less those of direct, and how many decisions a second a caller gets that asks one after the other.
func (f Figures) added(direct, through []time.Duration) {
	if len(direct) == 0 || len(through) == 0 {
		return
	}
	var took time.Duration
	for _, d := range through {
		took += d
	}
	f[DeliveryRate] = perSecond(len(through), took)
	alone := Figures{}
	alone.latencies(direct)
	f.latencies(through)
	for _, name := range []string{P50, P95, P99} {
		f[name] -= alone[name]
	}
}

// viewers are how many watch in the scenario watched.
const viewers = 50

// watched sends as fast as it goes from 16 senders, while nobody watches the company's deliveries, twice while 50 streams tell of them, and while nobody does
// again. What comes later is slower, since Redis holds more by then: so the two in the middle are compared with the first and the last.
func watched(ctx context.Context, s *site) ([]phase, error) {
	l := load{letter: 'a', events: s.cfg.events(10_000), companies: []string{s.company("watched")}, fan: 1, senders: 16}
	if err := s.prepare(ctx, l, nil); err != nil {
		return nil, err
	}
	watching := strconv.Itoa(viewers) + " watch"
	var phases []phase
	for _, name := range []string{"calm", watching, watching + " again", "calm again"} {
		f, err := s.watchedBy(ctx, l, strings.HasPrefix(name, watching))
		if err != nil {
			return nil, err
		}
		phases = append(phases, phase{name, f, l.fan})
		l.letter++
	}
	mean := func(name string, a, b int) float64 { return (phases[a].figures[name] + phases[b].figures[name]) / 2 }
	phases[2].figures[RateOfCalm] = mean(DeliveryRate, 1, 2) / mean(DeliveryRate, 0, 3)
	phases[2].figures[P99OfCalm] = mean(P99, 1, 2) / mean(P99, 0, 3)
	return phases, nil
}

// watchedBy delivers a load, while viewers watch or not.
func (s *site) watchedBy(ctx context.Context, l load, viewed bool) (Figures, error) {
	if !viewed {
		return s.deliver(ctx, l, nil)
	}
	told, leave, err := s.watch(ctx, l.companies[0], viewers)
	if err != nil {
		return nil, err
	}
	defer leave()
	f, err := s.deliver(ctx, l, nil)
	if err != nil {
		return nil, err
	}
	for told.Load() == 0 && ctx.Err() == nil { // a short load is over before anybody hears of it
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
	f[Told] = float64(told.Load())
	return f, nil
}
