package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/ringback/ringback/dispatcher/lua"
	"github.com/ringback/ringback/registry"
)

var expiresScript = lua.Script("expires")

// ToldExpiry returns the step, in days before its end, that was told of last of a callback's client certificate, or of the company's if callback is 0. ok is false
// if none was.
func (l *Ledger) ToldExpiry(ctx context.Context, company string, callback int64, fingerprint string) (days int, ok bool, err error) {
	key := registry.HealthKey(company, callback)
	if callback == 0 {
		key = Key(company, "tls")
	}
	text, err := l.rdb.HGet(ctx, key, "xc").Result()
	if errors.Is(err, redis.Nil) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("ledger: read what was told of a client certificate: %w", err)
	}
	of, told, _ := strings.Cut(text, " ")
	if days, err = strconv.Atoi(told); err != nil || of != fingerprint {
		return 0, false, nil //nolint:nilerr // it is told of once more
	}
	return days, true, nil
}

// NoteExpiry notes that a step was told of.
func (l *Ledger) NoteExpiry(ctx context.Context, company string, callback int64, fingerprint string, days int) error {
	if err := l.run(ctx, expiresScript, company, callback, fingerprint, days).Err(); err != nil {
		return fmt.Errorf("ledger: note what was told of a client certificate: %w", err)
	}
	return nil
}
