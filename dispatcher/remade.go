package dispatcher

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// Why an element cannot be shown.
const (
	elementGone    = "its event was erased, or is no longer kept"
	elementLeft    = "its event's body is no longer kept (--body-retention)"
	elementChanged = "it is made of its event's payload, and that would be made otherwise now: the callback has another template or envelope, or the type another stamp"
)

// batchUnknown is why nothing is shown of a batch.
const batchUnknown = "it was a batch's, and of which events is not kept"

// A remaker makes the bodies of batches again, of the payloads of their events. Each element is compared with what is kept of the one that was sent: so what it
// shows is what went out.
type remaker struct {
	client *Client
	show   Showing
	left   int // how long bodies may be yet
}

// remake gives an attempt's request, that of a batch, its elements and its body, or says what is missing.
func (r *remaker) remake(ctx context.Context, ref ledger.Ref, a *Attempt, s *ledger.Sent) error {
	b, err := r.client.ledger.Aboard(ctx, ref.Company, ref.Callback, a.BatchID, s)
	if err == nil {
		err = r.client.ledger.Complete(ctx, &b, a.StartedAt, r.show.Payload)
	}
	if err != nil {
		return unavailable(ctx, r.client, "reading the events of a batch", err)
	}
	if len(b.Members) == 0 {
		a.Request.BodyMissing = batchUnknown
		return nil
	}
	made, err := r.elements(ctx, ref, &b, s)
	if err != nil {
		return err
	}
	r.put(a.Request, made)
	return nil
}

// elements are those of a batch, as far as they can be shown.
func (r *remaker) elements(ctx context.Context, ref ledger.Ref, b *ledger.Batch, s *ledger.Sent) ([]Element, error) {
	as := &attempt{ref: ref, batch: b, types: make(map[string]*payloads.Type)}
	var err error
	if as.callback, err = r.client.registry.Get(ctx, ref.Company, ref.Callback); errors.Is(err, registry.ErrNotFound) {
		as.callback = &registry.Callback{Company: ref.Company, ID: ref.Callback} // deleted: if it had neither template nor envelope, this says the same
	} else if err != nil {
		return nil, unavailable(ctx, r.client, "reading the callback of a batch", err)
	}
	made, size := make([]Element, len(b.Members)), 0
	for i, m := range b.Members {
		if m.Accepted.IsZero() {
			made[i].Missing = elementGone
			continue
		}
		made[i] = Element{DeliveryID: m.DeliveryID(), EventID: m.Event}
		if !r.show.Payload {
			continue
		}
		if err := r.client.typedAs(ctx, as, m.Meta.Type); err != nil {
			return nil, unavailable(ctx, r.client, "reading the types of a batch", err)
		}
		if made[i].Missing = elementChanged; size <= maxJoined { // what went out was no longer
			var n int
			made[i].Body, made[i].Missing, n = r.element(as, m, s, i)
			size += n
		}
	}
	return made, nil
}

// element is what was sent of a member, or why it cannot be shown. size is how long what was made is.
func (r *remaker) element(as *attempt, m ledger.BatchMember, s *ledger.Sent, i int) (body, missing string, size int) {
	if len(m.Payload) == 0 {
		return "", elementLeft, 0
	}
	dry := r.client.sender
	dry.dry = true
	said, sum, err := as.element(nil, &dry, m, ledger.FromMS(s.At))
	if err != nil || !bytes.Equal(sum, s.Sums[i*ledger.SumLength:][:ledger.SumLength]) {
		return "", elementChanged, len(said)
	}
	return string(said), "", len(said)
}

// put shows elements as the body that they make, or by themselves if some are missing.
func (r *remaker) put(request *Request, made []Element) {
	request.Elements = made
	if !r.show.Payload {
		request.BodyMissing = hiddenPayload
		return
	}
	body, missing, why := []byte{'['}, 0, ""
	for i := range made {
		if made[i].Missing != "" {
			missing, why = missing+1, made[i].Missing
		}
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, made[i].Body...)
	}
	before := r.left
	r.left -= len(body)
	tooLong := r.left < 0 && before < maxJoined
	switch {
	case tooLong:
		request.BodyMissing = fmt.Sprintf("it is too long to be shown beside those of later attempts: together they may have %d bytes", maxJoined)
	case missing == 1:
		request.BodyMissing = fmt.Sprintf("of its %d elements one is missing: %s", len(made), why)
	case missing > 1:
		request.BodyMissing = fmt.Sprintf("of its %d elements %d are missing, the last of them because %s", len(made), missing, why)
	default:
		request.Body = append(body, ']')
	}
	if request.Body != nil || tooLong {
		for i := range made {
			made[i].Body = ""
		}
	}
}
