package dispatcher

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// pair is an attempt of a batch with two members, the second of which has a type with a stamped field.
func pair(cb *registry.Callback, element registry.BatchElement, payloadsOf ...string) *attempt {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	cb.Company, cb.ID, cb.Secrets = acme, 7, []registry.SigningSecret{{TicketKey: make(registry.TicketKey, 32)}}
	b := &ledger.Batch{WebhookID: "bat_1", Element: string(element)}
	for i, payload := range payloadsOf {
		b.Members = append(b.Members, ledger.BatchMember{
			Ref: ledger.Ref{Company: acme, Event: fmt.Sprintf("e-%d", i), Callback: 7}, Meta: ledger.Meta{Type: fmt.Sprintf("type%d", i%2)}, Payload: []byte(payload), Accepted: at,
		})
	}
	types := map[string]*payloads.Type{"type0": {Name: "type0"}, "type1": {Name: "type1", Stamp: "/sent"}}
	return &attempt{ref: ledger.Ref{Company: acme, Event: "~b", Callback: 7}, callback: cb, batch: b, types: types}
}

// TestElementsOfABatch: each element is what a request by itself would say of the event, whatever else the callback has.
func TestElementsOfABatch(t *testing.T) {
	t.Parallel()
	shape, err := payloads.ParseTemplate(json.RawMessage(`{"kind":"k","n":{"$pointer":"/n"},"sent":0}`), "body.template")
	if err != nil {
		t.Fatal(err)
	}
	by := &sender{publicURL: func(*registry.Callback) string { return "https://ringback.example" }}
	id := ledger.Ref{Company: acme, Event: "e-0", Callback: 7}.DeliveryID()
	const event = `{"specversion":"1.0","id":"e-0","source":"urn:ringback:company:acme","type":"type0","time":"2026-11-30T12:00:00.000Z"`
	for name, tt := range map[string]struct {
		cb      registry.Callback
		element registry.BatchElement
		first   string // the first element; TICKET stands for one
		second  string // a piece of the second
		as      string // the content type
	}{
		"payloads":  {registry.Callback{}, registry.ElementPayload, `{"n": 1}`, `"sent":`, "application/json"},
		"envelopes": {registry.Callback{}, registry.ElementEnvelope, `{"id":"` + id + `","type":"type0","payload":{"n": 1}}`, `"type":"type1","payload":{`, "application/json"},
		"templates": {registry.Callback{Template: shape}, registry.ElementPayload, `{"kind":"k","n":1,"sent":0}`, `"sent":`, "application/json"},
		"events":    {registry.Callback{Envelope: registry.EnvelopeStructured}, registry.ElementPayload, event + `,"datacontenttype":"application/json","data":{"n": 1}}`, `"data":{`, "application/cloudevents-batch+json"},
		"events in envelopes": {
			registry.Callback{Envelope: registry.EnvelopeStructured},
			registry.ElementEnvelope,
			`{"id":"` + id + `","type":"type0","payload":` + event + `,"datacontenttype":"application/json","data":{"n": 1}}}`, `"data":{`, "application/json",
		},
		"thin": {
			registry.Callback{Body: registry.BodyThin},
			registry.ElementPayload,
			`{"id":"e-0","type":"type0","time":"2026-11-30T12:00:00Z","url":"https://ringback.example/payloads/TICKET"}`, `"id":"e-1"`, "application/json",
		},
		"thin events": {registry.Callback{Body: registry.BodyThin, Envelope: registry.EnvelopeStructured}, registry.ElementPayload, event + `,"dataref":"https://ringback.example/payloads/TICKET"}`, `"id":"e-1"`, "application/cloudevents-batch+json"},
		// What a callback came to have since its batch was made, and cannot have beside one.
		"a form by now":         {registry.Callback{Destination: registry.Destination{ContentType: payloads.ContentTypeForm}}, registry.ElementPayload, `{"n": 1}`, `"sent":`, "application/json"},
		"binary events by now":  {registry.Callback{Envelope: registry.EnvelopeBinary}, registry.ElementPayload, `{"n": 1}`, `"sent":`, "application/json"},
		"no template any more ": {registry.Callback{}, registry.ElementPayload, `{"n": 1}`, `"sent":`, "application/json"},
	} {
		a := pair(&tt.cb, tt.element, `{"n": 1}`, `{"n": 2, "sent": 0}`)
		at := time.Now()
		out, err := a.outgoing(by, at)
		if err != nil || out.contentType != tt.as || out.event != nil {
			t.Errorf("%s: %v, as %s", name, err, out.contentType)
		}
		var elements []json.RawMessage
		if err := json.Unmarshal(out.body, &elements); err != nil || len(elements) != 2 {
			t.Fatalf("%s: %v: %s", name, err, out.body)
		}
		first := regexp.MustCompile(`payloads/[^"]+`).ReplaceAllString(string(elements[0]), "payloads/TICKET")
		if first != tt.first || !strings.Contains(string(elements[1]), tt.second) {
			t.Errorf("%s:\n%s\n%s", name, out.body, tt.first)
		}
		if thin := tt.cb.Body == registry.BodyThin; thin != (len(a.tickets) == 2) || strings.Contains(string(a.blottedBody(out.body)), "payloads/"+strings.Join(a.tickets, "")+`"`) && thin {
			t.Errorf("%s: tickets %q", name, a.tickets)
		}
		dry, again := *by, *a
		dry.dry = true
		for i, m := range a.batch.Members { // made again for a reader
			if _, sum, err := again.element(nil, &dry, m, at); err != nil || string(sum) != string(out.sums[i*ledger.SumLength:][:ledger.SumLength]) {
				t.Errorf("%s: element %d is not known again: %v", name, i, err)
			}
		}
		for _, ticket := range a.tickets {
			if strings.Contains(string(a.blottedBody(out.body)), ticket) {
				t.Errorf("%s: a ticket is kept", name)
			}
		}
	}
}

// TestABatchIsBounded: a template may make much of little. A batch that becomes too long is not sent as one, and a member by itself always is.
func TestABatchIsBounded(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", maxJoined/2+1) + `"`
	for n, fits := range map[int]bool{1: true, 2: false} {
		all := make([]string, n)
		for i := range all {
			all[i] = long
		}
		_, err := pair(&registry.Callback{}, registry.ElementPayload, all...).outgoing(&sender{}, time.Now())
		if (err == nil) != fits {
			t.Errorf("of %d: %v", n, err)
		}
	}
}
