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
}

// String is the batch as the dispatcher's scripts read it in a callback's health. That of nil is empty.
func (b *Batch) String() string {
	if b == nil {
		return ""
	}
	return fmt.Sprintf("batch %d %d %d %s", b.MaxEvents, b.MaxBytes, b.MaxWait.Milliseconds(), b.Element)
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
}

func (b *Batch) settings() *batchSettings {
	if b == nil {
		return nil
	}
	return &batchSettings{b.MaxEvents, b.MaxBytes, formatDuration(b.MaxWait), b.Element, b.Results}
}
