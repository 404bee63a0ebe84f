package registry

import (
	"maps"
	"slices"
	"strings"

	"github.com/ringback/ringback/payloads"
)

// wire reads what a registration says of the form of its requests, after its headers.
func (d *decoder) wire(o object, cb *Callback) {
	if envelope := d.choice(o, "body", "envelope", "none", "none", string(EnvelopeStructured), string(EnvelopeBinary)); envelope != "none" {
		cb.Envelope = Envelope(envelope)
	}
	if form := d.choice(o, "body", "body", "full", "full", string(BodyThin)); form != "full" {
		cb.Body = BodyForm(form)
	}
	if cb.Envelope != EnvelopeNone {
		for _, name := range slices.Sorted(maps.Keys(cb.Headers)) {
			if strings.HasPrefix(sameName(name), "Ce-") {
				d.fail(at("body.headers", name), "may not be set beside envelope: the attributes of a CloudEvent have the names that begin with ce-", nil)
			}
		}
	}
	t, _ := d.catalogue.Lookup(cb.Type) // none: a glob, or a fault that is reported already
	for _, fault := range combine(cb, t) {
		d.fail(fault.Location, fault.Message, nil)
	}
}

// errNoAddress refuses a thin body where there is no address to put in it.
var errNoAddress error = &payloads.InvalidError{Fields: []payloads.FieldError{{
	Location: "body.body", Message: "may not be thin: this installation has no address that partners could fetch a payload at; an operator gives it one with --public-url",
}}}
