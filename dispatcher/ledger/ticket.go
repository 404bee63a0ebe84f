package ledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// A Ticket is a delivery that may go, and whose task is to be in a lane.
type Ticket struct {
	Ref
	Generation int64
	Slow       bool // it goes to the lane of those whose breaker is open
	Bytes      int  // of its payload; 0 where that is not known
}

// readTicket reads a delivery's name and ticket as scripts give them: its generation, and s if it goes to the slow lane.
func readTicket(company, member, ticket string) (Ticket, error) {
	r, ok := ParseMember(company, member)
	generation, slow := strings.CutSuffix(ticket, "s")
	g, err := strconv.ParseInt(generation, 10, 64)
	if !ok || err != nil {
		return Ticket{}, fmt.Errorf("delivery %q of %s: %w", member, company, ErrBadRecord)
	}
	return Ticket{Ref: r, Generation: g, Slow: slow}, nil
}

// tickets reads names and tickets to the end of an answer. If one cannot be read, it stays in Redis as it is, where the reconciler finds it.
func (l *Ledger) tickets(ctx context.Context, company string, a *answer) []Ticket {
	var tickets []Ticket
	for len(a.left) > 1 {
		t, err := readTicket(company, a.text(), a.text())
		if err != nil {
			l.log.ErrorContext(ctx, "released delivery has no readable name", "error", err)
			continue
		}
		tickets = append(tickets, t)
	}
	return tickets
}
