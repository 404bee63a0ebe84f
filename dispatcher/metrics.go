package dispatcher

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// gauges are the instruments that are read from Redis when metrics are scraped.
type gauges struct {
	laneDepth, laneWaiting, roomDepth, dead, breakers, expiring, buried, callbacks, used, limit, paused, outage metric.Int64Observable
	streams, unfetched                                                                                          metric.Int64Observable
	oldest, drift, offset, roomAge, unfetchedAge                                                                metric.Float64Observable
	steps                                                                                                       metric.Int64Observable
}

func newGauges(meter metric.Meter) (gauges, error) {
	k := &maker{meter: meter}
	g := gauges{
		paused:       k.gauge("ringback.egress.paused", "", "1 while an operator has paused everything that goes out."),
		outage:       k.gauge("ringback.egress.outage", "", "1 while most destinations that this process tries cannot be reached."),
		streams:      k.gauge("ringback.streams", "{stream}", "Streams of deliveries that this process serves."),
		laneDepth:    k.gauge("ringback.lane.tasks", "{task}", "Tasks in asynq's queues, by lane and asynq's state."),
		laneWaiting:  k.gauge("ringback.lane.waiting", "{task}", "Tasks that wait in this process to come into a lane."),
		roomDepth:    k.gauge("ringback.room.deliveries", "{delivery}", "Deliveries held in callbacks' rooms, but for those that wait to be fetched."),
		roomAge:      k.floatGauge("ringback.room.oldest.age", "s", "How long ago the oldest of the deliveries held in rooms was accepted."),
		unfetched:    k.gauge("ringback.unfetched.deliveries", "{delivery}", "Deliveries that wait for their partner to fetch and acknowledge them."),
		unfetchedAge: k.floatGauge("ringback.unfetched.oldest.age", "s", "How long the oldest of the deliveries that wait to be fetched has waited."),
		breakers:     k.gauge("ringback.breakers", "{callback}", "Callbacks with deliveries in their rooms whose breaker is not closed, by its state."),
		dead:         k.gauge("ringback.dead_letters", "{delivery}", "Deliveries in the dead-letter book."),
		expiring:     k.gauge("ringback.dead_letters.expiring", "{delivery}", "Deliveries in the dead-letter book that will be pruned within the next tenth of the time they are kept."),
		buried:       k.observableCounter("ringback.deliveries.buried", "{delivery}", "Held deliveries that were given up without another attempt, by reason, as Redis counts them."),
		oldest:       k.floatGauge("ringback.oldest_due.age", "s", "How long the delivery that is most overdue has waited for its attempt."),
		callbacks:    k.gauge("ringback.callbacks", "{callback}", "Callbacks, by status."),
		drift:        k.floatGauge("ringback.clock.drift", "s", "How far this process's clock is ahead of Redis's; webhook-timestamp is by this one, the schedule by that."),
		offset:       k.floatGauge("ringback.clock.offset", "s", "How far the installation's time is ahead of Redis's clock, since that stepped."),
		steps:        k.observableCounter("ringback.clock.steps", "{step}", "Steps of Redis's clock that this process noticed."),
		used:         k.gauge("ringback.redis.memory.used", "By", "Redis's memory in use."),
		limit:        k.gauge("ringback.redis.memory.limit", "By", "Redis's maxmemory; 0 if none is set."),
	}
	return g, k.err
}

// all are the gauges, to be registered.
func (g *gauges) all() []metric.Observable {
	return []metric.Observable{
		g.laneDepth, g.laneWaiting, g.roomDepth, g.dead, g.breakers, g.expiring, g.buried, g.callbacks, g.used, g.limit, g.paused, g.outage,
		g.oldest, g.drift, g.offset, g.roomAge, g.unfetchedAge, g.steps, g.streams, g.unfetched,
	}
}

// register has the gauges read when metrics are scraped.
func (c *Client) register(meter metric.Meter) (metric.Registration, error) {
	g, err := newGauges(meter)
	if err != nil {
		return nil, err
	}
	return meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		return c.contain(ctx, placeMetrics, func() error { return c.observe(ctx, o, g) })
	}, g.all()...)
}

func (c *Client) observe(ctx context.Context, o metric.Observer, g gauges) error {
	oldest, err := c.observeLanes(ctx, o, g)
	if err != nil {
		return err
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return err
	}
	clock := c.clock.State()
	o.ObserveFloat64(g.drift, clock.Ahead.Seconds())
	o.ObserveFloat64(g.offset, clock.Offset.Seconds())
	o.ObserveInt64(g.steps, clock.Steps)
	census, err := registry.TakeCensus(ctx, c.rdb)
	if err != nil {
		return err
	}
	sum := newSums()
	sum.addStock(census.Asleep)
	for page := range slices.Chunk(census.Companies, glancePage) {
		if err := c.addPage(ctx, sum, page, now); err != nil {
			return err
		}
	}
	erased, err := c.ledger.BuriedOfErased(ctx)
	if err != nil {
		return err
	}
	sum.bury(erased)
	if m, err := c.memory.read(ctx); err == nil && m.used > 0 {
		o.ObserveInt64(g.used, m.used)
		o.ObserveInt64(g.limit, m.limit)
	}
	sum.observe(o, g)
	o.ObserveFloat64(g.oldest, max(oldest, sum.overdue).Seconds())
	return nil
}

// addPage adds what there is of companies.
func (c *Client) addPage(ctx context.Context, sum *sums, companies []string, now time.Time) error {
	depths, err := c.ledger.Depths(ctx, companies)
	if err != nil {
		return err
	}
	stocks, err := c.stocks(ctx, companies)
	if err != nil {
		return err
	}
	for i := range companies {
		sum.add(depths[i], now)
		sum.addStock(stocks[i])
	}
	return nil
}

// observeLanes observes what goes out, and returns for how long what waits longest for that has waited.
func (c *Client) observeLanes(ctx context.Context, o metric.Observer, g gauges) (oldest time.Duration, err error) {
	o.ObserveInt64(g.outage, oneIf(c.outage.under(ctx)))
	o.ObserveInt64(g.streams, int64(c.live.count()))
	seen, err := c.lanes.Paused(ctx)
	if err != nil {
		return 0, err
	}
	o.ObserveInt64(g.paused, oneIf(egressOf(seen).Status == EgressPaused))
	depths, err := c.lanes.Depths()
	if err != nil {
		return 0, err
	}
	for _, d := range depths {
		oldest = max(oldest, d.Oldest)
		lane := attribute.String("lane", d.Lane)
		o.ObserveInt64(g.laneWaiting, int64(d.Waiting), metric.WithAttributes(lane))
		for state, n := range d.Tasks {
			o.ObserveInt64(g.laneDepth, int64(n), metric.WithAttributes(lane, attribute.String("state", state)))
		}
	}
	return oldest, nil
}

// sums are what all companies have together.
type sums struct {
	held, dead, expiring int64
	heldFor, overdue     time.Duration // of the oldest
	unfetched            int64
	unfetchedFor         time.Duration // the oldest of them
	breakers             map[Breaker]int64
	buried               map[Reason]int64
	statuses             map[registry.Status]int64 // of callbacks
}

func newSums() *sums {
	return &sums{
		breakers: map[Breaker]int64{BreakerOpen: 0, BreakerHalfOpen: 0},
		buried:   map[Reason]int64{verdict.ReasonHoldFull: 0, verdict.ReasonHoldExpired: 0},
		statuses: map[registry.Status]int64{registry.Enabled: 0, registry.Paused: 0, registry.Disabled: 0, registry.Unverified: 0},
	}
}

func (s *sums) add(d ledger.Depths, now time.Time) {
	s.held, s.expiring = s.held+d.Held, s.expiring+d.Expiring
	s.breakers[BreakerOpen] += d.Open
	s.breakers[BreakerHalfOpen] += d.HalfOpen
	if !d.Oldest.IsZero() {
		s.heldFor = max(s.heldFor, now.Sub(d.Oldest))
	}
	s.unfetched += d.Unfetched
	if !d.UnfetchedSince.IsZero() {
		s.unfetchedFor = max(s.unfetchedFor, now.Sub(d.UnfetchedSince))
	}
	if !d.Due.IsZero() {
		s.overdue = max(s.overdue, now.Sub(d.Due))
	}
}

// addStock adds a tally.
func (s *sums) addStock(t registry.Tally) {
	for name, n := range t {
		if name == tallyDead {
			s.dead += n
		} else if reason, ok := strings.CutPrefix(name, tallyBuried); ok {
			s.buried[Reason(reason)] += n
		} else if status, ok := strings.CutPrefix(name, tallyStatus); ok {
			s.statuses[registry.Status(status)] += n
		}
	}
}

func (s *sums) bury(counts map[string]int64) {
	for reason, n := range counts {
		s.buried[Reason(reason)] += n
	}
}

func (s *sums) observe(o metric.Observer, g gauges) {
	for status, n := range s.statuses {
		o.ObserveInt64(g.callbacks, n, metric.WithAttributes(attribute.String("status", string(status))))
	}
	for state, n := range s.breakers {
		o.ObserveInt64(g.breakers, n, metric.WithAttributes(attribute.String("state", string(state))))
	}
	o.ObserveInt64(g.roomDepth, s.held)
	o.ObserveFloat64(g.roomAge, s.heldFor.Seconds())
	o.ObserveInt64(g.unfetched, s.unfetched)
	o.ObserveFloat64(g.unfetchedAge, s.unfetchedFor.Seconds())
	o.ObserveInt64(g.dead, s.dead)
	o.ObserveInt64(g.expiring, s.expiring)
	for reason, n := range s.buried {
		o.ObserveInt64(g.buried, n, metric.WithAttributes(attribute.String("reason", string(reason))))
	}
}

func oneIf(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
