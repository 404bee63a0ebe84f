package dispatcher

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// Payload reads the bytes of an event's payload as they came in. Errors: [ErrNotFound], [ErrBodyLeft], [ErrUnavailable].
func (c *Client) Payload(ctx context.Context, company, eventID string) ([]byte, error) {
	payload, err := c.ledger.Payload(ctx, company, eventID)
	switch {
	case errors.Is(err, redis.Nil):
		return nil, ErrNotFound
	case errors.Is(err, ErrBodyLeft):
		return nil, err
	case err != nil:
		return nil, unavailable(ctx, c, "reading the event's payload", err)
	}
	return payload, nil
}

// exchanges reads what is kept of a delivery's exchanges, and shows of its attempts the answers that stand there.
func (c *Client) exchanges(ctx context.Context, r ledger.Ref, d *Delivery) error {
	kept, err := c.ledger.Exchanges(ctx, r)
	if err != nil {
		return unavailable(ctx, c, "reading what was sent", err)
	}
	d.kept = kept
	if err := c.exchangesOfBatches(ctx, r, d); err != nil {
		return unavailable(ctx, c, "reading what was sent of batches", err)
	}
	d.showAnswers()
	return nil
}

// exchangesOfBatches reads what is kept of those exchanges that a delivery was a part of. An attempt of a batch stands in its own lines under another number.
func (c *Client) exchangesOfBatches(ctx context.Context, r ledger.Ref, d *Delivery) error {
	for i := range d.Attempts {
		a := &d.Attempts[i]
		if a.BatchID == "" {
			continue
		}
		x, lines, err := c.ledger.BatchExchanges(ctx, r.Company, r.Callback, a.BatchID)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if line.Batch == a.BatchID && line.Started == a.StartedAt.UnixMilli() && x.By[line.Number] != nil {
				d.kept.By[a.Number] = x.By[line.Number]
			}
		}
	}
	return nil
}

// showAnswers gives the attempts the answers that do not stand in their lines.
func (d *Delivery) showAnswers() {
	for i := range d.Attempts {
		a := &d.Attempts[i]
		if s := d.kept.By[a.Number]; s != nil && (s.AnswerBody != "" || s.AnswerHeaders != nil) {
			a.ResponseHeaders, a.ResponseBody = s.AnswerHeaders, s.AnswerBody
		}
	}
}
