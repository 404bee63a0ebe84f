package dispatcher

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// payloadsPath is where the payloads of thin bodies are had: a ticket follows.
const payloadsPath = "/payloads/"

// An outgoing is what a request carries, or what a partner fetches: the payload as it was accepted, stamped, in full or thin, in its envelope, encoded. It is what is signed.
type outgoing struct {
	body        []byte
	contentType string
	event       *payloads.CloudEvent // its attributes are headers; nil: none are
	sums        []byte               // of a batch: what its elements are known by, one after the other
}

// A thin is a body that says where the payload is had.
type thin struct {
	ID   string    `json:"id"` // the event's
	Type string    `json:"type"`
	Time time.Time `json:"time"` // when the event was accepted
	URL  string    `json:"url"`
}

// describe adds what the headers say of a body.
func (out outgoing) describe(h http.Header) {
	h.Set("Content-Type", out.contentType)
	if out.event != nil {
		out.event.Header(h.Set)
	}
}

// An occurrence is an event that a request tells of.
type occurrence struct {
	id      string // the event's, or that of a test or a question
	event   string // the event's id in the ledger
	name    string // of its type
	typ     *payloads.Type
	at      time.Time // when it was accepted, or asked
	payload json.RawMessage
}

// one is what an attempt tells of that is no batch.
func (a *attempt) one() occurrence {
	return occurrence{defaulted(a.ownID, a.ref.Event), a.ref.Event, a.meta.Type, a.typ, a.happened(), a.body}
}

// said is what a request at a time says of an event: its payload in the callback's shape and stamped, or where that is had, and all that as the data of a
// CloudEvent if the callback wants those structured. e has the event's attributes. A decision is asked in full: nothing of it is kept that could be fetched.
func (a *attempt) said(by *sender, o occurrence, at time.Time) (said json.RawMessage, e payloads.CloudEvent, err error) {
	cb := a.callback
	e = payloads.CloudEvent{ID: o.id, Source: registry.Source(a.ref.Company), Type: o.name, Time: o.at}
	if said, err = content(cb, o.typ, o.payload, at); err != nil {
		return nil, e, err
	}
	if cb.Body == registry.BodyThin && !a.isDecision() {
		ticket := cb.Ticket(a.ticketAt(o, at))
		if by.dry { // it would lead nowhere
			ticket = registry.Masked
		}
		a.tickets = append(a.tickets, ticket)
		e.DataRef = by.publicURL(cb) + payloadsPath + ticket
		if said, err = json.Marshal(thin{e.ID, e.Type, e.Time, e.DataRef}); err != nil { // nothing in it is escaped
			return nil, e, err
		}
	}
	if cb.Envelope == registry.EnvelopeStructured {
		said, err = e.Structured(said)
	}
	return said, e, err
}

// happened is when an event was accepted, or a question asked.
func (a *attempt) happened() time.Time {
	if a.accepted.IsZero() {
		return a.begun.UTC()
	}
	return a.accepted.UTC()
}

// ticketAt is the ticket of a thin body about an event that is sent at a time.
func (a *attempt) ticketAt(o occurrence, at time.Time) registry.Ticket {
	t := registry.Ticket{Event: o.event, Accepted: o.at, Expires: registry.TicketEnd(o.at, at)}
	if a.test {
		t.Event, t.Test = o.name, true
	}
	return t
}
