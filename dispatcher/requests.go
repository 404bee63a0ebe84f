package dispatcher

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// A Showing says what of a request a reader may see.
type Showing struct {
	Payload bool // its body, which is the event's payload or made of it
	Query   bool // what is kept of its URL's query: the names in it
}

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

// ShowRequests gives the attempts of a delivery, as [Client.Delivery] read it, the requests that they sent and their timing, as far as they are kept. What is not
// shown says why. Error: [ErrUnavailable].
func (c *Client) ShowRequests(ctx context.Context, company string, d *Delivery, show Showing) error {
	var payload []byte
	var missing string
	var err error
	switch {
	case !show.Payload:
		missing = "this key may not see payloads"
	case d.DecisionID != "":
	case len(d.kept.By) > 0:
		payload, err = c.Payload(ctx, company, d.EventID)
		switch {
		case errors.Is(err, ErrBodyLeft):
			missing = "the event's body is no longer kept (--body-retention)"
		case errors.Is(err, ErrNotFound):
			missing = "the event is no longer kept"
		case err != nil:
			return err
		}
	}
	for i := range d.Attempts {
		a := &d.Attempts[i]
		s := d.kept.By[a.Number]
		if s != nil {
			a.Timing = timingOf(s.Timing, s.Reused)
		}
		if a.Request = c.request(company, d, a, s, show); a.Request == nil {
			a.RequestMissing = d.requestMissing(a, s)
			continue
		}
		if a.BatchID != "" {
			a.Request.BodyMissing = "it is not kept: it was a batch's, of the payloads of its events"
			continue
		}
		if a.Request.BodyMissing = missing; missing == "" {
			a.Request.Body, a.Request.BodyMissing = bodyOf(s, payload, d.kept.Others)
		}
	}
	return nil
}

// request is what is kept of an attempt's request, without its body; nil if nothing is.
func (c *Client) request(company string, d *Delivery, a *Attempt, s *ledger.Sent, show Showing) *Request {
	if s == nil || len(s.URL) == 0 {
		return nil
	}
	url, err := c.registry.OpenURL(company, d.CallbackID, s.URL)
	if err != nil { // its key is retired
		url = registry.Masked
	}
	of := known{id: d.DeliveryID, event: d.EventID, typ: d.EventType, number: s.Number, at: s.At}
	if a.BatchID != "" {
		of.id, of.event, of.typ = a.BatchID, "", ""
	}
	r := requestOf(s, of, url)
	if !show.Query {
		r.URL = withoutQuery(r.URL)
	}
	return r
}

// bodyOf is the body that was sent, or why it is not kept.
func bodyOf(s *ledger.Sent, payload []byte, others map[string][]byte) (body []byte, missing string) {
	switch {
	case s.Body != nil && s.Body.NotKept:
		return nil, "it is not kept: it is no event's payload, or made of one and too long"
	case s.Body.Apply(payload, others) != nil:
		return s.Body.Apply(payload, others), ""
	}
	return nil, "it is not kept: it was made of the payload, and of those only the last attempt's is"
}

// requestMissing says why an attempt shows no request.
func (d *Delivery) requestMissing(a *Attempt, s *ledger.Sent) string {
	last := 0
	for _, other := range d.Attempts {
		last = max(last, other.Number)
	}
	switch {
	case s != nil && len(s.Timing) > 0:
		return "nothing was sent"
	case a.Reason == verdict.ReasonUnknown:
		return "it is not known whether anything was sent: the process that made the attempt did not record what came of it"
	case a.Number <= last-ledger.KeptSent:
		return fmt.Sprintf("it is no longer kept: those of the last %d attempts are", ledger.KeptSent)
	case a.StatusCode != 0: // somebody answered
		return "requests like this one are not kept (--keep-requests all keeps them)"
	}
	return "nothing was sent, or requests like this one are not kept (--keep-requests)"
}
