package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Touch makes the company known to [Registry.Companies]; call it before the first
// write under a company's name. It remembers for a minute that it did, unless
// the company is then read at another version: it may have been erased meanwhile.
func (r *Registry) Touch(ctx context.Context, company string) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	c := r.company(company)
	if done := c.touched.Load(); done != nil && time.Since(*done) < touchFor {
		return nil
	}
	return r.note(ctx, company)
}

func (r *Registry) note(ctx context.Context, company string) error {
	start := time.Now()
	if err := r.redis.SAdd(ctx, companiesKey, company).Err(); err != nil {
		return fmt.Errorf("registry: note company %s: %w", company, err)
	}
	r.company(company).touched.Store(&start)
	return nil
}

// Remember makes all companies that this process has touched known to
// [Registry.Companies] again, in case Redis lost that in a crash, and
// nothing else of them.
func (r *Registry) Remember(ctx context.Context) error {
	var names []any
	r.companies.Range(func(name, c any) bool {
		if known := c.(*company); known.touched.Load() != nil || known.snap.Load() != nil {
			names = append(names, name)
		}
		return true
	})
	if len(names) == 0 {
		return nil
	}
	known, err := r.redis.SMIsMember(ctx, companiesKey, names...).Result()
	if err != nil {
		return fmt.Errorf("registry: look for the companies: %w", err)
	}
	for i, name := range names {
		if known[i] {
			continue
		}
		if err := r.nameAgain(ctx, name.(string)); err != nil {
			return err
		}
	}
	return nil
}

// nameAgain makes a company known that is not, if there is something of it: else it was erased.
func (r *Registry) nameAgain(ctx context.Context, name string) error {
	callbacks, err := r.redis.HLen(ctx, callbacksKey(name)).Result()
	var events int64
	if err == nil {
		events, err = r.redis.XLen(ctx, eventsKey(name)).Result()
	}
	if err == nil && callbacks+events > 0 {
		err = r.redis.SAdd(ctx, companiesKey, name).Err()
	}
	if err != nil {
		return fmt.Errorf("registry: note company %s: %w", name, err)
	}
	return nil
}

// forget takes company ARGV[1] out of the set, with line ARGV[2] of the audit trail if it was in it. A line since ARGV[4] that has
// ARGV[3] in it goes: it is of the same erasure.
var forget = redis.NewScript(AuditLua + `
if redis.call('SREM', KEYS[1], ARGV[1]) == 0 then return end
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[4], '+')) do
	if string.find(entry[2][2], ARGV[3], 1, true) then redis.call('XDEL', KEYS[2], entry[1]) end
end
audit(KEYS[2], ARGV[2])`)

// An Erasure tells one erasure of a company from all others. However often it comes to [Registry.Forget], it leaves one line.
type Erasure struct {
	ID    string    // in no other line of the audit trail
	Began time.Time // by Redis's clock
}

// Forget takes the company's name out of [Registry.Companies], after all of it was erased; whoever uses it again names it again. All that is left
// of the company's audit trail is the line of this erasure, with these changes.
func (r *Registry) Forget(ctx context.Context, name string, e Erasure, changes ...AuditChange) error {
	if err := r.eraseTrail(ctx, name); err != nil {
		return err
	}
	if err := r.note(ctx, name); err != nil { // so that the script can tell its own earlier run
		return err
	}
	r.company(name).touched.Store(nil)
	line := storedLine{Company: name, Actor: Actor(ctx), Action: ActionEraseCompany, Object: "companies/" + name, Changes: changes, Unique: e.ID}
	err := forget.Run(ctx, r.redis, []string{companiesKey, auditCompaniesKey}, name, line.String(), e.mark(), e.since()).Err()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("registry: forget company %s: %w", name, err)
	}
	return nil
}

// mark is what stands in the line of an erasure and in no other.
func (e Erasure) mark() string { return `"k":"` + e.ID + `"` }

// since is the first id that its line may have: Redis's clock may step back.
func (e Erasure) since() string {
	return strconv.FormatInt(max(0, e.Began.Add(-time.Hour).UnixMilli()), 10)
}

// Forgotten reports whether an erasure came to [Registry.Forget].
func (r *Registry) Forgotten(ctx context.Context, e Erasure) (bool, error) {
	lines, err := r.redis.XRange(ctx, auditCompaniesKey, e.since(), "+").Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for the end of an erasure: %w", err)
	}
	return slices.ContainsFunc(lines, func(line redis.XMessage) bool {
		text, _ := line.Values["l"].(string)
		return strings.Contains(text, e.mark())
	}), nil
}

// Known reports whether the company is one of [Registry.Companies].
func (r *Registry) Known(ctx context.Context, name string) (bool, error) {
	known, err := r.redis.SIsMember(ctx, companiesKey, name).Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for company %s: %w", name, err)
	}
	return known, nil
}

// IDs returns the ids of a company's callbacks, in no order, without opening them; with deleted, of all there ever were.
func (r *Registry) IDs(ctx context.Context, name string, deleted bool) ([]int64, error) {
	var texts []string
	var err error
	if deleted {
		texts, err = r.redis.ZRange(ctx, changesKey(name), 0, -1).Result()
	} else {
		texts, err = r.redis.HKeys(ctx, callbacksKey(name)).Result()
	}
	if err != nil {
		return nil, fmt.Errorf("registry: list the callbacks of company %s: %w", name, err)
	}
	ids := make([]int64, len(texts))
	for i, text := range texts {
		if ids[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, fmt.Errorf("registry: a callback's id of company %s is no number: %w", name, err)
		}
	}
	return ids, nil
}

// Companies returns the names of all companies that were touched and not erased since, sorted.
func (r *Registry) Companies(ctx context.Context) ([]string, error) {
	return Companies(ctx, r.redis)
}

// Companies is [Registry.Companies] for who has no registry.
func Companies(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	names, err := rdb.SMembers(ctx, companiesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the companies: %w", err)
	}
	slices.Sort(names)
	return names, nil
}
