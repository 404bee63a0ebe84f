package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A TestResult is what came of a test: one attempt that was made at once and of which nothing is kept.
type TestResult struct {
	// DeliveryID is the webhook-id the partner saw: of this test alone, "tst_" and random.
	DeliveryID string
	EventType  string
	// Attempt is number 1. Its verdict is what a delivery's would be, but nothing follows from it.
	Attempt
}

// MarshalJSON writes the test's names and its attempt as one object.
func (t TestResult) MarshalJSON() ([]byte, error) {
	return readable(struct {
		DeliveryID string `json:"delivery_id"`
		EventType  string `json:"event_type"`
		attemptJSON
	}{t.DeliveryID, t.EventType, t.json()})
}

// Test sends the example of a callback type to a callback, as a delivery would: the same encoding, signature, credentials, guard and
// judgement, and beside them the header Ringback-Test: 1. To a callback with batches it is a batch of one. Its JSON is written as [payloads.Type.Fragile] does. It waits for the answer. The event type may be empty where the callback is for
// one type; whether the callback is narrowed, paused or disabled does not matter, and nothing of the test counts against it. Of one
// callback a process makes one test or challenge at a time.
//
// Errors: *[StateError] if there is one, if the callback is unverified, or if everything that goes out is paused; registry.ErrNotFound; *payloads.InvalidError if the event type is none of the callback's or has no example; or what Redis said.
func (c *Client) Test(ctx context.Context, company string, callbackID int64, eventType string) (*TestResult, error) {
	cb, err := c.registry.Get(ctx, company, callbackID)
	if err != nil {
		return nil, err
	}
	if cb.Destination.Pull {
		return nil, &StateError{Message: "nothing is sent to this callback, so there is nothing to try: its partner fetches"}
	}
	if cb.Status == registry.Unverified {
		return nil, &StateError{Message: "this callback's endpoint has not answered its challenge, so nothing is sent there: verify it first"}
	}
	if eventType == "" {
		eventType = cb.Type
	}
	if payloads.IsGlob(eventType) {
		return nil, misfit("body.event_type", "is missing: this callback is for several types ("+cb.Type+"), say which of them to send")
	}
	if !payloads.MatchGlob(cb.Type, eventType) {
		return nil, misfit("body.event_type", "must be a type that this callback is for: "+cb.Type)
	}
	typ, err := c.lookupType(ctx, eventType)
	if err != nil {
		return nil, err
	}
	if len(typ.Example) == 0 {
		return nil, misfit("body.event_type", "has no example to send: an operator gives "+eventType+" one with `ringback types put`")
	}
	if c.egressHalted(ctx) {
		return nil, &StateError{Message: "everything that goes out is paused, tests too: try again when an operator has resumed it (`ringback egress resume`)"}
	}
	done, err := c.alone(company, callbackID)
	if err != nil {
		return nil, err
	}
	defer done()
	if cb, err = c.registry.WithCompanyTLS(ctx, cb); err != nil {
		return nil, err
	}
	now := time.Now()
	r := &attempt{
		ref: ledger.Ref{Company: company, Event: "test", Callback: callbackID}, ownID: "tst_" + strings.ToLower(rand.Text()), test: true, number: 1,
		callback: cb, typ: typ, timeout: cb.Timeout, meta: ledger.Meta{Type: eventType}, body: exampleFor(cb, typ), accepted: now, begun: now,
	}
	r.together()
	ctx, span := c.tracer.Start(ctx, "test "+eventType, r.spanOptions()...)
	defer span.End()
	s := r.send(ctx, &c.sender)
	r.hear(&s)
	written := r.entry(s, DefaultKeepAnswerBytes)
	c.reporter.tell(ctx, span, "test", r, s, written)
	result := &TestResult{DeliveryID: r.ownID, EventType: eventType, Attempt: shownAttempt(forReader(ctx, written))}
	result.Timing = timingOf(µs(s.timing), s.timing.Reused)
	if result.RequestMissing = "nothing was sent"; s.header != nil {
		result.Request, result.RequestMissing = r.shown(s), ""
	}
	if s.Verdict == verdict.Gone {
		result.Detail = "answered 410 Gone: a delivery would be given up, and the callback disabled"
	}
	return result, nil
}

// together has a test, or a dry run, of a callback with batches be a batch of one, under its own id.
func (a *attempt) together() {
	if a.callback.Batch == nil {
		return
	}
	a.batch = &ledger.Batch{
		WebhookID: a.ownID, Element: string(a.callback.Batch.Element), Members: []ledger.BatchMember{{Ref: a.ref, Meta: a.meta, Payload: a.body, Accepted: a.accepted}},
	}
	a.types = map[string]*payloads.Type{a.meta.Type: a.typ}
	if a.hears() {
		a.keepBody = answerOfResults
	}
}

// exampleFor is what a test sends: to a callback that takes JSON, the example in a writing that shows who verifies a body that was written anew. A form
// is made of the example anyway, and is the example's own.
func exampleFor(cb *registry.Callback, typ *payloads.Type) json.RawMessage {
	if cb.Destination.ContentType == payloads.ContentTypeForm {
		return typ.Example
	}
	return typ.Fragile()
}
