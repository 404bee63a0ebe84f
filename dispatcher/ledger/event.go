package ledger

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

// An Event is one as its hash has it, without its payload.
type Event struct {
	ID        string
	LogID     string // its place in the log
	Meta      Meta
	Expanding bool             // deliveries are still to be written
	BodyLeft  bool             // its payload is no longer kept
	Records   map[int64]Record // its deliveries that are written, or those that were asked for, by callback
	Later     []int64          // the callbacks of those that are not
}

// AcceptedAt is when Redis took it, by its clock.
func (e *Event) AcceptedAt() time.Time { return LogTime(e.LogID) }

// Written are the callbacks of its records, in order.
func (e *Event) Written() []int64 {
	ids := make([]int64, 0, len(e.Records))
	for id := range e.Records {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// readEvent takes an event's hash apart. It is nil if the event is none, or is no longer kept.
func readEvent(id string, fields map[string]string) (*Event, error) {
	if fields["m"] == "" {
		return nil, nil //nolint:nilnil // documented
	}
	e := &Event{ID: id, LogID: fields["a"], Expanding: fields["e"] != "", Records: make(map[int64]Record)}
	if err := json.Unmarshal([]byte(fields["m"]), &e.Meta); err != nil {
		return nil, fmt.Errorf("event %s: %w", id, ErrBadRecord)
	}
	orders := make(map[int64]Order)
	for name, text := range fields {
		if name == "" {
			continue
		}
		number, err := strconv.ParseInt(name[1:], 10, 64)
		switch {
		case err != nil:
		case name[0] == 'd':
			if e.Records[number], err = ParseRecord(text); err != nil {
				return nil, fmt.Errorf("event %s, callback %d: %w", id, number, err)
			}
		case name[0] == 'o':
			if orders[number], err = readOrder(text); err != nil {
				return nil, fmt.Errorf("event %s, callback %d: %w", id, number, err)
			}
		case name[0] == 'e':
			ids, err := readIDs(text)
			if err != nil {
				return nil, fmt.Errorf("event %s: %w", id, err)
			}
			e.Later = append(e.Later, ids...)
		}
	}
	for callback, order := range orders {
		if record, written := e.Records[callback]; written {
			record.Order = order
			e.Records[callback] = record
		}
	}
	return e, nil
}

// Event reads an event with all its deliveries, nil if there is none.
func (l *Ledger) Event(ctx context.Context, company, id string) (*Event, error) {
	key := EventKey(company, id)
	names, err := l.rdb.HKeys(ctx, key).Result()
	if err != nil {
		return nil, err
	}
	bodyLeft := !slices.Contains(names, "b")
	names = slices.DeleteFunc(names, func(name string) bool { return strings.ContainsAny(name[:min(1, len(name))], "bqk") }) // they are long, and read by themselves
	fields := make(map[string]string, len(names))
	for page := range slices.Chunk(names, glancePage) {
		values, err := l.rdb.HMGet(ctx, key, page...).Result()
		if err != nil {
			return nil, err
		}
		for i, value := range values[:min(len(values), len(page))] {
			if text, ok := value.(string); ok {
				fields[page[i]] = text
			}
		}
	}
	e, err := readEvent(id, fields)
	if err != nil || e == nil {
		return nil, err
	}
	e.BodyLeft = bodyLeft
	return e, l.follow(ctx, company, e.Records)
}

// Deliveries reads events with one delivery each, in one round trip; nil where one is gone.
func (l *Ledger) Deliveries(ctx context.Context, refs []Ref) ([]*Event, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	pipe := l.rdb.Pipeline()
	reads, bodies := make([]*redis.SliceCmd, len(refs)), make([]*redis.BoolCmd, len(refs))
	for i, r := range refs {
		reads[i] = pipe.HMGet(ctx, EventKey(r.Company, r.Event), "m", "a", RecordField(r.Callback), orderField(r.Callback))
		if l.bodies > 0 { // else none has left, or some have that did so under another setting
			bodies[i] = pipe.HExists(ctx, EventKey(r.Company, r.Event), "b")
		}
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	found, of := make([]*Event, len(refs)), make(map[string][]map[int64]Record)
	for i, r := range refs {
		a := &answer{left: Strings(reads[i].Val())}
		m, logID, record, order := a.text(), a.text(), a.text(), a.text()
		if a.err != nil || m == "" || record == "" {
			continue
		}
		fields := map[string]string{"m": m, "a": logID, RecordField(r.Callback): record}
		if order != "" {
			fields[orderField(r.Callback)] = order
		}
		var err error
		if found[i], err = readEvent(r.Event, fields); err != nil {
			return nil, err
		}
		found[i].BodyLeft = bodies[i] != nil && !bodies[i].Val()
		of[r.Company] = append(of[r.Company], found[i].Records)
	}
	for company, records := range of {
		if err := l.follow(ctx, company, records...); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// A BookEntry is a name in one of a company's books, and when it came there.
type BookEntry struct {
	Name string
	At   int64 // ms
}

// The books of a company.
const (
	BookOfDead      = "dead"
	BookOfDecisions = "asks"
)

// Book reads a page of a book, newest first, from a time on (ms; negative: the span's end).
func (l *Ledger) Book(ctx context.Context, company, book string, from int64, span Span, count int64) ([]BookEntry, error) {
	oldest, newest := span.bounds()
	oldest, newest = map[bool]string{true: "-inf", false: oldest}[oldest == "-"], map[bool]string{true: "+inf", false: newest}[newest == "+"]
	if from >= 0 {
		newest = strconv.FormatInt(from, 10)
	}
	found, err := l.rdb.ZRevRangeByScoreWithScores(ctx, Key(company, book), &redis.ZRangeBy{Min: oldest, Max: newest, Count: count}).Result()
	if err != nil {
		return nil, err
	}
	entries := make([]BookEntry, len(found))
	for i, z := range found {
		name, _ := z.Member.(string)
		entries[i] = BookEntry{name, int64(z.Score)}
	}
	return entries, nil
}

// Gates are the closed gates of callbacks; one that is open is nil.
func (l *Ledger) Gates(ctx context.Context, company string, ids []int64) (map[int64]*registry.Gate, error) {
	gates := make(map[int64]*registry.Gate, len(ids))
	for page := range slices.Chunk(ids, glancePage) {
		keys := make([]string, len(page))
		for i, id := range page {
			keys[i] = registry.GateKey(company, id)
		}
		texts, err := l.rdb.MGet(ctx, keys...).Result()
		if err == nil && len(texts) != len(page) {
			err = ErrBadRecord
		}
		if err != nil {
			return nil, err
		}
		for i, id := range page {
			gates[id] = nil // documented: open
			if text, ok := texts[i].(string); ok {
				g, err := registry.ParseGate(text)
				if err != nil {
					return nil, err
				}
				gates[id] = &g
			}
		}
	}
	return gates, nil
}

// A Pace is what holds back a callback's deliveries where its gate is open.
type Pace struct {
	Failures int64 // in a row
	Breaker  Breaker
	Before   time.Time // nothing goes out until then, by the breaker
	Limited  bool      // it has a rate limit
	Host     HostPace
	Batch    BatchPace
}

// A BatchPace is what has a delivery wait for others that it travels with; zero: they travel one by one.
type BatchPace struct {
	Events int           // at most
	Wait   time.Duration // of the first of them, at most
	Full   bool          // as many wait by now
}

// A HostPace is what holds back all deliveries of a company to one host.
type HostPace struct {
	Narrowed bool
	Before   time.Time // nothing goes out until then
}

// Pace reads a callback's.
func (l *Ledger) Pace(ctx context.Context, company string, callback int64, now time.Time) (Pace, error) {
	pipe := l.rdb.Pipeline()
	id := strconv.FormatInt(callback, 10)
	health := pipe.HMGet(ctx, Key(company, "health:"+id), "f", "l", "o", "hn", "by", "hb")
	room := pipe.ZCard(ctx, Key(company, "room:"+id))
	rate := pipe.Exists(ctx, registry.RateKey(company, callback))
	if err := execute(ctx, pipe); err != nil {
		return Pace{}, err
	}
	a := &answer{left: Strings(health.Val())}
	p := Pace{Failures: a.numberIfAny(), Limited: rate.Val() > 0}
	p.Breaker, p.Before = breakerOf(a.yes(), p.Failures), a.at()
	host := a.text()
	var most, wait int
	if n, _ := fmt.Sscanf(a.text(), "batch %d %d %d", &p.Batch.Events, &most, &wait); n == 3 {
		p.Batch.Wait = time.Duration(wait) * time.Millisecond
		p.Batch.Full = room.Val()+a.numberIfAny() >= int64(p.Batch.Events)
	}
	if a.err != nil {
		return Pace{}, a.err
	}
	var err error
	p.Host, err = l.hostPace(ctx, company, host, now)
	return p, err
}

// hostPace reads a host's, by the name that the callback's health has; empty if nobody noted it yet.
func (l *Ledger) hostPace(ctx context.Context, company, name string, now time.Time) (HostPace, error) {
	if name == "" {
		return HostPace{}, nil
	}
	text, err := l.rdb.HGet(ctx, Key(company, "hosts"), name).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return HostPace{}, err
	}
	var failures, probes, before, since, callback, at int64
	if n, _ := fmt.Sscan(text, &failures, &probes, &before, &since, &callback, &at); n < 6 || now.Sub(FromMS(at)) > lua.HostMemory {
		return HostPace{}, nil
	}
	return HostPace{Narrowed: since > 0, Before: FromMS(before)}, nil
}

// Less reports whether the name of a book's entry comes before another in the book: newest first, then by name backwards.
func (e BookEntry) Less(other BookEntry) bool {
	return cmp.Or(cmp.Compare(other.At, e.At), strings.Compare(other.Name, e.Name)) < 0
}
