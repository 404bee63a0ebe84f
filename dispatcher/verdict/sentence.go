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
	Test      bool // it was a test
	Challenge bool // it was a challenge
	Handshake bool // it was a challenge for which the handshake was enough
	Batch     bool // its request was a batch's

	Looks Look   // what the answer looks like; see [LookOf]
	Auth  string // the type of the callback's auth, [AuthHeaders] or [AuthStandIn], if the endpoint refused the request (401, 403)

	ForOperators bool // the sentence is for them: it names remedies that partners do not have
}

// Sentence tells of an attempt: what the partner answered, and what to do about it. It is the one source for API, CLI, logs and spans.
// [Account.DecisionSentence] is for decisions.
func (a Account) Sentence() string {
	if a.Challenge {
		return a.challengeSentence()
	}
	sentence := ""
	switch {
	case a.Reason == ReasonAcknowledged:
		sentence = "fetched, and acknowledged: delivered"
	case a.Verdict == Delivered:
		sentence = fmt.Sprintf("answered %s: delivered", statusName(a.Status))
	default:
		sentence = a.reasonSentence()
	}
	if a.Test && refusals[a.Status] && servers[a.Looks] == "" && certificateAdvice[a.Looks] == "" {
		sentence += testHint
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
	case refusals[a.Status] && certificateAdvice[a.Looks] == "":
		return a.reasonSentence() + challengeHint
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
		return a.wrongContentType()
	case ReasonEncodeFailed:
		return "the payload cannot be sent as this callback's content_type (" + a.Note + "): register it with application/json"
	case ReasonSomeFailed:
		return fmt.Sprintf("answered %s, and its results say that %s elements were taken, and not this one", statusName(a.Status), a.Note)
	case ReasonAllFailed:
		return fmt.Sprintf("answered %s, but its results say of no element that it was taken, with a status of 2xx", statusName(a.Status))
	case ReasonUnverified:
		return "nothing was sent: the callback's URL changed, and its endpoint has not answered its challenge yet"
	case ReasonUnknown:
		return "the sender stopped while this attempt was under way: it may have arrived, and is sent again with the same webhook-id"
	}
	if a.Status != 0 {
		sentence := a.statusSentence()
		if a.RetryAfter > 0 {
			sentence += " (Retry-After asks to wait " + InWords(a.RetryAfter)
			if a.RetryAfter >= maxRetryAfter {
				sentence += " or longer, which is the most"
			}
			sentence += ")"
		}
		return sentence
	}
	if a.ForOperators && a.Reason == ReasonEgressProxy {
		return cmp.Or(a.Note, "no answer came") + "; look at the proxy of --egress-proxy and its log; it is tried again and does not count"
	}
	switch {
	case a.Reason == ReasonTimeout && egress.Unconnected(a.Note):
		return a.Note + "; check that the host is up and lets connections in, and the network and firewalls on the way"
	case egress.Exhausted(a.Note):
		return a.Note + "; this is for the operator to mend (a higher limit on open files); it is tried again"
	}
	switch {
	case egress.CertificateMissing(a.Note):
		return a.Note + "; " + giveCertificate
	case egress.CertificateRefused(a.Note):
		return a.Note + "; " + renewCertificate
	}
	advice, ok := networkAdvice[egress.Reason(a.Reason)]
	if !ok {
		advice = networkAdvice[egress.Network]
	}
	return cmp.Or(a.Note, "no answer came") + "; " + advice
}

// wrongContentType says what a 200 needs, by what came instead. Only an endpoint that seems to have meant yes is told how to widen the rule.
func (a Account) wrongContentType() string {
	with, media := "without a Content-Type", ""
	if a.ContentType != "" {
		with = "with " + Printable(a.ContentType)
		media, _, _ = mime.ParseMediaType(a.ContentType)
		if media == "text/html" || media == "text/plain" {
			with = "with " + media
		}
	}
	sentence := "answered 200 " + with + ": a 200 must carry application/json; "
	switch {
	case a.Looks == LookLogin, a.Looks == "" && media == "text/html":
		return sentence + "this looks like a login page or a proxy"
	case a.Looks == LookPage:
		return sentence + "this is a web page, such as a login page or a proxy's: check the callback's URL"
	case servers[a.Looks] != "":
		return sentence + "this page is " + servers[a.Looks] + "'s own, and not the endpoint's answer: check the callback's URL"
	case a.Looks == LookEmpty:
		return sentence + "there is no body, so answer 204, or " + widerRule
	case a.Looks == LookJSON:
		return sentence + "the body is JSON already, so add Content-Type: application/json, or " + widerRule
	case a.Looks == LookText:
		return sentence + "add Content-Type: application/json and a JSON body, or answer 204, or " + widerRule
	}
	return sentence + "add Content-Type: application/json and a JSON body, or answer 204"
}

// widerRule is the remedy for an endpoint that cannot answer otherwise.
const widerRule = "register the callback with `success: any_2xx`"

// Refuses reports whether a status says that the endpoint refuses who asks.
func Refuses(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden
}

// refusals are the statuses by which receivers say that a signature does not verify.
var refusals = map[int]bool{http.StatusBadRequest: true, http.StatusUnauthorized: true, http.StatusForbidden: true}

const (
	// likelySignature is why a request that is signed well is refused most often.
	likelySignature = "most likely it verifies with another signing secret, or a rewritten body (`ringback verify` tells which)"
	// testHint follows where an endpoint refused a test.
	testHint = "; a test's JSON is written so that it changes when something parses it and writes it anew: if the secret is right, " +
		"the endpoint verifies such a body, and not the bytes as they arrived"
	// challengeHint follows where an endpoint refused a challenge.
	challengeHint = "; a challenge may be answered without a look at its signature, for whoever registers does not have the secret yet"
)

// AuthHeaders stands for the auth of a callback that has none, but headers of its own.
const AuthHeaders = "headers"

// AuthStandIn stands for a request that was signed with the secret, as the callback's keys, which alone are to sign, do not do so yet.
const AuthStandIn = "secret_for_key"

// credentials are what people call the types of a callback's auth.
var credentials = map[string]string{"bearer": "a bearer token", "basic": "a user name and a password", "oauth2": "an access token"}

// refusalAdvice says what to do about a 401 and a 403. Each may be about the signature, or about anything else that tells senders apart.
func (a Account) refusalAdvice() string {
	if server := servers[a.Looks]; server != "" {
		return server + " refused the request before it came to the endpoint; check its rules for this path"
	}
	advice := "the endpoint refuses the request; " + likelySignature
	switch {
	case a.Auth == AuthStandIn:
		return "the endpoint refuses the request, which was signed with the callback's secret: its key is published, and signs from the sixth minute on " +
			"(`ringback callbacks get` says when); if the endpoint verifies by keys alone, it takes what is tried again after that"
	case a.Auth == AuthHeaders:
		advice += ", or does not take what the callback's headers hold"
	case a.Auth != "":
		advice += ", or does not take the callback's auth (" + cmp.Or(credentials[a.Auth], a.Auth) + ")"
	case a.Status == http.StatusUnauthorized:
		advice += ", or wants credentials, and the callback has no auth"
	}
	if a.Status == http.StatusForbidden {
		advice += ", or a firewall before it refuses this sender"
	}
	return advice
}

func (a Account) statusSentence() string {
	advice := statusAdvice[a.Status]
	if a.Batch {
		advice = cmp.Or(batchAdvice[a.Status], advice)
	}
	switch status := a.Status; {
	case certificateAdvice[a.Looks] != "":
		return fmt.Sprintf("answered %s: %s", statusName(status), certificateAdvice[a.Looks])
	case Refuses(status):
		return fmt.Sprintf("answered %s: %s", statusName(status), a.refusalAdvice())
	case advice != "":
	case status == http.StatusNotModified:
		advice = "a webhook is not a cached page; answer 204"
	case status >= 300 && status <= 399:
		advice = "redirects are not followed; register the final URL"
	case status >= 200 && status <= 299:
		advice = "only 204, or 200 with application/json, counts as received; answer so, or " + widerRule
	case status >= 400 && status <= 499:
		advice = "the endpoint refuses the request; its own log says why"
	case status >= 520 && status <= 530: // as Cloudflare uses them
		advice = "a proxy before the endpoint could not get an answer from it"
	case status >= 500 && status <= 599:
		advice = "the endpoint failed; its own log says why"
	default:
		advice = "this is not an answer that counts as received"
	}
	if server := servers[a.Looks]; server != "" && a.Status >= http.StatusBadRequest {
		advice += "; this page is " + server + "'s own, and not the endpoint's answer"
	}
	return fmt.Sprintf("answered %s: %s", statusName(a.Status), advice)
}

const (
	giveCertificate  = "give the callback one that the endpoint takes (tls.client_certificate and tls.client_key)"
	renewCertificate = "give the callback one that the endpoint takes (tls.client_certificate and tls.client_key), or let the endpoint trust this one's authority"
)

// certificateAdvice says what to do where an answer, and not the handshake, was about the client certificate.
var certificateAdvice = map[Look]string{
	LookCertificateMissing: "the endpoint asked for a client certificate, and none was sent; " + giveCertificate,
	LookCertificateRefused: "the endpoint did not take the client certificate; " + renewCertificate,
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
	http.StatusBadRequest:                 "the endpoint refused the request as malformed; check what it expects, or, if it answers so to a wrong signature, why with `ringback verify`",
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

// batchAdvice is what differs of statusAdvice where the request was a batch's.
var batchAdvice = map[int]string{
	http.StatusConflict:              "if these events are known there already, answer 204",
	http.StatusRequestEntityTooLarge: "the endpoint's limit on bodies is too small for this batch; raise it, or if it held more than one event, lower the callback's batch.max_bytes",
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
