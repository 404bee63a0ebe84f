package ledger

import (
	"context"
	"crypto/rand"

	"github.com/ringback/ringback/dispatcher/lua"
)

var arriveScript, splitScript = lua.Script("arrive"), lua.Script("split")

// Arrive records which members of a batch an attempt delivered, where the answer spoke of each. f is what is recorded of the attempt, before it is finished for
// the others: attempts, what is spent, its owner. ok is false if the attempt has another owner by now.
func (l *Ledger) Arrive(ctx context.Context, f Finish, events []string) (ok bool, err error) {
	args := []any{f.Member(), f.Token, f.Attempts, f.Spent, f.Host}
	for _, event := range events {
		args = append(args, event)
	}
	a, err := l.ask(ctx, arriveScript, f.Company, args...)
	if err != nil {
		return false, err
	}
	ok = a.text() == "ok"
	return ok, a.err
}

// Split has the second half of a batch travel by itself, for its receiver takes no request as large. f is what is recorded of the attempt. Both halves may go at
// once. If the batch has a single member, or the attempt has another owner by now, there are none.
func (l *Ledger) Split(ctx context.Context, f Finish) (halves []Ticket, err error) {
	args := append([]any{f.Member(), f.Token, f.Attempts, f.Spent, rand.Text()}, f.Sent.fields(f.Callback, f.Other)...)
	a, err := l.ask(ctx, splitScript, f.Company, args...)
	if err != nil || a.text() != "ok" {
		return nil, err
	}
	return l.tickets(ctx, f.Company, a), a.err
}
