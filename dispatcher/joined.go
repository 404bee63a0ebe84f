package dispatcher

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// maxJoined is how long the body of a batch with several members may be. Payloads have their own bound; templates and envelopes may make more of them.
const maxJoined = 8 << 20

// joined is what a batch sends: a JSON array of what a request by itself would say of each member, or of objects with that, its delivery's id and its type.
// Binary envelopes and forms are of one event only: if the callback came to have one since the batch was made, the batch goes out without.
func (a *attempt) joined(by *sender, at time.Time) (out outgoing, err error) {
	out.contentType = payloads.ContentTypeJSON
	if a.callback.Envelope == registry.EnvelopeStructured && !a.enveloped() {
		out.contentType = payloads.ContentTypeCloudEventsBatch
	}
	size := 2
	for _, m := range a.batch.Members {
		size += len(m.Payload) + 128
	}
	body, sums := append(make([]byte, 0, size), '['), make([]byte, 0, len(a.batch.Members)*ledger.SumLength)
	for i, m := range a.batch.Members {
		if i > 0 {
			body = append(body, ',')
		}
		var sum []byte
		if body, sum, err = a.element(body, by, m, at); err != nil {
			return out, err
		}
		if len(body) > maxJoined && i > 0 {
			return out, fmt.Errorf("the batch is longer than %d bytes", maxJoined)
		}
		sums = append(sums, sum...)
	}
	out.body, out.sums = append(body, ']'), sums
	return out, nil
}

// element appends what a batch says of a member to its body. sum is what that is known by later, when its tickets are ***.
func (a *attempt) element(body []byte, by *sender, m ledger.BatchMember, at time.Time) (longer, sum []byte, err error) {
	begin, tickets := len(body), len(a.tickets)
	said, _, err := a.said(by, a.member(m), at)
	if err != nil {
		return body, nil, err
	}
	if a.enveloped() {
		head, _ := json.Marshal(element{a.elementID(m), m.Meta.Type}) // strings always encode
		body = append(append(body, head[:len(head)-1]...), `,"payload":`...)
		body = append(append(body, said...), '}')
	} else {
		body = append(body, said...)
	}
	return body, ledger.Sum(blotted(body[begin:], a.tickets[tickets:])), nil
}

// member is what a batch tells of a member.
func (a *attempt) member(m ledger.BatchMember) occurrence {
	return occurrence{defaulted(a.ownID, m.Event), m.Event, m.Meta.Type, a.types[m.Meta.Type], m.Accepted.UTC(), m.Payload}
}

// elementID is the delivery's, or that of a test.
func (a *attempt) elementID(m ledger.BatchMember) string { return defaulted(a.ownID, m.DeliveryID()) }

// An element begins a delivery's envelope in a batch: its payload follows.
type element struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// typeOf is the type whose success rule judges a batch: that of all members, or nil if they have several.
func typeOf(b *ledger.Batch, types map[string]*payloads.Type) (name string, t *payloads.Type) {
	for _, m := range b.Members {
		switch {
		case name == "":
			name, t = m.Meta.Type, types[m.Meta.Type]
		case name != m.Meta.Type:
			return "*", nil
		}
	}
	return name, t
}
