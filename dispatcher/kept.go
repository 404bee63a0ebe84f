package dispatcher

import (
	"cmp"
	"maps"
	"net/http"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
)

// known is what the attempt's request says that its record says as well.
func (a *attempt) known(s sent) known {
	if a.batch != nil { // it says nothing of one event
		return known{id: a.id(), number: a.number, at: s.at.UnixMilli()}
	}
	return known{id: a.id(), event: a.ref.Event, typ: a.meta.Type, number: a.number, at: s.at.UnixMilli()}
}

// kept is what is kept of an exchange beside its line in the record: the request as it went out, where the time went, and the answer if the line does not have
// all of it. It is nil if nothing is. other is the body that was sent, if it is to be kept by itself.
func (a *attempt) kept(s sent, line ledger.Entry) (k *ledger.Sent, other []byte) {
	k = &ledger.Sent{Number: a.number}
	if s.keeps.requests.of(s.Verdict) && !s.at.IsZero() {
		k.At, k.Timing, k.Reused = s.at.UnixMilli(), µs(s.timing), s.timing.Reused
		if s.header != nil {
			other = a.keepRequest(k, s)
		}
	}
	if beyond := s.Verdict == verdict.Delivered && !a.isDecision() || s.keeps.answerBytes > s.keeps.inRecord(); beyond && s.response != nil && s.keeps.answers.of(s.Verdict) {
		headers, body := keepAnswer(s.response, a.secrets(s.token), s.keeps.answerBytes)
		if body != line.Body || !maps.Equal(headers, line.Headers) {
			k.AnswerHeaders, k.AnswerBody = headers, body
		}
	}
	if len(k.Timing) == 0 && len(k.URL) == 0 && k.AnswerHeaders == nil && k.AnswerBody == "" {
		return nil, nil
	}
	return k, other
}

// keepRequest has k keep the request, without its secrets. other is its body, if it is to be kept by itself.
func (a *attempt) keepRequest(k *ledger.Sent, s sent) (other []byte) {
	if method := cmp.Or(a.callback.Destination.Method, http.MethodPost); method != http.MethodPost {
		k.Method = method
	}
	if k.URL, _ = s.keeps.seal(a.ref.Company, a.ref.Callback, a.blottedURL(s)); len(k.URL) == 0 { // the keyset fails
		return nil
	}
	k.Headers, k.Without = a.known(s).keep(a.masked(s.header))
	k.Partly = s.partly
	if a.isDecision() { // what is asked is kept nowhere
		k.Body = &ledger.Edit{NotKept: true}
		return nil
	}
	if a.batch != nil { // it follows from the members
		k.Sums = s.sums
		if s.Verdict != verdict.Delivered { // it goes on, and perhaps without some; a test has no list
			k.Events = a.batch.Events()
		}
		return nil
	}
	k.Body, other = ledger.EditOf(a.body, a.blottedBody(s.body))
	return other
}

// blottedURL is where the request went, without secrets.
func (a *attempt) blottedURL(s sent) string {
	raw := a.callback.Destination.URL
	blotted := blotQuery(raw)
	if blotted == raw && len(a.callback.Headers) == 0 && a.callback.Auth == nil {
		return raw
	}
	return a.secrets(s.token).Replace(blotted)
}

// masked is a request's header without the callback's own values and its credentials.
func (a *attempt) masked(header http.Header) http.Header {
	if len(a.callback.Headers) == 0 && a.callback.Auth == nil {
		return header
	}
	header = maps.Clone(header)
	for name := range a.callback.Headers {
		header.Set(name, registry.Masked)
	}
	if header.Get("Authorization") != "" {
		header.Set("Authorization", registry.Masked)
	}
	return header
}

// shown is the request of a test as it went out, without its secrets.
func (a *attempt) shown(s sent) *Request {
	k := &ledger.Sent{Number: a.number, At: s.at.UnixMilli()}
	_ = a.keepRequest(k, s)
	r := requestOf(k, a.known(s), a.blottedURL(s))
	r.Body = a.blottedBody(s.body)
	return r
}
