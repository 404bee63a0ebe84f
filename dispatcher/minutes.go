package dispatcher

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// What was accepted, delivered and failed in each minute is a statistic for people who look, and no truth. Each process counts in memory, and adds what is
// new to Redis every few seconds. A kill loses the last of them. An answer of Redis that is lost may count them twice.
const (
	// tellEvery is how long after something was counted all that is new goes to Redis.
	tellEvery = 5 * time.Second
	// slotOf is how finely the time of what is counted is known.
	slotOf = 5 * time.Second
	// mostSlots is how many of those are remembered while Redis does not take them: three hours.
	mostSlots = int(3 * time.Hour / slotOf)
	// minutesKept is for how many hours minutes are kept, by the installation's time.
	minutesKept = 12
	// minutesSwept is how many hours before those are looked for what is older.
	minutesSwept = 48
	// minutesNet is after how long Redis itself drops an hour that nobody swept. It is so long that a step of Redis's clock does no harm.
	minutesNet = 7 * 24 * time.Hour
	// tellWithin is how long Redis may take to be told.
	tellWithin = 2 * time.Second

	// minutesKey begins the key of an hour: a hash of minute and what was counted -> how often.
	minutesKey = "ringback:minutes:"
	// outagesKey is a hash of the processes whose own way out fails, by host and pid: since when, when they last said so (ms), and of how many destinations how
	// many could not be reached.
	outagesKey = "ringback:outages"
	// outageSaid is for how long such a word counts.
	outageSaid = 20 * time.Second
)

// What is counted of a minute: the letter that its field ends with. First attempts that delivered are counted by bucket of the time since acceptance.
const (
	countAccepted  = "a"
	countDelivered = "d"
	countFailed    = "f"
	countSoon      = "l"
)

// firstBuckets is how many buckets there are. Each is longer than the one before by half of a doubling: so what is read from them is right by a fifth.
const firstBuckets = 44

// bucketOf is the bucket of a duration; the first is of up to a millisecond, the last of half an hour and more.
func bucketOf(d time.Duration) int {
	ms := max(1, float64(d)/float64(time.Millisecond))
	return min(firstBuckets-1, int(math.Ceil(2*math.Log2(ms))))
}

// bucketTime is what stands for a bucket: the middle of it.
func bucketTime(bucket int) time.Duration {
	return time.Duration(math.Pow(2, float64(bucket)/2-.25) * float64(time.Millisecond))
}

// minutes counts. Whoever counts first has a timer tell Redis; so an idle process has none.
type minutes struct {
	rdb     redis.UniversalClient
	log     *slog.Logger
	self    string // the process's name
	outage  *outage
	now     func(context.Context) (time.Time, error) // the installation's time
	contain func(ctx context.Context, place string, do func() error) error
	ctx     context.Context //nolint:containedctx // its own: whoever counts has gone on by the time that Redis is told

	mu     sync.Mutex
	slots  map[int64]map[string]int64 // by this machine's clock, in units of slotOf
	timer  *time.Timer                // nil: nothing is to be told
	closed bool
	going  sync.WaitGroup

	telling sync.Mutex // held by who tells
	swept   int64      // the hour at which old ones went
	outside bool       // this process's outage stands in Redis
}

func newMinutes(rdb redis.UniversalClient, g guard, o *outage, now func(context.Context) (time.Time, error)) *minutes {
	p := registry.Self("", "")
	return &minutes{
		rdb: rdb, log: g.log, self: p.Host + ":" + strconv.Itoa(p.PID), outage: o, now: now, contain: g.contain, ctx: context.Background(), slots: make(map[int64]map[string]int64),
	}
}

// accepted counts an event that was accepted.
func (m *minutes) accepted() { m.count(countAccepted) }

// failed counts an attempt that did not deliver.
func (m *minutes) failed() { m.count(countFailed) }

// delivered counts a delivery, by the attempt of that number, so long after its event was accepted.
func (m *minutes) delivered(number int, lag time.Duration) {
	if number == 1 {
		m.count(countDelivered, countSoon+strconv.Itoa(bucketOf(lag)))
		return
	}
	m.count(countDelivered)
}

// acknowledged counts deliveries that were fetched and acknowledged. How long that took is their partner's own time, and not told among ours.
func (m *minutes) acknowledged(n int) {
	for range n {
		m.count(countDelivered)
	}
}

func (m *minutes) count(what ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := time.Now().UnixNano() / int64(slotOf)
	slot := m.slots[at]
	if slot == nil {
		slot = make(map[string]int64)
		m.slots[at] = slot
		m.bound()
	}
	for _, name := range what {
		slot[name]++
	}
	m.arm()
}

// bound forgets the oldest slots, if there are more than are remembered; the caller holds the lock.
func (m *minutes) bound() {
	for len(m.slots) > mostSlots {
		delete(m.slots, slices.Min(slices.Collect(maps.Keys(m.slots))))
	}
}

// arm has Redis told soon; the caller holds the lock.
func (m *minutes) arm() {
	if m.timer != nil || m.closed {
		return
	}
	m.going.Add(1)
	m.timer = time.AfterFunc(tellEvery, func() {
		defer m.going.Done()
		_ = m.contain(m.ctx, placeMetrics, func() error { m.tell(m.ctx); return nil })
	})
}

// close tells Redis the rest.
func (m *minutes) close() {
	m.mu.Lock()
	m.closed = true
	stopped := m.timer != nil && m.timer.Stop()
	m.mu.Unlock()
	if stopped {
		m.going.Done()
		_ = m.contain(m.ctx, placeMetrics, func() error { m.tell(m.ctx); return nil })
	}
	m.going.Wait()
}

// tell brings to Redis what is new. What it does not take is told later.
func (m *minutes) tell(ctx context.Context) {
	m.telling.Lock()
	defer m.telling.Unlock()
	m.mu.Lock()
	slots := m.slots
	m.slots, m.timer = make(map[int64]map[string]int64), nil
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, tellWithin)
	defer cancel()
	err := m.write(ctx, slots)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil { // whoever needs Redis for more says what is wrong
		m.log.DebugContext(ctx, "what was counted of the last minutes is told later", "error", err)
		for at, slot := range m.slots {
			for name, n := range slot {
				if slots[at] == nil {
					slots[at] = make(map[string]int64)
				}
				slots[at][name] += n
			}
		}
		m.slots = slots
		m.bound()
	}
	if err != nil || m.outside {
		m.arm()
	}
}

// write adds slots to their minutes, by the installation's time, and says whether our own way out fails.
func (m *minutes) write(ctx context.Context, slots map[int64]map[string]int64) error {
	now, err := m.now(ctx)
	if err != nil {
		return err
	}
	late := time.Since(now) // this machine's clock is ahead by so much
	counts := make(map[int64]map[string]int64)
	for at, slot := range slots {
		minute := time.Unix(0, at*int64(slotOf)).Add(slotOf/2-late).Unix() / 60
		hour := minute / 60
		if counts[hour] == nil {
			counts[hour] = make(map[string]int64)
		}
		for name, n := range slot {
			counts[hour][strconv.FormatInt(minute%60, 10)+":"+name] += n
		}
	}
	_, err = m.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for hour, fields := range counts {
			key := minutesOf(hour)
			for field, n := range fields {
				p.HIncrBy(ctx, key, field, n)
			}
			p.Expire(ctx, key, minutesNet)
		}
		m.sweep(ctx, p, now.Unix()/3600)
		m.sayOutage(ctx, p, now)
		return nil
	})
	return err
}

func minutesOf(hour int64) string { return minutesKey + strconv.FormatInt(hour, 10) }

// sweep drops the hours that have had their time, once an hour.
func (m *minutes) sweep(ctx context.Context, p redis.Pipeliner, hour int64) {
	if m.swept == hour {
		return
	}
	m.swept = hour
	for old := hour - minutesKept - minutesSwept; old < hour-minutesKept; old++ {
		p.Unlink(ctx, minutesOf(old))
	}
}

// sayOutage says in Redis that our own way out fails, or takes that back.
func (m *minutes) sayOutage(ctx context.Context, p redis.Pipeliner, now time.Time) {
	is, since, destinations, unreached := m.outage.seenBy(ctx)
	switch {
	case is:
		began := now.Add(-time.Since(since))
		words := []string{ms(began), ms(now), strconv.Itoa(destinations), strconv.Itoa(unreached)}
		p.HSet(ctx, outagesKey, m.self, strings.Join(words, " "))
		p.Expire(ctx, outagesKey, minutesNet)
	case m.outside:
		p.HDel(ctx, outagesKey, m.self)
	}
	m.outside = is
}

func ms(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// A Minute is what happened in one.
type Minute struct {
	At        time.Time `json:"at"` // when it begins
	Accepted  int64     `json:"accepted"`
	Delivered int64     `json:"delivered"`
	Failed    int64     `json:"failed"` // attempts that did not deliver
}

// firsts are how many first attempts delivered, by bucket.
type firsts [firstBuckets]int64

// at is the time within which a share of them delivered; 0 if there was none.
func (f *firsts) at(share float64) time.Duration {
	var all, sum int64
	for _, n := range f {
		all += n
	}
	for bucket, n := range f {
		if sum += n; n > 0 && float64(sum) >= share*float64(all) {
			return bucketTime(bucket)
		}
	}
	return 0
}

// readMinutes reads the minutes of a span before now, the oldest first, and of the last few of them how soon first attempts delivered.
func readMinutes(ctx context.Context, rdb redis.UniversalClient, now time.Time, span, lately time.Duration) ([]Minute, *firsts, error) {
	from, to := now.Add(-span).Unix()/60+1, now.Unix()/60
	hours := make(map[int64]*redis.MapStringStringCmd)
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for hour := from / 60; hour <= to/60; hour++ {
			hours[hour] = p.HGetAll(ctx, minutesOf(hour))
		}
		return nil
	}); err != nil {
		return nil, nil, err
	}
	all, first := make([]Minute, to-from+1), &firsts{}
	for i := range all {
		minute := from + int64(i)
		m := &all[i]
		m.At = time.Unix(minute*60, 0).UTC()
		of := hours[minute/60].Val()
		field := strconv.FormatInt(minute%60, 10) + ":"
		count := func(name string) int64 { n, _ := strconv.ParseInt(of[field+name], 10, 64); return n }
		m.Accepted, m.Delivered, m.Failed = count(countAccepted), count(countDelivered), count(countFailed)
		if now.Sub(m.At) <= lately+time.Minute {
			for bucket := range first {
				first[bucket] += count(countSoon + strconv.Itoa(bucket))
			}
		}
	}
	return all, first, nil
}

// An Outage is what a process says of its own way out while most destinations that it tries cannot be reached.
type Outage struct {
	Process      string    `json:"process"` // its host and pid
	Since        time.Time `json:"since"`
	Destinations int       `json:"destinations"` // that it tried in the last minute
	Unreached    int       `json:"unreached"`
}

// readOutages reads what all processes have said lately.
func readOutages(ctx context.Context, rdb redis.UniversalClient, now time.Time) ([]Outage, error) {
	said, err := rdb.HGetAll(ctx, outagesKey).Result()
	if err != nil {
		return nil, err
	}
	var all []Outage
	for process, text := range said {
		words := strings.Fields(text)
		if len(words) != 4 {
			continue // a later version's
		}
		var n [4]int64
		for i, word := range words {
			n[i], _ = strconv.ParseInt(word, 10, 64)
		}
		if now.Sub(time.UnixMilli(n[1])).Abs() <= outageSaid {
			all = append(all, Outage{process, time.UnixMilli(n[0]).UTC(), int(n[2]), int(n[3])})
		}
	}
	slices.SortFunc(all, func(a, b Outage) int { return strings.Compare(a.Process, b.Process) })
	return all, nil
}
