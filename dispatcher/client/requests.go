package client

import (
	"encoding/base64"
	"time"
)

// A Request is one as it went out, with *** for secrets. Signatures are as they were sent.
type Request struct {
	Method       string            `json:"method"`
	URL          string            `json:"url"`
	Headers      map[string]string `json:"headers"`
	SentAt       time.Time         `json:"sent_at"`
	Incomplete   bool              `json:"incomplete,omitempty"`    // it could not be written to its end: the partner may have a part of it
	Body         *string           `json:"body"`                    // nil: it is not shown, as BodyMissing says
	BodyEncoding string            `json:"body_encoding,omitempty"` // base64, if the body is no text
	BodyMissing  string            `json:"body_missing,omitempty"`
	Elements     []Element         `json:"elements,omitempty"` // of a batch
}

// An Element is a delivery's part of a batch's request. Its ids are empty if its event was erased, or is no longer kept.
type Element struct {
	DeliveryID string `json:"delivery_id,omitempty"`
	EventID    string `json:"event_id,omitempty"`
	Body       string `json:"body,omitempty"`    // what was sent of it, where not all of the request's body can be shown
	Missing    string `json:"missing,omitempty"` // why that cannot be shown
}

// BodyBytes are those of the body that went out; nil if it is not shown.
func (r *Request) BodyBytes() ([]byte, error) {
	switch {
	case r.Body == nil:
		return nil, nil
	case r.BodyEncoding == "base64":
		return base64.StdEncoding.DecodeString(*r.Body)
	}
	return []byte(*r.Body), nil
}

// A Timing says where an attempt's time went, in milliseconds. What did not happen, as on a connection that had served before, is 0.
type Timing struct {
	DNS       float64 `json:"dns_ms,omitempty"`
	Connect   float64 `json:"connect_ms,omitempty"`
	TLS       float64 `json:"tls_ms,omitempty"`
	FirstByte float64 `json:"first_byte_ms,omitempty"` // from the request written to the first byte of the answer
	Total     float64 `json:"total_ms"`
	Reused    bool    `json:"reused,omitempty"` // the connection had served before
}
