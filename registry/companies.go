package registry

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// touchFor is how long Touch remembers a company.
const touchFor = time.Minute

// Touch makes the company known to [Registry.Companies]. Call it before the first
// write under a company's name. It remembers for a minute that it did. If the company
// is read at another version meanwhile, it may have been erased, and Touch forgets.
// While Redis does not answer, what it remembers is good for another minute.
func (r *Registry) Touch(ctx context.Context, company string) error {
	if err := checkCompany(company); err != nil {
		return err
	}
	c := r.company(company)
	done := c.touched.Load()
	switch {
	case done == nil || time.Since(*done) >= touchFor+goodFor:
		return r.note(ctx, company)
	case time.Since(*done) >= touchFor:
		r.naming.do(ctx, func(ctx context.Context) error { return r.note(ctx, company) })
	}
	return nil
}

// note is Touch that remembers nothing of an earlier one.
func (r *Registry) note(ctx context.Context, company string) error {
	start := time.Now()
	touched := &r.company(company).touched
	before := touched.Load()
	if err := r.redis.SAdd(ctx, companiesKey, company).Err(); err != nil {
		return fmt.Errorf("registry: note company %s: %w", company, err)
	}
	touched.CompareAndSwap(before, &start) // else it may have been erased meanwhile
	return nil
}

// rememberFor is how long Remember has a company in mind: Redis loses the last second or so.
const rememberFor = 2 * touchFor

// Remember makes companies known to [Registry.Companies] again: these, and those that
// this process has touched lately. It is for a Redis that lost their names in a crash,
// and nothing else of them.
func (r *Registry) Remember(ctx context.Context, companies []string) error {
	names := make([]any, 0, len(companies))
	for _, name := range companies {
		names = append(names, name)
	}
	r.companies.Range(func(name, c any) bool {
		if at := c.(*company).touched.Load(); at != nil && time.Since(*at) < rememberFor {
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

// nameAgain makes a company known that is not. If there is nothing of it, it was erased, and stays unknown.
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

// Known reports whether the company is one of [Registry.Companies].
func (r *Registry) Known(ctx context.Context, name string) (bool, error) {
	known, err := r.redis.SIsMember(ctx, companiesKey, name).Result()
	if err != nil {
		return false, fmt.Errorf("registry: look for company %s: %w", name, err)
	}
	return known, nil
}

// IDs returns the ids of a company's callbacks, in no order, without opening them. With deleted, it returns those of all there ever were.
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

// someCompanies is about how many names are read at once where all are walked over.
const someCompanies = 100

// SomeCompanies returns some of the names that Companies returns, from a place on, and
// the next place; both begin and end at 0. A name that was there all the time is among
// those of a walk, perhaps more than once.
func (r *Registry) SomeCompanies(ctx context.Context, from uint64) (names []string, next uint64, err error) {
	names, next, err = r.redis.SScan(ctx, companiesKey, from, "", someCompanies).Result()
	if err != nil {
		return nil, 0, fmt.Errorf("registry: list some companies: %w", err)
	}
	return names, next, nil
}

// Companies returns the names of all companies that were touched and not erased since, sorted.
func (r *Registry) Companies(ctx context.Context) ([]string, error) {
	return Companies(ctx, r.redis)
}

// Companies is [Registry.Companies] for callers that have no Registry.
func Companies(ctx context.Context, rdb redis.UniversalClient) ([]string, error) {
	names, err := rdb.SMembers(ctx, companiesKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the companies: %w", err)
	}
	slices.Sort(names)
	return names, nil
}
