package dispatcher

import (
	"net/http"
	"time"

	"github.com/ringback/ringback/payloads"
)

// payloadsPath is where the payloads of thin bodies are had: a ticket follows.
const payloadsPath = "/payloads/"

// challengePrefix begins the ids of challenges.
const challengePrefix = "chl_"

// An outgoing is what a request carries, or what a partner fetches: the payload as it was accepted, stamped, in full or thin, in its envelope, encoded. It is what is signed.
type outgoing struct {
	body        []byte
	contentType string
	event       *payloads.CloudEvent // its attributes are headers; nil: none are
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
