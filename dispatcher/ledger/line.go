package ledger

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// InLine is the token of a delivery that is held since another one of its callback and key is ahead of it.
const InLine = "line"

// orderField is the field of an event's hash that has a delivery's [Order].
func orderField(callback int64) string { return "o" + strconv.FormatInt(callback, 10) }

// readOrder reads what an event's hash holds of it.
func readOrder(text string) (Order, error) {
	number, key, _ := strings.Cut(text, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || key == "" {
		return Order{}, ErrBadRecord
	}
	return Order{n, key}, nil
}

// Head is the first of a line, and how it stands. ok is false if the line is empty by now.
func (l *Ledger) Head(ctx context.Context, company string, callback int64, key string) (head Ref, record Record, ok bool, err error) {
	first, err := l.rdb.ZRange(ctx, Key(company, "line:"+strconv.FormatInt(callback, 10)+":"+key), 0, 0).Result()
	if err != nil || len(first) == 0 {
		return Ref{}, Record{}, false, err
	}
	head, ok = ParseMember(company, first[0])
	if !ok {
		return Ref{}, Record{}, false, ErrBadRecord
	}
	text, err := l.rdb.HGet(ctx, EventKey(company, head.Event), RecordField(callback)).Result()
	if errors.Is(err, redis.Nil) {
		return Ref{}, Record{}, false, nil
	}
	if err == nil {
		record, err = ParseRecord(text)
	}
	return head, record, err == nil, err
}

// numbers reads callbacks and their deliveries' numbers, as callback:number, separated by commas.
func (a *answer) numbers() map[int64]int64 { return maps.Collect(a.byCallback()) }
