package receive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/ringback/ringback/payloads"
)

const (
	batchPrefix = "bat_" // of the webhook-id, which the signature covers

	headerBatch   = "Ringback-Batch"         // how many deliveries a request has
	headerElement = "Ringback-Batch-Element" // how each of them is written
	headerResults = "Ringback-Batch-Results" // the answer may speak of each

	// mostAnswer is how long an answer may be that speaks of each delivery. Ringback reads 64 KiB, and takes one that is cut off as a word for all.
	mostAnswer = 63 << 10
)

var errNoBatch = errors.New("the body is no batch of Ringback's")

// isBatch reports whether a request has an array of deliveries. A test of a callback with batches is known by its header alone: it has the id of a test.
func (s signed) isBatch(h http.Header) bool {
	return strings.HasPrefix(s.id, batchPrefix) || h.Get(headerBatch) != ""
}

// An element is what one of a batch says of itself: an envelope, or a structured CloudEvent.
type element struct {
	ID      string          `json:"id"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload"`
}

// newBatch reads the deliveries of a request that was verified.
func newBatch(s signed, h http.Header, body []byte) ([]Delivery, error) {
	var elements []json.RawMessage
	if err := json.Unmarshal(body, &elements); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoBatch, err)
	}
	if len(elements) == 0 {
		return nil, fmt.Errorf("%w: it has no element", errNoBatch)
	}
	mediaType, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	enveloped, cloudEvents := h.Get(headerElement) == "envelope", mediaType == payloads.ContentTypeCloudEventsBatch
	whole := heading(s, h)
	all := make([]Delivery, len(elements))
	for i, text := range elements {
		all[i] = whole
		d, err := &all[i], error(nil)
		d.ID, d.Payload = s.id+"/"+strconv.Itoa(i), text
		switch {
		case enveloped:
			err = d.open()
		case cloudEvents:
			err = d.readCloudEvent()
		}
		if err != nil {
			return nil, fmt.Errorf("%w: element %d: %w", errNoBatch, i, err)
		}
	}
	return all, nil
}

// open takes the delivery out of its envelope.
func (d *Delivery) open() error {
	e, err := d.element()
	if err != nil {
		return err
	}
	if e.Payload == nil {
		return errors.New("it has no payload")
	}
	d.ID, d.name, d.EventType, d.Payload = e.ID, e.ID, e.Type, e.Payload
	return nil
}

// readCloudEvent reads the attributes of a structured CloudEvent, which stays the payload.
func (d *Delivery) readCloudEvent() error {
	e, err := d.element()
	d.EventID, d.name, d.EventType = e.ID, e.ID, e.Type
	return err
}

// element reads what an element says of itself.
func (d *Delivery) element() (e element, err error) {
	if err := json.Unmarshal(d.Payload, &e); err != nil {
		return e, err
	}
	if e.ID == "" || !payloads.ValidTypeName(e.Type) {
		return e, errors.New("it has no id, or no type")
	}
	return e, nil
}

// results is the answer that speaks of each delivery. Those that were handled come first. If there are too many to be named, the rest comes again, and is
// known by then.
func results(all []Delivery, statuses []int) []byte {
	type result struct {
		ID     string `json:"id"`
		Status int    `json:"status"`
	}
	var lines [][]byte
	left := mostAnswer - len(`{"results":[]}`)
	add := func(handled bool) {
		for i, d := range all {
			line, err := json.Marshal(result{d.name, statuses[i]})
			if (statuses[i] == http.StatusNoContent) != handled || err != nil || len(line)+1 > left {
				continue
			}
			lines, left = append(lines, line), left-len(line)-1
		}
	}
	add(true)
	add(false)
	return slices.Concat([]byte(`{"results":[`), bytes.Join(lines, []byte(",")), []byte("]}"))
}
