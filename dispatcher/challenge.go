package dispatcher

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/registry"
	"github.com/ringback/ringback/registry/once"
)

// TypeChallenge is what a challenge gives as its event type. No event has it.
const TypeChallenge = "callback.challenge"

// The headers of the handshake of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, version 1.0.2, section 4).
const (
	headerRequestOrigin = "WebHook-Request-Origin"
	headerAllowedOrigin = "WebHook-Allowed-Origin"
)

const (
	// challengeTimeout bounds each of a challenge's two requests: whoever registers waits for them.
	challengeTimeout = 10 * time.Second

	// challengeBody is how much of an answer is looked through for the token.
	challengeBody = 16 << 10
)

// A ChallengeResult is what came of asking a callback's endpoint whether it wants to be called.
type ChallengeResult struct {
	// Verified is set where it does. Then the callback is what it was before it became unverified.
	Verified bool
	// Callback is as it is now.
	Callback *registry.Callback
	// DeliveryID is the webhook-id the endpoint saw: of this challenge alone, "chl_" and random. Empty if no more than a handshake was tried.
	DeliveryID string
	// Attempt is number 1: of the challenge, or of the handshake if it was enough, or failed before anybody was reached.
	Attempt
}

// MarshalJSON writes the challenge's outcome, the callback's status and the attempt as one object.
func (r ChallengeResult) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		CallbackID int64           `json:"callback_id"`
		Verified   bool            `json:"verified"`
		Status     registry.Status `json:"status"`
		DeliveryID string          `json:"delivery_id,omitempty"`
		attemptJSON
	}{r.Callback.ID, r.Verified, r.Callback.Status, r.DeliveryID, r.json()})
}

// A ChallengedTooOftenError says that a host failed so many challenges of a company that the next one has to wait.
type ChallengedTooOftenError struct {
	Wait time.Duration
}

func (e *ChallengedTooOftenError) Error() string {
	return fmt.Sprintf("many challenges to this host, or to that of its token_url, failed within the last hour: nothing was sent; try again in %s", verdict.InWords(e.Wait))
}

// Verify asks a callback's endpoint whether it wants to be called: first by the handshake of CloudEvents, then by a signed challenge, a
// request like a delivery whose body is {"challenge": token}. The endpoint agrees if it allows the origin, or answers 2xx with a JSON object
// whose member challenge is the token. Then an unverified callback is what it was before, and what waits for it goes out. A callback that is
// verified already stays so, whatever comes of it.
//
// Errors: *[StateError] if the callback is being challenged or tested, changed meanwhile, or if everything that goes out is paused;
// *[ChallengedTooOftenError]; registry.ErrNotFound; or what Redis said.
func (c *Client) Verify(ctx context.Context, company string, callbackID int64) (*ChallengeResult, error) {
	var was challengeNote
	if found, err := once.Noted(ctx, noteChallenge, &was); err != nil {
		return nil, err
	} else if found {
		return c.proved(ctx, company, callbackID, was)
	}
	cb, err := c.registry.Get(ctx, company, callbackID)
	if err != nil {
		return nil, err
	}
	if cb.Destination.Pull {
		return nil, &StateError{Message: "nothing is sent to this callback, so there is no endpoint to verify: its partner fetches"}
	}
	if c.egressHalted(ctx) {
		return nil, &StateError{Message: "everything that goes out is paused, challenges too: try again when an operator has resumed it (`ringback egress resume`)"}
	}
	done, err := c.alone(company, callbackID)
	if err != nil {
		return nil, err
	}
	defer done()
	hosts := challengedHosts(cb)
	if err := c.reserve(ctx, company, hosts); err != nil {
		return nil, err
	}
	if cb, err = c.registry.WithCompanyTLS(ctx, cb); err != nil {
		return nil, err
	}
	said := c.challenge(ctx, cb)
	ctx = context.WithoutCancel(ctx) // what came of it is noted, whoever waits for it
	if said.verified {
		if err := c.ledger.ForgetChallenges(ctx, company, hosts...); err != nil {
			return nil, unavailable(ctx, c, "noting a challenge", err)
		}
	}
	note := challengeNote{Version: cb.Version, Verified: said.verified, Handshake: said.written.Handshake, Written: said.written}
	if said.posted {
		note.DeliveryID = said.id
	}
	if err := once.Note(ctx, noteChallenge, note); err != nil {
		return nil, err
	}
	return c.proved(ctx, company, callbackID, note)
}

// noteChallenge is the note of a challenge that was answered.
const noteChallenge = "challenge"

// A challengeNote is a challenge, as it is noted.
type challengeNote struct {
	Version    int64 // of the callback that was challenged
	DeliveryID string
	Verified   bool
	Handshake  bool // it was enough
	Written    ledger.Entry
}

// proved notes in the registry what came of a challenge.
func (c *Client) proved(ctx context.Context, company string, callbackID int64, said challengeNote) (*ChallengeResult, error) {
	said.Written.Challenge, said.Written.Handshake = true, said.Handshake // which are no part of a written line
	reason := ""
	if !said.Verified {
		reason = string(said.Written.Reason) // as partners may read it, whoever asks
	}
	now, err := c.registry.Verified(ctx, company, callbackID, said.Version, reason)
	if err != nil {
		return nil, err
	}
	if now.Version != said.Version && now.Status == registry.Unverified {
		return nil, &StateError{Message: "the callback was changed while it was challenged: verify it again"}
	}
	return &ChallengeResult{Verified: said.Verified, Callback: now, DeliveryID: said.DeliveryID, Attempt: shownAttempt(forReader(ctx, said.Written))}, nil
}

// challengedHosts are the names of the hosts that a challenge may send something to.
func challengedHosts(cb *registry.Callback) []string {
	hosts := []string{cb.Destination.Host()}
	if cb.Auth != nil && cb.Auth.TokenURL != "" {
		hosts = append(hosts, registry.Destination{URL: cb.Auth.TokenURL}.Host())
	}
	return slices.Compact(hosts)
}

// reserve counts a challenge to hosts as failed until it succeeds. It returns a *ChallengedTooOftenError where too many did.
func (c *Client) reserve(ctx context.Context, company string, hosts []string) error {
	wait, err := c.ledger.ReserveChallenge(ctx, company, hosts...)
	if err != nil {
		return unavailable(ctx, c, "counting a challenge", err)
	}
	if wait > 0 {
		return &ChallengedTooOftenError{wait.Round(time.Second) + time.Second}
	}
	return nil
}

// A challenged is what came of a challenge.
type challenged struct {
	id       string // the webhook-id
	posted   bool   // it went beyond the handshake
	verified bool
	written  ledger.Entry
}

// challenge sends it and judges the answer.
func (c *Client) challenge(ctx context.Context, cb *registry.Callback) challenged {
	token := strings.ToLower(rand.Text())
	body, _ := json.Marshal(map[string]string{"challenge": token}) // of letters and digits
	now := time.Now()
	r := &attempt{
		ref: ledger.Ref{Company: cb.Company, Event: "challenge", Callback: cb.ID}, ownID: challengePrefix + strings.ToLower(rand.Text()), number: 1, keepBody: challengeBody,
		callback: cb, timeout: min(cb.Timeout, challengeTimeout), meta: ledger.Meta{Type: TypeChallenge}, body: body, accepted: now, begun: now,
	}
	ctx, span := c.tracer.Start(ctx, "challenge "+TypeChallenge, r.spanOptions()...)
	defer span.End()
	said := challenged{id: r.ownID}
	s, last, agreed := r.shakeHands(ctx, &c.sender)
	if !last {
		said.posted = true
		if s = r.send(ctx, &c.sender); s.response != nil {
			s.Judgement = verdict.JudgeChallenge(s.response.Status, s.response.Body, token)
		}
	}
	said.verified, said.written = s.Verdict == verdict.Delivered, r.entry(s, DefaultKeepAnswerBytes)
	said.written.Challenge, said.written.Handshake = true, agreed
	c.reporter.tell(ctx, span, "challenge", r, s, said.written)
	return said
}

// shakeHands asks by the handshake of CloudEvents, which has no credentials and no signature. last says whether that is the last word: the
// endpoint allows it, or nobody was reached. Many an endpoint does not know the handshake: then no answer to it means anything.
func (a *attempt) shakeHands(ctx context.Context, by *sender) (s sent, last, agreed bool) {
	s.at = time.Now()
	response, err := by.egress.Do(ctx, egress.Request{
		Method: http.MethodOptions, URL: a.callback.Destination.URL, Timeout: a.timeout, Identity: identityOf(a.callback.Handshake()),
		Header: http.Header{"User-Agent": {by.userAgent}, headerRequestOrigin: {by.origin}},
	})
	s.took = time.Since(s.at)
	trace.SpanFromContext(ctx).AddEvent("handshake", trace.WithAttributes(attribute.Float64("ringback.duration_ms", float64(s.took)/float64(time.Millisecond))))
	if e, ok := errors.AsType[*egress.Error](err); ok {
		if j := verdict.JudgeError(e); j.Unconnected {
			s.Judgement, s.timing = j, e.Timing
			return s, true, false
		}
	}
	if err != nil || response.Status < 200 || response.Status > 299 {
		return s, false, false
	}
	allows := func(value string) bool {
		value = strings.TrimSpace(value)
		return value == "*" || strings.EqualFold(value, by.origin)
	}
	if !slices.ContainsFunc(response.Header.Values(headerAllowedOrigin), allows) {
		return s, false, false
	}
	s.response, s.timing = response, response.Timing
	s.Judgement = verdict.Judgement{Verdict: verdict.Delivered, Status: response.Status}
	if a.wantsToken() { // its token endpoint has to want that, too
		within, cancel := context.WithTimeout(ctx, a.timeout)
		defer cancel()
		if _, err := a.getToken(within, by); err != nil {
			s = s.withoutToken(err)
		}
	}
	return s, true, true
}
