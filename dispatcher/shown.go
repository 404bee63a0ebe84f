package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// ShowRequests gives the attempts of a delivery, as [Client.Delivery] read it, the requests that they sent and their timing, as far as they are kept. What is not
// shown says why. Error: [ErrUnavailable].
func (c *Client) ShowRequests(ctx context.Context, company string, d *Delivery, show Showing) error {
	var payload []byte
	var missing string
	var err error
	switch {
	case !show.Payload:
		missing = hiddenPayload
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
	batches := remaker{c, show, maxJoined}
	for i := range slices.Backward(d.Attempts) {
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
			if err := batches.remake(ctx, ledger.Ref{Company: company, Event: d.EventID, Callback: d.CallbackID}, a, s); err != nil {
				return err
			}
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
