package ledger

import (
	"context"
	"fmt"
	"strings"

	"github.com/ringback/ringback/dispatcher/lua"
)

var (
	pageScript   = lua.Script("page")
	blockScript  = lua.Script("block")
	settleScript = lua.Script("settle")
)

const (
	// searchWork is how much one run of a search does: a read in Redis or so each, a millisecond together.
	searchWork = 400
	// blockSize is how many entries of the log one summary is of.
	blockSize = 200
)

// A Search selects deliveries in a company's log.
type Search struct {
	Span     Span
	Callback int64   // 0: all
	Type     string  // of the event; empty: all
	States   []State // empty: all
}

// letters are states as records have them.
func letters(states []State) string {
	var b strings.Builder
	for letter, state := range StateOf {
		for _, wanted := range states {
			if state == wanted {
				b.WriteByte(letter)
			}
		}
	}
	return b.String()
}

// Search reads a company's log, newest first, from a place on, for one run's time: it finds events with those of their deliveries that s selects, or a
// large event with all of its own, so many deliveries or a few more. next is where to go on, empty at the end.
func (l *Ledger) Search(ctx context.Context, company string, from LogPlace, s Search, limit int) (events []*Event, next LogPlace, err error) {
	oldest, newest := s.Span.bounds()
	if from != "" {
		newest = string(from)
	}
	rows, err := l.run(ctx, pageScript, company, newest, oldest, limit, searchWork, s.Callback, letters(s.States), s.Type).Slice()
	if err != nil {
		return nil, "", err
	}
	if len(rows) == 0 {
		return nil, "", fmt.Errorf("the log: %w", ErrBadRecord)
	}
	var records []map[int64]Record
	for _, row := range rows[1:] {
		e, err := l.row(ctx, company, Strings(row))
		if err != nil {
			return nil, "", err
		}
		events, records = append(events, e), append(records, e.Records)
	}
	return events, LogPlace(String(rows[0])), l.follow(ctx, company, records...)
}

// Summarize writes the summary of the log's next block. more says that there may be another: a block is summed up once it is full.
func (l *Ledger) Summarize(ctx context.Context, company string) (more bool, err error) {
	return l.run(ctx, blockScript, company, blockSize).Bool()
}

// Settle looks whether all deliveries of the next block are final, and notes their states if so. more says that there may be another. A block that is not
// final is looked at again later.
func (l *Ledger) Settle(ctx context.Context, company string) (more bool, err error) {
	return l.run(ctx, settleScript, company).Bool()
}

// A LogPlace is where to read a log from. Empty: from its newest entry.
type LogPlace string

// From begins with an entry of the log, After behind it.
func From(logID string) LogPlace { return LogPlace(logID) }

// After is like From.
func After(logID string) LogPlace { return LogPlace("(" + logID) }

// Entry is the id of an entry that the place is at, or right behind.
func (p LogPlace) Entry() string { return strings.TrimPrefix(string(p), "(") }

// row reads an event in the log as page.lua answers it. A large event's deliveries are read by themselves.
func (l *Ledger) row(ctx context.Context, company string, row []string) (*Event, error) {
	a := &answer{left: row}
	logID, id, m, large, bodiless := a.text(), a.text(), a.text(), a.yes(), a.yes()
	fields := map[string]string{"m": m, "a": logID}
	for len(a.left) > 1 {
		name := a.text()
		fields[name] = a.text()
	}
	if a.err != nil {
		return nil, fmt.Errorf("the log: %w", a.err)
	}
	e, err := readEvent(id, fields)
	if e != nil {
		e.BodyLeft = bodiless
	}
	if err == nil && e != nil && large {
		e, err = l.Event(ctx, company, id)
	}
	switch {
	case err != nil:
		return nil, err
	case e == nil || e.LogID != logID: // it aged away, or is being erased
		return &Event{ID: id, LogID: logID}, nil
	}
	return e, nil
}
