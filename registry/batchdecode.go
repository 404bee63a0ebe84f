package registry

import (
	"encoding/json"
	"strconv"
)

// batch reads how deliveries travel together.
func (d *decoder) batch(o object, cb *Callback) {
	const location = "body.batch"
	m, ok := d.member(o, "batch")
	if !ok {
		return
	}
	b := &Batch{MaxEvents: DefaultBatchEvents, MaxBytes: DefaultBatchBytes, Element: ElementPayload}
	if raw, ok := m.take("results"); ok && json.Unmarshal(raw, &b.Results) != nil {
		d.fail(location+".results", "must be true or false, but is "+kind(raw), nil)
	}
	most := maxBatchEvents
	if b.Results {
		most = maxBatchResults
	}
	d.whole(m, location, "max_events", 1, most, &b.MaxEvents)
	d.whole(m, location, "max_bytes", minBatchBytes, maxBatchBytes, &b.MaxBytes)
	b.MaxWait, _ = d.duration(m, location, "max_wait", 0, maxBatchWait, DefaultBatchWait)
	if element, ok := d.str(m, location, "element"); ok {
		b.Element = BatchElement(element)
		if b.Element != ElementPayload && b.Element != ElementEnvelope {
			d.fail(location+".element", "must be payload or envelope", short(element))
		}
	}
	if rate := d.choice(m, location, "rate_limit", "requests", "requests", string(RateOfEvents)); rate != "requests" {
		b.RateLimit = BatchRate(rate)
	}
	d.unknown(m, location, "max_events", "max_bytes", "max_wait", "element", "results", "rate_limit")
	cb.Batch = b
}

// whole reads an optional whole number.
func (d *decoder) whole(o object, location, name string, least, most int, into *int) {
	raw, ok := o.take(name)
	if !ok {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil || *into < least || *into > most {
		d.fail(at(location, name), "must be a whole number from "+strconv.Itoa(least)+" to "+strconv.Itoa(most), nil)
	}
}
