package registry

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"golang.org/x/sync/singleflight"

	"github.com/ringback/ringback/registry/steady"
)

// keepExpired is how long a worthless key is listed.
const keepExpired = 7 * 24 * time.Hour

// Keys are the API keys. Redis holds their SHA-256 digests: a key has 26 random bytes
// or more, so that nothing slower is needed. Safe for concurrent use.
type Keys struct {
	redis redis.UniversalClient
	clock *steady.Clock // see Follow

	asking singleflight.Group // see together
	again  renewal            // of what is known
	own    ownLimits
	opened openedLinks

	mu      sync.Mutex
	known   map[digest]cachedKey // keys that exist, not those that were guessed
	stored  map[string]bool      // the fields in Redis, see Stored
	updated time.Time            // when stored was asked for
	changes int                  // how often forget was called: an answer that was asked for before the last time is not kept
}

// cachedKey is an answer of Redis.
type cachedKey struct {
	key   Key
	err   error     // ErrExpired, ErrUnauthorized, or nil
	until time.Time // it is good
	last  time.Time // it is good until then while Redis does not answer
}

// NewKeys returns the API keys of the given Redis.
func NewKeys(rdb redis.UniversalClient) *Keys {
	return &Keys{redis: rdb, known: map[digest]cachedKey{}}
}

// Follow has the keys go by a process's clock, and returns them. A step of Redis's clock
// then neither ends a key early nor late. Without it, a key is judged by Redis's clock.
// Call it before use.
func (ks *Keys) Follow(clock *steady.Clock) *Keys {
	ks.clock = clock
	return ks
}

// Measure has these keys, and the sessions that are made of them, count what comes of portal links. Call it before use.
func (ks *Keys) Measure(provider metric.MeterProvider) (err error) {
	ks.opened, err = newOpenedLinks(provider)
	return err
}

// time is the installation's time (ms) for a script, empty if the process does not know it:
// then the script goes by Redis's clock.
func (ks *Keys) time(ctx context.Context) string {
	if ks.clock == nil {
		return ""
	}
	now, err := ks.clock.Now(ctx)
	if err != nil {
		return ""
	}
	return strconv.FormatInt(now.UnixMilli(), 10)
}

// Create makes a new API key. secret is the key itself, 32 random bytes behind
// "rbk_". It is not stored: this is the only time it is seen. An empty company
// means AllCompanies for an operator or viewer. A partner is of one company. A
// role or company that will not do gives an *payloads.InvalidError.
func (ks *Keys) Create(ctx context.Context, role Role, company string) (secret string, k Key, err error) {
	return ks.CreateBound(ctx, role, company, Terms{})
}

// CreateBound is Create for a key with terms. Processes of level 1 would ignore
// those: while one is alive, it returns an *OldProcessError.
func (ks *Keys) CreateBound(ctx context.Context, role Role, company string, terms Terms) (secret string, k Key, err error) {
	secret = keyPrefix + randomText()
	k = Key{ID: secret[:keyIDLen], Role: role, Company: company, RateLimit: terms.RateLimit}
	if err := terms.Check(); err != nil {
		return "", Key{}, err
	}
	if terms != (Terms{}) {
		at, err := ks.boundFrom(ctx, "a key that expires or has a rate limit")
		if err != nil {
			return "", Key{}, err
		}
		if terms.ExpiresIn > 0 {
			k.CreatedAt, k.ExpiresAt = at, at.Add(terms.ExpiresIn)
		}
	}
	if k, err = ks.put(ctx, secret, k); err != nil {
		return "", Key{}, err
	}
	return secret, k, nil
}

// boundFrom returns the installation's time, from which a key is bound, and forgets keys
// that have long expired. If a process does not know what a key may be bound to, it returns
// an *OldProcessError.
func (ks *Keys) boundFrom(ctx context.Context, what string) (time.Time, error) {
	seen, err := LookBy(ctx, ks.redis, ks.clock)
	if err != nil {
		return time.Time{}, err
	}
	if err := seen.know(what, announcedLevel); err != nil {
		return time.Time{}, err
	}
	at, err := timeBy(ctx, ks.redis, ks.clock)
	if err != nil {
		return time.Time{}, fmt.Errorf("registry: ask Redis for its time: %w", err)
	}
	at = at.UTC().Truncate(timeGrain)
	entries, err := ks.entries(ctx)
	if err != nil {
		return time.Time{}, err
	}
	var gone []string
	for field, k := range entries {
		if k.expired(at.Add(-keepExpired)) {
			gone = append(gone, field)
		}
	}
	if len(gone) > 0 {
		if err := ks.redis.HDel(ctx, keysKey, gone...).Err(); err != nil {
			return time.Time{}, fmt.Errorf("registry: forget expired API keys: %w", err)
		}
	}
	return at, nil
}

// Put stores a key of the caller's choice, such as the fixed one of a development
// server. An empty ID is derived from the key's digest. A zero CreatedAt is now.
func (ks *Keys) Put(ctx context.Context, secret string, k Key) error {
	if secret == "" || len(secret) > maxSecretLen {
		return invalid("key", fmt.Sprintf("must have 1 to %d bytes", maxSecretLen), nil)
	}
	_, err := ks.put(ctx, secret, k)
	return err
}

func (ks *Keys) put(ctx context.Context, secret string, k Key) (Key, error) {
	if k.Company == "" && (k.Role == Operator || k.Role == Viewer) {
		k.Company = AllCompanies
	}
	if err := checkKey(k); err != nil {
		return Key{}, err
	}
	d := digestOf(secret)
	if k.ID == "" {
		k.ID = keyPrefix + hex.EncodeToString(d[:4])
	}
	if k.CreatedAt.IsZero() {
		k.CreatedAt = now()
	}
	text, err := json.Marshal(k)
	if err != nil {
		return Key{}, fmt.Errorf("registry: store an API key: %w", err)
	}
	line := keyLine(ctx, "apikey.create", k, diff(nil, keyFields(k))...)
	_, err = ks.change(ctx, line, d.field(k.bound()), string(text))
	ks.forget()
	if err != nil {
		return Key{}, fmt.Errorf("registry: store an API key: %w", err)
	}
	return k, nil
}

// forget has every key asked for again, also by those whose answers are under way.
// It is called after each change of keys, whatever came of it: the change may have
// happened though its answer was lost.
func (ks *Keys) forget() {
	ks.mu.Lock()
	defer ks.mu.Unlock()
	ks.changes++
	clear(ks.known)
	ks.stored = nil
}

// List returns all keys, the oldest first. A key that was rotated is there once
// for each of its secrets, and one that has expired for another week.
func (ks *Keys) List(ctx context.Context) ([]Key, error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return nil, err
	}
	keys := make([]Key, 0, len(entries))
	for _, k := range entries {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if c := cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID)); c != 0 || a.Replaced == b.Replaced {
			return c
		}
		if a.Replaced { // of one key, the secret that was there before
			return -1
		}
		return 1
	})
	return keys, nil
}

// changeKeys sets fields to values, or removes those whose value is empty. If that
// changed any, it writes line ARGV[1] of the audit trail. It returns how many changed.
var changeKeys = redis.NewScript(AuditLua + `
local changed = 0
for i = 2, #ARGV, 2 do
	if ARGV[i + 1] == '' then
		changed = changed + redis.call('HDEL', KEYS[1], ARGV[i])
	elseif redis.call('HGET', KEYS[1], ARGV[i]) ~= ARGV[i + 1] then
		redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
		changed = changed + 1
	end
end
if changed > 0 then audit(KEYS[2], ARGV[1]) end
return changed`)

// change runs the script of that name.
func (ks *Keys) change(ctx context.Context, line string, fieldsAndValues ...any) (changed int64, err error) {
	return changeKeys.Run(ctx, ks.redis, []string{keysKey, auditKeysKey}, append([]any{line}, fieldsAndValues...)...).Int64()
}

// Revoke removes the key with the given ID, with all its secrets, or returns
// ErrNotFound. From then on this process does not accept it. Others may for a second.
func (ks *Keys) Revoke(ctx context.Context, id string) error {
	for try := range tries {
		left, err := ks.revoke(ctx, id)
		ks.forget()
		if err != nil {
			return err
		}
		if left == 0 && try == 0 {
			return ErrNotFound
		}
		if left == 0 {
			ks.forgetSessions(ctx, id)
			return nil
		}
	}
	return fmt.Errorf("registry: the API key %s keeps changing: try again", id)
}

// revoke removes the secrets that the key has now, and returns how many there were.
// A rotation may move them meanwhile: so the caller looks again.
func (ks *Keys) revoke(ctx context.Context, id string) (secrets int, err error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return 0, err
	}
	var gone []any
	var last Key
	for field, k := range entries {
		if k.ID == id {
			gone, last = append(gone, field, ""), k
		}
	}
	if len(gone) == 0 {
		return 0, nil
	}
	if _, err := ks.change(ctx, keyLine(ctx, "apikey.revoke", last), gone...); err != nil {
		return 0, fmt.Errorf("registry: revoke an API key: %w", err)
	}
	return len(gone) / 2, nil
}

// forgetSessions takes the sessions of keys that are gone out of Redis. They have ended already, for each asks for its key: so what fails here only
// leaves them there until they have had their time.
func (ks *Keys) forgetSessions(ctx context.Context, ids ...string) {
	for _, id := range ids { // each is in a slot of its own
		_ = ks.redis.Del(ctx, sessionsKey(id)).Err()
	}
}

// OfCompany counts the keys that are bound to a company.
func (ks *Keys) OfCompany(ctx context.Context, company string) (int64, error) {
	fields, _, err := ks.ofCompany(ctx, company, nil)
	return int64(len(fields)), err
}

// RevokeCompany removes the keys that are bound to a company and have one of the roles, and returns how many there were. From then on this
// process does not accept them. Others may for a second. The line of the audit trail is that of the company's erasure.
func (ks *Keys) RevokeCompany(ctx context.Context, company string, roles ...Role) (int64, error) {
	defer ks.forget()
	fields, ids, err := ks.ofCompany(ctx, company, roles)
	if err != nil || len(fields) == 0 {
		return 0, err
	}
	removed, err := ks.redis.HDel(ctx, keysKey, fields...).Result()
	if err != nil {
		return 0, fmt.Errorf("registry: revoke the API keys of company %s: %w", company, err)
	}
	ks.forgetSessions(ctx, ids...)
	return removed, nil
}

// ofCompany are the fields and ids of a company's keys, with one of the roles if any are named.
func (ks *Keys) ofCompany(ctx context.Context, company string, roles []Role) (fields, ids []string, err error) {
	entries, err := ks.entries(ctx)
	if err != nil {
		return nil, nil, err
	}
	for field, k := range entries {
		if k.Company == company && (len(roles) == 0 || slices.Contains(roles, k.Role)) {
			fields, ids = append(fields, field), append(ids, k.ID)
		}
	}
	return fields, ids, nil
}

// entries are the stored keys by the field they are stored under.
func (ks *Keys) entries(ctx context.Context) (map[string]Key, error) {
	stored, err := ks.texts(ctx)
	if err != nil {
		return nil, err
	}
	entries := make(map[string]Key, len(stored))
	for field, text := range stored {
		var k Key
		if err := json.Unmarshal([]byte(text), &k); err != nil {
			return nil, errUnreadableKey(err)
		}
		entries[field] = k
	}
	return entries, nil
}

// texts are the stored keys as they are stored.
func (ks *Keys) texts(ctx context.Context) (map[string]string, error) {
	stored, err := ks.redis.HGetAll(ctx, keysKey).Result()
	if err != nil {
		return nil, fmt.Errorf("registry: list the API keys: %w", err)
	}
	return stored, nil
}
