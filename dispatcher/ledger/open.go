package ledger

import (
	"context"
	"slices"
	"strconv"

	"github.com/ringback/ringback/dispatcher/lua"
)

var openScript = lua.Script("open")

// headsPage is how many callbacks one run looks at.
const headsPage = 500

// Unfinished says which of a callback's deliveries are asked for: those that wait for a retry, those that are held, and those in the lanes.
type Unfinished struct {
	Retrying, Held, InLanes bool
	Newest                  int64 // accepted then (ms) or before; negative: whenever
}

func (u Unfinished) sets() string {
	return map[bool]string{true: "R"}[u.Retrying] + map[bool]string{true: "H"}[u.Held] + map[bool]string{true: "P"}[u.InLanes]
}

func (u Unfinished) newest() string {
	if u.Newest < 0 {
		return "+inf"
	}
	return strconv.FormatInt(u.Newest, 10)
}

// A Head says what there is of a callback's unfinished deliveries.
type Head struct {
	Callback int64
	Newest   int64 // when the newest was accepted that waits (ms); 0: none does
	NoOrder  int64 // how many are in the lanes, or in a room in which batches wait as a whole, whenever they were accepted
}

// Heads looks at callbacks, and leaves out those of which there is nothing.
func (l *Ledger) Heads(ctx context.Context, company string, u Unfinished, callbacks []int64) (heads []Head, err error) {
	for page := range slices.Chunk(callbacks, headsPage) {
		args := []any{"heads", u.sets(), u.newest()}
		for _, id := range page {
			args = append(args, id)
		}
		a, err := l.ask(ctx, openScript, company, args...)
		if err != nil {
			return nil, err
		}
		for a.more() {
			heads = append(heads, Head{Callback: a.number(), Newest: a.number(), NoOrder: a.number()})
		}
		if a.err != nil {
			return nil, a.err
		}
	}
	return heads, nil
}

// A Waiting is a part of a callback's unfinished deliveries.
type Waiting struct {
	Callback int64
	Since    int64 // these are all that were accepted then (ms) or later; 0: all
	Entries  []BookEntry
}

// Waiting reads the newest of callbacks, so many that are held, so many that are retrying, and all that stand in no order.
func (l *Ledger) Waiting(ctx context.Context, company string, u Unfinished, most int, heads []Head) (found []Waiting, err error) {
	for len(heads) > 0 {
		args, entries := []any{"all", u.sets(), u.newest(), most}, int64(0)
		for len(heads) > 0 && (entries == 0 || entries+int64(most)+heads[0].NoOrder <= headsPage) {
			args, entries = append(args, heads[0].Callback), entries+int64(most)+heads[0].NoOrder
			heads = heads[1:]
		}
		a, err := l.ask(ctx, openScript, company, args...)
		if err != nil {
			return nil, err
		}
		for a.more() {
			w := Waiting{Callback: a.number(), Since: a.number()}
			for range a.number() {
				w.Entries = append(w.Entries, BookEntry{Name: a.text(), At: a.number()})
			}
			found = append(found, w)
		}
		if a.err != nil {
			return nil, a.err
		}
	}
	return found, nil
}
