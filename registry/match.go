package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/payloads"
)

// company is what a process remembers of one company.
type company struct {
	snap    atomic.Pointer[snapshot] // nil until first read
	touched atomic.Pointer[time.Time]

	// turn is held by the one who reads from Redis; the rest wait and share.
	turn  chan struct{}
	begun atomic.Int64 // reads begun so far
	// done is the number of the last read that ended by itself, and err how.
	// Whoever holds turn writes them; err is read by the same only.
	done atomic.Int64
	err  error
}

func (r *Registry) company(name string) *company {
	if c, ok := r.companies.Load(name); ok {
		return c.(*company)
	}
	c, _ := r.companies.LoadOrStore(name, &company{turn: make(chan struct{}, 1)})
	return c.(*company)
}

// snapshot is a company's callbacks as they were at one version: it holds every
// change up to that version and none after. It never changes.
type snapshot struct {
	version  int64
	versions map[int64]int64 // of each id's last change, deleted ones included
	byID     map[int64]*Callback
	byType   map[string]*bucket
	globs    []*Callback // by id
}

// bucket holds the callbacks of one type: those that take any event of it, and
// those that are narrowed, by the first of the attributes they ask for.
type bucket struct {
	wide     []*Callback
	narrowed map[attribute][]*Callback
}

type attribute struct{ name, value string }

func newSnapshot(version int64, versions map[int64]int64, byID map[int64]*Callback) *snapshot {
	s := &snapshot{version: version, versions: versions, byID: byID, byType: map[string]*bucket{}}
	for _, cb := range byID {
		if payloads.IsGlob(cb.Type) {
			s.globs = append(s.globs, cb)
			continue
		}
		b := s.byType[cb.Type]
		if b == nil {
			b = &bucket{narrowed: map[attribute][]*Callback{}}
			s.byType[cb.Type] = b
		}
		if len(cb.Match) == 0 {
			b.wide = append(b.wide, cb)
			continue
		}
		name := slices.Min(slices.Collect(maps.Keys(cb.Match)))
		key := attribute{name, cb.Match[name]}
		b.narrowed[key] = append(b.narrowed[key], cb)
	}
	return s
}

// candidates are all callbacks that may match, and some that do not.
func (s *snapshot) candidates(typ string, attrs map[string]string) []*Callback {
	lists := [][]*Callback{s.globs}
	if b := s.byType[typ]; b != nil {
		lists = append(lists, b.wide)
		for name, value := range attrs {
			lists = append(lists, b.narrowed[attribute{name, value}])
		}
	}
	return slices.Concat(lists...)
}

// after returns the callbacks with ids above id, of one type if it is not empty.
func (s *snapshot) after(id int64, typ string) []*Callback {
	var found []*Callback
	for _, cb := range s.byID {
		if cb.ID > id && (typ == "" || cb.Type == typ) {
			found = append(found, cb)
		}
	}
	sortByID(found)
	return found
}

func sortByID(cbs []*Callback) {
	slices.SortFunc(cbs, func(a, b *Callback) int { return cmp.Compare(a.ID, b.ID) })
}

// Match returns the callbacks of a company that an event of type typ with the
// given match attributes, accepted at acceptedAt, goes to, by ascending id, and
// the version of the registry it looked at. Paused and disabled callbacks match.
//
// It answers from memory, but for the first time that it meets a company. Its
// answer is current if [VersionKey] still holds ver; if not, call Refresh with
// what stands there and match again.
func (r *Registry) Match(ctx context.Context, company, typ string, attrs map[string]string, acceptedAt time.Time) (ver int64, matched []*Callback, err error) {
	snap, err := r.remembered(ctx, company)
	if err != nil {
		return 0, nil, err
	}
	for _, cb := range snap.candidates(typ, attrs) {
		if judge(cb, typ, attrs, acceptedAt).reason == fits {
			matched = append(matched, cb)
		}
	}
	sortByID(matched)
	return snap.version, matched, nil
}

// Decide says whether an event matches a callback, and why or why not, as a
// sentence for the callback's owner. Match follows the same rule.
func (r *Registry) Decide(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) (matched bool, why string) {
	j := judge(cb, typ, attrs, acceptedAt)
	return j.reason == fits, j.sentence(cb, typ, attrs, acceptedAt)
}

// judgement is why an event matches a callback or does not.
type judgement struct {
	reason    reason
	attribute string // with attributeDiffers, the first by name
}

type reason int

const (
	fits reason = iota
	typeDiffers
	attributeDiffers
	startsLater
)

// judge is the rule: the type or glob fits, the event has every attribute that
// the callback asks for, and it was not accepted before an explicit start date.
func judge(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) judgement {
	if cb.Type != typ && (!payloads.IsGlob(cb.Type) || !payloads.MatchGlob(cb.Type, typ)) {
		return judgement{reason: typeDiffers}
	}
	var j judgement
	for name, want := range cb.Match {
		got, ok := attrs[name]
		if (!ok || got != want) && (j.reason == fits || name < j.attribute) {
			j = judgement{attributeDiffers, name}
		}
	}
	if j.reason == fits && cb.StartDateGiven && acceptedAt.Before(cb.StartDate) {
		j.reason = startsLater
	}
	return j
}

func (j judgement) sentence(cb *Callback, typ string, attrs map[string]string, acceptedAt time.Time) string {
	switch j.reason {
	case typeDiffers:
		return fmt.Sprintf("The callback is for %s, and the event is of type %s.", cb.Type, typ)
	case attributeDiffers:
		if got, ok := attrs[j.attribute]; ok {
			return fmt.Sprintf("The callback asks for %s %q, and the event has %q.", j.attribute, cb.Match[j.attribute], got)
		}
		return fmt.Sprintf("The callback asks for %s %q, and the event has no %s.", j.attribute, cb.Match[j.attribute], j.attribute)
	case startsLater:
		return fmt.Sprintf("The event was accepted at %s, before the callback's start_date %s.",
			acceptedAt.UTC().Format(time.RFC3339), cb.StartDate.UTC().Format(time.RFC3339))
	case fits:
	}
	if len(cb.Match) == 0 {
		return fmt.Sprintf("The callback is for %s and takes every event of type %s.", cb.Type, typ)
	}
	asked := make([]string, 0, len(cb.Match))
	for _, name := range slices.Sorted(maps.Keys(cb.Match)) {
		asked = append(asked, fmt.Sprintf("%s %q", name, cb.Match[name]))
	}
	return fmt.Sprintf("The callback is for %s with %s, and the event has that.", cb.Type, strings.Join(asked, " and "))
}

// Lookup returns a callback from memory, after a look into Redis where memory is
// older than version atLeast. ErrNotFound if it was deleted. The result has no
// status.
func (r *Registry) Lookup(ctx context.Context, company string, id, atLeast int64) (*Callback, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	enough := func(s *snapshot) bool { return s.version >= atLeast }
	snap := r.company(company).snap.Load()
	if snap == nil || !enough(snap) {
		var err error
		if snap, err = r.fresh(ctx, company, enough); err != nil {
			return nil, err
		}
	}
	cb, ok := snap.byID[id]
	if !ok {
		return nil, ErrNotFound
	}
	return cb, nil
}

// Refresh brings what is remembered of a company up to version atLeast, as found
// in Redis, by reading what has changed. Concurrent callers share one reading.
//
// It returns without reading only when memory is exactly at atLeast. When memory
// is newer it reads too: then another caller was faster, or Redis went back in
// time, and only Redis can tell. So after Refresh has returned, memory is at
// atLeast or holds what Redis held during the call.
func (r *Registry) Refresh(ctx context.Context, company string, atLeast int64) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	at := func(s *snapshot) bool { return s.version == atLeast }
	if snap := r.company(company).snap.Load(); snap != nil && at(snap) {
		return nil
	}
	_, err := r.fresh(ctx, company, at)
	return err
}

// remembered is what is in memory, or the first reading.
func (r *Registry) remembered(ctx context.Context, company string) (*snapshot, error) {
	if err := checkCompany(company); err != nil {
		return nil, err
	}
	if snap := r.company(company).snap.Load(); snap != nil {
		return snap, nil
	}
	return r.fresh(ctx, company, func(*snapshot) bool { return true })
}

// fresh returns a snapshot that Redis held at some moment during the call, or
// one that is enough (nil: none is). One caller reads at a time; who came while
// another was reading shares the reading that began after that, failures included.
// Where the other's own ended because Redis did not answer in time, that is shared,
// too, so that a Redis that hangs is waited for once.
func (r *Registry) fresh(ctx context.Context, name string, enough func(*snapshot) bool) (*snapshot, error) {
	c := r.company(name)
	came := c.begun.Load()
	underWay := c.done.Load() < came
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("registry: wait for the callbacks of company %s: %w", name, ctx.Err())
	}
	old := c.snap.Load()
	if enough != nil && old != nil && enough(old) {
		return old, nil
	}
	if done := c.done.Load(); done > came || done == came && underWay && timedOut(c.err) {
		return old, c.err
	}
	number := c.begun.Add(1)
	snap, err := r.load(ctx, name, old)
	if err == nil {
		if old == nil && snap.version != 0 || old != nil && snap.version != old.version {
			c.touched.Store(nil) // the company may have been erased, its name with it
		}
		c.snap.Store(snap)
	}
	if ctx.Err() == nil { // a caller that gave up is no news to the others
		c.err = err
		c.done.Store(number)
	}
	return snap, err
}

// timedOut reports whether err says that Redis did not answer in time.
func timedOut(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout()
}

// deltaPage is how many changes one script hands over: some 400 KB at most usual
// sizes, and well below what Lua's unpack can take.
const deltaPage = 500

// delta returns, at one moment: the company's version; the version of the last
// change at or before ARGV[2]; the next ARGV[3] changes after ARGV[1], as id and
// version by turns; the sealed callbacks of those; and the anchors of the seals.
var delta = redis.NewScript(`
local before = redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
local changes = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local ids = {}
for i = 1, #changes, 2 do ids[#ids + 1] = changes[i] end
local sealed, anchors = {}, {}
if #ids > 0 then sealed, anchors = redis.call('HMGET', KEYS[3], unpack(ids)), redis.call('HMGET', KEYS[4], unpack(ids)) end
return {redis.call('GET', KEYS[1]) or '0', before[2] or '0', changes, sealed, anchors}`)

// load reads what has changed since old, or everything.
func (r *Registry) load(ctx context.Context, name string, old *snapshot) (*snapshot, error) {
	if old != nil {
		snap, continues, err := r.loadSince(ctx, name, old)
		if err != nil || continues {
			return snap, err
		}
		r.log.WarnContext(ctx, "Redis has forgotten changes that were remembered here: reading all callbacks again", "company", name)
	}
	snap, _, err := r.loadSince(ctx, name, &snapshot{})
	return snap, err
}

// loadSince reads the changes after old, page by page. A callback that changes
// between two pages moves to the end and is read there, so with the last page
// the result holds everything up to the version that page came with.
//
// continues says whether Redis's history continues old's: what did not change
// since must end with the same version here and there. Versions never come twice,
// so one that Redis lost shows as a difference.
func (r *Registry) loadSince(ctx context.Context, name string, old *snapshot) (_ *snapshot, continues bool, err error) {
	versions, byID := maps.Clone(old.versions), maps.Clone(old.byID)
	if versions == nil {
		versions, byID = map[int64]int64{}, map[int64]*Callback{}
	}
	for after := old.version; ; {
		page, err := r.readDelta(ctx, name, after, old.version)
		if err != nil {
			return nil, false, err
		}
		for _, c := range page.changes {
			after = c.version
			versions[c.id] = c.version
			delete(byID, c.id)
			if c.callback != nil {
				byID[c.id] = c.callback
			}
		}
		if len(page.changes) == deltaPage {
			continue
		}
		continues = page.version >= old.version && page.before == lastUpTo(old.version, versions)
		if continues && page.version == old.version {
			return old, true, nil
		}
		return newSnapshot(page.version, versions, byID), continues, nil
	}
}

// lastUpTo is the highest of the versions that are not above limit.
func lastUpTo(limit int64, versions map[int64]int64) (last int64) {
	for _, v := range versions {
		if v <= limit {
			last = max(last, v)
		}
	}
	return last
}

type deltaAnswer struct {
	version, before int64
	changes         []change
}

type change struct {
	id, version int64
	callback    *Callback // nil: deleted
}

func (r *Registry) readDelta(ctx context.Context, name string, after, known int64) (*deltaAnswer, error) {
	keys := []string{VersionKey(name), changesKey(name), callbacksKey(name), anchorsKey(name)}
	reply, err := delta.Run(ctx, r.redis, keys, after, known, deltaPage).Slice()
	if err != nil {
		return nil, fmt.Errorf("registry: read the callbacks of company %s: %w", name, err)
	}
	if len(reply) < 5 {
		return nil, fmt.Errorf("registry: read the callbacks of company %s: the script answered %d values of 5", name, len(reply))
	}
	version, _ := reply[0].(string)
	before, _ := reply[1].(string)
	pairs, _ := reply[2].([]any)
	sealed, _ := reply[3].([]any)
	anchors, _ := reply[4].([]any)

	if len(pairs) < 2*len(sealed) || len(anchors) < len(sealed) {
		return nil, fmt.Errorf("registry: read the callbacks of company %s: %d changes have %d versions and %d anchors", name, len(sealed), len(pairs)/2, len(anchors))
	}
	answer := &deltaAnswer{changes: make([]change, len(sealed))}
	if answer.version, err = parseVersion(version); err != nil {
		return nil, err
	}
	if answer.before, err = parseVersion(before); err != nil {
		return nil, err
	}
	for i, s := range sealed {
		id, _ := pairs[2*i].(string)
		version, _ := pairs[2*i+1].(string)
		if answer.changes[i], err = r.readChange(name, id, version, s, anchors[i]); err != nil {
			return nil, err
		}
	}
	return answer, nil
}

// readChange fails on a callback that does not open, and the whole reading with
// it: to leave it out would drop its events without a word.
func (r *Registry) readChange(name, id, version string, sealed, anchored any) (c change, err error) {
	if c.id, err = strconv.ParseInt(id, 10, 64); err != nil {
		return change{}, fmt.Errorf("registry: a callback's id of company %s is no number: %w", name, err)
	}
	if c.version, err = parseVersion(version); err != nil {
		return change{}, err
	}
	if text, ok := sealed.(string); ok {
		anchor, _ := anchored.(string) // else it was sealed without one
		c.callback, err = r.keyset.openCallback(name, c.id, []byte(text), anchor, version)
	}
	return c, err
}
