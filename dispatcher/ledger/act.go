package ledger

import (
	"context"

	"github.com/ringback/ringback/dispatcher/lua"
)

var (
	cancelScript = lua.Acting("cancel", `reply[1] == 'ok'`)
	replayScript = lua.Acting("replay", `reply[1] == 'ready' or reply[1] == 'held'`)
)

// An ActOutcome is how a cancelling or replaying ended.
type ActOutcome int

const (
	// Done means that the delivery is cancelled, or its replay is in its callback's room.
	Done ActOutcome = iota + 1
	// Released means that it is replayed, and may go.
	Released
	// NoSuchDelivery means that there is none, or it is not written yet.
	NoSuchDelivery
	// WrongState means that there is nothing to cancel, or it is on its way already.
	WrongState
	// CallbackDeleted means that it cannot be replayed.
	CallbackDeleted
	// RoomFull means that as many are held for the callback as may be.
	RoomFull
	// Bodiless means that the event's body has left: there is nothing to send again.
	Bodiless
)

// Cancel cancels an unfinished delivery, and writes a line of the audit trail. Outcomes: Done, NoSuchDelivery, WrongState.
func (l *Ledger) Cancel(ctx context.Context, r Ref, line string) (ActOutcome, error) {
	a, err := l.ask(ctx, cancelScript, r.Company, r.Member(), line)
	if err != nil {
		return 0, err
	}
	switch a.text() {
	case "none":
		return NoSuchDelivery, a.err
	case "final":
		return WrongState, a.err
	}
	return Done, a.err
}

// A Replayed is the answer to [Ledger.Replay].
type Replayed struct {
	Outcome ActOutcome
	Ticket  Ticket // Released: of the new generation
	Old     int64  // Done, Released: the generation before
}

// Replay gives a delivery a new generation with a fresh budget, and writes a line of the audit trail.
func (l *Ledger) Replay(ctx context.Context, r Ref, line string) (Replayed, error) {
	a, err := l.ask(ctx, replayScript, r.Company, r.Member(), line)
	if err != nil {
		return Replayed{}, err
	}
	switch word := a.text(); word {
	case "ready", "held":
		t, err := readTicket(r.Company, r.Member(), a.text())
		if err != nil {
			return Replayed{}, err
		}
		out := Replayed{Outcome: Done, Ticket: t, Old: a.number()}
		if word == "ready" {
			out.Outcome = Released
		}
		return out, a.err
	case "none":
		return Replayed{Outcome: NoSuchDelivery}, nil
	case "waiting":
		return Replayed{Outcome: WrongState}, nil
	case "deleted":
		return Replayed{Outcome: CallbackDeleted}, nil
	case "full":
		return Replayed{Outcome: RoomFull}, nil
	case "bodiless":
		return Replayed{Outcome: Bodiless}, nil
	}
	return Replayed{}, ErrBadRecord
}

// Generation is a delivery's, as it stands.
func (l *Ledger) Generation(ctx context.Context, r Ref) (int64, error) {
	text, err := l.rdb.HGet(ctx, EventKey(r.Company, r.Event), RecordField(r.Callback)).Result()
	if err != nil {
		return 0, err
	}
	rec, err := ParseRecord(text)
	return rec.Generation, err
}
