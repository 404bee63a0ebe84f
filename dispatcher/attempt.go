package dispatcher

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// An attempt is one request in the making: what begin found, then what came back, then what it means.
type attempt struct {
	ref        ledger.Ref
	generation int64
	token      string
	ownID      string             // of a test or a decision, which are no deliveries
	test       bool               // a test: says so in a header
	replay     bool               // the delivery was replayed before: says so in a header
	unproven   bool               // its callback moved after it had begun, and is unverified
	handshake  bool               // a challenge that was answered by the handshake
	posted     bool               // a challenge that went beyond the handshake
	keepBody   int                // how much of the answer's body is kept; 0: what egress keeps by itself
	callback   *registry.Callback // nil: deleted since
	typ        *payloads.Type     // the event's; its rule judges, unless the callback has its own
	timeout    time.Duration      // of the request; within the lease that begin took

	number   int
	spent    int // of the budget, before this attempt
	log      string
	meta     ledger.Meta
	body     []byte
	logID    string // of its event, which may be erased and sent anew meanwhile
	accepted time.Time
	version  int64     // of the registry when it began
	begun    time.Time // by Redis's clock
	since    time.Time // by this process's clock: its lease began no earlier

	accessToken string    // that the last request carried, where the callback's auth wants one
	sentAt      time.Time // by this process's clock, as all that follows; of the last request, where there were two
	took        time.Duration
	timing      egress.Timing // where the time went
	ownOutage   bool          // that nobody is reached is not the partners' fault: see outage
	response    *egress.Response
	verdict.Judgement
	wait    time.Duration // until the next attempt, where there is one
	written ledger.Entry  // what finish records of it

	result ledger.Result // what it means for the delivery; see settle
	spends bool          // it counts against the callback's budget
	least  time.Duration // the shortest that wait may become
	broken bool          // it panicked

	recorded ledger.Finish
}

// grant takes what the ledger tells the attempt's owner.
func (a *attempt) grant(g *ledger.Grant) {
	a.number, a.spent, a.log, a.meta, a.body, a.logID = g.Number, g.Spent, g.Attempts, g.Meta, g.Payload, g.LogID
	a.version, a.begun, a.replay, a.accepted = g.Version, g.At, g.Replayed, ledger.LogTime(g.LogID)
}

// A sender is what it takes to send.
type sender struct {
	egress    *egress.Client
	tokens    *egress.Tokens // access tokens of the callbacks that want them
	userAgent string
	origin    string // who asks in a handshake
}

// id is the webhook-id.
func (a *attempt) id() string {
	if a.ownID != "" {
		return a.ownID
	}
	return a.ref.DeliveryID()
}

func (a *attempt) isDecision() bool { return strings.HasPrefix(a.ownID, decisionPrefix) }

// sentence says what came of it, for logs and traces.
func (a *attempt) sentence() string {
	if a.isDecision() {
		return a.written.WithoutWords().Unmasked().DecisionDetail()
	}
	return a.written.Unmasked().Detail()
}

// post makes one request and judges what comes back.
func (a *attempt) post(ctx context.Context, s *sender) {
	start := time.Now()
	a.sentAt = start
	body, err := payloads.Encode(a.callback.Destination.ContentType, a.typ.Stamped(a.body, start))
	if err != nil {
		a.Judgement = verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonEncodeFailed, Note: verdict.Clip(err.Error(), 200)}
		return
	}
	signature, err := payloads.Sign(a.id(), start, body, a.callback.LiveSecrets(start)...)
	if err != nil {
		a.Judgement = verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonEncodeFailed, Note: verdict.Clip(err.Error(), 200)}
		return
	}
	header := a.headers(s.userAgent, signature, start)
	authorize(header, a.callback.Auth, a.accessToken)
	if a.callback.Trace {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
	a.response, err = s.egress.Do(ctx, egress.Request{
		Method: a.callback.Destination.Method, URL: a.callback.Destination.URL, Header: header, Body: body, Timeout: a.timeout, KeepBody: a.keepBody,
		Repeatable: a.ownID == "", // a delivery's receiver knows it again; a decision's and a test's answers are not asked for twice
	})
	o := verdict.Outcome{Err: err}
	if err == nil {
		o.Status, o.Header, a.timing = a.response.Status, a.response.Header, a.response.Timing
	} else if e, ok := errors.AsType[*egress.Error](err); ok {
		a.timing = e.Timing
	}
	a.judge(a.callback.SuccessRule(a.typ), o)
}

// judge is the judgement of an outcome, without the secrets that the partner echoes in a header it is judged by.
func (a *attempt) judge(rule payloads.SuccessRule, o verdict.Outcome) {
	a.Judgement = verdict.Judge(rule, o, time.Now())
	if a.ContentType != "" {
		a.ContentType = verdict.Clip(a.secrets().Replace(a.ContentType), 100)
	}
}

// entry is the attempt's line in the record.
func (a *attempt) entry() ledger.Entry {
	e := ledger.Entry{
		Number: a.number, Started: a.begun.UnixMilli(), DurationMS: a.took.Milliseconds(), Status: a.Status,
		Verdict: a.Verdict, Reason: a.Reason, ContentType: a.ContentType, Note: a.Note, Repeated: a.timing.Repeated, AskedSeconds: int64(a.RetryAfter / time.Second),
		Inside: a.Inside,
	}
	if a.response == nil {
		return e
	}
	if a.Verdict != verdict.Delivered || a.isDecision() { // a decision's answer is what it is about
		e.Headers, e.Body = keepAnswer(a.response, a.secrets())
	}
	return e
}

// answerSize bounds what is kept of a partner's answer, headers and body together.
const answerSize = 1024

// keptHeaders are the answer's headers worth keeping: none of them holds a secret.
var keptHeaders = []string{"Content-Type", "Retry-After", "Server", "Location", "Www-Authenticate", "X-Request-Id", "Date"}

// keepAnswer keeps the beginning of an answer. Some endpoints echo what they were sent: secrets are blotted out.
func keepAnswer(r *egress.Response, secrets blotter) (headers map[string]string, body string) {
	left := answerSize
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

// headers are what the partner receives beside the body.
func (a *attempt) headers(userAgent, signature string, at time.Time) http.Header {
	h := make(http.Header, 12)
	for name, value := range a.callback.Headers {
		h.Set(name, value)
	}
	h.Set("Content-Type", a.callback.Destination.ContentType)
	h.Set("User-Agent", userAgent)
	h.Set("Webhook-Id", a.id())
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Webhook-Signature", signature)
	if a.test {
		h.Set("Ringback-Test", "1")
	}
	if a.replay {
		h.Set("Ringback-Replay", "1")
	}
	h.Set("Ringback-Event-Id", a.ref.Event)
	h.Set("Ringback-Event-Type", a.meta.Type)
	h.Set("Ringback-Attempt", strconv.Itoa(a.number))
	return h
}

const decisionPrefix = "dec_"

// secrets are what must not be told of what the partner says.
func (a *attempt) secrets() blotter { return secretsOf(a.callback, a.accessToken) }
