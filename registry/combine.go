package registry

import (
	"github.com/ringback/ringback/payloads"
)

// A body goes through these steps: the payload as it was accepted, the template, the type's stamped field, thin or in full, the envelope, the encoding of the
// content type, and the signature over what comes of that. Which of a callback's fields may stand together there is said here, and nowhere else.

// A trait is something of a callback, or of the type it is for, that has a say in what goes on the wire.
type trait struct {
	name  string // as sentences have it, with its value
	field string // the member that a fault is reported at; empty: it is the type's, which no registration can change
	level int    // the first [Level] whose processes know it; 0: all processes that are left do
	holds func(cb *Callback, t *payloads.Type) bool
}

// traits are those there are. Whoever adds one says in the test of every pair what becomes of it beside each of the others. A callback for a glob has none
// of a type.
var traits = []trait{
	{"auth", "auth", 0, func(cb *Callback, _ *payloads.Type) bool { return cb.Auth != nil }},
	{"headers", "headers", 0, func(cb *Callback, _ *payloads.Type) bool { return len(cb.Headers) > 0 }},
	{"trace", "trace", 0, func(cb *Callback, _ *payloads.Type) bool { return cb.Trace }},
	{"rate_limit", "rate_limit", 0, func(cb *Callback, _ *payloads.Type) bool { return cb.RateLimit != nil }},
	{"timeout", "timeout", 0, func(cb *Callback, _ *payloads.Type) bool { return cb.Timeout != 0 && cb.Timeout != DefaultTimeout }},
	{"retry", "retry", 0, func(cb *Callback, _ *payloads.Type) bool {
		return cb.Retry != Retry{} && cb.Retry != Retry{DefaultInitialInterval, DefaultMultiplier, DefaultMaxInterval, DefaultMaxAttempts}
	}},
	{"success", "success", 0, func(cb *Callback, _ *payloads.Type) bool { return cb.Success != "" }},
	{"destination.content_type " + payloads.ContentTypeForm, "destination.content_type", 0, func(cb *Callback, _ *payloads.Type) bool {
		return cb.Destination.ContentType == payloads.ContentTypeForm
	}},
	{"a type with a stamped field", "", 0, func(_ *Callback, t *payloads.Type) bool { return t != nil && t.Stamp != "" }},
	{"a synchronous type", "", 0, func(_ *Callback, t *payloads.Type) bool { return t != nil && t.Synchronous }},
	{"filter", "filter", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Filter != nil }},
	{"template", "template", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Template != nil }},
	{"envelope " + string(EnvelopeStructured), "envelope", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Envelope == EnvelopeStructured }},
	{"envelope " + string(EnvelopeBinary), "envelope", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Envelope == EnvelopeBinary }},
	{"tls", "tls", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.TLS != nil }},
	{"body " + string(BodyThin), "body", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Body == BodyThin }},
	{"header_style", "header_style", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.HeaderStyle != "" }},
	{"signature.ed25519", "signature", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Signature != nil && cb.Signature.Ed25519 }},
	{"signature.rfc9421", "signature", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Signature != nil && cb.Signature.RFC9421 }},
	{"signature.hmac false", "signature", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Signature != nil && !cb.Signature.HMAC }},
	{"destination.pull", "destination.pull", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Destination.Pull }},
	{"batch", "batch", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Batch != nil }},
	{"ordering", "ordering", wireLevel, func(cb *Callback, _ *payloads.Type) bool { return cb.Ordering != nil }},
}

// A discord is a pair of traits that may not stand together. The fault is reported at the first one's field.
type discord struct {
	one, other string // names of traits
	why        string // with the remedy
}

// unsent is why nothing that is of requests alone goes with destination.pull.
const unsent = "nothing is sent, the partner fetches; leave it out"

// discords are all of them: a pair that is not here works. Two values of one field need no row.
var discords = []discord{
	{"auth", "destination.pull", unsent},
	{"headers", "destination.pull", unsent},
	{"trace", "destination.pull", unsent},
	{"rate_limit", "destination.pull", unsent},
	{"timeout", "destination.pull", unsent},
	{"retry", "destination.pull", unsent},
	{"destination.pull", "success", "nobody answers: what is fetched is delivered by its acknowledgement"},
	{"destination.pull", "destination.content_type " + payloads.ContentTypeForm, "what is fetched is JSON"},
	{"destination.pull", "a synchronous type", "its caller waits for the decision"},
	{"destination.pull", "envelope " + string(EnvelopeBinary), "nothing is sent that could have its headers; take " + string(EnvelopeStructured)},
	{"destination.pull", "tls", "nothing is sent"},
	{"destination.pull", "body " + string(BodyThin), "who fetches has the payload at once"},
	{"destination.pull", "header_style", "nothing is sent that could have headers"},
	{"destination.pull", "signature.ed25519", "nothing is sent that could be signed"},
	{"destination.pull", "signature.rfc9421", "nothing is sent that could be signed"},
	{"destination.pull", "ordering", "what is fetched is in the order of its acceptance"},
	{"destination.pull", "batch", "who fetches says with limit how many come at once"},
	{"destination.pull", "signature.hmac false", "nothing is sent that could be signed"},
	{
		"envelope " + string(EnvelopeStructured), "destination.content_type " + payloads.ContentTypeForm,
		"a structured event is JSON throughout; take " + string(EnvelopeBinary) + ", or leave the content type out",
	},
	{
		"body " + string(BodyThin), "envelope " + string(EnvelopeBinary),
		"the address would stand in a header, which a signature of the body does not cover; take " + string(EnvelopeStructured),
	},
	{
		"body " + string(BodyThin), "a synchronous type",
		"its caller waits for the decision, and what is asked is kept nowhere, so there is nothing to fetch",
	},
	{
		"signature.ed25519", "header_style",
		"receivers of that style verify by the secret; leave the style out, or take signature.rfc9421, whose headers are its own",
	},
	{"signature.hmac false", "header_style", "the signature of that style is an HMAC; leave one of the two out"},
	{"batch", "destination.content_type " + payloads.ContentTypeForm, "a batch is a JSON array; leave the content type out"},
	{"batch", "a synchronous type", "its caller waits for the decision about one event"},
	{"batch", "envelope " + string(EnvelopeBinary), "its attributes are headers, of which a request has one set; take " + string(EnvelopeStructured)},
	{"ordering", "batch", "a batch goes out and ends as one, and its events may be of many keys; take one of them"},
	{"ordering", "a synchronous type", "its caller waits for the decision, so nothing of it waits in a line"},
}

// combine returns the faults of a callback of a type, which is nil for a glob: fields that do not go together.
func combine(cb *Callback, t *payloads.Type) (faults []payloads.FieldError) {
	var held []trait
	for _, tr := range traits {
		if tr.holds(cb, t) {
			held = append(held, tr)
		}
	}
	find := func(name string) (found trait, ok bool) {
		for _, tr := range held {
			if tr.name == name {
				return tr, true
			}
		}
		return found, false
	}
	for _, d := range discords {
		one, ok := find(d.one)
		other, both := find(d.other)
		if ok && both {
			faults = append(faults, payloads.FieldError{Location: "body." + one.field, Message: "(" + one.name + ") does not go with " + other.name + ": " + d.why})
		}
	}
	return faults
}

// newer returns the name and the level of the trait of a callback that the fewest processes know, among those that the callback from before, which may be
// nil, has not. Empty: all know all of it.
func newer(cb, before *Callback) (what string, level int) {
	for _, tr := range traits {
		if tr.level > level && tr.holds(cb, nil) && (before == nil || !tr.holds(before, nil)) {
			what, level = tr.name, tr.level
		}
	}
	return what, level
}
