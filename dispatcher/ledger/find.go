package ledger

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// findWork is how much one run of a search for events does; see searchWork. A run that reads bodies reads a megabyte or two of them.
const findWork = 400

// A Find selects events in a company's log.
type Find struct {
	Span   Span
	Types  []string // empty: all
	Begins string   // what their ids begin with
	Bodies bool     // their payloads are wanted
}

// A Found is an event with the states of its deliveries.
type Found struct {
	Event
	States  map[int64]State // by callback; of an event that expands, those that are written
	Payload []byte          // if it was wanted; nil: it is no longer kept
}

// Find reads a company's log, newest first, from a place on, for one run's time: it finds so many events at most that f selects. next is where to go on,
// empty at the end.
func (l *Ledger) Find(ctx context.Context, company string, from LogPlace, f Find, limit int) (found []*Found, next LogPlace, err error) {
	oldest, newest := f.Span.bounds()
	if from != "" {
		newest = string(from)
	}
	kind, kinds, bodies := "", "", ""
	switch len(f.Types) {
	case 0:
	case 1:
		kind = f.Types[0]
	default:
		kinds = "," + strings.Join(f.Types, ",") + ","
	}
	if f.Bodies {
		bodies = "1"
	}
	rows, err := l.run(ctx, pageScript, company, newest, oldest, limit, findWork, 0, "", kind, "events", kinds, f.Begins, bodies).Slice()
	if err != nil {
		return nil, "", err
	}
	if len(rows) == 0 {
		return nil, "", fmt.Errorf("the log: %w", ErrBadRecord)
	}
	for _, row := range rows[1:] {
		e, err := l.found(ctx, company, &answer{left: Strings(row)}, f.Bodies)
		if err != nil {
			return nil, "", err
		}
		if e != nil {
			found = append(found, e)
		}
	}
	return found, LogPlace(String(rows[0])), nil
}

// found reads a row. The states of a large event's deliveries are read by themselves; nil if it aged away meanwhile.
func (l *Ledger) found(ctx context.Context, company string, a *answer, bodied bool) (*Found, error) {
	e := &Found{Event: Event{LogID: a.text(), ID: a.text(), Meta: a.meta()}, States: make(map[int64]State)}
	large := a.yes()
	e.BodyLeft, e.Expanding = a.yes(), a.yes()
	states, body, length := a.text(), a.text(), a.text()
	if a.err != nil {
		return nil, fmt.Errorf("the log: %w", a.err)
	}
	for pair := range strings.SplitSeq(states, ",") {
		cb, letter, ok := strings.Cut(pair, ":")
		id, err := strconv.ParseInt(cb, 10, 64)
		if ok && err == nil && len(letter) == 1 {
			e.States[id] = StateOf[letter[0]]
		}
	}
	if bodied && body != "" {
		var err error
		if e.Payload, err = unpack([]byte(body), length); err != nil {
			return nil, err
		}
	}
	if !large {
		return e, nil
	}
	whole, err := l.FindOne(ctx, company, e.ID)
	if err != nil || whole == nil || whole.LogID != e.LogID {
		return nil, err
	}
	e.States = whole.States
	return e, nil
}

// FindOne reads an event with the states of its deliveries, without its payload; nil if there is none.
func (l *Ledger) FindOne(ctx context.Context, company, id string) (*Found, error) {
	event, err := l.Event(ctx, company, id)
	if err != nil || event == nil {
		return nil, err
	}
	gates, err := l.Gates(ctx, company, event.Written())
	if err != nil {
		return nil, err
	}
	e := &Found{Event: *event, States: make(map[int64]State, len(event.Records))}
	for cb, r := range event.Records {
		e.States[cb] = r.StateBehind(gates[cb])
	}
	return e, nil
}

// Heads of logs and books, of many companies.

// headsTogether is how many companies are asked in one round trip.
const headsTogether = 500

// Latest is when the newest event in each company's log, or entry in that book of it, came (ms), of those before a time (ms; 0: of all). 0: there is none.
func (l *Ledger) Latest(ctx context.Context, companies []string, book string, before int64) ([]int64, error) {
	all := make([]int64, 0, len(companies))
	for page := range slices.Chunk(companies, headsTogether) {
		read := l.latestOfLogs
		if book != "" {
			read = func(ctx context.Context, page []string, before int64) ([]int64, error) {
				return l.latestOfBooks(ctx, page, book, before)
			}
		}
		some, err := read(ctx, page, before)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (l *Ledger) latestOfBooks(ctx context.Context, companies []string, book string, before int64) ([]int64, error) {
	newest := "+inf"
	if before > 0 {
		newest = "(" + strconv.FormatInt(before, 10)
	}
	pipe := l.rdb.Pipeline()
	reads := make([]*redis.ZSliceCmd, len(companies))
	for i, company := range companies {
		reads[i] = pipe.ZRevRangeByScoreWithScores(ctx, Key(company, book), &redis.ZRangeBy{Min: "-inf", Max: newest, Count: 1})
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	all := make([]int64, len(companies))
	for i, read := range reads {
		if first := read.Val(); len(first) > 0 {
			all[i] = int64(first[0].Score)
		}
	}
	return all, nil
}

// latestOfLogs asks first for the two ends of each log. To go down from a place below which there is nothing, Redis would look at all that is above.
func (l *Ledger) latestOfLogs(ctx context.Context, companies []string, before int64) ([]int64, error) {
	pipe := l.rdb.Pipeline()
	firsts, lasts := make([]*redis.XMessageSliceCmd, len(companies)), make([]*redis.XMessageSliceCmd, len(companies))
	for i, company := range companies {
		if before > 0 {
			firsts[i] = pipe.XRangeN(ctx, Key(company, "log"), "-", "+", 1)
		}
		lasts[i] = pipe.XRevRangeN(ctx, Key(company, "log"), "+", "-", 1)
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	all := make([]int64, len(companies))
	var below []int
	for i := range companies {
		switch all[i] = timeOfFirst(lasts[i]); {
		case before == 0 || all[i] < before:
		case timeOfFirst(firsts[i]) >= before:
			all[i] = 0
		default:
			below = append(below, i)
		}
	}
	if len(below) == 0 {
		return all, nil
	}
	pipe = l.rdb.Pipeline()
	for _, i := range below {
		lasts[i] = pipe.XRevRangeN(ctx, Key(companies[i], "log"), strconv.FormatInt(before-1, 10), "-", 1)
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	for _, i := range below {
		all[i] = timeOfFirst(lasts[i])
	}
	return all, nil
}

func timeOfFirst(entries *redis.XMessageSliceCmd) int64 {
	if found := entries.Val(); len(found) > 0 {
		return LogTime(found[0].ID).UnixMilli()
	}
	return 0
}

// Holders are those of companies that have an event of that id.
func (l *Ledger) Holders(ctx context.Context, companies []string, id string) (holders []string, err error) {
	for page := range slices.Chunk(companies, headsTogether) {
		pipe := l.rdb.Pipeline()
		there := make([]*redis.IntCmd, len(page))
		for i, company := range page {
			there[i] = pipe.Exists(ctx, EventKey(company, id))
		}
		if err := execute(ctx, pipe); err != nil {
			return nil, err
		}
		for i, company := range page {
			if there[i].Val() > 0 {
				holders = append(holders, company)
			}
		}
	}
	return holders, nil
}
