package ledger

import (
	"context"

	"github.com/ringback/ringback/dispatcher/lua"
)

var overdueScript, reviveScript = lua.Script("overdue"), lua.Script("revive")

// unknownEntry is the line that lua/overdue.lua writes for an attempt whose owner is gone.
const unknownEntry = `{"n":%n,"t":%t,"v":"retry","r":"unknown"}`

// An Overdue is what the reconciler has to look after in a company.
type Overdue struct {
	More      bool     // there may be more at once
	Check     []Ticket // deliveries whose task may be lost
	Lost      []Ticket // deliveries whose attempt lost its owner: they are pending again, under a new generation
	Unwritten []string // events of which nobody writes, or erases, the next page
}

// Overdue looks at so many deliveries whose time to worry has come.
func (l *Ledger) Overdue(ctx context.Context, company string, limit int) (Overdue, error) {
	a, err := l.ask(ctx, overdueScript, company, limit, unknownEntry)
	if err != nil {
		return Overdue{}, err
	}
	out := Overdue{More: a.yes()}
	for a.more() {
		kind, member, ticket := a.text(), a.text(), a.text()
		if kind == "paged" {
			out.Unwritten = append(out.Unwritten, member)
			continue
		}
		t, err := readTicket(company, member, ticket)
		switch {
		case err != nil:
			return Overdue{}, err
		case kind == "again":
			out.Lost = append(out.Lost, t)
		default:
			out.Check = append(out.Check, t)
		}
	}
	return out, a.err
}

// Revive gives a delivery whose task will not run a new generation. ok is false if it went on meanwhile.
func (l *Ledger) Revive(ctx context.Context, r Ref, generation int64) (t Ticket, ok bool, err error) {
	a, err := l.ask(ctx, reviveScript, r.Company, r.Member(), generation)
	if err != nil || !a.more() {
		return Ticket{}, false, err
	}
	t, err = readTicket(r.Company, r.Member(), a.text())
	return t, err == nil, err
}

var expandScript = lua.Script("expand")

// An Expanded is a page of a large fan-out that was written.
type Expanded struct {
	Left     int      // pages that are still to be written
	Released []Ticket // what may go
	Erasing  bool     // the event is being erased: nothing was written
}

// Expand writes the next page of a large fan-out. If there is none, it does nothing.
func (l *Ledger) Expand(ctx context.Context, company, event string) (Expanded, error) {
	a, err := l.ask(ctx, expandScript, company, event)
	if err != nil {
		return Expanded{}, err
	}
	if len(a.left) > 0 && a.left[0] == "gone" {
		return Expanded{Erasing: true}, nil
	}
	out := Expanded{Left: int(a.number()), Released: l.tickets(ctx, company, a)}
	return out, a.err
}

// ToWrite reports whether an event is expanding and a delivery of it is not written yet.
func (l *Ledger) ToWrite(ctx context.Context, r Ref) (bool, error) {
	n, err := l.rdb.HMGet(ctx, EventKey(r.Company, r.Event), "e", RecordField(r.Callback)).Result()
	return len(n) == 2 && n[0] != nil && n[1] == nil, err
}
