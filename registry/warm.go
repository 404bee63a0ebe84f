package registry

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// ManyCallbacks is how many callbacks make it worth to read a company before anything
// of it is asked for: reading them takes some tens of milliseconds.
const ManyCallbacks = 1000

// warmPage is how many companies are asked for their numbers at a time.
const warmPage = 500

// Warm reads the companies with so many callbacks or more, the largest first, until
// ctx ends. Whoever needs one that was not read reads it then.
func (r *Registry) Warm(ctx context.Context, least int64) error {
	names, err := r.Companies(ctx)
	if err != nil {
		return err
	}
	type size struct {
		name      string
		callbacks int64
	}
	var large []size
	for page := range slices.Chunk(names, warmPage) {
		counts := make([]*redis.IntCmd, len(page))
		if _, err := r.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, name := range page {
				counts[i] = p.HLen(ctx, callbacksKey(name))
			}
			return nil
		}); err != nil {
			return fmt.Errorf("registry: count the callbacks of companies: %w", err)
		}
		for i, count := range counts {
			if count.Val() >= least {
				large = append(large, size{page[i], count.Val()})
			}
		}
	}
	slices.SortFunc(large, func(a, b size) int { return cmp.Compare(b.callbacks, a.callbacks) })
	for _, company := range large {
		if _, err := r.remembered(ctx, company.name); err != nil {
			return err
		}
	}
	return nil
}
