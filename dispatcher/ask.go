package dispatcher

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/propagation"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

// A Question is what [Client.Ask] asks a partner to decide.
type Question struct {
	Company string
	Type    string          // a synchronous callback type
	Payload json.RawMessage // fits the type's schema; the partner receives it as any payload
	// Timeout is how long to wait for the decision, 100 ms to 60 s. Default: the callback's own.
	Timeout time.Duration
}

// document is the payload for filters.
func (q Question) document() payloads.Document { return payloads.ReadDocument(q.Payload) }

// Bounds of a Question's timeout: what a person at a door waits for at most, and what a network needs at least.
const (
	minAskTimeout = 100 * time.Millisecond
	maxAskTimeout = egress.DefaultMaxTimeout
)

// A PartnerAnswer is a partner's decision: what it says is for the caller to read, a rejection included.
type PartnerAnswer struct {
	DecisionID string          `json:"decision_id"` // also the webhook-id that the partner saw
	CallbackID int64           `json:"callback_id"`
	StatusCode int             `json:"status_code"`
	Body       json.RawMessage `json:"body"` // the partner's JSON, *** for what it echoes of its callback's secrets; null if it answered without a body
	DurationMS int64           `json:"duration_ms"`
}

// ErrNotAsked says that the company has no callback for this synchronous type.
var ErrNotAsked = errors.New("no callback of this company is registered for this type (one that begins later, or is narrowed to others, does not count): register one, and ask again")

// ErrTooManyAsked says that a partner is slower to decide than it is asked.
var ErrTooManyAsked = fmt.Errorf("%d decisions of this type are awaited by this process already: ask again when the partner has caught up", maxAsked)

// An ElectionError says that there is not exactly one callback that may be asked: several are enabled, or none of those there are.
type ElectionError struct {
	Callbacks []int64
	Message   string
}

func (e *ElectionError) Error() string { return e.Message }

// A NoDecisionError says that a callback was asked and did not decide.
type NoDecisionError struct {
	DecisionID string
	CallbackID int64
	StatusCode int // the partner's; 0 if there was no answer
	Reason     Reason
	Detail     string // a sentence; what the partner said why is part of it
	Body       string // the beginning of the partner's answer, 1 KiB at most
	Late       bool   // no answer came within the time
}

func (e *NoDecisionError) Error() string { return e.Detail }

// answerLimit is how much of a decision is read: all that egress ever reads.
const answerLimit = 64 << 10

// Ask puts a question to the company's one enabled callback for a synchronous type, once, and waits for the decision. A callback for the type
// itself is asked before one for a glob. The question goes the way of every delivery (encoding, stamp, signature, credentials, guard), but
// through no queue; it is never repeated. The outcome is recorded in any case, and listed with [Query.Decisions].
//
// An answer counts if its status is 204, or 200 with application/json that is JSON (or as the callback's success rule says, among the
// statuses of 200 to 299).
//
// The one exception to once: a partner that refuses an access token with 401 has not been asked anything yet, and gets the question again
// with a new one, if that may help.
//
// Errors: *payloads.InvalidError, [ErrNotAsked], *[ElectionError], *[NoDecisionError], [ErrTooManyAsked], [ErrOverloaded], [ErrEgressPaused], and [ErrUnavailable] if Redis
// did not answer, whereupon nobody was asked.
func (c *Client) Ask(ctx context.Context, q Question) (*PartnerAnswer, error) {
	if answer, found, err := c.askedBefore(ctx, q.Company); found || err != nil {
		return answer, err
	}
	done, ok := c.asked.take(q.Company + "/" + q.Type)
	if !ok {
		return nil, ErrTooManyAsked
	}
	defer done()
	typ, attrs, err := c.examineQuestion(ctx, q)
	if err != nil {
		return nil, err
	}
	if c.egressHalted(ctx) {
		return nil, ErrEgressPaused
	}
	ctx, span := c.tracer.Start(ctx, "ask "+q.Type)
	defer span.End()
	r, err := c.elect(ctx, q, attrs)
	if err != nil {
		span.RecordError(err)
		return nil, err
	}
	r.typ, r.body = typ, q.Payload
	c.at("asking")
	ctx, attempt := c.tracer.Start(ctx, "attempt "+q.Type, r.spanOptions()...)
	defer attempt.End()
	s, body := r.decided(ctx, r.send(ctx, &c.sender))
	written := r.entry(s, s.keeps.inRecord())
	kept, _ := r.kept(s, written)
	c.at("asked")
	answer, refused := r.told(ctx, s, written, body)
	if err := once.Note(ctx, noteAnswer, answerNote{answer, refused}); err != nil {
		return nil, err
	}
	c.recordAnswer(ctx, r.ref.Company, r.ownID, s.Judgement, written, kept)
	c.metrics.asked(ctx, s.Verdict, written.Unmasked().Reason, s.took)
	c.reporter.tell(ctx, attempt, "decision", r, s, written)
	if refused != nil {
		return nil, refused
	}
	return answer, nil
}

// told is what who asked is told: the decision, or why there is none.
func (a *attempt) told(ctx context.Context, s sent, written ledger.Entry, body json.RawMessage) (*PartnerAnswer, *NoDecisionError) {
	if s.Verdict != verdict.Delivered {
		return nil, a.noDecision(s, forReader(ctx, written))
	}
	return &PartnerAnswer{
		DecisionID: a.ownID, CallbackID: a.callback.ID, StatusCode: s.response.Status, Body: body, DurationMS: s.took.Milliseconds(),
	}, nil
}

// The notes of a question: that it is about to be asked, and what who asked is told.
const (
	noteAsked  = "asked"
	noteAnswer = "answer"
)

type (
	askedNote  struct{ DecisionID string }
	answerNote struct {
		Answer  *PartnerAnswer
		Refused *NoDecisionError
	}
)

// askedBefore is what came of a question that is repeated. If nobody came to write it down, that is unknown: nobody is asked twice.
func (c *Client) askedBefore(ctx context.Context, company string) (answer *PartnerAnswer, found bool, err error) {
	var said answerNote
	if found, err := once.Noted(ctx, noteAnswer, &said); err != nil {
		return nil, true, err
	} else if found && said.Refused != nil {
		return nil, true, said.Refused
	} else if found {
		return said.Answer, true, nil
	}
	var asked askedNote
	if found, err := once.Noted(ctx, noteAsked, &asked); err != nil || !found {
		return nil, found, err
	}
	e, err := c.ledger.Elect(ctx, company, ledger.Question{}) // which says whom it chose then
	if err != nil {
		return nil, true, unavailable(ctx, c, "choosing the callback", err)
	}
	return nil, true, &NoDecisionError{
		DecisionID: asked.DecisionID, CallbackID: e.Chosen, Reason: verdict.ReasonUnknown,
		Detail: "the process that asked ended before it wrote down what the partner said: ask the partner, or ask again with another Idempotency-Key",
	}
}

func (c *Client) examineQuestion(ctx context.Context, q Question) (*payloads.Type, map[string]string, error) {
	if err := (payloads.Event{Company: q.Company, Type: q.Type, Payload: q.Payload}).Validate(); err != nil {
		return nil, nil, err
	}
	if q.Timeout != 0 && (q.Timeout < minAskTimeout || q.Timeout > maxAskTimeout) {
		return nil, nil, misfit("body.timeout", fmt.Sprintf("must be a duration such as \"3s\", from %s to %s", minAskTimeout, verdict.InWords(maxAskTimeout)))
	}
	typ, err := c.lookupType(ctx, q.Type)
	if err != nil {
		return nil, nil, err
	}
	if !typ.Synchronous {
		return nil, nil, misfit("body.event_type", "is sent, not asked: hand it over with POST …/events (a type that is asked has \"synchronous\": true)")
	}
	attrs, _, err := typ.Examine(q.Payload)
	if err == nil && c.memory.overloaded(ctx) { // its record takes room, too
		c.metrics.shed.Add(ctx, 1)
		err = ErrOverloaded
	}
	return typ, attrs, err
}

// elect finds the one callback to ask, and opens the record: from here on the decision is known, whatever happens.
func (c *Client) elect(ctx context.Context, q Question, attrs map[string]string) (*attempt, error) {
	var parent propagation.MapCarrier = map[string]string{}
	propagation.TraceContext{}.Inject(ctx, parent)
	id := payloads.NewDecisionID(time.Now())
	if err := once.Note(ctx, noteAsked, askedNote{id}); err != nil {
		return nil, err
	}
	for {
		version, matched, err := c.registry.Match(ctx, q.Company, q.Type, attrs, time.Now(), q.document)
		if err != nil {
			return nil, unavailable(ctx, c, "matching the callbacks", err)
		}
		matched = nearest(matched, q.Type)
		ids := make([]int64, len(matched))
		for i, cb := range matched {
			ids[i] = cb.ID
		}
		e, err := c.ledger.Elect(ctx, q.Company, ledger.Question{
			ID: id, Type: q.Type, Version: version, Callbacks: ids, Lease: maxAskTimeout + c.ownerGrace, TraceParent: parent["traceparent"],
		})
		if err != nil {
			return nil, unavailable(ctx, c, "choosing the callback", err)
		}
		switch {
		case e.Outdated:
			if err := c.refresh(ctx, q.Company, e.Version); err != nil {
				return nil, err
			}
		case e.Chosen != 0:
			return newQuestion(q, id, e, matched)
		default:
			return nil, electionError(q.Type, e)
		}
	}
}

// nearest are the callbacks for exactly this type, or if there are none, those for a glob.
func nearest(matched []*registry.Callback, typ string) []*registry.Callback {
	exact := slices.DeleteFunc(slices.Clone(matched), func(cb *registry.Callback) bool { return cb.Type != typ })
	if len(exact) > 0 {
		return exact
	}
	return matched
}

func newQuestion(q Question, id string, e ledger.Election, matched []*registry.Callback) (*attempt, error) {
	i := slices.IndexFunc(matched, func(m *registry.Callback) bool { return m.ID == e.Chosen })
	if i < 0 {
		return nil, fmt.Errorf("choosing the callback of %s: %w", id, ledger.ErrBadRecord)
	}
	return &attempt{
		ref: ledger.Ref{Company: q.Company, Event: id, Callback: e.Chosen}, ownID: id, number: 1, callback: matched[i], meta: ledger.Meta{Type: q.Type},
		timeout: defaulted(q.Timeout, matched[i].Timeout), keepBody: answerLimit, begun: e.At,
	}, nil
}

// maxNamed is how many callbacks an ElectionError names.
const maxNamed = 20

func electionError(typ string, e ledger.Election) error {
	ids := slices.Concat(e.Several, e.Closed)
	if len(ids) == 0 {
		return ErrNotAsked
	}
	var names []string
	cure := "resume one"
	for _, id := range ids[:min(len(ids), maxNamed)] {
		name := strconv.FormatInt(id, 10)
		if gate := e.Gates[id]; gate != nil {
			name += " (" + string(gate.Status) + ")"
			if gate.Status == registry.Unverified {
				cure = "resume or verify one"
			}
		}
		names = append(names, name)
	}
	if len(ids) > maxNamed {
		names = append(names, "…")
	}
	said := &ElectionError{Callbacks: ids[:min(len(ids), maxNamed)]}
	if named := strings.Join(names, ", "); len(e.Closed) > 0 {
		said.Message = "nobody can be asked: of the callbacks for " + typ + " none is enabled: " + named + "; " + cure
	} else {
		said.Message = "more than one callback is enabled for " + typ + ", and only one can decide: " + named + "; pause or delete the others"
	}
	return said
}

// decided judges a partner's answer as a decision, and returns its body, null if it has none. asker is whoever waits: if it gave up before
// the partner's time was over, that is not the partner's fault.
func (a *attempt) decided(asker context.Context, s sent) (sent, json.RawMessage) {
	if s.response == nil {
		s.Verdict = verdict.Dead // it is asked once
		if s.Reason == verdict.ReasonTimeout && asker.Err() != nil && s.took < a.timeout {
			s.Reason = verdict.ReasonUnknown
		}
		return s, nil
	}
	answer, rule, secrets := s.response, a.callback.SuccessRule(a.typ), a.secrets(s.token)
	if rule == payloads.AnyResponse { // to deliver is enough for an event, not for a decision
		rule = payloads.Any2xx
	}
	s.Judgement = a.judge(rule, verdict.Outcome{Status: answer.Status, Header: answer.Header}, s.token)
	switch {
	case s.Verdict != verdict.Delivered:
		s.Verdict, s.RetryAfter = verdict.Dead, 0
		if answer.Status >= http.StatusBadRequest {
			s.Note = verdict.Clip(verdict.Printable(secrets.ReplaceOf(answer, cmp.Or(partnersWords(answer.Body), answer.Phrase))), 200)
		}
		if s.Reason == verdict.ReasonGone { // what it says of the callback's deliveries is not said of a question
			s.Reason = verdict.StatusReason(answer.Status)
		}
	case answer.Status == http.StatusNoContent, answer.Status != http.StatusOK && len(answer.Body) == 0:
		return s, json.RawMessage("null")
	case answer.Truncated && s.took >= a.timeout:
		s.Verdict, s.Reason, s.Note = verdict.Dead, verdict.ReasonTimeout, "the answer's body did not arrive in time"
	case answer.Truncated:
		s.Verdict, s.Reason, s.Note = verdict.Dead, verdict.ReasonMalformedAnswer, "breaks off, or is larger than 64 KiB"
	case !json.Valid(answer.Body) || !utf8.Valid(answer.Body):
		s.Verdict, s.Reason, s.Note = verdict.Dead, verdict.ReasonMalformedAnswer, "is no JSON"
	default:
		return s, secrets.ReplaceJSON(answer.Body)
	}
	return s, nil
}

// noDecision is the error for who asked, of what was written as they may read it.
func (a *attempt) noDecision(s sent, written ledger.Entry) *NoDecisionError {
	e := &NoDecisionError{
		DecisionID: a.ownID, CallbackID: a.callback.ID, StatusCode: written.Status, Reason: written.Reason, Detail: written.DecisionDetail(),
		Body: written.Body, Late: s.Reason == verdict.ReasonTimeout || s.Reason == verdict.ReasonOAuthToken && s.took >= a.timeout,
	}
	if e.Late {
		e.StatusCode = 0
	}
	return e
}

// partnersWords finds in an error's body what it says to people: a member that APIs use for it, or a short plain text.
func partnersWords(body []byte) string {
	var members map[string]any
	if json.Unmarshal(body, &members) == nil {
		for _, name := range []string{"detail", "message", "reason", "error_description", "error", "title"} {
			if text, ok := members[name].(string); ok && text != "" {
				return text
			}
		}
		return ""
	}
	if text := string(bytes.TrimSpace(body)); len(text) <= 200 && !strings.ContainsAny(text, "<>{}\n") {
		return text
	}
	return ""
}

// recordAnswer writes down what came of a decision. If Redis fails now, the answer still counts: a record without an outcome says so.
func (c *Client) recordAnswer(ctx context.Context, company, id string, j verdict.Judgement, written ledger.Entry, kept *ledger.Sent) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	field := j.Blame().Health()
	if j.Verdict == verdict.Delivered {
		field = "ok"
	}
	if err := c.ledger.RecordDecision(ctx, company, id, written, kept, field); err != nil {
		c.log.ErrorContext(ctx, "decision is not recorded", "company", company, "decision", id, "error", err)
	}
}
