package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// A DryRunResult says what would become of an event for a callback. Nothing was sent, and nothing is kept.
type DryRunResult struct {
	EventType string
	Matches   bool
	Why       string         // a sentence
	Miss      *payloads.Miss // the clause of the callback's filter that keeps it away; nil: it matches, or something else does
	Warnings  []string       // what of the payload does not fit its type, where the type takes it all the same
	Request   *Request       // what a first attempt would send, whether it matches or not; nil: RequestMissing says why
	// Payload is what the partner would fetch, whether it matches or not, if nothing is sent.
	Payload json.RawMessage
	// RequestMissing is empty if there is a request.
	RequestMissing string
}

// MarshalJSON writes the result as the API shows it.
func (r DryRunResult) MarshalJSON() ([]byte, error) {
	type clause struct {
		Location string `json:"location"`
		*payloads.Clause
	}
	doc := struct {
		EventType      string          `json:"event_type"`
		Matches        bool            `json:"matches"`
		Why            string          `json:"why"`
		Clause         *clause         `json:"clause,omitempty"`
		Warnings       []string        `json:"warnings,omitempty"`
		Request        *Request        `json:"request,omitempty"`
		RequestMissing string          `json:"request_missing,omitempty"`
		Payload        json.RawMessage `json:"payload,omitempty"`
	}{r.EventType, r.Matches, r.Why, nil, r.Warnings, r.Request, r.RequestMissing, r.Payload}
	if r.Miss != nil {
		doc.Clause = &clause{r.Miss.Location, r.Miss.Clause}
	}
	return readable(doc)
}

// DryRun says whether an event of that type and payload would match a callback, which may be a draft, and what it would be sent. Without a payload it takes the
// type's example; without a type, the callback's, if that is one.
//
// Errors: *payloads.InvalidError if there is no such type, or if its events could not have the payload; or what Redis said.
func (c *Client) DryRun(ctx context.Context, cb *registry.Callback, eventType string, payload json.RawMessage) (*DryRunResult, error) {
	if eventType == "" {
		eventType = cb.Type
	}
	if payloads.IsGlob(eventType) {
		return nil, misfit("body.event_type", "is missing: this callback is for several types ("+cb.Type+"), say which of them to try")
	}
	typ, err := c.lookupType(ctx, eventType)
	if err != nil {
		return nil, err
	}
	if len(payload) == 0 {
		payload = typ.Example
	}
	if len(payload) == 0 {
		return nil, misfit("body.payload", "is missing: "+eventType+" has no example to take instead")
	}
	document, attrs, warnings, err := typ.ExamineAndRead(payload)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	r := &DryRunResult{EventType: eventType, Warnings: warnings}
	r.Matches, r.Why, r.Miss = c.registry.Decide(cb, eventType, attrs, now, func() payloads.Document { return document })
	a := &attempt{
		ref: ledger.Ref{Company: cb.Company, Event: "dry-run", Callback: cb.ID}, ownID: "dry_" + strings.ToLower(rand.Text()), number: 1, callback: cb, typ: typ,
		timeout: cb.Timeout, meta: ledger.Meta{Type: eventType}, body: payload, accepted: now, begun: now,
	}
	a.together()
	dry := c.sender
	dry.dry = true
	if cb.Destination.Pull {
		made, err := a.outgoing(&dry, now)
		if r.Payload, r.RequestMissing = made.body, "nothing is sent: the partner fetches it"; err != nil {
			r.RequestMissing = "the partner would fetch it without its payload, as that cannot be made: " + unsendable(err).Note
		}
		return r, nil
	}
	s := a.post(ctx, &dry, registry.Masked)
	if s.header == nil {
		r.RequestMissing = "it cannot be made, and a delivery would be dead at once (" + string(s.Reason) + "): " + s.Note
		return r, nil
	}
	s.keeps = dry.keeps
	r.Request = a.shown(s)
	return r, nil
}
