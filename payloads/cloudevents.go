package payloads

import (
	"encoding/json"
	"fmt"
	"time"
)

// ContentTypeCloudEvents is the content type of a structured CloudEvent.
const ContentTypeCloudEvents = "application/cloudevents+json"

// ContentTypeCloudEventsBatch is the content type of an array of structured CloudEvents.
const ContentTypeCloudEventsBatch = "application/cloudevents-batch+json"

// A CloudEvent has the attributes of an event in CloudEvents 1.0. ID, Source and Type hold letters, digits and _ . : - only, so that no way to write them
// has to encode any of it.
type CloudEvent struct {
	ID     string // with Source, the same for all that is sent of an event
	Source string // a URI reference
	Type   string
	Time   time.Time
	// DataRef is where the event's data is had, as the extension dataref has it. Empty: the event carries its data.
	DataRef string
}

// attributes calls visit for each attribute that has a value, but for the content type of the data.
func (e CloudEvent) attributes(visit func(name, value string)) {
	visit("specversion", "1.0")
	visit("id", e.ID)
	visit("source", e.Source)
	visit("type", e.Type)
	visit("time", e.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
	if e.DataRef != "" {
		visit("dataref", e.DataRef)
	}
}

// Header calls set for each header of the event in binary mode (HTTP protocol binding, section 3.1). The content type of the data is Content-Type.
func (e CloudEvent) Header(set func(name, value string)) {
	e.attributes(func(name, value string) { set("ce-"+name, value) })
}

// Structured returns the event in structured mode, with data, a JSON text, byte for byte in it. If there is a DataRef, data is left out.
func (e CloudEvent) Structured(data json.RawMessage) ([]byte, error) {
	out := make([]byte, 0, len(data)+400)
	var failed error
	add := func(name, value string) {
		quoted, err := json.Marshal(value)
		if err != nil {
			failed = fmt.Errorf("writing a CloudEvent's %s: %w", name, err)
		}
		out = append(append(append(append(out, ",\""...), name...), "\":"...), quoted...)
	}
	e.attributes(add)
	if e.DataRef == "" {
		add("datacontenttype", ContentTypeJSON)
		out = append(append(out, ",\"data\":"...), data...)
	}
	out[0] = '{' // in the place of the first comma
	return append(out, '}'), failed
}
