package registry

// An Envelope says what a callback's payloads travel in.
type Envelope string

// The envelopes: none, and those of CloudEvents 1.0 (HTTP protocol binding).
const (
	EnvelopeNone       Envelope = ""                       // written "none"
	EnvelopeStructured Envelope = "cloudevents-structured" // the event with its attributes is the body, as JSON
	EnvelopeBinary     Envelope = "cloudevents-binary"     // the attributes are headers
)

// A BodyForm says how much of an event a callback's requests carry.
type BodyForm string

// The forms of a body.
const (
	BodyFull BodyForm = ""     // written "full": the payload
	BodyThin BodyForm = "thin" // an address where the payload is had
)

// Source is what the callbacks of a company give as the source of their CloudEvents. It is the same for ever, whatever address the installation has.
func Source(company string) string { return "urn:ringback:company:" + company }
