package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// swap replaces the field ARGV[1], if it still is ARGV[2], by the fields and values
// that follow line ARGV[3] of the audit trail. It removes those without a value. No
// two secrets are the same: if the new one is there, an earlier run's answer was lost.
var swap = redis.NewScript(AuditLua + `
if redis.call('HGET', KEYS[1], ARGV[4]) == ARGV[5] then return 1 end
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
for i = 4, #ARGV, 2 do
	if ARGV[i + 1] == '' then
		redis.call('HDEL', KEYS[1], ARGV[i])
	else
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
	end
end
audit(KEYS[2], ARGV[3])
return 1`)

// Rotate makes a new secret for the key with the given ID, which begins as the one
// before. That one works until overlap has passed, from 0 to MaxOverlap. If the key
// expires, the new secret lives as long as the last one did from the start.
//
// Errors: ErrNotFound. An *OldProcessError, for processes of level 1 would let the
// old secret live. A *TwoSecretsError, if overlap is not 0: 0 ends all other secrets.
func (ks *Keys) Rotate(ctx context.Context, id string, overlap time.Duration) (secret string, k Key, err error) {
	if overlap < 0 || overlap > MaxOverlap {
		return "", Key{}, invalid("overlap", fmt.Sprintf("must be from 0 to %s", MaxOverlap), nil)
	}
	at, err := ks.boundFrom(ctx, "rotating a key")
	if err != nil {
		return "", Key{}, err
	}
	secret = id + randomText()[8:] // 26 random bytes
	for range tries {
		k, done, err := ks.rotate(ctx, id, secret, at, overlap)
		ks.forget()
		if err != nil {
			return "", Key{}, err
		}
		if done {
			return secret, k, nil
		}
	}
	return "", Key{}, fmt.Errorf("registry: the API key %s keeps changing: try again", id)
}

// rotate is one try. If the key was changed meanwhile, it is not done.
func (ks *Keys) rotate(ctx context.Context, id, secret string, at time.Time, overlap time.Duration) (next Key, done bool, err error) {
	stored, err := ks.texts(ctx)
	if err != nil {
		return Key{}, false, err
	}
	var field string // of the secret to replace
	var last Key
	var replaced []string
	for f, text := range stored {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return Key{}, false, errUnreadableKey(err)
		}
		switch {
		case k.ID != id:
		case !k.Replaced:
			field, last = f, k
		case overlap > 0 && !k.expired(at):
			return Key{}, false, &TwoSecretsError{ID: id, Until: k.ExpiresAt}
		default:
			replaced = append(replaced, f)
		}
	}
	if field == "" {
		return Key{}, false, ErrNotFound
	}
	next = Key{ID: id, Role: last.Role, Company: last.Company, RateLimit: last.RateLimit, CreatedAt: at}
	if !last.ExpiresAt.IsZero() {
		next.ExpiresAt = at.Add(last.ExpiresAt.Sub(last.CreatedAt))
	}
	line := keyLine(ctx, "apikey.rotate", last, AuditChange{"secret", Masked, Masked}, AuditChange{Field: "overlap", New: formatDuration(overlap)})
	args := []any{field, stored[field], line}
	add := func(field string, k Key) error {
		text, err := json.Marshal(k)
		args = append(args, field, text)
		return err
	}
	if err := add(digestOf(secret).field(next.bound()), next); err != nil {
		return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
	}
	if overlap > 0 {
		last.Replaced = true
		if end := at.Add(overlap); last.ExpiresAt.IsZero() || end.Before(last.ExpiresAt) {
			last.ExpiresAt = end
		}
		if err := add(boundPrefix+strings.TrimPrefix(field, boundPrefix), last); err != nil {
			return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
		}
	}
	for _, field := range replaced {
		args = append(args, field, "")
	}
	swapped, err := swap.Run(ctx, ks.redis, []string{keysKey, auditKeysKey}, args...).Int()
	if err != nil {
		return Key{}, false, fmt.Errorf("registry: rotate an API key: %w", err)
	}
	return next, swapped == 1, nil
}

// A TwoSecretsError says that a key has two live secrets already.
type TwoSecretsError struct {
	ID    string
	Until time.Time // when the older one ends
}

func (e *TwoSecretsError) Error() string {
	return fmt.Sprintf("the key %s has two live secrets: the older one ends at %s, and an overlap of 0 ends it, and the other, at once", e.ID, e.Until.UTC().Format(time.RFC3339))
}
