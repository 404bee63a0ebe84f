// Package verdict says what an answer means, in a word, a sentence and a blame; pure.
//
// [Judge] reads one answer, or the error that came instead, into a [Judgement]. The judgement's [Verdict] says what becomes of the delivery.
// Its [Reason] says why, in a word that may label a metric. [Account] makes a sentence of it, which a partner can act on. [Judgement.Blame]
// says whose doing a failure is, and what each counter learns from it. [Next] says when the schedule tries again.
//
// Every function here depends on its arguments alone. Nothing asks a clock, a network or Redis: where the time matters, it is an argument.
// The one exception is the jitter in [Delay] and [Next], which is random.
package verdict

import (
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
)

// A Verdict is what an attempt means for its delivery.
type Verdict string

// The verdicts.
const (
	Delivered Verdict = "delivered" // the answer met the callback's success rule
	Retry     Verdict = "retry"     // try again
	Dead      Verdict = "dead"      // give up: hopeless, or the last attempt of the schedule
	Gone      Verdict = "gone"      // 410: give up, and disable the callback
)

// A Reason says in one word why an attempt did not deliver: "status_" and the status code, one of egress's reasons, or one of
// those below. It is empty if the attempt delivered, unless the partner fetched the delivery.
type Reason string

// Reasons beside status_NNN and egress's own.
const (
	ReasonGone             Reason = "gone"
	ReasonWrongContentType Reason = "wrong_content_type" // 200, but not application/json
	ReasonEncodeFailed     Reason = "encode_failed"      // the payload cannot be written as the callback's content type
	ReasonHoldExpired      Reason = "hold_expired"       // no attempt: it was held for too long
	ReasonHoldFull         Reason = "hold_full"          // no attempt: it was the oldest of too many that were held
	ReasonUnknown          Reason = "unknown"            // the sender stopped in mid-attempt: it may have arrived
	ReasonSomeFailed       Reason = "some_failed"        // a batch: the answer says of some elements that they were taken, and of others not
	ReasonAllFailed        Reason = "all_failed"         // a batch: the answer says of none that it was taken
	ReasonMalformedAnswer  Reason = "malformed_answer"   // a decision's answer should be JSON, and is not, or not whole
	ReasonChallengeFailed  Reason = "challenge_failed"   // the answer does not hold the challenge's token
	ReasonAcknowledged     Reason = "acknowledged"       // delivered: the partner fetched it, and said that it has it
	ReasonUnverified       Reason = "unverified"         // no attempt: the callback's endpoint has not answered its challenge
	ReasonBlockedAddress   Reason = Reason(egress.BlockedAddress)
	ReasonNameNotAllowed   Reason = Reason(egress.NameNotAllowed) // no attempt: it is held until an operator allows the name
	ReasonEgressProxy      Reason = Reason(egress.EgressProxy)    // our own way out refused
	ReasonOAuthToken       Reason = Reason(egress.OAuth)          // no access token came
	ReasonTimeout          Reason = Reason(egress.Timeout)
)

// StatusReason is the reason of an answer that failed by its status.
func StatusReason(status int) Reason { return Reason("status_" + strconv.Itoa(status)) }

// maxRetryAfter bounds how long a partner may ask us to wait (Retry-After).
const maxRetryAfter = 24 * time.Hour

// An Outcome is what came back from one request: a status with headers, or an error.
type Outcome struct {
	Status int
	Header http.Header
	Err    error
}

// A Judgement is what an outcome means.
type Judgement struct {
	Verdict     Verdict
	Reason      Reason
	Status      int           // of the answer; 0: none came
	ContentType string        // of an answer judged by it
	Note        string        // what the network said
	Inside      bool          // reason and note are not the truth, but what partners may read; see egress.Error.Inside
	Unconnected bool          // no connection came about, so the partner has not heard of the request
	RetryAfter  time.Duration // what the partner asked for, bounded; 0: nothing
}

// Judge decides what an outcome means, by the callback's rule, status and headers alone. If an outcome is not known to be final, it is temporary.
//
// The default rule is the payment-proof contract's: 204, or 200 with application/json. 410 is Standard Webhooks' "gone".
func Judge(rule payloads.SuccessRule, o Outcome, now time.Time) Judgement {
	if o.Err != nil {
		return JudgeError(o.Err)
	}
	j := Judgement{Verdict: Retry, Status: o.Status}
	switch {
	case meets(rule, o):
		j.Verdict = Delivered
	case o.Status == http.StatusGone:
		j.Verdict, j.Reason = Gone, ReasonGone
	case o.Status == http.StatusOK && rule == payloads.JSON200Or204:
		j.Reason, j.ContentType = ReasonWrongContentType, o.Header.Get("Content-Type")
	default:
		j.Reason, j.RetryAfter = StatusReason(o.Status), retryAfter(o, now)
	}
	return j
}

func meets(rule payloads.SuccessRule, o Outcome) bool {
	switch rule {
	case payloads.AnyResponse:
		return true
	case payloads.Any2xx:
		return o.Status >= 200 && o.Status <= 299
	default:
		return o.Status == http.StatusNoContent || o.Status == http.StatusOK && isJSON(o.Header.Get("Content-Type"))
	}
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if errors.Is(err, mime.ErrInvalidMediaParameter) { // the type itself is sound
		err = nil
	}
	return err == nil && media == "application/json"
}

// JudgeError decides what it means that no answer came. Only an *egress.Error says more than that.
func JudgeError(err error) Judgement {
	e, ok := errors.AsType[*egress.Error](err)
	if !ok {
		return Judgement{Verdict: Retry, Reason: Reason(egress.Network)}
	}
	j := Judgement{Verdict: Retry, Reason: Reason(e.Reason), Note: Clip(e.Detail, 200), Inside: e.Inside, Unconnected: unconnected(e)}
	switch e.Reason {
	case egress.BlockedAddress:
		j.Verdict = Dead
	case egress.Canceled: // only our own shutdown cancels a request: it may have arrived
		j.Reason = ReasonUnknown
	}
	return j
}

// unconnected reports whether a request did not get as far as a connection.
func unconnected(e *egress.Error) bool {
	switch e.Reason {
	case egress.DNS, egress.Refused, egress.Unreachable, egress.Network, egress.EgressProxy:
		return true
	case egress.Timeout:
		return e.Phase == egress.PhaseDNS || e.Phase == egress.PhaseConnect
	}
	return false
}

// JudgeChallenge decides whether an answer proves that the endpoint wants to be called: its JSON says the token back. The token is letters
// and digits.
func JudgeChallenge(status int, body []byte, token string) Judgement {
	j := Judgement{Verdict: Retry, Status: status}
	if status < 200 || status > 299 {
		j.Reason = StatusReason(status)
		return j
	}
	var said map[string]json.RawMessage
	if json.Unmarshal(body, &said) == nil && string(said["challenge"]) == strconv.Quote(token) {
		j.Verdict = Delivered
		return j
	}
	j.Reason = ReasonChallengeFailed
	return j
}

// retryAfter reads Retry-After on 429 and 503, as seconds or as a date (RFC 9110, 10.2.3).
func retryAfter(o Outcome, now time.Time) time.Duration {
	if !asksForFewer(o.Status) {
		return 0
	}
	value := strings.TrimSpace(o.Header.Get("Retry-After"))
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseUint(value, 10, 64)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) { // or it has too many digits
			return maxRetryAfter
		}
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return min(max(at.Sub(now), 0), maxRetryAfter)
	}
	return 0
}

// asksForFewer reports whether a status asks the sender to come later.
func asksForFewer(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}
