package ledger

import (
	"context"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var hastenScript = lua.Acting("hasten", `reply[1] == 'ready' or reply[1] == 'held'`)

// A HastenOutcome is what a delivery was that was to go at once.
type HastenOutcome int

const (
	// Hastened means that it was retrying, and is pending or held now: Hastened.Ticket may go, if there is one.
	Hastened HastenOutcome = iota + 1
	// HastenSoon means that it goes by itself: it is pending, or an attempt is under way.
	HastenSoon
	// HastenLate means that it is pending, and nobody began it for Rules.Patience.
	HastenLate
	// HastenHeld means that it waits in its callback's room.
	HastenHeld
	// HastenClosed means that its callback was deleted, or that it is unfinished and its callback's gate is closed.
	HastenClosed
	// HastenFinal means that nothing more happens to it.
	HastenFinal
	// HastenFull means that as many are held for the callback as may be.
	HastenFull
	// HastenUnknown means that there is no such delivery, or it is not written yet.
	HastenUnknown
)

// A Haste is the answer to [Ledger.Hasten].
type Haste struct {
	Outcome HastenOutcome
	Ticket  Ticket          // Hastened: of the new generation. HastenLate: of the one that there is. Of its batch, if it travels in one
	Goes    bool            // Hastened: it may go; else the room lets it out
	Old     int64           // Hastened: the generation before
	Status  registry.Status // HastenClosed: the callback's
}

// Hasten has a retrying delivery make its next attempt at once, and writes a line of the audit trail. It gets a new generation, under which it keeps its
// attempts and what it has spent of its budget.
func (l *Ledger) Hasten(ctx context.Context, r Ref, line string) (Haste, error) {
	a, err := l.ask(ctx, hastenScript, r.Company, r.Member(), line)
	if err != nil {
		return Haste{}, err
	}
	switch word := a.text(); word {
	case "ready", "held", "late":
		h := Haste{Outcome: Hastened, Goes: word == "ready"}
		ticket := a.text()
		if word == "late" {
			h.Outcome = HastenLate
		} else {
			h.Old = a.number()
		}
		if h.Ticket, err = readTicket(r.Company, a.text(), ticket); err != nil {
			return Haste{}, err
		}
		return h, a.err
	case "closed":
		return Haste{Outcome: HastenClosed, Status: registry.Status(a.text())}, a.err
	case "soon":
		return Haste{Outcome: HastenSoon}, nil
	case "waits":
		return Haste{Outcome: HastenHeld}, nil
	case "final":
		return Haste{Outcome: HastenFinal}, nil
	case "full":
		return Haste{Outcome: HastenFull}, nil
	case "none":
		return Haste{Outcome: HastenUnknown}, nil
	}
	return Haste{}, ErrBadRecord
}
