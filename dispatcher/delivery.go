package dispatcher

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/dispatcher/verdict"
)

// A Verdict is what an attempt means for its delivery; its values are package verdict's.
type Verdict = verdict.Verdict

// A Reason says in one word why an attempt did not deliver; its values are package verdict's.
type Reason = verdict.Reason

// A Delivery is one event's way to one callback: what became of it and what comes next.
type Delivery struct {
	DeliveryID string `json:"delivery_id"` // also the webhook-id the partner sees, on every attempt
	// DecisionID is set on what is no delivery but a decision (see [Client.Ask]); its other names are the same.
	DecisionID string `json:"decision_id,omitempty"`
	EventID    string `json:"event_id"`
	EventType  string `json:"event_type"`
	CallbackID int64  `json:"callback_id"`
	// Sequence is its number among those of its callback and key, as the requests have it: of a delivery that has an order, and is read by itself or with its event.
	Sequence int64        `json:"sequence,omitempty"`
	State    ledger.State `json:"state"`
	// HeldReason says why a held delivery waits: "paused", "disabled", "unverified" (its endpoint has not answered its challenge),
	// "name_not_allowed" (an operator has to allow the callback's host name),
	// "pull" (its partner fetches it), "breaker" (the callback keeps failing), "host" (all callbacks of its host do), "batch" (it travels with others, and waits for them),
	// "ordering" (one of the same key is ahead of it), "rate_limit" or "window" (others of its callback are ahead of it).
	HeldReason string `json:"held_reason,omitempty"`
	// Reason says why a dead delivery is dead: hold_expired or hold_full, or the last attempt's.
	Reason Reason `json:"reason,omitempty"`
	// Summary is a sentence: what happened last, what comes next and when.
	Summary       string    `json:"summary"`
	AcceptedAt    time.Time `json:"accepted_at"`
	Attempts      []Attempt `json:"attempts"`
	NextAttemptAt time.Time `json:"next_attempt_at,omitzero"` // set while retrying
	// TraceID is the trace (W3C Trace Context) that leads from the event's producer to the attempts.
	TraceID string `json:"trace_id,omitempty"`

	Company string `json:"company,omitempty"` // whose it is, in lists over all companies

	held  string           // the sentence for HeldReason
	kept  ledger.Exchanges // what its attempts sent, if this is one delivery that was read by itself
	place string           // the cursor of what follows it in a list
}

// An Attempt is one request to the partner, or the try at one.
type Attempt struct {
	Number    int       // counts from 1 and goes on over replays
	StartedAt time.Time // millisecond precision
	Duration  time.Duration
	// StatusCode is the partner's HTTP status, 0 if there was no answer.
	StatusCode int
	Verdict    Verdict
	Reason     Reason
	// Detail is a sentence the partner can act on.
	Detail string
	// ResponseHeaders (an allow-list) and ResponseBody are kept of the last three attempts that did not deliver, 1 KiB together, or as Config.KeepAnswers and
	// Config.KeepAnswerBytes say. What those keep beyond that is shown of a delivery that is read by itself ([Client.Delivery]).
	ResponseHeaders map[string]string
	ResponseBody    string

	// BatchID is the webhook-id under which it went out together with others; empty: it went by itself.
	BatchID string

	// Request, or RequestMissing, and Timing are set by [Client.ShowRequests], and of tests.
	Request        *Request
	RequestMissing string // why there is no request to show
	Timing         *Timing
}

// attemptJSON is an attempt as the API shows it, its duration in whole milliseconds.
type attemptJSON struct {
	Number          int               `json:"number"`
	StartedAt       time.Time         `json:"started_at"`
	DurationMS      int64             `json:"duration_ms"`
	StatusCode      int               `json:"status_code,omitempty"`
	Verdict         Verdict           `json:"verdict"`
	Reason          Reason            `json:"reason,omitempty"`
	Detail          string            `json:"detail"`
	BatchID         string            `json:"batch_id,omitempty"`
	ResponseHeaders map[string]string `json:"response_headers,omitempty"`
	ResponseBody    string            `json:"response_body,omitempty"`
	Request         *Request          `json:"request,omitempty"`
	RequestMissing  string            `json:"request_missing,omitempty"`
	Timing          *Timing           `json:"timing,omitempty"`
}

// MarshalJSON writes the attempt as the API shows it.
func (a Attempt) MarshalJSON() ([]byte, error) { return readable(a.json()) }

func (a Attempt) json() attemptJSON {
	return attemptJSON{a.Number, a.StartedAt, a.Duration.Milliseconds(), a.StatusCode, a.Verdict, a.Reason, a.Detail, a.BatchID, a.ResponseHeaders, a.ResponseBody, a.Request, a.RequestMissing, a.Timing}
}

// A Receipt is the answer to [Client.Send]: from here on the event is durable.
type Receipt struct {
	EventID    string     `json:"event_id"`
	EventType  string     `json:"event_type"`
	AcceptedAt time.Time  `json:"accepted_at"`
	Deliveries []Accepted `json:"deliveries"` // one for each callback that matched, the first 100, by callback id
	// Duplicate is set when the same event was accepted before; the rest is the first answer.
	Duplicate bool `json:"duplicate,omitempty"`
	// Expanding is set where the event matched more callbacks than are listed: the deliveries of the others are written from now on.
	Expanding bool `json:"expanding,omitempty"`
	// Warnings say what of the payload does not fit the type's schema, where the type only warns.
	Warnings []string `json:"warnings,omitempty"`
}

// Accepted is a delivery as it stood when its event was accepted.
type Accepted struct {
	DeliveryID string       `json:"delivery_id"`
	CallbackID int64        `json:"callback_id"`
	State      ledger.State `json:"state"`
}

// An EventRecord is an accepted event and all its deliveries.
type EventRecord struct {
	EventID    string      `json:"event_id"`
	EventType  string      `json:"event_type"`
	AcceptedAt time.Time   `json:"accepted_at"`
	OccurredAt time.Time   `json:"occurred_at,omitzero"`
	TraceID    string      `json:"trace_id,omitempty"`
	Expanding  bool        `json:"expanding,omitempty"` // deliveries to more callbacks are still being written
	BodyLeft   bool        `json:"body_left,omitempty"` // its payload is no longer kept, so that nothing of it can be replayed
	Deliveries []*Delivery `json:"-"`                   // by callback id
}

// A Decision says whether an event went to a callback, and why or why not.
type Decision struct {
	CallbackID   int64     `json:"callback_id"`
	CallbackType string    `json:"callback_type,omitempty"` // empty if the callback was deleted since
	Decision     string    `json:"decision"`                // "matched" or "not_matched"
	Why          string    `json:"why"`
	Delivery     *Delivery `json:"delivery,omitempty"` // where matched
}

// An Explanation answers "what happened to event X for partner Y?".
type Explanation struct {
	EventRecord
	// Summary is a sentence or two: when it was accepted, whom it went to, how those deliveries stand.
	Summary    string     `json:"summary"`
	Callbacks  []Decision `json:"callbacks"`
	NextCursor string     `json:"next_cursor,omitempty"`
}

// An ExplainQuery narrows an [Explanation].
type ExplainQuery struct {
	CallbackID int64  // 0: all
	Limit      int    // 0: 50
	Cursor     string // NextCursor of the page before

	// Within, if it is not nil, are the only callbacks that the reader sees. To such a reader, an event without a delivery to one of them does not exist.
	Within []int64
}

// A Query selects deliveries. The zero value selects all. Order, Since, Until and the cursor go by the time of acceptance.
type Query struct {
	States     []ledger.State // empty: all
	CallbackID int64          // 0: all
	Within     []int64        // only deliveries to these callbacks; nil: to any
	EventType  string         // empty: all
	Since      time.Time
	Until      time.Time
	// Decisions selects decisions instead, of which AcceptedAt is when they were asked for; their state is delivered where one came.
	Decisions bool
	Limit     int    // 0: 50; at most 500
	Cursor    string // next of the page before
}

// shownAttempt is an attempt as readers see it.
func shownAttempt(e ledger.Entry) Attempt {
	return Attempt{
		Number: e.Number, StartedAt: ledger.FromMS(e.Started), Duration: time.Duration(e.DurationMS) * time.Millisecond,
		StatusCode: e.Status, Verdict: e.Verdict, Reason: e.Reason, Detail: e.Detail(),
		BatchID: e.Batch, ResponseHeaders: e.Headers, ResponseBody: e.Body,
	}
}

type unmaskedKey struct{}

// Unmasked returns ctx for a reader who may know which host names lead inside: to all others they do not exist.
func Unmasked(ctx context.Context) context.Context {
	return context.WithValue(ctx, unmaskedKey{}, true)
}

func unmasked(ctx context.Context) bool { return ctx.Value(unmaskedKey{}) != nil }

// forReader is an attempt as the reader behind ctx may see it.
func forReader(ctx context.Context, e ledger.Entry) ledger.Entry {
	if unmasked(ctx) {
		return e.Unmasked()
	}
	return e
}

// A State says where a delivery stands; its values are package ledger's.
type State = ledger.State

// The states of a delivery; see package ledger.
const (
	Pending   = ledger.Pending
	Active    = ledger.Active
	Retrying  = ledger.Retrying
	Held      = ledger.Held
	Delivered = ledger.Delivered
	Dead      = ledger.Dead
	Cancelled = ledger.Cancelled
)

// States lists every state a delivery can be in.
var States = ledger.States
