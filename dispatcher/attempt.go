package dispatcher

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"

	"github.com/ringback/ringback/dispatcher/egress"
	"github.com/ringback/ringback/dispatcher/verdict"
	"github.com/ringback/ringback/payloads"
	"github.com/ringback/ringback/registry"
)

// An attempt is one request in the making: what begin found, then what came back, then what it means.
type attempt struct {
	ref        ref
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
	meta     meta
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
	written entry         // what finish records of it

	recorded []any // finish.lua's arguments
	broken   bool  // it panicked
}

// read takes begin.lua's answer.
func (a *attempt) read(answer []string) error {
	if _, err := atLeast(9, answer); err != nil {
		return err
	}
	var errs [4]error
	a.number, errs[0] = strconv.Atoi(answer[0])
	a.spent, errs[1] = strconv.Atoi(answer[1])
	a.version, errs[2] = strconv.ParseInt(answer[6], 10, 64)
	now, err := strconv.ParseInt(answer[7], 10, 64)
	errs[3] = err
	if err := errors.Join(errs[:]...); err != nil {
		return err
	}
	a.log, a.body, a.logID, a.accepted, a.begun, a.replay = answer[2], []byte(answer[4]), answer[5], logTime(answer[5]), fromMS(now), answer[8] != ""
	return json.Unmarshal([]byte(answer[3]), &a.meta)
}

// id is the webhook-id.
func (a *attempt) id() string {
	if a.ownID != "" {
		return a.ownID
	}
	return a.ref.deliveryID()
}

func (a *attempt) isDecision() bool { return strings.HasPrefix(a.ownID, decisionPrefix) }

// sentence says what came of it, for logs and traces.
func (a *attempt) sentence() string {
	if a.isDecision() {
		return a.written.withoutWords().unmasked().decisionDetail()
	}
	return a.written.unmasked().detail()
}

// callback is the delivery's registration as of at least this version of the registry, nil if it was deleted.
func (c *Client) callback(ctx context.Context, r ref, atLeast int64) (*registry.Callback, error) {
	cb, err := c.registry.Lookup(ctx, r.company, r.callback, atLeast)
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
func (a *attempt) entry() entry {
	e := entry{
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

// finishArgs are finish.lua's arguments but for those about what comes next: the verdict, and what the schedule makes of it.
func (a *attempt) finishArgs() []any {
	if a.callback == nil {
		a.Judgement = verdict.Judgement{Verdict: verdict.Dead, Reason: verdict.ReasonUnknown}
	}
	blame := a.Blame()
	outcome, spent, least := "D", a.spent+1, time.Duration(0)
	switch {
	case a.callback == nil:
		outcome = "C"
	case a.Verdict == verdict.Dead:
		outcome = "X"
	case a.Verdict == verdict.Gone:
		outcome = "G"
	case a.Verdict == verdict.Retry && !blame.Spends() && !a.broken:
		outcome, spent = "R", a.spent
		if blame == verdict.BlameWayOut { // as often as it takes, and ever more slowly
			a.wait = verdict.Delay(a.callback.Retry, min(a.number, 100))
		}
	case a.Verdict == verdict.Retry:
		outcome = "R"
		var exhausted bool
		if a.wait, least, exhausted = verdict.Next(a.callback.Retry, spent, a.RetryAfter); exhausted {
			outcome, a.Verdict = "X", verdict.Dead
		}
	}
	a.written = a.entry()
	log := a.log
	if outcome != "C" {
		log = appendEntry(a.log, a.written)
	}
	callbackType, host, version := "", "", int64(0)
	if a.callback != nil {
		callbackType, host, version = a.callback.Type, a.callback.Destination.Host(), a.callback.Version
	}
	return []any{
		a.ref.member(), a.token, outcome, a.written.line(), log, spent, a.wait.Milliseconds(), time.Now().UTC().Format(time.RFC3339Nano), least.Milliseconds(),
		blame.Health(), blame.Breaker(), min(a.RetryAfter, maxPause).Milliseconds(), a.run(), callbackType, a.logID, host, blame.Host(), version,
	}
}

// broke makes of an attempt that panicked one whose outcome is unknown. It follows the callback's schedule and eats its budget: what makes
// every attempt panic ends in the dead-letter book, where a program that was mended can send it from, and not in a loop.
func (a *attempt) broke() {
	a.broken, a.response = true, nil
	a.Judgement = verdict.Judgement{Verdict: verdict.Retry, Reason: verdict.ReasonUnknown}
	a.recorded = a.finishArgs()
}

// answeredMS is a duration in milliseconds in an answer.
func answeredMS(answer []string, i int) (time.Duration, error) {
	if _, err := atLeast(i+1, answer); err != nil {
		return 0, err
	}
	if _, err := strconv.ParseInt(answer[i], 10, 64); err != nil {
		return 0, errBadRecord
	}
	return readMS(answer[i]), nil
}

// nextIn takes from the record when the next attempt is due.
func (a *attempt) nextIn(ms string) { a.wait = readMS(ms) }

// readMS reads a duration as scripts give it, in milliseconds.
func readMS(ms string) time.Duration {
	n, _ := strconv.ParseInt(ms, 10, 64)
	return max(0, time.Duration(n)*time.Millisecond)
}

// after is what asynq is told: nil for a delivery that is done with, and when and why to come back for a retry.
func (a *attempt) after(state string) error {
	if state != "R" {
		return nil
	}
	return &laterError{wait: a.wait, why: a.written.failed(a.ref), failure: true}
}

// failed says in asynq's UI, which is for operators, what a delivery's attempt failed by.
func (e entry) failed(r ref) string {
	e = e.unmasked()
	return fmt.Sprintf("%s: attempt %d to callback %d of %s: %s", e.Reason, e.Number, r.callback, r.company, e.detail())
}
