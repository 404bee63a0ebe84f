package ledger

import (
	"context"
	"time"

	"github.com/ringback/ringback/dispatcher/lua"
)

var finishScript = lua.Script("finish")

// A Result is what an attempt means for its delivery, as finish.lua takes it.
type Result string

// The results of an attempt.
const (
	ResultDelivered Result = "D"
	ResultRetry     Result = "R"
	ResultDead      Result = "X"
	ResultGone      Result = "G" // dead, and the callback is disabled
	ResultCancelled Result = "C" // the callback was deleted
)

// A Run is what an attempt means to the run of failures that ends with its callback disabled.
type Run string

// What an attempt may mean to the run of failures.
const (
	RunUntouched Run = ""
	RunCounts    Run = "count" // one more
	RunSkips     Run = "skip"  // an outage of our own: neither the attempt nor the time since the one before counts
)

// A Finish is what is recorded of an attempt. If a meaning is left empty, the attempt means nothing there.
type Finish struct {
	Ref
	Token    string // the owner's
	Result   Result
	Attempt  Entry
	Attempts string // the record's lines, this attempt included
	Spent    int
	At       time.Time // by the worker's clock, for a callback that this disables

	Delay time.Duration // ResultRetry: until the next attempt
	Least time.Duration // ResultRetry: the shortest that Delay may become by rounding

	// What it means to the callback: its health, its breaker, for how long the partner asked for a pause, and its run of failures.
	Health  string // as verdict.Blame.Health
	Breaker string // as verdict.Blame.Breaker
	Pause   time.Duration
	Run     Run
	// What it means to the host that was called, for all callbacks of the company.
	Host      string
	HostMeans string // as verdict.Blame.Host

	CallbackType string
	Version      int64  // the callback's that was called
	LogID        string // of the event: another one was erased under way, and sent anew since

	Turns int // attempts to the callback that this process has turns for

	// If the owner makes another attempt next, in this one's place, its token, and its lease: if something waits in the room, it begins in the same
	// step. With a lease of 0 it only asks for one that an earlier run of the step began.
	NextToken string
	NextLease time.Duration

	// Sent is what is kept of the exchange with the partner beside Attempt; nil: nothing. Other is the body that was sent, if [ChangeOf] wants it kept.
	Sent  *Sent
	Other []byte
}

// A FinishOutcome is how a [Finish] ended.
type FinishOutcome int

const (
	// Recorded means that the outcome is written down.
	Recorded FinishOutcome = iota + 1
	// RecordedLate means that the attempt had another owner by then, but it delivered, and that counts.
	RecordedLate
	// NotOurs means that the attempt has another owner, or its outcome was recorded by an earlier run of the step.
	NotOurs
)

// A Finished is the answer to a [Finish].
type Finished struct {
	Outcome    FinishOutcome
	State      State         // of the delivery; empty where it is gone
	Generation int64         // NotOurs: of the delivery
	Wait       time.Duration // until the next attempt, where there is one
	RoomWait   time.Duration // Recorded: until time lets more out of the room, 0 if only room can
	Noticed    bool          // Recorded: there is a notice to send
	Released   []Ticket      // Recorded: what was let out of the room
	Next       *Grant        // Recorded: of the first of those, if it has begun
}

// Finish records an attempt's outcome. A step that is repeated, since its answer was lost, finds the outcome recorded.
func (l *Ledger) Finish(ctx context.Context, f Finish) (Finished, error) {
	a, err := l.step(ctx, finishScript, f.Ref, f.args()...)
	if err != nil {
		return Finished{}, err
	}
	switch a.text() {
	case "ok":
		out := Finished{Outcome: Recorded, State: a.state(), Wait: a.wait(), RoomWait: a.wait(), Noticed: a.yes()}
		if a.err != nil {
			return Finished{}, a.err
		}
		l.follows(ctx, f, &out, a)
		return out, nil
	case "late":
		return Finished{Outcome: RecordedLate, State: Delivered}, nil
	default:
		out := Finished{Outcome: NotOurs, State: a.state(), Generation: a.number(), Wait: a.wait()}
		return out, a.err
	}
}

// args are lua/finish.lua's after the delivery.
func (f *Finish) args() []any {
	return append([]any{
		f.Token, string(f.Result), f.Attempt.Line(), f.Attempts, f.Spent,
		f.Delay.Milliseconds(), f.At.UTC().Format(time.RFC3339Nano), f.Least.Milliseconds(),
		f.Health, f.Breaker, f.Pause.Milliseconds(), string(f.Run), f.CallbackType,
		f.LogID, f.Host, f.HostMeans, f.Version, f.Turns, f.NextToken, f.NextLease.Milliseconds(),
	}, f.Sent.fields(f.Callback, f.Other)...)
}

// state reads a state's letter; an empty one is none.
func (a *answer) state() State {
	letter := a.text()
	if letter == "" {
		return ""
	}
	state, ok := StateOf[letter[0]]
	if !ok || len(letter) != 1 {
		a.err = ErrBadRecord
	}
	return state
}

// follows reads what was let out of the room for an attempt that ended: how many texts are the grant of the first, those, and names and tickets. The
// outcome is recorded in any case. If the next attempt cannot be made, it is taken back. The reconciler finds the rest.
func (l *Ledger) follows(ctx context.Context, f Finish, out *Finished, a *answer) {
	granted := a.take(a.number())
	if a.err != nil {
		l.log.ErrorContext(ctx, "what is let out of the room is unreadable; the reconciler will bring it", "company", f.Company, "error", a.err)
		return
	}
	if !granted.more() {
		out.Released = l.tickets(ctx, f.Company, a)
		return
	}
	first, err := readTicket(f.Company, a.text(), a.text()) // the grant is its
	if err != nil {
		l.log.ErrorContext(ctx, "released delivery has no readable name", "error", err)
		out.Released = l.tickets(ctx, f.Company, a)
		return
	}
	out.Released = append([]Ticket{first}, l.tickets(ctx, f.Company, a)...)
	grant, err := granted.grant(first.Ref)
	if err != nil {
		l.log.WarnContext(ctx, "delivery did not begin; it is tried again", "delivery", first.DeliveryID(), "error", err)
		l.unbeginUnread(ctx, first.Ref, f.NextToken)
		return
	}
	out.Next = grant
}
