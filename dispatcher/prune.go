package dispatcher

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// reconcilePages bounds one company's share of a round.
const reconcilePages = 100

// prune takes out of a company's dead-letter book what has been dead for longer than the dead are kept, some 10,000 a call, and announces what
// will follow. A later call goes on, in whichever process.
func (c *Client) prune(ctx context.Context, company string) error {
	for range reconcilePages {
		page, err := c.ledger.Prune(ctx, company, c.deadFor)
		if err != nil {
			return err
		}
		if page.Pruned > 0 {
			c.metrics.pruned.Add(ctx, page.Pruned)
			c.log.InfoContext(ctx, "dead letters pruned", "company", company, "deliveries", page.Pruned, "kept_for", c.deadFor)
		}
		if page.Announce {
			c.log.WarnContext(ctx, "dead letters are soon pruned: replay what is still to be delivered, or give --dead-retention more time",
				"company", company, "deliveries", page.Expiring, "within", (c.deadFor / 10).Round(time.Second))
		}
		if page.Done {
			return nil
		}
	}
	return nil
}

// ExpiringLetters counts the dead deliveries of all companies that leave the dead-letter book within the next tenth of the time the dead are
// kept, as the workers on this Redis found last, some minutes ago at most.
func ExpiringLetters(ctx context.Context, rdb redis.UniversalClient) (int64, error) {
	return ledger.ExpiringLetters(ctx, rdb)
}
