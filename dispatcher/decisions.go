package dispatcher

import (
	"context"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// decision reads one decision. Errors: [ErrNotFound], [ErrUnavailable].
func (c *Client) decision(ctx context.Context, company, id string) (*Delivery, error) {
	v, err := c.newView(ctx, company)
	if err != nil {
		return nil, err
	}
	found, err := v.readDecisions(ctx, []string{id})
	if err != nil {
		return nil, err
	}
	if found[0] == nil {
		return nil, ErrNotFound
	}
	return found[0], nil
}

// readDecisions reads the decisions that the book names; nil where one is gone.
func (v *view) readDecisions(ctx context.Context, ids []string) ([]*Delivery, error) {
	decisions, err := v.c.ledger.Decisions(ctx, v.company, ids)
	if err != nil {
		return nil, unavailable(ctx, v.c, "reading decisions", err)
	}
	found := make([]*Delivery, len(decisions))
	for i, d := range decisions {
		if d != nil {
			found[i] = v.shownDecision(ctx, d)
		}
	}
	return found, nil
}

func (v *view) shownDecision(ctx context.Context, from *ledger.Decision) *Delivery {
	d := &Delivery{
		DecisionID: from.ID, DeliveryID: from.ID, EventID: from.ID, EventType: from.Type, CallbackID: from.Callback, AcceptedAt: from.Asked,
		Attempts: []Attempt{}, TraceID: traceID(from.TraceParent),
	}
	var e ledger.Entry
	switch {
	case from.Attempt != nil:
		e = *from.Attempt
	case v.now.Before(from.Lease):
		d.State, d.Summary = ledger.Active, "The partner is being asked."
		return d
	default: // whoever asked is gone
		e = ledger.Entry{Number: 1, Started: from.Asked.UnixMilli(), Verdict: verdict.Dead, Reason: verdict.ReasonUnknown}
	}
	e = forReader(ctx, e)
	attempt := shownAttempt(e)
	attempt.Detail = e.DecisionDetail()
	d.Attempts = append(d.Attempts, attempt)
	if from.Sent != nil {
		d.kept.By = map[int]*ledger.Sent{from.Sent.Number: from.Sent}
		d.showAnswers()
	}
	d.State, d.Summary = ledger.Delivered, "Decided: "+attempt.Detail+"."
	if e.Verdict != verdict.Delivered {
		d.State, d.Summary = ledger.Dead, "Not decided: "+attempt.Detail+". A decision is asked for once."
	}
	return d
}

// notRepeated refuses to replay or cancel a decision.
func (c *Client) notRepeated(ctx context.Context, company, id string) error {
	d, err := c.decision(ctx, company, id)
	if err != nil {
		return err
	}
	return &StateError{Delivery: d, Message: "a decision is asked for once, while its caller waits: ask again with POST …/decisions"}
}
