package dispatcher

import (
	"cmp"
	"container/heap"
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ringback/ringback/dispatcher/ledger"
	"github.com/ringback/ringback/registry"
)

// A list over all companies merges theirs. Its order is by the millisecond of acceptance, newest first, then by company, then as the company's own list has
// it. A company is asked only once its newest entry might be the next: so fifty entries are read of fifty companies at most, unless a filter leaves out what
// is newer. All of it takes a second at most: then the list says how far it came, and goes on from there.

// everywhereAtOnce is how many companies are asked at the same time.
const everywhereAtOnce = 8

// firstOfEach is how many entries a company is asked for at first.
const firstOfEach = 8

// everyPlace is a place in that order: that of an entry, or how far a search came.
type everyPlace struct {
	at      int64  // ms
	company string // those before it have nothing at that millisecond any more
	inner   string // the cursor in its own list; empty: it has not begun
}

func (p everyPlace) cursor() string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.at, 10) + "/" + p.company + "/" + p.inner))
}

func parseEveryPlace(cursor string) (p everyPlace, err error) {
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(text) > 1024 {
		return p, ErrBadCursor
	}
	words := strings.SplitN(string(text), "/", 3)
	if len(words) != 3 {
		return p, ErrBadCursor
	}
	at, err := strconv.ParseInt(words[0], 10, idBits)
	if err != nil || at < 0 {
		return p, ErrBadCursor
	}
	return everyPlace{at, words[1], words[2]}, nil
}

// ReachedEverywhere is [Reached] of a list over all companies.
func ReachedEverywhere(cursor string) time.Time {
	p, _ := parseEveryPlace(cursor)
	return ledger.FromMS(p.at)
}

// A strand is a company's part of the list.
type strand[T any] struct {
	company string
	bound   int64 // ms: nothing of it that is left is newer
	cursor  string
	items   []T // that were read and not given out
	done    bool
	asked   int // for so many, the last time
}

// A braid is what is merged.
type braid[T any] struct {
	strands []*strand[T] // a heap: the one with the newest is first
	fetch   func(ctx context.Context, s *strand[T], limit int) (items []T, next string, err error)
	of      func(T) (at int64, inner string)
}

func (b *braid[T]) at(s *strand[T]) int64 {
	if len(s.items) > 0 {
		at, _ := b.of(s.items[0])
		return at
	}
	return s.bound
}

// Len, Less, Swap, Push and Pop are a heap's.
func (b *braid[T]) Len() int { return len(b.strands) }

func (b *braid[T]) Less(i, j int) bool {
	x, y := b.strands[i], b.strands[j]
	return cmp.Or(cmp.Compare(b.at(y), b.at(x)), strings.Compare(x.company, y.company)) < 0
}

func (b *braid[T]) Swap(i, j int) { b.strands[i], b.strands[j] = b.strands[j], b.strands[i] }
func (b *braid[T]) Push(v any)    { b.strands = append(b.strands, v.(*strand[T])) } //nolint:forcetypeassert // it holds nothing else
func (b *braid[T]) Pop() any {
	last := b.strands[len(b.strands)-1]
	b.strands = b.strands[:len(b.strands)-1]
	return last
}

// merge gives out so many of the newest, and the cursor of what follows.
func (b *braid[T]) merge(ctx context.Context, g *guard, limit int, until time.Time) (found []T, next string, err error) {
	found = []T{}
	heap.Init(b)
	for b.Len() > 0 {
		top := b.strands[0]
		switch {
		case len(top.items) > 0 && len(found) == limit:
			return found, next, nil
		case len(top.items) > 0:
			at, inner := b.of(top.items[0])
			next = everyPlace{at, top.company, inner}.cursor()
			found = append(found, top.items[0])
			top.items = top.items[1:]
			heap.Fix(b, 0)
		case top.done:
			heap.Pop(b)
		case time.Now().After(until):
			return found, everyPlace{top.bound, top.company, top.cursor}.cursor(), nil
		default:
			if err := b.ask(ctx, g, limit); err != nil {
				return nil, "", err
			}
		}
	}
	return found, "", nil
}

// ask asks the first companies of which nothing is read, as long as no other has what is newer.
func (b *braid[T]) ask(ctx context.Context, g *guard, limit int) error {
	var some []*strand[T]
	for b.Len() > 0 && len(some) < everywhereAtOnce && len(b.strands[0].items) == 0 && !b.strands[0].done {
		some = append(some, heap.Pop(b).(*strand[T])) //nolint:forcetypeassert // it holds nothing else
	}
	errs := make([]error, len(some))
	var wg sync.WaitGroup
	for i, s := range some {
		wg.Go(func() { errs[i] = g.contain(ctx, PlaceHTTP, func() error { return b.advance(ctx, s, limit) }) })
	}
	wg.Wait()
	for _, s := range some {
		heap.Push(b, s)
	}
	return errors.Join(errs...)
}

// advance reads more of a company.
func (b *braid[T]) advance(ctx context.Context, s *strand[T], limit int) error {
	s.asked = min(limit+1, max(firstOfEach, 4*s.asked))
	items, next, err := b.fetch(ctx, s, s.asked)
	if err != nil {
		return err
	}
	s.items, s.cursor, s.done = items, next, next == ""
	if !s.done {
		s.bound = min(s.bound, Reached(next).UnixMilli())
	}
	return nil
}

// strandsOf are the companies' parts from a place on, of what was accepted before a time.
func strandsOf[T any](ctx context.Context, c *Client, companies []string, book string, until time.Time, cursor string) ([]*strand[T], error) {
	before := int64(0)
	if !until.IsZero() {
		before = max(1, until.Add(time.Millisecond-1).UnixMilli())
	}
	from, begun := everyPlace{}, cursor != ""
	if begun {
		var err error
		if from, err = parseEveryPlace(cursor); err != nil {
			return nil, err
		}
		if before == 0 || from.at+1 < before {
			before = from.at + 1
		}
	}
	latest, err := c.ledger.Latest(ctx, companies, book, before)
	if err != nil {
		return nil, unavailable(ctx, c, "looking for the newest of all companies", err)
	}
	var all []*strand[T]
	for i, company := range companies {
		s := &strand[T]{company: company, bound: latest[i]}
		switch {
		case latest[i] == 0:
			continue
		case begun && company == from.company:
			s.cursor, s.bound = from.inner, from.at
		case begun && company < from.company && s.bound == from.at:
			s.bound-- // what it had in that millisecond was given out: what it has left is older
		}
		all = append(all, s)
	}
	return all, nil
}

// before is the time before which a company's list goes on that has not begun.
func (s *strand[T]) before(until time.Time) time.Time {
	if at := time.UnixMilli(s.bound + 1); until.IsZero() || at.Before(until) {
		return at
	}
	return until
}

// EveryDelivery is [Client.Deliveries] over all companies. Each delivery names its company. Errors: [ErrBadCursor], [ErrUnavailable].
func (v *Overviews) EveryDelivery(ctx context.Context, q Query) ([]*Delivery, string, error) {
	until := time.Now().Add(listFor)
	book := ""
	companies, err := v.Names(ctx)
	switch {
	case err != nil:
		return nil, "", err
	case q.Decisions:
		book = ledger.BookOfDecisions
	case len(q.States) == 1 && q.States[0] == ledger.Dead:
		book = ledger.BookOfDead
	case q.unfinished() && !q.wants(ledger.Dead): // what is unfinished is work
		if companies, err = registry.Lookout(ctx, v.client.rdb); err != nil {
			return nil, "", unavailable(ctx, v.client, "listing the companies with work", err)
		}
		slices.Sort(companies)
	}
	strands, err := strandsOf[*Delivery](ctx, v.client, companies, book, q.Until, q.Cursor)
	if err != nil {
		return nil, "", err
	}
	b := &braid[*Delivery]{
		strands: strands,
		of:      func(d *Delivery) (int64, string) { return d.AcceptedAt.UnixMilli(), d.place },
		fetch: func(ctx context.Context, s *strand[*Delivery], limit int) ([]*Delivery, string, error) {
			own := q
			own.Limit, own.Cursor, own.Until = limit, s.cursor, s.before(q.Until)
			found, next, err := v.client.list(ctx, s.company, own, until)
			for _, d := range found {
				d.Company = s.company
			}
			return found, next, err
		},
	}
	return b.merge(ctx, &v.client.guard, min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit), until)
}

// EveryEvent is [Client.Events] over all companies. Each event names its company. Errors: [ErrBadCursor], [ErrUnavailable].
func (v *Overviews) EveryEvent(ctx context.Context, q EventsQuery) ([]*EventItem, string, error) {
	until := time.Now().Add(listFor)
	companies, err := v.Names(ctx)
	if err != nil {
		return nil, "", err
	}
	if companies, err = v.holders(ctx, companies, q); err != nil {
		return nil, "", err
	}
	strands, err := strandsOf[*EventItem](ctx, v.client, companies, "", q.Until, q.Cursor)
	if err != nil {
		return nil, "", err
	}
	b := &braid[*EventItem]{
		strands: strands,
		of:      func(e *EventItem) (int64, string) { return e.AcceptedAt.UnixMilli(), e.place },
		fetch: func(ctx context.Context, s *strand[*EventItem], limit int) ([]*EventItem, string, error) {
			own := q
			own.Limit, own.Cursor, own.Until = limit, s.cursor, s.before(q.Until)
			found, next, err := v.client.find(ctx, s.company, own, until)
			for _, e := range found {
				e.Company = s.company
			}
			return found, next, err
		},
	}
	return b.merge(ctx, &v.client.guard, min(max(defaulted(q.Limit, DefaultLimit), 1), MaxLimit), until)
}

// holders are the companies that may have what is asked for by id.
func (v *Overviews) holders(ctx context.Context, companies []string, q EventsQuery) ([]string, error) {
	if q.WebhookID != "" {
		companies = slices.DeleteFunc(slices.Clone(companies), func(name string) bool { _, its := ledger.ParseDeliveryID(name, q.WebhookID); return !its })
	}
	id, exact, some := q.id("")
	if q.WebhookID != "" || !some || !exact {
		return companies, nil
	}
	holders, err := v.client.ledger.Holders(ctx, companies, id)
	if err != nil {
		return nil, unavailable(ctx, v.client, "looking for the event", err)
	}
	return holders, nil
}
