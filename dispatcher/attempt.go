package dispatcher

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// An attempt is a request to a partner, or the try at one: of a delivery, a decision, a test or a challenge.
type attempt struct {
	ref      ledger.Ref
	ownID    string             // of what is no delivery
	test     bool               // a test: says so in a header
	replay   bool               // the delivery was replayed before: says so in a header
	callback *registry.Callback // nil: deleted since
	typ      *payloads.Type     // the event's; its rule judges, unless the callback has its own
	timeout  time.Duration
	keepBody int   // how much of the answer's body is kept; 0: what egress keeps by itself
	number   int   // of the attempt
	sequence int64 // of the delivery among those of its callback and key; 0: it has no order
	meta     ledger.Meta
	body     []byte
	tickets  []string                  // those of its thin bodies, once they were made; else empty
	batch    *ledger.Batch             // nil: it is no batch. Else the type is that of all members, or nil, and meta has its name, or *
	types    map[string]*payloads.Type // of a batch's members
	accepted time.Time                 // the event
	begun    time.Time                 // the attempt, by Redis's clock where that knows of it
}

// A sent is what came of a request, and what it means.
type sent struct {
	verdict.Judgement
	at       time.Time // by this process's clock, when the last request began; zero: nothing was sent
	took     time.Duration
	timing   egress.Timing    // where the time went
	response *egress.Response // nil: there was none
	token    string           // the access token that the request carried, where the callback's auth wants one

	header http.Header // as it went out; nil: nothing went out
	body   []byte      // as it went out
	sums   []byte      // of a batch: what its elements are known by
	partly bool        // the request could not be written to its end
	keeps  keeping     // what is kept of all this
	taken  []string    // of a batch: events that were taken, where others were not
}

// A sender is what it takes to send.
type sender struct {
	egress    *egress.Client
	tokens    *egress.Tokens // access tokens of the callbacks that want them
	userAgent string
	origin    string                          // who asks in a handshake
	publicURL func(*registry.Callback) string // what the addresses in thin bodies begin with
	keeps     keeping
	dry       bool // makes requests, and sends none
}

// id is the webhook-id.
func (a *attempt) id() string {
	if a.ownID != "" {
		return a.ownID
	}
	if a.batch != nil {
		return a.batch.WebhookID
	}
	return a.ref.DeliveryID()
}

func (a *attempt) isDecision() bool { return strings.HasPrefix(a.ownID, decisionPrefix) }

// sentence says what came of a request, for logs and traces.
func (a *attempt) sentence(written ledger.Entry) string {
	if a.isDecision() {
		return written.WithoutWords().Unmasked().DecisionDetail()
	}
	return written.Unmasked().Detail()
}

func (a *attempt) isChallenge() bool { return strings.HasPrefix(a.ownID, challengePrefix) }

// secrets are those of the callback, and what its requests prove or open; token is an access token, or empty.
func (a *attempt) secrets(token string) blotter {
	hidden := secretsOf(a.callback, token)
	return append(hidden, a.tickets...)
}

// blottedBody is a body that was sent, without its tickets.
func (a *attempt) blottedBody(body []byte) []byte { return blotted(body, a.tickets) }

func blotted(body []byte, tickets []string) []byte {
	for _, ticket := range tickets {
		body = bytes.ReplaceAll(body, []byte(ticket), []byte(registry.Masked))
	}
	return body
}

// events is how many deliveries it makes.
func (a *attempt) events() int {
	if a.batch == nil {
		return 1
	}
	return len(a.batch.Members)
}

func unsendable(err error) verdict.Judgement {
	return verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonEncodeFailed, Note: verdict.Clip(err.Error(), 200)}
}

// judge is the judgement of an outcome, without the secrets that the partner echoes in a header it is judged by.
func (a *attempt) judge(rule payloads.SuccessRule, o verdict.Outcome, token string) verdict.Judgement {
	j := verdict.Judge(rule, o, time.Now())
	if j.ContentType != "" {
		j.ContentType = verdict.Clip(a.secrets(token).Replace(j.ContentType), 100)
	}
	return j
}

// entry is the attempt's line in a record, with so many bytes of the answer at most.
func (a *attempt) entry(s sent, most int) ledger.Entry {
	e := ledger.Entry{
		Number: a.number, Started: a.begun.UnixMilli(), DurationMS: s.took.Milliseconds(), Status: s.Status,
		Verdict: s.Verdict, Reason: s.Reason, ContentType: s.ContentType, Note: s.Note, Repeated: s.timing.Repeated, AskedSeconds: int64(s.RetryAfter / time.Second),
		Inside: s.Inside, Test: a.test,
	}
	if a.batch != nil {
		e.Batch = a.batch.WebhookID
	}
	if s.response == nil {
		return e
	}
	if s.Verdict != verdict.Delivered || a.isDecision() { // a decision's answer is what it is about
		if verdict.Refuses(s.Status) {
			e.Auth = a.credentials()
		}
		e.Looks = verdict.LookOf(s.Status, s.response.Header, s.response.Body, !s.response.Truncated)
		e.Headers, e.Body = keepAnswer(s.response, a.secrets(s.token), most)
	}
	return e
}

// credentials says by what the request proved itself to the endpoint, beside its signature, or that this was by the secret in a key's stead; see verdict.Account.
func (a *attempt) credentials() string {
	switch {
	case a.callback.StandsIn(a.begun):
		return verdict.AuthStandIn
	case a.callback.Auth != nil:
		return a.callback.Auth.Type
	case len(a.callback.Headers) > 0:
		return verdict.AuthHeaders
	}
	return ""
}

// keptHeaders are the answer's headers worth keeping: none of them holds a secret.
var keptHeaders = []string{"Content-Type", "Retry-After", "Server", "Location", "Www-Authenticate", "X-Request-Id", "Date"}

// keepAnswer keeps the beginning of an answer, so many bytes of headers and body together. Some endpoints echo what they were sent: secrets are blotted out.
func keepAnswer(r *egress.Response, secrets blotter, left int) (headers map[string]string, body string) {
	for _, name := range keptHeaders {
		value := verdict.Clip(verdict.Printable(secrets.Replace(r.Header.Get(name))), 200)
		if name == "Location" {
			value, _, _ = strings.Cut(value, "?") // a query may hold a token
		}
		if value == "" || len(name)+len(value) > left {
			continue
		}
		if headers == nil {
			headers = make(map[string]string)
		}
		headers[name] = value
		left -= len(name) + len(value)
	}
	body = secrets.ReplaceOf(r, string(r.Body))
	if len(body) > left {
		body = body[:left]
	}
	return headers, strings.ToValidUTF8(body, "\uFFFD")
}

// headers are what the partner receives beside the body and its signature.
func (a *attempt) headers(userAgent string) http.Header {
	h := make(http.Header, 12)
	for name, value := range a.callback.Headers {
		h.Set(name, value)
	}
	h.Set("User-Agent", userAgent)
	if a.test {
		h.Set("Ringback-Test", "1")
	}
	if a.replay {
		h.Set("Ringback-Replay", "1")
	}
	h.Set("Ringback-Attempt", strconv.Itoa(a.number))
	if a.batch != nil { // it has many events
		h.Set("Ringback-Batch", strconv.Itoa(len(a.batch.Members)))
		if a.enveloped() {
			h.Set("Ringback-Batch-Element", string(registry.ElementEnvelope))
		}
		if a.hears() {
			h.Set("Ringback-Batch-Results", "1")
		}
		return h
	}
	h.Set("Ringback-Event-Id", a.ref.Event)
	h.Set("Ringback-Event-Type", a.meta.Type)
	if a.sequence > 0 {
		h.Set("Ringback-Sequence", strconv.FormatInt(a.sequence, 10))
	}
	return h
}

// enveloped reports whether a batch's elements are envelopes. They are as the callback had it when the batch was made.
func (a *attempt) enveloped() bool {
	return registry.BatchElement(a.batch.Element) == registry.ElementEnvelope
}

// hears reports whether the answer's body may speak of each of the attempt's deliveries.
func (a *attempt) hears() bool {
	return a.batch != nil && a.callback != nil && a.callback.Batch != nil && a.callback.Batch.Results
}

// How the ids begin of what is no delivery.
const (
	decisionPrefix  = "dec_"
	challengePrefix = "chl_"
)
