package dispatcher

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// post makes one request and judges what comes back. token is an access token, or empty.
func (a *attempt) post(ctx context.Context, by *sender, token string) sent {
	s := sent{at: time.Now(), token: token}
	out, err := a.outgoing(by, s.at)
	if err != nil {
		s.Judgement = unsendable(err)
		return s
	}
	header := a.headers(by.userAgent)
	out.describe(header)
	if err := sign(a.callback, header, payloads.Message{ID: a.id(), EventType: a.meta.Type, At: s.at, Body: out.body}); err != nil {
		s.Judgement = unsendable(err)
		return s
	}
	authorize(header, a.callback.Auth, token)
	if a.callback.Trace {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
	if by.dry {
		s.header, s.body = header, out.body
		return s
	}
	s.response, err = by.egress.Do(ctx, egress.Request{
		Method: a.callback.Destination.Method, URL: a.callback.Destination.URL, Header: header, Body: out.body, Timeout: a.timeout, KeepBody: max(a.keepBody, by.keeps.answerBytes),
		Identity:   identityOf(a.callback.Handshake()),
		Repeatable: a.ownID == "", // a delivery's receiver knows it again; a decision's and a test's answers are not asked for twice
	})
	o := verdict.Outcome{Err: err}
	phase := egress.PhaseWait
	if err == nil {
		o.Status, o.Header, s.timing = s.response.Status, s.response.Header, s.response.Timing
	} else if e, ok := errors.AsType[*egress.Error](err); ok {
		s.timing, phase = e.Timing, e.Phase
	}
	if phase == egress.PhaseWrite || phase == egress.PhaseWait {
		s.header, s.body, s.sums, s.partly = header, out.body, out.sums, phase == egress.PhaseWrite
	}
	s.Judgement = a.judge(a.callback.SuccessRule(a.typ), o, token)
	return s
}

// outgoing makes what a request at a time carries. A callback with neither envelope nor thin body costs nothing here. What asks the endpoint itself, a
// challenge, goes out as it is.
func (a *attempt) outgoing(by *sender, at time.Time) (out outgoing, err error) {
	if a.batch != nil {
		return a.joined(by, at)
	}
	cb := a.callback
	out.contentType = cb.Destination.ContentType
	if a.isChallenge() {
		out.body, err = payloads.Encode(out.contentType, a.body)
		return out, err
	}
	if cb.Envelope == registry.EnvelopeNone && cb.Body == registry.BodyFull {
		out.body, err = encoded(cb, a.typ, a.body, at)
		return out, err
	}
	said, e, err := a.said(by, a.one(), at)
	if err != nil {
		return out, err
	}
	switch cb.Envelope {
	case registry.EnvelopeStructured:
		out.contentType = payloads.ContentTypeCloudEvents
		out.body = said
		return out, nil
	case registry.EnvelopeBinary:
		out.event = &e
	case registry.EnvelopeNone:
	}
	out.body, err = payloads.Encode(out.contentType, said)
	return out, err
}
