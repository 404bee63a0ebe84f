package dispatcher

import (
	"cmp"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/payloads"
)

// A Verdict is what an attempt means for its delivery.
type Verdict string

// The verdicts.
const (
	VerdictDelivered Verdict = "delivered" // the answer met the callback's success rule
	VerdictRetry     Verdict = "retry"     // try again
	VerdictDead      Verdict = "dead"      // give up: hopeless, or the last attempt of the schedule
	VerdictGone      Verdict = "gone"      // 410: give up, and disable the callback
)

// A Reason says in one word why an attempt did not deliver: "status_" and the status code, one of egress's reasons, or one of
// those below. It is empty where the attempt delivered.
type Reason string

// Reasons beside status_NNN and egress's own.
const (
	ReasonGone             Reason = "gone"
	ReasonWrongContentType Reason = "wrong_content_type" // 200, but not application/json
	ReasonEncodeFailed     Reason = "encode_failed"      // the payload cannot be written as the callback's content type
	ReasonHoldExpired      Reason = "hold_expired"       // no attempt: it was held for too long
	ReasonHoldFull         Reason = "hold_full"          // no attempt: it was the oldest of too many that were held
	ReasonUnknown          Reason = "unknown"            // the sender stopped in mid-attempt: it may have arrived
	ReasonBlockedAddress   Reason = Reason(egress.BlockedAddress)
	ReasonNameNotAllowed   Reason = Reason(egress.NameNotAllowed) // no attempt: it is held until an operator allows the name
	ReasonEgressProxy      Reason = Reason(egress.EgressProxy)    // our own way out refused
	ReasonOAuthToken       Reason = Reason(egress.OAuth)          // no access token came
)

// saysNothing reports whether a failure for this reason says nothing about the partner: it was not asked, or nobody knows what it said.
func saysNothing(r Reason) bool {
	switch r {
	case ReasonUnknown, ReasonOAuthToken, ReasonEncodeFailed, ReasonBlockedAddress, ReasonNameNotAllowed, ReasonEgressProxy, ReasonUnverified:
		return true
	}
	return false
}

func statusReason(status int) Reason { return Reason("status_" + strconv.Itoa(status)) }

// maxRetryAfter bounds how long a partner may ask us to wait (Retry-After).
const maxRetryAfter = 24 * time.Hour

// An outcome is what came back from one request: a status with headers, or an error.
type outcome struct {
	status int
	header http.Header
	err    error
}

// A judgement is what an outcome means.
type judgement struct {
	verdict     Verdict
	reason      Reason
	contentType string        // of an answer judged by it
	note        string        // what the network said
	inside      bool          // reason and note are not the truth, but what partners may read; see egress.Error.Inside
	retryAfter  time.Duration // what the partner asked for, bounded; 0: nothing
}

// judge decides, by the callback's rule, status and headers alone, what an outcome means. Whatever is not known to be final is temporary.
//
// The default rule is the payment-proof contract's: 204, or 200 with application/json. 410 is Standard Webhooks' "gone".
func judge(rule payloads.SuccessRule, o outcome, now time.Time) judgement {
	if o.err != nil {
		return judgeError(o.err)
	}
	if meets(rule, o) {
		return judgement{verdict: VerdictDelivered}
	}
	if o.status == http.StatusGone {
		return judgement{verdict: VerdictGone, reason: ReasonGone}
	}
	if o.status == http.StatusOK && rule == payloads.JSON200Or204 {
		return judgement{verdict: VerdictRetry, reason: ReasonWrongContentType, contentType: o.header.Get("Content-Type")}
	}
	return judgement{verdict: VerdictRetry, reason: statusReason(o.status), retryAfter: retryAfter(o, now)}
}

func meets(rule payloads.SuccessRule, o outcome) bool {
	switch rule {
	case payloads.AnyResponse:
		return true
	case payloads.Any2xx:
		return o.status >= 200 && o.status <= 299
	default:
		return o.status == http.StatusNoContent || o.status == http.StatusOK && isJSON(o.header.Get("Content-Type"))
	}
}

func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if errors.Is(err, mime.ErrInvalidMediaParameter) { // the type itself is sound
		err = nil
	}
	return err == nil && media == "application/json"
}

func judgeError(err error) judgement {
	e, ok := errors.AsType[*egress.Error](err)
	if !ok {
		return judgement{verdict: VerdictRetry, reason: Reason(egress.Network)}
	}
	j := judgement{verdict: VerdictRetry, reason: Reason(e.Reason), note: clip(e.Detail, 200), inside: e.Inside}
	switch e.Reason {
	case egress.BlockedAddress:
		j.verdict = VerdictDead
	case egress.Canceled: // only our own shutdown cancels a request: it may have arrived
		j.reason = ReasonUnknown
	}
	return j
}

// retryAfter reads Retry-After on 429 and 503, as seconds or as a date (RFC 9110, 10.2.3).
func retryAfter(o outcome, now time.Time) time.Duration {
	if o.status != http.StatusTooManyRequests && o.status != http.StatusServiceUnavailable {
		return 0
	}
	value := strings.TrimSpace(o.header.Get("Retry-After"))
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

// detail is the sentence for an attempt: what the partner answered and what to do about it. It is the one source for API, CLI, logs and spans.
func detail(e entry) string {
	if e.Challenge {
		return challengeDetail(e)
	}
	sentence := ""
	if e.Verdict == VerdictDelivered {
		sentence = fmt.Sprintf("answered %s: delivered", statusName(e.Status))
	} else {
		sentence = reasonSentence(e)
	}
	if e.Repeated {
		sentence += "; the request went out twice, because a kept connection ended before an answer"
	}
	if e.Verdict == VerdictDead && (e.Reason != ReasonBlockedAddress || e.Inside) && e.Reason != ReasonEncodeFailed {
		sentence += "; that was the last attempt of the schedule"
	}
	return sentence
}

func reasonSentence(e entry) string {
	switch e.Reason {
	case ReasonGone:
		return "answered 410 Gone: the delivery is given up and the callback disabled; resume it to receive again"
	case ReasonWrongContentType:
		return wrongContentType(e.ContentType)
	case ReasonEncodeFailed:
		return "the payload cannot be sent as this callback's content_type (" + e.Note + "): register it with application/json"
	case ReasonUnverified:
		return "nothing was sent: the callback's URL changed, and its endpoint has not answered its challenge yet"
	case ReasonUnknown:
		return "the sender stopped while this attempt was under way: it may have arrived, and is sent again with the same webhook-id"
	}
	if e.Status != 0 {
		sentence := statusSentence(e.Status)
		if e.AskedSeconds > 0 {
			asked := time.Duration(e.AskedSeconds) * time.Second
			sentence += " (Retry-After asks to wait " + inWords(asked)
			if asked >= maxRetryAfter {
				sentence += " or longer, which is the most"
			}
			sentence += ")"
		}
		return sentence
	}
	advice, ok := networkAdvice[egress.Reason(e.Reason)]
	if !ok {
		advice = networkAdvice[egress.Network]
	}
	return cmp.Or(e.Note, "no answer came") + "; " + advice
}

func wrongContentType(contentType string) string {
	switch media, _, _ := mime.ParseMediaType(contentType); {
	case contentType == "":
		return "answered 200 without a Content-Type: a 200 must carry application/json; answer 204 if there is nothing to say"
	case media == "text/html":
		return "answered 200 with text/html: a 200 must carry application/json; this looks like a login page or a proxy"
	default:
		return fmt.Sprintf("answered 200 with %s: a 200 must carry application/json; answer 204 if there is nothing to say", printable(contentType))
	}
}

func statusSentence(status int) string {
	advice := map[int]string{
		http.StatusSwitchingProtocols:         "a webhook is answered, not upgraded",
		http.StatusCreated:                    "only 204, or 200 with application/json, counts as received",
		http.StatusAccepted:                   "only 204, or 200 with application/json, counts as received",
		http.StatusBadRequest:                 "the endpoint refused the request as malformed; check what it expects",
		http.StatusUnauthorized:               "the endpoint wants other credentials; check the callback's auth",
		http.StatusForbidden:                  "the endpoint refuses this sender; check its firewall and the callback's auth",
		http.StatusNotFound:                   "nothing answers at this path; check the callback's URL",
		http.StatusMethodNotAllowed:           "the endpoint does not take the callback's method; check destination.method",
		http.StatusRequestTimeout:             "the endpoint, or a proxy before it, did not read the request in time; check whether it is overloaded",
		http.StatusConflict:                   "if this event is known there already, answer 204",
		http.StatusLengthRequired:             "the endpoint wants Content-Length, which is sent; check the proxies before it",
		http.StatusRequestEntityTooLarge:      "the endpoint's limit on bodies is too small for this event; raise it",
		http.StatusRequestURITooLong:          "the endpoint's limit on URLs is too small for the callback's; raise it, or register a shorter one",
		http.StatusUnsupportedMediaType:       "the endpoint does not take the callback's content_type; register the one it takes",
		http.StatusUnprocessableEntity:        "the endpoint refuses this payload; if it does not care for such events, answer 204",
		http.StatusMisdirectedRequest:         "this host does not serve the callback's name; check the URL and the proxies before it",
		http.StatusTooManyRequests:            "the endpoint asks for fewer requests",
		http.StatusUnavailableForLegalReasons: "the endpoint refuses this sender; check its firewall",
		http.StatusInternalServerError:        "the endpoint failed; its own log says why",
		http.StatusNotImplemented:             "the endpoint does not know the callback's method; check destination.method",
		http.StatusBadGateway:                 "a proxy before the endpoint cannot reach it",
		http.StatusServiceUnavailable:         "the endpoint is down or overloaded",
		http.StatusGatewayTimeout:             "a proxy before the endpoint waited in vain for it",
	}[status]
	switch {
	case advice != "":
	case status == http.StatusNotModified:
		advice = "a webhook is not a cached page; answer 204"
	case status >= 300 && status <= 399:
		advice = "redirects are not followed; register the final URL"
	case status >= 200 && status <= 299:
		advice = "only 204, or 200 with application/json, counts as received"
	case status >= 400 && status <= 499:
		advice = "the endpoint refuses the request; its own log says why"
	case status >= 520 && status <= 530: // as Cloudflare uses them
		advice = "a proxy before the endpoint could not get an answer from it"
	case status >= 500 && status <= 599:
		advice = "the endpoint failed; its own log says why"
	default:
		advice = "this is not an answer that counts as received"
	}
	return fmt.Sprintf("answered %s: %s", statusName(status), advice)
}

// inWords writes a duration for people: 2m, 1h30m.
func inWords(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func statusName(status int) string {
	if text := http.StatusText(status); text != "" {
		return strconv.Itoa(status) + " " + text
	}
	return strconv.Itoa(status)
}

// networkAdvice says what to do where no answer came; egress's own sentence says what was seen.
var networkAdvice = map[egress.Reason]string{
	egress.Timeout:          "let the endpoint answer first and work afterwards, or raise the callback's timeout",
	egress.DNS:              "check the callback's URL and the name's DNS records",
	egress.Refused:          "start the endpoint, or check the callback's host and port",
	egress.Reset:            "check the endpoint and the proxies and firewalls before it",
	egress.Unreachable:      "check the network between here and the callback's host",
	egress.TLS:              "check that this port speaks TLS, and the certificate, its chain and its host name",
	egress.BlockedAddress:   "register a URL with a public address",
	egress.EgressProxy:      "this is for the operator to mend; it is tried again and does not count",
	egress.NameNotAllowed:   "register a URL whose host name is reachable from outside",
	egress.BadResponse:      "check that the URL leads to an HTTP endpoint",
	egress.ConnectionClosed: "check that the endpoint does not crash on this request",
	egress.Network:          "check the network between here and the callback's host",
	egress.BadRequest:       "check the callback's URL and headers",
	egress.OAuth:            "check auth.token_url, client_id and client_secret",
}

// clip bounds a stranger's text.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}

// printable keeps a stranger's text from playing tricks on a terminal or a page.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '<' || r == '>' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
