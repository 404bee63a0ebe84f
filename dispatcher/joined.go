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
	enveloped := registry.BatchElement(a.batch.Element) == registry.ElementEnvelope
	if a.callback.Envelope == registry.EnvelopeStructured && !enveloped {
		out.contentType = payloads.ContentTypeCloudEventsBatch
	}
	size := 2
	for _, m := range a.batch.Members {
		size += len(m.Payload) + 128
	}
	body := append(make([]byte, 0, size), '[')
	for i, m := range a.batch.Members {
		if i > 0 {
			body = append(body, ',')
		}
		said, _, err := a.said(by, a.member(m), at)
		if err != nil {
			return out, err
		}
		if enveloped {
			head, _ := json.Marshal(element{m.DeliveryID(), m.Meta.Type}) // strings always encode
			body = append(append(body, head[:len(head)-1]...), `,"payload":`...)
			body = append(append(body, said...), '}')
		} else {
			body = append(body, said...)
		}
		if len(body) > maxJoined && i > 0 {
			return out, fmt.Errorf("the batch is longer than %d bytes", maxJoined)
		}
	}
	out.body = append(body, ']')
	return out, nil
}

// member is what a batch tells of a member.
func (a *attempt) member(m ledger.BatchMember) occurrence {
	return occurrence{m.Event, m.Event, m.Meta.Type, a.types[m.Meta.Type], m.Accepted.UTC(), m.Payload}
}

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
