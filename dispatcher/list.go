package dispatcher

import (
	"context"
	"errors"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
)

// listFor is how long a list searches before it answers with what it has found, and how far it came.
const listFor = time.Second

// Deliveries lists deliveries, newest accepted first, and the cursor of the next page ("" at the end). A page is as long as its limit, or the last one;
// but for a search among very many that takes longer than a second: it says where it goes on, and [Reached] how far that is.
//
// Events are listed as long as they are kept. The dead, which are kept for longer, are all found if only they are asked for; those that were
// pruned are not.
// Errors: [ErrBadCursor], [ErrUnavailable].
func (c *Client) Deliveries(ctx context.Context, company string, q Query) ([]*Delivery, string, error) {
	return c.list(ctx, company, q, time.Now().Add(listFor))
}

// list is Deliveries, and searches until then.
func (c *Client) list(ctx context.Context, company string, q Query, until time.Time) ([]*Delivery, string, error) {
	q.Limit = min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit)
	if len(q.Within) == 1 && q.CallbackID == 0 { // which is found faster
		q.CallbackID = q.Within[0]
	}
	if q.CallbackID != 0 && !q.sees(q.CallbackID) {
		return nil, "", nil
	}
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, "", err
	}
	switch {
	case q.Decisions:
		return v.book(ctx, q, ledger.BookOfDecisions, v.readDecisions, until)
	case len(q.States) == 1 && q.States[0] == ledger.Dead:
		return v.book(ctx, q, ledger.BookOfDead, v.letters, until)
	case q.unfinished():
		found, next, err := v.listUnfinished(ctx, q, until)
		if !errors.Is(err, errMany) {
			return found, next, err
		}
	}
	return v.walkLog(ctx, q, until)
}

// Reached is how far back a list has searched that goes on with this cursor; zero if it does not say.
func Reached(cursor string) time.Time {
	if p, err := parseLogCursor(cursor); err == nil {
		return ledger.LogTime(p.logID)
	}
	e, _ := parseBookCursor(cursor)
	return ledger.FromMS(e.At)
}
