package dispatcher

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/registry"
)

// prune takes out of a company's dead-letter book what has been dead for longer than the dead are kept, some 10,000 a call, and announces what
// will follow. A later call goes on, in whichever process.
func (c *Client) prune(ctx context.Context, company string) error {
	for range reconcilePages {
		answer, err := c.answer(ctx, 4, pruneScript, company, c.deadFor.Milliseconds(), reconcilePage)
		if err != nil {
			return err
		}
		if pruned, _ := strconv.ParseInt(answer[1], 10, 64); pruned > 0 {
			c.metrics.pruned.Add(ctx, pruned)
			c.log.InfoContext(ctx, "dead letters pruned", "company", company, "deliveries", pruned, "kept_for", c.deadFor)
		}
		if answer[3] == "1" {
			c.log.WarnContext(ctx, "dead letters are soon pruned: replay what is still to be delivered, or give --dead-retention more time",
				"company", company, "deliveries", answer[2], "within", (c.deadFor / 10).Round(time.Second))
		}
		if answer[0] == "end" {
			return nil
		}
	}
	return nil
}

// ExpiringLetters counts the dead deliveries of all companies that leave the dead-letter book within the next tenth of the time the dead are
// kept, as the workers on this Redis found last, some minutes ago at most.
func ExpiringLetters(ctx context.Context, rdb redis.UniversalClient) (int64, error) {
	companies, err := registry.Companies(ctx, rdb)
	if err != nil {
		return 0, err
	}
	var sum int64
	for page := range slices.Chunk(companies, glancePage) {
		pipe := rdb.Pipeline()
		counts := make([]*redis.StringCmd, len(page))
		for i, company := range page {
			counts[i] = pipe.HGet(ctx, keyOf(company, "prune"), "expiring")
		}
		if err := execute(ctx, pipe); err != nil {
			return 0, err
		}
		for _, count := range counts {
			n, _ := count.Int64() // absent: none
			sum += n
		}
	}
	return sum, nil
}
