package registry

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

// deltaPage is how many changes one script hands over: some 400 KB at most usual
// sizes, and well below what Lua's unpack can take.
const deltaPage = 500

// delta returns, as they are at one moment:
//
//   - the company's version,
//   - the version of the last change at or before ARGV[2],
//   - the next ARGV[3] changes after ARGV[1], as id and version by turns,
//   - the sealed callbacks of those,
//   - the anchors of the seals,
//   - the company's client certificate, sealed, and the anchor of that.
var delta = redis.NewScript(`
local before = redis.call('ZREVRANGEBYSCORE', KEYS[2], ARGV[2], '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
local changes = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local ids = {}
for i = 1, #changes, 2 do ids[#ids + 1] = changes[i] end
local sealed, anchors = {}, {}
if #ids > 0 then sealed, anchors = redis.call('HMGET', KEYS[3], unpack(ids)), redis.call('HMGET', KEYS[4], unpack(ids)) end
return {redis.call('GET', KEYS[1]) or '0', before[2] or '0', changes, sealed, anchors, redis.call('HGET', KEYS[5], 'tls') or '', redis.call('HGET', KEYS[4], 'tls') or ''}`)

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

// loadSince reads the changes after old, page by page. If a callback changes between
// two pages, it moves to the end and is read there. So with the last page the result
// holds everything up to the version that page came with.
//
// continues says whether Redis's history continues old's: up to old's version, both
// must end with the same version. Versions never come twice, so one that Redis lost
// shows as a difference.
func (r *Registry) loadSince(ctx context.Context, name string, old *snapshot) (_ *snapshot, continues bool, err error) {
	changed, moved := map[int64]*Callback{}, map[int64]int64{}
	for after := old.version; ; {
		page, err := r.readDelta(ctx, name, after, old.version)
		if err != nil {
			return nil, false, err
		}
		for _, c := range page.changes {
			after = c.version
			changed[c.id], moved[c.id] = c.callback, c.version
		}
		if len(page.changes) == deltaPage {
			continue
		}
		if len(changed) == 0 && page.version == old.version && page.before == old.newest {
			return old, true, nil
		}
		tls, err := r.keyset.inheritance(name, old, page)
		if err != nil {
			return nil, false, err
		}
		versions := maps.Clone(old.versions)
		if versions == nil {
			versions = moved
		}
		maps.Copy(versions, moved)
		continues = page.version >= old.version && page.before == lastUpTo(old.version, versions)
		return old.with(page.version, versions, tls.passOn(old, changed)).inherits(tls), continues, nil
	}
}

type deltaAnswer struct {
	version, before int64
	changes         []change
	tls, tlsAnchor  string // of the company, sealed; empty: it has none
}

type change struct {
	id, version int64
	callback    *Callback // nil: deleted
}

func (r *Registry) readDelta(ctx context.Context, name string, after, known int64) (*deltaAnswer, error) {
	keys := []string{VersionKey(name), changesKey(name), callbacksKey(name), anchorsKey(name), companyTLSKey(name)}
	reply, err := delta.Run(ctx, r.redis, keys, after, known, deltaPage).Slice()
	if err != nil {
		return nil, fmt.Errorf("registry: read the callbacks of company %s: %w", name, err)
	}
	if len(reply) < 7 {
		return nil, fmt.Errorf("registry: read the callbacks of company %s: the script answered %d values of 7", name, len(reply))
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
	answer.tls, _ = reply[5].(string)
	answer.tlsAnchor, _ = reply[6].(string)
	if answer.version, err = parseVersion(version); err != nil {
		return nil, err
	}
	if answer.before, err = parseVersion(before); err != nil {
		return nil, err
	}
	err = inShares(len(sealed), func(i int) (err error) {
		id, _ := pairs[2*i].(string)
		version, _ := pairs[2*i+1].(string)
		answer.changes[i], err = r.readChange(name, id, version, sealed[i], anchors[i])
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// aShare is how many callbacks are worth a goroutine of their own: a millisecond of
// opening and reading.
const aShare = 64

// inShares does what is to be done for 0 to n-1. If that is much, each processor has
// a share of it.
func inShares(n int, do func(i int) error) error {
	shares := max(1, min(n/aShare, runtime.GOMAXPROCS(0)))
	errs := make([]error, shares)
	var wg sync.WaitGroup
	for k := range shares - 1 {
		wg.Go(func() { errs[k] = contain(func() error { return oneShare(n, k, shares, do) }) })
	}
	errs[shares-1] = oneShare(n, shares-1, shares, do)
	wg.Wait()
	return cmp.Or(errs...)
}

// oneShare is the k-th of so many shares.
func oneShare(n, k, shares int, do func(i int) error) error {
	for i := n * k / shares; i < n*(k+1)/shares; i++ {
		if err := do(i); err != nil {
			return err
		}
	}
	return nil
}

// contain makes an error of a panic. The error does not quote it, for it may hold
// what was sealed.
func contain(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("registry: a panic while callbacks were opened (%T)", p)
		}
	}()
	return do()
}

// readChange fails if the callback does not open, and the whole reading fails with
// it. To leave the callback out would drop its events without a word.
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

// inheritance is the company's certificate as of a page: old's, if it is still the same.
func (k *Keyset) inheritance(company string, old *snapshot, page *deltaAnswer) (inheritance, error) {
	if page.tls == old.tls.sealed {
		return old.tls, nil
	}
	tls, err := k.openCompanyTLS(company, page.tls, page.tlsAnchor)
	return inheritance{page.tls, tls}, err
}
