package verdict

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"strconv"

	"github.com/ringback/ringback/dispatcher/egress"
)

// An Account is what is known of an attempt after it: a judgement, and what its sentence tells besides.
type Account struct {
	Judgement
	Repeated  bool // the request went out twice; see egress.Request.Repeatable
	Challenge bool // it was a challenge
	Handshake bool // it was a challenge for which the handshake was enough
}

// Sentence tells of an attempt: what the partner answered, and what to do about it. It is the one source for API, CLI, logs and spans.
// [Account.DecisionSentence] is for decisions.
func (a Account) Sentence() string {
	if a.Challenge {
		return a.challengeSentence()
	}
	sentence := ""
	if a.Verdict == Delivered {
		sentence = fmt.Sprintf("answered %s: delivered", statusName(a.Status))
	} else {
		sentence = a.reasonSentence()
	}
	if a.Repeated {
		sentence += "; the request went out twice, because a kept connection ended before an answer"
	}
	if a.Verdict == Dead && (a.Blame() != BlameRegistration || a.Inside) { // else it is dead from the first attempt on
		sentence += "; that was the last attempt of the schedule"
	}
	return sentence
}

func (a Account) challengeSentence() string {
	switch {
	case a.Verdict == Delivered && a.Handshake:
		return fmt.Sprintf("answered %s: it allows this sender, by the handshake of CloudEvents", statusName(a.Status))
	case a.Verdict == Delivered:
		return fmt.Sprintf("answered %s and said the challenge's token back", statusName(a.Status))
	case a.Reason == ReasonChallengeFailed:
		return fmt.Sprintf("answered %s, but without the challenge's token: the answer must be a JSON object whose member challenge is that of the request", statusName(a.Status))
	case a.Reason == ReasonUnknown:
		return "the challenge was broken off: nobody waited for its answer any more"
	case a.Status == http.StatusGone:
		return "answered 410 Gone: the endpoint does not want to be called"
	}
	return a.reasonSentence()
}

// DecisionSentence tells of a decision. If the partner said why it did not decide, the sentence quotes it; such words name customers, and do
// not belong into logs.
func (a Account) DecisionSentence() string {
	switch {
	case a.Verdict == Delivered:
		return fmt.Sprintf("answered %s", statusName(a.Status))
	case a.Reason == ReasonUnknown:
		return "the asking was broken off: whether the partner decided is not known"
	case a.Reason == ReasonMalformedAnswer:
		return fmt.Sprintf("answered %s with a body that %s: a decision is JSON, or 204", statusName(a.Status), a.Note)
	case a.Reason == ReasonTimeout:
		return a.Note + "; ask with a longer timeout, or let the endpoint decide faster"
	}
	if a.Status >= http.StatusBadRequest && a.Note != "" {
		return fmt.Sprintf("answered %s: %s", statusName(a.Status), a.Note)
	}
	return a.reasonSentence()
}

func (a Account) reasonSentence() string {
	switch a.Reason {
	case ReasonGone:
		return "answered 410 Gone: the delivery is given up and the callback disabled; resume it to receive again"
	case ReasonWrongContentType:
		return wrongContentType(a.ContentType)
	case ReasonEncodeFailed:
		return "the payload cannot be sent as this callback's content_type (" + a.Note + "): register it with application/json"
	case ReasonUnverified:
		return "nothing was sent: the callback's URL changed, and its endpoint has not answered its challenge yet"
	case ReasonUnknown:
		return "the sender stopped while this attempt was under way: it may have arrived, and is sent again with the same webhook-id"
	}
	if a.Status != 0 {
		sentence := statusSentence(a.Status)
		if a.RetryAfter > 0 {
			sentence += " (Retry-After asks to wait " + InWords(a.RetryAfter)
			if a.RetryAfter >= maxRetryAfter {
				sentence += " or longer, which is the most"
			}
			sentence += ")"
		}
		return sentence
	}
	advice, ok := networkAdvice[egress.Reason(a.Reason)]
	if !ok {
		advice = networkAdvice[egress.Network]
	}
	return cmp.Or(a.Note, "no answer came") + "; " + advice
}

func wrongContentType(contentType string) string {
	switch media, _, _ := mime.ParseMediaType(contentType); {
	case contentType == "":
		return "answered 200 without a Content-Type: a 200 must carry application/json; answer 204 if there is nothing to say"
	case media == "text/html":
		return "answered 200 with text/html: a 200 must carry application/json; this looks like a login page or a proxy"
	default:
		return fmt.Sprintf("answered 200 with %s: a 200 must carry application/json; answer 204 if there is nothing to say", Printable(contentType))
	}
}

func statusSentence(status int) string {
	advice := statusAdvice[status]
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

func statusName(status int) string {
	if text := http.StatusText(status); text != "" {
		return strconv.Itoa(status) + " " + text
	}
	return strconv.Itoa(status)
}

// statusAdvice says what to do about a status.
var statusAdvice = map[int]string{
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
