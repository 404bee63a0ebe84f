package registry

import (
	"fmt"
	"time"
)

// A BatchElement says how a delivery is written in a batch.
type BatchElement string

// The elements of a batch.
const (
	ElementPayload  BatchElement = "payload"  // the payload's bytes
	ElementEnvelope BatchElement = "envelope" // an object with id, type and payload
)

// A BatchRate says what takes a token of the callback's rate limit.
type BatchRate string

// What takes a token.
const (
	RateOfRequests BatchRate = ""       // written "requests": each attempt of a batch
	RateOfEvents   BatchRate = "events" // each event in it: a batch goes once there is a token, and the next once all of its are made up for
)

// The bounds of a [Batch].
const (
	DefaultBatchEvents = 100
	DefaultBatchBytes  = 256 << 10
	DefaultBatchWait   = 5 * time.Second

	maxBatchEvents  = 1000
	maxBatchResults = 500 // with Results: the answer about each has to fit into the part of it that is read
	minBatchBytes   = 1 << 10
	maxBatchBytes   = 1 << 20 // of payloads: Redis hands out those of a batch in one answer
	maxBatchWait    = time.Minute
)

// A Batch says how deliveries to a callback travel together. A batch goes once MaxEvents wait, or about MaxBytes of payloads, or the first has waited for MaxWait.
// A delivery that is larger by itself travels alone.
type Batch struct {
	MaxEvents int           `json:"max_events"`
	MaxBytes  int           `json:"max_bytes"`
	MaxWait   time.Duration `json:"max_wait"`
	Element   BatchElement  `json:"element"`
	Results   bool          `json:"results,omitempty"` // the answer's body may speak of each element
	RateLimit BatchRate     `json:"rate_limit,omitempty"`
}

// String is the batch as the dispatcher's scripts read it in a callback's health. That of nil is empty.
func (b *Batch) String() string {
	if b == nil {
		return ""
	}
	text := fmt.Sprintf("batch %d %d %d %s", b.MaxEvents, b.MaxBytes, b.MaxWait.Milliseconds(), b.Element)
	if b.RateLimit != RateOfRequests {
		text += " " + string(b.RateLimit)
	}
	return text
}

// SpecialKey is there once a callback of a company does not take its deliveries one by one.
func SpecialKey(company string) string { return "{" + company + "}:special" }

// batchSettings are a batch as the API shows it.
type batchSettings struct {
	MaxEvents int          `json:"max_events"`
	MaxBytes  int          `json:"max_bytes"`
	MaxWait   string       `json:"max_wait"`
	Element   BatchElement `json:"element"`
	Results   bool         `json:"results"`
	RateLimit BatchRate    `json:"rate_limit"`
}

func (b *Batch) settings() *batchSettings {
	if b == nil {
		return nil
	}
	s := &batchSettings{b.MaxEvents, b.MaxBytes, formatDuration(b.MaxWait), b.Element, b.Results, b.RateLimit}
	if s.RateLimit == RateOfRequests {
		s.RateLimit = "requests"
	}
	return s
}
