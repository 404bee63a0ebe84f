package dispatcher

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/lanes"
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

// callback is the delivery's registration as of at least this version of the registry, nil if it was deleted.
func (c *Client) callback(ctx context.Context, r ledger.Ref, atLeast int64) (*registry.Callback, error) {
	cb, err := c.registry.Lookup(ctx, r.Company, r.Callback, atLeast)
	if errors.Is(err, registry.ErrNotFound) {
		return nil, nil // documented: deleted
	}
	return cb, err
}

// send encodes, signs, sends and judges.
func (a *attempt) send(ctx context.Context, c *Client) {
	if a.callback == nil {
		return // finish finds the gate saying so
	}
	if a.unproven {
		a.Judgement = verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnverified}
		return
	}
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	if a.wantsToken() {
		a.postWithToken(ctx, c)
		return
	}
	a.post(ctx, c)
}

// post makes one request and judges what comes back.
func (a *attempt) post(ctx context.Context, c *Client) {
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
	header := a.headers(c.userAgent, signature, start)
	a.authorize(header)
	if a.callback.Trace {
		propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(header))
	}
	a.response, err = c.egress.Do(ctx, egress.Request{
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

func (a *attempt) authorize(h http.Header) {
	auth := a.callback.Auth
	if auth == nil {
		return
	}
	switch auth.Type {
	case registry.AuthOAuth2:
		h.Set("Authorization", "Bearer "+a.accessToken)
	case registry.AuthBearer:
		h.Set("Authorization", "Bearer "+auth.Token)
	case registry.AuthBasic:
		h.Set("Authorization", "Basic "+basic(auth.Username, auth.Password))
	}
}

// basic is RFC 7617's user-pass.
func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
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

// settle decides what the attempt means for its delivery: its result, what is spent of the budget, and when the next attempt is due.
func (a *attempt) settle() {
	if a.callback == nil {
		a.Judgement = verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonUnknown}
	}
	blame := a.Blame()
	a.result, a.spends, a.least = ledger.ResultDelivered, true, 0
	switch {
	case a.callback == nil:
		a.result = ledger.ResultCancelled
	case a.Verdict == verdict.Dead:
		a.result = ledger.ResultDead
	case a.Verdict == verdict.Gone:
		a.result = ledger.ResultGone
	case a.Verdict == verdict.Retry && !blame.Spends() && !a.broken:
		a.result, a.spends = ledger.ResultRetry, false
		if blame == verdict.BlameWayOut { // as often as it takes, and ever more slowly
			a.wait = verdict.Delay(a.callback.Retry, min(a.number, 100))
		}
	case a.Verdict == verdict.Retry:
		a.result = ledger.ResultRetry
		var exhausted bool
		if a.wait, a.least, exhausted = verdict.Next(a.callback.Retry, a.spent+1, a.RetryAfter); exhausted {
			a.result, a.Verdict = ledger.ResultDead, verdict.Dead
		}
	}
	a.written = a.entry()
}

// finish is what is recorded of the attempt, once it is settled.
func (a *attempt) finish() ledger.Finish {
	blame := a.Blame()
	f := ledger.Finish{
		Ref: a.ref, Token: a.token, LogID: a.logID, Result: a.result, Attempt: a.written, Attempts: a.log, Spent: a.spent, At: time.Now(),
		Delay: a.wait, Least: a.least, Health: blame.Health(), Breaker: blame.Breaker(), Pause: min(a.RetryAfter, maxPause), Run: a.run(), HostMeans: blame.Host(),
	}
	if a.result != ledger.ResultCancelled {
		f.Attempts = ledger.AppendEntry(a.log, a.written)
	}
	if a.spends {
		f.Spent++
	}
	if a.callback != nil {
		f.CallbackType, f.Host, f.Version = a.callback.Type, a.callback.Destination.Host(), a.callback.Version
	}
	return f
}

// broke makes of an attempt that panicked one whose outcome is unknown. It follows the callback's schedule and eats its budget: what makes
// every attempt panic ends in the dead-letter book, where a program that was mended can send it from, and not in a loop.
func (a *attempt) broke() {
	a.broken, a.response = true, nil
	a.Judgement = verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnknown}
	a.settle()
	a.recorded = a.finish()
}

// after is what asynq is told: nil for a delivery that is done with, and when and why to come back for a retry.
func (a *attempt) after(state ledger.State) error {
	if state != ledger.Retrying {
		return nil
	}
	return &lanes.Later{Wait: a.wait, Why: a.written.Failed(a.ref), Failure: true}
}
