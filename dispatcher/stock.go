package dispatcher

import (
	"context"

	"github.com/ringback/ringback/registry"
)

// glancePage is how many companies are looked at in one round trip.
const glancePage = 500

// What the tally of a company counts that needs no work to be there: its dead letters, what it has buried by reason, and its callbacks by status.
const (
	tallyDead   = "dead"
	tallyBuried = "buried:"
	tallyStatus = "status:"
)

// stocks are companies' tallies.
func (c *Client) stocks(ctx context.Context, companies []string) ([]registry.Tally, error) {
	books, err := c.ledger.Books(ctx, companies)
	if err != nil {
		return nil, err
	}
	statuses, err := c.registry.CountStatuses(ctx, companies)
	if err != nil {
		return nil, err
	}
	all := make([]registry.Tally, len(companies))
	for i := range all {
		all[i] = registry.Tally{tallyDead: books[i].Dead}
		for reason, n := range books[i].Buried {
			all[i][tallyBuried+reason] = n
		}
		for status, n := range statuses[i] {
			all[i][tallyStatus+string(status)] = n
		}
	}
	return all, nil
}

// takeStock writes into filings what there is of their companies.
func (c *Client) takeStock(ctx context.Context, filings []registry.Filing) error {
	if len(filings) == 0 {
		return nil
	}
	names := make([]string, len(filings))
	for i, f := range filings {
		names[i] = f.Company
	}
	all, err := c.stocks(ctx, names)
	if err != nil {
		return err
	}
	for i := range filings {
		filings[i].Tally = all[i]
	}
	return nil
}
